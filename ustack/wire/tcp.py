"""The fixed TCP header and its flags.

Owns the layout. Must not know IP, nor what the numbers mean to a connection; options are in
`ustack.wire.tcp_options`. RFC 9293 §3.1; RFC 3168 (ECE, CWR), RFC 9768 (AE).
"""

import struct
from typing import NamedTuple

from ustack.errors import MalformedPacket
from ustack.wire import Buffer

# source port, destination port, SEQ, ACK, data offset (4 bits)+reserved (3)+flags (9), window,
# checksum, urgent pointer
HEADER = struct.Struct("!HHIIHHHH")
HEADER_LEN = 20  # bytes, without options; RFC 9293 §3.1
MAX_OPTIONS_LEN = 40  # bytes; the data offset has four bits: 15 words - 5
CHECKSUM_OFFSET = 16  # bytes; virtio csum_offset of a TCP segment

# Flags, the low nine bits of the offset word
FIN = 0x001  # RFC 9293 §3.1
SYN = 0x002
RST = 0x004
PSH = 0x008
ACK = 0x010
URG = 0x020
ECE = 0x040  # RFC 3168 §6.1
CWR = 0x080
AE = 0x100  # RFC 9768 §3.1; was NS
FLAGS_MASK = 0x1FF

# Letters and their order are tcpdump's.
_LETTERS = (
    (FIN, "F"),
    (SYN, "S"),
    (RST, "R"),
    (PSH, "P"),
    (ACK, "."),
    (URG, "U"),
    (ECE, "E"),
    (CWR, "W"),
    (AE, "e"),
)


class TcpHeader(NamedTuple):
    """The fixed header. Options are data[start + HEADER_LEN : start + data_offset]."""

    src_port: int
    dst_port: int
    seq: int  # low 32 bits
    ack: int  # low 32 bits
    data_offset: int  # bytes, options included
    flags: int
    window: int  # as on the wire: not scaled
    checksum: int  # not verified
    urgent: int


def decode(data: Buffer, start: int, end: int) -> TcpHeader:
    """The header of the segment data[start:end]; its data offset lies inside the segment.

    Raises MalformedPacket. The checksum is not verified: the frame may vouch for it.
    """
    if end - start < HEADER_LEN or end > len(data):
        raise MalformedPacket("tcp-truncated")
    src_port, dst_port, seq, ack, offset_flags, window, checksum, urgent = HEADER.unpack_from(
        data, start
    )
    data_offset = (offset_flags >> 12) * 4
    if data_offset < HEADER_LEN or start + data_offset > end:
        raise MalformedPacket("tcp-data-offset")
    return TcpHeader(
        src_port,
        dst_port,
        seq,
        ack,
        data_offset,
        offset_flags & FLAGS_MASK,
        window,
        checksum,
        urgent,
    )


def encode(
    src_port: int,
    dst_port: int,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    *,
    options: bytes = b"",
    checksum: int = 0,
    urgent: int = 0,
) -> bytes:
    """The header with `options` (a multiple of 4 bytes, at most 40) behind it.

    `checksum` is written as given: the caller knows the pseudo-header.
    """
    assert len(options) % 4 == 0 and len(options) <= MAX_OPTIONS_LEN
    offset_flags = (HEADER_LEN + len(options)) // 4 << 12 | flags
    return (
        HEADER.pack(src_port, dst_port, seq, ack, offset_flags, window, checksum, urgent) + options
    )


def flags_text(flags: int) -> str:
    """The flags as tcpdump writes them: "S." for SYN+ACK, "none" for an empty field."""
    return "".join(letter for flag, letter in _LETTERS if flags & flag) or "none"
