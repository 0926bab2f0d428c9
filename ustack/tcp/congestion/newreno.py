"""Slow start and congestion avoidance with byte counting (RFC 5681, RFC 3465, RFC 6928)."""

INFINITE_SSTHRESH = 1 << 60  # RFC 5681 §3.1: arbitrarily high at first
MIN_SSTHRESH_SEGMENTS = 2  # RFC 5681 equation 4


class NewReno:
    """The controller that RFC 6582 assumes: ssthresh is half of what was in flight at the loss."""

    __slots__ = ("_acked", "_initial", "_mss", "cwnd", "ssthresh")

    def __init__(self, mss: int, initial_segments: int) -> None:
        self._mss = mss
        # RFC 6928 §2: min(10 MSS, max(2 MSS, 14600)), scaled for other counts of segments
        self._initial = min(initial_segments * mss, max(2 * mss, initial_segments * 1460))
        self._acked = 0
        self.cwnd = self._initial
        self.ssthresh = INFINITE_SSTHRESH

    def on_ack(
        self, acked: int, in_flight: int, rtt_us: int | None, app_limited: bool, now: int
    ) -> None:
        """Grow, but only a window that is in use (RFC 7661 §4.3).

        Choice: in slow start all bytes acknowledged count (L of RFC 3465 is unlimited, as in
        Linux), since one ACK of a super-segment stands for dozens of segments.
        """
        if app_limited:
            return
        if self.cwnd < self.ssthresh:
            self.cwnd += acked
            if self.cwnd <= self.ssthresh:
                return
            acked = self.cwnd - self.ssthresh
            self.cwnd = self.ssthresh
        self._acked += acked
        if self._acked >= self.cwnd:  # RFC 3465 §2.1: one MSS for each window acknowledged
            self._acked -= self.cwnd
            self.cwnd += self._mss

    def on_loss(self, in_flight: int, now: int) -> None:
        """RFC 5681 equation 4."""
        self.ssthresh = max(in_flight // 2, MIN_SSTHRESH_SEGMENTS * self._mss)
        self._acked = 0

    def on_rto(self, in_flight: int, pipe: int, now: int, repeated: bool) -> None:
        """RFC 5681 §3.1: the loss window is one segment, beside what is not lost."""
        if not repeated:
            self.on_loss(in_flight, now)
        self.cwnd = pipe + self._mss

    def on_undo(self, cwnd: int, ssthresh: int, now: int) -> None:
        """Both windows are as if the loss had not been thought of."""
        self.cwnd = max(self.cwnd, cwnd)
        self.ssthresh = max(self.ssthresh, ssthresh)

    def on_recovered(self, now: int) -> None:
        """RFC 6582 §3.2 step 3, first option without its burst: PRR already limited the flight."""
        self.cwnd = max(self.ssthresh, self._mss)

    def on_idle(self, idle_us: int, rto_us: int) -> None:
        """RFC 5681 §4.1: back to the initial window after an idle RTO. Linux halves per RTO."""
        while idle_us > rto_us and self.cwnd > self._initial:
            self.ssthresh = max(self.ssthresh, 3 * self.cwnd // 4)  # RFC 2861 §2
            self.cwnd = max(self.cwnd // 2, self._initial)
            idle_us -= rto_us

    def on_mss(self, mss: int) -> None:
        """A smaller segment: the window in segments stays as it was (RFC 5681 §3.1), at least one.

        A larger one: the window in bytes stays (RFC 4821 §4).
        """
        if mss < self._mss:
            self.cwnd = self.cwnd * mss // self._mss
        self.cwnd = max(self.cwnd, mss)
        self._mss = mss
