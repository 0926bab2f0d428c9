"""Pacing: rates and sizes of bursts as Linux computes them, and when text leaves."""

from dataclasses import replace

import pytest

from tests.stack.host import MS, SECOND, Host, Peer
from ustack.config import TcpConfig
from ustack.tcp.pacing import LARGEST_BURST, UNLIMITED, Pacer, burst_size, window_rate
from ustack.tcp.recovery import FAST
from ustack.tcp.tcb import NEVER

MSS = 1000
RATIOS = (200, 120)


@pytest.mark.parametrize(
    "cwnd, flight, ssthresh, rate",
    [
        (10, 0, 1000, 2 * 10 * MSS * 10),  # slow start: two windows in a round trip of 100 ms
        (10, 0, 20, 10 * MSS * 12),  # half of ssthresh is where slow start is nearly over
        (9, 0, 20, 2 * 9 * MSS * 10),
        (10, 30, 10, 30 * MSS * 12),  # after a cut, what is in flight counts
    ],
)
def test_the_rate_follows_the_window(cwnd: int, flight: int, ssthresh: int, rate: int) -> None:
    # Linux tcp_update_pacing_rate()
    sizes = (cwnd * MSS, flight * MSS, ssthresh * MSS)
    assert window_rate(MSS, *sizes, 100 * MS, RATIOS) == rate


def test_without_a_round_trip_there_is_no_rate() -> None:
    assert window_rate(MSS, 10 * MSS, 0, 1 << 60, 0, RATIOS) == UNLIMITED


