"""A short run of the fuzzers with fixed seeds, what they found before, and that they can find."""

from pathlib import Path

import pytest

from tools.fuzzing.campaign import PAIRS, Finding, keep, run_seed
from tools.fuzzing.subject import Subject, fails
from tools.fuzzing.trace import Setup, Step, Trace, reduce

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.trace"))


@pytest.mark.parametrize("first", range(1, 81, 10))
def test_random_segments_in_every_state_break_no_rule(first: int) -> None:
    for seed in range(first, first + 10):
        if seed % PAIRS:
            assert not run_seed(seed).findings


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_two_stacks_survive_a_third_party(first: int) -> None:
    for seed in range(first, first + 10):
        assert not run_seed(PAIRS * seed).findings


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_what_was_found_once_passes(path: Path) -> None:
    assert fails(Trace.load(path)) == ""


def test_two_that_only_ask_whether_the_other_lives_are_at_rest() -> None:
    """A lie acknowledged a FIN that never came: one end waits for more, the other for an answer."""
    assert not run_seed(923_208).findings


def test_the_same_seed_does_the_same() -> None:
    once, again = run_seed(3), run_seed(3)
    assert once == again and once.packets > 20


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    steps = [Step(5, "listen", 0, 8), Step(6, "packet", frame=b"\0\xff"), Step(6, "turn")]
    trace = Trace(Setup(6, "offload", 5), steps)
    trace.save(tmp_path / "one.trace", "a reason\nof two lines")
    assert Trace.load(tmp_path / "one.trace") == trace


def test_a_line_that_is_no_step_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.trace"
    path.write_text("setup 4 plain 0\n5 packet nothex\n")
    with pytest.raises(ValueError, match=r"bad\.trace:2: not a step"):
        Trace.load(path)


def test_reducing_leaves_the_steps_that_matter() -> None:
    steps = [Step(at, "turn") for at in range(50)]
    short = reduce(Trace(Setup(), steps), lambda trace: {7, 31} <= {s.at for s in trace.steps})
    assert [step.at for step in short.steps] == [7, 31]


def test_a_finding_is_kept_once_and_short(tmp_path: Path) -> None:
    steps = [Step(0, "turn"), Step(0, "no-such-call"), Step(0, "turn")]
    subject = Subject(Setup())
    subject.do(Step(0, "connect", 0, 50_000))
    trace = Trace(Setup(), [*subject.steps, *steps])
    found = Finding(1, fails(trace), "here", trace)
    path = keep(found, tmp_path)
    assert path is not None and keep(found, tmp_path) is None
    assert [step.what for step in Trace.load(path).steps] == ["connect", "no-such-call"]
