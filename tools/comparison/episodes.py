"""Single losses, a transfer of 1 MB, fairness, and a long fat pipe: one figure for each pair."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from tools.comparison.cells import MSS, links
from tools.comparison.links import Aimed, Wide
from tools.comparison.transfers import PAIRS, Pair, Transfer, World, pair_name, together
from ustack.device.faults import Faults, LinkConfig

# ---------------------------------------------------------------------- repairs

REPAIR_ROUND_TRIP_MS = 100  # long, so that the machine's lateness is small beside it
REPAIR_RUNS = 3


@dataclass(slots=True, frozen=True)
class Repair:
    """A message of `segments`, of which some copies are lost; `last` is the segment to wait for."""

    name: str
    segments: int
    drops: Mapping[int, int]
    last: int
    aim: float  # round trips, from the first copy that was lost to the text's arrival


REPAIR_TOLERANCE = 0.1  # round trips: this machine is late by some ms
# A tail loss: the others' ACKs need one round trip, then RFC 8985 §7.2 waits 2 SRTT, and 200 ms
# more (two of these round trips) for the ACK of a segment that is alone, and the probe needs half a
# round trip. Of two lost segments the probe repairs the last; its SACK shows the other.
REPAIRS = (
    Repair("one of nine, the fourth", 9, {4: 1}, 4, 1.5),
    Repair("one of nine, the first", 9, {1: 1}, 1, 1.5),
    Repair("three of nine", 9, {2: 1, 4: 1, 6: 1}, 6, 1.5),
    Repair("a retransmission lost, 100 segments", 100, {5: 2}, 5, 2.5),
    Repair("the last of nine", 9, {9: 1}, 9, 5.5),
    Repair("the last two of nine", 9, {8: 1, 9: 1}, 8, 4.5),
)


async def repair_time(world: World, pair: Pair, repair: Repair) -> float:
    """Round trips until the lost text was there; infinite: not within two seconds."""
    config = LinkConfig(delay_us=REPAIR_ROUND_TRIP_MS * 500)
    there = Aimed(Faults(config, random.Random(1)), repair.drops)
    back = Faults(config, random.Random(2))
    run = await world.transfer(pair, (there, back), size=repair.segments * MSS, seconds=2.0)
    lost_at = next(
        passage.at
        for passage in there.passages
        if passage.dropped and passage.number == repair.last
    )
    arrived_at = run.arrived_at(repair.last * MSS)
    if arrived_at is None:
        return float("inf")
    return (arrived_at - lost_at) / (REPAIR_ROUND_TRIP_MS * 1000)


async def repairs(world: World) -> dict[str, dict[str, float]]:
    """The median of REPAIR_RUNS, per kind of loss and pair. Each run alone: µs are asked for."""
    found: dict[str, dict[str, float]] = {}
    for repair in REPAIRS:
        found[repair.name] = {
            pair_name(pair): median(
                [await repair_time(world, pair, repair) for _ in range(REPAIR_RUNS)]
            )
            for pair in PAIRS
        }
    return found


# ---------------------------------------------------------------------- a megabyte

MEGABYTE = 1_000_000
MEGABYTE_AIM = 1.3  # of the time without loss
MEGABYTE_RATES_BPS = (2_000_000, 5_000_000, 10_000_000, 20_000_000)
MEGABYTE_ROUND_TRIP_US = 20_000
MEGABYTE_LOSS = 0.01
MEGABYTE_SEEDS = 21  # seven, as it used to be, leave the medians to chance at 20 Mbit/s
MEGABYTE_UNHURT = 3  # of them without loss as well: there they do the same


async def megabyte(world: World) -> dict[str, dict[str, tuple[float, float]]]:
    """Per rate and pair: seconds for 1 MB without loss and with 1 %, medians."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for rate in MEGABYTE_RATES_BPS:
        times: dict[tuple[Pair, float], list[float]] = {}
        for seed in range(1, MEGABYTE_SEEDS + 1):
            for loss in (0.0, MEGABYTE_LOSS) if seed <= MEGABYTE_UNHURT else (MEGABYTE_LOSS,):
                config = LinkConfig(
                    delay_us=MEGABYTE_ROUND_TRIP_US // 2,
                    loss=loss,
                    rate_bps=rate,
                    queue=max(rate * MEGABYTE_ROUND_TRIP_US // 12_000_000_000, 20),
                )
                runs = await together(
                    *(
                        world.transfer(pair, links(config, seed), size=MEGABYTE, seconds=20.0)
                        for pair in PAIRS
                    )
                )
                for pair, run in zip(PAIRS, runs, strict=True):
                    times.setdefault((pair, loss), []).append((run.ended_at - run.began_at) / 1e6)
        found[f"{rate // 1_000_000} Mbit/s"] = {
            pair_name(pair): (median(times[pair, 0.0]), median(times[pair, MEGABYTE_LOSS]))
            for pair in PAIRS
        }
    return found


# ---------------------------------------------------------------------- fairness

# One BDP at 100 ms. The jitter is the time a packet takes at the bottleneck. Without it ACKs come
# back in step with the packets that leave the queue, and of two senders the one that answers 0.1 ms
# later finds room where the other's packets were dropped (Floyd and Jacobson, 1992).
FAIR_LINK = LinkConfig(delay_us=50_000, jitter_us=1_500, rate_bps=8_000_000, queue=67)
FAIR_STALL_US = 1_000_000  # if the machine stood still so long, the run says nothing
FAIR_TRIES = 3
FAIR_CONTESTS: tuple[tuple[Pair, Pair], ...] = (
    (("ustack", "kernel"), ("kernel", "kernel")),
    (("kernel", "kernel"), ("kernel", "kernel")),
    (("ustack", "kernel"), ("ustack", "kernel")),
)


async def fairness(world: World, seconds: float, runs: int) -> dict[str, list[tuple[float, float]]]:
    """Mbit/s of two senders that share one bottleneck, over the whole time of each run.

    Who begins some ms before the other changes from run to run.
    """
    found = {}
    for one, other in FAIR_CONTESTS:
        name = f"{pair_name(one)} with {pair_name(other)}"
        found[name] = [await _contest(world, one, other, seconds, run) for run in range(runs)]
    return found


async def _contest(
    world: World, one: Pair, other: Pair, seconds: float, run: int
) -> tuple[float, float]:
    shared = links(FAIR_LINK, run + 1)
    turned = run % 2 == 1
    pairs = (other, one) if turned else (one, other)
    for _ in range(FAIR_TRIES):
        world.bridge.late.clear()
        runs = await together(*(world.transfer(pair, shared, seconds=seconds) for pair in pairs))
        if max(world.bridge.late, default=FAIR_STALL_US) < FAIR_STALL_US:
            break
    first, second = reversed(runs) if turned else runs
    return first.goodput_bps / 1e6, second.goodput_bps / 1e6


# ---------------------------------------------------------------------- a long fat pipe

FILL_RATE_BPS = 1_000_000_000
FILL_DELAY_US = 50_000
FILL_WINDOW_US = 250_000
FILL_SHARE = 0.9


async def fill(world: World, seconds: float) -> dict[str, tuple[float | None, float]]:
    """Per pair: seconds until 0.9 of 1 Gbit/s was reached at 100 ms, and the last second's rate."""
    found: dict[str, tuple[float | None, float]] = {}
    for pair in PAIRS:
        product = FILL_RATE_BPS // 8 * 2 * FILL_DELAY_US // 1_000_000
        there, back = (Wide(FILL_RATE_BPS, FILL_DELAY_US, product) for _ in range(2))
        run = await world.transfer(pair, (there, back), seconds=seconds)
        last = run.received_by(run.ended_at) - run.received_by(run.ended_at - 1_000_000)
        found[pair_name(pair)] = _time_to_fill(run), last * 8 / 1e6
    return found


def _time_to_fill(run: Transfer) -> float | None:
    needed = FILL_RATE_BPS // 8 * FILL_WINDOW_US // 1_000_000 * FILL_SHARE
    for at in range(run.began_at + FILL_WINDOW_US, run.ended_at, FILL_WINDOW_US // 10):
        if run.received_by(at) - run.received_by(at - FILL_WINDOW_US) >= needed:
            return (at - run.began_at) / 1e6
    return None
