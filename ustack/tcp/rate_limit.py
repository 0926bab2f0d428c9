"""So many per second and no more: the answer to floods (RFC 5961 §7, RFC 4443 §2.4 (f))."""

from collections.abc import Callable


class RateLimit:
    """Allows `per_second` events in each second of the caller's clock.

    With `randrange`, half to one and a half of it, anew in each second: a limit that strangers
    share must not let them count each other's events (CVE-2016-5696; Linux does the same).
    """

    __slots__ = ("_left", "_per_second", "_randrange", "_second")

    def __init__(self, per_second: int, randrange: Callable[[int], int] | None = None) -> None:
        self._per_second = per_second
        self._randrange = randrange
        self._second = -1
        self._left = 0

    def allow(self, now: int) -> bool:
        """True if one more may happen at `now` (µs)."""
        second = now // 1_000_000
        if second != self._second:
            self._second = second
            self._left = limit = self._per_second
            if self._randrange is not None and limit > 0:
                self._left = (limit + 1) // 2 + self._randrange(limit)
        if self._left <= 0:
            return False
        self._left -= 1
        return True
