"""Pure ACKs that a later one in the same batch says better.

A kernel acknowledges every super-segment; while we were writing, dozens of its ACKs queue up. Each
but the last of a run says nothing that the last does not, just as if it had been lost on the way.
Linux has no such step, but its GRO spares it as many data segments.
"""

from struct import Struct

from ustack.wire.virtio import CHECKSUM_KNOWN

V4_SIZE = 62  # bytes: virtio header, IPv4 without options, TCP with timestamps
V6_SIZE = 82
_OFFSET_AND_FLAGS = b"\x80\x10"  # eight words of header, ACK and nothing else
_NOP_NOP_TS = b"\x01\x01\x08\x0a"  # so there is no SACK block in it
_ACK = Struct("!I")


def superseded(frame: bytes, following: bytes) -> bool:  # hot
    """`frame` is an ACK without text or news, and `following`, the next frame, acknowledges more.

    Both must be of one flow with the same SEQ, and vouched for by the device. Duplicate ACKs are
    never dropped: they count (RFC 5681 §3.2).
    """
    size = len(frame)
    if size != len(following) or not frame[0] & following[0] & CHECKSUM_KNOWN:
        return False
    if size == V4_SIZE:
        # version and header length; TOS, total length, fragment bits and protocol must agree
        if frame[10] != 0x45 or frame[10:14] != following[10:14]:
            return False
        if frame[16:20] != following[16:20] or frame[22:38] != following[22:38]:
            return False
        at = 30
    elif size == V6_SIZE:
        if frame[10] >> 4 != 6 or frame[10:54] != following[10:54]:
            return False
        if frame[54:58] != following[54:58]:
            return False
        at = 50
    else:
        return False
    if not frame[at + 12 : at + 14] == following[at + 12 : at + 14] == _OFFSET_AND_FLAGS:
        return False
    if not frame[at + 20 : at + 24] == following[at + 20 : at + 24] == _NOP_NOP_TS:
        return False
    (ack,) = _ACK.unpack_from(frame, at + 8)
    (more,) = _ACK.unpack_from(following, at + 8)
    ahead: int = (more - ack) & 0xFFFF_FFFF
    return 0 < ahead < 0x8000_0000
