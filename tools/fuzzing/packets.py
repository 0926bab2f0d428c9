"""Frames for and from the stack under test. Owns addresses and layouts, knows no connection."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from ustack.wire import Buffer, gso, icmp, ipv4, ipv6, tcp, virtio
from ustack.wire.checksum import checksum, fold, ones_sum, pseudo_sum
from ustack.wire.ecn import set_ecn_bits
from ustack.wire.tcp_options import Options, decode_options

OURS = {4: "10.0.0.1", 6: "fd00::1"}
THEIRS = {4: "10.0.0.2", 6: "fd00::2"}
MASK32 = 0xFFFF_FFFF


def packed(address: str) -> bytes:
    """The address as it stands in a header."""
    return ip_address(address).packed


def tcp_segment(
    src: bytes,
    dst: bytes,
    ports: tuple[int, int],
    seq: int,
    ack: int,
    flags: int,
    window: int,
    payload: bytes = b"",
    *,
    options: bytes = b"",
    urgent: int = 0,
) -> bytes:
    """TCP header, options (padded here) and payload, the checksum good."""
    options += bytes(-len(options) % 4)
    head = tcp.encode(
        *ports, seq & MASK32, ack & MASK32, flags, window, options=options, urgent=urgent
    )
    pseudo = pseudo_sum(src, dst, ipv4.TCP, len(head) + len(payload))
    field = checksum(pseudo.to_bytes(2, "big"), head, payload)
    at = tcp.CHECKSUM_OFFSET
    return head[:at] + field.to_bytes(2, "big") + head[at + 2 :] + payload


def ip_frame(src: bytes, dst: bytes, protocol: int, payload: bytes) -> bytes:
    """One IP packet behind an all-zero virtio header."""
    if len(src) == 4:
        head = ipv4.encode(src, dst, protocol, len(payload))
    else:
        head = ipv6.encode(src, dst, protocol, len(payload))
    return virtio.PLAIN + head + payload


def marked(frame: bytes, codepoint: int) -> bytes:
    """`frame` with the bits of `codepoint` set in its ECN field."""
    changed = bytearray(frame)
    set_ecn_bits(changed, virtio.HEADER_LEN, codepoint)
    return bytes(changed)


def ip_fragment(
    src: bytes, dst: bytes, protocol: int, piece: bytes, offset: int, more: bool, ident: int
) -> bytes:
    """One piece of a datagram behind an all-zero virtio header. `offset`: a multiple of 8."""
    if len(src) == 4:
        head = ipv4.encode(
            src,
            dst,
            protocol,
            len(piece),
            ident=ident,
            more_fragments=more,
            fragment_offset=offset,
        )
    else:
        extension = ipv6.encode_fragment(protocol, ipv6.Fragment(offset, more, ident))
        head = ipv6.encode(src, dst, ipv6.FRAGMENT_HEADER, len(extension) + len(piece)) + extension
    return virtio.PLAIN + head + piece


def icmp_frame(src: bytes, dst: bytes, kind: int, code: int, rest: int, body: bytes) -> bytes:
    """An ICMP message of the addresses' version behind an all-zero virtio header."""
    if len(src) == 4:
        return ip_frame(src, dst, ipv4.ICMP, icmp.encode_v4(kind, code, rest, body))
    return ip_frame(src, dst, ipv6.ICMPV6, icmp.encode_v6(src, dst, kind, code, rest, body))


@dataclass(frozen=True, slots=True)
class Sent:
    """One wire packet that left the stack, every length and checksum of it verified."""

    length: int  # bytes of the IP packet
    protocol: int
    src: bytes
    dst: bytes
    header: tcp.TcpHeader | None  # None: not TCP
    options: Options | None
    payload: bytes  # of the segment, or of the IP packet if it is not TCP

    @property
    def flow(self) -> bytes:
        """The key under which the stack holds this connection."""
        assert self.header is not None
        ports = (self.header.dst_port, self.header.src_port)
        return self.dst + self.src + b"".join(port.to_bytes(2, "big") for port in ports)


def wire_packets(parts: Sequence[Buffer]) -> list[Sent]:
    """The packets that a frame written to the device stands for. AssertionError: a bad one."""
    frame = b"".join(parts)
    return [_parse(piece) for piece in gso.split(frame)]


def _parse(frame: bytes) -> Sent:
    start = virtio.HEADER_LEN
    if frame[start] >> 4 == 4:
        v4 = ipv4.decode(frame, start)
        at, end, protocol, src, dst = (
            start + v4.header_len,
            start + v4.total_length,
            v4.protocol,
            v4.src,
            v4.dst,
        )
        piece = v4.more_fragments or v4.fragment_offset > 0
    else:
        v6 = ipv6.decode(frame, start)
        at, end, protocol, src, dst = v6.payload_offset, v6.end, v6.protocol, v6.src, v6.dst
        piece = v6.fragment is not None
    assert end == len(frame), "the IP length is not that of the frame"
    length = end - start
    body = frame[at:end]
    if protocol != ipv4.TCP or piece:
        return Sent(length, protocol, src, dst, None, None, body)
    total = pseudo_sum(src, dst, ipv4.TCP, len(body)) + ones_sum(body)
    assert fold(total) == 0xFFFF, "bad TCP checksum"
    header = tcp.decode(body, 0, len(body))
    options = decode_options(body, tcp.HEADER_LEN, header.data_offset)
    assert not options.malformed, "malformed options"
    return Sent(length, protocol, src, dst, header, options, body[header.data_offset :])
