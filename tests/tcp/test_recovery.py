"""Loss recovery on the wire: when something is sent again, and how much (RFC 5681, 6582, 6675,
6937). Segments are 1000 bytes; the first flight is ten of them."""

import pytest

from tests.stack.host import MS, MSS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.tcp.recovery import FAST, LOSS, OPEN
from ustack.tcp.tcb import Tcb

RENO = TcpConfig(congestion="newreno")  # for the figures of RFC 5681


def in_flight(
    version: int = 4,
    segments: int = 10,
    *,
    sack: bool = False,
    more: int = 0,
    tcp: TcpConfig | None = None,
) -> tuple[Host, Peer, Tcb]:
    """`segments` have left and were heard, `more` wait for the congestion window."""
    host = Host(version, tcp)
    peer = Peer(host)
    tcb = peer.establish(sack=sack, rtt=50 * MS)
    host.send(tcb, b"x" * (segments + more) * MSS)
    assert len(peer.heard()) == segments
    host.advance(50 * MS)
    return host, peer, tcb


def resent(peer: Peer, below: int) -> list[int]:
    """Segments (as numbers from 0) in what was heard that had been sent before."""
    return [(reply.seq - 1) // MSS for reply in peer.replies() if reply.seq < below]


def cwnd(host: Host, tcb: Tcb) -> int:
    return host.stack.status(tcb, host.now).snd_cwnd


# Without SACK (RFC 5681 §3.2, RFC 6582)


@both_versions
def test_the_third_duplicate_ack_resends_one_segment(version: int) -> None:
    host, peer, tcb = in_flight(version)
    assert peer.send(".", 1, 1) == []
    assert peer.send(".", 1, 1) == []
    assert peer.send(".", 1, 1) == [". 1:1001(1000) ack 1"]
    assert peer.send(".", 1, 1) == []
    assert tcb.recovery.phase is FAST
    assert "fast retransmit" in host.notes


@both_versions
def test_window_updates_are_no_duplicate_acks(version: int) -> None:
    # RFC 5681 §2 (e)
    _, peer, tcb = in_flight(version)
    peer.send("P.", 1, 1, b"x")
    peer.send("P.", 2, 1, b"x", win=60_000)
    for i in range(5):
        assert peer.send(".", 3, 1, win=60_001 + i) == []
    assert tcb.recovery.phase is OPEN


@both_versions
def test_segments_with_text_are_no_duplicate_acks(version: int) -> None:
    # RFC 5681 §2 (b)
    _, peer, tcb = in_flight(version)
    for i in range(5):
        assert peer.send(".", 1 + i, 1, b"y") == [f". 10001:10001(0) ack {2 + i}"]
    assert tcb.recovery.phase is OPEN


def test_with_nothing_in_flight_there_are_no_duplicate_acks() -> None:
    # RFC 5681 §2 (a)
    _, peer, tcb = in_flight()
    peer.send(".", 1, 10_001)
    for _ in range(5):
        assert peer.send(".", 1, 10_001) == []
    assert tcb.recovery.dup_acks == 0


def test_each_of_the_first_two_duplicate_acks_lets_one_new_segment_out() -> None:
    # Limited transmit, RFC 3042
    _, peer, _ = in_flight(more=5)
    assert peer.send(".", 1, 1) == [". 10001:11001(1000) ack 1"]
    assert peer.send(".", 1, 1) == [". 11001:12001(1000) ack 1"]
    assert peer.send(".", 1, 1)[0] == ". 1:1001(1000) ack 1"


def test_a_recovery_halves_the_window() -> None:
    host, peer, tcb = in_flight(tcp=RENO)
    for _ in range(3):
        peer.send(".", 1, 1)
    peer.send(".", 1, 10_001)
    assert tcb.recovery.phase is FAST  # RFC 6582 §3.2 step 2: until something above is acknowledged
    host.send(tcb, b"x" * MSS)
    peer.send(".", 1, 11_001)
    assert tcb.recovery.phase is OPEN
    assert cwnd(host, tcb) == 5000


@both_versions
def test_a_partial_ack_resends_the_next_hole(version: int) -> None:
    # RFC 6582 §3.2 step 3
    _, peer, tcb = in_flight(version)
    for _ in range(8):  # all but the two that are lost; fewer, and the rate would hold it back
        peer.send(".", 1, 1)
    assert peer.send(".", 1, 3001) == [". 3001:4001(1000) ack 1"]
    assert peer.send(".", 1, 7001) == [". 7001:8001(1000) ack 1"]
    assert tcb.recovery.phase is FAST


def test_late_duplicates_of_a_recovered_flight_start_nothing() -> None:
    # RFC 6582 §3.2 step 2
    host, peer, tcb = in_flight()
    for _ in range(3):
        peer.send(".", 1, 1)
    peer.send(".", 1, 10_001)
    host.send(tcb, b"x" * 3000)
    peer.heard()
    for _ in range(5):
        assert peer.send(".", 1, 10_001) == []
    assert tcb.recovery.episodes == 1


def test_during_recovery_new_text_leaves_at_half_the_rate() -> None:
    # RFC 6937: for two segments delivered one may leave
    _, peer, _ = in_flight(more=20)
    for _ in range(3):
        peer.send(".", 1, 1)
    sent = sum(len(peer.send(".", 1, 1)) for _ in range(6))
    assert 1 <= sent <= 4


# With SACK (RFC 6675)


@both_versions
def test_holes_below_three_sacked_segments_are_resent(version: int) -> None:
    _, peer, tcb = in_flight(version, sack=True)
    assert peer.send(".", 1, 1, sack=[(1001, 2001)]) == []
    assert peer.send(".", 1, 1, sack=[(1001, 3001)]) == []
    assert peer.send(".", 1, 1, sack=[(1001, 4001)]) == [". 1:1001(1000) ack 1"]
    assert tcb.recovery.phase is FAST


def test_only_the_holes_are_resent() -> None:
    _, peer, tcb = in_flight(sack=True)
    seen = []
    for right in range(4001, 10_002, 1000):
        peer.put(".", 1, 1, sack=[(3001, right), (1001, 2001)])
        peer.host.turn()
        seen += resent(peer, 10_001)
    assert seen == [0, 2]
    peer.send(".", 1, 10_001)
    assert tcb.recovery.phase is OPEN
    assert tcb.scoreboard.retransmissions == 2


def test_sacks_alone_do_not_halve_the_window_twice_in_an_episode() -> None:
    host, peer, tcb = in_flight(sack=True, tcp=RENO)
    for right in range(2001, 10_002, 1000):
        peer.send(".", 1, 1, sack=[(1001, right)])
    peer.send(".", 1, 1001, sack=[(2001, 10_001)])
    peer.send(".", 1, 10_001)
    assert tcb.recovery.episodes == 1
    assert cwnd(host, tcb) == 5000


def test_a_sack_of_what_was_never_sent_is_ignored() -> None:
    _, peer, tcb = in_flight(sack=True)
    for _ in range(4):
        assert peer.send(".", 1, 1, sack=[(20_001, 40_001)]) == []
    assert tcb.scoreboard.sacked == 0


def test_what_was_sacked_is_not_resent_after_a_timeout() -> None:
    host, peer, _ = in_flight(sack=True)
    peer.send(".", 1, 1, sack=[(1001, 2001)])
    host.advance(SECOND)
    peer.heard()
    seen = []
    for at in (2001, 3001, 5001, 9001):
        peer.put(".", 1, at)
        host.turn()
        seen += resent(peer, 10_001)
    assert 1 not in seen
    assert seen[:2] == [2, 3]


def test_a_peer_that_takes_back_what_it_sacked_is_served_again() -> None:
    # RFC 2018 §8: the octet at SND.UNA was SACKed, yet never acknowledged
    host, peer, _ = in_flight(sack=True)
    peer.send(".", 1, 1, sack=[(1001, 10_001)])
    host.advance(50 * MS)
    peer.heard()
    peer.send(".", 1, 1001)  # and no word of the rest
    host.advance(2 * SECOND)
    seen = resent(peer, 10_001)
    assert seen[0] == 1
    for at in range(2001, 10_002, 1000):
        peer.put(".", 1, at)
        host.turn()
        seen += resent(peer, 10_001)
    assert sorted(set(seen)) == list(range(1, 10))


# Timeouts


@both_versions
def test_after_a_timeout_the_window_is_one_segment_and_grows_again(version: int) -> None:
    host, peer, tcb = in_flight(version, tcp=RENO)
    host.advance(SECOND)
    assert resent(peer, 10_001) == [0, 0]
    assert tcb.recovery.phase is LOSS
    assert (cwnd(host, tcb), tcb.recovery.timeouts) == (1000, 2)
    peer.put(".", 1, 1001)
    host.turn()
    assert resent(peer, 10_001) == [1, 2]
    peer.put(".", 1, 3001)
    host.turn()
    assert resent(peer, 10_001) == [3, 4, 5, 6]
    peer.send(".", 1, 10_001)
    host.send(tcb, b"x" * MSS)
    peer.send(".", 1, 11_001)
    assert tcb.recovery.phase is OPEN
    assert host.stack.status(tcb, host.now).snd_ssthresh == 5000


def test_duplicate_acks_of_a_flight_that_timed_out_start_no_recovery() -> None:
    # RFC 6582 §3.2 step 4
    host, peer, tcb = in_flight()
    host.advance(500 * MS)
    peer.heard()
    for _ in range(5):
        assert peer.send(".", 1, 1) == []
    assert tcb.recovery.phase is LOSS


@pytest.mark.parametrize("sack", [False, True])
def test_an_unlucky_retransmission_is_repaired_by_the_timer(sack: bool) -> None:
    host, peer, tcb = in_flight(sack=sack)
    for right in (2001, 3001, 4001):
        peer.send(".", 1, 1, sack=[(1001, right)] if sack else [])
    peer.heard()
    host.advance(SECOND)
    assert resent(peer, 10_001)[0] == 0
    assert tcb.recovery.phase is LOSS


def test_a_resent_fin_still_is_a_fin() -> None:
    host, peer, tcb = in_flight()
    host.shutdown(tcb)
    assert peer.heard() == []  # it is a segment, too, and ten are out
    assert peer.send(".", 1, 1001) == ["F. 10001:10002(0) ack 1"]
    peer.send(".", 1, 10_001)
    host.advance(SECOND)
    assert peer.heard()[-1] == "F. 10001:10002(0) ack 1"


# Path MTU: a loss for its size says nothing of congestion (RFC 1191 §6.4)


@pytest.mark.parametrize("sack", [False, True])
def test_what_was_too_big_is_resent_without_halving_the_window(sack: bool) -> None:
    host, peer, tcb = in_flight(sack=sack)
    before = cwnd(host, tcb)
    ssthresh = host.stack.status(tcb, host.now).snd_ssthresh
    tcb.recovery.resend_all(tcb.scoreboard, tcb.snd.nxt)
    host.stack.configure(tcb, tcb.config, host.now)  # anything that makes it transmit
    host.turn()
    assert len(resent(peer, 10_001)) == 10
    peer.send(".", 1, 5001)
    peer.send(".", 1, 10_001)
    assert cwnd(host, tcb) >= before
    assert host.stack.status(tcb, host.now).snd_ssthresh == ssthresh
