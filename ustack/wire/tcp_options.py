"""TCP options: one tolerant pass in, fixed layouts out.

Owns kinds, lengths and alignment. Must not know the state of the connection: which option is
valid on which segment is decided by the handshake. RFC 9293 §3.2, RFC 7323 (WS, TS), RFC 2018
(SACK), RFC 7413 (TFO), RFC 5482 (UTO), RFC 6994 (experimental kinds).
"""

import struct
from typing import NamedTuple

from ustack.wire import Buffer
from ustack.wire.tcp import MAX_OPTIONS_LEN

END = 0  # RFC 9293 §3.2
NOP = 1
MSS = 2
WINDOW_SCALE = 3  # RFC 7323 §2
SACK_PERMITTED = 4  # RFC 2018 §2
SACK = 5  # RFC 2018 §3
TIMESTAMPS = 8  # RFC 7323 §3
SIGNATURE = 19  # RFC 2385 §3.0
SIGNATURE_LEN = 16  # bytes of digest
ACC_ECN_ORDER_0 = 172  # RFC 9768 §3.2.3
ACC_ECN_ORDER_1 = 174
USER_TIMEOUT = 28  # RFC 5482 §3
AUTHENTICATION = 29  # RFC 5925 §2.2
AUTHENTICATION_MIN = 3  # bytes: two key numbers and some of a code
FAST_OPEN = 34  # RFC 7413 §4.1.1
EXPERIMENT = 254  # RFC 4727 §7.2
FAST_OPEN_MAGIC = 0xF989  # RFC 7413 appendix B: fast open under the experimental kind

MAX_WINDOW_SCALE = 14  # RFC 7323 §2.3

TIMESTAMPS_SIZE = 12  # bytes, with the NOPs before it
SIGNATURE_SIZE = 20  # bytes, with the NOPs before it
SACK_HEADER = 4  # bytes: NOP, NOP, kind, length
SACK_BLOCK = 8  # bytes

_HALF = struct.Struct("!H")
_TIMESTAMPS = struct.Struct("!II")  # TSval, TSecr
_MSS_OPTION = struct.Struct("!BBH")  # kind, length, MSS
_TIMESTAMPS_OPTION = struct.Struct("!BBII")  # kind, length, TSval, TSecr
_EDGES = struct.Struct("!II")  # left, right edge of one SACK block
_ALIGNED_TIMESTAMPS = struct.Struct("!III")  # the layout below, TSval, TSecr
_NOP_NOP_TIMESTAMPS = NOP << 24 | NOP << 16 | TIMESTAMPS << 8 | 10  # RFC 7323 appendix A
# How Linux lays out a SYN that offers everything: MSS, SACK permitted, timestamps, window scale
_LINUX_SYN = struct.Struct("!HHHHIII")
_LINUX_SYN_LAYOUT = (
    MSS << 8 | 4,
    SACK_PERMITTED << 8 | 2,
    TIMESTAMPS << 8 | 10,
    NOP << 16 | WINDOW_SCALE << 8 | 3,
)
_TIMESTAMPS_LAYOUT = bytes((NOP, NOP, TIMESTAMPS, 10))


class AccEcn(NamedTuple):
    """An AccECN option: counters of octets, 24 bits each, in the order of its kind."""

    kind: int
    counters: tuple[int, ...]


class Options:
    """What one segment's options said; None, False or () where it said nothing."""

    __slots__ = (
        "mss",  # bytes
        "wscale",  # shift, 0..14
        "sack_permitted",
        "tsval",  # low 32 bits
        "tsecr",  # low 32 bits
        "sack",  # ((left, right), ...), low 32 bits, in the order sent
        "fast_open",  # cookie; b"" asks for one
        "experimental_fast_open",  # it came under the experimental kind
        "user_timeout",  # seconds
        "acc_ecn",
        "signed",  # a digest of MD5 (RFC 2385) or TCP-AO (RFC 5925) came along
        "signature",  # that of MD5, b"" if there are several
        "malformed",  # a length made no sense; what stood before it is kept
    )

    def __init__(self) -> None:
        self.mss: int | None = None
        self.wscale: int | None = None
        self.sack_permitted = False
        self.tsval: int | None = None
        self.tsecr: int | None = None
        self.sack: tuple[tuple[int, int], ...] = ()
        self.fast_open: bytes | None = None
        self.experimental_fast_open = False
        self.user_timeout: int | None = None
        self.acc_ecn: AccEcn | None = None
        self.signed = False
        self.signature: bytes | None = None
        self.malformed = False


