"""What a device without offload must do to a frame: complete its checksum, cut super-segments.

Owns the equivalence between an offloaded frame and the wire packets it stands for, as the Linux
kernel's GSO gives it. Virtio 1.2 §5.1.6.2; used by links, captures and tests, not by the TUN.
"""

import struct

from ustack.errors import MalformedPacket
from ustack.wire import ipv4, ipv6, tcp, udp
from ustack.wire.checksum import checksum, fold
from ustack.wire.virtio import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    HEADER,
    HEADER_LEN,
    NEEDS_CSUM,
    PLAIN,
)

_HALF = struct.Struct("!H")
_LENGTH_IDENT = struct.Struct("!HH")  # IPv4 total length and identification, at byte 2


def complete_checksum(frame: bytes) -> bytes:
    """The same packet with an all-zero virtio header and its transport checksum complete.

    Raises MalformedPacket for a super-segment (use `split`) and for a field outside the packet.
    """
    if len(frame) < HEADER_LEN:
        raise MalformedPacket("virtio-truncated")
    flags, gso_type, _, _, csum_start, csum_offset = HEADER.unpack_from(frame)
    if gso_type != GSO_NONE:
        raise MalformedPacket("virtio-gso")
    if not flags & NEEDS_CSUM:
        return frame if frame.startswith(PLAIN) else PLAIN + frame[HEADER_LEN:]
    covered = HEADER_LEN + csum_start
    field = covered + csum_offset
    if field + 2 > len(frame):
        raise MalformedPacket("virtio-checksum-field")
    value = checksum(memoryview(frame)[covered:])
    if value == 0 and csum_offset == udp.CHECKSUM_OFFSET:
        value = 0xFFFF  # 0 would say that there is no checksum: RFC 768
    return b"".join((PLAIN, frame[HEADER_LEN:field], value.to_bytes(2, "big"), frame[field + 2 :]))


def split(frame: bytes) -> list[bytes]:
    """The wire packets that `frame` stands for, each behind an all-zero virtio header.

    A TCP super-segment is cut every gso_size bytes of payload: SEQ and the IPv4 identification
    go on, FIN and PSH stay for the last piece, CWR for the first (RFC 3168 §6.1.2). Any other
    frame comes back alone and complete. URG is repeated as it is: Linux builds no super-segment
    in urgent mode. It may be one of BIG TCP. Raises MalformedPacket when the virtio header
    contradicts the packet.
    """
    if len(frame) < HEADER_LEN:
        raise MalformedPacket("virtio-truncated")
    flags, gso_type, _, gso_size, csum_start, csum_offset = HEADER.unpack_from(frame)
    if gso_type == GSO_NONE:
        return [complete_checksum(frame)]
    if not flags & NEEDS_CSUM or csum_offset != tcp.CHECKSUM_OFFSET or not gso_size:
        raise MalformedPacket("virtio-gso")

    packet = memoryview(frame)[HEADER_LEN:]
    ident = _check_ip(packet, gso_type & ~GSO_ECN, csum_start)
    header = tcp.decode(packet, csum_start, len(packet))
    payload_start = csum_start + header.data_offset
    # The field holds the pseudo-header's sum: take the whole's length out, each piece's go in.
    pseudo = header.checksum + 0xFFFF - fold(len(packet) - csum_start)
    frames: list[bytes] = []
    for start in range(payload_start, max(len(packet), payload_start + 1), gso_size):
        payload = packet[start : start + gso_size]
        piece_flags = header.flags
        if start != payload_start:
            piece_flags &= ~tcp.CWR
        if start + gso_size < len(packet):
            piece_flags &= ~(tcp.FIN | tcp.PSH)
        piece = bytearray(packet[:payload_start])
        piece_length = payload_start + len(payload)
        if ident is None:
            _HALF.pack_into(piece, 4, piece_length - ipv6.HEADER_LEN)
        else:
            _LENGTH_IDENT.pack_into(piece, 2, piece_length, (ident + len(frames)) & 0xFFFF)
            _HALF.pack_into(piece, 10, 0)
            _HALF.pack_into(piece, 10, checksum(piece[:csum_start]))
        tcp.HEADER.pack_into(
            piece,
            csum_start,
            header.src_port,
            header.dst_port,
            (header.seq + start - payload_start) & 0xFFFF_FFFF,
            header.ack,
            header.data_offset // 4 << 12 | piece_flags,
            header.window,
            fold(pseudo + piece_length - csum_start),
            header.urgent,
        )
        value = checksum(piece[csum_start:], payload)
        _HALF.pack_into(piece, csum_start + tcp.CHECKSUM_OFFSET, value)
        frames.append(b"".join((PLAIN, piece, payload)))
    return frames


def _check_ip(packet: memoryview, gso_type: int, csum_start: int) -> int | None:
    """The IPv4 identification, None for IPv6, of a whole TCP packet that begins at csum_start."""
    if gso_type == GSO_TCPV4:
        v4 = ipv4.decode(packet, 0, big=True)
        fragment = v4.more_fragments or v4.fragment_offset
        if v4.total_length == len(packet) and v4.header_len == csum_start and not fragment:
            if v4.protocol == ipv4.TCP:
                return v4.ident
    elif gso_type == GSO_TCPV6:
        v6 = ipv6.decode(packet, 0)
        if v6.end == len(packet) and v6.payload_offset == csum_start and not v6.fragment:
            if v6.protocol == ipv6.TCP and not v6.problem:
                return None
    raise MalformedPacket("virtio-gso")
