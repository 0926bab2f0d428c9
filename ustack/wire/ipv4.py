"""The IPv4 header and its options.

Owns the header layout. Must not know what the payload is, nor which addresses are ours.
RFC 791 §3.1; RFC 2474 and RFC 3168 for the former TOS byte.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ustack.errors import MalformedPacket
from ustack.wire import Buffer
from ustack.wire.checksum import checksum, ones_sum

# version+IHL, DSCP+ECN, total length, identification, flags+fragment offset, TTL, protocol,
# header checksum, source, destination
HEADER = struct.Struct("!BBHHHBBH4s4s")
HEADER_LEN = 20  # bytes, without options; RFC 791 §3.1
MAX_PACKET = 65_535  # bytes; Total Length has 16 bits
MAX_OPTIONS_LEN = 40  # bytes; IHL has four bits: 15 words - 5

DONT_FRAGMENT = 0x4000  # RFC 791 §3.1, in the flags+offset word
MORE_FRAGMENTS = 0x2000
FRAGMENT_OFFSET_MASK = 0x1FFF  # units of 8 bytes

ICMP = 1  # protocol numbers: IANA
TCP = 6
UDP = 17

OPTION_END = 0  # RFC 791 §3.1
OPTION_NOP = 1
OPTION_RECORD_ROUTE = 7
OPTION_TIMESTAMP = 68
OPTION_LOOSE_SOURCE_ROUTE = 131
OPTION_STRICT_SOURCE_ROUTE = 137
OPTION_ROUTER_ALERT = 148  # RFC 2113


class Ipv4(NamedTuple):
    """A verified header. The payload is packet[start + header_len : start + total_length]."""

    header_len: int  # bytes, options included
    total_length: int  # bytes, header included; the buffer may be longer (padding)
    dscp: int
    ecn: int
    ident: int
    dont_fragment: bool
    more_fragments: bool
    fragment_offset: int  # bytes
    ttl: int
    protocol: int
    src: bytes
    dst: bytes
    options: bytes  # as on the wire, padding included


def decode(packet: Buffer, start: int, *, big: bool = False) -> Ipv4:
    """The header at `packet[start:]`; version, both lengths and the header checksum are right.

    `big`: a total length of 0 stands for all of a packet that is longer than the field can say
    (BIG TCP, only seen between a host and its own interfaces). Raises MalformedPacket. Options
    are not looked into: see `walk_options`.
    """
    available = len(packet) - start
    if available < HEADER_LEN:
        raise MalformedPacket("ipv4-truncated")
    (version_ihl, tos, total_length, ident, flags_offset, ttl, protocol, _, src, dst) = (
        HEADER.unpack_from(packet, start)
    )
    if version_ihl >> 4 != 4:
        raise MalformedPacket("ipv4-version")
    header_len = (version_ihl & 0xF) * 4
    if header_len < HEADER_LEN:
        raise MalformedPacket("ipv4-header-length")
    if header_len > available:
        raise MalformedPacket("ipv4-truncated")
    if big and not total_length and available > MAX_PACKET:
        total_length = available
    if total_length < header_len:
        raise MalformedPacket("ipv4-total-length")
    if total_length > available:
        raise MalformedPacket("ipv4-truncated")
    if ones_sum(packet[start : start + header_len]) != 0xFFFF:
        raise MalformedPacket("ipv4-checksum")
    return Ipv4(
        header_len,
        total_length,
        tos >> 2,
        tos & 3,
        ident,
        flags_offset & DONT_FRAGMENT != 0,
        flags_offset & MORE_FRAGMENTS != 0,
        (flags_offset & FRAGMENT_OFFSET_MASK) * 8,
        ttl,
        protocol,
        src,
        dst,
        bytes(packet[start + HEADER_LEN : start + header_len]),
    )


def walk_options(options: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yields (offset in `options`, kind, data) of each option but NOP, up to the end of the list.

    Raises MalformedPacket when a length makes no sense; what came before has been yielded.
    """
    at = 0
    while at < len(options) and options[at] != OPTION_END:
        kind = options[at]
        if kind == OPTION_NOP:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2 or at + length > len(options):
            raise MalformedPacket("ipv4-option-length")
        yield at, kind, options[at + 2 : at + length]
        at += length


def encode(
    src: bytes,
    dst: bytes,
    protocol: int,
    payload_length: int,
    *,
    ttl: int = 64,
    ident: int = 0,
    dscp: int = 0,
    ecn: int = 0,
    dont_fragment: bool = False,
    more_fragments: bool = False,
    fragment_offset: int = 0,
    options: bytes = b"",
) -> bytes:
    """The header, checksum complete, for `payload_length` bytes that the caller puts behind it.

    `fragment_offset`: bytes, a multiple of 8. `options`: padded here to a multiple of 4 with
    end-of-list.
    """
    assert len(options) <= MAX_OPTIONS_LEN and fragment_offset % 8 == 0
    options += bytes(-len(options) % 4)
    header_len = HEADER_LEN + len(options)
    header = bytearray(
        HEADER.pack(
            0x40 | header_len // 4,
            dscp << 2 | ecn,
            header_len + payload_length,
            ident,
            (DONT_FRAGMENT if dont_fragment else 0)
            | (MORE_FRAGMENTS if more_fragments else 0)
            | fragment_offset // 8,
            ttl,
            protocol,
            0,
            src,
            dst,
        )
    )
    header += options
    header[10:12] = checksum(header).to_bytes(2, "big")
    return bytes(header)