@pytest.mark.parametrize(
    "rate, min_rtt, segments",
    [
        (100_000, 100 * MS, 2),  # never less than two (tcp_min_tso_segs)
        (10_240_000, 100 * MS, 10),  # a 1024th of a second
        (1_000_000_000, 100 * MS, LARGEST_BURST // MSS),
        (100_000, 511, LARGEST_BURST // MSS),  # tcp_tso_rtt_log: half for each 512 µs
        (0, 512 * 3, (LARGEST_BURST >> 3) // MSS),
    ],
)
def test_a_burst_is_a_millisecond_or_what_a_short_round_trip_allows(
    rate: int, min_rtt: int, segments: int
) -> None:
    # Linux tcp_tso_autosize()
    assert burst_size(rate, MSS, min_rtt) == segments * MSS


def test_fractions_of_a_microsecond_add_up() -> None:
    pacer = Pacer()
    pacer.rate = 3_000_000
    pacer.sent(0, 100, 0)
    for _ in range(3000):  # each takes 333.3 µs, and the clock counts whole ones
        pacer.sent(1000, 100, pacer.at)
    assert abs(pacer.at - SECOND) <= 1


def test_no_more_than_half_of_a_burst_is_forgiven() -> None:
    pacer = Pacer()
    pacer.rate = 100_000
    pacer.sent(2000, 100, 1 * SECOND)  # an age late: 20 ms become 10
    assert pacer.at == SECOND + 10 * MS
    pacer.sent(2000, 100, SECOND + 14 * MS)  # 4 ms late
    assert pacer.at == SECOND + 14 * MS + 16 * MS


def test_what_our_own_clock_is_late_is_made_up_for() -> None:
    # a burst of 2000 bytes takes 20 ms; each waits for its time, and comes 5 ms too late
    pacer = Pacer()
    pacer.rate = 100_000
    pacer.sent(0, 100, SECOND)
    for burst in range(10):
        pacer.waiting = True
        pacer.sent(2000, 100, pacer.at + 5 * MS)
        assert pacer.at == SECOND + (burst + 1) * 20 * MS
    pacer.waiting = True
    pacer.sent(2000, 100, 2 * SECOND)  # but not for a second
    assert pacer.at == 2 * SECOND - 10 * MS + 20 * MS


def paced(tcp: TcpConfig, rtt: int = 100 * MS, *, pacing: bool | None = False) -> tuple[Host, Peer]:
    host = Host(4, tcp, pacing=pacing)
    peer = Peer(host)
    peer.establish(sack=True, rtt=rtt)
    return host, peer


def departures(host: Host, peer: Peer, until: int) -> list[tuple[int, int]]:
    """(ms since the start, bytes) of the bursts until `until` µs have passed."""
    begin = host.now
    out: dict[int, int] = {}
    host.advance(until)
    for reply in peer.replies():
        at = (reply.at - begin) // MS
        out[at] = out.get(at, 0) + len(reply.payload)
    return list(out.items())


def test_at_a_given_rate_bursts_of_two_leave_after_the_first_ten_segments() -> None:
    config = TcpConfig(max_pacing_rate=100_000, initial_window_segments=20, congestion="reno")
    host, peer = paced(config)
    tcb = host.stack.connections()[0]
    host.send(tcb, bytes(16 * MSS))
    assert departures(host, peer, 70 * MS) == [
        (0, 10 * MSS),
        (20, 2 * MSS),
        (40, 2 * MSS),
        (60, 2 * MSS),
    ]


def test_by_itself_text_is_paced_where_a_round_trip_has_room_for_bursts() -> None:
    host, peer = paced(TcpConfig(congestion="reno"), pacing=None)
    tcb = host.stack.connections()[0]
    host.send(tcb, bytes(40 * MSS))
    assert departures(host, peer, 100 * MS) == [(0, 10 * MSS)]
    peer.put(".", 1, 1 + 10 * MSS)
    host.turn()
    # two windows of 20 segments in 100 ms: 5 ms each burst, the first half forgiven
    assert departures(host, peer, 21 * MS) == [(at, 2 * MSS) for at in (0, 2, 7, 12, 17)]


def test_after_slow_start_acks_keep_time() -> None:
    host, peer = paced(TcpConfig(congestion="reno"), pacing=None)
    tcb = host.stack.connections()[0]
    host.send(tcb, bytes(60 * MSS))
    host.advance(100 * MS)
    peer.send(".", 1, 1 + 10 * MSS)
    host.advance(50 * MS)
    assert tcb.pacer is not None
    peer.send(".", 1, 1 + 10 * MSS, sack=((1 + 11 * MSS, 1 + 20 * MSS),))
    assert tcb.recovery.phase is FAST
    assert tcb.pacer is None and tcb.timers.pace == NEVER


def test_a_short_round_trip_is_not_paced() -> None:
    host, peer = paced(TcpConfig(congestion="reno"), 999, pacing=None)
    tcb = host.stack.connections()[0]
    host.send(tcb, bytes(40 * MSS))
    peer.send(".", 1, 1 + 10 * MSS)
    assert tcb.pacer is None and tcb.timers.pace == NEVER


def test_a_round_trip_that_only_looked_long_ends_pacing() -> None:
    host, peer = paced(TcpConfig(congestion="reno"), 20 * MS, pacing=None)
    tcb = host.stack.connections()[0]
    host.send(tcb, bytes(40 * MSS))
    assert tcb.pacer is not None
    host.advance(500)
    peer.replies()
    peer.put(".", 1, 1 + 10 * MSS)
    host.turn()
    assert tcb.pacer is None and tcb.timers.pace == NEVER
    assert departures(host, peer, 1 * MS) == [(0, 20 * MSS)]


def test_a_connection_that_is_not_paced_has_no_timer_for_it() -> None:
    host, _ = paced(TcpConfig(congestion="reno"))
    tcb = host.stack.connections()[0]
    host.send(tcb, bytes(16 * MSS))
    assert tcb.pacer is None and tcb.timers.pace == NEVER
    assert host.stack.status(tcb, host.now).pacing_rate == 2 * 10 * MSS * 10


def test_pacing_ends_with_the_configuration() -> None:
    config = TcpConfig(
        max_pacing_rate=10_000, initial_window_segments=20, congestion="reno", pacing=False
    )
    host, peer = paced(config)
    tcb = host.stack.connections()[0]
    host.send(tcb, bytes(16 * MSS))
    peer.heard()
    assert tcb.timers.pace != NEVER
    host.stack.configure(tcb, replace(config, max_pacing_rate=None), host.now)
    host.turn()
    assert peer.heard()[-1].startswith("P. 15001:16001")


def test_the_segment_after_a_timeout_does_not_wait() -> None:
    # Linux tcp_retransmit_timer() does not ask tcp_pacing_check()
    config = TcpConfig(max_pacing_rate=1000, congestion="reno", tail_loss_probe=False)
    host, peer = paced(config, rtt=1 * MS)
    tcb = host.stack.connections()[0]
    host.send(tcb, bytes(10 * MSS))
    assert len(peer.heard()) == 10
    assert departures(host, peer, 210 * MS) == [(201, MSS)]


def test_a_rate_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="max_pacing_rate=-1: must lie between"):
        TcpConfig(max_pacing_rate=-1)
    with pytest.raises(ValueError, match="pacing_ss_ratio=0: must lie between"):
        TcpConfig(pacing_ss_ratio=0)
    with pytest.raises(ValueError, match="pacing_ca_ratio=1001: must lie between"):
        TcpConfig(pacing_ca_ratio=1001)


@pytest.mark.parametrize("config", [TcpConfig(congestion="bbr"), TcpConfig(pacing=True)])
def test_a_burst_that_was_chosen_for_small_segments_lets_a_large_one_go(config: TcpConfig) -> None:
    """Segments take half of the largest window of the peer's: they grow with it."""
    host = Host(tcp=config)
    peer = Peer(host)
    tcb = peer.establish(win=600, rtt=100 * MS)
    host.send(tcb, b"x" * 3000)
    host.advance(SECOND)
    assert [len(reply.payload) for reply in peer.replies()][:2] == [300, 300]
    small = tcb.snd.mss
    peer.send(".", 1, 601, win=0)
    peer.put(".", 1, 601, win=10_000)  # acknowledges nothing new
    host.turn()
    assert tcb.snd.mss > small
    host.advance(SECOND)
    assert sum(len(reply.payload) for reply in peer.replies()) >= tcb.snd.mss
