"""Runs by seed: what a seed means, what it found, and how a finding is kept."""

import re
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tools.fuzzing.generator import Generator
from tools.fuzzing.pair import Pair
from tools.fuzzing.subject import Subject, fails
from tools.fuzzing.trace import Setup, Trace, reduce
from tools.fuzzing.variants import VARIANTS

STEPS = 60  # of a run against one stack, each of one or a few packets
PAIRS = 8  # every eighth seed is a conversation of two stacks


@dataclass(frozen=True, slots=True)
class Finding:
    """A seed that broke a rule, or the stack."""

    seed: int
    reason: str
    where: str  # the innermost line, to tell findings apart
    trace: Trace | None  # None: two stacks; their run is known by its seed

    @property
    def name(self) -> str:
        """The same for findings that are alike: no numbers, no addresses."""
        words = re.findall(r"[A-Za-z]{2,}", self.reason.partition(":")[2][:60])
        return "-".join(words[:8]).lower() or "without-a-word"


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    runs: int = 0
    packets: int = 0
    answers: int = 0
    states: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """Put both together."""
        self.runs += other.runs
        self.packets += other.packets
        self.answers += other.answers
        self.states += other.states
        self.findings += other.findings


def new_subject(random: Random) -> Subject:
    """A stack of any variant, at any hour."""
    setup = Setup(random.choice((4, 6)), random.choice(sorted(VARIANTS)), random.randrange(1 << 40))
    return Subject(setup)


def run_seed(seed: int, steps: int = STEPS) -> Tally:
    """One run; everything in it follows from `seed`."""
    random = Random(seed)
    tally = Tally(runs=1)
    if seed % PAIRS == 0:
        pair = Pair(random, lies=random.random() < 0.5)
        try:
            pair.run()
        except Exception as error:  # noqa: BLE001 - whatever comes out of the stack is a finding
            tally.findings.append(finding(seed, error, None))
        tally.packets = pair.packets
        return tally
    subject = new_subject(random)
    try:
        Generator(random, subject).run(steps)
    except Exception as error:  # noqa: BLE001 - as above
        tally.findings.append(finding(seed, error, Trace(subject.setup, subject.steps)))
    tally.packets, tally.answers = subject.packets_in, subject.packets_out
    tally.states = subject.aimed
    return tally


def run_seeds(seeds: range) -> Tally:
    """All of `seeds`."""
    total = Tally()
    for seed in seeds:
        total.add(run_seed(seed))
    return total


def finding(seed: int, error: Exception, trace: Trace | None) -> Finding:
    """Describe `error`."""
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if "fuzzing/subject" not in frame.filename][-1]
    where = f"{Path(last.filename).name}:{last.lineno} {last.name}"
    return Finding(seed, f"{type(error).__name__}: {error}", where, trace)


def keep(found: Finding, directory: Path) -> Path | None:
    """Write the trace of `found`, made as short as possible, into `directory`.

    One of a name is enough: None if there is one already, or if it has no trace.
    """
    path = directory / f"{found.name}.trace"
    if found.trace is None or path.exists():
        return None
    head = found.reason[:40]
    short = reduce(found.trace, lambda trace: fails(trace).startswith(head))
    directory.mkdir(parents=True, exist_ok=True)
    short.save(path, f"{found.reason[:300]}\nseed {found.seed}, {found.where}")
    return path
