"""Datagrams to and from ports, segment by segment: whose they are, what is full, what is told."""

import errno

import pytest

from tests.stack.host import OURS, THEIRS, Host, both_versions, ip_frame, packed
from ustack.errors import AddressInUse, AddressNotAvailable, NetworkUnreachable, NoBufferSpace
from ustack.stack.udp import OVERHEAD, Sending, UdpPort
from ustack.tcp.tcb import READABLE, SOFT_ERROR
from ustack.wire import icmp, ipv4, ipv6, udp
from ustack.wire.ipv6 import Fragment
from ustack.wire.virtio import HEADER_LEN

SENDING = Sending(ttl=64)


def frame(
    host: Host, payload: bytes, *, to: int = 7, of: int = 5000, checksum: bool = True
) -> bytes:
    src, dst = THEIRS[host.version], OURS[host.version]
    body = udp.encode_datagram(packed(src), packed(dst), of, to, payload)
    if not checksum:
        body = body[:6] + b"\0\0" + body[8:]
    return ip_frame(src, dst, ipv4.UDP, body)


def texts(port: UdpPort) -> list[bytes]:
    return [each.payload for each in port.queue]


@both_versions
def test_a_datagram_goes_to_whom_has_the_port(version: int) -> None:
    host = Host(version)
    port = host.stack.udp.open("", 7)
    host.input(frame(host, b"hello"))
    assert host.drain() == []
    assert texts(port) == [b"hello"]
    assert port.queue[0].source == (THEIRS[version], 5000)
    assert port.queue[0].local == OURS[version]
    assert host.events_of(port) == READABLE


@both_versions
def test_our_datagram_carries_its_addresses_ports_and_checksum(version: int) -> None:
    host = Host(version)
    port = host.stack.udp.open(OURS[version], 7)
    sending = Sending(ttl=9, tos=0x2E)
    host.stack.udp.send(port, (packed(THEIRS[version]), 5000), b"hello", sending, host.now)
    host.turn()
    (sent,) = host.drain()
    assert (sent.src, sent.dst) == (packed(OURS[version]), packed(THEIRS[version]))
    assert (sent.protocol, sent.hop_limit, sent.dscp) == (ipv4.UDP, 9, 0x2E >> 2)
    header = udp.decode(sent.payload, 0, len(sent.payload))
    assert header[:3] == (7, 5000, 13)
    udp.verify(header, sent.src, sent.dst, sent.payload, 0)
    assert sent.payload[8:] == b"hello"


def test_without_a_checksum_it_is_taken_over_ipv4_only() -> None:
    # RFC 768, RFC 1122 §4.1.3.4; RFC 8200 §8.1
    four, six = Host(4), Host(6)
    ports = [host.stack.udp.open("", 7) for host in (four, six)]
    for host in (four, six):
        host.input(frame(host, b"bare", checksum=False))
    assert [texts(port) for port in ports] == [[b"bare"], []]
    assert six.stack.counters["udp-checksum"] == 1


@both_versions
def test_a_wrong_checksum_is_dropped_in_silence(version: int) -> None:
    # RFC 1122 §4.1.3.4
    host = Host(version)
    port = host.stack.udp.open("", 7)
    good = frame(host, b"hello")
    host.input(good[:-1] + b"x")
    assert texts(port) == [] and host.drain() == []
    assert host.stack.counters["udp-checksum"] == 1


def test_a_connected_port_comes_before_one_with_an_address_before_the_others() -> None:
    host = Host(4)
    ports = host.stack.udp
    shared = (True, False)
    anyone, ours, connected = (
        ports.open("", 7, shared),
        ports.open(OURS[4], 7, shared),
        ports.open("", 7, shared),
    )
    connected.remote = packed(THEIRS[4]), 5000
    host.input(frame(host, b"peer"))
    host.input(frame(host, b"other", of=5001))
    ports.close(ours)
    host.input(frame(host, b"late", of=5001))
    assert (texts(anyone), texts(connected)) == ([b"late"], [b"peer"])


