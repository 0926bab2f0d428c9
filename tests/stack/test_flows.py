"""Who owns a packet, and which local port a connection gets (RFC 6056)."""

import pytest

from tests.stack.host import OURS, THEIRS, Host, Peer, both_versions, packed
from ustack.config import TcpConfig
from ustack.errors import AddressInUse, AddressNotAvailable
from ustack.stack.flows import FlowTable, flow_key, split_key
from ustack.stack.listener import Listener

SECRET = bytes(32)


def listener(port: int, key: bytes | None = None) -> Listener:
    return Listener(key, None, port, 10, TcpConfig())


def nobody(_: object) -> bool:
    return False


@both_versions
def test_a_key_is_what_an_arriving_packet_shows(version: int) -> None:
    remote, local = packed(THEIRS[version]), packed(OURS[version])
    key = flow_key(remote, local, 0x1234, 80)
    assert key == remote + local + b"\x12\x34\x00\x50"
    assert split_key(key) == (remote, local, 0x1234, 80)


def test_a_port_has_one_listener_for_each_address() -> None:
    flows = FlowTable((1, 2), SECRET)
    one, other = listener(80, b"aaaa"), listener(80, b"bbbb")
    flows.listen(one)
    flows.listen(other)
    assert flows.listener(b"aaaa", 80) is one
    assert flows.listener(b"bbbb", 80) is other
    assert flows.listener(b"cccc", 80) is None
    assert flows.listener(b"aaaa", 81) is None
    for key in (b"aaaa", None):
        with pytest.raises(AddressInUse):
            flows.listen(listener(80, key))


def test_a_listener_on_all_addresses_is_alone_on_its_port() -> None:
    flows = FlowTable((1, 2), SECRET)
    whole = listener(80)
    flows.listen(whole)
    assert flows.listener(b"any!", 80) is whole
    with pytest.raises(AddressInUse):
        flows.listen(listener(80, b"aaaa"))
    flows.listen(listener(81))


def test_a_port_is_free_again_after_the_last_listener() -> None:
    flows = FlowTable((1, 2), SECRET)
    one, other = listener(80, b"aaaa"), listener(80, b"bbbb")
    flows.listen(one)
    flows.listen(other)
    flows.unlisten(one)
    assert flows.listener(b"aaaa", 80) is None
    assert flows.listener(b"bbbb", 80) is other
    flows.unlisten(other)
    assert flows.listeners == {}
    flows.listen(listener(80))


def test_ports_come_from_the_range_and_differ() -> None:
    host = Host(ephemeral_ports=(50_000, 50_099))
    ports = [host.stack.connect("10.0.0.2", 80, host.now).local.port for _ in range(100)]
    assert sorted(ports) == list(range(50_000, 50_100))


def test_ports_towards_different_peers_begin_elsewhere() -> None:
    # RFC 6056 §3.3.3: the offset is a keyed hash of the peer
    starts = set()
    for last in range(1, 9):
        flows = FlowTable((32768, 60999), SECRET)
        starts.add(flows.choose_port(bytes([10, 0, 0, last]), b"self", 80, nobody))
    assert len(starts) >= 7


def test_ports_towards_one_peer_depend_on_the_secret() -> None:
    chosen = {
        FlowTable((32768, 60999), bytes([i]) * 32).choose_port(b"peer", b"self", 80, nobody)
        for i in range(8)
    }
    assert len(chosen) >= 7


def test_a_port_is_not_soon_used_again() -> None:
    flows = FlowTable((32768, 60999), SECRET)
    chosen = [flows.choose_port(b"peer", b"self", 80, nobody) for _ in range(1000)]
    assert len(set(chosen)) == 1000


def test_a_port_with_a_listener_is_passed_over() -> None:
    host = Host(ephemeral_ports=(50_000, 50_001))
    host.listen(50_000)
    assert host.stack.connect("10.0.0.2", 80, host.now).local.port == 50_001
    with pytest.raises(AddressNotAvailable):
        host.stack.connect("10.0.0.2", 80, host.now)


def test_one_port_serves_many_peers() -> None:
    host = Host(ephemeral_ports=(50_000, 50_000))
    for last in range(2, 10):
        tcb = host.stack.connect(f"10.0.0.{last}", 80, host.now)
        assert tcb.local.port == 50_000


def test_a_listener_without_a_port_gets_a_free_one() -> None:
    host = Host(ephemeral_ports=(50_000, 50_002))
    ports = {host.listen(0).port for _ in range(3)}
    assert ports == {50_000, 50_001, 50_002}
    with pytest.raises(AddressNotAvailable):
        host.listen(0)


@both_versions
def test_connections_differ_by_any_of_the_four_numbers(version: int) -> None:
    host = Host(version)
    host.listen(80)
    host.listen(81)
    peers = [Peer(host, port, ours) for port in (40000, 40001) for ours in (80, 81)]
    for i, peer in enumerate(peers):
        tcb = peer.establish()
        peer.send(".", 1, 1, bytes([i]))
        assert host.read(tcb) == bytes([i])
    assert len(host.stack.connections()) == 4
