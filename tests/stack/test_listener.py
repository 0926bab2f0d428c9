"""LISTEN: backlog, half-open children, the accept queue."""

import pytest

from tests.stack.host import OURS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.errors import AddressInUse, AddressNotAvailable, ConnectionReset, UsageError
from ustack.tcp.state import CLOSED, ESTABLISHED
from ustack.tcp.tcb import ACCEPTABLE, READABLE, Tcb


def opened(host: Host, port: int) -> Peer:
    """A peer whose handshake is complete as far as it knows."""
    peer = Peer(host, port)
    assert peer.send("S", 0) == ["S. 0:1(0) ack 1"]
    peer.send(".", 1, 1)
    return peer


def accepted(host: Host) -> list[int]:
    """Remote ports of all that can be accepted, in order."""
    (listener,) = host.stack.listeners()
    ports = []
    while (tcb := host.stack.accept(listener)) is not None:
        ports.append(tcb.remote.port)
    return ports


@both_versions
def test_connections_are_accepted_in_the_order_they_were_established(version: int) -> None:
    host = Host(version)
    listener = host.listen()
    first, second = Peer(host, 40000), Peer(host, 40001)
    first.send("S", 0)
    second.send("S", 0)
    second.send(".", 1, 1)
    assert host.events_of(listener) & ACCEPTABLE
    first.send(".", 1, 1)
    assert accepted(host) == [40001, 40000]
    assert host.stack.accept(listener) is None


def test_what_happens_before_accept_is_told_after_it() -> None:
    host = Host()
    listener = host.listen()
    peer = opened(host, 40000)
    peer.send(".", 1, 1, b"early")
    assert [subject for subject, _ in host.events if isinstance(subject, Tcb)] == []
    tcb = host.stack.accept(listener)
    assert tcb is not None
    host.turn()
    assert host.events_of(tcb) & READABLE
    assert host.read(tcb) == b"early"


def test_while_others_wait_the_listener_stays_acceptable() -> None:
    host = Host()
    listener = host.listen()
    for port in range(40000, 40003):
        opened(host, port)
    host.events_of(listener)
    for _ in range(2):
        host.accept()
        assert host.events_of(listener) & ACCEPTABLE
    host.accept()
    assert not host.events_of(listener)


