"""Super-segments that follow each other without a gap and say nothing else that is new.

A kernel that sends in bulk hands us up to 64 KiB at a time. All but the first of a run in one batch
bring text and repeat everything else: such a train needs its questions asked only once (as Linux's
GRO does it below TCP).
"""

from collections.abc import Sequence
from struct import Struct

from ustack.wire import Buffer
from ustack.wire.virtio import CHECKSUM_KNOWN

MIN_FRAME = 4096  # bytes: smaller ones are not worth a look
_ACK_ONLY = (b"\x80\x10", b"\x80\x18")  # eight words of header: ACK, or ACK and PSH
# After the virtio header. IPv4: version to TOS, total length, fragment bits to protocol, addresses
# and ports; IPv6: version to flow label, payload length, next header to hop limit, addresses and
# ports. Then SEQ, ACK, offset and flags, window, options
_V4 = Struct("!10x2sH2x4s2x12sI4s2s2s4x12s")
_V6 = Struct("!10x4sH2s36sI4s2s2s4x12s")
_V4_TEXT = 62  # where the text begins
_V6_TEXT = 82


def train(frames: Sequence[bytes], index: int) -> list[Buffer]:  # hot
    """The texts of those frames from `index` on that are a train with the one before.

    That one has been found to be in order, and has MIN_FRAME bytes or more.
    """
    leader = frames[index - 1]
    if not leader[0] & CHECKSUM_KNOWN:
        return []
    ipv4 = leader[10] == 0x45
    unpack, start, counted = _V4.unpack_from, _V4_TEXT, 10
    if not ipv4:
        unpack, start, counted = _V6.unpack_from, _V6_TEXT, 50
    first, _, middle, ends, seq, ack, _, window, options = unpack(leader)
    common = (first, middle, ends, ack, window, options)
    seq += len(leader) - start
    texts: list[Buffer] = []
    for frame in frames[index:]:
        size = len(frame)
        if size < MIN_FRAME or not frame[0] & CHECKSUM_KNOWN:
            break
        a, total, b, c, following, d, flags, e, f = unpack(frame)
        if (
            following != seq & 0xFFFF_FFFF
            or (a, b, c, d, e, f) != common
            or total != size - counted
            or flags not in _ACK_ONLY
            or (ipv4 and int.from_bytes(frame[10:30], "big") % 65535)
        ):
            break
        texts.append(memoryview(frame)[start:])
        seq += size - start
    return texts
