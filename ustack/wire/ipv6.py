"""The IPv6 header and its extension headers.

Owns the walk from the fixed header to the payload, and what RFC 8200 says about headers and
options that are not understood. Must not know what the payload is. RFC 8200, RFC 6437 (flow
label), RFC 6946 (atomic fragments), RFC 8504 §5.3 (limits on extension headers).
"""

import struct
from typing import NamedTuple

from ustack.errors import MalformedPacket
from ustack.wire import Buffer

# version+traffic class+flow label, payload length, next header, hop limit, source, destination
HEADER = struct.Struct("!IHBB16s16s")
HEADER_LEN = 40  # bytes; RFC 8200 §3
# next header, reserved, offset (13 bits, units of 8)+reserved+M, identification
FRAGMENT = struct.Struct("!BBHI")
FRAGMENT_LEN = 8  # bytes; RFC 8200 §4.5

HOP_BY_HOP = 0  # next header values: IANA
TCP = 6
UDP = 17
ROUTING = 43
FRAGMENT_HEADER = 44
ICMPV6 = 58
NO_NEXT_HEADER = 59
DESTINATION_OPTIONS = 60
# Walked through; any other value is a payload, known or not
EXTENSION_HEADERS = frozenset({HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION_OPTIONS})

OPTION_PAD1 = 0  # RFC 8200 §4.2
OPTION_PADN = 1
OPTION_ROUTER_ALERT = 5  # RFC 2711

MAX_EXTENSION_HEADERS = 8  # Choice: RFC 8504 §5.3 allows a limit; RFC 8200 §4.1 orders six
MAX_OPTIONS = 64  # Choice: per packet, padding included; same source. Bounds the time of a walk

# Codes of the ICMPv6 parameter problem, RFC 4443 §3.4
ERRONEOUS_FIELD = 0
UNKNOWN_NEXT_HEADER = 1
UNKNOWN_OPTION = 2
INCOMPLETE_CHAIN = 3  # RFC 7112 §5

PAYLOAD_LENGTH_AT = 4  # packet offset of the field
MAX_PAYLOAD = 65535  # bytes; what the field can say of the reassembled whole
# Bytes of the first upper-layer header without its options: it belongs to the chain (RFC 7112 §3)
UPPER_LAYER_HEADERS = {TCP: 20, UDP: 8, ICMPV6: 4}


class Problem(NamedTuple):
    """The packet must be dropped and its source told so (RFC 4443 §3.4).

    Not in answer to a multicast, except UNKNOWN_OPTION (RFC 4443 §2.4 (e.3)).
    """

    code: int
    pointer: int  # byte offset in the packet


class Fragment(NamedTuple):
    """The fragment header of a packet that is really a piece of another (RFC 8200 §4.5)."""

    offset: int  # bytes
    more: bool
    ident: int


class Ipv6(NamedTuple):
    """A verified header. The payload is packet[payload_offset:end].

    Of a fragment, the walk ends behind the fragment header: the payload is the piece, `protocol`
    the first header of the reassembled whole. An atomic fragment is no fragment (RFC 6946).
    """

    payload_offset: int  # index into the buffer that was decoded
    end: int  # index into the buffer that was decoded
    protocol: int  # first next header value that is not an extension header
    payload_length: int  # bytes, as in the header: extension headers included
    dscp: int
    ecn: int
    flow_label: int
    hop_limit: int
    src: bytes
    dst: bytes
    fragment: Fragment | None
    next_header_at: int  # packet offset of the byte that named `protocol`: UNKNOWN_NEXT_HEADER
    problem: Problem | None  # the walk ended at this; `protocol` is not the payload's


def decode(packet: Buffer, start: int) -> Ipv6:
    """The headers at `packet[start:]`, walked up to the payload.

    Raises MalformedPacket for nonsense and for options that ask to be dropped in silence.
    """
    if len(packet) - start < HEADER_LEN:
        raise MalformedPacket("ipv6-truncated")
    first_word, payload_length, protocol, hop_limit, src, dst = HEADER.unpack_from(packet, start)
    if first_word >> 28 != 6:
        raise MalformedPacket("ipv6-version")
    end = start + HEADER_LEN + payload_length
    if end > len(packet):
        raise MalformedPacket("ipv6-truncated")

    walk = _walk_headers(packet, start, end, protocol, dst[0] == 0xFF)
    return Ipv6(
        walk.at,
        end,
        walk.protocol,
        payload_length,
        first_word >> 22 & 0x3F,
        first_word >> 20 & 3,
        first_word & 0xFFFFF,
        hop_limit,
        src,
        dst,
        walk.fragment,
        walk.next_header_at - start,
        walk.problem,
    )


class _Walk(NamedTuple):
    """Where the walk over the extension headers has ended; places are indexes into the buffer."""

    at: int
    protocol: int
    next_header_at: int
    fragment: Fragment | None = None
    problem: Problem | None = None