def decode_options(data: Buffer, start: int, end: int) -> Options:  # hot
    """The options in data[start:end], in any order and alignment. Never raises.

    A known kind of wrong length is ignored (RFC 9293 §3.2: MUST-5 to MUST-7); a length that
    cannot be stepped over ends the parse. Of a repeated option the last one counts.
    """
    options = Options()
    if end - start == 20:
        on_mss, mss, sack_permitted, timestamps, tsval, tsecr, wscale = _LINUX_SYN.unpack_from(
            data, start
        )
        if (on_mss, sack_permitted, timestamps, wscale >> 8) == _LINUX_SYN_LAYOUT and mss:
            options.mss = mss
            options.sack_permitted = True
            options.tsval = tsval
            options.tsecr = tsecr
            options.wscale = min(wscale & 0xFF, MAX_WINDOW_SCALE)
            return options
    if end - start == 12:
        layout, tsval, tsecr = _ALIGNED_TIMESTAMPS.unpack_from(data, start)
        if layout == _NOP_NOP_TIMESTAMPS:
            options.tsval = tsval
            options.tsecr = tsecr
            return options
    at = start
    while at < end:
        kind = data[at]
        if kind == END:
            break
        if kind == NOP:
            at += 1
            continue
        length = data[at + 1] if at + 1 < end else 0
        if length < 2 or at + length > end:
            options.malformed = True
            break
        _decode_one(options, data, kind, at + 2, length - 2)
        at += length
    return options