def test_an_address_is_taken_once_unless_both_share_it() -> None:
    ports = Host(4).stack.udp
    ports.open("", 7)
    for reuse in ((False, False), (True, True)):
        with pytest.raises(AddressInUse):
            ports.open(OURS[4], 7, reuse)
    with pytest.raises(AddressNotAvailable):
        ports.open("10.9.9.9", 8)
    first = ports.open("", 9, (False, True))
    assert ports.open("", 9, (False, True)) is not first


def test_a_port_of_one_ip_version_leaves_the_other_alone() -> None:
    host = Host(6)
    ports = host.stack.udp
    four, six = ports.open("", 7, version=4), ports.open("", 7, version=6)
    with pytest.raises(AddressInUse):
        ports.open("", 7)
    host.input(frame(host, b"hello"))
    assert (texts(four), texts(six)) == ([], [b"hello"])
    with pytest.raises(OSError, match="Address family not supported"):
        ports.send(four, (packed(THEIRS[6]), 9), b"x", SENDING, host.now)


def test_a_free_port_is_found_while_there_is_one() -> None:
    host = Host(4, ephemeral_ports=(50_000, 50_002))
    numbers = {host.stack.udp.open("", 0).number for _ in range(3)}
    assert numbers == {50_000, 50_001, 50_002}
    with pytest.raises(AddressNotAvailable):
        host.stack.udp.open("", 0)


def test_there_are_only_so_many_ports() -> None:
    ports = Host(4, max_udp_sockets=2).stack.udp
    last = [ports.open("", number) for number in (1, 2)][-1]
    with pytest.raises(NoBufferSpace):
        ports.open("", 3)
    ports.close(last)
    ports.open("", 3)


def test_a_full_queue_loses_what_comes_and_counts_it() -> None:
    host = Host(4)
    port = host.stack.udp.open("", 7)
    port.limit = 2 * (OVERHEAD + 8 + 100)
    for number in range(4):
        host.input(frame(host, bytes([number]) * 100))
    assert [text[0] for text in texts(port)] == [0, 1]
    assert (port.dropped, host.stack.counters["udp-receive-full"]) == (2, 2)
    assert host.drain() == []  # the port is there: nothing is unreachable
    host.stack.udp.take(port)
    host.input(frame(host, b"again"))
    assert texts(port)[1] == b"again"


def test_what_all_ports_hold_is_bounded() -> None:
    host = Host(4, udp_memory=1000)
    first, second = host.stack.udp.open("", 7), host.stack.udp.open("", 8)
    host.input(frame(host, b"one"))
    host.input(frame(host, b"two", to=8))
    assert (texts(first), texts(second)) == ([b"one"], [])
    assert host.stack.counters["udp-memory"] == 1
    host.stack.udp.close(first)
    host.input(frame(host, b"two", to=8))
    assert texts(second) == [b"two"]


@both_versions
def test_what_is_too_large_leaves_in_pieces_that_come_together_again(version: int) -> None:
    # RFC 791 §3.2, RFC 8200 §4.5, RFC 1122 §3.3.3
    host, other = Host(version), Host(version)
    port = host.stack.udp.open("", 7)
    payload = bytes(number % 251 for number in range(4000))
    host.stack.udp.send(port, (packed(THEIRS[version]), 5000), payload, SENDING, host.now)
    host.turn()
    pieces = host.drain()
    assert [piece.ip_length <= 1500 for piece in pieces] == [True, True, True]
    # As if the other host had sent them to this one
    received = other.stack.udp.open("", 5000)
    swap = packed(OURS[version]), packed(THEIRS[version])
    for piece in reversed(pieces):
        other.input(readdressed(piece.frame, *swap))
    assert texts(received) == [payload]


def readdressed(frame: bytes, ours: bytes, theirs: bytes) -> bytes:
    """The frame from the other host to this one; sums of swapped addresses are the same."""
    size, at = len(ours), HEADER_LEN + (12 if len(ours) == 4 else 8)
    return frame[:at] + theirs + ours + frame[at + 2 * size :]


def test_too_large_is_an_error_where_fragments_are_refused() -> None:
    host = Host(4)
    port = host.stack.udp.open("", 7)
    remote = packed(THEIRS[4]), 5000
    strict = Sending(ttl=64, refuse=True)
    for payload, sending in ((bytes(1473), strict), (bytes(65_508), SENDING)):
        with pytest.raises(OSError, match="Message too long"):
            host.stack.udp.send(port, remote, payload, sending, host.now)
    host.stack.udp.send(port, remote, bytes(1472), strict, host.now)
    host.turn()
    (sent,) = host.drain()
    assert (sent.ip_length, sent.dont_fragment) == (1500, True)


