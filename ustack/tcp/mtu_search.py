"""The range in which the path MTU of one connection lies, and the probe that narrows it
(RFC 4821 §7.2). Sizes are bytes of text and options in one packet; knows no Tcb."""


class MtuSearch:
    """`low` has arrived, or is believed to; nothing above `high` will. Positions are unwrapped."""

    __slots__ = ("end", "high", "low", "reserved", "since", "size", "start")

    def __init__(self, low: int, high: int, now: int) -> None:
        self.low = min(low, high)
        self.high = high
        self.since = now  # µs, when this search began
        self.size = 0  # of the probe under way, 0: none
        self.start = 0  # where its text begins
        self.end = 0  # and ends
        self.reserved = 0  # bytes that it has taken off the congestion window

    def middle(self) -> int:
        """What to try next."""
        return (self.low + self.high) >> 1

    def sent(self, size: int, start: int, end: int, reserved: int) -> None:
        """A probe of `size` bytes carries [start, end)."""
        self.size, self.start, self.end, self.reserved = size, start, end, reserved

    def succeeded(self) -> None:
        """The probe has arrived (RFC 4821 §7.6.1)."""
        self.low, self.size = self.size, 0

    def failed(self) -> None:
        """It was lost and what was sent after it was not (§7.6.2)."""
        self.high, self.size = max(self.size - 1, self.low), 0

    def inconclusive(self) -> None:
        """It was lost, but perhaps with everything else (§7.6.3): its size is tried again."""
        self.size = 0

    def lower(self, size: int) -> None:
        """Not even `low` arrives: begin again below it (§7.7)."""
        self.low, self.size = min(size, self.high), 0

    def bound(self, high: int) -> None:
        """A router, or the peer, has said that no more than `high` is possible (§7.5)."""
        self.high = min(self.high, high)
        self.low = min(self.low, self.high)
        if self.size > self.high:
            self.size = 0

    def restart(self, high: int, now: int) -> None:
        """After so long, the path may be a better one (§7.4)."""
        self.high, self.since = high, now
