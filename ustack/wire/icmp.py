"""ICMPv4 and ICMPv6 messages that a TCP host receives and sends, and the packets they quote.

Owns the layouts, the message types and their checksums. Must not judge: whether an error is
believed is the stack's affair (RFC 5927). RFC 792, RFC 1191 §4, RFC 4443, RFC 4884 §5.
"""

import struct
from typing import NamedTuple

from ustack.errors import MalformedPacket
from ustack.wire import Buffer, ipv4, ipv6
from ustack.wire.checksum import checksum, fold, ones_sum, pseudo_sum

HEADER = struct.Struct("!BBHI")  # type, code, checksum, rest of header
HEADER_LEN = 8  # bytes; RFC 792, RFC 4443 §2.1

# ICMPv4 types (RFC 792)
V4_ECHO_REPLY = 0
V4_UNREACHABLE = 3
V4_SOURCE_QUENCH = 4  # to be ignored: RFC 6633
V4_REDIRECT = 5
V4_ECHO_REQUEST = 8
V4_TIME_EXCEEDED = 11
V4_PARAMETER_PROBLEM = 12  # pointer: highest byte of `rest`

# Codes of V4_UNREACHABLE (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1)
V4_NET_UNREACHABLE = 0
V4_HOST_UNREACHABLE = 1
V4_PROTOCOL_UNREACHABLE = 2
V4_PORT_UNREACHABLE = 3
V4_FRAGMENTATION_NEEDED = 4  # next-hop MTU: low 16 bits of `rest`; 0 from before RFC 1191
V4_ADMIN_PROHIBITED = 13

# ICMPv6 types (RFC 4443)
V6_UNREACHABLE = 1
V6_PACKET_TOO_BIG = 2  # MTU: `rest`
V6_TIME_EXCEEDED = 3
V6_PARAMETER_PROBLEM = 4  # pointer: `rest`; codes: see `ustack.wire.ipv6`
V6_ECHO_REQUEST = 128
V6_ECHO_REPLY = 129

# Codes of V6_UNREACHABLE (RFC 4443 §3.1)
V6_NO_ROUTE = 0
V6_ADMIN_PROHIBITED = 1
V6_BEYOND_SCOPE = 2
V6_ADDRESS_UNREACHABLE = 3
V6_PORT_UNREACHABLE = 4

# Codes of both TIME_EXCEEDED
HOP_LIMIT_EXCEEDED = 0
REASSEMBLY_TIME_EXCEEDED = 1

QUOTE_LEN = 8  # octets behind the quoted IP header that RFC 792 promises: ports and SEQ
_QUOTED_PORTS = struct.Struct("!HHI")  # source port, destination port, TCP SEQ


class IcmpMessage(NamedTuple):
    """One message of either version, checksum verified."""

    type: int
    code: int
    rest: int  # 32 bits: identifier << 16 | sequence, MTU or pointer, as the type says
    body: bytes  # echo data, or the quoted packet


class Quoted(NamedTuple):
    """The packet that an ICMP error is about: `src` is who sent it, so usually we."""

    src: bytes
    dst: bytes
    protocol: int
    src_port: int  # 0 unless TCP or UDP
    dst_port: int
    seq: int | None  # low 32 bits; None unless TCP


def decode_v4(data: Buffer) -> IcmpMessage:
    """The message that fills `data`. Raises MalformedPacket (truncated, checksum)."""
    if len(data) < HEADER_LEN:
        raise MalformedPacket("icmp-truncated")
    if ones_sum(data) != 0xFFFF:
        raise MalformedPacket("icmp-checksum")
    return _decode(data)


def decode_v6(data: Buffer, src: bytes, dst: bytes) -> IcmpMessage:
    """The message that fills `data`, between these addresses (they are under the checksum)."""
    if len(data) < HEADER_LEN:
        raise MalformedPacket("icmpv6-truncated")
    if fold(pseudo_sum(src, dst, ipv6.ICMPV6, len(data)) + ones_sum(data)) != 0xFFFF:
        raise MalformedPacket("icmpv6-checksum")
    return _decode(data)


