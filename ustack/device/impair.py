"""A bad network around any device: loss, delay, jitter, reordering, ... in both directions.

For kernels without netem, and for the same faults on every platform. The faults themselves are
`ustack.device.faults`; this module knows the option text and moves frames through them.
"""

import random
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ustack.device.base import Device
from ustack.device.faults import Faults, LinkConfig
from ustack.device.wrapper import WrapperDevice
from ustack.errors import UsageError
from ustack.wire import Buffer

RETRY_US = 1_000  # a held frame that the inner device refused is offered again after this
RELEASE_BATCH = 64  # held frames taken off the link at a time

_TIME_UNITS_US = {"us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000}
_RATE_UNITS_BPS = {"bit": 1, "kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµ%]*)")


@dataclass(slots=True, frozen=True)
class ImpairConfig(LinkConfig):
    """The faults of both directions; each direction draws its own from `seed`."""

    seed: int = 1


def parse_impair(text: str) -> ImpairConfig:
    """The configuration that a `--impair` option means.

    >>> parse_impair("delay=10ms,jitter=2ms,loss=1%,rate=100mbit,queue=100,seed=7").delay_us
    10000

    Times take us, ms or s; probabilities a percentage (`ecn`: packets that say ECT get CE); rate
    bit, kbit, mbit or gbit per second.
    Raises UsageError that names the item it cannot read.
    """
    times: dict[str, int] = {}
    probabilities: dict[str, float] = {}
    numbers: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (part.strip().lower() for part in item.partition("="))
        if key in times or key in probabilities or key in numbers:
            raise UsageError(f"impair: {item!r}: {key} was given before")
        if key in ("delay", "jitter"):
            times[key] = _quantity(item, value, _TIME_UNITS_US, "10ms, 500us or 1s")
        elif key in ("loss", "reorder", "duplicate", "ecn", "corrupt"):
            probabilities[key] = _percentage(item, value)
        elif key == "rate":
            numbers[key] = _quantity(item, value, _RATE_UNITS_BPS, "100mbit, 64kbit or 1gbit")
        elif key in ("queue", "seed", "mtu"):
            numbers[key] = _count(item, value)
        else:
            known = "delay, jitter, loss, reorder, duplicate, ecn, corrupt, rate, mtu, queue, seed"
            raise UsageError(f"impair: {item!r}: the items are {known}")
    return ImpairConfig(
        delay_us=times.get("delay", 0),
        jitter_us=times.get("jitter", 0),
        rate_bps=numbers.get("rate", 0),
        queue=numbers.get("queue", LinkConfig().queue),
        mtu=numbers.get("mtu", 0),
        seed=numbers.get("seed", 1),
        **probabilities,
    )


class ImpairDevice(WrapperDevice):
    """The inner device behind a bad network.

    Frames that are held come out when the driver reads at `next_deadline`. A super-segment is
    split first, whenever the faults can tell the difference: loss hits wire packets. `outbound`
    and `inbound` have the counters. What the inner device refuses is kept; then `write` refuses.
    """

    def __init__(self, inner: Device, config: ImpairConfig) -> None:
        super().__init__(inner)
        self.outbound = Faults(config, random.Random(2 * config.seed))
        self.inbound = Faults(config, random.Random(2 * config.seed + 1))
        self._refused: deque[bytes] = deque()  # off the link, but the inner device was full
        self._retry_at = 0

    def read(self, budget: int, now: int) -> list[bytes]:
        self._release(now)
        for frame in self._inner.read(budget, now):
            self.inbound.accept(frame, now)
        return self.inbound.due(now, budget)

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        if not self._release(now):
            return False
        self.outbound.accept(b"".join(parts), now)
        self._release(now)
        return True

    def next_deadline(self) -> int | None:
        outbound = self._retry_at if self._refused else self.outbound.next_deadline()
        times = (outbound, self.inbound.next_deadline(), self._inner.next_deadline())
        return min((at for at in times if at is not None), default=None)

    def close(self) -> None:
        """What is still held is lost."""
        self.outbound.clear()
        self.inbound.clear()
        self._refused.clear()
        self._inner.close()

    def _release(self, now: int) -> bool:
        """The outgoing frames that are due are with the inner device; False: it is full."""
        refused = self._refused
        while True:
            while refused:
                if not self._inner.write([refused[0]], now):
                    self._retry_at = now + RETRY_US
                    return False
                refused.popleft()
            refused.extend(self.outbound.due(now, RELEASE_BATCH))
            if not refused:
                return True


def _quantity(item: str, value: str, units: dict[str, int], example: str) -> int:
    match = _NUMBER.fullmatch(value)
    if match is None or match[2] not in units:
        raise UsageError(f"impair: {item!r}: expected a number with its unit, as in {example}")
    return round(float(match[1]) * units[match[2]])


def _percentage(item: str, value: str) -> float:
    match = _NUMBER.fullmatch(value)
    if match is None or match[2] != "%" or float(match[1]) > 100:
        raise UsageError(f"impair: {item!r}: expected a percentage, as in 0.5%")
    return float(match[1]) / 100


def _count(item: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or (item.startswith("queue") and not int(value)):
        raise UsageError(f"impair: {item!r}: expected a whole number")
    return int(value)
