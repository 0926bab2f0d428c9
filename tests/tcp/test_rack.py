"""RACK on the wire (RFC 8985 §6): losses told by time. Segments of 1000 bytes, RTT of 50 ms."""

import pytest

from tests.stack.host import MS, Host, Peer, both_versions
from tests.tcp.test_recovery import in_flight, resent
from ustack.config import TcpConfig
from ustack.tcp.rack import Rack
from ustack.tcp.recovery import FAST, OPEN
from ustack.tcp.tcb import Tcb

RTT = 50 * MS


@both_versions
def test_one_later_segment_and_a_quarter_of_an_rtt_are_enough(version: int) -> None:
    # §6.2: the first two of the last three segments are lost; counting to DupThresh never ends
    host, peer, _ = in_flight(version, sack=True)
    assert peer.send(".", 1, 7001, sack=[(9001, 10_001)]) == []
    host.advance(RTT // 4 + 1 * MS)
    # scripts/recovery/reordering-timer-one-segment.pkt: so does the kernel
    assert resent(peer, 10_001) == [7]
    assert host.notes[-1] == "fast retransmit"
    peer.put(".", 1, 8001, sack=[(9001, 10_001)])
    host.turn()
    assert resent(peer, 10_001) == [8]


def test_a_segment_that_is_only_late_is_not_resent() -> None:
    # reordering by less than min_rtt / 4
    host, peer, tcb = in_flight(sack=True)
    assert peer.send(".", 1, 1, sack=[(1001, 2001)]) == []
    host.advance(10 * MS)
    assert peer.send(".", 1, 2001) == []
    host.advance(30 * MS)
    assert peer.heard() == []
    assert tcb.recovery.phase is OPEN
    assert tcb.recovery.rack.reordering_seen


def test_without_reordering_three_segments_sacked_need_no_patience() -> None:
    # §6.2 step 4
    _, peer, tcb = in_flight(sack=True)
    assert peer.send(".", 1, 1, sack=[(1001, 3001)]) == []
    assert peer.send(".", 1, 1, sack=[(1001, 4001)]) == [". 1:1001(1000) ack 1"]
    assert tcb.recovery.phase is FAST


def test_after_reordering_three_segments_sacked_get_patience() -> None:
    host, peer, _ = in_flight(sack=True)
    peer.send(".", 1, 1, sack=[(1001, 2001)])
    peer.send(".", 1, 2001)  # the first came late
    assert peer.send(".", 1, 2001, sack=[(3001, 6001)]) == []
    host.advance(RTT // 4 + 1 * MS)
    assert resent(peer, 10_001) == [2]


@both_versions
def test_a_lost_retransmission_is_found_without_a_timeout(version: int) -> None:
    # §6.2: what was sent after the retransmission arrives, the retransmission does not
    host, peer, tcb = in_flight(version, sack=True, more=10)
    peer.send(".", 1, 1, sack=[(1001, 4001)])
    assert tcb.recovery.phase is FAST
    peer.send(".", 1, 1, sack=[(1001, 10_001)])
    host.advance(10 * MS)
    peer.send(".", 1, 1, sack=[(1001, 10_001)])
    newest = max(host.stack.connections()[0].snd.nxt - tcb.snd.iss, 10_001)
    assert newest > 10_001  # new text followed the retransmission
    peer.heard()
    host.advance(RTT)
    peer.put(".", 1, 1, sack=[(1001, newest)])
    host.turn()
    assert 0 in resent(peer, 10_001)
    assert tcb.recovery.timeouts == 0


def test_without_rack_the_bytes_sacked_decide() -> None:
    # RFC 6675 §4
    host, peer, _ = in_flight(sack=True, tcp=TcpConfig(rack=False, tail_loss_probe=False))
    assert peer.send(".", 1, 7001, sack=[(9001, 10_001)]) == []
    host.advance(100 * MS)
    assert peer.heard() == []


def test_a_dsack_widens_the_tolerance_once_per_round_trip() -> None:
    rack = Rack()
    rack.reordering_seen = 1
    assert rack.tolerance(40, 400, many_sacked=True, recovering=False) == 10
    rack.on_dsack(una=1000, nxt=5000)
    rack.on_dsack(una=4999, nxt=6000)
    assert rack.tolerance(40, 400, many_sacked=True, recovering=False) == 20
    rack.on_dsack(una=5000, nxt=9000)
    assert rack.tolerance(40, 400, many_sacked=True, recovering=False) == 30


def test_the_tolerance_never_exceeds_the_smoothed_rtt() -> None:
    # §6.2 step 4
    rack = Rack()
    rack.reordering_seen = 1
    for round_trip in range(1, 100):
        rack.on_dsack(una=10 * round_trip, nxt=10 * round_trip + 10)
    assert rack.tolerance(1000, 1200, many_sacked=False, recovering=False) == 1200


def test_sixteen_recoveries_without_a_dsack_narrow_it_again() -> None:
    # §6.2 step 4: RACK.reo_wnd_persist
    rack = Rack()
    rack.reordering_seen = 1
    rack.on_dsack(una=10, nxt=20)
    for _ in range(15):
        rack.on_recovered()
    assert rack.tolerance(40, 400, many_sacked=False, recovering=False) == 20
    rack.on_recovered()
    assert rack.tolerance(40, 400, many_sacked=False, recovering=False) == 10


def test_a_recovery_that_proved_needless_does_not_count_as_one() -> None:
    # Linux: what DSACKs have undone was no loss, so the tolerance is still needed
    rack = Rack()
    rack.reordering_seen = 1
    rack.on_dsack(una=10, nxt=20)
    for _ in range(15):
        rack.on_recovered()
    rack.on_needless_recovery()
    rack.on_recovered()
    assert rack.tolerance(40, 400, many_sacked=False, recovering=False) == 20


def test_without_reordering_a_dsack_leaves_the_tolerance_alone() -> None:
    # Linux: it was not the reordering window that was too small
    rack = Rack()
    rack.on_dsack(una=10, nxt=20)
    assert rack.tolerance(40, 400, many_sacked=False, recovering=False) == 10


def test_of_two_segments_sent_at_once_the_higher_one_is_the_newer() -> None:
    # §6.2: RACK_sent_after compares the end when the times are the same
    rack = Rack()
    rack.delivered(100, 2000, 150)
    rack.delivered(100, 1000, 170)
    assert (rack.sent_at, rack.end, rack.rtt) == (100, 2000, 50)


def host_and_peer(segments: int) -> tuple[Host, Peer]:
    host, peer, _ = in_flight(segments=segments, sack=True)
    return host, peer


def test_a_resent_segment_acknowledged_too_soon_says_nothing() -> None:
    # §6.2 step 2: the ACK belongs to the first copy, so it tells nothing about later losses
    host, peer = host_and_peer(10)
    tcb = host.stack.connections()[0]
    peer.send(".", 1, 1, sack=[(1001, 4001)])
    newest = tcb.recovery.rack.sent_at
    host.advance(1 * MS)
    peer.send(".", 1, 4001)
    assert tcb.recovery.rack.sent_at == newest


def test_what_was_sent_before_a_copy_that_arrived_is_lost_though_nothing_is_sacked() -> None:
    # §6.2 step 5, as Linux 6.18 does: the copy overtook all that limited transmit had sent before
    host, peer, tcb = in_flight(sack=True, more=10)
    peer.send(".", 1, 1, sack=[(1001, 2001)])
    peer.send(".", 1, 1, sack=[(1001, 3001)])
    host.advance(1 * MS)
    peer.put(".", 1, 1, sack=[(1001, 10_001)])
    host.turn()
    assert 0 in resent(peer, 10_001)
    host.advance(RTT + 1 * MS)
    peer.send(".", 1, 10_001)
    assert tcb.recovery.phase is FAST
    assert tcb.scoreboard.lost == 2000


def hole_is_given(host: Host, peer: Peer, tcb: Tcb) -> int:
    """How long a hole below one SACKed segment waits before it is sent again, ms. Then the round is
    over, and the window, which must hold the four segments, what it was."""
    host.send(tcb, bytes(4000))
    peer.heard()
    host.advance(RTT)
    una, nxt = tcb.snd.una - tcb.snd.iss, tcb.snd.nxt - tcb.snd.iss
    peer.send(".", 1, una, sack=[(una + 2000, una + 3000)])
    waited = 0
    while not resent(peer, nxt):
        host.advance(1 * MS)
        waited += 1
        assert waited < 10 * RTT
    host.advance(RTT)
    peer.send(".", 1, nxt)
    assert tcb.congestion is not None
    tcb.congestion.cwnd = 10_000
    return waited


def reordered() -> tuple[Host, Peer, Tcb]:
    host, peer, tcb = in_flight(sack=True)
    peer.send(".", 1, 1, sack=[(1001, 2001)])
    peer.send(".", 1, 2001)
    peer.send(".", 1, 10_001)
    return host, peer, tcb


def report_copy(peer: Peer, tcb: Tcb) -> None:
    """The peer had the segment before the last four: D-SACK."""
    una = tcb.snd.una - tcb.snd.iss
    peer.send(".", 1, una, sack=[(una - 4000, una - 3000)])


def test_on_the_wire_each_round_with_a_dsack_gives_a_quarter_more_up_to_a_round_trip() -> None:
    # §6.2 step 4: min(reo_wnd_mult * min_RTT / 4, SRTT); scripts/recovery/dsack-widens-the-
    # tolerance.pkt: so does the kernel
    host, peer, tcb = reordered()
    quarter = RTT // MS / 4
    waited = []
    for _ in range(12):
        waited.append(hole_is_given(host, peer, tcb))
        report_copy(peer, tcb)
    assert waited[0] == pytest.approx(quarter, abs=2)
    assert waited[1] == pytest.approx(2 * quarter, abs=2)
    assert waited[2] == pytest.approx(3 * quarter, abs=2)
    bound = tcb.rtt.srtt // MS
    assert all(one <= bound + 2 for one in waited)
    assert waited[-1] > 3 * quarter


def test_on_the_wire_sixteen_recoveries_without_a_dsack_take_it_back() -> None:
    host, peer, tcb = reordered()
    hole_is_given(host, peer, tcb)
    report_copy(peer, tcb)
    waited = [hole_is_given(host, peer, tcb) for _ in range(18)]
    quarter = RTT // MS / 4
    assert waited[0] == waited[14] == pytest.approx(2 * quarter, abs=2)
    assert waited[-1] == pytest.approx(quarter, abs=2)
