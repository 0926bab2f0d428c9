"""The UDP header. RFC 768; RFC 8200 §8.1 for the checksum over IPv6."""

import struct
from typing import NamedTuple

from ustack.errors import MalformedPacket
from ustack.wire import Buffer

HEADER = struct.Struct("!HHHH")  # source port, destination port, length, checksum
HEADER_LEN = 8  # bytes; RFC 768
CHECKSUM_OFFSET = 6  # bytes; virtio csum_offset of a datagram


class UdpHeader(NamedTuple):
    """The header. The data is data[start + HEADER_LEN : start + length]."""

    src_port: int
    dst_port: int
    length: int  # bytes, header included
    checksum: int  # not verified; 0: the sender made none (RFC 768)


def decode(data: Buffer, start: int, end: int) -> UdpHeader:
    """The header of the datagram data[start:end], whose length lies inside it.

    Raises MalformedPacket. The checksum is not verified: the frame may vouch for it.
    """
    if end - start < HEADER_LEN or end > len(data):
        raise MalformedPacket("udp-truncated")
    header = UdpHeader(*HEADER.unpack_from(data, start))
    if not HEADER_LEN <= header.length <= end - start:
        raise MalformedPacket("udp-length")
    return header


def encode(src_port: int, dst_port: int, payload_length: int, checksum: int = 0) -> bytes:
    """The header for `payload_length` bytes. `checksum` is written as given."""
    return HEADER.pack(src_port, dst_port, HEADER_LEN + payload_length, checksum)
