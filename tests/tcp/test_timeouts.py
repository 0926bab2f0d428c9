"""Timeouts, RFC 9293 §3.10.8: retransmission, giving up, keep-alive, user timeout."""

from itertools import pairwise

import pytest

from tests.stack.host import MS, SECOND, Host, Peer, both_versions, established
from ustack.config import TcpConfig
from ustack.errors import ConnectionTimedOut, HostUnreachable
from ustack.tcp.state import CLOSED, ESTABLISHED
from ustack.tcp.tcb import CLOSED_EVENT, SOFT_ERROR

ONE_SECOND_RTO = TcpConfig(min_rto_us=SECOND)  # the letter of RFC 6298 §2.4
HOUR = 3600 * SECOND


def times(host: Host, peer: Peer, us: int) -> list[float]:
    """When segments left in the next `us`, in seconds from now."""
    start = host.now
    host.advance(us)
    return [(reply.at - start) / SECOND for reply in peer.replies()]


# Retransmission


@both_versions
def test_a_lost_segment_is_resent_at_doubling_intervals(version: int) -> None:
    # RFC 6298 §5.4 to §5.6
    host, peer, tcb = established(version, ONE_SECOND_RTO)
    host.send(tcb, b"x" * 3000)
    peer.heard()
    assert times(host, peer, 63 * SECOND) == pytest.approx([1, 3, 7, 15, 31], abs=0.01)


@both_versions
def test_a_timeout_resends_exactly_one_segment(version: int) -> None:
    # RFC 5681 §3.1: the loss window
    host, peer, tcb = established(version, ONE_SECOND_RTO)
    host.send(tcb, b"x" * 5000)
    peer.heard()
    host.advance(1100 * MS)
    assert peer.heard() == [". 1:1001(1000) ack 1"]
    # Slow start from there, through what was lost
    assert peer.send(".", 1, 1001) == [". 1001:2001(1000) ack 1", ". 2001:3001(1000) ack 1"]


def test_the_interval_has_a_ceiling() -> None:
    host, peer, tcb = established(4, TcpConfig(min_rto_us=SECOND, max_rto_us=60 * SECOND))
    host.send(tcb, b"x")
    peer.heard()
    seen = times(host, peer, 600 * SECOND)
    assert max(b - a for a, b in pairwise(seen)) == pytest.approx(60, abs=0.01)


def test_an_ack_of_new_text_restarts_the_timer() -> None:
    # RFC 6298 §5.3
    host, peer, tcb = established(4, ONE_SECOND_RTO)
    host.send(tcb, b"x" * 3000)
    peer.heard()
    host.advance(900 * MS)
    peer.send(".", 1, 1001)
    host.advance(SECOND)
    assert peer.heard() == []


def test_the_timer_stops_when_everything_is_acknowledged() -> None:
    # RFC 6298 §5.2
    host, peer, tcb = established(4, ONE_SECOND_RTO)
    host.send(tcb, b"x")
    peer.heard()
    peer.send(".", 1, 2)
    assert times(host, peer, HOUR) == []


def test_without_timestamps_a_resent_segment_leaves_the_rto_doubled() -> None:
    # Karn's algorithm, RFC 6298 §3 and §5
    host, peer, tcb = established(4, ONE_SECOND_RTO)
    before = tcb.rtt.srtt
    host.send(tcb, b"x")
    host.advance(1500 * MS)
    peer.heard()
    peer.send(".", 1, 2)
    assert tcb.rtt.srtt == before
    host.send(tcb, b"y")
    peer.heard()
    assert times(host, peer, 2500 * MS) == pytest.approx([2], abs=0.01)


def test_with_timestamps_a_resent_segment_gives_a_sample() -> None:
    # RFC 7323 §4.1
    host, peer, tcb = established(4, ONE_SECOND_RTO, tsval=1)
    host.send(tcb, b"x")
    host.advance(1100 * MS)
    assert len(peer.heard()) == 2  # TSecr is now that of the second copy
    host.advance(200 * MS)
    peer.send(".", 1, 2)
    assert tcb.rtt.latest == pytest.approx(300 * MS, abs=2 * MS)
    assert tcb.rtt.backoff == 0


