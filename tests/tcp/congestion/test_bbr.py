"""BBRv3 against what draft-ietf-ccwg-bbr says of each state; one ACK stands for a round trip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.tcp.congestion.bbr import Bbr
from ustack.tcp.congestion.bbr_states import (
    CRUISE,
    DOWN,
    DRAIN,
    INFINITE,
    PROBE_RTT,
    REFILL,
    STARTUP,
    UP,
    Ack,
    State,
)
from ustack.tcp.congestion.windowed_max import WindowedMax
from ustack.tcp.delivery_rate import Origin, RateSample

MSS = 1000
MS = 1_000  # µs
SECOND = 1_000_000  # µs
RTT = 100 * MS
BW = 1_000_000  # bytes/s of the path
BDP = 100 * MSS


class Path:
    """A sender with BBR, whose ACKs the test writes."""

    def __init__(self) -> None:
        self.bbr = Bbr(MSS, 10)
        self.now = 1_000 * SECOND
        self.delivered = 1
        self.bbr.begin(RTT, self.now)

    def ack(
        self,
        rate: int = BW,
        *,
        in_flight: int = BDP,
        lost: int = 0,
        newly_lost: int = 0,
        rtt: int = RTT,
        after: int = RTT,
        app_limited: bool = False,
        cwnd_limited: bool = False,
        tx_in_flight: int | None = None,
    ) -> None:
        """A round trip later: what was in flight at its beginning has arrived at `rate`."""
        if self.bbr.phase is PROBE_RTT:
            in_flight = min(in_flight, self.bbr.cwnd)
        size = max(rate * after // SECOND, 1)
        prior = self.delivered
        self.delivered += size
        self.now += after
        flight = in_flight if tx_in_flight is None else tx_in_flight
        sample = RateSample(rate, size, after, prior, app_limited, flight, lost)
        self.bbr.on_sample(
            Ack(sample, size, newly_lost, rtt, in_flight, self.delivered, cwnd_limited, self.now)
        )

    def until(self, phase: State, **ack: int) -> None:
        for _ in range(400):
            if self.bbr.phase is phase:
                return
            self.ack(**ack)  # type: ignore[arg-type]
        raise AssertionError(f"{self.bbr.phase}, never {phase}")

    def lose(
        self, in_flight: int, lost: int, size: int = MSS, *, app_limited: bool = False
    ) -> None:
        """`size` bytes, sent with so much in flight, are lost; with them `lost` since then."""
        origin = Origin(0, 0, 0, 0, app_limited=app_limited)
        origin.in_flight = in_flight
        self.bbr.on_lost(origin, lost, size)


def cruising() -> Path:
    path = Path()
    path.until(DRAIN, in_flight=2 * BDP)
    path.until(CRUISE)
    return path


def test_the_first_rate_sends_2_77_initial_windows_in_a_round_trip() -> None:
    # §5.6.2 BBRInitPacingRate; 1 ms where no round trip is known
    path = Path()
    assert path.bbr.pacing_rate == 277 * 10 * MSS * 10 // 100
    assert Bbr(MSS, 10).pacing_rate == 277 * 10 * MSS * 1000 // 100


def test_startup_goes_on_while_the_bandwidth_grows_by_a_quarter() -> None:
    # §5.3.1: the gains are 2.77 and 2
    path = Path()
    rate = 100_000
    for _ in range(8):
        path.ack(rate)
        rate = rate * 5 // 4
    assert path.bbr.phase is STARTUP and not path.bbr.full_bw_reached
    assert path.bbr.pacing_rate == path.bbr.max_bw * 277 * 99 // 10_000


def test_three_rounds_without_a_quarter_more_fill_the_pipe() -> None:
    # §5.3.1.2
    path = Path()
    path.ack(BW)
    for _ in range(2):
        path.ack(BW * 124 // 100)
    assert path.bbr.phase is STARTUP
    path.ack(BW * 124 // 100, in_flight=3 * BDP)
    assert path.bbr.phase is DRAIN
    assert path.bbr.pacing_rate == path.bbr.max_bw * 50 * 99 // 10_000


def test_a_user_who_sends_less_does_not_end_startup() -> None:
    path = Path()
    path.ack(BW)
    for _ in range(10):
        path.ack(BW // 2, app_limited=True)
    assert path.bbr.phase is STARTUP
    assert path.bbr.max_bw == BW


def test_startup_ends_with_a_round_that_lost_more_than_two_percent() -> None:
    # §5.3.1.3: six ranges or more, after a round of recovery
    path = Path()
    path.ack(100_000)
    path.bbr.on_loss(0, path.now)
    for ranges in (5, 6):
        path.ack(200_000, in_flight=50 * MSS)
        for _ in range(ranges):
            path.lose(50 * MSS, 2 * MSS)
        path.ack(400_000 + ranges * 100_000, in_flight=50 * MSS, newly_lost=ranges * MSS)
        assert (path.bbr.phase is STARTUP) == (ranges == 5)
    assert path.bbr.inflight_longterm >= path.bbr.max_bw * RTT // SECOND


def test_drain_lasts_until_no_more_than_the_product_is_in_flight() -> None:
    # §5.3.2
    path = Path()
    path.until(DRAIN, in_flight=2 * BDP)
    path.ack(in_flight=BDP + MSS)
    assert path.bbr.phase is DRAIN
    path.ack(in_flight=BDP)
    assert path.bbr.phase in (DOWN, CRUISE)


@pytest.mark.parametrize("phase, gain", [(DOWN, 90), (CRUISE, 100), (REFILL, 100), (UP, 125)])
def test_the_pacing_gains_of_probe_bw(phase: State, gain: int) -> None:
    # §5.6.1, with the margin of §5.6.2; DOWN: something is in flight still
    path = cruising()
    path.until(UP)
    if phase is DOWN:
        path.until(DOWN, in_flight=2 * BDP)
    else:
        path.until(phase)
    assert path.bbr.pacing_rate == BW * gain * 99 // 10_000


def test_the_window_is_twice_the_product_and_what_acks_hold_back() -> None:
    # §5.6.4.2
    path = cruising()
    for _ in range(12):  # §5.5.9: what was seen in Startup has left the filter
        path.ack()
    assert 2 * BDP <= path.bbr.cwnd <= 2 * BDP + BDP  # one ACK in a round trip is aggregation


def test_bandwidth_is_probed_for_two_to_three_seconds_after_the_last_time_at_most() -> None:
    # §5.3.3.5: or after 63 rounds, or as many as the product has segments
    path = cruising()
    path.until(DOWN, in_flight=2 * BDP)
    begin, rtt = path.now, RTT
    while path.bbr.phase is not REFILL:
        rtt -= 1  # a new least round trip, so that ProbeRTT is not due
        path.ack(rtt=rtt)
    assert 2 * SECOND <= path.now - begin <= 3 * SECOND + 2 * RTT
    path.ack()
    assert path.bbr.phase is UP  # REFILL lasts a round trip


def test_a_short_path_is_probed_after_63_rounds() -> None:
    path = cruising()
    path.until(DOWN, in_flight=2 * BDP)
    rounds = 0
    while path.bbr.phase is not REFILL:
        path.ack(after=10 * MS)
        rounds += 1
    assert 62 <= rounds <= 64


def test_probing_up_ends_when_there_is_no_more_bandwidth() -> None:
    path = cruising()
    path.until(UP)
    for _ in range(3):
        path.ack()
    assert path.bbr.phase is DOWN


def test_more_bandwidth_is_found_by_probing() -> None:
    path = cruising()
    path.until(UP)
    for rate in (BW * 5 // 4, BW * 25 // 16, BW * 2):
        path.ack(rate)
    assert path.bbr.phase is UP
    assert path.bbr.max_bw == 2 * BW


def test_bandwidth_that_is_gone_is_forgotten_after_two_cycles() -> None:
    # MaxBwFilterLen (§2.6)
    path = cruising()
    path.until(UP, rate=BW // 2)
    assert path.bbr.max_bw == BW
    for _ in range(2):
        path.until(CRUISE, rate=BW // 2)
        path.until(UP, rate=BW // 2)
    assert path.bbr.max_bw == BW // 2


def test_a_loss_while_cruising_bounds_by_what_was_delivered_and_seven_tenths() -> None:
    # §5.5.10.3
    path = cruising()
    for _ in range(3):
        path.ack()
    path.ack(BW // 2)  # the last round that counts as latest
    cwnd = path.bbr.cwnd
    path.lose(BDP, MSS)
    path.ack(BW // 2, newly_lost=MSS)
    path.ack(BW // 2)
    assert path.bbr.bw_shortterm == BW * 7 // 10
    assert path.bbr.inflight_shortterm == cwnd * 7 // 10
    assert path.bbr.bw == BW * 7 // 10 and path.bbr.max_bw == BW
    path.until(REFILL)
    assert path.bbr.bw_shortterm == path.bbr.inflight_shortterm == INFINITE
    assert path.bbr.pacing_rate == BW * 99 // 100


@pytest.mark.parametrize("lost, phase", [(2 * MSS, UP), (2 * MSS + 1, DOWN)])
def test_a_probe_that_loses_more_than_two_percent_ends(lost: int, phase: State) -> None:
    # §5.5.10.2, LossThresh
    path = cruising()
    path.until(UP)
    path.lose(100 * MSS, lost)
    assert path.bbr.phase is phase
    assert (path.bbr.inflight_longterm < INFINITE) == (phase is DOWN)


def test_a_single_segment_is_no_loss_rate() -> None:
    # LossThresh: one of 30 is more than 2 %, as any one is where less than 50 are in flight
    path = cruising()
    path.until(UP)
    path.lose(30 * MSS, MSS)
    path.ack(lost=MSS, tx_in_flight=30 * MSS)
    assert path.bbr.phase is UP and path.bbr.inflight_longterm == INFINITE
    path.lose(30 * MSS, 2 * MSS)
    assert path.bbr.phase is DOWN


def test_the_bound_is_where_the_loss_rate_passed_two_percent() -> None:
    # BBRInflightAtLoss: in a burst of 20 segments behind 180, none lost before
    path = cruising()
    path.until(UP)
    path.lose(200 * MSS, 20 * MSS, 20 * MSS)
    exact = 180 + 0.02 * 180 / 0.98
    assert abs(path.bbr.inflight_longterm / MSS - exact) < 0.01


def test_while_cruising_others_have_headroom() -> None:
    # §5.3.3.2: 15 %
    path = cruising()
    path.until(UP)
    path.lose(110 * MSS, 10 * MSS)
    path.until(CRUISE, in_flight=80 * MSS, tx_in_flight=80 * MSS)
    bound = path.bbr.inflight_longterm
    assert path.bbr.cwnd <= bound - bound * 15 // 100


def test_losses_of_what_was_sent_before_the_probe_do_not_end_it() -> None:
    path = cruising()
    path.lose(100 * MSS, 50 * MSS)
    assert path.bbr.inflight_longterm == INFINITE


def test_every_five_seconds_the_queue_is_emptied_for_200_ms() -> None:
    # §5.3.4, and the window comes back
    path = cruising()
    begin = path.bbr._probe_rtt_min_stamp
    cwnd = path.bbr.cwnd
    while path.bbr.phase is not PROBE_RTT:
        cwnd = path.bbr.cwnd
        path.ack(rtt=RTT + 1)
    assert 5 * SECOND < path.now - begin <= 5 * SECOND + RTT
    assert path.bbr.cwnd == BDP // 2
    path.ack(in_flight=BDP // 2)
    reached = path.now
    while path.bbr.phase is PROBE_RTT:
        path.ack(rate=BW // 2, in_flight=BDP // 2, after=RTT // 2)
    assert 200 * MS < path.now - reached <= 200 * MS + RTT
    assert path.bbr.phase is CRUISE and path.bbr.cwnd >= cwnd


def test_a_longer_path_is_believed_after_ten_seconds() -> None:
    # MinRTTFilterLen
    path = cruising()
    begin = path.now
    while path.now - begin <= 8 * SECOND:
        path.ack(in_flight=BDP // 4, rtt=2 * RTT)
        assert path.bbr.min_rtt == RTT
    while path.now - begin <= 11 * SECOND:
        path.ack(in_flight=BDP // 4, rtt=2 * RTT)
    assert path.bbr.min_rtt == 2 * RTT


def test_in_the_first_round_of_recovery_packets_are_conserved() -> None:
    # §5.6.4.4
    path = cruising()
    path.ack()
    before = path.bbr.cwnd
    path.bbr.on_loss(0, path.now)
    sample = RateSample(0, 0, 0, 0, app_limited=False, in_flight=0, lost=0)
    path.bbr.on_sample(
        Ack(sample, 2 * MSS, MSS, 0, 50 * MSS, path.delivered + 2 * MSS, True, path.now + 1)
    )
    assert path.bbr.cwnd == 52 * MSS
    # pacing has let out one of the two when the next ACK comes: the other is not forfeited
    path.bbr.on_sample(
        Ack(sample, MSS, 0, 0, 50 * MSS, path.delivered + 3 * MSS, True, path.now + 2)
    )
    assert path.bbr.cwnd == 52 * MSS
    path.bbr.on_recovered(path.now + 2)
    assert path.bbr.cwnd == before


def test_after_a_timeout_one_segment_leaves() -> None:
    path = cruising()
    path.bbr.on_rto(50 * MSS, 0, path.now, False)
    assert path.bbr.cwnd == MSS


def test_a_needless_recovery_is_taken_back() -> None:
    # §5.5.10.3
    path = cruising()
    for _ in range(3):
        path.ack()
    path.ack(BW // 2)  # the last round that counts as latest
    cwnd = path.bbr.cwnd
    path.bbr.on_loss(0, path.now)
    path.lose(BDP, MSS)
    path.ack(BW // 2, newly_lost=MSS)
    path.ack(BW // 2)
    assert path.bbr.bw_shortterm < BW
    path.bbr.on_undo(cwnd, 0, path.now)
    assert path.bbr.bw_shortterm == path.bbr.inflight_shortterm == INFINITE
    assert path.bbr.cwnd >= cwnd


def test_startup_goes_on_if_the_losses_that_ended_it_were_none() -> None:
    # §5.5.10.3; the bound of §5.3.1.3 goes with them
    path = Path()
    path.ack(100_000)
    path.bbr.on_loss(0, path.now)
    path.ack(200_000, in_flight=50 * MSS)
    for _ in range(6):
        path.lose(50 * MSS, 2 * MSS)
    path.ack(400_000, in_flight=50 * MSS, newly_lost=6 * MSS)
    assert path.bbr.phase is DRAIN and path.bbr.inflight_longterm < INFINITE
    path.bbr.on_undo(0, 0, path.now)
    path.ack(800_000, in_flight=50 * MSS)
    assert path.bbr.phase is STARTUP and path.bbr.inflight_longterm == INFINITE
    assert path.bbr.pacing_rate == 800_000 * 277 * 99 // 10_000


def test_what_a_needless_recovery_called_lost_is_excused() -> None:
    # or RS.lost of the samples to come would lower the bound again
    path = cruising()
    path.bbr.on_loss(0, path.now)
    for _ in range(3):
        path.lose(BDP, MSS)
    path.bbr.on_undo(0, 0, path.now)
    assert path.bbr.excused == 3 * MSS
    path.bbr.on_undo(0, 0, path.now)
    assert path.bbr.excused == 3 * MSS


def test_after_idling_the_rate_is_the_bandwidth_and_not_more() -> None:
    # §5.4
    path = cruising()
    path.until(UP)
    path.bbr.on_resume(SECOND, path.now + SECOND)
    assert path.bbr.pacing_rate == BW * 99 // 100


def test_a_burst_is_a_millisecond() -> None:
    # §5.6.3: two segments at least, 64 KiB at most
    path = cruising()
    assert path.bbr.send_quantum == 2 * MSS
    fast = Path()
    for _ in range(8):
        fast.ack(10_000_000)
    assert fast.bbr.send_quantum == fast.bbr.pacing_rate // 1000 // MSS * MSS
    for _ in range(8):
        fast.ack(1_000_000_000)
    assert fast.bbr.send_quantum == 65 * MSS


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1000)), min_size=1, max_size=60),
    st.integers(1, 12),
)
def test_a_windowed_maximum_is_that_of_all_values_in_the_window(
    steps: list[tuple[int, int]], length: int
) -> None:
    window = WindowedMax()
    seen: list[tuple[int, int]] = []
    time = 0
    for step, value in steps:
        time += step
        seen.append((time, value))
        expected = max(v for t, v in seen if t > time - length)
        assert window.update(value, time, length) == expected
