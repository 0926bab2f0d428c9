"""How much memory the buffers of all connections of a stack hold together, and how much they may.

Linux tcp_mem: above the second of three thresholds buffers grow no more, until it is below the
first; above the third, what can come again is not taken. See memory_pressure for who asks.
"""

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ustack.tcp.tcb import Tcb


class Memory:
    """The account of one stack, in bytes."""

    __slots__ = (
        "_low",
        "_pressure_at",
        "counters",
        "full",
        "holders",
        "limit",
        "most_orphans",
        "orphans",
        "pressure",
        "used",
    )

    def __init__(
        self, limit: int, pressure_at: int, most_orphans: int, counters: Counter[str]
    ) -> None:
        self.limit = limit
        self._pressure_at = pressure_at
        self._low = pressure_at * 3 // 4  # Linux: so that the state does not flicker
        self.most_orphans = most_orphans
        self.counters = counters
        self.used = 0
        self.pressure = False  # buffers are not to grow
        self.full = False  # the limit is reached
        self.holders: dict[Tcb, None] = {}  # who holds text behind gaps, the oldest first
        self.orphans: set[Tcb] = set()  # closed by their users, and still sending

    def change(self, by: int) -> None:
        """`by` bytes more are held, or less."""
        self.used = used = self.used + by
        self.full = used >= self.limit
        if self.pressure:
            self.pressure = used >= self._low
        elif used >= self._pressure_at:
            self.pressure = True
            self.counters["memory-pressure"] += 1