def test_text_sent_meanwhile_waits_behind_what_was_lost() -> None:
    host, peer, tcb = established(4, ONE_SECOND_RTO)
    host.send(tcb, b"x" * 1000)
    peer.heard()
    host.advance(1100 * MS)
    assert peer.heard() == ["P. 1:1001(1000) ack 1"]
    host.send(tcb, b"y" * 1000)
    assert peer.heard() == []
    assert peer.send(".", 1, 1001) == ["P. 1001:2001(1000) ack 1"]


# R1 and R2 (RFC 9293 §3.8.3)


def test_after_r1_the_user_is_told_and_the_connection_goes_on() -> None:
    host, _, tcb = established(4, TcpConfig(min_rto_us=SECOND, r1_retransmissions=3))
    host.send(tcb, b"x")
    host.advance(6 * SECOND)
    assert not host.events_of(tcb) & SOFT_ERROR
    host.advance(2 * SECOND)
    assert host.events_of(tcb) & SOFT_ERROR
    assert isinstance(tcb.soft_error, ConnectionTimedOut)
    assert tcb.state is ESTABLISHED


@both_versions
def test_after_r2_the_connection_is_given_up(version: int) -> None:
    host, peer, tcb = established(version, TcpConfig(min_rto_us=SECOND, r2_retransmissions=4))
    host.send(tcb, b"x")
    host.advance(60 * SECOND)
    assert len(peer.heard()) == 1 + 4
    assert tcb.state is CLOSED
    assert isinstance(tcb.error, ConnectionTimedOut)
    assert host.events_of(tcb) & CLOSED_EVENT
    assert host.is_clean()


def test_r2_is_at_least_100_seconds_by_default() -> None:
    # SHLD-10, SHLD-11 of RFC 9293 §3.8.3
    host, _, tcb = established()
    host.send(tcb, b"x")
    host.advance(100 * SECOND)
    assert tcb.state is ESTABLISHED
    host.advance(HOUR)
    assert isinstance(tcb.error, ConnectionTimedOut)


def test_r2_can_be_a_time() -> None:
    # MUST-21
    host, _, tcb = established(4, TcpConfig(r2_timeout_us=20 * SECOND))
    host.send(tcb, b"x")
    host.advance(19 * SECOND)
    assert tcb.state is ESTABLISHED
    host.advance(30 * SECOND)
    assert isinstance(tcb.error, ConnectionTimedOut)


def test_progress_restarts_r2() -> None:
    host, peer, tcb = established(4, TcpConfig(r2_timeout_us=20 * SECOND))
    host.send(tcb, b"x" * 2000)
    host.advance(15 * SECOND)
    peer.send(".", 1, 1001)
    host.advance(15 * SECOND)
    assert tcb.state is ESTABLISHED


def test_a_known_reason_is_given_at_the_end() -> None:
    host, _, tcb = established(4, TcpConfig(min_rto_us=SECOND, r2_retransmissions=2))
    host.send(tcb, b"x")
    tcb.soft_error = HostUnreachable("ICMP")
    host.advance(60 * SECOND)
    assert isinstance(tcb.error, HostUnreachable)


def test_an_orphan_is_given_up_earlier() -> None:
    # Linux tcp_orphan_retries
    config = TcpConfig(min_rto_us=SECOND, orphan_retransmissions=2)
    host, _, tcb = established(4, config)
    host.send(tcb, b"x")
    host.close(tcb)
    host.advance(10 * SECOND)
    assert tcb.state is CLOSED
    assert host.is_clean() or host.drain()


# SYN


