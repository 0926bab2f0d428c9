import pytest

from ustack.tcp.congestion import REGISTRY, CongestionControl
from ustack.tcp.congestion.newreno import NewReno

MSS = 1000
SECOND = 1_000_000  # µs
MAX_WINDOW = 0xFFFF << 14  # bytes, RFC 7323 §2.3


def ack(cc: CongestionControl, acked: int, *, limited: bool = False) -> None:
    cc.on_ack(acked, cc.cwnd, None, limited, 0)


@pytest.mark.parametrize(
    "mss,segments,window",
    [
        (1000, 10, 10_000),
        (1460, 10, 14_600),
        (2000, 10, 14_600),  # RFC 6928 §2: min(10*MSS, max(2*MSS, 14600))
        (9000, 10, 18_000),
        (536, 10, 5_360),
        (1000, 1, 1_000),
    ],
)
def test_the_initial_window_is_that_of_rfc_6928(mss: int, segments: int, window: int) -> None:
    assert NewReno(mss, segments, None).cwnd == window


def test_slow_start_doubles_the_window_in_a_round_trip() -> None:
    cc = NewReno(MSS, 10, None)
    for _ in range(10):
        ack(cc, MSS)
    assert cc.cwnd == 20_000


def test_a_window_that_is_not_used_does_not_grow() -> None:
    # RFC 7661 §4.3
    cc = NewReno(MSS, 10, None)
    ack(cc, 10_000, limited=True)
    assert cc.cwnd == 10_000


def test_a_loss_halves_what_was_in_flight() -> None:
    # RFC 5681 equation 4
    cc = NewReno(MSS, 10, None)
    cc.on_loss(16_000, 0)
    assert cc.ssthresh == 8_000
    cc.on_recovered(0)
    assert cc.cwnd == 8_000


def test_ssthresh_is_never_below_two_segments() -> None:
    cc = NewReno(MSS, 10, None)
    cc.on_loss(1_000, 0)
    assert cc.ssthresh == 2_000


def test_congestion_avoidance_adds_one_segment_for_each_window_acknowledged() -> None:
    # RFC 3465 §2.1
    cc = NewReno(MSS, 10, None)
    cc.on_loss(20_000, 0)
    cc.on_recovered(0)
    for _ in range(9):
        ack(cc, MSS)
    assert cc.cwnd == 10_000
    ack(cc, MSS)
    assert cc.cwnd == 11_000


def test_slow_start_goes_over_into_congestion_avoidance_at_ssthresh() -> None:
    cc = NewReno(MSS, 10, None)
    cc.on_loss(30_000, 0)
    ack(cc, 5_000)
    assert cc.cwnd == 15_000
    ack(cc, 5_000)
    assert cc.cwnd == 15_000
    ack(cc, 10_000)
    assert cc.cwnd == 16_000


def test_a_timeout_leaves_one_segment() -> None:
    # RFC 5681 §3.1: the loss window
    cc = NewReno(MSS, 10, None)
    cc.on_rto(10_000, 0, 0, False)
    assert (cc.cwnd, cc.ssthresh) == (1_000, 5_000)


def test_a_second_timeout_of_the_same_flight_leaves_ssthresh() -> None:
    # RFC 5681 §3.1: only "the first time"
    cc = NewReno(MSS, 10, None)
    cc.on_rto(10_000, 0, 0, False)
    cc.on_rto(1_000, 0, 0, True)
    assert (cc.cwnd, cc.ssthresh) == (1_000, 5_000)


def test_idling_takes_the_window_back_to_the_initial_one_but_not_below() -> None:
    # RFC 5681 §4.1; RFC 2861 §2: halved for each RTO, ssthresh remembers three quarters
    cc = NewReno(MSS, 10, None)
    ack(cc, 90_000)
    assert cc.cwnd == 100_000
    cc.on_loss(40_000, 0)
    cc.on_idle(1_500_000, 1_000_000)
    assert (cc.cwnd, cc.ssthresh) == (50_000, 75_000)
    cc.on_idle(100_000_000, 1_000_000)
    assert cc.cwnd == 10_000


def test_a_short_pause_changes_nothing() -> None:
    cc = NewReno(MSS, 10, None)
    ack(cc, 90_000)
    cc.on_idle(900_000, 1_000_000)
    assert cc.cwnd == 100_000


def test_after_a_timeout_one_segment_goes_out_beside_what_is_still_on_its_way() -> None:
    # RFC 5681 §3.1, RFC 8985 §6.3
    cc = NewReno(MSS, 10, None)
    cc.on_rto(10_000, 3_000, 0, False)
    assert (cc.cwnd, cc.ssthresh) == (4_000, 5_000)


def test_an_undo_gives_both_windows_back_and_takes_nothing() -> None:
    # RFC 4015 §3.2, and RFC 3708 §4
    cc = NewReno(MSS, 10, None)
    cc.on_rto(10_000, 0, 0, False)
    cc.on_undo(10_000, 8_000, 0)
    assert (cc.cwnd, cc.ssthresh) == (10_000, 8_000)
    cc.on_undo(4_000, 3_000, 0)
    assert (cc.cwnd, cc.ssthresh) == (10_000, 8_000)


def test_a_smaller_segment_leaves_the_window_in_segments_and_a_larger_one_that_in_bytes() -> None:
    # RFC 5681 §3.1; RFC 1191 §6.4: no congestion
    cc = NewReno(MSS, 10, None)
    cc.on_mss(500)
    assert cc.cwnd == 5_000
    cc.on_mss(800)
    assert cc.cwnd == 5_000


def test_a_new_segment_size_leaves_at_least_one_segment() -> None:
    cc = NewReno(MSS, 10, None)
    cc.on_mss(500)
    cc.on_rto(10_000, 0, 0, False)
    assert cc.cwnd == 500
    cc.on_mss(800)
    assert cc.cwnd == 800


def test_controllers_are_found_by_name() -> None:
    assert REGISTRY["newreno"](MSS, 10, None).cwnd == REGISTRY["reno"](MSS, 10, None).cwnd == 10_000
    assert REGISTRY["newreno"](MSS, 10, None).ssthresh >= MAX_WINDOW


def test_after_a_loss_in_the_first_flight_later_restarts_are_smaller() -> None:
    # RFC 6928 §2: then the restart window is that of RFC 3390, here four segments
    cc = NewReno(MSS, 10, None)
    cc.on_loss(10_000, 0)
    cc.on_recovered(0)
    cc.cwnd = cc.ssthresh = 100_000
    cc.on_idle(100 * SECOND, SECOND)
    assert cc.cwnd == 4_000


def test_after_a_later_loss_restarts_are_as_large_as_the_start() -> None:
    cc = NewReno(MSS, 10, None)
    cc.on_ack(10_000, 20_000, None, False, 0)
    cc.on_loss(20_000, 0)
    cc.on_recovered(0)
    cc.cwnd = cc.ssthresh = 100_000
    cc.on_idle(100 * SECOND, SECOND)
    assert cc.cwnd == 10_000


def test_after_idling_the_window_begins_with_segments_of_the_size_of_today() -> None:
    """RFC 5681 §4.1: RW is IW, and IW is counted in segments (RFC 6928 §2)."""
    cc = NewReno(536, 10, None)
    cc.cwnd = 100_000
    cc.on_mss(8960)  # a path MTU probe went through
    cc.on_idle(1000 * SECOND, SECOND)
    assert cc.cwnd == 17_920  # max(2 MSS, 14600)
    cc.cwnd = 100_000
    cc.on_mss(100)
    cc.on_idle(1000 * SECOND, SECOND)
    assert cc.cwnd == 1000
