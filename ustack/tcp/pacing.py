"""Pacing: text leaves in bursts of about a millisecond, each when the one before it has had its
time at the pacing rate.

As Linux paces without a queueing discipline (tcp_pacing_check, tcp_update_skb_after_send,
tcp_update_pacing_rate, tcp_tso_autosize). Numbers in, numbers out; knows no Tcb.
"""

UNLIMITED = (1 << 64) - 1  # bytes/s, Linux's ~0: no rate is known or wanted
PACING_SHIFT = 10  # a burst is what 1/1024 s takes (Linux sk_pacing_shift)
LARGEST_BURST = 65_536 - 321  # bytes; Linux: GSO_LEGACY_MAX_SIZE less the headers
RTT_SHIFT = 9  # Linux tcp_tso_rtt_log: nearer peers get larger bursts, half for each 512 µs
MIN_SEGMENTS = 2  # of a burst; Linux tcp_min_tso_segs
PACED_FROM_US = 1_000  # round trips that are shorter have no room for a second burst
UNPACED_SEGMENTS = 10  # the first of a connection: the initial window leaves at once
CATCH_UP_NS = 10_000_000  # a timer that is late by more than that is not made up for
NANOSECOND = 1_000_000_000
SECOND = 1_000_000  # µs


def window_rate(
    mss: int, cwnd: int, flight: int, ssthresh: int, srtt: int, ratios: tuple[int, int]
) -> int:
    """The rate that sends a window, or the flight if that is more, in a round trip, times a ratio.

    `ratios`: in slow start and in congestion avoidance, percent. Bytes/s.
    """
    if not srtt:
        return UNLIMITED
    ratio = ratios[0] if cwnd // mss < ssthresh // mss // 2 else ratios[1]
    return max(cwnd, flight) * SECOND * ratio // (srtt * 100)


def burst_size(rate: int, mss: int, min_rtt: int, least: int = MIN_SEGMENTS) -> int:
    """What may leave at once at `rate` (bytes/s): a millisecond's worth, and more where the round
    trip is so short that the peer's ACKs keep time anyway. Whole segments, at least `least`."""
    size = rate >> PACING_SHIFT
    halvings = min_rtt >> RTT_SHIFT
    if halvings < 32:
        size += LARGEST_BURST >> halvings
    return max(min(size, LARGEST_BURST) // mss, least) * mss


class Pacer:
    """When the next burst may leave, and at what rate."""

    __slots__ = ("_at_ns", "lasting", "quantum", "rate", "waiting")

    def __init__(self) -> None:
        self.rate = UNLIMITED  # bytes/s
        self.quantum = 0  # bytes in one burst that the controller wants; 0: see burst_size
        self.lasting = False  # stays, whatever the configuration says
        self.waiting = False  # a burst could leave if its time had come
        self._at_ns = 0  # ns, Linux tcp_wstamp_ns: fractions of a µs add up

    @property
    def at(self) -> int:
        """When the next burst may leave, µs."""
        return -(-self._at_ns // 1000)

    def due(self, now: int) -> bool:
        """A burst may leave at `now` (µs)."""
        return self._at_ns <= now * 1000

    def sent(self, size: int, segments_out: int, now: int) -> None:
        """A burst of `size` bytes left at `now` (µs), as `segments_out` segments of the connection
        have.

        If what held it up was our own clock, which is that of a process and not a kernel's, the
        schedule goes on as if it had been in time; else up to half of its time is forgiven.
        """
        prior, clock = self._at_ns, now * 1000
        begin = max(prior, clock - CATCH_UP_NS if self.waiting else clock)
        self._at_ns = begin
        if self.rate == UNLIMITED or not self.rate or segments_out < UNPACED_SEGMENTS:
            return
        length = size * NANOSECOND // self.rate
        self._at_ns += length
        if not self.waiting:
            self._at_ns -= min(length // 2, begin - prior)