def test_nothing_goes_to_many_nor_where_there_is_no_way() -> None:
    host = Host(4, addresses=("10.0.0.1/24",))
    port = host.stack.udp.open("", 7)
    for address in ("255.255.255.255", "10.0.0.255", "224.0.0.1"):
        with pytest.raises(PermissionError):
            host.stack.udp.send(port, (packed(address), 9), b"x", SENDING, host.now)
    with pytest.raises(NetworkUnreachable):
        host.stack.udp.send(port, (packed("fd00::2"), 9), b"x", SENDING, host.now)


def unreachable(host: Host, code: int, quoted_port: int, rest: int = 0) -> bytes:
    ours, theirs = packed(OURS[4]), packed(THEIRS[4])
    quote = ipv4.encode(ours, theirs, ipv4.UDP, 108) + udp.encode(quoted_port, 5000, 100)
    message = icmp.encode_v4(icmp.V4_UNREACHABLE, code, rest, quote)
    return ip_frame(THEIRS[4], OURS[4], ipv4.ICMP, message)


def test_an_error_reaches_whoever_sent_what_it_quotes() -> None:
    # RFC 1122 §4.1.3.3
    host = Host(4)
    port = host.stack.udp.open("", 7)
    host.input(unreachable(host, icmp.V4_PORT_UNREACHABLE, 7))
    (told,) = port.meanings
    assert (told.errno, told.hard, told.type, told.code) == (errno.ECONNREFUSED, True, 3, 3)
    assert host.events_of(port) == SOFT_ERROR
    host.input(unreachable(host, icmp.V4_PORT_UNREACHABLE, 8))
    host.input(unreachable(host, 16, 7))
    counters = host.stack.counters
    assert (counters["icmp-no-socket"], counters["icmp-ignored"]) == (1, 1)
    assert len(port.meanings) == 1


def test_the_path_mtu_is_lowered_within_reason_only() -> None:
    # RFC 1191 §3, RFC 5927 §7
    host = Host(4)
    port = host.stack.udp.open("", 7)
    remote = packed(THEIRS[4])
    for claim, after in ((1500, 1500), (60, 1500), (1200, 1200), (1400, 1200), (0, 1006)):
        host.input(unreachable(host, icmp.V4_FRAGMENTATION_NEEDED, 7, claim))
        assert host.stack.udp.path_mtu(remote, host.now) == after, claim
    host.input(unreachable(host, icmp.V4_FRAGMENTATION_NEEDED, 8, 100))
    assert host.stack.udp.path_mtu(remote, host.now) == 1006
    assert [told.errno for told in port.meanings] == [errno.EMSGSIZE] * 2


def test_a_device_that_is_full_costs_datagrams_and_counts_them() -> None:
    host = Host(4)
    port = host.stack.udp.open("", 7)
    for _ in range(5000):
        host.stack.udp.send(port, (packed(THEIRS[4]), 9), b"x", SENDING, host.now)
    counters = host.stack.counters
    assert (counters["udp-sent"], counters["udp-send-full"]) == (4096, 904)


@both_versions
def test_a_datagram_in_fragments_is_taken_whole(version: int) -> None:
    host = Host(version)
    port = host.stack.udp.open("", 7)
    src, dst = packed(THEIRS[version]), packed(OURS[version])
    body = udp.encode_datagram(src, dst, 5000, 7, bytes(100))
    for offset in (64, 0):
        piece, more = body[offset : offset + 64], offset == 0
        if version == 4:
            head = ipv4.encode(
                src, dst, ipv4.UDP, len(piece), ident=9, more_fragments=more, fragment_offset=offset
            )
        else:
            extension = ipv6.encode_fragment(ipv4.UDP, Fragment(offset, more, 9))
            head = ipv6.encode(src, dst, ipv6.FRAGMENT_HEADER, len(extension) + len(piece))
            head += extension
        host.input(bytes(HEADER_LEN) + head + piece)
    assert texts(port) == [bytes(100)]
