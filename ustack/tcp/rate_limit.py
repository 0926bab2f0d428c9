"""So many per second and no more: the answer to floods (RFC 5961 §7, RFC 4443 §2.4 (f))."""


class RateLimit:
    """Allows `per_second` events in each second of the caller's clock."""

    __slots__ = ("_left", "_per_second", "_second")

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = -1
        self._left = 0

    def allow(self, now: int) -> bool:
        """True if one more may happen at `now` (µs)."""
        second = now // 1_000_000
        if second != self._second:
            self._second = second
            self._left = self._per_second
        if self._left <= 0:
            return False
        self._left -= 1
        return True
