"""TCP options of the script language to bytes and back, byte for byte in the order written.

The player does not use `ustack.wire` for this on purpose: it writes option lists that no stack
would (any order, any padding, any length), and a fault of that codec must not hide itself.
"""

import struct

from ustack.drill.script import (
    AccEcn,
    EndOfOptions,
    FastOpen,
    Md5,
    Mss,
    Nop,
    RawOption,
    Sack,
    SackPermitted,
    TcpOption,
    Timestamp,
    WindowScale,
)

MAX_OPTIONS = 40  # bytes; RFC 9293 §3.1: data offset is at most 15 words
DIGEST_SIZE = 16  # bytes; RFC 2385 §3.0
FAST_OPEN_MAGIC = 0xF989  # RFC 6994 experiment identifier of Fast Open
_BLOCK = struct.Struct("!II")


def encode_options(options: tuple[TcpOption, ...]) -> bytes:
    """The bytes of `options`; nothing is padded."""
    return b"".join(encode_option(option) for option in options)


def encode_option(option: TcpOption) -> bytes:
    """The bytes of one option. Timestamps and SACK edges must be numbers of the wire."""
    match option:
        case EndOfOptions():
            return b"\0"
        case Nop():
            return b"\1"
        case Mss(value):
            return _whole(2, value.to_bytes(2, "big"))
        case WindowScale(shift):
            return _whole(3, bytes([shift]))
        case SackPermitted():
            return _whole(4, b"")
        case Sack(blocks):
            return _whole(5, b"".join(_BLOCK.pack(*block) for block in blocks))
        case Timestamp(val, ecr):
            return _whole(8, _BLOCK.pack(val or 0, ecr or 0))
        case FastOpen(cookie, experimental):
            if experimental:
                return _whole(254, FAST_OPEN_MAGIC.to_bytes(2, "big") + cookie)
            return _whole(34, cookie)
        case Md5(digest):  # of a valid one the player fills it in
            return _whole(19, digest)
        case AccEcn(kind, counters):
            return _whole(kind, b"".join(counter.to_bytes(3, "big") for counter in counters))
        case RawOption(kind, data):
            return _whole(kind, data)


def _whole(kind: int, data: bytes) -> bytes:
    return bytes([kind, 2 + len(data)]) + data


def decode_options(data: bytes) -> tuple[TcpOption, ...]:
    """The options in `data`, paddings included; what has a wrong length is a RawOption."""
    options: list[TcpOption] = []
    at = 0
    while at < len(data):
        kind = data[at]
        if kind <= 1:
            options.append(Nop() if kind else EndOfOptions())
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        if length < 2 or at + length > len(data):
            options.append(RawOption(kind, data[at + 1 :]))
            break
        options.append(_decode(kind, data[at + 2 : at + length]))
        at += length
    return tuple(options)


def _decode(kind: int, data: bytes) -> TcpOption:
    size = len(data)
    if kind == 2 and size == 2:
        return Mss(int.from_bytes(data, "big"))
    if kind == 3 and size == 1:
        return WindowScale(data[0])
    if kind == 4 and size == 0:
        return SackPermitted()
    if kind == 5 and size and size % 8 == 0:
        return Sack(tuple((left, right) for left, right in _BLOCK.iter_unpack(data)))
    if kind == 8 and size == 8:
        val, ecr = _BLOCK.unpack(data)
        return Timestamp(val, ecr)
    if kind == 34:
        return FastOpen(data, experimental=False)
    if kind == 254 and data[:2] == FAST_OPEN_MAGIC.to_bytes(2, "big"):
        return FastOpen(data[2:], experimental=True)
    if kind == 19:
        return Md5(data)
    if kind in (172, 174) and size % 3 == 0:
        counters = tuple(int.from_bytes(data[at : at + 3], "big") for at in range(0, size, 3))
        return AccEcn(kind, counters)
    return RawOption(kind, data)
