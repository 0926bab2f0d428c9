"""The links of the comparison: what `ustack.device.faults` does, plus faults that are aimed.

A link is one direction. Frames go in at `accept` and come out of `due`, as of `Faults`.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ustack.device.faults import Faults
from ustack.wire.gso import split
from ustack.wire.virtio import HEADER_LEN

TCP_AT = HEADER_LEN + 20  # of IPv4 without options, as both stacks send it


class Link(Protocol):
    """One direction between two hosts."""

    def accept(self, frame: bytes, now: int) -> None:
        """`frame` is put on the link, or lost."""

    def due(self, now: int, budget: int) -> list[bytes]:
        """Up to `budget` frames that have arrived."""

    def next_deadline(self) -> int | None:
        """When the next frame arrives, µs."""


@dataclass(slots=True, frozen=True)
class Passage:
    """A data segment that came to an `Aimed` link."""

    at: int  # µs
    number: int  # 1: the first segment of text on the link
    copy: int  # 1: sent for the first time
    dropped: bool


class Aimed:
    """Drops chosen segments: `drops[number]` copies of the segment `number`, from its first on."""

    def __init__(self, inner: Faults, drops: Mapping[int, int]) -> None:
        self.passages: list[Passage] = []
        self._inner = inner
        self._drops = drops
        self._numbers: dict[int, int] = {}  # SEG.SEQ: number
        self._copies: dict[int, int] = {}

    def accept(self, frame: bytes, now: int) -> None:
        for packet in split(frame):
            if not self._drop(packet, now):
                self._inner.accept(packet, now)

    def due(self, now: int, budget: int) -> list[bytes]:
        return self._inner.due(now, budget)

    def next_deadline(self) -> int | None:
        return self._inner.next_deadline()

    def _drop(self, packet: bytes, now: int) -> bool:
        if len(packet) <= TCP_AT + (packet[TCP_AT + 12] >> 4) * 4:
            return False  # no text
        seq = int.from_bytes(packet[TCP_AT + 4 : TCP_AT + 8], "big")
        number = self._numbers.setdefault(seq, len(self._numbers) + 1)
        copy = self._copies[seq] = self._copies.get(seq, 0) + 1
        dropped = copy <= self._drops.get(number, 0)
        self.passages.append(Passage(now, number, copy, dropped))
        return dropped


class Wide:
    """Delay, rate and a queue in bytes for super-segments as they are: more than Python can split.

    Nothing is lost but at the end of the queue, a whole frame at a time.
    """

    def __init__(self, rate_bps: int, delay_us: int, queue: int) -> None:
        self.dropped = 0  # frames
        self._rate_bps = rate_bps
        self._delay_us = delay_us
        self._queue_us = queue * 8_000_000 // rate_bps
        self._idle_at = 0
        self._line: deque[tuple[int, bytes]] = deque()

    def accept(self, frame: bytes, now: int) -> None:
        start = max(now, self._idle_at)
        if start - now > self._queue_us:
            self.dropped += 1
            return
        self._idle_at = start + len(frame) * 8_000_000 // self._rate_bps
        self._line.append((self._idle_at + self._delay_us, frame))

    def due(self, now: int, budget: int) -> list[bytes]:
        line = self._line
        frames: list[bytes] = []
        while line and line[0][0] <= now and len(frames) < budget:
            frames.append(line.popleft()[1])
        return frames

    def next_deadline(self) -> int | None:
        return self._line[0][0] if self._line else None
