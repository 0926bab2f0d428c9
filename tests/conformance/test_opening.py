"""Opening: who may open what, to where, with which numbers (RFC 9293 §3.4, §3.9.1)."""

from itertools import pairwise

import pytest

from tests.stack.host import (
    ISN,
    MSS,
    OUR_PORT,
    OURS,
    SECOND,
    THEIRS,
    Host,
    Peer,
    both_versions,
    ip_frame,
    packed,
    tcp_segment,
)
from ustack.config import StackConfig, TcpConfig
from ustack.errors import AddressInUse, AddressNotAvailable, ConnectionTimedOut, UsageError
from ustack.stack.stack import Stack
from ustack.tcp.state import ESTABLISHED, SYN_RECEIVED, SYN_SENT
from ustack.tcp.tcb import SOFT_ERROR
from ustack.wire import ipv4, tcp

MASK32 = 0xFFFF_FFFF


def syn(src: str, dst: str, port: int = 40000, our_port: int = OUR_PORT) -> bytes:
    return ip_frame(src, dst, ipv4.TCP, tcp_segment(src, dst, port, our_port, ISN, 0, tcp.SYN))


@both_versions
def test_a_passive_open_leaves_existing_connections_alone(version: int) -> None:
    # MUST-41
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    with pytest.raises(AddressInUse):
        host.listen()
    assert (tcb.state, host.stack.connections()) == (ESTABLISHED, [tcb])
    assert len(host.stack.listeners()) == 1
    other = host.listen(8080)
    assert other in host.stack.listeners()
    peer.send("P.", 1, 1, b"still here")
    assert host.read(tcb) == b"still here"


@both_versions
def test_a_port_in_syn_sent_or_syn_received_can_be_listened_on(version: int) -> None:
    # MUST-42
    host = Host(version)
    opening = Peer(host, port=7000, our_port=5000)
    tcb = opening.connect()
    assert tcb.state is SYN_SENT
    host.listen(5000)
    assert tcb.state is SYN_SENT
    half_open = Peer(host, port=7001, our_port=5001)
    crossing = half_open.connect()
    half_open.send("S", 0)
    assert crossing.state is SYN_RECEIVED
    host.listen(5001)
    assert crossing.state is SYN_RECEIVED
    newcomer = Peer(host, port=7002, our_port=5001)
    assert newcomer.send("S", 0) == ["S. 0:1(0) ack 1"]


def two_homes() -> Host:
    return Host(addresses=("10.0.0.1/24", "10.0.1.1/24", "fd00::1/64"))


def test_a_listener_without_an_address_accepts_on_all_of_them() -> None:
    # MUST-43
    host = two_homes()
    host.listen()
    for ours in ("10.0.0.1", "10.0.1.1", "fd00::1"):
        theirs = "10.0.0.2" if "." in ours else "fd00::2"
        host.input(syn(theirs, ours))
        (answer,) = host.drain()
        assert (answer.src, answer.dst) == (packed(ours), packed(theirs))  # MUST-45 begins here


def test_a_listener_with_an_address_accepts_only_there() -> None:
    # MUST-43; and two of them share the port
    host = two_homes()
    one = host.listen(address="10.0.0.1")
    host.input(syn("10.0.0.2", "10.0.1.1"))
    (refusal,) = host.drain()
    assert tcp.decode(refusal.payload, 0, len(refusal.payload)).flags & tcp.RST
    other = host.listen(address="10.0.1.1")
    host.input(syn("10.0.0.2", "10.0.1.1"))
    host.input(syn("10.0.0.2", "10.0.0.1"))
    assert (one.half_open, other.half_open) == (1, 1)
    with pytest.raises(AddressNotAvailable):
        host.listen(address="10.0.9.9")


def test_without_an_address_the_source_is_that_of_the_network_of_the_peer() -> None:
    # MUST-44
    host = two_homes()
    host.stack.connect("10.0.1.7", 80, host.now)
    host.stack.connect("192.0.2.7", 80, host.now)  # elsewhere: the first address
    host.stack.connect("10.0.0.7", 80, host.now, local_address="10.0.1.1")  # as asked for
    host.turn()
    assert [sent.src for sent in host.drain()] == [
        packed("10.0.1.1"),
        packed("10.0.0.1"),
        packed("10.0.1.1"),
    ]


@both_versions
def test_a_connection_keeps_its_local_address(version: int) -> None:
    # MUST-45, RFC 1122 §3.2.1.3
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    host.send(tcb, b"x" * 3000)
    peer.put("F.", 1, 1001)
    host.turn()
    host.close(tcb)
    host.advance(SECOND)
    replies = peer.replies()
    assert len(replies) > 3
    assert {reply.packet.src for reply in replies} == {packed(OURS[version])}


@pytest.mark.parametrize(
    "address",
    ["255.255.255.255", "10.0.0.255", "224.0.0.1", "239.1.2.3", "0.0.0.0", "ff02::1", "::"],
)
def test_an_open_to_an_address_that_is_no_host_is_an_error_and_sends_nothing(address: str) -> None:
    # MUST-46
    host = Host()
    with pytest.raises(UsageError):
        host.stack.connect(address, 80, host.now)
    host.turn()
    assert host.is_clean()


