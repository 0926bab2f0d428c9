"""The road between the hosts: a `Link`, which can be cut, behind a router with its own MTU.

Owns what a route does to packets and a link does not: partitions, "packet too big", fragments.
Knows nothing of connections.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from tools.simulation.observer import parse, pieces
from ustack.device.link import Link, LinkEnd
from ustack.wire import Buffer, icmp, ipv4, ipv6
from ustack.wire.gso import split
from ustack.wire.tcp import SYN
from ustack.wire.virtio import HEADER_LEN, PLAIN

ROUTER_V4 = ip_address("10.0.0.254").packed
ROUTER_V6 = ip_address("fd00::fe").packed
QUOTE = 128  # bytes of the offending packet; RFC 792 wants the header and 64 bits


class Path:
    """State of the road, the same for both directions."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.cut = False  # a partition: everything that is sent is lost
        self.mtu: int | None = None  # of the router in the middle; None: no router
        self.hole: int | None = None  # larger packets vanish without a word
        self.eats_text_on_syn = False  # a middlebox that has never heard of Fast Open
        self.counters: Counter[str] = Counter()
        self.on_fragmented: Callable[[bytes], None] | None = None  # sees a packet that is cut up
        self.a = Port(self, link.a, link.ab.config.needs_wire_packets())
        self.b = Port(self, link.b, link.ba.config.needs_wire_packets())


class Port:
    """One host's end of a `Path`."""

    def __init__(self, path: Path, end: LinkEnd, link_splits: bool) -> None:
        self.path = path
        self.end = end
        self.link_splits = link_splits
        self.entered = 0  # packets of this host that the link was given
        self.told = 0  # packets that did not come through the link
        self.on_delivery: Callable[[bytes], None] | None = None  # sees what this host is to read
        self._errors: deque[bytes] = deque()  # from the router, for this host

    def read(self, budget: int, now: int) -> list[bytes]:
        """What has arrived."""
        frames = list(self._errors)
        self.told += len(frames)
        self._errors.clear()
        return frames + self.end.read(budget, now)

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        """Always True: a bad road loses packets, it does not refuse them."""
        path = self.path
        if path.cut:
            path.counters["cut"] += 1
            return True
        if path.eats_text_on_syn and _has_text_on_syn(b"".join(parts)):
            path.counters["eaten"] += 1
            return True
        if path.mtu is None and path.hole is None:
            self._enter(b"".join(parts), now)
            return True
        for frame in split(b"".join(parts)):
            if path.hole is not None and len(frame) - HEADER_LEN > path.hole:
                path.counters["black hole"] += 1
            elif path.mtu is None:
                self._enter(frame, now)
            else:
                self._through_router(frame, path.mtu, now)
        return True

    def inject(self, frame: bytes) -> None:
        """This host is to read a packet that did not come along the road."""
        self._errors.append(frame)

    def _enter(self, frame: bytes, now: int) -> None:
        """Onto the link, which counts wire packets if it cuts super-segments up."""
        packet = parse(frame)
        whole = packet is None or not self.link_splits
        self.entered += 1 if packet is None or whole else pieces(packet)
        self.end.write((frame,), now)

    def next_deadline(self, now: int) -> int | None:
        """When `read` has something next, µs."""
        return now if self._errors else self.end.next_deadline()

    def _through_router(self, frame: bytes, mtu: int, now: int) -> None:
        packet = frame[HEADER_LEN:]
        if len(packet) <= mtu:
            self._enter(frame, now)
            return
        if packet[0] >> 4 == 6:
            self._too_big_v6(packet, mtu)
            return
        header = ipv4.decode(packet, 0)
        if header.dont_fragment:
            self._too_big_v4(packet, header.src, mtu)
        else:
            for fragment in fragments(packet, header, mtu):
                self._enter(PLAIN + fragment, now)
            self.path.counters["fragmented"] += 1
            if self.path.on_fragmented is not None:
                self.path.on_fragmented(frame)

    def _too_big_v4(self, packet: bytes, src: bytes, mtu: int) -> None:
        self.path.counters["too-big"] += 1
        message = icmp.encode_v4(
            icmp.V4_UNREACHABLE, icmp.V4_FRAGMENTATION_NEEDED, mtu, packet[:QUOTE]
        )
        head = ipv4.encode(ROUTER_V4, src, ipv4.ICMP, len(message))
        self._errors.append(PLAIN + head + message)

    def _too_big_v6(self, packet: bytes, mtu: int) -> None:
        self.path.counters["too-big"] += 1
        src = packet[8:24]
        message = icmp.encode_v6(
            ROUTER_V6, src, icmp.V6_PACKET_TOO_BIG, 0, mtu, packet[: QUOTE + ipv6.HEADER_LEN]
        )
        head = ipv6.encode(ROUTER_V6, src, ipv6.ICMPV6, len(message))
        self._errors.append(PLAIN + head + message)


def fragments(packet: bytes, header: ipv4.Ipv4, mtu: int) -> list[bytes]:
    """The packet in pieces of at most `mtu` bytes, as a router cuts it (RFC 791 §3.2)."""
    payload = packet[header.header_len : header.total_length]
    room = (mtu - ipv4.HEADER_LEN) & ~7
    out = []
    for offset in range(0, len(payload), room):
        piece = payload[offset : offset + room]
        head = ipv4.encode(
            header.src,
            header.dst,
            header.protocol,
            len(piece),
            ttl=header.ttl,
            ident=header.ident,
            dscp=header.dscp,
            more_fragments=offset + room < len(payload),
            fragment_offset=offset,
        )
        out.append(head + piece)
    return out


def _has_text_on_syn(frame: bytes) -> bool:
    packet = parse(frame)
    if packet is None or not packet.header.flags & SYN:
        return False
    return packet.size > 0 or packet.options.fast_open is not None
