from ustack.tcp.congestion.newreno import NewReno
from ustack.tcp.window_usage import WindowUsage

MSS = 1000


def usage_of(flight: int, *, limited: bool = False) -> tuple[WindowUsage, NewReno]:
    usage, cc = WindowUsage(), NewReno(MSS, 10, None)
    usage.sent(1, 1 + flight, flight, limited)
    return usage, cc


def test_a_full_window_may_grow() -> None:
    usage, cc = usage_of(10_000, limited=True)
    cc.ssthresh = cc.cwnd
    assert usage.in_use(cc)


def test_in_slow_start_the_window_grows_to_twice_the_flight() -> None:
    # RFC 7661 §4.3, Linux tcp_is_cwnd_limited
    usage, cc = usage_of(6_000)
    assert usage.in_use(cc)
    cc.cwnd = 12_000
    assert not usage.in_use(cc)


def test_in_congestion_avoidance_only_a_full_window_counts() -> None:
    usage, cc = usage_of(9_000)
    cc.ssthresh = cc.cwnd
    assert not usage.in_use(cc)


def test_one_full_window_counts_until_what_was_sent_then_is_acknowledged() -> None:
    usage, cc = usage_of(10_000, limited=True)
    cc.ssthresh = cc.cwnd
    usage.sent(5_000, 12_000, 7_000, False)
    assert usage.in_use(cc)
    usage.sent(10_001, 13_000, 2_999, False)
    assert not usage.in_use(cc)


def test_the_largest_flight_of_the_window_counts() -> None:
    usage, _ = usage_of(3_000)
    usage.sent(1, 7_001, 7_000, False)
    usage.sent(2_001, 8_001, 6_000, False)
    assert usage.most == 7_000