def test_the_first_syns_may_be_resent_at_one_interval() -> None:
    # Linux tcp_syn_linear_timeouts: four more of them, each after one second
    host = Host()
    peer = Peer(host)
    tcb = peer.connect(config=TcpConfig(syn_linear_timeouts=4, syn_retransmissions=3))
    assert times(host, peer, 60 * SECOND) == pytest.approx([0, 1, 2, 3, 4, 5, 7, 11], abs=0.01)
    assert isinstance(tcb.error, ConnectionTimedOut)


@both_versions
def test_a_syn_is_resent_for_at_least_three_minutes(version: int) -> None:
    # MUST-23 of RFC 9293 §3.8.3
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    seen = times(host, peer, 180 * SECOND)
    assert seen == pytest.approx([0, 1, 3, 7, 15, 31, 63, 127], abs=0.01)
    assert tcb.error is None
    host.advance(600 * SECOND)
    assert isinstance(tcb.error, ConnectionTimedOut)
    assert host.events_of(tcb) & CLOSED_EVENT
    assert host.stack.connections() == []
    assert host.stack.pending_timers() == 0


@both_versions
def test_a_syn_ack_is_resent_and_then_forgotten(version: int) -> None:
    host = Host(version, TcpConfig(syn_ack_retransmissions=3))
    peer = Peer(host)
    listener = host.listen()
    peer.send("S", 0)
    assert times(host, peer, 60 * SECOND) == pytest.approx([1, 3, 7], abs=0.01)
    assert host.stack.connections() == []
    assert listener.half_open == 0
    assert host.stack.pending_timers() == 0


# Keep-alive (RFC 9293 §3.8.4)

KEEP_ALIVE = TcpConfig(
    keep_alive=True,
    keep_alive_idle_us=7200 * SECOND,
    keep_alive_interval_us=75 * SECOND,
    keep_alive_probes=3,
)


def test_keep_alives_are_off_unless_asked_for() -> None:
    # MUST-25
    host, peer, _ = established()
    assert times(host, peer, 24 * HOUR) == []


@both_versions
def test_a_silent_peer_is_probed_after_two_hours(version: int) -> None:
    # MUST-28; SHLD-12: no text, and an octet that was acknowledged
    host, peer, tcb = established(version, KEEP_ALIVE)
    host.advance(7199 * SECOND)
    assert peer.heard() == []
    host.advance(2 * SECOND)
    assert peer.heard() == [". 0:0(0) ack 1"]
    peer.send(".", 1, 1)
    host.advance(7199 * SECOND)
    assert peer.heard() == []
    host.advance(2 * SECOND)
    assert peer.heard() == [". 0:0(0) ack 1"]
    assert tcb.state is ESTABLISHED


@both_versions
def test_a_dead_peer_is_given_up_after_several_probes(version: int) -> None:
    # MUST-29: one probe without an answer is no proof
    host, peer, tcb = established(version, KEEP_ALIVE)
    host.advance(7200 * SECOND + 3 * 75 * SECOND - SECOND)
    assert peer.heard() == [". 0:0(0) ack 1"] * 3
    assert tcb.state is ESTABLISHED
    host.advance(2 * SECOND)
    assert isinstance(tcb.error, ConnectionTimedOut)
    assert peer.heard() == ["R. 1:1(0) ack 1"]
    assert host.is_clean()


def test_text_in_flight_is_probe_enough() -> None:
    # MUST-26 and MUST-27: only when nothing is outstanding
    host, peer, tcb = established(4, KEEP_ALIVE, win=0)
    host.send(tcb, b"x")
    end = host.now + 3 * HOUR
    while host.now < end:
        host.advance(60 * SECOND)
        for text in peer.heard():
            assert text == "P. 1:2(1) ack 1"
        peer.send(".", 1, 1, win=0)
    assert tcb.state is ESTABLISHED


def test_our_answer_to_a_keep_alive_is_an_ack() -> None:
    # MUST-24 of the peer's: with and without an octet of garbage
    host, peer, _ = established()
    assert peer.send(".", 0, 1) == [". 1:1(0) ack 1"]
    assert peer.send(".", 0, 1, b"\0") == [". 1:1(0) ack 1"]
    assert host.drops() == {}


