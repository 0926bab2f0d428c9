"""Round-trip time and retransmission timeout (RFC 6298)."""


class RttEstimator:
    """SRTT, RTTVAR and RTO, all in µs. `srtt` is 0 before the first sample."""

    __slots__ = (
        "_initial_us",
        "_max_us",
        "_min_us",
        "backoff",
        "latest",
        "min_rtt",
        "rttvar",
        "srtt",
    )

    def __init__(self, initial_us: int, min_us: int, max_us: int) -> None:
        self._initial_us = initial_us
        self._min_us = min_us
        self._max_us = max_us
        self.srtt = 0
        self.rttvar = 0
        self.latest = 0
        self.min_rtt = 0
        self.backoff = 0

    def sample(self, rtt_us: int) -> None:
        """Take one measurement from a segment that was not retransmitted (Karn), §2.2 and §2.3."""
        rtt = rtt_us if rtt_us > 0 else 1
        self.latest = rtt
        self.backoff = 0  # only a valid sample ends the back-off (§5, Karn)
        if not self.srtt:
            self.srtt = self.min_rtt = rtt
            self.rttvar = rtt >> 1
            return
        if rtt < self.min_rtt:
            self.min_rtt = rtt
        error = rtt - self.srtt
        self.rttvar += ((error if error >= 0 else -error) - self.rttvar) >> 2  # beta = 1/4
        self.srtt += error >> 3  # alpha = 1/8
        if self.srtt < 1:
            self.srtt = 1

    def base_rto(self) -> int:
        """RTO without back-off.

        Linux: the floor applies to the variance term, not to the sum, so that a delayed ACK on
        a path with a steady RTT never times out; §2.4 puts 1 s under the sum.
        """
        if not self.srtt:
            return self._initial_us
        variance = 4 * self.rttvar
        return min(self.srtt + max(variance, self._min_us), self._max_us)

    def rto(self) -> int:
        """RTO in force: doubled once for each expiry since the last new ACK (§5.5)."""
        if not self.backoff:
            return self.base_rto()
        return min(self.base_rto() << min(self.backoff, 32), self._max_us)

    def back_off(self) -> None:
        """The timer expired (§5.5)."""
        self.backoff += 1
