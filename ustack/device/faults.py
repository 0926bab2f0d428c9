"""The faults of one direction of a bad link: the one implementation, for `Link` and `ImpairDevice`.

Knows frames and virtual time, no device. Everything is drawn from the `random.Random` it is given,
so the same seed and the same frames give the same faults.
"""

import random
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush

from ustack.errors import MalformedPacket, UsageError
from ustack.wire.ecn import CE, ECT0, ECT1, ecn_field, set_ecn_bits
from ustack.wire.gso import split
from ustack.wire.virtio import HEADER_LEN

REORDER_PASSES = 3  # packets, at most, that overtake one held back; 3 is DupThresh (RFC 5681 §3.2)
REORDER_HOLD_US = 1_000  # a packet held back for reordering waits no longer for others to pass

COUNTERS = (
    "passed",
    "lost",
    "too_large",
    "duplicated",
    "marked",
    "corrupted",
    "reordered",
    "queue_full",
    "malformed",
)


@dataclass(slots=True, frozen=True)
class LinkConfig:
    """One direction of a link. Probabilities are per wire packet, between 0 and 1."""

    delay_us: int = 0
    jitter_us: int = 0  # the delay is uniform in delay ± jitter; order is kept
    loss: float = 0.0
    reorder: float = 0.0  # this fraction of the packets overtakes, or is overtaken by, others
    duplicate: float = 0.0
    ecn: float = 0.0  # packets that say ECT are marked CE (RFC 3168 §5); others are left alone
    corrupt: float = 0.0  # one bit is flipped somewhere in the IP packet
    rate_bps: int = 0  # bits of IP packets per second; 0: unlimited
    mtu: int = 0  # larger IP packets vanish without a word (a black hole); 0: none does
    queue: int = 1000  # packets waiting for the rate, then tail drop; Linux txqueuelen: 1000

    def __post_init__(self) -> None:
        for probability in (self.loss, self.reorder, self.duplicate, self.corrupt, self.ecn):
            if not 0.0 <= probability <= 1.0:
                raise UsageError("a probability must lie between 0 and 100 %")
        if min(self.delay_us, self.jitter_us, self.rate_bps, self.mtu) < 0:
            raise UsageError("delay, jitter, rate and mtu must not be negative")
        if self.queue < 1:
            raise UsageError("queue must be at least one packet")

    def needs_wire_packets(self) -> bool:
        """Whether a super-segment must be split before the faults can be true to the wire."""
        chances = self.loss or self.reorder or self.duplicate or self.ecn or self.corrupt
        return bool(chances or self.rate_bps or self.mtu)


@dataclass(slots=True)
class _HeldBack:
    """A packet that waits until `passes` others went by, or until `due_at`."""

    frame: bytes
    passes: int
    due_at: int