# User timeout (RFC 5482, RFC 9293 §3.8.3)


@both_versions
def test_the_user_timeout_ends_a_connection_without_progress(version: int) -> None:
    host, peer, tcb = established(version, TcpConfig(user_timeout_us=10 * SECOND))
    host.send(tcb, b"x")
    host.advance(9 * SECOND)
    assert tcb.state is ESTABLISHED
    peer.heard()
    host.advance(2 * SECOND)
    assert isinstance(tcb.error, ConnectionTimedOut)
    assert peer.heard() == []  # no RST: Linux tcp_write_err()
    assert host.is_clean()


def test_progress_restarts_the_user_timeout() -> None:
    host, peer, tcb = established(4, TcpConfig(user_timeout_us=10 * SECOND))
    host.send(tcb, b"x" * 2000)
    host.advance(9 * SECOND)
    peer.send(".", 1, 1001)
    host.advance(9 * SECOND)
    assert tcb.state is ESTABLISHED
    host.advance(2 * SECOND)
    assert tcb.state is CLOSED


def test_an_idle_connection_has_no_user_timeout() -> None:
    host, peer, tcb = established(4, TcpConfig(user_timeout_us=10 * SECOND))
    host.send(tcb, b"x")
    peer.send(".", 1, 2)
    host.advance(HOUR)
    assert tcb.state is ESTABLISHED


def test_the_user_timeout_ends_an_attempt_to_connect() -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.connect(TcpConfig(user_timeout_us=5 * SECOND))
    host.advance(6 * SECOND)
    assert isinstance(tcb.error, ConnectionTimedOut)
    assert host.stack.connections() == []


# Zero windows


def test_unanswered_window_probes_end_the_connection() -> None:
    config = TcpConfig(persist_max_us=SECOND, r2_retransmissions=5)
    host, peer, tcb = established(4, config, win=0)
    host.send(tcb, b"x")
    host.advance(60 * SECOND)
    assert len(peer.heard()) == 1 + 5
    assert isinstance(tcb.error, ConnectionTimedOut)
    assert host.is_clean()


def test_unanswered_probes_of_a_window_that_was_pulled_back_end_it_too() -> None:
    config = TcpConfig(min_rto_us=SECOND, max_rto_us=SECOND, r2_retransmissions=5)
    host, peer, tcb = established(4, config, win=2000)
    host.send(tcb, b"x" * 2000)
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    host.advance(60 * SECOND)
    assert set(peer.heard()) == {". 1001:1002(1) ack 1"}
    assert isinstance(tcb.error, ConnectionTimedOut)


def test_r2_as_a_time_spares_a_peer_that_answers_window_probes() -> None:
    # MUST-37 of RFC 9293 §3.8.6.1
    config = TcpConfig(r2_timeout_us=20 * SECOND, persist_max_us=5 * SECOND)
    host, peer, tcb = established(4, config, win=0)
    host.send(tcb, b"x")
    for _ in range(100):
        host.advance(SECOND)
        if peer.heard():
            peer.send(".", 1, 1, win=0)
    assert tcb.state is ESTABLISHED
    host.advance(40 * SECOND)
    assert isinstance(tcb.error, ConnectionTimedOut)


def test_acks_of_the_past_are_no_answer_to_window_probes() -> None:
    # Linux: only an ACK that is not below SND.UNA counts. A forged ACK can leave two ends that
    # disagree for good; they must not probe each other for ever.
    config = TcpConfig(persist_max_us=SECOND, r2_retransmissions=5)
    host, peer, tcb = established(4, config, win=2000)
    host.send(tcb, b"x" * 2000)
    peer.heard()
    peer.send(".", 1, 2001, win=0)
    host.send(tcb, b"y")
    for _ in range(20):
        host.advance(SECOND)
        peer.send(".", 1, 1001, win=0)
    assert isinstance(tcb.error, ConnectionTimedOut)