def _decode(data: Buffer) -> IcmpMessage:
    kind, code, _, rest = HEADER.unpack_from(data)
    return IcmpMessage(kind, code, rest, bytes(data[HEADER_LEN:]))


def encode_v4(kind: int, code: int, rest: int, body: Buffer) -> bytes:
    """The whole ICMPv4 message, checksum complete."""
    field = checksum(HEADER.pack(kind, code, 0, rest), body)
    return b"".join((HEADER.pack(kind, code, field, rest), body))


def encode_v6(src: bytes, dst: bytes, kind: int, code: int, rest: int, body: Buffer) -> bytes:
    """The whole ICMPv6 message, checksum complete for these addresses."""
    pseudo = pseudo_sum(src, dst, ipv6.ICMPV6, HEADER_LEN + len(body))
    # The pseudo-header's sum stands in the field while the rest is summed.
    field = checksum(HEADER.pack(kind, code, pseudo, rest), body)
    return b"".join((HEADER.pack(kind, code, field, rest), body))


def quoted(body: Buffer, version: int) -> Quoted:
    """The flow of the packet quoted in an error of IP `version` 4 or 6.

    Quotes are cut short by routers and rewritten by NATs, so lengths and checksums of the quoted
    headers are not verified. Raises MalformedPacket when addresses or ports cannot be had.
    """
    if version == 4:
        src, dst, protocol, at = _quoted_ipv4(body)
    else:
        src, dst, protocol, at = _quoted_ipv6(body)
    if protocol not in (ipv4.TCP, ipv4.UDP):
        return Quoted(src, dst, protocol, 0, 0, None)
    if at + QUOTE_LEN > len(body):
        raise MalformedPacket("icmp-quote-truncated")
    src_port, dst_port, seq = _QUOTED_PORTS.unpack_from(body, at)
    return Quoted(src, dst, protocol, src_port, dst_port, seq if protocol == ipv4.TCP else None)


def _quoted_ipv4(body: Buffer) -> tuple[bytes, bytes, int, int]:
    """Source, destination, protocol, and where the payload begins."""
    if len(body) < ipv4.HEADER_LEN:
        raise MalformedPacket("icmp-quote-truncated")
    version_ihl, _, _, _, flags_offset, _, protocol, _, src, dst = ipv4.HEADER.unpack_from(body)
    header_len = (version_ihl & 0xF) * 4
    if version_ihl >> 4 != 4 or header_len < ipv4.HEADER_LEN:
        raise MalformedPacket("icmp-quote-header")
    if flags_offset & ipv4.FRAGMENT_OFFSET_MASK:
        raise MalformedPacket("icmp-quote-fragment")
    return src, dst, protocol, header_len


def _quoted_ipv6(body: Buffer) -> tuple[bytes, bytes, int, int]:
    """Source, destination, protocol behind all extension headers, and where its header begins."""
    if len(body) < ipv6.HEADER_LEN:
        raise MalformedPacket("icmp-quote-truncated")
    first_word, _, protocol, _, src, dst = ipv6.HEADER.unpack_from(body)
    if first_word >> 28 != 6:
        raise MalformedPacket("icmp-quote-header")
    at = ipv6.HEADER_LEN
    for _ in range(ipv6.MAX_EXTENSION_HEADERS):
        if protocol not in ipv6.EXTENSION_HEADERS:
            break
        if at + 8 > len(body):
            raise MalformedPacket("icmp-quote-truncated")
        if protocol == ipv6.FRAGMENT_HEADER:
            if ipv6.FRAGMENT.unpack_from(body, at)[2] & 0xFFF8:
                raise MalformedPacket("icmp-quote-fragment")
            length = ipv6.FRAGMENT_LEN
        else:
            length = 8 + body[at + 1] * 8
        protocol = body[at]
        at += length
    return src, dst, protocol, at
