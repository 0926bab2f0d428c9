"""Slow start and congestion avoidance with byte counting (RFC 5681, RFC 3465, RFC 6928)."""

from ustack.tcp.congestion.slow_start import SlowStart
from ustack.tcp.congestion.window import (
    INFINITE_SSTHRESH,
    MIN_SSTHRESH_SEGMENTS,
    LossBasedWindow,
)


class NewReno(LossBasedWindow):
    """The controller that RFC 6582 assumes: ssthresh is half of what was in flight at the loss."""

    __slots__ = ("_acked", "_slow_start")

    def __init__(self, mss: int, initial_segments: int, slow_start: SlowStart | None) -> None:
        """`slow_start`: what may end slow start before a loss does."""
        super().__init__(mss, initial_segments)
        self._acked = 0
        self._slow_start = slow_start

    def on_pacing(self, paced: bool) -> None:
        super().on_pacing(paced)
        if self._slow_start is not None:
            self._slow_start.paced = paced

    def adopt(self, cwnd: int, ssthresh: int) -> None:
        super().adopt(cwnd, ssthresh)
        if ssthresh < INFINITE_SSTHRESH:
            self._slow_start = None

    def on_resume(self, idle_us: int, now: int) -> None:
        """Growth does not depend on the time."""

    def on_ack(
        self, acked: int, in_flight: int, rtt_us: int | None, app_limited: bool, now: int
    ) -> None:
        """Grow, but only a window that is in use (RFC 7661 §4.3).

        Choice: in slow start all bytes acknowledged count (L of RFC 3465 is unlimited, as in
        Linux), since one ACK of a super-segment stands for dozens of segments.
        """
        growth = acked
        if self._slow_start is not None and self.cwnd < self.ssthresh:
            growth = self._slow_start.on_ack(acked, in_flight, self.cwnd, rtt_us, now)
            if self._slow_start.over:
                self._slow_start = None
                self.ssthresh = self.cwnd
        if app_limited:
            return
        if self.cwnd < self.ssthresh:
            self.cwnd += growth
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
        self._note_loss()
        self.ssthresh = max(in_flight // 2, MIN_SSTHRESH_SEGMENTS * self._mss)
        self._acked = 0
        self._slow_start = None
