"""What the fuzzers found, each in the few segments that it takes."""

import gc
import tracemalloc

from tests.stack.host import MS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.tcp.state import CLOSE_WAIT, ESTABLISHED, FIN_WAIT_2


@both_versions
def test_a_fin_in_front_of_text_that_has_arrived_behind_a_gap_is_none(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(sack=True)
    peer.send(".", 11, 1, b"k" * 10)
    peer.send("F.", 6, 1)
    assert peer.send(".", 1, 1, b"a" * 10) == [". 1:1(0) ack 21"]
    assert tcb.state is ESTABLISHED and host.read(tcb) == b"a" * 10 + b"k" * 10
    assert not tcb.eof
    peer.send("F.", 21, 1)
    assert tcb.state is CLOSE_WAIT and host.read(tcb) == b"" and tcb.eof


@both_versions
def test_a_reset_with_syn_is_not_answered_in_syn_received(version: int) -> None:
    host = Host(version)
    host.listen()
    peer = Peer(host)
    peer.send("S", 0)
    assert peer.send("SR", 0) == []
    assert len(host.stack.half_open()) == 1


@both_versions
def test_text_on_a_syn_is_not_reported_as_if_it_were_behind_a_gap(version: int) -> None:
    host = Host(version)
    host.listen()
    peer = Peer(host)
    peer.send("S", 0, 0, b"x", options=peer.syn_options(1000, None, True, None))
    peer.put(".", -10, 1, b"old")
    host.turn()
    reply = peer.reply()
    assert str(reply) == ". 1:1(0) ack 1" and not reply.options.sack


@both_versions
def test_a_probe_that_waited_for_the_device_is_not_a_second_fin(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    peer.send(".", 1, 1, win=0)
    host.shutdown(tcb)
    host.advance(SECOND)
    assert "F. 1:2(0) ack 1" in peer.heard()
    host.room = 0
    host.advance(5 * SECOND)
    peer.send(".", 1, 2, win=0)
    host.room = None
    host.turn()
    assert peer.heard() == [] and tcb.state is FIN_WAIT_2
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]


@both_versions
def test_a_syn_with_ack_does_not_pass_by_a_full_accept_queue(version: int) -> None:
    host = Host(version)
    listener = host.listen(backlog=0)
    peers = [Peer(host, port) for port in (1001, 1002)]
    for peer in peers:
        peer.send("S", 0)
    peers[0].send(".", 1, 1)
    peers[1].send("S.", 0, 1)
    assert len(listener.queue) == 1


@both_versions
def test_large_frames_that_bring_little_are_not_kept_in_memory(version: int) -> None:
    host = Host(version, TcpConfig(receive_buffer=1 << 20), mtu=65535)
    peer = Peer(host)
    tcb = peer.establish(mss=65000, wscale=7)
    peer.send(".", 1, 1, b"x" * 60_000)
    reached = 60_001
    gc.collect()
    tracemalloc.start()
    for gap in [0] * 200 + [1100] * 200:  # in order, then each behind a gap
        reached += 1100 + gap
        peer.put(".", reached - 60_000, 1, b"x" * 60_000)
        peer.put(".", reached + 1100, 1, b"x" * 1100)
        host.turn()
        host.drain()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * tcb.receive_buffer.limit


def test_answers_do_not_pile_up_while_the_device_is_full() -> None:
    host = Host(resets_per_second=1 << 20)
    host.room = 0
    for port in range(1, 6001):
        Peer(host, port).put(".", 0, 0)
    host.turn()
    host.room = None
    host.turn()
    assert 1000 < len(host.drain()) < 5000


@both_versions
def test_a_fin_in_order_counts_more_than_text_said_to_be_behind_it(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(sack=True)
    peer.send(".", 501, 1, b"x")  # of a third party
    peer.send("F.", 1, 1, b"the end")
    host.advance(41 * MS)
    assert peer.heard() == [". 1:1(0) ack 9"]
    assert tcb.state is CLOSE_WAIT and host.read(tcb) == b"the end" and tcb.eof


@both_versions
def test_a_fin_in_order_counts_more_than_one_behind_a_gap(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    peer.send("F.", 501, 1)  # of a third party
    peer.send("F.", 1, 1, b"the end")
    host.advance(41 * MS)
    assert peer.heard() == [". 1:1(0) ack 9"]
    assert tcb.state is CLOSE_WAIT and host.read(tcb) == b"the end" and tcb.eof
