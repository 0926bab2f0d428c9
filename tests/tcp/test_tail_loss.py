"""Tail loss probes on the wire (RFC 8985 §7). Segments are 1000 bytes, the RTT is 50 ms."""

from tests.stack.host import MS, Host, Peer, both_versions
from tests.tcp.test_recovery import cwnd, in_flight
from ustack.config import TcpConfig
from ustack.tcp.tcb import Tcb

RTT = 50 * MS
SLACK = 4 * MS  # more than the 2 ms that Linux adds, and a tick of the clock


def after_a_lost_tail(version: int = 4, lost: int = 1) -> tuple[Host, Peer, Tcb]:
    """Ten segments were sent; all but the last `lost` are acknowledged. Half an RTT has passed."""
    host, peer, tcb = in_flight(version, sack=True)
    peer.send(".", 1, 10_001 - lost * 1000)
    return host, peer, tcb


@both_versions
def test_after_two_round_trips_the_last_segment_is_sent_again(version: int) -> None:
    host, peer, _ = after_a_lost_tail(version, lost=3)
    host.advance(2 * RTT - 1 * MS)
    assert peer.heard() == []
    host.advance(SLACK)
    assert peer.heard() == ["P. 9001:10001(1000) ack 1"]
    assert host.notes[-1] == "tail loss probe"


def test_new_text_is_the_better_probe() -> None:
    # §7.3
    host, peer, tcb = in_flight(sack=True, more=3)
    host.advance(2 * RTT + SLACK)
    assert peer.heard() == [". 10001:11001(1000) ack 1"]
    assert tcb.tail_probe_resent == 0


def test_a_lone_segment_gets_time_for_a_delayed_ack() -> None:
    # §7.2: max_ack_delay is added when one segment is in flight
    host, peer, _ = in_flight(segments=1, sack=True)
    host.advance(2 * RTT - 50 * MS + SLACK)
    assert peer.heard() == []
    host.advance(200 * MS)
    assert peer.heard() == ["P. 1:1001(1000) ack 1"]


def test_the_sack_for_a_probe_starts_a_recovery_of_the_rest() -> None:
    # §7.1: the probe turns a timeout into fast recovery
    host, peer, tcb = after_a_lost_tail(lost=3)
    host.advance(2 * RTT + SLACK)
    peer.heard()
    host.advance(RTT)
    peer.put(".", 1, 7001, sack=[(9001, 10_001)])
    host.turn()
    host.advance(RTT // 4 + SLACK)
    assert peer.heard() == [". 7001:8001(1000) ack 1"]
    assert peer.send(".", 1, 8001, sack=[(9001, 10_001)]) == [". 8001:9001(1000) ack 1"]
    assert tcb.recovery.timeouts == 0


def test_a_loss_repaired_by_the_probe_halves_the_window() -> None:
    # §7.4.2: no DSACK, so the first copy was lost; an ACK beyond the probe makes it sure
    host, peer, tcb = after_a_lost_tail()
    before = cwnd(host, tcb)
    host.advance(200 * MS + 2 * RTT + SLACK)
    assert len(peer.heard()) == 1
    peer.send(".", 1, 10_001)
    assert cwnd(host, tcb) >= before
    host.send(tcb, b"x" * 1000)
    assert len(peer.heard()) == 1
    peer.send(".", 1, 11_001)
    assert cwnd(host, tcb) < before
    assert tcb.tail_probe_end is None


def test_a_duplicate_ack_without_news_says_that_the_probe_was_not_needed() -> None:
    # §7.4.2, for a peer that reports no DSACKs
    host, peer, tcb = after_a_lost_tail()
    before = cwnd(host, tcb)
    host.advance(200 * MS + 2 * RTT + SLACK)
    assert len(peer.heard()) == 1
    peer.send(".", 1, 10_001)
    peer.send(".", 1, 10_001)
    assert tcb.tail_probe_end is None
    host.send(tcb, b"x" * 1000)
    peer.send(".", 1, 11_001)
    assert cwnd(host, tcb) >= before


def test_a_dsack_for_the_probe_leaves_the_window_alone() -> None:
    # §7.4.2: the first copy had arrived, only its ACK was late
    host, peer, tcb = after_a_lost_tail()
    before = cwnd(host, tcb)
    host.advance(200 * MS + 2 * RTT + SLACK)
    assert len(peer.heard()) == 1
    peer.send(".", 1, 10_001, sack=[(9001, 10_001)])
    assert cwnd(host, tcb) >= before
    assert tcb.tail_probe_end is None


def test_only_one_probe_is_out_at_a_time_and_then_the_timeout_follows() -> None:
    # §7.3
    host, peer, _ = after_a_lost_tail(lost=2)
    host.advance(2 * RTT + SLACK)
    assert len(peer.heard()) == 1
    host.advance(200 * MS)
    assert peer.heard() == []
    host.advance(150 * MS)
    assert peer.heard() == [". 8001:9001(1000) ack 1"]
    assert host.notes[-1] == "retransmission after RTO"


@both_versions
def test_a_lost_fin_is_probed_too(version: int) -> None:
    host, peer, tcb = in_flight(version, segments=2, sack=True)
    peer.send(".", 1, 2001)
    host.shutdown(tcb)
    assert peer.heard() == ["F. 2001:2002(0) ack 1"]
    host.advance(200 * MS + 2 * RTT + SLACK)
    assert [reply.seq for reply in peer.replies()] == [2001]
    assert host.notes[-1] == "tail loss probe"


def test_without_sack_there_is_no_probe() -> None:
    # §7.1
    host, peer, _ = in_flight(sack=False)
    peer.send(".", 1, 9001)
    host.advance(2 * RTT + SLACK)
    assert peer.heard() == []


def test_a_connection_can_do_without() -> None:
    host, peer, _ = in_flight(sack=True, tcp=TcpConfig(tail_loss_probe=False))
    peer.send(".", 1, 8001)
    host.advance(2 * RTT + SLACK)
    assert peer.heard() == []