class Faults:
    """One direction: frames go in at `accept` and come out of `due`, in the order of their time.

    In this order, per packet: size, loss, duplication, mark, corruption, queue, rate, delay.
    Jitter alone keeps the order (netem lets it reorder; a real path hardly does). `reorder` is
    netem's: the chosen packet skips the delay and so overtakes those before it. On a link without
    delay there is nothing to overtake, so there it is held back until one to three later packets
    went by, at most 1 ms.
    """

    def __init__(self, config: LinkConfig, rng: random.Random) -> None:
        self.config = config
        self.counters = dict.fromkeys(COUNTERS, 0)  # packets
        self._rng = rng
        self._split = config.needs_wire_packets()
        self._line: list[tuple[int, int, bytes]] = []  # heap of (due_at, order, frame)
        self._order = 0
        self._last_due_at = 0  # jitter must not reorder
        self._held_back: deque[_HeldBack] = deque()
        self._backlog: deque[int] = deque()  # when each packet leaves the queue, µs
        self._idle_at_ns = 0  # when the rate-limited sender has sent everything, ns

    def accept(self, frame: bytes, now: int) -> None:
        """The packets of `frame` are lost, or come out of `due` later.

        A super-segment is split into wire packets with complete checksums, when the configuration
        can tell the difference.
        """
        if not self._split:
            self._delay(frame, now)
            return
        try:
            packets = split(frame)
        except MalformedPacket:
            self.counters["malformed"] += 1
            return
        config = self.config
        for packet in packets:
            if config.mtu and len(packet) - HEADER_LEN > config.mtu:
                self.counters["too_large"] += 1
                continue
            if self._chance(config.loss):
                self.counters["lost"] += 1
                continue
            self._transmit(packet, now)
            if self._chance(config.duplicate):
                self.counters["duplicated"] += 1
                self._transmit(packet, now)

    def due(self, now: int, budget: int) -> list[bytes]:
        """Up to `budget` frames whose time has come."""
        held_back, line = self._held_back, self._line
        while held_back and held_back[0].due_at <= now:
            late = held_back.popleft()
            self._enter(late.frame, late.due_at)
        frames: list[bytes] = []
        while line and line[0][0] <= now and len(frames) < budget:
            frames.append(heappop(line)[2])
        self.counters["passed"] += len(frames)
        return frames

    def next_deadline(self) -> int | None:
        """When `due` has its next frame, µs."""
        at = self._line[0][0] if self._line else None
        if self._held_back and (at is None or self._held_back[0].due_at < at):
            at = self._held_back[0].due_at
        return at

    def clear(self) -> None:
        """Everything on the way is lost."""
        self._line.clear()
        self._held_back.clear()

    def _transmit(self, packet: bytes, now: int) -> None:
        """Mark and corruption, then the queue and the rate."""
        config = self.config
        if self._chance(config.ecn) and ecn_field(packet, HEADER_LEN) in (ECT0, ECT1):
            self.counters["marked"] += 1
            marked = bytearray(packet)
            set_ecn_bits(marked, HEADER_LEN, CE)
            packet = bytes(marked)
        if self._chance(config.corrupt):
            self.counters["corrupted"] += 1
            packet = self._corrupted(packet)
        if not config.rate_bps:
            self._delay(packet, now)
            return
        backlog = self._backlog
        while backlog and backlog[0] <= now:
            backlog.popleft()
        if len(backlog) >= config.queue:
            self.counters["queue_full"] += 1
            return
        bits = (len(packet) - HEADER_LEN) * 8
        self._idle_at_ns = (
            max(self._idle_at_ns, now * 1_000) + bits * 1_000_000_000 // config.rate_bps
        )
        leaves_at = -(-self._idle_at_ns // 1_000)
        backlog.append(leaves_at)
        self._delay(packet, leaves_at)

    def _delay(self, frame: bytes, leaves_at: int) -> None:
        """Delay, jitter and reordering of a frame that is put on the wire at `leaves_at`."""
        config = self.config
        if self._chance(config.reorder):
            self.counters["reordered"] += 1
            if config.delay_us:
                self._enter(frame, leaves_at)
            else:
                passes = self._rng.randint(1, REORDER_PASSES)
                self._held_back.append(_HeldBack(frame, passes, leaves_at + REORDER_HOLD_US))
            return
        due_at = leaves_at + config.delay_us
        if config.jitter_us:
            due_at += self._rng.randint(-config.jitter_us, config.jitter_us)
        due_at = max(due_at, leaves_at, self._last_due_at)
        self._last_due_at = due_at
        self._enter(frame, due_at)
        if self._held_back:
            self._one_went_by(due_at)

    def _one_went_by(self, due_at: int) -> None:
        for late in self._held_back:
            late.passes -= 1
            if not late.passes:
                self._enter(late.frame, due_at)
        self._held_back = deque(late for late in self._held_back if late.passes)

    def _enter(self, frame: bytes, due_at: int) -> None:
        self._order += 1  # equal times keep their order, and frames are never compared
        heappush(self._line, (due_at, self._order, frame))

    def _chance(self, probability: float) -> bool:
        return probability > 0.0 and self._rng.random() < probability

    def _corrupted(self, packet: bytes) -> bytes:
        bit = self._rng.randrange(HEADER_LEN * 8, len(packet) * 8)
        damaged = bytearray(packet)
        damaged[bit >> 3] ^= 1 << (bit & 7)
        return bytes(damaged)