@both_versions
def test_a_full_queue_drops_the_ack_and_takes_it_when_it_is_sent_again(version: int) -> None:
    # Linux: one more than the backlog waits; the rest stays half-open
    host = Host(version)
    listener = host.listen(backlog=1)
    waiting = [Peer(host, port) for port in (40000, 40001, 40002)]
    for peer in waiting[:2]:
        peer.send("S", 0)
    waiting[0].send(".", 1, 1)
    waiting[2].send("S", 0)
    for peer in waiting[1:]:
        peer.send(".", 1, 1)
    assert len(listener.queue) == 2
    assert host.drops()["listen-overflow"] == 1
    assert host.notes[-1] == "dropped: listen-overflow"
    host.accept()
    host.advance(SECOND + SECOND // 100)
    assert waiting[2].heard() == ["S. 0:1(0) ack 1"]  # asks for the ACK again
    waiting[2].send(".", 1, 1)
    assert len(listener.queue) == 2


@both_versions
def test_a_full_queue_drops_new_syns_in_silence(version: int) -> None:
    host = Host(version)
    host.listen(backlog=0)
    opened(host, 40000)
    late = Peer(host, 40001)
    assert late.send("S", 0) == []
    assert host.drops()["listen-overflow"] == 1
    host.accept()
    assert late.send("S", 0) == ["S. 0:1(0) ack 1"]


def test_a_reset_gets_through_to_a_child_of_a_full_queue() -> None:
    host = Host()
    listener = host.listen(backlog=1)
    peers = [Peer(host, port) for port in (40000, 40001, 40002)]
    for peer in peers[:2]:
        peer.send("S", 0)
    peers[0].send(".", 1, 1)
    peers[2].send("S", 0)
    peers[1].send(".", 1, 1)
    assert listener.full()
    assert listener.half_open == 1
    peers[2].send("R", 1)
    assert listener.half_open == 0


def test_half_open_connections_are_capped_over_all_listeners() -> None:
    host = Host(max_half_open=3, syn_cookies=0)
    for port in (80, 81):
        host.listen(port)
    answered = [bool(Peer(host, 40000 + i, 80 + i % 2).send("S", 0)) for i in range(6)]
    assert answered == [True] * 3 + [False] * 3
    assert host.drops()["half-open-full"] == 3
    Peer(host, 40000, 80).send("R", 1)
    assert Peer(host, 40009, 80).send("S", 0) == ["S. 0:1(0) ack 1"]


def test_forgotten_children_make_room_again() -> None:
    host = Host(4, TcpConfig(syn_ack_retransmissions=1), max_half_open=2, syn_cookies=0)
    listener = host.listen()
    for port in (40000, 40001):
        Peer(host, port).send("S", 0)
    assert Peer(host, 40002).send("S", 0) == []
    host.advance(10 * SECOND)
    assert listener.half_open == 0
    host.drain()
    assert Peer(host, 40002).send("S", 0) == ["S. 0:1(0) ack 1"]


def test_connections_are_capped() -> None:
    host = Host(max_connections=2)
    host.listen()
    opened(host, 40000)
    opened(host, 40001)
    assert Peer(host, 40002).send("S", 0) == []
    assert host.drops()["connections-full"] == 1


def test_a_child_that_was_reset_before_accept_tells_so_afterwards() -> None:
    host = Host()
    listener = host.listen()
    peer = opened(host, 40000)
    peer.send("R", 1)
    tcb = host.stack.accept(listener)
    assert tcb is not None
    assert tcb.state is CLOSED
    with pytest.raises(ConnectionReset):
        host.read(tcb)


@both_versions
def test_closing_a_listener_resets_who_waits_and_forgets_who_knocks(version: int) -> None:
    host = Host(version)
    listener = host.listen()
    kept = opened(host, 40000)
    tcb = host.accept()
    waiting, knocking = opened(host, 40001), Peer(host, 40002)
    knocking.send("S", 0)
    host.stack.close_listener(listener, host.now)
    host.stack.close_listener(listener, host.now)
    host.turn()
    assert waiting.heard() == ["R. 1:1(0) ack 1"]
    assert knocking.heard() == []
    assert host.stack.connections() == [tcb]
    assert kept.send(".", 1, 1, b"alive") == [". 1:1(0) ack 6"]
    assert host.stack.listeners() == []
    assert Peer(host, 40003).send("S", 0) == ["R. 0:0(0) ack 1"]


def test_closing_a_listener_spares_the_children_of_others() -> None:
    host = Host()
    doomed, other = host.listen(80), host.listen(81)
    Peer(host, 40000, 80).send("S", 0)
    Peer(host, 40000, 81).send("S", 0)
    host.stack.close_listener(doomed, host.now)
    host.turn()
    assert (doomed.half_open, other.half_open) == (0, 1)
    assert [request.listener for request in host.stack.half_open()] == [other]


def test_a_listener_on_one_address_serves_that_only() -> None:
    host = Host()
    host.listen(80, address=OURS[4])
    assert Peer(host).send("S", 0) == ["S. 0:1(0) ack 1"]
    six = Peer(host)
    six.src, six.dst = "fd00::2", OURS[6]
    assert six.send("S", 0) == ["R. 0:0(0) ack 1"]
    host.listen(80, address=OURS[6])
    assert six.send("S", 0) == ["S. 0:1(0) ack 1"]
    with pytest.raises(AddressInUse):
        host.listen(80, address="0.0.0.0")


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", None])
def test_the_unspecified_address_means_all(address: str | None) -> None:
    host = Host()
    host.listen(80, address=address)
    assert Peer(host).send("S", 0) == ["S. 0:1(0) ack 1"]


def test_only_our_addresses_can_be_listened_on() -> None:
    host = Host()
    with pytest.raises(AddressNotAvailable):
        host.listen(80, address="10.0.0.9")
    for wrong in ("10.0.0", "localhost"):
        with pytest.raises(UsageError):
            host.listen(80, address=wrong)
    for port in (-1, 65536):
        with pytest.raises(UsageError):
            host.listen(port)


def test_children_have_the_configuration_of_their_listener() -> None:
    host = Host()
    host.listen(80, config=TcpConfig(ttl=7))
    peer = Peer(host)
    peer.put("S", 0)
    host.turn()
    assert peer.reply().packet.hop_limit == 7


def test_a_negative_backlog_is_none() -> None:
    host = Host()
    assert host.listen(80, backlog=-5).backlog == 0
    opened(host, 40000)
    assert host.accept().state is ESTABLISHED


# Segments in LISTEN (RFC 9293 §3.10.7.2)


@both_versions
def test_an_ack_in_listen_is_reset(version: int) -> None:
    host = Host(version)
    host.listen()
    peer = Peer(host)
    assert peer.send(".", 5, 77) == ["R 77:77(0)"]
    assert peer.send("S.", 5, 77) == ["R 77:77(0)"]


@both_versions
@pytest.mark.parametrize("flags", ["R", "R.", "", "F", "P", "SR", "SF"])
def test_what_is_no_syn_in_listen_is_dropped(version: int, flags: str) -> None:
    host = Host(version)
    host.listen()
    assert Peer(host).send(flags, 5, 77) == []
    assert host.stack.connections() == []
