"""Ways to leave slow start before the queue of the bottleneck overflows. Numbers in, growth out.

`HyStart` is what Linux's CUBIC does (Ha and Rhee, 2011): one sign is enough. `HyStartPlusPlus` is
RFC 9406: a sign first slows the growth down, so that a false one costs little. A round begins with
an ACK and ends when what was in flight then is acknowledged.
"""

from collections.abc import Callable
from typing import Protocol

UNKNOWN = 1 << 60  # µs: no round trip was measured


class SlowStart(Protocol):
    """Watches the ACKs of a slow start. Bytes and µs."""

    over: bool  # slow start ends here: ssthresh becomes cwnd
    first_only: bool  # later slow starts know their ssthresh and go without
    paced: bool  # text leaves at the rate of the window, not in bursts

    def on_ack(self, acked: int, in_flight: int, cwnd: int, rtt_us: int | None, now: int) -> int:
        """How much of `acked` cwnd may grow by; `in_flight`: what remains unacknowledged."""


class HyStart:
    """Linux: slow start is over when ACKs of one round come in a train longer than half the
    round trip (paced: than all of it), or when the round trip has grown by an eighth."""

    __slots__ = (
        "_acked",
        "_last_ack_at",
        "_min_rtt",
        "_mss",
        "_round_end",
        "_round_min_rtt",
        "_round_started_at",
        "_samples",
        "over",
        "paced",
    )

    first_only = False
    LOW_WINDOW_SEGMENTS = 16  # below, the window is too small to tell
    TRAIN_GAP_US = 2_000  # ACKs that follow so closely belong to one train
    MIN_SAMPLES = 8
    MIN_DELAY_US = 4_000
    MAX_DELAY_US = 16_000
    SEND_ALLOWANCE_US = 1_000  # at most, for the time it takes to send four super-segments
    FOUR_SUPER_SEGMENTS = 4 * 65536  # bytes

    def __init__(self, mss: int) -> None:
        self._mss = mss
        self.over = self.paced = False
        self._min_rtt = UNKNOWN
        self._acked = 0
        self._round_end = 0  # the round is over when more than this has been acknowledged
        self._round_started_at = 0
        self._last_ack_at = 0
        self._round_min_rtt = UNKNOWN
        self._samples = 0

    def on_ack(self, acked: int, in_flight: int, cwnd: int, rtt_us: int | None, now: int) -> int:
        """All of it, until there is a sign."""
        self._acked += acked
        if rtt_us is None:
            return acked
        if rtt_us < self._min_rtt:
            self._min_rtt = rtt_us
        if self._acked > self._round_end:
            self._round_end = self._acked + in_flight
            self._round_started_at = self._last_ack_at = now
            self._round_min_rtt = UNKNOWN
            self._samples = 0
        if cwnd < self.LOW_WINDOW_SEGMENTS * self._mss:
            return acked
        if now - self._last_ack_at <= self.TRAIN_GAP_US:
            self._last_ack_at = now
            if now - self._round_started_at > self._train_limit(cwnd, rtt_us):
                self.over = True
        if rtt_us < self._round_min_rtt:
            self._round_min_rtt = rtt_us
        if self._samples < self.MIN_SAMPLES:
            self._samples += 1
        elif self._round_min_rtt > self._min_rtt + self._delay_limit():
            self.over = True
        return acked

    def _train_limit(self, cwnd: int, rtt_us: int) -> int:
        """How long a train of ACKs may last; the rate in slow start is 2 cwnd per round trip."""
        sending = self.FOUR_SUPER_SEGMENTS * rtt_us // (2 * cwnd)
        limit = self._min_rtt + min(sending, self.SEND_ALLOWANCE_US)
        return (
            limit if self.paced else limit // 2
        )  # pacing spreads over half of a round trip itself

    def _delay_limit(self) -> int:
        return min(max(self._min_rtt >> 3, self.MIN_DELAY_US), self.MAX_DELAY_US)


class HyStartPlusPlus:
    """RFC 9406 §4.2: a longer round trip turns slow start into conservative slow start (CSS)."""

    __slots__ = (
        "_acked",
        "_baseline",
        "_cap",
        "_css_rounds",
        "_last_min_rtt",
        "_round_end",
        "_round_min_rtt",
        "_samples",
        "over",
        "paced",
    )

    first_only = True
    # RFC 9406 §4.3
    MIN_RTT_THRESH_US = 4_000
    MAX_RTT_THRESH_US = 16_000
    MIN_RTT_DIVISOR = 8
    N_RTT_SAMPLE = 8
    CSS_GROWTH_DIVISOR = 4
    CSS_ROUNDS = 5
    L = 8  # segments that one ACK may add, without pacing

    def __init__(self, mss: int) -> None:
        self.over = self.paced = False
        self._cap = self.L * mss
        self._acked = 0
        self._round_end = 0
        self._last_min_rtt = UNKNOWN  # lastRoundMinRTT
        self._round_min_rtt = UNKNOWN  # currentRoundMinRTT
        self._samples = 0  # rttSampleCount
        self._baseline = UNKNOWN  # cssBaselineMinRtt; UNKNOWN: not in CSS
        self._css_rounds = 0

    def on_ack(self, acked: int, in_flight: int, cwnd: int, rtt_us: int | None, now: int) -> int:
        """At most eight segments unless paced (§4.3), and a quarter of that in CSS."""
        self._acked += acked
        if self._acked > self._round_end:
            self._begin_round(in_flight)
        if rtt_us is not None:
            if rtt_us < self._round_min_rtt:
                self._round_min_rtt = rtt_us
            self._samples += 1
        growth = acked
        if acked > self._cap and not self.paced:
            growth = self._cap
        if self._baseline != UNKNOWN:
            growth //= self.CSS_GROWTH_DIVISOR
        if self._samples >= self.N_RTT_SAMPLE:
            self._judge()
        return growth

    def _begin_round(self, in_flight: int) -> None:
        self._round_end = self._acked + in_flight
        self._last_min_rtt = self._round_min_rtt
        self._round_min_rtt = UNKNOWN
        self._samples = 0
        if self._baseline != UNKNOWN:
            self._css_rounds += 1  # the one in which CSS began counts too
            if self._css_rounds >= self.CSS_ROUNDS:
                self.over = True

    def _judge(self) -> None:
        """Enough samples of this round: into CSS, or back if that was a false alarm."""
        if self._baseline != UNKNOWN:
            if self._round_min_rtt < self._baseline:
                self._baseline = UNKNOWN
                self._css_rounds = 0
        elif self._last_min_rtt != UNKNOWN:
            eighth = self._last_min_rtt // self.MIN_RTT_DIVISOR
            threshold = max(self.MIN_RTT_THRESH_US, min(eighth, self.MAX_RTT_THRESH_US))
            if self._round_min_rtt >= self._last_min_rtt + threshold:
                self._baseline = self._round_min_rtt


SLOW_STARTS: dict[str, Callable[[int], SlowStart] | None] = {
    "standard": None,  # only loss ends it (RFC 5681)
    "hystart": HyStart,
    "hystart++": HyStartPlusPlus,
}
