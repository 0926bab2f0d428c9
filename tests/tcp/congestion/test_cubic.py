"""CUBIC against the closed forms of RFC 9438; windows in segments of MSS bytes, times in µs."""

import pytest

from ustack.config import SECOND
from ustack.tcp.congestion import REGISTRY
from ustack.tcp.congestion.cubic import Cubic, cube_root
from ustack.tcp.congestion.slow_start import HyStartPlusPlus

MSS = 1000
RTT = 100_000
C = 0.4  # RFC 9438 §5
BETA = 0.7  # RFC 9438 §4.6


def cubic(segments: int = 10) -> Cubic:
    cc = Cubic(MSS, 10, None)
    cc.cwnd = segments * MSS
    return cc


def round_trip(cc: Cubic, now: int, *, limited: bool = False, rtt: int = RTT) -> None:
    """Every segment of the window is acknowledged on its own, spread over a round trip."""
    window = cc.cwnd // MSS
    for number in range(window):
        cc.on_ack(MSS, cc.cwnd - MSS, rtt, limited, now + number * rtt // window)


def after_loss(segments: int, now: int) -> Cubic:
    cc = cubic(segments)
    cc.on_loss(cc.cwnd, now)
    cc.on_recovered(now)
    return cc


@pytest.mark.parametrize("value", [0, 1, 7, 8, 26, 27, 10**18 - 1, 10**18, 3 * 2**40 // 410])
def test_a_cube_root_is_the_largest_integer_below(value: int) -> None:
    root = cube_root(value)
    assert root**3 <= value < (root + 1) ** 3


@pytest.mark.parametrize("before, after", [(10, 7), (20, 14), (100, 70), (1000, 700), (2, 2)])
def test_a_loss_leaves_seven_tenths_of_the_window(before: int, after: int) -> None:
    # §4.6: beta is 0.7, ssthresh at least two segments
    cc = cubic(before)
    cc.on_loss(before * MSS, 0)
    assert cc.ssthresh == after * MSS
    cc.on_recovered(0)
    assert cc.cwnd == after * MSS


@pytest.mark.parametrize("w_max", [50, 100, 400])
@pytest.mark.parametrize("at_us", [0, SECOND, 3 * SECOND, 5 * SECOND, 10 * SECOND])
def test_the_curve_is_that_of_figure_1(w_max: int, at_us: int) -> None:
    cc = after_loss(w_max, 0)
    cc.on_ack(MSS, 0, None, False, 0)
    k = ((w_max - w_max * BETA) / C) ** (1 / 3)  # Figure 2
    exact = C * (at_us / SECOND - k) ** 3 + w_max
    assert abs(cc.w_cubic(at_us) - exact) <= 1 + exact / 200


def test_after_k_seconds_the_window_is_what_it_was_before_the_loss() -> None:
    # §4.2: K = cbrt(W_max * (1 - beta) / C)
    w_max = 600
    k_us = int((w_max * (1 - BETA) / C) ** (1 / 3) * SECOND)
    cc = after_loss(w_max, 0)
    windows = {}
    for now in range(0, 2 * k_us, RTT):
        round_trip(cc, now)
        windows[now] = cc.cwnd / MSS
    at_k = windows[k_us // RTT * RTT]
    assert abs(at_k - w_max) <= 0.01 * w_max
    # concave before (§4.4), convex after (§4.5), flat at the plateau
    early, late = windows[2 * RTT] - windows[0], windows[max(windows)] - windows[max(windows) - RTT]
    middle = windows[k_us // RTT * RTT + RTT] - at_k
    assert early > 5 * middle and late > 5 * middle


def test_in_the_reno_friendly_region_the_window_grows_as_renos_would() -> None:
    # §4.3: alpha = 3 * (1 - beta) / (1 + beta) = 0.53 segments per round trip, which on a short
    # round trip is faster than the curve, until the window before the loss is reached, then 1
    rtt, window = 32_000, 40
    cc = after_loss(window, 0)
    now = 0
    trips = 0
    while cc.cwnd < window * MSS:
        round_trip(cc, now, rtt=rtt)
        now += rtt
        trips += 1
    assert trips == pytest.approx((window - BETA * window) / 0.53, rel=0.2)
    for _ in range(20):
        round_trip(cc, now, rtt=rtt)
        now += rtt
    assert cc.cwnd / MSS == pytest.approx(window + 20, abs=3)


def test_no_round_trip_grows_the_window_by_more_than_half() -> None:
    # §4.2: the target is at most 1.5 cwnd
    cc = after_loss(200, 0)
    cc.on_ack(MSS, 0, RTT, False, 0)
    window = cc.cwnd
    round_trip(cc, 600 * SECOND)  # far out on the curve
    assert window * 1.4 <= cc.cwnd <= window * 1.5 + MSS


def test_fast_convergence_gives_way_when_the_window_had_not_recovered() -> None:
    # §4.7: W_max = cwnd * (1 + beta) / 2
    cc = after_loss(100, 0)
    cc.on_loss(cc.cwnd, SECOND)  # at 70, below the 100 of before
    cc.on_recovered(SECOND)
    cc.on_ack(MSS, 0, None, False, SECOND)
    plateau_us = int(((59 - 49) / C) ** (1 / 3) * SECOND)
    assert cc.w_cubic(plateau_us) == pytest.approx(70 * (1 + BETA) / 2, abs=1)


def test_after_a_timeout_the_plateau_is_the_window_itself() -> None:
    # §4.8: K = 0 and W_max = cwnd
    cc = cubic(100)
    cc.on_rto(100 * MSS, 0, 0, False)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 70 * MSS)
    for _ in range(70):
        cc.on_ack(MSS, 0, RTT, False, SECOND)
    assert cc.cwnd == 70 * MSS
    assert cc.w_cubic(0) == 70
    assert cc.w_cubic(5 * SECOND) == 70 + int(C * 5**3)


def test_a_second_timeout_of_the_same_flight_leaves_ssthresh() -> None:
    cc = cubic(100)
    cc.on_rto(100 * MSS, 0, 0, False)
    cc.on_rto(MSS, 0, 0, True)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 70 * MSS)


def test_time_in_which_the_window_is_not_used_is_no_time_on_the_curve() -> None:
    # §4.2: t MUST NOT include application-limited periods
    steady, pausing, idle = after_loss(300, 0), after_loss(300, 0), after_loss(300, 0)
    for now in range(0, 2 * SECOND, RTT):
        for cc in (steady, pausing, idle):
            round_trip(cc, now)
    pause = 100 * SECOND
    pausing.on_ack(MSS, 0, RTT, True, 2 * SECOND)
    pausing.on_ack(MSS, 0, RTT, True, 60 * SECOND)
    idle.on_resume(pause, 2 * SECOND + pause)
    for now in range(2 * SECOND, 4 * SECOND, RTT):
        round_trip(steady, now)
        for cc in (pausing, idle):
            round_trip(cc, now + pause)
    assert steady.cwnd > 240 * MSS
    assert pausing.cwnd == pytest.approx(steady.cwnd, abs=2 * MSS)
    assert idle.cwnd == pytest.approx(steady.cwnd, abs=2 * MSS)


def test_a_window_that_is_not_used_does_not_grow() -> None:
    cc = cubic()
    round_trip(cc, 0, limited=True)
    assert cc.cwnd == 10 * MSS


def test_slow_start_doubles_and_stops_at_ssthresh() -> None:
    # §4.10
    cc = cubic()
    round_trip(cc, 0)
    assert cc.cwnd == 20 * MSS
    cc.ssthresh = 25 * MSS
    round_trip(cc, RTT)
    assert 25 * MSS <= cc.cwnd <= 26 * MSS


def test_before_any_loss_the_window_grows_by_at_least_a_twentieth() -> None:
    # Linux: one segment for twenty ACKs as long as W_max is unknown
    cc = cubic(100)
    cc.ssthresh = cc.cwnd
    round_trip(cc, 0)
    assert cc.cwnd == pytest.approx(105 * MSS, abs=MSS)


def test_a_needless_cut_is_taken_back() -> None:
    # §4.9.2
    cc = cubic(100)
    prior, threshold = cc.cwnd, cc.ssthresh
    cc.on_loss(cc.cwnd, 0)
    cc.on_recovered(0)
    cc.on_undo(prior, threshold, SECOND)
    assert (cc.cwnd, cc.ssthresh) == (prior, threshold)
    cc.ssthresh = cc.cwnd
    cc.on_ack(MSS, 0, RTT, False, SECOND)
    assert cc.w_cubic(0) == 100


def test_split_acks_grow_the_window_no_faster() -> None:
    # RFC 9438 §4.2 counts segments acknowledged; RFC 3465
    whole, split = after_loss(100, 0), after_loss(100, 0)
    for now in range(0, SECOND, RTT):
        for number in range(70):
            at = now + number * 1000
            whole.on_ack(MSS, 0, RTT, False, at)
            for _ in range(10):
                split.on_ack(MSS // 10, 0, RTT, False, at)
    assert split.cwnd == pytest.approx(whole.cwnd, abs=MSS)


def test_the_registry_gives_cubic_linuxs_slow_start_or_the_one_asked_for() -> None:
    for name, slow_start in (("cubic", None), ("cubic", "standard"), ("reno", "hystart++")):
        assert REGISTRY[name](MSS, 10, slow_start).cwnd == 10 * MSS


def test_only_the_first_slow_start_is_watched_by_hystart_plus_plus() -> None:
    # RFC 9406 §4.3: later ones have an ssthresh; L caps what one ACK adds to the first
    cc = Cubic(MSS, 10, HyStartPlusPlus)
    cc.on_ack(10 * MSS, 0, RTT, False, 0)
    assert cc.cwnd == 18 * MSS
    cc.on_rto(cc.cwnd, 0, SECOND, False)
    cc.on_ack(10 * MSS, 0, RTT, False, 2 * SECOND)
    assert cc.cwnd == 11 * MSS
