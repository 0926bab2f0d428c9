"""Sequence numbers: the wire's 32 bits and the unbounded positions used everywhere inside."""

MASK32 = 0xFFFF_FFFF


def unwrap(low32: int, near: int) -> int:
    """The position closest to `near` whose low 32 bits are `low32` (RFC 9293 §3.4).

    Inside the stack positions are plain ints, so `<`, `max` and `bisect` are right as written.
    """
    ahead = (low32 - near) & MASK32
    return near + ahead if ahead < 0x8000_0000 else near + ahead - 0x1_0000_0000


def older32(a: int, b: int) -> bool:
    """True if the 32-bit value `a` was counted before `b` (RFC 7323 §5.2; timestamps)."""
    return (a - b) & MASK32 >= 0x8000_0000
