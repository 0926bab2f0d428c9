"""CUBIC (RFC 9438): after a loss the window follows a cubic curve in time, not in round trips.

Where the RFC leaves a choice, Linux's is taken: the window moves in whole segments, the curve is
looked at no more than once a millisecond, and as long as no loss has told what the path can carry
the window grows by at least a twentieth in a round trip.
"""

from collections.abc import Callable

from ustack.config import SECOND
from ustack.tcp.congestion.slow_start import SlowStart
from ustack.tcp.congestion.window import (
    INFINITE_SSTHRESH,
    MIN_SSTHRESH_SEGMENTS,
    LossBasedWindow,
)

BETA = 717  # beta_cubic = 0.7, in 1024ths (RFC 9438 §4.6, as Linux rounds it)
UNIT_SHIFT = 10  # time on the curve counts in units of 1/1024 s
CURVE = 410  # C = 0.4 segments/s³ (RFC 9438 §5), in 1024ths
CURVE_SHIFT = 10 + 3 * UNIT_SHIFT
FRIENDLY_ACKS = 15  # eighths of a window, ACKed, for one segment of W_est: 1 / alpha_cubic
RENO_ACKS = 8  # the same once W_est has reached cwnd_prior: alpha = 1
SLOWEST = 100  # windows ACKed for one segment, where the curve is flat
FIRST_SLOWEST = 20  # ACKs for one segment while W_max is unknown (Linux)
FASTEST = 2  # ACKs for one segment: 1.5 windows per round trip (RFC 9438 §4.2)
REFRESH_US = SECOND // 32  # Linux: an unchanged window is looked at again after this; here also
# after a round trip, or W_est (§4.3) would be seen too late on a short path


def cube_root(value: int) -> int:
    """The largest integer whose cube is not above `value`."""
    root = int(value ** (1.0 / 3.0))
    while root**3 > value:
        root -= 1
    while (root + 1) ** 3 <= value:
        root += 1
    return root


