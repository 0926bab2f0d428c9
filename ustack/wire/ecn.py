"""The ECN field: the last two bits of the octet that was TOS, or Traffic Class (RFC 3168 §5)."""

from struct import Struct

from ustack.wire import Buffer
from ustack.wire.checksum import fold

NOT_ECT, ECT1, ECT0, CE = range(4)  # RFC 3168 Figure 1

_WORD = Struct("!H")


def ecn_field(data: Buffer, at: int) -> int:
    """The codepoint of the IP packet at data[at:]."""
    octet = data[at + 1]
    return octet & 3 if data[at] >> 4 == 4 else octet >> 4 & 3


def set_ecn_bits(data: bytearray, at: int, bits: int) -> None:
    """Set `bits` in the ECN field of the IP packet at data[at:], and leave those that are set.

    So the field becomes `bits` where it was Not-ECT, and CE in any case if `bits` says CE.
    """
    if data[at] >> 4 == 6:
        data[at + 1] |= bits << 4
        return
    before = data[at + 1]
    data[at + 1] |= bits
    (check,) = _WORD.unpack_from(data, at + 10)
    changed = (~check & 0xFFFF) + data[at + 1] - before  # RFC 1624 equation 3
    _WORD.pack_into(data, at + 10, ~fold(changed) & 0xFFFF)
