"""IP under TCP: our addresses, header templates, the emission of segments, path MTU.

`Output.emit` is one of the three places where speed comes first: it runs once per packet.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2s
from ipaddress import ip_address, ip_interface
from struct import Struct

from ustack.config import StackConfig, TcpConfig
from ustack.errors import UsageError
from ustack.stack.flows import split_key
from ustack.stack.probe import Probe
from ustack.stack.trace import Tracer
from ustack.tcp.handshake import IPV4_TCP_HEADERS, IPV6_TCP_HEADERS
from ustack.tcp.seq import MASK32
from ustack.tcp.tcb import Tcb
from ustack.wire import Buffer, ipv4, ipv6, virtio
from ustack.wire import tcp as wire_tcp
from ustack.wire.checksum import checksum, fold, ones_sum, pseudo_sum
from ustack.wire.ecn import set_ecn_bits
from ustack.wire.ipv4 import MAX_PACKET, TCP
from ustack.wire.tcp import ACK

Write = Callable[[Sequence[Buffer], int], bool]

MIN_MTU_IPV4 = 68  # bytes, RFC 791 §3.2; also the floor for path MTU (RFC 1191 §3)
MIN_MTU_IPV6 = 1280  # RFC 8200 §5
PATH_MTU_LIFETIME_US = 600 * 1_000_000  # RFC 1191 §6.3, RFC 8201 §5.3: 10 minutes
MAX_PATH_MTUS = 4096  # destinations remembered
PARTS = 2  # a burst leaves in so many frames at least: the peer begins with the first
MAX_QUEUE = 4096  # frames that wait for a device that is full; further answers are dropped

_WORD = Struct("!H")
# virtio_net_hdr, version to DSCP, total length, identification, fragment to protocol, checksum,
# addresses and ports; then SEQ, ACK, offset and flags, window, checksum, urgent pointer
_V4_TCP = Struct("!10s2sHH4sH12sIIHHHH")
# virtio_net_hdr, version to flow label, payload length, next header to ports; then as above
_V6_TCP = Struct("!10s4sH38sIIHHHH")
_GSO_HEADER = virtio.HEADER


def packed_address(text: str) -> bytes:
    """An IP address as it is on the wire. UsageError if `text` is none."""
    try:
        return ip_address(text).packed
    except ValueError as error:
        raise UsageError(f"not an IP address: {text!r}") from error


class Addresses:
    """The addresses of this host, in bytes, and what may not be talked to."""

    def __init__(self, config: StackConfig) -> None:
        self._own: dict[bytes, str] = {}
        self._broadcasts = {b"\xff\xff\xff\xff"}
        self._sources: list[tuple[int, int, int, bytes]] = []  # version, network, mask, own
        for text in config.addresses:
            try:
                interface = ip_interface(text)
            except ValueError as error:
                raise UsageError(f"not an address with a prefix: {text!r}") from error
            packed = interface.ip.packed
            self._own[packed] = str(interface.ip)
            network = interface.network
            self._sources.append(
                (interface.version, int(network.network_address), int(network.netmask), packed)
            )
            if interface.version == 4 and network.prefixlen < 31:
                self._broadcasts.add(network.broadcast_address.packed)
                self._broadcasts.add(network.network_address.packed)

    def is_own(self, address: bytes) -> bool:
        """It is one of ours, or in the loopback network."""
        return address in self._own

    def text(self, address: bytes) -> str:
        """The address as people write it."""
        return self._own.get(address) or _written(address)

    def source_for(self, remote: bytes) -> bytes | None:
        """Our address to talk to `remote` from: one in its network, else the first of its family
        (MUST-44)."""
        version = 4 if len(remote) == 4 else 6
        number = int.from_bytes(remote, "big")
        first: bytes | None = None
        for family, network, mask, own in self._sources:
            if family == version:
                if number & mask == network:
                    return own
                first = first or own
        return first

    def is_unicast(self, address: bytes) -> bool:
        """An address a connection can have (MUST-46, MUST-57, MUST-63; RFC 1122 §3.2.1.3)."""
        if len(address) == 4:
            first = address[0]
            return 0 < first < 224 and first != 127 and address not in self._broadcasts
        return address[0] != 0xFF and any(address) and address != b"\x00" * 15 + b"\x01"


@lru_cache(maxsize=256)
def _written(address: bytes) -> str:
    return str(ip_address(address))


@lru_cache(maxsize=256)
def _ipv4_parts(
    src: bytes, dst: bytes, ttl: int, dscp: int, dont_fragment: bool
) -> tuple[bytes, bytes, bytes, int, int]:
    """What the headers of all TCP packets from one host to another have in common.

    Version to DSCP, fragment bits to protocol, both addresses; the sum of all that, and that of
    the pseudo-header without the length. A new connection from a known host need not encode it,
    and shares the objects.
    """
    head = ipv4.encode(src, dst, TCP, 0, ttl=ttl, dscp=dscp, dont_fragment=dont_fragment)
    first, middle, addresses = head[:2], head[6:10], head[12:]
    return (
        first,
        middle,
        addresses,
        ones_sum(first + middle + addresses),
        pseudo_sum(src, dst, TCP, 0),
    )


@lru_cache
def checksum_left(at: int) -> bytes:
    """The virtio_net_hdr of a plain segment whose checksum the device completes.

    `at`: where the TCP header begins, in bytes of the packet.
    """
    return _GSO_HEADER.pack(virtio.NEEDS_CSUM, virtio.GSO_NONE, 0, 0, at, wire_tcp.CHECKSUM_OFFSET)


class HeaderTemplate:
    """The headers of one connection with everything in place that does not change."""

    __slots__ = (
        "ends",
        "first",
        "gso_for",
        "gso_start",
        "ident",
        "ip_sum",
        "middle",
        "pseudo",
        "start",
        "version",
    )

    def __init__(
        self, tcb: Tcb, src: bytes, dst: bytes, *, offload: bool, ident: int, label: int
    ) -> None:
        """`ident`: the first IPv4 identification; `label`: the IPv6 flow label."""
        config = tcb.config
        ports = tcb.flow[-2:] + tcb.flow[-4:-2]
        if len(src) == 4:
            self.version = 4
            # `ip_sum` is of all but length, identification and the checksum itself
            self.first, self.middle, addresses, self.ip_sum, self.pseudo = _ipv4_parts(
                src, dst, config.ttl, config.dscp, config.path_mtu_discovery
            )
            self.ends = addresses + ports
            size = ipv4.HEADER_LEN
        else:
            self.version = 6
            head = ipv6.encode(
                src, dst, TCP, 0, hop_limit=config.ttl, dscp=config.dscp, flow_label=label
            )
            self.first = head[:4]
            self.middle = b""
            self.ends = head[6:] + ports
            self.ip_sum = 0
            self.pseudo = pseudo_sum(src, dst, TCP, 0)
            size = ipv6.HEADER_LEN
        self.ident = ident
        self.start = virtio.PLAIN  # the virtio_net_hdr of one plain segment
        if offload:
            self.start = checksum_left(size)
        self.gso_for = 0, 0
        self.gso_start = b""

    def super_start(self, mss: int, length: int) -> bytes:
        """The virtio_net_hdr of a super-segment with a TCP header of `length` bytes."""
        if self.gso_for != (mss, length):
            at = 20 if self.version == 4 else 40
            kind = virtio.GSO_TCPV4 if self.version == 4 else virtio.GSO_TCPV6
            self.gso_for = mss, length
            self.gso_start = _GSO_HEADER.pack(
                virtio.NEEDS_CSUM, kind, at + length, mss, at, wire_tcp.CHECKSUM_OFFSET
            )
        return self.gso_start


class Output:
    """Turns segments and messages into frames for the device of the moment.

    Between flushes frames wait in `queue`; the stack hands them out first at the next flush.
    """

    __slots__ = (
        "_dscp",
        "_gso",
        "_larger",
        "_offload",
        "_probe",
        "_ttl",
        "_write",
        "full",
        "now",
        "queue",
        "tracer",
    )

    def __init__(self, config: StackConfig, probe: Probe | None) -> None:
        self._offload = config.checksum_offload
        self._gso = config.gso_max > 0
        self._larger = config.gso_max // MAX_PACKET  # super-segments in one frame, BIG TCP: over 1
        self._ttl = config.tcp.ttl
        self._dscp = config.tcp.dscp
        self._probe = probe
        self.tracer: Tracer | None = None
        self._write: Write | None = None
        self.queue: list[tuple[Sequence[Buffer], str]] = []
        self.now = 0
        self.full = False  # the device refused the last frame offered to it

    def begin(self, write: Write, now: int) -> bool:
        """A flush begins: hand out what waits. False: the device is full."""
        self._write = write
        self.now = now
        self.full = False
        while self.queue:
            waiting, self.queue = self.queue, []
            for index, (parts, note) in enumerate(waiting):
                if not write(parts, now):
                    self.queue = waiting[index:]
                    self.full = True
                    return False
                if self._probe is not None:
                    self._probe.sent(parts, note, now)
        return True

    def carries(self, gso_max: int) -> None:
        """The device takes packets of up to `gso_max` bytes from now on; the loss of larger ones
        that wait is TCP's to repair."""
        self._larger = gso_max // MAX_PACKET
        self.queue = [
            (parts, note)
            for parts, note in self.queue
            if sum(map(len, parts)) <= virtio.HEADER_LEN + gso_max
        ]

    def end(self) -> None:
        """The flush is over: no device to write to."""
        self._write = None

    def send(self, parts: Sequence[Buffer], note: str) -> bool:
        """Write one frame, or queue it when no flush is going on. False: the device is full."""
        write = self._write
        if write is None:
            if len(self.queue) >= MAX_QUEUE:
                return False
            self.queue.append((parts, note))
            return True
        if not write(parts, self.now):
            self.full = True
            return False
        if self._probe is not None:
            self._probe.sent(parts, note, self.now)
        return True

    def emit(
        self,
        tcb: Tcb,
        seq: int,
        flags: int,
        window: int,
        options: bytes,
        payload: Sequence[Buffer],
        size: int,
        urgent: int,
        note: str,
    ) -> bool:  # hot
        """Send one segment, or super-segment, of `tcb` (tcp.emit.Emit). False: device full."""
        template: HeaderTemplate = tcb.header  # type: ignore[assignment]
        length = 20 + len(options)  # TCP header
        mss = tcb.snd.mss
        start, segments = template.start, 1
        if size > mss and self._gso:
            if size > tcb.snd.gso_limit:
                return self._emit_burst(tcb, seq, flags, window, options, payload, size, note)
            start = template.super_start(mss, length)
            segments = -(-size // mss)
        ack = tcb.rcv.nxt & MASK32 if flags & ACK else 0
        # fold(x) for x > 0 is (x - 1) % 65535 + 1: one's complement sums count modulo 65535
        pseudo = (template.pseudo + length + size - 1) % 65535 + 1
        if template.version == 4:
            total = 20 + length + size
            ident = template.ident
            template.ident = (ident + (size // mss or 1)) & 0xFFFF
            header = _V4_TCP.pack(
                start,
                template.first,
                total,
                ident,
                template.middle,
                65534 - (template.ip_sum + total + ident - 1) % 65535,
                template.ends,
                seq & MASK32,
                ack,
                length << 10 | flags,
                window,
                pseudo,
                urgent,
            )
        else:
            header = _V6_TCP.pack(
                start,
                template.first,
                length + size,
                template.ends,
                seq & MASK32,
                ack,
                length << 10 | flags,
                window,
                pseudo,
                urgent,
            )
        if options:
            header += options
        if not self._offload:
            header = _with_checksum(header, 30 if template.version == 4 else 50, payload)
        if tcb.ecn is not None:
            header = _mark(header, tcb.ecn.mark, flags)
        write = self._write
        if write is None or self._probe is not None:
            if not self.send((header, *payload), tcb.note or note):
                return False
        elif not write((header, *payload), self.now):  # as `send` does
            self.full = True
            return False
        tcb.counters.segments_out += segments
        if self.tracer is not None:
            self.tracer.sent(tcb, seq, flags, window, options, size, note, self.now)
        if tcb.note:
            tcb.note = ""
        return True

    def _emit_burst(
        self,
        tcb: Tcb,
        seq: int,
        flags: int,
        window: int,
        options: bytes,
        payload: Sequence[Buffer],
        size: int,
        note: str,
    ) -> bool:  # hot
        """`emit` of many super-segments of SND.GSO_LIMIT bytes: what they share is found once."""
        template: HeaderTemplate = tcb.header  # type: ignore[assignment]
        mss, length = tcb.snd.mss, 20 + len(options)
        start, first, middle = template.super_start(mss, length), template.first, template.middle
        ends, ident, version = template.ends, template.ident, template.version
        fields = tcb.rcv.nxt & MASK32, length << 10 | flags, window
        note = tcb.note or note
        write = self._write if self._probe is None else None
        step = tcb.snd.gso_limit
        if self._larger > 1 and write is not None and version == 4:
            step *= max(min(self._larger, size // step // PARTS), 1)
        at = taken = 0
        for parts in _cut(payload, step):
            if taken != min(step, size - at):  # only the last may be shorter
                taken = min(step, size - at)
                total = 20 + length + taken
                pseudo = (template.pseudo + length + taken - 1) % 65535 + 1
                segments = taken // mss
                if total > MAX_PACKET:
                    total = 0  # BIG TCP: the length is that of the frame
                ip_sum = template.ip_sum + total - 1
            number = seq + at & MASK32
            if version == 4:
                check = 65534 - (ip_sum + ident) % 65535
                header = _V4_TCP.pack(
                    start, first, total, ident, middle, check, ends, number, *fields, pseudo, 0
                )
            else:
                header = _V6_TCP.pack(start, first, total - 20, ends, number, *fields, pseudo, 0)
            frame = (header + options, *parts)
            if not (write(frame, self.now) if write is not None else self.send(frame, note)):
                self.full = True
                if not at:
                    return False
                self.queue.append((frame, note))
                write = self._write = _refuse  # until the next flush: nothing is to overtake it
            ident = ident + segments & 0xFFFF
            if self.tracer is not None:
                self.tracer.sent(tcb, seq + at, flags, window, options, taken, note, self.now)
            note = ""
            at += taken
        template.ident = ident
        tcb.counters.segments_out += size // mss
        tcb.note = ""
        return True

    def segment(
        self,
        flow: bytes,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        options: bytes,
        note: str,
        *,
        config: TcpConfig | None = None,
        label: int = 0,
    ) -> None:
        """Send a segment that belongs to no Tcb: RST, the ACK of a TIME-WAIT, or a SYN,ACK.

        With the DSCP and TTL of `config`, by default the stack's; `label` is the IPv6 flow label.
        """
        dst, src, _, _ = split_key(flow)
        ports = flow[-2:] + flow[-4:-2]
        length = 20 + len(options)
        ttl, dscp, dont_fragment = self._ttl, self._dscp, True
        if config is not None:
            ttl, dscp, dont_fragment = config.ttl, config.dscp, config.path_mtu_discovery
        fields = seq & MASK32, ack & MASK32, length << 10 | flags, window
        if len(src) == 4:
            first, middle, addresses, ip_sum, pseudo = _ipv4_parts(
                src, dst, ttl, dscp, dont_fragment
            )
            size = ipv4.HEADER_LEN
            frame = _V4_TCP.pack(
                checksum_left(size) if self._offload else virtio.PLAIN,
                first,
                size + length,
                0,
                middle,
                65534 - (ip_sum + size + length - 1) % 65535,
                addresses + ports,
                *fields,
                fold(pseudo + length),
                0,
            )
        else:
            size = ipv6.HEADER_LEN
            head = ipv6.encode(src, dst, TCP, length, hop_limit=ttl, dscp=dscp, flow_label=label)
            frame = _V6_TCP.pack(
                checksum_left(size) if self._offload else virtio.PLAIN,
                head[:4],
                length,
                head[6:] + ports,
                *fields,
                pseudo_sum(src, dst, TCP, length),
                0,
            )
        frame += options
        if not self._offload:
            frame = _with_checksum(frame, virtio.HEADER_LEN + size, ())
        self.send((frame,), note)

    def fragments(
        self,
        src: bytes,
        dst: bytes,
        protocol: int,
        payload: bytes,
        mtu: int,
        randrange: Callable[[int], int],
        *,
        ttl: int | None = None,
        tos: int = 0,
        label: int = 0,
    ) -> None:
        """Send one datagram in pieces that fit the link (RFC 791 §3.2, RFC 8200 §4.5).

        `ttl` None: the stack's; `tos`: the octet of DSCP and ECN; `label`: of the IPv6 flow.
        """
        ttl = self._ttl if ttl is None else ttl
        if len(src) == 4:
            room = (mtu - ipv4.HEADER_LEN) & ~7
            ident = randrange(1 << 16)
        else:
            room = (mtu - ipv6.HEADER_LEN - ipv6.FRAGMENT_LEN) & ~7
            ident = randrange(1 << 32)
        for offset in range(0, len(payload), room):
            piece = payload[offset : offset + room]
            more = offset + room < len(payload)
            if len(src) == 4:
                head = ipv4.encode(
                    src,
                    dst,
                    protocol,
                    len(piece),
                    ttl=ttl,
                    dscp=tos >> 2,
                    ecn=tos & 3,
                    ident=ident,
                    more_fragments=more,
                    fragment_offset=offset,
                )
            else:
                extension = ipv6.encode_fragment(protocol, ipv6.Fragment(offset, more, ident))
                head = ipv6.encode(
                    src,
                    dst,
                    ipv6.FRAGMENT_HEADER,
                    len(extension) + len(piece),
                    hop_limit=ttl,
                    dscp=tos >> 2,
                    ecn=tos & 3,
                    flow_label=label,
                )
                head += extension
            self.send((virtio.PLAIN + head + piece,), "")

    def packet(
        self, src: bytes, dst: bytes, protocol: int, payload: bytes, note: str, *, dscp: int = 0
    ) -> None:
        """Send one IP packet whose payload is complete; too large for the link is not sent."""
        if len(src) == 4:
            head = ipv4.encode(
                src, dst, protocol, len(payload), ttl=self._ttl, dscp=dscp, dont_fragment=True
            )
        else:
            head = ipv6.encode(src, dst, protocol, len(payload), hop_limit=self._ttl, dscp=dscp)
        self.send((virtio.PLAIN + head + payload,), note)


def _cut(pieces: Sequence[Buffer], size: int) -> Iterator[list[Buffer]]:
    """The same bytes in lists of `size` bytes; the last may have fewer."""
    parts: list[Buffer] = []
    room = size
    for piece in pieces:
        view = memoryview(piece)
        while view:
            part = view[:room]
            view = view[room:]
            parts.append(part)
            room -= len(part)
            if not room:
                yield parts
                parts, room = [], size
    if parts:
        yield parts


def _refuse(parts: Sequence[Buffer], now: int) -> bool:
    """The device is full: so it said, and nobody asks again."""
    return False


def _mark(frame: bytes, field: int, flags: int) -> bytes:
    """Put the ECN field into a frame of Output.emit.

    Of a super-segment with CWR only the first piece has it (RFC 3168 §6.1.2): the device must know
    (virtio 1.2 §5.1.6.2).
    """
    header = bytearray(frame)
    if header[1] != virtio.GSO_NONE and flags & wire_tcp.CWR:
        header[1] |= virtio.GSO_ECN
    if field:
        set_ecn_bits(header, virtio.HEADER_LEN, field)
    return bytes(header)


def _with_checksum(frame: bytes, at: int, payload: Sequence[Buffer]) -> bytes:
    """Complete the checksum: the pseudo-header's sum stands in the field while the rest is summed.

    The TCP header is frame[at:].
    """
    header = bytearray(frame)
    field = checksum(memoryview(header)[at:], *payload)
    _WORD.pack_into(header, at + wire_tcp.CHECKSUM_OFFSET, field)
    return bytes(header)


class PathMtus:
    """What routers said about paths, per destination, for ten minutes (RFC 1191, RFC 8201)."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, int]] = {}

    def get(self, remote: bytes, mtu: int, now: int) -> int:
        """The path MTU to `remote`, at most the interface's `mtu`. Bytes."""
        known = self._known.get(remote)
        if known is None:
            return mtu
        if now >= known[1]:
            del self._known[remote]
            return mtu
        return min(mtu, known[0])

    def lower(self, remote: bytes, mtu: int, now: int) -> None:
        """Remember a smaller path MTU; the oldest entry goes when the table is full."""
        self._known.pop(remote, None)
        if len(self._known) >= MAX_PATH_MTUS:
            del self._known[next(iter(self._known))]
        self._known[remote] = (mtu, now + PATH_MTU_LIFETIME_US)


def flow_label(flow: bytes, secret: bytes) -> int:
    """The IPv6 flow label of a connection: uniform, hard to guess and never 0 (RFC 6437 §3)."""
    digest = blake2s(flow, key=secret, digest_size=4, person=b"label").digest()
    return int.from_bytes(digest, "big") % 0xFFFFF + 1


def fixed_headers(address: bytes) -> int:
    """IP and TCP headers without options, in bytes."""
    return IPV4_TCP_HEADERS if len(address) == 4 else IPV6_TCP_HEADERS