class Cubic(LossBasedWindow):
    """W_cubic(t) = C * (t - K)^3 + W_max (RFC 9438 §4.2), and not less than Reno would have."""

    __slots__ = (
        "_acks_per_segment",
        "_credit",
        "_epoch",
        "_k",
        "_limited_since",
        "_make_slow_start",
        "_min_rtt",
        "_origin",
        "_prior",
        "_reno_acked",
        "_reno_window",
        "_slow_start",
        "_updated_at",
        "_updated_window",
        "_w_max",
    )

    def __init__(
        self, mss: int, initial_segments: int, slow_start: Callable[[int], SlowStart] | None
    ) -> None:
        super().__init__(mss, initial_segments)
        self._make_slow_start = slow_start
        self._slow_start = slow_start(mss) if slow_start is not None else None
        self._min_rtt = 0  # µs, 0: none yet
        self._credit = 0  # bytes ACKed that have not grown the window yet
        self._forget()

    def on_pacing(self, paced: bool) -> None:
        super().on_pacing(paced)
        if self._slow_start is not None:
            self._slow_start.paced = paced

    def adopt(self, cwnd: int, ssthresh: int) -> None:
        super().adopt(cwnd, ssthresh)
        if ssthresh < INFINITE_SSTHRESH and self._slow_start is not None:
            if self._slow_start.first_only:
                self._slow_start = self._make_slow_start = None

    def _forget(self) -> None:
        """Nothing is known about the path."""
        self._w_max = 0  # segments; 0: no loss so far
        self._prior = 0  # cwnd_prior: the window before the last cut, segments
        self._epoch: int | None = None  # t_epoch, µs; None: begins with the next ACK
        self._limited_since: int | None = None  # when the user stopped filling the window, µs
        self._acks_per_segment = FIRST_SLOWEST
        self._k = 0  # units
        self._origin = 0  # segments: the plateau of the curve
        self._reno_window = 0  # W_est, segments
        self._reno_acked = 0  # bytes
        self._updated_at = 0
        self._updated_window = 0

    def on_ack(
        self, acked: int, in_flight: int, rtt_us: int | None, app_limited: bool, now: int
    ) -> None:
        """Slow start below ssthresh (§4.10), else along the curve; only a window that is in use."""
        # Linux: round trips of the first second after a cut say nothing, the queue is draining
        if rtt_us is not None and (self._epoch is None or now - self._epoch >= SECOND):
            if not self._min_rtt or rtt_us < self._min_rtt:
                self._min_rtt = rtt_us
        else:
            rtt_us = None
        growth = acked
        if self._slow_start is not None and self.cwnd < self.ssthresh:
            growth = self._slow_start.on_ack(acked, in_flight, self.cwnd, rtt_us, now)
            if self._slow_start.over:
                self._slow_start = None
                self.ssthresh = self.cwnd
        if app_limited:
            if self._limited_since is None:
                self._limited_since = now
            return
        if self._limited_since is not None:
            self._skip(now - self._limited_since, now)
        if self.cwnd < self.ssthresh:
            self.cwnd += growth
            if self.cwnd <= self.ssthresh:
                return
            acked = self.cwnd - self.ssthresh
            self.cwnd = self.ssthresh
        self._follow_curve(acked, now)
        step = self._acks_per_segment * self._mss
        if self._credit >= step:  # steps have become smaller
            self._credit = 0
            self.cwnd += self._mss
        self._credit += acked
        if self._credit >= step:
            segments, self._credit = divmod(self._credit, step)
            self.cwnd += segments * self._mss

    def on_resume(self, idle_us: int, now: int) -> None:
        """Idle time is no time on the curve (§4.2)."""
        if self._limited_since is None:
            self._skip(idle_us, now)

    def _skip(self, idle_us: int, now: int) -> None:
        self._limited_since = None
        if self._epoch is not None:
            self._epoch = min(self._epoch + idle_us, now)

    def _follow_curve(self, acked: int, now: int) -> None:
        """Set how many ACKs it takes to grow by one segment, so that one round trip from now the
        window is where the curve will be."""
        window = self.cwnd // self._mss
        self._reno_acked += acked
        refresh = min(self._min_rtt, REFRESH_US) or REFRESH_US
        if self._updated_window == window and now - self._updated_at <= refresh:
            return
        if self._epoch is None or now - self._updated_at >= 1000:
            self._updated_window = window
            self._updated_at = now
            if self._epoch is None:
                self._begin_epoch(window, acked, now)
            assert self._epoch is not None
            target = self.w_cubic(now - self._epoch + self._min_rtt)
            if target > window:  # §4.4, §4.5
                self._acks_per_segment = window // (target - window)
            else:
                self._acks_per_segment = SLOWEST * window
            if not self._w_max and self._acks_per_segment > FIRST_SLOWEST:
                self._acks_per_segment = FIRST_SLOWEST
        self._follow_reno(window)
        self._acks_per_segment = max(self._acks_per_segment, FASTEST)

    def _begin_epoch(self, window: int, acked: int, now: int) -> None:
        """Congestion avoidance begins: where is the plateau, and when is it reached (§4.2)?"""
        self._epoch = now
        self._reno_acked = acked
        self._reno_window = window
        self._origin = max(self._w_max, window)
        self._k = cube_root(((self._origin - window) << CURVE_SHIFT) // CURVE)

    def w_cubic(self, elapsed_us: int) -> int:
        """Where the curve is `elapsed_us` after the epoch began, segments (§4.2, Figure 1)."""
        offset = (elapsed_us << UNIT_SHIFT) // SECOND - self._k
        distance = CURVE * abs(offset) ** 3 >> CURVE_SHIFT
        return self._origin + distance if offset > 0 else self._origin - distance

    def _follow_reno(self, window: int) -> None:
        """W_est: what Reno would have, with an increase that fits this decrease (§4.3)."""
        slow = not self._prior or self._reno_window < self._prior
        step = (window * (FRIENDLY_ACKS if slow else RENO_ACKS) >> 3) * self._mss
        if self._reno_acked > step:
            segments, self._reno_acked = divmod(self._reno_acked - 1, step)
            self._reno_acked += 1
            self._reno_window += segments
        if self._reno_window > window:
            most = window // (self._reno_window - window)
            self._acks_per_segment = min(self._acks_per_segment, most)

    def on_loss(self, in_flight: int, now: int) -> None:
        """Fast convergence (§4.7), then multiplicative decrease (§4.6).

        From cwnd and not from the flight, as §4.6 allows where an unused window does not grow.
        """
        self._note_loss()
        if self._slow_start is not None and self._slow_start.first_only:
            self._slow_start = self._make_slow_start = None
        window = self.cwnd // self._mss
        self._epoch = None
        self._prior = window
        self._w_max = window * (1024 + BETA) // 2048 if window < self._w_max else window
        self.ssthresh = max(window * BETA >> 10, MIN_SSTHRESH_SEGMENTS) * self._mss

    def on_undo(self, cwnd: int, ssthresh: int, now: int) -> None:
        """§4.9. Linux: W_max stays what it has become, it is not above the window."""
        super().on_undo(cwnd, ssthresh, now)
        self._epoch = None

    def on_rto(self, in_flight: int, pipe: int, now: int, repeated: bool) -> None:
        """§4.8: the curve begins anew, K = 0 and W_max = cwnd, when slow start is over."""
        super().on_rto(in_flight, pipe, now, repeated)
        prior = self._prior
        self._forget()
        self._prior = prior
        self._credit = 0
        self._min_rtt = 0
        if self._make_slow_start is not None:
            self._slow_start = self._make_slow_start(self._mss)
            self._slow_start.paced = self._paced
