"""Packets sorted into connections, with relative numbers, notices and states: rows to draw.

Owns where one connection ends and the next on the same pair of endpoints begins. What is
noticed in a packet: see `notices`; the states of the two ends: see `observer`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ustack.ladder.notices import Notice, SenderView, notice
from ustack.ladder.observer import Sighting, States, infer
from ustack.ladder.packets import Endpoint, TcpPacket
from ustack.tcp.seq import MASK32, unwrap
from ustack.wire.tcp import ACK, FIN, RST, SYN


@dataclass(slots=True, frozen=True)
class Row:
    """One packet of a connection, ready to be drawn."""

    packet: TcpPacket
    side: int  # who sent it: an index into Connection.ends
    seq: int  # relative to the sender's ISN
    ack: int | None  # relative to the receiver's ISN
    sack: tuple[tuple[int, int], ...]  # relative to the receiver's ISN
    window: int  # bytes; scaled when both SYNs were seen
    delta_ns: int  # since the previous packet of the connection
    notices: tuple[Notice, ...]
    before: States
    after: States

    @property
    def changes_state(self) -> bool:
        return self.before != self.after


@dataclass(slots=True, frozen=True)
class Connection:
    """One connection: its two ends, the one that opened it first, and its packets in order."""

    ends: tuple[Endpoint, Endpoint]
    rows: tuple[Row, ...]

    def bytes_from(self, side: int) -> int:
        """Payload bytes that `side` has sent, retransmissions counted once."""
        texts = [row for row in self.rows if row.side == side and _has_text(row.packet)]
        if not texts:
            return 0
        return max(row.seq + row.packet.length for row in texts) - min(row.seq for row in texts)


def _has_text(packet: TcpPacket) -> bool:
    return packet.length > 0 and not packet.flags & (SYN | RST)


def connections(packets: Iterable[TcpPacket]) -> list[Connection]:
    """All connections among `packets`, in the order of their first packets."""
    traces: list[_Trace] = []
    current: dict[frozenset[Endpoint], _Trace] = {}
    for packet in packets:
        pair = frozenset((packet.source, packet.destination))
        trace = current.get(pair)
        if trace is None or trace.is_followed_by(packet):
            trace = current[pair] = _Trace(packet)
            traces.append(trace)
        trace.add(packet)
    return [trace.connection() for trace in traces]


class _Trace:
    """The packets of one connection while they are collected."""

    __slots__ = ("ends", "packets", "isn")

    def __init__(self, first: TcpPacket) -> None:
        # The end that opens stands on the left, also when the capture begins with the answer.
        answered = first.flags & (SYN | ACK) == SYN | ACK
        ends = (first.source, first.destination)
        self.ends = (ends[1], ends[0]) if answered else ends
        self.packets: list[TcpPacket] = []
        self.isn: list[int | None] = [None, None]

    def side(self, packet: TcpPacket) -> int:
        return self.ends.index(packet.source)

    def is_followed_by(self, packet: TcpPacket) -> bool:
        """Whether `packet` begins the next connection between these endpoints.

        A SYN does, unless it repeats one or it is the second SYN of a simultaneous open, in
        which nothing but SYNs has been seen.
        """
        if packet.flags & (SYN | ACK | RST) != SYN:
            return False
        isn = self.isn[self.side(packet)]
        if isn is None:
            return not all(seen.flags & (SYN | ACK) == SYN for seen in self.packets)
        return isn != packet.seq

    def add(self, packet: TcpPacket) -> None:
        side = self.side(packet)
        if packet.flags & SYN and self.isn[side] is None:
            self.isn[side] = packet.seq
        self.packets.append(packet)

    def connection(self) -> Connection:
        bases = self._bases()
        shifts = self._window_shifts()
        views = (SenderView(), SenderView())
        drafts = [
            _draft(packet, self.side(packet), bases, shifts, views) for packet in self.packets
        ]
        states = infer([draft.sighting for draft in drafts])
        times = [packet.time_ns for packet in self.packets]
        rows = (
            Row(
                packet,
                draft.sighting.side,
                draft.sighting.seq,
                draft.sighting.ack,
                draft.sack,
                draft.window,
                time_ns - previous_ns,
                draft.notices,
                before,
                after,
            )
            for packet, draft, time_ns, previous_ns, before, after in zip(
                self.packets, drafts, times, times[:1] + times, states, states[1:], strict=False
            )
        )
        return Connection(self.ends, tuple(rows))

    def _bases(self) -> tuple[int, int]:
        """The ISN of each side; without its SYN, one less than the first number seen of it."""
        bases = list(self.isn)
        for packet in self.packets:
            side = self.side(packet)
            if bases[side] is None:
                bases[side] = packet.seq - 1
            if bases[1 - side] is None and packet.flags & ACK:
                bases[1 - side] = packet.ack - 1
        return bases[0] or 0, bases[1] or 0

    def _window_shifts(self) -> tuple[int, int]:
        """The window shift of each side: in force only if both SYNs carry one (RFC 7323 §2.2)."""
        shifts: list[int | None] = [None, None]
        for packet in self.packets:
            if packet.flags & SYN:
                shifts[self.side(packet)] = packet.options.wscale
        first, second = shifts
        return (0, 0) if first is None or second is None else (first, second)


class _Draft(NamedTuple):
    """A packet with its relative numbers, before the states are known."""

    sighting: Sighting
    sack: tuple[tuple[int, int], ...]
    window: int
    notices: tuple[Notice, ...]


def _draft(
    packet: TcpPacket,
    side: int,
    bases: tuple[int, int],
    shifts: tuple[int, int],
    views: tuple[SenderView, SenderView],
) -> _Draft:
    own, other = views[side], views[1 - side]

    def theirs(low32: int) -> int:
        return unwrap((low32 - bases[1 - side]) & MASK32, other.next)

    seq = unwrap((packet.seq - bases[side]) & MASK32, own.next)
    controls = bool(packet.flags & SYN) + bool(packet.flags & FIN)
    sighting = Sighting(
        side,
        packet.flags,
        seq,
        seq + packet.length + controls,
        theirs(packet.ack) if packet.flags & ACK else None,
    )
    sack = tuple((theirs(left), theirs(right)) for left, right in packet.options.sack)
    window = packet.window << (0 if packet.flags & SYN else shifts[side])
    return _Draft(sighting, sack, window, notice(own, other, sighting, packet.length, window))
