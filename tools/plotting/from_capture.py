"""Series from any pcap or pcapng file, whoever sent the segments.

A capture does not tell the congestion window: what was in flight where the capture was made stands
for it. Round trips are from a segment's first passing to the first ACK that covers it (Karn).
"""

from collections.abc import Iterable
from pathlib import Path

from tools.plotting.series import Mark, SentSegment, Series
from ustack.ladder.packets import Endpoint, TcpPacket, tcp_packets
from ustack.pcapng import read
from ustack.tcp.seq import unwrap
from ustack.wire.tcp import ACK, SYN

MAX_PENDING = 1 << 16  # segments whose ACK is waited for


def read_capture(path: Path) -> list[Series]:
    """The connections of the file, in the order in which they began. Raises MalformedFile."""
    return series_of(tcp_packets(read(path)))


def series_of(packets: Iterable[TcpPacket]) -> list[Series]:
    """The connections among `packets`, each in its heavier direction."""
    directions: dict[tuple[Endpoint, Endpoint], _Direction] = {}
    for packet in packets:
        key = packet.source, packet.destination
        back = packet.destination, packet.source
        at = packet.time_ns / 1e9
        if packet.flags & SYN and not packet.flags & ACK:
            directions.pop(key, None)  # the addresses are used again
            directions.pop(back, None)
        for pair in (key, back):
            if pair not in directions:
                directions[pair] = _Direction(f"{pair[0]}-{pair[1]}", at)
        directions[key].sent(at, packet)
        directions[back].answered(at, packet)
    found = []
    for (source, destination), direction in directions.items():
        other = directions[destination, source].series
        if (direction.series.size, str(source)) > (other.size, str(destination)):
            found.append(direction.series)
    return found


class _Direction:
    """The text one way, and the ACKs for it."""

    def __init__(self, name: str, began_at: float) -> None:
        self.series = Series(name)
        self._began_at = began_at
        self._base: int | None = None  # the ISN, or the first SEQ seen
        self._up_to = 0
        self._acked = 0
        self._peer_scale: int | None = None
        self._pending: dict[int, float] = {}  # end of a segment: when it passed

    def sent(self, time: float, packet: TcpPacket) -> None:
        at = time - self._began_at
        if self._base is None or packet.flags & SYN:
            self._base = packet.seq if packet.flags & SYN else packet.seq - 1
        start = self._relative(packet.seq)
        if packet.flags & SYN or not packet.length:
            return
        end = start + packet.length
        again = start < self._up_to
        self.series.sent.append(SentSegment(at, start, end, again))
        if again:
            for pending in [one for one in self._pending if start < one]:
                del self._pending[pending]
        elif len(self._pending) < MAX_PENDING:
            self._pending[end] = at
        self._up_to = max(self._up_to, end)
        self._note_flight(at)

    def answered(self, time: float, packet: TcpPacket) -> None:
        at = time - self._began_at
        if packet.flags & SYN:
            self._peer_scale = packet.options.wscale
        if not packet.flags & ACK:
            return
        if self._base is None:
            self._base = packet.ack - 1
        ack = self._relative(packet.ack)
        scale = 0 if packet.flags & SYN else self._peer_scale or 0
        series = self.series
        series.acks.append((at, ack))
        series.edges.append((at, ack + (packet.window << scale)))
        series.window.append((at, packet.window << scale))
        for left, right in packet.options.sack:
            if self._relative(left) >= ack:  # else it says what came twice (RFC 2883)
                series.sacks.append(Mark(at, self._relative(left), self._relative(right)))
        if ack > self._acked:
            self._acked = ack
            covered = [end for end in self._pending if end <= ack]
            if covered:
                newest = max(covered)
                series.rtt.append((at, (at - self._pending[newest]) * 1000))
            for end in covered:
                del self._pending[end]
            self._note_flight(at)

    def _note_flight(self, at: float) -> None:
        self.series.in_flight.append((at, max(self._up_to - max(self._acked, 1), 0)))

    def _relative(self, low32: int) -> int:
        assert self._base is not None
        return unwrap(low32, self._base + self._up_to) - self._base