def _decode_one(options: Options, data: Buffer, kind: int, at: int, size: int) -> None:
    """Sets what the option with `size` bytes of content at data[at:] says."""
    if kind == MSS and size == 2:
        options.mss = _HALF.unpack_from(data, at)[0] or options.mss
    elif kind == WINDOW_SCALE and size == 1:
        options.wscale = min(data[at], MAX_WINDOW_SCALE)
    elif kind == SACK_PERMITTED and size == 0:
        options.sack_permitted = True
    elif kind == SACK and size and size % 8 == 0:
        options.sack = tuple(_EDGES.iter_unpack(bytes(data[at : at + size])))
    elif kind == TIMESTAMPS and size == 8:
        options.tsval, options.tsecr = _TIMESTAMPS.unpack_from(data, at)
    elif kind == USER_TIMEOUT and size == 2:
        granularity_value = _HALF.unpack_from(data, at)[0]
        value = granularity_value & 0x7FFF
        options.user_timeout = value * 60 if granularity_value & 0x8000 else value
    elif kind in (ACC_ECN_ORDER_0, ACC_ECN_ORDER_1):
        whole = min(size // 3, 3)  # RFC 9768 §3.2.3: of other lengths the fields that are whole
        fields = [data[i : i + 3] for i in range(at, at + 3 * whole, 3)]
        options.acc_ecn = AccEcn(kind, tuple(int.from_bytes(field, "big") for field in fields))
    elif kind == SIGNATURE and size == SIGNATURE_LEN:
        # b"": there are several, so none counts
        options.signature = b"" if options.signed else bytes(data[at : at + size])
        options.signed = True
    elif kind == AUTHENTICATION and size >= AUTHENTICATION_MIN:
        options.signature = b"" if options.signed else None
        options.signed = True
    elif kind == FAST_OPEN and _is_cookie_size(size):
        options.fast_open = bytes(data[at : at + size])
    elif kind == EXPERIMENT and size >= 2 and _is_cookie_size(size - 2):
        if _HALF.unpack_from(data, at)[0] == FAST_OPEN_MAGIC:
            options.fast_open = bytes(data[at + 2 : at + size])
            options.experimental_fast_open = True


def _is_cookie_size(size: int) -> bool:
    """None (a request), or 4 to 16 bytes, even: RFC 7413 §2."""
    return size == 0 or (4 <= size <= 16 and size % 2 == 0)


def encode_options(
    *,
    mss: int | None = None,
    wscale: int | None = None,
    sack_permitted: bool = False,
    tsval: int | None = None,
    tsecr: int = 0,
    sack: tuple[tuple[int, int], ...] = (),
    fast_open: bytes | None = None,
    acc_ecn: bytes = b"",
    experimental_fast_open: bool = False,
    room: int = MAX_OPTIONS_LEN,
) -> bytes:
    """The options in Linux's order, each on a 32-bit boundary: a multiple of 4, at most 40 bytes.

    SACK blocks are low 32 bit edges, most important first; those that do not fit are left out:
    three fit beside timestamps, four without (RFC 2018 §3); so is a cookie that does not fit.
    `acc_ecn`: see `encode_acc_ecn`. `room`: what cookie and blocks have to fit into, bytes.
    """
    out = b""
    if mss is not None:
        out += _MSS_OPTION.pack(MSS, 4, mss)
    if tsval is not None:
        out += bytes((SACK_PERMITTED, 2) if sack_permitted else (NOP, NOP))
        out += _TIMESTAMPS_OPTION.pack(TIMESTAMPS, 10, tsval, tsecr)
    if acc_ecn:
        out += acc_ecn + bytes((NOP,)) * (-len(acc_ecn) % 4)
    if sack_permitted and tsval is None:
        out += bytes((NOP, NOP, SACK_PERMITTED, 2))
    if wscale is not None:
        out += bytes((NOP, WINDOW_SCALE, 3, wscale))
    if fast_open is not None:
        if experimental_fast_open:
            cookie = struct.pack("!BBH", EXPERIMENT, 4 + len(fast_open), FAST_OPEN_MAGIC)
        else:
            cookie = bytes((FAST_OPEN, 2 + len(fast_open)))
        cookie += fast_open + bytes((NOP,)) * (-len(cookie + fast_open) % 4)
        if len(out + cookie) <= room:
            out += cookie
    if sack and (blocks := sack[: max(0, (room - len(out) - 4) // 8)]):
        out += bytes((NOP, NOP, SACK, 2 + 8 * len(blocks)))
        for left, right in blocks:
            out += _EDGES.pack(left, right)
    assert len(out) <= MAX_OPTIONS_LEN
    return out


def encode_bsd_syn_options(
    *,
    mss: int,
    wscale: int | None = None,
    sack_permitted: bool = False,
    tsval: int | None = None,
    tsecr: int = 0,
    fast_open: bytes | None = None,
) -> bytes:
    """The options of a SYN as FreeBSD orders, aligns and pads them: a multiple of 4 bytes.

    Receivers take any order (RFC 9293 §3.1, MUST-64); the value fields of wide options lie on even
    or 32-bit boundaries, and End of Option List comes before the padding.
    """
    out = _MSS_OPTION.pack(MSS, 4, mss)
    if wscale is not None:
        out += bytes((NOP, WINDOW_SCALE, 3, wscale))
    if sack_permitted:
        out += bytes((SACK_PERMITTED, 2))
    if tsval is not None:
        out += bytes((NOP,)) * ((2 - len(out)) % 4)
        out += _TIMESTAMPS_OPTION.pack(TIMESTAMPS, 10, tsval, tsecr)
    if fast_open is not None and len(out) + 2 + len(fast_open) <= MAX_OPTIONS_LEN:
        out += bytes((FAST_OPEN, 2 + len(fast_open))) + fast_open
    return out + bytes((END,)) * (-len(out) % 4)


def encode_acc_ecn(counters: tuple[int, ...]) -> bytes:
    """An AccECN option of kind 174 with up to three 24-bit counters, without padding."""
    fields = b"".join(counter.to_bytes(3, "big") for counter in counters)
    return bytes((ACC_ECN_ORDER_1, 2 + len(fields))) + fields


def insert_acc_ecn(
    options: bytes, counters: tuple[int, ...], required: int, room: int
) -> tuple[int, bytes]:
    """`options`, as `encode_options` writes them, with an AccECN option before the SACK blocks.

    Returns the number of counters sent, -1 if the option was left out because `required` of them do
    not fit into `room` bytes, and the options. It may take the place of the NOPs before the blocks,
    and of the last blocks, but leaves two (RFC 9768 §3.2.3.3, as Linux has it).
    """
    at = TIMESTAMPS_SIZE if options.startswith(_TIMESTAMPS_LAYOUT) else 0
    head, sack = options[:at], options[at:]
    while True:
        for fields in range(len(counters), required - 1, -1):
            option = encode_acc_ecn(counters[:fields])
            spare = len(option) % 4
            if sack and 0 < spare <= 2:
                merged = option + bytes((NOP,)) * (2 - spare) + sack[2:]
            else:
                merged = option + bytes((NOP,)) * (-len(option) % 4) + sack
            if len(head) + len(merged) <= room:
                return fields, head + merged
        if not required or len(sack) <= SACK_HEADER + 2 * SACK_BLOCK:
            return -1, options
        sack = bytes((NOP, NOP, SACK, sack[3] - SACK_BLOCK)) + sack[4:-SACK_BLOCK]
