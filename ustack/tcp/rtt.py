"""Round-trip time and retransmission timeout (RFC 6298)."""

DISTRUSTFUL_RTO_US = 3_000_000  # RFC 6298 §5.7


class RttEstimator:
    """SRTT, RTTVAR and RTO, all in µs. `srtt` is 0 before the first sample.

    As in Linux, the RTO follows the largest RTTVAR of the last round trip, and comes down from it
    by a quarter in each; a round trip that becomes shorter hardly counts as variance.
    """

    __slots__ = (
        "_deviation",
        "_largest",
        "_max_us",
        "_min_us",
        "_round_end",
        "_smoothed",
        "_variance",
        "backoff",
        "base",
        "latest",
        "min_rtt",
        "rto",
        "srtt",
    )

    def __init__(self, initial_us: int, min_us: int, max_us: int) -> None:
        self._min_us = min_us
        self._max_us = max_us
        self.srtt = 0
        self._smoothed = 0  # 8 * SRTT
        self._deviation = initial_us  # 4 * RTTVAR; before the first sample as in Linux
        self._largest = 0  # `_deviation` at its largest since this round trip began
        self._variance = 0  # what the RTO adds to SRTT
        self._round_end = 0  # SND.NXT when the round trip began
        self.latest = 0
        self.min_rtt = 0
        self.base = initial_us  # RTO without back-off
        self.backoff = 0  # doublings in force
        self.rto = initial_us  # RTO in force

    @property
    def rttvar(self) -> int:
        """RTTVAR (RFC 6298 §2)."""
        return self._deviation >> 2

    def bound(self, min_us: int, max_us: int) -> None:
        """Other limits from the next sample or time-out on."""
        self._min_us = min_us
        self._max_us = max_us
        self.rto = min(self.rto, max_us)

    def sample(self, rtt_us: int, una: int, nxt: int) -> None:  # hot
        """Take one measurement from a segment that was not retransmitted (Karn), §2.2 and §2.3.

        `una`, `nxt`: SND.UNA, the ACK taken in, and SND.NXT. Linux: the floor of the RTO applies
        to the variance term and not to the sum, so that a delayed ACK on a path with a steady RTT
        never times out; §2.4 puts 1 s under the sum.
        """
        rtt = rtt_us if rtt_us > 0 else 1
        self.latest = rtt
        self.backoff = 0  # only a valid sample ends the back-off (§5, Karn)
        smoothed = self._smoothed
        if not smoothed:
            self.min_rtt = rtt
            self._smoothed = smoothed = rtt << 3
            self._deviation = rtt << 1
            self._variance = self._largest = max(rtt << 1, self._min_us)
            self._round_end = nxt
        else:
            if rtt < self.min_rtt:
                self.min_rtt = rtt
            error = rtt - (smoothed >> 3)
            self._smoothed = smoothed = smoothed + error  # alpha = 1/8
            deviation = self._deviation
            if error >= 0:
                deviation += error - (deviation >> 2)  # beta = 1/4
            else:
                error = -error - (deviation >> 2)
                deviation += error >> 3 if error > 0 else error
            self._deviation = deviation
            if deviation > self._largest:
                self._largest = deviation
                if deviation > self._variance:
                    self._variance = deviation
            if una > self._round_end:
                variance = self._variance
                if self._largest < variance:
                    self._variance = variance - ((variance - self._largest) >> 2)
                self._round_end = nxt
                self._largest = self._min_us
        self.srtt = srtt = smoothed >> 3 or 1
        rto = srtt + self._variance
        self.base = self.rto = rto if rto < self._max_us else self._max_us

    def sample_newest(self, rtt_us: int) -> None:
        """What the newest segment of the same ACK took: it waited least for that ACK."""
        self.latest = rtt_us
        if 0 < rtt_us < self.min_rtt:
            self.min_rtt = rtt_us

    def distrust_initial(self) -> None:
        """A SYN was resent and gave no sample: the initial RTO may be too short (§5.7)."""
        self.base = self.rto = min(max(self.base, DISTRUSTFUL_RTO_US), self._max_us)
        self._deviation = DISTRUSTFUL_RTO_US

    def back_off(self) -> None:
        """The timer expired: the RTO doubles, up to its ceiling (§5.5)."""
        self.backoff += 1
        self.rto = min(self.base << min(self.backoff, 32), self._max_us)

    def reset_backoff(self) -> None:
        """The back-off ends without a sample: the peer was there all the time."""
        self.backoff = 0
        self.rto = self.base
