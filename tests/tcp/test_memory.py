"""The account of what all buffers hold, and who has to do without when it is full."""

import pytest

from tests.stack.host import SECOND, Host, Peer
from ustack.config import TcpConfig
from ustack.tcp.memory_pressure import QUANTUM
from ustack.tcp.receive_buffer import BLOCK_CHARGE
from ustack.tcp.tcb import Tcb

MSS = 1000
BLOCK = MSS + BLOCK_CHARGE


def host_with(limit: int, max_orphans: int = 100) -> Host:
    config = TcpConfig(receive_buffer=65_000)
    return Host(4, tcp=config, memory_limit=limit, max_orphans=max_orphans)


def connected(host: Host, count: int = 1) -> list[tuple[Peer, Tcb]]:
    peers = [Peer(host, port=40_000 + index) for index in range(count)]
    return [(peer, peer.establish(mss=MSS, sack=True)) for peer in peers]


def test_unread_text_is_charged_until_it_is_read() -> None:
    host = host_with(1 << 20)
    ((peer, tcb),) = connected(host)
    for at in range(1, 20_001, MSS):
        peer.send(".", at, 1, b"x" * MSS)
    assert 20_000 - QUANTUM <= host.stack.memory.used <= 20_000
    host.read(tcb)
    assert host.stack.memory.used == 0


def test_text_to_be_acknowledged_is_charged() -> None:
    host = host_with(1 << 20)
    ((peer, tcb),) = connected(host)
    host.send(tcb, b"x" * 10_000)
    assert 10_000 - QUANTUM <= host.stack.memory.used <= 10_000
    peer.send(".", 1, 10_001)
    assert host.stack.memory.used == 0


def test_a_connection_that_is_over_holds_nothing() -> None:
    host = host_with(1 << 20)
    ((peer, tcb),) = connected(host)
    peer.send(".", 5001, 1, b"x" * MSS)
    host.send(tcb, b"x" * 10_000)
    peer.send("R.", 1, 1)
    assert tcb.closed
    memory = host.stack.memory
    assert (memory.used, len(memory.holders), len(memory.orphans)) == (0, 0, 0)


def test_text_behind_a_gap_is_refused_when_the_memory_is_full() -> None:
    host = host_with(3 * BLOCK)
    ((peer, tcb),) = connected(host)
    for at in (2001, 4001, 6001, 8001, 10_001):
        peer.send(".", at, 1, b"x" * MSS)
    assert tcb.receive_buffer.out_of_order == 3
    assert host.drops()["memory-behind-gap"] == 2
    assert host.stack.memory.used == 3 * BLOCK


def test_what_is_nearer_takes_the_place_of_what_is_farther() -> None:
    host = host_with(3 * BLOCK)
    ((peer, tcb),) = connected(host)
    for at in (6001, 8001, 10_001, 2001):
        peer.send(".", at, 1, b"x" * MSS)
    assert host.drops()["memory-pruned"] == 1
    assert tcb.receive_buffer.end - tcb.rcv.irs == 9001
    peer.send(".", 4001, 1, b"x" * MSS)
    assert tcb.receive_buffer.end - tcb.rcv.irs == 7001


def test_text_in_order_takes_the_place_of_what_others_hold_behind_gaps() -> None:
    host = host_with(3 * BLOCK)
    (one, first), (other, second) = connected(host, 2)
    for at in (2001, 4001, 6001):
        one.send(".", at, 1, b"x" * MSS)
    assert host.stack.memory.full
    for at in (1, 1001, 2001):
        other.send(".", at, 1, b"y" * MSS)
    assert second.receive_buffer.readable == 3 * MSS
    assert first.receive_buffer.out_of_order < 3
    assert host.drops()["memory-pruned"] >= 1
    assert host.stack.memory.used <= 3 * BLOCK


def test_unread_text_is_not_added_to_when_the_memory_is_full_and_the_window_stays() -> None:
    host = host_with(10_000)
    (one, first), (other, second) = connected(host, 2)
    at = 1
    while not host.stack.memory.full:
        one.send(".", at, 1, b"x" * MSS)
        at += MSS
    edge = first.rcv.adv
    answer = one.send(".", at, 1, b"x" * MSS)
    assert answer == [f". 1:1(0) ack {at}"]
    assert first.rcv.adv == edge
    assert host.drops()["memory-in-order"] == 1
    # but nobody starves
    other.send(".", 1, 1, b"y" * MSS)
    assert second.receive_buffer.readable == MSS
    host.read(first)
    one.send(".", at, 1, b"x" * MSS)
    assert first.receive_buffer.readable == MSS


def test_a_writer_waits_while_the_memory_is_full() -> None:
    host = host_with(10_000)
    (one, first), (_, second) = connected(host, 2)
    assert host.send(first, b"x" * 12_000) == 12_000
    assert host.send(first, b"x" * 1000) == 0
    assert host.send(second, b"y" * 1000) == 1000
    assert host.drops()["memory-writes"] == 1
    one.send(".", 1, 10_001)
    assert host.send(first, b"x" * 1000) == 1000


def test_under_pressure_buffers_do_not_grow() -> None:
    host = Host(4, memory_limit=1 << 20, memory_pressure=QUANTUM)
    (one, first), (other, second) = connected(host, 2)
    for at in range(1, 8001, MSS):
        one.send(".", at, 1, b"x" * MSS)
    assert host.stack.memory.pressure and host.drops()["memory-pressure"] == 1
    limits = second.receive_buffer.limit, second.receive_buffer.ceiling
    for at in range(1, 200_001, MSS):
        other.send(".", at, 1, b"y" * MSS)
        host.read(second)
    assert (second.receive_buffer.limit, second.receive_buffer.ceiling) <= limits
    host.read(first)
    assert not host.stack.memory.pressure


def test_a_connection_closed_with_too_many_others_is_reset() -> None:
    host = host_with(1 << 20, max_orphans=1)
    (one, first), (other, second) = connected(host, 2)
    for peer, tcb in ((one, first), (other, second)):
        host.send(tcb, b"x" * 100)
        peer.heard()
        host.close(tcb)
    assert not first.closed and one.heard()[0].startswith("F.")
    assert second.closed and other.heard()[0].startswith("R.")
    assert host.drops()["orphans-reset"] == 1
    assert len(host.stack.memory.orphans) == 1


def test_peers_that_never_open_their_windows_do_not_hold_all_memory() -> None:
    # RFC 6429 §4: closed by their users, and the peers answer each probe
    host = host_with(40_000)
    pairs = connected(host, 4)
    for peer, tcb in pairs:
        host.send(tcb, b"x" * 20_000)
        host.close(tcb)
        peer.send(".", 1, 1, win=0)
    assert host.stack.memory.full
    for _ in range(20):
        host.advance(SECOND)
        for peer, tcb in pairs:
            if not tcb.closed:
                peer.send(".", 1, 1, win=0)
    assert not host.stack.memory.full
    assert host.drops()["memory-orphans"] >= 2
    assert 1 <= len(host.stack.memory.orphans) <= 2


@pytest.mark.parametrize("limit", [1, 100, 2000])
def test_one_connection_gets_on_with_next_to_no_memory(limit: int) -> None:
    host = host_with(limit)
    ((peer, tcb),) = connected(host)
    got = b""
    for at in range(1, 10_001, MSS):
        peer.send(".", at, 1, b"x" * MSS)
        got += host.read(tcb)
    assert len(got) == 10_000
