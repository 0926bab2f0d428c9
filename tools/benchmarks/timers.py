"""The timer wheel: what insert, cancel and expiry cost, beside how many timers there are."""

import random
import time
from collections.abc import Sequence

from tools.benchmarks.report import Figure, Target
from tools.benchmarks.servers import Placement
from ustack.stack.timer_wheel import TimerWheel

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
SAMPLE = 20_000  # operations measured with that many others in the wheel
SPREAD_US = 60_000_000  # deadlines lie within 2 MSL, as those of TIME-WAITs
STEP_US = 10_000  # time moves on in the steps of a busy stack
SAME_COST = Target(6.0, at_least=False)  # not 1: a million entries do not fit the caches


class Entry:
    """What the wheel wants of its entries."""

    __slots__ = ("due_at", "slot")

    def __init__(self) -> None:
        self.due_at = 0
        self.slot: object = None


def timers(runs: int, placement: Placement) -> list[Figure]:
    """Nanoseconds per operation, with 10^2 to 10^6 timers held."""
    del placement  # in this process
    measured = {size: [_measure(size) for _ in range(runs)] for size in SIZES}
    figures: list[Figure] = []
    for column, operation in enumerate(("insert", "cancel", "expire")):
        by_size = {size: [run[column] for run in measured[size]] for size in SIZES}
        figures += [
            Figure("timers", f"{operation}, {size:,} held", "ns", by_size[size]) for size in SIZES
        ]
        few, many = by_size[SIZES[0]], by_size[SIZES[-1]]
        ratios = [with_many / with_few for with_many, with_few in zip(many, few, strict=True)]
        name = f"{operation}, {SIZES[-1]:,} to {SIZES[0]:,}"
        figures.append(Figure("timers", name, "", ratios, target=SAME_COST))
    return figures


def _measure(size: int) -> tuple[float, float, float]:
    """Nanoseconds for one insert, one cancel and one expiry."""
    rng = random.Random(size)
    wheel = TimerWheel()
    _fill(wheel, size, 0, rng)
    entries = [Entry() for _ in range(SAMPLE)]
    deadlines = [rng.randrange(SPREAD_US) for _ in entries]

    insert = wheel.insert
    start = time.perf_counter_ns()
    for entry, at in zip(entries, deadlines, strict=True):
        insert(entry, at, 0)
    inserted = time.perf_counter_ns()
    cancel = wheel.cancel
    for entry in entries:
        cancel(entry)
    cancelled = time.perf_counter_ns()
    return (
        (inserted - start) / SAMPLE,
        (cancelled - inserted) / SAMPLE,
        _expiry(wheel, size, rng),
    )


def _expiry(wheel: TimerWheel, size: int, rng: random.Random) -> float:
    """Nanoseconds per entry for turning the wheel until it is empty, again if it was small."""
    expired = spent = now = 0
    while expired < SAMPLE:
        while len(wheel):
            deadline = wheel.next_deadline()
            assert deadline is not None
            start = time.perf_counter_ns()
            now = max(now + STEP_US, deadline)
            expired += len(wheel.expired(now))
            spent += time.perf_counter_ns() - start
        _fill(wheel, size, now, rng)
    return spent / expired


def _fill(wheel: TimerWheel, size: int, now: int, rng: random.Random) -> Sequence[Entry]:
    entries = [Entry() for _ in range(size)]
    for entry in entries:
        wheel.insert(entry, now + rng.randrange(SPREAD_US), now)
    return entries
