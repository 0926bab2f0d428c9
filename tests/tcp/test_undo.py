"""Cuts that prove needless, on the wire. Segments are 1000 bytes, the RTT is 50 ms. The scripts in
tests/scripts/undo and frto show the same beside the kernel."""

import pytest

from tests.stack.host import MS, Host, Peer
from tests.tcp.test_recovery import cwnd, in_flight, resent
from ustack.config import TcpConfig
from ustack.tcp.recovery import FAST, LOSS, OPEN
from ustack.tcp.tcb import Tcb
from ustack.tcp.undo import Undo

RENO = TcpConfig(congestion="newreno")  # for the figures of RFC 5681


def recovering(*, more: int = 0) -> tuple[Host, Peer, Tcb]:
    """Three segments were SACKed above the first, which was sent again."""
    host, peer, tcb = in_flight(sack=True, more=more, tcp=RENO)
    peer.send(".", 1, 1, sack=[(1001, 4001)])
    assert tcb.recovery.phase is FAST
    return host, peer, tcb


def test_what_the_peer_got_twice_was_not_lost() -> None:
    # RFC 3708 §2
    host, peer, tcb = recovering()
    peer.send(".", 1, 10_001)
    assert cwnd(host, tcb) < 7000
    peer.send(".", 1, 10_001, sack=[(1, 1001)])
    assert cwnd(host, tcb) >= 10_000
    assert tcb.recovery.undone == 1


def test_a_dsack_of_what_was_never_sent_twice_undoes_nothing() -> None:
    # RFC 3708 §3: a peer, or somebody on the way, that duplicates must not keep the window open
    host, peer, tcb = recovering()
    peer.send(".", 1, 10_001)
    peer.send(".", 1, 10_001, sack=[(1, 5001)])
    assert cwnd(host, tcb) < 7000
    assert tcb.recovery.undone == 0


def test_a_dsack_of_text_before_the_cut_undoes_nothing() -> None:
    host, peer, tcb = in_flight(sack=True, tcp=RENO)
    peer.send(".", 1, 3001)
    peer.send(".", 1, 3001, sack=[(4001, 7001)])
    assert resent(peer, 10_001) == [] and tcb.recovery.phase is FAST
    peer.send(".", 1, 10_001)
    peer.send(".", 1, 10_001, sack=[(1001, 2001)])
    assert tcb.recovery.undone == 0
    assert cwnd(host, tcb) < 9000


def test_a_dsack_above_what_is_acknowledged_is_inside_the_block_that_follows() -> None:
    # RFC 2883 §4.2: the second block shows that the first is a duplicate
    _, peer, tcb = in_flight(sack=True, more=4)
    peer.send(".", 1, 1, sack=[(2001, 5001)])
    peer.heard()
    peer.send(".", 1, 1, sack=[(1001, 2001), (1001, 5001)])
    assert tcb.counters.dsacks_received == 1


@pytest.mark.parametrize("frto", [False, True])
def test_after_a_timeout_only_frto_asks_with_new_text(frto: bool) -> None:
    # RFC 5682 §3.1 step 2b
    config = TcpConfig(tail_loss_probe=False, frto=frto)
    host, peer, tcb = in_flight(sack=True, more=1, tcp=config)
    host.advance(300 * MS)
    assert resent(peer, 10_001) == [0]
    replies = peer.send(".", 1, 1001)
    assert replies[:1] == [
        ("P. 10001:11001" if frto else ". 1001:2001") + "(1000) ack 1",
    ]
    assert tcb.recovery.phase is LOSS


def test_while_frto_waits_for_an_answer_nothing_is_sent_again() -> None:
    config = TcpConfig(tail_loss_probe=False)
    host, peer, tcb = in_flight(sack=True, more=1, tcp=config)
    host.advance(300 * MS)
    peer.heard()
    peer.send(".", 1, 1001)
    host.send(tcb, b"x" * 5000)
    assert resent(peer, 10_001) == []
    peer.put(".", 1, 1001, sack=[(10_001, 11_001)])
    host.turn()
    assert resent(peer, 10_001)[0] == 1


def test_a_timeout_cuts_again_only_after_progress() -> None:
    # RFC 5681 §3.1; Linux tcp_enter_loss
    config = TcpConfig(tail_loss_probe=False, congestion="newreno")
    host, _, tcb = in_flight(sack=True, tcp=config)
    host.advance(300 * MS)
    assert host.stack.status(tcb, host.now).snd_ssthresh == 5000
    host.advance(700 * MS)
    assert host.stack.status(tcb, host.now).snd_ssthresh == 5000
    assert tcb.recovery.timeouts == 2


def test_what_was_sent_just_before_the_timeout_is_not_sent_again() -> None:
    # RFC 8985 §6.3: it may be on its way
    config = TcpConfig(tail_loss_probe=False)
    host, peer, tcb = in_flight(segments=5, tcp=config)
    peer.send(".", 1, 1001)
    host.advance(210 * MS)
    host.send(tcb, b"x" * 3000)
    peer.heard()
    host.advance(45 * MS)
    assert resent(peer, 6001) == [1]
    assert tcb.recovery.phase is LOSS
    assert tcb.scoreboard.lost == 4000
    assert tcb.scoreboard.pipe() == 4000


def test_all_copies_must_be_reported() -> None:
    undo = Undo(10_000, 1 << 60, 1, 0)
    undo.on_dsack(1000, 1001)
    assert not undo.all_duplicates()  # nothing was sent again
    undo.on_resend(1000, 5)
    undo.on_resend(1000, 6)
    undo.on_dsack(1000, 1001)
    assert not undo.all_duplicates()
    undo.on_dsack(1000, 2001)
    assert undo.all_duplicates()
    assert undo.resent_at == 5


def test_a_tail_loss_probe_that_was_out_at_the_cut_is_reported_too() -> None:
    undo = Undo(10_000, 1 << 60, 1, 0)
    undo.on_tail_probe(1000)
    undo.on_resend(1000, 5)
    undo.on_dsack(1000, 1001)
    assert not undo.all_duplicates()


def test_reordering_is_learnt_up_to_a_limit() -> None:
    _, peer, tcb = in_flight(sack=True)
    peer.send(".", 1, 1, sack=[(1001, 3001)])
    peer.send(".", 1, 3001)
    assert tcb.recovery.reordering == 3
    peer.send(".", 1, 3001, sack=[(4001, 9001)])
    peer.send(".", 1, 9001)
    assert tcb.recovery.reordering == 6
    tcb.recovery.reordered(10_000_000, 1000)
    assert tcb.recovery.reordering == 300
    assert tcb.recovery.phase is OPEN
