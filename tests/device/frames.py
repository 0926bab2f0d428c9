"""Frames for the tests of the devices: a virtio header and one packet each."""

import ipaddress

from ustack.errors import MalformedPacket
from ustack.wire import ipv4, ipv6, tcp, udp
from ustack.wire.checksum import checksum, ones_sum, pseudo_sum
from ustack.wire.virtio import (
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    HEADER,
    HEADER_LEN,
    NEEDS_CSUM,
    PLAIN,
)

OURS = ("10.9.0.2", "fd00:9::2")
KERNELS = ("10.9.0.1", "fd00:9::1")


def tcp_frame(
    payload: bytes = b"",
    *,
    src: str = OURS[0],
    dst: str = KERNELS[0],
    src_port: int = 80,
    dst_port: int = 40000,
    seq: int = 0xFFFF_FF00,
    ack: int = 1,
    flags: int = tcp.ACK,
    options: bytes = b"",
    partial: bool = False,
    gso_size: int = 0,
) -> bytes:
    """One TCP packet; `partial`: the checksum is left to the device; `gso_size`: super-segment."""
    source, destination = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    segment = tcp.encode(src_port, dst_port, seq, ack, flags, 65535, options=options)
    length = len(segment) + len(payload)
    pseudo = pseudo_sum(source.packed, destination.packed, ipv4.TCP, length)
    partial = partial or bool(gso_size)
    field = pseudo if partial else checksum(pseudo.to_bytes(2, "big"), segment, payload)
    segment = tcp.encode(
        src_port, dst_port, seq, ack, flags, 65535, options=options, checksum=field
    )
    if source.version == 4:
        gso_type = GSO_TCPV4
        ip = ipv4.encode(source.packed, destination.packed, ipv4.TCP, length, dont_fragment=True)
    else:
        gso_type = GSO_TCPV6
        ip = ipv6.encode(source.packed, destination.packed, ipv6.TCP, length)
    virtio = PLAIN
    if partial:
        virtio = HEADER.pack(
            NEEDS_CSUM,
            gso_type if gso_size else GSO_NONE,
            len(ip) + len(segment) if gso_size else 0,
            gso_size,
            len(ip),
            tcp.CHECKSUM_OFFSET,
        )
    return virtio + ip + segment + payload


def udp_frame(
    payload: bytes = b"",
    *,
    src: str = OURS[0],
    dst: str = KERNELS[0],
    src_port: int = 7,
    dst_port: int = 40000,
) -> bytes:
    """One UDP packet with its checksum complete."""
    source, destination = ipaddress.ip_address(src), ipaddress.ip_address(dst)
    length = udp.HEADER_LEN + len(payload)
    pseudo = pseudo_sum(source.packed, destination.packed, ipv4.UDP, length)
    datagram = udp.encode(src_port, dst_port, len(payload))
    field = checksum(pseudo.to_bytes(2, "big"), datagram, payload)
    datagram = udp.encode(src_port, dst_port, len(payload), checksum=field)
    encode = ipv4.encode if source.version == 4 else ipv6.encode
    return PLAIN + encode(source.packed, destination.packed, ipv4.UDP, length) + datagram + payload


def payload_of(frame: bytes) -> bytes:
    """The TCP payload of a frame without IPv6 extension headers."""
    start, end, _ = _segment(frame)
    return frame[start + tcp.decode(frame, start, end).data_offset : end]


def seq_of(frame: bytes) -> int:
    start, end, _ = _segment(frame)
    return tcp.decode(frame, start, end).seq


def checksum_is_good(frame: bytes) -> bool:
    """Whether the transport checksum (and that of the IPv4 header) is complete and right."""
    try:
        start, end, pseudo = _segment(frame)
    except MalformedPacket:
        return False
    return ones_sum(pseudo.to_bytes(2, "big") + frame[start:end]) == 0xFFFF


def _segment(frame: bytes) -> tuple[int, int, int]:
    """Where the segment begins and ends in the frame, and its pseudo-header sum."""
    if frame[HEADER_LEN] >> 4 == 4:
        v4 = ipv4.decode(frame, HEADER_LEN)
        start, end = HEADER_LEN + v4.header_len, HEADER_LEN + v4.total_length
        return start, end, pseudo_sum(v4.src, v4.dst, v4.protocol, end - start)
    v6 = ipv6.decode(frame, HEADER_LEN)
    start, end = v6.payload_offset, v6.end
    return start, end, pseudo_sum(v6.src, v6.dst, v6.protocol, end - start)
