"""Round-trip time and retransmission timeout (RFC 6298)."""

DISTRUSTFUL_RTO_US = 3_000_000  # RFC 6298 §5.7


class RttEstimator:
    """SRTT, RTTVAR and RTO, all in µs. `srtt` is 0 before the first sample."""

    __slots__ = (
        "_max_us",
        "_min_us",
        "backoff",
        "base",
        "latest",
        "min_rtt",
        "rto",
        "rttvar",
        "srtt",
    )

    def __init__(self, initial_us: int, min_us: int, max_us: int) -> None:
        self._min_us = min_us
        self._max_us = max_us
        self.srtt = 0
        self.rttvar = 0
        self.latest = 0
        self.min_rtt = 0
        self.base = initial_us  # RTO without back-off
        self.backoff = 0  # doublings in force
        self.rto = initial_us  # RTO in force

    def bound(self, min_us: int, max_us: int) -> None:
        """Other limits from the next sample or time-out on."""
        self._min_us = min_us
        self._max_us = max_us
        self.rto = min(self.rto, max_us)

    def sample(self, rtt_us: int) -> None:  # hot
        """Take one measurement from a segment that was not retransmitted (Karn), §2.2 and §2.3.

        Linux: the floor of the RTO applies to the variance term and not to the sum, so that a
        delayed ACK on a path with a steady RTT never times out; §2.4 puts 1 s under the sum.
        """
        rtt = rtt_us if rtt_us > 0 else 1
        self.latest = rtt
        self.backoff = 0  # only a valid sample ends the back-off (§5, Karn)
        srtt = self.srtt
        if not srtt:
            self.srtt = srtt = self.min_rtt = rtt
            rttvar = rtt >> 1
        else:
            if rtt < self.min_rtt:
                self.min_rtt = rtt
            error = rtt - srtt
            rttvar = self.rttvar
            rttvar += ((error if error >= 0 else -error) - rttvar) >> 2  # beta = 1/4
            self.srtt = srtt = srtt + (error >> 3) or 1  # alpha = 1/8
        self.rttvar = rttvar
        variance, least = 4 * rttvar, self._min_us
        rto = srtt + (variance if variance > least else least)
        self.base = self.rto = rto if rto < self._max_us else self._max_us

    def distrust_initial(self) -> None:
        """A SYN was resent and gave no sample: the initial RTO may be too short (§5.7)."""
        self.base = self.rto = min(max(self.base, DISTRUSTFUL_RTO_US), self._max_us)

    def back_off(self) -> None:
        """The timer expired: the RTO doubles, up to its ceiling (§5.5)."""
        self.backoff += 1
        self.rto = min(self.base << min(self.backoff, 32), self._max_us)

    def reset_backoff(self) -> None:
        """The back-off ends without a sample: the peer was there all the time."""
        self.backoff = 0
        self.rto = self.base