def _walk_headers(packet: Buffer, start: int, end: int, protocol: int, multicast: bool) -> _Walk:
    """Go over the extension headers behind the fixed one, whose next header is `protocol`."""
    at, next_header_at = start + HEADER_LEN, start + 6
    options_left = MAX_OPTIONS
    for headers in range(MAX_EXTENSION_HEADERS + 1):
        if protocol not in EXTENSION_HEADERS:
            return _Walk(at, protocol, next_header_at)
        if protocol == HOP_BY_HOP and headers:  # only directly behind the fixed header, §4.1
            misplaced = Problem(UNKNOWN_NEXT_HEADER, next_header_at - start)
            return _Walk(at, protocol, next_header_at, None, misplaced)
        if headers == MAX_EXTENSION_HEADERS:
            break
        if at + 8 > end:
            raise MalformedPacket("ipv6-extension-truncated")
        if protocol == FRAGMENT_HEADER:
            protocol, _, offset_more, ident = FRAGMENT.unpack_from(packet, at)
            next_header_at = at
            at += FRAGMENT_LEN
            if offset_more & ~6:  # the two reserved bits do not count
                fragment = Fragment(offset_more & 0xFFF8, offset_more & 1 != 0, ident)
                problem = _fragment_problem(packet, start, at, end, protocol, fragment)
                return _Walk(at, protocol, next_header_at, fragment, problem)
            continue
        header_end = at + 8 + packet[at + 1] * 8
        if header_end > end:
            raise MalformedPacket("ipv6-extension-truncated")
        found: Problem | None = None
        if protocol == ROUTING:
            # Segments left to visit, and no routing type is supported: §4.4, RFC 5095 §3
            if packet[at + 3]:
                found = Problem(ERRONEOUS_FIELD, at + 2 - start)
        else:
            found, options_left = _walk_options(
                packet, at + 2, header_end, start, multicast, options_left
            )
        if found:
            return _Walk(at, protocol, next_header_at, None, found)
        protocol, next_header_at, at = packet[at], at, header_end
    raise MalformedPacket("ipv6-too-many-extensions")


def _fragment_problem(
    packet: Buffer, start: int, at: int, end: int, protocol: int, fragment: Fragment
) -> Problem | None:
    """What is wrong with a piece whose payload is packet[at:end] (RFC 8200 §4.5)."""
    size = end - at
    if fragment.more and size % 8:
        return Problem(ERRONEOUS_FIELD, PAYLOAD_LENGTH_AT)
    if fragment.offset + size > MAX_PAYLOAD:
        return Problem(ERRONEOUS_FIELD, at - FRAGMENT_LEN + 2 - start)
    if fragment.offset == 0 and not _chain_is_complete(packet, at, end, protocol):
        return Problem(INCOMPLETE_CHAIN, 0)
    return None


def _chain_is_complete(packet: Buffer, at: int, end: int, protocol: int) -> bool:
    """All headers up to the first upper-layer one are in packet[at:end] (RFC 7112 §5)."""
    for _ in range(MAX_EXTENSION_HEADERS):
        if protocol not in EXTENSION_HEADERS:
            break
        if at + 8 > end:
            return False
        length = FRAGMENT_LEN if protocol == FRAGMENT_HEADER else 8 + packet[at + 1] * 8
        protocol, at = packet[at], at + length
    return end - at >= UPPER_LAYER_HEADERS.get(protocol, 0)


def _walk_options(
    packet: Buffer, at: int, end: int, start: int, multicast: bool, budget: int
) -> tuple[Problem | None, int]:
    """Judges the options in packet[at:end] (RFC 8200 §4.2); returns what is left of `budget`.

    The two highest bits of an unknown kind say what to do: 00 skip it, 01 drop the packet,
    10 drop and report, 11 drop and report unless sent to a multicast address.
    """
    while at < end:
        budget -= 1
        if budget < 0:
            raise MalformedPacket("ipv6-too-many-options")
        kind = packet[at]
        if kind == OPTION_PAD1:
            at += 1
            continue
        if at + 2 > end or at + 2 + packet[at + 1] > end:
            raise MalformedPacket("ipv6-option-length")
        action = kind >> 6
        if action == 2 or (action == 3 and not multicast):
            return Problem(UNKNOWN_OPTION, at - start), budget
        if action:
            raise MalformedPacket("ipv6-option-discard")
        at += 2 + packet[at + 1]
    return None, budget


def encode(
    src: bytes,
    dst: bytes,
    protocol: int,
    payload_length: int,
    *,
    hop_limit: int = 64,
    dscp: int = 0,
    ecn: int = 0,
    flow_label: int = 0,
) -> bytes:
    """The fixed header for `payload_length` bytes (extension headers included) behind it."""
    first_word = 6 << 28 | dscp << 22 | ecn << 20 | flow_label
    return HEADER.pack(first_word, payload_length, protocol, hop_limit, src, dst)


def encode_fragment(protocol: int, fragment: Fragment) -> bytes:
    """The fragment header before one piece. `fragment.offset`: a multiple of 8."""
    assert fragment.offset % 8 == 0
    return FRAGMENT.pack(protocol, 0, fragment.offset | fragment.more, fragment.ident)
