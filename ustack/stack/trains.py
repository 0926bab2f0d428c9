"""Super-segments that follow each other without a gap and say nothing else that is new.

A kernel that sends in bulk hands us up to 64 KiB at a time. All but the first of a run in one batch
bring text and repeat everything else: such a train needs its questions asked only once (as Linux's
GRO does it below TCP).
"""

from struct import Struct

from ustack.wire.virtio import CHECKSUM_KNOWN

MIN_FRAME = 4096  # bytes: smaller ones are not worth a look
_ACK_ONLY = (b"\x80\x10", b"\x80\x18")  # eight words of header: ACK, or ACK and PSH
# After the virtio header. IPv4: version to TOS, total length, fragment bits to protocol, addresses
# and ports; IPv6: version to flow label, payload length, next header to ports. Then SEQ, ACK,
# offset and flags, window, options
_V4 = Struct("!10x2sH2x4s2x12sI4s2s2s4x12s")
_V6 = Struct("!10x4sH38sI4s2s2s4x12s")
_V4_TEXT = 62  # where the text begins
_V6_TEXT = 82
_NO_FRAGMENT = (b"\x00\x00", b"\x40\x00")  # nothing but DF


def follows(previous: bytes, frame: bytes) -> int:  # hot
    """Where the text of `frame` begins, if it is a train with `previous`; 0: it is not.

    Both have MIN_FRAME bytes or more; `previous` has been found to be in order.
    """
    if not frame[0] & previous[0] & CHECKSUM_KNOWN:
        return 0
    if frame[10] == 0x45:
        first, _, _, ends, seq, ack, _, window, options = _V4.unpack_from(previous)
        a, total, middle, b, following, c, flags, d, e = _V4.unpack_from(frame)
        if (
            total != len(frame) - 10
            or middle[:2] not in _NO_FRAGMENT
            or int.from_bytes(frame[10:30], "big") % 65535
        ):
            return 0
        text = _V4_TEXT
    elif frame[10] >> 4 == 6:
        first, _, ends, seq, ack, _, window, options = _V6.unpack_from(previous)
        a, total, b, following, c, flags, d, e = _V6.unpack_from(frame)
        if total != len(frame) - 50:
            return 0
        text = _V6_TEXT
    else:
        return 0
    if (first, ends, ack, window, options) != (a, b, c, d, e) or flags not in _ACK_ONLY:
        return 0
    return text if following == (seq + len(previous) - text) & 0xFFFF_FFFF else 0