@pytest.mark.parametrize(
    "src, dst",
    [
        (THEIRS[4], "255.255.255.255"),
        (THEIRS[4], "10.0.0.255"),
        (THEIRS[4], "224.0.0.1"),
        (THEIRS[6], "ff02::1"),
        (THEIRS[4], "10.0.0.77"),  # somebody else's
        (THEIRS[6], "fd00::77"),
        ("0.0.0.0", OURS[4]),
        ("255.255.255.255", OURS[4]),
        ("10.0.0.255", OURS[4]),
        ("224.0.0.1", OURS[4]),
        ("127.0.0.1", OURS[4]),
        (OURS[4], OURS[4]),
        ("::", OURS[6]),
        ("::1", OURS[6]),
        ("ff02::1", OURS[6]),
    ],
)
def test_a_syn_to_or_from_an_unusable_address_is_dropped_in_silence(src: str, dst: str) -> None:
    # MUST-57, MUST-63, RFC 1122 §3.2.1.3
    host = Host()
    host.listen()
    host.input(syn(src, dst))
    host.input(syn(src, dst, our_port=81))  # nobody listens there, yet no RST
    assert host.is_clean()
    assert sum(host.drops().values()) == 2


def test_the_initial_number_of_one_pair_grows_a_quarter_million_a_second() -> None:
    # MUST-8, SHLD-1, RFC 6528 §3
    numbers = []
    for seconds in (0, 1, 2, 3600, 17179):  # the clock wraps after 4.77 hours
        host = Host(now=SECOND * seconds)
        peer = Peer(host)
        host.listen()
        peer.put("S", 0)
        host.turn()
        numbers.append((seconds, int.from_bytes(host.frames[0].payload[4:8], "big")))
    for (before, first), (after, second) in pairwise(numbers):
        assert (second - first) & MASK32 == (after - before) * 250_000 & MASK32


def test_initial_numbers_of_different_ports_and_secrets_are_unrelated() -> None:
    # MUST-9, RFC 6528 §3
    steps = set()
    last: int | None = None
    for secret in (bytes(16), bytes(range(16))):
        stack = Stack(StackConfig(addresses=("10.0.0.1/24",)), secret=secret, randrange=lambda n: 0)
        stack.listen(80, 0)
        for port in range(40000, 40050):
            out: list[bytes] = []
            stack.input(syn("10.0.0.2", "10.0.0.1", port), 0)
            stack.flush(0, lambda parts, now, out=out: not out.append(b"".join(parts)))  # type: ignore[misc]
            number = int.from_bytes(out[0][34:38], "big")
            if last is not None:
                steps.add((number - last) & MASK32)
            last = number
    assert len(steps) == 99
    assert max(steps) > 1 << 31 > min(steps)


@both_versions
def test_the_user_hears_of_an_unanswered_syn_after_r1_and_after_r2(version: int) -> None:
    # MUST-20, MUST-22, MUST-23
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    host.events_of(tcb)
    start = host.now
    host.advance(8 * SECOND)  # resent after 1, 3 and 7 seconds
    assert host.events_of(tcb) & SOFT_ERROR
    host.advance(180 * SECOND)
    assert tcb.state is SYN_SENT  # R2 is 3 minutes or more
    host.advance(600 * SECOND)
    assert isinstance(tcb.error, ConnectionTimedOut)
    last = peer.replies()[-1].at
    assert last - start <= 600 * SECOND


@both_versions
def test_after_two_lost_syns_the_first_flight_is_one_segment(version: int) -> None:
    # RFC 5681 §3.1, RFC 6928 §2
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    host.advance(4 * SECOND)  # the SYN left three times
    peer.heard()
    peer.send("S.", 0, 1, options=peer.syn_options(MSS, None, False, None))
    host.send(tcb, b"x" * 10 * MSS)
    assert peer.heard()[-1:] == [". 1:1001(1000) ack 1"]


@both_versions
def test_one_lost_syn_leaves_the_initial_window(version: int) -> None:
    # RFC 6928 §2: the timer may have been too short
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    host.advance(2 * SECOND)
    peer.heard()
    peer.send("S.", 0, 1, options=peer.syn_options(MSS, None, False, None))
    host.send(tcb, b"x" * 10 * MSS)
    assert len(peer.heard()) == 10


def test_a_flood_of_syns_is_bounded_and_hurts_no_connection() -> None:
    # RFC 4987 §3, RFC 9293 §7
    host = Host(max_half_open=100)
    peer = Peer(host)
    tcb = peer.establish()
    for port in range(10_000, 11_000):
        host.input(syn(THEIRS[4], OURS[4], port))
    assert len(host.stack.half_open()) == 100
    peer.send("P.", 1, 1, b"text")
    assert host.read(tcb) == b"text"
    host.advance(100 * SECOND)
    # Each SYN,ACK is sent again a few times only, one with a cookie never; then all is forgotten
    assert len(host.drain()) <= 100 * 6 + 900 + 2
    assert host.stack.half_open() == []
    assert Peer(host, port=9999).send("S", 0) == ["S. 0:1(0) ack 1"]


@both_versions
def test_ephemeral_ports_are_scattered_and_free(version: int) -> None:
    # RFC 6056 §3.3
    host = Host(version, ephemeral_ports=(40000, 40099))
    first = [
        host.stack.connect(f"{THEIRS[version][:-1]}{n}", 80, host.now).local.port
        for n in range(3, 9)
    ]
    assert len({second - one for one, second in pairwise(first)}) > 2
    ports = {host.stack.connect(THEIRS[version], 80, host.now).local.port for _ in range(100)}
    assert len(ports) == 100
    with pytest.raises(AddressNotAvailable):
        host.stack.connect(THEIRS[version], 80, host.now)


@both_versions
def test_a_large_mss_announced_by_the_peer_is_capped_by_the_mtu(version: int) -> None:
    # MUST-16, RFC 2525 §2.18
    host = Host(version, TcpConfig(nagle=False), mtu=1280)
    peer = Peer(host)
    tcb = peer.establish(mss=9000, tsval=1)
    host.send(tcb, b"x" * 5000)
    assert max(reply.packet.ip_length for reply in peer.replies()) == 1280
