"""What `tools/compare-goodput` measures with: aimed losses, wide links, the four pairs."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.device.frames import tcp_frame
from tools.comparison import cells, episodes
from tools.comparison.cells import Cell, Row
from tools.comparison.links import Aimed, Wide
from tools.comparison.transfers import PAIRS, Pair, Transfer, World, run, world
from ustack.device.faults import Faults, LinkConfig

MSS = 1000


def segment(number: int) -> bytes:
    return tcp_frame(b"x" * MSS, seq=(0xFFFF_F000 + (number - 1) * MSS) & 0xFFFF_FFFF)


def test_the_chosen_copies_of_the_chosen_segments_are_lost() -> None:
    link = Aimed(Faults(LinkConfig(), random.Random(1)), {2: 2})
    for at, frame in enumerate([segment(1), segment(2), segment(3), segment(2), segment(2)]):
        link.accept(frame, at)
    assert [frame[-MSS - 16 : -MSS - 12] for frame in link.due(10, 10)] == [
        segment(number)[-MSS - 16 : -MSS - 12] for number in (1, 3, 2)
    ]
    assert [(one.at, one.copy) for one in link.passages if one.dropped] == [(1, 1), (3, 2)]


def test_a_super_segment_is_counted_by_the_segments_in_it() -> None:
    link = Aimed(Faults(LinkConfig(), random.Random(1)), {3: 1})
    link.accept(tcp_frame(b"x" * 5 * MSS, gso_size=MSS), 0)
    assert [one.number for one in link.passages if not one.dropped] == [1, 2, 4, 5]
    assert len(link.due(0, 10)) == 4


def test_a_segment_without_text_is_not_aimed_at() -> None:
    link = Aimed(Faults(LinkConfig(), random.Random(1)), {1: 1})
    link.accept(tcp_frame(), 0)
    assert len(link.due(0, 10)) == 1


def test_a_wide_link_has_delay_rate_and_a_queue() -> None:
    link = Wide(rate_bps=8_000_000, delay_us=50_000, queue=2_000)  # one byte per µs
    frames = [bytes(1000) for _ in range(5)]
    for frame in frames:
        link.accept(frame, 0)
    assert link.dropped == 2  # one under way, two in the queue
    assert link.next_deadline() == 51_000
    assert len(link.due(52_000, 10)) == 2
    assert len(link.due(53_000, 10)) == 1
    assert link.next_deadline() is None


def test_the_ratio_is_that_of_the_medians() -> None:
    row = Row(Cell(0.0, 20))
    for goodputs, values in zip(
        row.goodputs.values(), ([1, 2, 9], [4], [5], [4, 4, 7]), strict=True
    ):
        goodputs += [float(value) for value in values]
    assert [row.ratio(pair) for pair in PAIRS] == [0.5, 1.0, 1.25, 1.0]


@pytest.mark.parametrize(
    "loss, aim, at_once", [(0.0, 0.95, 1), (0.05, 0.95, 4), (0.1, 0.8, 6), (0.2, 0.8, 9)]
)
def test_the_aim_and_the_load_of_a_cell(loss: float, aim: float, at_once: int) -> None:
    cell = Cell(loss, 40)
    assert cell.aim == aim
    assert cell.at_once == at_once


def test_the_grid_has_every_dimension() -> None:
    grid = list(cells.grid())
    assert {cell.loss for cell in grid} == set(cells.LOSSES)
    assert len({(cell.buffer, cell.reorder) for cell in grid}) >= 4
    assert len(set(grid)) == len(grid)


class StandInWorld:
    """Every sender gets the rate its kind has, in Mbit/s; the machine stands still in `stalls`."""

    def __init__(self, stalls: int = 0) -> None:
        self.bridge = self
        self.late: list[int] = []
        self.began: list[str] = []
        self._stalls = 2 * stalls

    async def transfer(self, pair: Pair, links: object, *, seconds: float) -> Transfer:
        self.began.append(pair[0])
        self._stalls -= 1
        self.late.append(100 if self._stalls < 0 else episodes.FAIR_STALL_US)
        rate = {"ustack": 3, "kernel": 5}[pair[0]]
        return Transfer(None, began_at=0, ended_at=8_000_000, received=rate * 1_000_000)


def test_senders_take_turns_in_who_begins() -> None:
    stand_in = StandInWorld()
    found = asyncio.run(episodes.fairness(stand_in, 8.0, 2))  # type: ignore[arg-type]
    assert found["ustack>kernel with kernel>kernel"] == [(3.0, 5.0), (3.0, 5.0)]
    assert stand_in.began[:4] == ["ustack", "kernel", "kernel", "ustack"]


def test_a_contest_in_which_the_machine_stood_still_is_measured_again() -> None:
    stand_in = StandInWorld(stalls=1)
    asyncio.run(episodes.fairness(stand_in, 8.0, 1))  # type: ignore[arg-type]
    assert len(stand_in.began) == 2 * (1 + len(episodes.FAIR_CONTESTS))


@pytest.mark.root
def test_all_four_pairs_bring_their_bytes_over_a_lossy_link() -> None:
    async def measure() -> tuple[Row, World]:
        async with world("reno", "reno") as world_:
            return await cells.measure(world_, Cell(0.01, 40), seconds=0.8, seeds=1), world_

    row, world_ = run(measure)
    for pair in PAIRS:
        assert 300_000 < row.value(pair) < cells.RATE_BPS
    assert world_.bridge.late  # frames went through the links


@pytest.mark.root
def test_a_transfer_of_a_given_size_ends_with_its_last_byte() -> None:
    async def measure() -> list[tuple[bool, int, int]]:
        found = []
        async with world("reno", "reno") as world_:
            for pair in PAIRS:
                there, back = cells.links(LinkConfig(delay_us=1000), 1)
                one = await world_.transfer(pair, (there, back), size=100_000, seconds=5)
                found.append((one.complete, one.received, one.ended_at - one.began_at))
        return found

    for complete, received, took_us in run(measure):
        assert complete
        assert received == 100_000
        assert took_us >= 3_000  # the handshake, and half a round trip


def test_the_command_is_there() -> None:
    script = Path(__file__).parents[2] / "tools" / "compare-goodput"
    assert script.stat().st_mode & 0o111
