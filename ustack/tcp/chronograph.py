"""What held a sender up, and for how long: the peer's window, the send buffer, or only the network.

As Linux's tcp_chrono: at each moment the clock of the strongest reason runs, and one that says
"busy" while anything is queued or in flight. Made for a connection with its first text.
"""

IDLE, BUSY, PEER_WINDOW, SEND_BUFFER = range(4)


class Chronograph:
    """The clocks of one connection. Times are µs."""

    __slots__ = ("_since", "_totals", "running")

    def __init__(self) -> None:
        self.running = IDLE
        self._since = 0
        self._totals = [0, 0, 0, 0]

    def start(self, reason: int, now: int) -> None:
        """`reason` holds; a stronger one keeps its clock."""
        running = self.running
        if reason > running:
            if running:
                self._totals[running] += now - self._since
            self.running = reason
            self._since = now

    def stop(self, reason: int, now: int) -> None:
        """`reason` holds no longer; if its clock ran, the sender is merely busy."""
        if reason == self.running:
            self._totals[reason] += now - self._since
            self.running = BUSY
            self._since = now

    def idle(self, now: int) -> None:
        """Nothing is queued or in flight."""
        self._totals[self.running] += now - self._since
        self.running = IDLE
        self._since = now

    def totals(self, now: int) -> tuple[int, int, int]:
        """Time spent busy, of that held up by the peer's window, and by the send buffer."""
        totals = list(self._totals)
        totals[self.running] += now - self._since
        return sum(totals[BUSY:]), totals[PEER_WINDOW], totals[SEND_BUFFER]
