"""The UDP header and its checksum. RFC 768; RFC 8200 §8.1 for the checksum over IPv6."""

import struct
from typing import NamedTuple

from ustack.errors import MalformedPacket
from ustack.wire import Buffer, ipv4
from ustack.wire.checksum import checksum, fold, ones_sum, pseudo_sum

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


def encode_datagram(src: bytes, dst: bytes, src_port: int, dst_port: int, payload: Buffer) -> bytes:
    """The whole datagram between these addresses, its checksum complete.

    A checksum of 0 goes as all ones, which is the same number: 0 says that there is none (RFC 768).
    """
    pseudo = pseudo_sum(src, dst, ipv4.UDP, HEADER_LEN + len(payload))
    # The pseudo-header's sum stands in the field while the rest is summed.
    field = checksum(encode(src_port, dst_port, len(payload), pseudo), payload) or 0xFFFF
    return encode(src_port, dst_port, len(payload), field) + payload


def verify(header: UdpHeader, src: bytes, dst: bytes, data: Buffer, start: int) -> None:
    """The checksum of the datagram data[start:], sent from `src` to `dst`, is right.

    Over IPv4 there may be none (RFC 768), over IPv6 there must be one (RFC 8200 §8.1). Raises
    MalformedPacket.
    """
    if not header.checksum:
        if len(src) == 16:
            raise MalformedPacket("udp-checksum")
        return
    total = pseudo_sum(src, dst, ipv4.UDP, header.length)
    if fold(total + ones_sum(memoryview(data)[start : start + header.length])) != 0xFFFF:
        raise MalformedPacket("udp-checksum")
