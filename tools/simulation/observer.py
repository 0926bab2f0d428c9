"""An onlooker on the wire who holds every packet against the RFCs, without looking into a stack.

For each flow and direction it keeps what was sent, acknowledged and promised, and raises
`BrokenRule` for a packet that no correct TCP sends. It judges what a host sends by what had been
delivered to that host.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from tools.simulation.ecn_rules import CE, EcnState, codepoint, fault
from ustack.errors import MalformedPacket
from ustack.wire import ipv4, ipv6, tcp, virtio
from ustack.wire.checksum import ones_sum, pseudo_sum
from ustack.wire.tcp import ACK, FIN, RST, SYN
from ustack.wire.tcp_options import Options, decode_options

WRAP = 1 << 32
RECENT = 64  # frames: most are looked at when they leave and soon again when they arrive
KEEP_ALIVE_OR_PROBE = 1  # octet that may go beyond the window: RFC 9293 §3.8.6.1

FlowKey = tuple[bytes, int, bytes, int]  # from address and port, to address and port


class BrokenRule(AssertionError):
    """A packet, or an end of a connection, that the RFCs do not allow."""


@dataclass(slots=True)
class Direction:
    """What one end has sent on a flow, and what had been delivered to it. Unwrapped positions."""

    isn: int
    end: int  # after the last octet sent
    wscale: int | None = None
    timestamps: bool = False
    sack: bool = False
    ack: int | None = None  # the last acknowledgment sent
    edge: int = 0  # right edge of the window promised last
    allowed: int | None = None  # right edge that had been promised to this end
    peer: "Direction | None" = None  # the other end, as it was when this end first heard it
    ecn: EcnState = field(default_factory=EcnState)
    fin: bool = False  # sent
    resets: int = 0  # RST sent
    texts: int = 0  # wire packets with text
    resets_got: int = 0
    last_words: set[int] = field(default_factory=set)  # SEG.SEQ of RSTs that came after all else

    def spans(self, seq: int) -> bool:
        """Whether SEG.SEQ `seq` is one that this end has used, or the next."""
        return self.isn <= near(seq, self.end) <= self.end


@dataclass(frozen=True, slots=True)
class Packet:
    """A TCP segment as seen on the wire."""

    flow: FlowKey
    header: tcp.TcpHeader
    options: Options
    size: int  # payload octets
    length: int  # of the IP packet
    gso_size: int
    head: int  # bytes of all headers
    ecn: int  # codepoint of the IP header


@dataclass(slots=True)
class Observer:
    """Both directions of every flow."""

    mtu: int
    ghosts: bool = False  # a late ACK may open a connection that was over: it is a SYN cookie's
    directions: dict[FlowKey, Direction] = field(default_factory=dict)
    incarnations: dict[tuple[FlowKey, int], Direction] = field(default_factory=dict)  # and ISN
    segments: int = 0
    text: int = 0  # octets of payload sent
    resent: int = 0  # of them, for a second time; window probes of one octet are not counted

    def sent(self, frame: bytes, mtu: int | None = None) -> None:
        """A stack hands `frame` to its device, of `mtu` (None: the link's). Raises BrokenRule."""
        packet = parse(frame)
        if packet is None:
            return
        self.segments += 1
        self.text += packet.size
        _check_size(packet, self.mtu if mtu is None else mtu)
        flags = packet.header.flags
        mine = self._sender(packet)
        peers = self.directions.get(reverse(packet.flow))
        if flags & RST:
            if mine is not None:
                mine.resets += 1
                mine.ack = None  # over; a late ACK for a SYN cookie may begin it once more
            return
        if flags & SYN:
            mine = self._syn(packet, mine)
            mine.ecn.syn(flags)
        if mine is None:
            raise BrokenRule(f"{text(packet)}: no SYN went before")
        seq = near(packet.header.seq, mine.end)
        length = packet.size + bool(flags & SYN) + bool(flags & FIN)
        if packet.size and mine.allowed is not None:
            if seq + packet.size > mine.allowed + KEEP_ALIVE_OR_PROBE:
                beyond = seq + packet.size - mine.allowed
                raise BrokenRule(f"{text(packet)}: {beyond} octets beyond the window (SHLD-16)")
        if seq > mine.end:
            raise BrokenRule(f"{text(packet)}: leaves out {seq - mine.end} octets")
        if packet.size > KEEP_ALIVE_OR_PROBE:
            self.resent += max(0, min(seq + packet.size, mine.end) - seq - KEEP_ALIVE_OR_PROBE)
        again = packet.size > KEEP_ALIVE_OR_PROBE and seq + packet.size <= mine.end
        self._check_ecn(packet, mine, mine.peer or peers, again)
        mine.end = max(mine.end, seq + length)
        mine.fin |= bool(flags & FIN)
        mine.texts += pieces(packet) if packet.size else 0
        if flags & ACK:
            self._acknowledgment(packet, mine, peers)

    def delivered(self, frame: bytes) -> None:
        """`frame` is about to be given to a stack."""
        packet = parse(frame)
        if packet is None or not checksum_is_good(frame):
            return
        sender = self._sender(packet)
        latest = self.directions.get(reverse(packet.flow))
        if latest is None:
            return
        flags = packet.header.flags
        receiver = (sender.peer if sender is not None else None) or latest
        hearers = [latest] if receiver is latest else [latest, receiver]
        for one in hearers:  # two, when SYN cookies have answered two SYNs at once
            one.ecn.marks += packet.ecn == CE
            if flags & RST:
                one.resets_got += 1
                one.last_words.add(packet.header.seq)
            else:
                one.last_words.clear()
        if flags & RST:
            return
        if sender is None or receiver is not latest:
            latest.allowed = None  # one end was started anew: not to be judged
        if sender is None:
            return
        if flags & ACK:
            scaled = not flags & SYN and sender.wscale is not None and receiver.wscale is not None
            window = packet.header.window << (sender.wscale or 0 if scaled else 0)
            edge = near(packet.header.ack, receiver.end) + window
            receiver.allowed = max(receiver.allowed or edge, edge)
        elif flags & SYN:
            edge = receiver.isn + 1 + packet.header.window
            receiver.allowed = max(receiver.allowed or edge, edge)

    def _sender(self, packet: Packet) -> Direction | None:
        """The incarnation that sends this: the latest, unless SEG.SEQ fits only another."""
        flow, seq = packet.flow, packet.header.seq
        latest = self.directions.get(flow)
        if latest is None or packet.header.flags & SYN or latest.spans(seq):
            return latest
        known = [one for (of, _), one in self.incarnations.items() if of == flow]
        return next((one for one in reversed(known) if one.spans(seq)), latest)

    def _syn(self, packet: Packet, mine: Direction | None) -> Direction:
        header, options = packet.header, packet.options
        if mine is None or header.seq != mine.isn % WRAP:
            mine = Direction(isn=header.seq, end=header.seq)
            self.directions[packet.flow] = self.incarnations[packet.flow, mine.isn] = mine
            mine.wscale = options.wscale
            mine.timestamps = options.tsval is not None
            mine.sack = options.sack_permitted
        if header.flags & ACK:
            theirs = self._acknowledged(packet)
            for name, offered in (
                ("window scale", options.wscale is None or (theirs and theirs.wscale is not None)),
                ("timestamps", options.tsval is None or (theirs and theirs.timestamps)),
                ("SACK", not options.sack_permitted or (theirs and theirs.sack)),
            ):
                if not offered:
                    raise BrokenRule(f"{text(packet)}: {name} in answer to a SYN without")
        return mine

    def _acknowledged(self, packet: Packet) -> Direction | None:
        """The incarnation whose SYN this acknowledges, maybe with text that came along."""
        flow, ack = reverse(packet.flow), packet.header.ack
        known = self.incarnations.get((flow, (ack - 1) % WRAP))
        latest = self.directions.get(flow)
        if known is None and latest is not None and latest.spans(ack):
            return latest
        return known

    def _acknowledgment(self, packet: Packet, mine: Direction, peers: Direction | None) -> None:
        header = packet.header
        if mine.peer is None:
            mine.peer = self._acknowledged(packet) or peers
        peers = mine.peer
        if peers is None:
            raise BrokenRule(f"{text(packet)}: acknowledges a flow that does not exist")
        ack = near(header.ack, peers.end)
        if ack > peers.end:
            raise BrokenRule(f"{text(packet)}: acknowledges what was never sent")
        if (
            mine.ack is not None
            and ack < mine.ack
            and self.ghosts
            and (mine.resets or mine.resets_got or _both_closed(mine, peers))
        ):
            mine.ack = None
        if mine.ack is not None and ack < mine.ack:
            raise BrokenRule(f"{text(packet)}: takes an acknowledgment back")
        scale = mine.wscale if mine.wscale is not None and peers.wscale is not None else 0
        edge = ack + (header.window << (0 if header.flags & SYN else scale))
        # rounded to 2^scale either way (RFC 7323 §2.4), it may move back by two roundings
        # and a SYN cannot say more than 65535.
        if mine.ack is not None and not header.flags & SYN and edge + (2 << scale) <= mine.edge:
            raise BrokenRule(
                f"{text(packet)}: pulls the window back by {mine.edge - edge} (SHLD-14)"
            )
        mine.edge = edge if mine.ack is None else max(mine.edge, edge)
        mine.ack = ack
        options = packet.options
        if mine.timestamps and peers.timestamps and options.tsval is None:
            raise BrokenRule(f"{text(packet)}: no timestamp (RFC 7323 §3.2)")
        if options.sack and not (mine.sack and peers.sack):
            raise BrokenRule(f"{text(packet)}: SACK without permission")
        for left32, right32 in options.sack:
            left, right = near(left32, peers.end), near(right32, peers.end)
            if not left < right <= peers.end:
                raise BrokenRule(f"{text(packet)}: SACK of what was never sent")

    def _check_ecn(
        self, packet: Packet, mine: Direction, peer: Direction | None, again: bool
    ) -> None:
        said = peer.ecn if peer is not None else EcnState()
        flags, size = packet.header.flags, packet.size
        why = fault(mine.ecn, said, flags, packet.ecn, text=size > 0, again=again)
        if why:
            raise BrokenRule(f"{text(packet)}: {why}")


def _check_size(packet: Packet, mtu: int) -> None:
    wire = packet.length
    if packet.gso_size:
        wire = packet.head + min(packet.gso_size, packet.size)
    if wire > mtu:
        raise BrokenRule(f"{text(packet)}: {wire} bytes on a link of {mtu}")


def pieces(packet: Packet) -> int:
    """Into how many wire packets the device cuts it."""
    return max(1, -(-packet.size // packet.gso_size)) if packet.gso_size else 1


def near(low32: int, position: int) -> int:
    """The position closest to `position` with these low bits (an implementation of its own)."""
    delta = (low32 - position + WRAP // 2) % WRAP - WRAP // 2
    return position + delta


def reverse(flow: FlowKey) -> FlowKey:
    """The other direction."""
    return flow[2], flow[3], flow[0], flow[1]


def _both_closed(mine: Direction, peers: Direction) -> bool:
    """Both FINs were sent, and each end has said that it has all."""
    return mine.fin and peers.fin and mine.ack == peers.end and peers.ack == mine.end


@lru_cache(maxsize=RECENT)
def parse(frame: bytes) -> Packet | None:
    """The TCP segment in `frame`; None for anything else, fragments and damaged ones included."""
    start = virtio.HEADER_LEN
    try:
        if frame[start] >> 4 == 4:
            v4 = ipv4.decode(frame, start)
            if v4.protocol != ipv4.TCP or v4.more_fragments or v4.fragment_offset:
                return None
            src, dst, at, end = v4.src, v4.dst, start + v4.header_len, start + v4.total_length
        else:
            v6 = ipv6.decode(frame, start)
            if v6.protocol != ipv6.TCP or v6.fragment:
                return None
            src, dst, at, end = v6.src, v6.dst, v6.payload_offset, v6.end
        header = tcp.decode(frame, at, end)
        options = decode_options(frame, at + 20, at + header.data_offset)
    except MalformedPacket:
        return None
    flow = (src, header.src_port, dst, header.dst_port)
    head = at + header.data_offset - start
    _, gso_type, _, gso_size, _, _ = virtio.HEADER.unpack_from(frame)
    size = end - start - head
    gso_size = gso_size if gso_type else 0
    ecn = codepoint(frame, start)
    return Packet(flow, header, options, size, end - start, gso_size, head, ecn)


@lru_cache(maxsize=RECENT)
def checksum_is_good(frame: bytes) -> bool:
    """Whether a stack will accept the TCP checksum of a frame with a whole segment."""
    packet = parse(frame)
    if packet is None:
        return False
    if frame[0] & (virtio.NEEDS_CSUM | virtio.DATA_VALID):
        return True
    src, _, dst, _ = packet.flow
    end = virtio.HEADER_LEN + packet.length
    length = packet.size + packet.header.data_offset
    total = pseudo_sum(src, dst, ipv4.TCP, length) + ones_sum(frame[end - length : end])
    return total % 65535 == 0


def text(packet: Packet) -> str:
    """The packet in words, for a message."""
    header = packet.header
    flags = tcp.flags_text(header.flags)
    return (
        f"[{flags}] {header.src_port} > {header.dst_port} seq {header.seq} len {packet.size} "
        f"ack {header.ack} win {header.window}"
    )
