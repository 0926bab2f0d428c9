"""Random scenarios, and that the same seed gives the same packets."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tools.simulation import controllers
from tools.simulation.campaign import Report, run_seed
from tools.simulation.extras import random_scenario
from tools.simulation.goodput import SNAPSHOT, table
from tools.simulation.world import World
from ustack.tcp.segment_arrives import predicted
from ustack.wire.tcp import FIN

SEEDS = range(100_000, 100_040)
TWICE = (100_003, 100_017)
PREDICTED = (100_101, 100_103, 100_112, 100_113)


@pytest.mark.parametrize("first", SEEDS[::20])
def test_random_scenarios_break_no_rule(first: int) -> None:
    report = Report()
    reasons = {seed: run_seed(seed, report) for seed in range(first, first + 20)}
    assert {seed: reason for seed, reason in reasons.items() if reason} == {}
    assert report.outcomes["orderly"] > 0


@pytest.mark.parametrize("seed", TWICE)
def test_the_same_seed_gives_the_same_captures_byte_by_byte(seed: int, tmp_path: Path) -> None:
    captures = []
    for attempt in ("first", "second"):
        folder = tmp_path / attempt
        folder.mkdir()
        World(random_scenario(seed), folder).run()
        captures.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert set(captures[0]) == {"client.pcapng", "server.pcapng"}
    assert captures[0] == captures[1]


@pytest.mark.parametrize("seed", PREDICTED)
def test_header_prediction_changes_no_packet(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = Counter[bool]()
    fins = Counter[bool]()

    def counting(*segment: Any) -> bool:
        taken = predicted(*segment)
        used[taken] += 1
        fins[taken] += segment[6] & FIN
        return taken

    def never(*_segment: Any) -> bool:
        return False

    captures = []
    for prediction in (counting, never):
        monkeypatch.setattr("ustack.stack.stack.predicted", prediction)
        folder = tmp_path / prediction.__name__
        folder.mkdir()
        World(random_scenario(seed), folder).run()
        captures.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert used[True] > 0
    assert fins[True] > 0
    assert captures[0] == captures[1]


def test_goodput_is_as_it_was() -> None:
    """A difference is to be reviewed: `tools/sim --goodput` writes the table anew."""
    assert table() == SNAPSHOT.read_text()


def test_the_controllers_do_what_their_table_says() -> None:
    """`tools/sim --controllers` writes it anew."""
    lines = controllers.TABLE.read_text().splitlines()
    assert controllers.row(0.05, 1) in lines
    assert controllers.megabyte_row(5) in lines
