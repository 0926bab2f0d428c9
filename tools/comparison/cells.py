"""Goodput over loss x round trip x buffer x reordering, for each of the four pairs."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import median

from tools.comparison.transfers import KERNEL_PAIR, PAIRS, Pair, World, together
from ustack.device.faults import Faults, LinkConfig

RATE_BPS = 8_000_000  # of one transfer: what four can have in Python without being late
TOTAL_BPS = 4 * RATE_BPS  # of all that run at once
MOST_AT_ONCE = 16  # seeds
MSS = 1448
PACKET_BITS = 1500 * 8
AIM_LOSS = 0.05  # up to here AIM, above AIM_HEAVY
AIM, AIM_HEAVY = 0.95, 0.8  # of the goodput between two kernels
SECONDS = 4.0
LATE_SHARE = 4  # a batch whose arrivals were later than RTT / 4 is measured again ...
LATE_TRIES = 3  # ... so often; then the row is marked


@dataclass(slots=True, frozen=True)
class Cell:
    """One kind of link. Loss and reordering hit both directions."""

    loss: float
    round_trip_ms: int
    buffer: float = 1.0  # of the bandwidth-delay product, in the queue before the bottleneck
    reorder: float = 0.0

    @property
    def link(self) -> LinkConfig:
        product = RATE_BPS * self.round_trip_ms / 1000 / PACKET_BITS
        return LinkConfig(
            delay_us=self.round_trip_ms * 500,
            loss=self.loss,
            reorder=self.reorder,
            rate_bps=RATE_BPS,
            queue=max(round(product * self.buffer), 5),
        )

    @property
    def seeds(self) -> int:
        """The more chance there is, the more runs the median is taken of."""
        return 24 if self.loss or self.reorder else 3  # with 8 it still moved by a tenth

    @property
    def at_once(self) -> int:
        """How many seeds fit into TOTAL_BPS, by the formula of Mathis et al. for loss-bound TCP."""
        expected = float(RATE_BPS)
        if self.loss:
            bound = 1.3 * MSS * 8e3 / self.round_trip_ms / sqrt(self.loss)
            expected = min(expected, bound)
        return max(1, min(MOST_AT_ONCE, int(TOTAL_BPS / expected / len(PAIRS))))

    @property
    def late_limit_us(self) -> int:
        """Arrivals that are later than this are another path."""
        return self.round_trip_ms * 1000 // LATE_SHARE

    @property
    def aim(self) -> float:
        return AIM if self.loss <= AIM_LOSS else AIM_HEAVY


LOSSES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
ROUND_TRIPS_MS = (40, 100)


def grid() -> Iterator[Cell]:
    """Loss x round trip; then small and large buffers, then reordering, with and without loss."""
    for round_trip in ROUND_TRIPS_MS:
        for loss in LOSSES:
            yield Cell(loss, round_trip)
    for round_trip in ROUND_TRIPS_MS:
        for buffer in (0.25, 4.0):
            for loss in (0.0, 0.01):
                yield Cell(loss, round_trip, buffer)
    for round_trip in ROUND_TRIPS_MS:
        for loss in (0.0, 0.01, 0.05):
            yield Cell(loss, round_trip, reorder=0.01)


@dataclass(slots=True)
class Row:
    """The runs of one cell: goodput in bit/s, by pair and seed."""

    cell: Cell
    goodputs: dict[Pair, list[float]] = field(default_factory=lambda: {pair: [] for pair in PAIRS})
    late_us: int = 0  # by how much the worst hundredth of all arrivals came late

    def value(self, pair: Pair) -> float:
        return median(self.goodputs[pair])

    def ratio(self, pair: Pair) -> float:
        """To the pair of kernels in the same minutes."""
        return self.value(pair) / max(self.value(KERNEL_PAIR), 1.0)


async def measure(world: World, cell: Cell, seconds: float, seeds: int | None) -> Row:
    """All pairs and as many seeds as can be run at once; then the next ones."""
    row = Row(cell)
    wanted = list(range(1, (seeds or cell.seeds) + 1))
    tries = 1
    while wanted:
        batch, rest = wanted[: cell.at_once], wanted[cell.at_once :]
        world.bridge.late.clear()
        runs = await together(
            *(
                world.transfer(pair, links(cell.link, seed), seconds=seconds)
                for seed in batch
                for pair in PAIRS
            )
        )
        late = _worst_hundredth(world.bridge.late)
        if late > cell.late_limit_us and tries < LATE_TRIES:
            tries += 1
            continue
        wanted, tries = rest, 1
        row.late_us = max(row.late_us, late)
        for index, run in enumerate(runs):
            row.goodputs[PAIRS[index % len(PAIRS)]].append(run.goodput_bps)
    return row


def links(config: LinkConfig, seed: int) -> tuple[Faults, Faults]:
    """There and back; the same draws for the same seed."""
    return (
        Faults(config, random.Random(2 * seed)),
        Faults(config, random.Random(2 * seed + 1)),
    )


def _worst_hundredth(late: Sequence[int]) -> int:
    return sorted(late)[len(late) * 99 // 100] if late else 0
