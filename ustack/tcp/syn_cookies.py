"""SYN cookies: a handshake without memory, when the SYN queue is full (RFC 4987 §3.6).

Our ISN is a keyed function of the flow, the peer's ISN, the minute and one of a few MSS values, so
the ACK that completes the handshake says all that must be known. What else the SYN offered stands
in the low bits of our timestamp, which that ACK echoes. The layout is that of Linux.
"""

from hashlib import blake2s
from typing import NamedTuple

from ustack.tcp.seq import MASK32
from ustack.wire.tcp_options import Options

MINUTE_US = 60 * 1_000_000
MAX_AGE = 2  # minutes: an ACK later than that is too late (Linux MAX_SYNCOOKIE_AGE)
COOKIE_BITS = 24  # of the ISN: MSS index and hash; those above count minutes
COOKIE_MASK = (1 << COOKIE_BITS) - 1
# What most hosts announce, by size of the IP header; others become the next smaller one. Linux's.
MSS_IPV4 = (536, 1300, 1440, 1460)  # bytes
MSS_IPV6 = (1220, 1420, 1440, 8940)

TIMESTAMP_BITS = 6  # low bits of TSval that say what the SYN offered
TIMESTAMP_MASK = (1 << TIMESTAMP_BITS) - 1
NO_WSCALE = 0xF  # in the low four of them
SACK_BIT = 1 << 4
ECN_BIT = 1 << 5


class Cookie(NamedTuple):
    """What a valid cookie says of the SYN it answered."""

    irs: int
    iss: int
    mss: int


def _hash(flow: bytes, secret: bytes, minute: int, salt: bytes) -> int:
    digest = blake2s(
        flow + minute.to_bytes(8, "big"), key=secret, digest_size=4, person=b"cookie" + salt
    ).digest()
    return int.from_bytes(digest, "big")


def _table(flow: bytes) -> tuple[int, ...]:
    return MSS_IPV4 if len(flow) == 12 else MSS_IPV6


def make_cookie(flow: bytes, secret: bytes, irs: int, mss: int, now: int) -> int:
    """Our ISN in answer to a SYN with SEG.SEQ `irs` that announced `mss` bytes."""
    table = _table(flow)
    index = max((i for i, size in enumerate(table) if size <= mss), default=0)
    minute = now // MINUTE_US
    low = (_hash(flow, secret, minute, b"2") + index) & COOKIE_MASK
    return (_hash(flow, secret, 0, b"1") + irs + (minute << COOKIE_BITS) + low) & MASK32


def check_cookie(flow: bytes, secret: bytes, seq: int, ack: int, now: int) -> Cookie | None:
    """What the cookie says that an ACK with these raw numbers brings back; None: it is none of
    ours, or too old."""
    irs, iss = (seq - 1) & MASK32, (ack - 1) & MASK32
    rest = (iss - _hash(flow, secret, 0, b"1") - irs) & MASK32
    minute = now // MINUTE_US
    age = (minute - (rest >> COOKIE_BITS)) & (MASK32 >> COOKIE_BITS)
    if age >= MAX_AGE:
        return None
    index = (rest - _hash(flow, secret, minute - age, b"2")) & COOKIE_MASK
    table = _table(flow)
    if index >= len(table):
        return None
    return Cookie(irs, iss, table[index])


def mark_timestamp(tsval: int, offset: int, options: Options, ecn: bool) -> int:
    """`tsval` (our clock plus `offset`), moved back a little so that its low bits, less `offset`,
    say what the SYN with `options` offered."""
    said = NO_WSCALE if options.wscale is None else options.wscale
    if options.sack_permitted:
        said |= SACK_BIT
    if ecn:
        said |= ECN_BIT
    clock = (tsval - offset) & MASK32
    marked = clock & ~TIMESTAMP_MASK | said
    if marked > clock:
        marked -= TIMESTAMP_MASK + 1
    return (marked + offset) & MASK32


def read_timestamp(tsecr: int, offset: int, options: Options) -> bool:
    """`options` say what mark_timestamp has hidden. True: ECN was offered."""
    said = (tsecr - offset) & TIMESTAMP_MASK
    wscale = said & NO_WSCALE
    options.wscale = None if wscale == NO_WSCALE else wscale
    options.sack_permitted = bool(said & SACK_BIT)
    return bool(said & ECN_BIT)
