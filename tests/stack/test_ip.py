"""IP under TCP on the wire: what is ours, what is malformed, fragments, addresses, path MTUs."""

from ipaddress import ip_address
from struct import pack

import pytest

from tests.stack.host import (
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
from ustack.config import StackConfig
from ustack.errors import AddressNotAvailable, NetworkUnreachable, UsageError
from ustack.stack.ip import MAX_PATH_MTUS, Addresses, PathMtus
from ustack.tcp.state import ESTABLISHED
from ustack.tcp.tcb import Tcb
from ustack.wire import icmp, ipv4, ipv6, tcp, virtio
from ustack.wire.checksum import checksum

TCP = 6
START = virtio.HEADER_LEN


def syn(src: str, dst: str, **options: int) -> bytes:
    """A SYN to port 80 as a whole frame."""
    segment = tcp_segment(src, dst, 40000, 80, 7, 0, tcp.SYN)
    return ip_frame(src, dst, TCP, segment, **options)


def silent(host: Host, frame: bytes) -> dict[str, int]:
    """The drops that `frame` causes; nothing may be answered."""
    before = host.drops()
    host.input(frame)
    host.advance(SECOND)
    assert host.frames == []
    return {
        reason: count - before.get(reason, 0)
        for reason, count in host.drops().items()
        if count != before.get(reason, 0)
    }


def listening(version: int = 4) -> Host:
    host = Host(version)
    host.listen()
    return host


# Addresses (RFC 1122 §3.2.1.3, MUST-57, MUST-63)


@pytest.mark.parametrize(
    "dst",
    ["255.255.255.255", "10.0.0.255", "10.0.0.0", "224.0.0.1", "239.1.2.3", "127.0.0.1", "0.0.0.0"],
)
def test_a_syn_to_no_single_host_is_dropped_in_silence(dst: str) -> None:
    assert silent(listening(), syn(THEIRS[4], dst)) == {"not-unicast": 1}


@pytest.mark.parametrize("dst", ["ff02::1", "ff0e::1:2", "::", "::1"])
def test_a_syn_to_no_single_ipv6_host_is_dropped_in_silence(dst: str) -> None:
    assert silent(listening(6), syn(THEIRS[6], dst)) == {"not-unicast": 1}


@pytest.mark.parametrize(
    "src",
    ["0.0.0.0", "255.255.255.255", "224.0.0.5", "10.0.0.255", "127.0.0.1", "0.1.2.3", "250.0.0.1"],
)
def test_a_syn_from_a_martian_is_dropped_in_silence(src: str) -> None:
    assert silent(listening(), syn(src, OURS[4])) == {"martian-source": 1}


@pytest.mark.parametrize("src", ["::", "::1", "ff02::1"])
def test_a_syn_from_an_ipv6_martian_is_dropped_in_silence(src: str) -> None:
    assert silent(listening(6), syn(src, OURS[6])) == {"martian-source": 1}


@both_versions
def test_a_packet_from_our_own_address_is_dropped(version: int) -> None:
    assert silent(listening(version), syn(OURS[version], OURS[version])) == {"own-source": 1}


@pytest.mark.parametrize("src,dst", [(THEIRS[4], "10.0.0.77"), (THEIRS[6], "fd00::77")])
def test_a_packet_for_another_host_is_dropped(src: str, dst: str) -> None:
    assert silent(listening(), syn(src, dst)) == {"not-our-address": 1}


def test_our_address_towards_a_peer_is_the_one_in_its_network() -> None:
    # MUST-44
    addresses = Addresses(StackConfig(addresses=("10.0.0.1/24", "10.1.0.1/16", "fd00::1/64")))
    assert addresses.source_for(packed("10.1.2.3")) == packed("10.1.0.1")
    assert addresses.source_for(packed("10.0.0.9")) == packed("10.0.0.1")
    assert addresses.source_for(packed("192.0.2.1")) == packed("10.0.0.1")
    assert addresses.source_for(packed("2001:db8::1")) == packed("fd00::1")
    assert Addresses(StackConfig(addresses=("10.0.0.1/24",))).source_for(packed("fd00::2")) is None


def test_addresses_are_written_as_people_write_them() -> None:
    addresses = Addresses(StackConfig(addresses=("10.0.0.1/24", "FD00:0::1/64")))
    assert addresses.text(packed("fd00::1")) == "fd00::1"
    assert addresses.text(packed("192.0.2.1")) == "192.0.2.1"


def test_a_network_of_two_has_no_broadcast_address() -> None:
    # RFC 3021
    addresses = Addresses(StackConfig(addresses=("10.0.0.0/31",)))
    assert addresses.is_unicast(packed("10.0.0.1"))
    assert addresses.is_own(packed("10.0.0.0"))


@pytest.mark.parametrize("text", ["10.0.0", "10.0.0.1/33", "host", ""])
def test_an_address_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Addresses(StackConfig(addresses=(text,)))


@pytest.mark.parametrize(
    "address", ["10.0.0.255", "255.255.255.255", "224.0.0.1", "0.0.0.0", "ff02::1", "::", "nobody"]
)
def test_nobody_connects_to_what_is_no_single_host(address: str) -> None:
    # MUST-46
    host = Host()
    with pytest.raises(UsageError):
        host.stack.connect(address, 80, host.now)


def test_connect_refuses_ports_and_addresses_that_make_no_sense() -> None:
    host = Host()
    for port in (0, -1, 65536):
        with pytest.raises(UsageError):
            host.stack.connect("10.0.0.2", port, host.now)
    for local in ("10.0.0.9", "fd00::1"):
        with pytest.raises(AddressNotAvailable):
            host.stack.connect("10.0.0.2", 80, host.now, local_address=local)
    tcb = host.stack.connect("10.0.0.2", 80, host.now, local_address="10.0.0.1")
    assert tcb.local.address == "10.0.0.1"


def test_without_an_address_of_the_family_the_network_is_unreachable() -> None:
    host = Host(addresses=("10.0.0.1/24",))
    with pytest.raises(NetworkUnreachable):
        host.stack.connect("fd00::2", 80, host.now)


# Checksums and lengths


@both_versions
@pytest.mark.parametrize("connected", [False, True])
def test_a_bad_tcp_checksum_is_dropped_in_silence(version: int, connected: bool) -> None:
    # MUST-3
    host = Host(version)
    peer = Peer(host)
    tcb: Tcb | None = None
    if connected:
        tcb = peer.establish()
    else:
        host.listen()
    good = peer.frame("P.", 1, 1, b"text") if connected else syn(THEIRS[version], OURS[version])
    for at in (-1, START + (20 if version == 4 else 40) + 16):
        bad = bytearray(good)
        bad[at] ^= 0x10
        assert silent(host, bytes(bad)) == {"tcp-checksum": 1}
    if tcb is not None:
        host.input(good)
        assert host.read(tcb) == b"text"


@both_versions
def test_a_checksum_that_the_device_vouches_for_is_not_verified(version: int) -> None:
    for flags in (virtio.NEEDS_CSUM, virtio.DATA_VALID):
        host = Host(version)
        peer = Peer(host)
        tcb = peer.establish()
        frame = bytearray(peer.frame("P.", 1, 1, b"text"))
        frame[0] = flags
        frame[START + (20 if version == 4 else 40) + 16] ^= 0xFF
        host.input(bytes(frame))
        assert host.read(tcb) == b"text"


@pytest.mark.parametrize("connected", [False, True])
def test_a_bad_ipv4_header_checksum_is_dropped_in_silence(connected: bool) -> None:
    host = Host()
    peer = Peer(host)
    if connected:
        peer.establish()
    frame = bytearray(peer.frame("P.", 1, 1, b"text"))
    frame[START + 8] ^= 1  # TTL
    assert silent(host, bytes(frame)) == {"ipv4-checksum": 1}


@both_versions
def test_every_truncation_of_a_packet_is_dropped_in_silence(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    frame = peer.frame("P.", 1, 1, b"0123456789")
    for size in range(len(frame)):
        host.input(frame[:size])
    assert host.frames == []
    assert sum(host.drops().values()) == len(frame)
    assert host.read(tcb) == b""


@both_versions
def test_octets_behind_the_packet_are_padding(version: int) -> None:
    # Ethernet pads short frames
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    host.input(peer.frame("P.", 1, 1, b"x") + b"padding")
    assert host.read(tcb) == b"x"


@both_versions
@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("words", [0, 4, 15])
def test_a_data_offset_that_makes_no_sense_is_dropped(
    version: int, connected: bool, words: int
) -> None:
    host = Host(version)
    peer = Peer(host)
    if connected:
        peer.establish()
    frame = bytearray(peer.frame("P.", 1, 1, b"x"))
    frame[START + (20 if version == 4 else 40) + 12] = words << 4
    assert silent(host, bytes(frame)) == {"tcp-data-offset": 1}


@pytest.mark.parametrize("version", range(16))
def test_any_other_ip_version_is_dropped(version: int) -> None:
    if version in (4, 6):
        return
    assert silent(Host(), virtio.PLAIN + bytes([version << 4]) * 60) == {"ip-version": 1}


@both_versions
def test_port_zero_is_dropped(version: int) -> None:
    host = listening(version)
    for ports in ((0, 80), (40000, 0)):
        segment = tcp_segment(THEIRS[version], OURS[version], *ports, 7, 0, tcp.SYN)
        frame = ip_frame(THEIRS[version], OURS[version], TCP, segment)
        assert silent(host, frame) == {"tcp-port-zero": 1}


# Headers out of the ordinary


def test_ipv4_options_are_stepped_over() -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.establish()
    plain = peer.frame("P.", 1, 1, b"text")[START + 20 :]
    head = ipv4.encode(
        packed(THEIRS[4]), packed(OURS[4]), TCP, len(plain), options=b"\x94\x04\0\0\1\1\1\1"
    )
    host.input(virtio.PLAIN + head + plain)
    assert host.read(tcb) == b"text"


def test_ipv6_extension_headers_are_stepped_over() -> None:
    host = Host(6)
    peer = Peer(host)
    tcb = peer.establish()
    plain = peer.frame("P.", 1, 1, b"text")[START + 40 :]
    chain = bytes([60, 0, 1, 4, 0, 0, 0, 0]) + bytes([TCP, 0, 1, 4, 0, 0, 0, 0])
    head = ipv6.encode(packed(THEIRS[6]), packed(OURS[6]), ipv6.HOP_BY_HOP, len(chain + plain))
    host.input(virtio.PLAIN + head + chain + plain)
    assert host.read(tcb) == b"text"


def test_an_ipv6_option_that_must_be_understood_is_reported() -> None:
    # RFC 8200 §4.2, RFC 4443 §3.4
    host = Host(6)
    chain = bytes([59, 0, 0x80, 4, 0, 0, 0, 0])
    host.input(ip_frame(THEIRS[6], OURS[6], ipv6.DESTINATION_OPTIONS, chain))
    (sent,) = host.drain()
    assert (sent.icmp.type, sent.icmp.code, sent.icmp.rest) == (4, 2, 42)


# Fragments


def fragments(host: Host, protocol: int, payload: bytes, size: int, ident: int = 9) -> list[bytes]:
    """`payload` for the host in pieces of `size`."""
    frames = []
    version = host.version
    src, dst = packed(THEIRS[version]), packed(OURS[version])
    for at in range(0, len(payload), size):
        piece = payload[at : at + size]
        more = at + size < len(payload)
        if version == 4:
            head = ipv4.encode(
                src, dst, protocol, len(piece), ident=ident, more_fragments=more, fragment_offset=at
            )
        else:
            extension = pack("!BBHI", protocol, 0, at | more, ident)
            head = ipv6.encode(src, dst, ipv6.FRAGMENT_HEADER, len(piece) + 8) + extension
        frames.append(virtio.PLAIN + head + piece)
    return frames


@both_versions
def test_a_segment_in_fragments_is_taken_in_any_order(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    text = bytes(i % 256 for i in range(3000))
    segment = peer.frame("P.", 1, 1, text)[START + (20 if version == 4 else 40) :]
    pieces = fragments(host, TCP, segment, 1200)
    for frame in (pieces[2], pieces[0], pieces[1]):
        host.input(frame)
    assert peer.heard() == [". 1:1(0) ack 3001"]
    assert host.read(tcb) == text
    host.advance(60 * SECOND)
    assert host.drops() == {"datagrams-reassembled": 1}


def test_a_segment_behind_ip_options_reaches_a_connection_in_time_wait_too() -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.establish()
    host.close(tcb)
    peer.send("F.", 1, 2)
    again = peer.frame("F.", 1, 2)[START + 20 :]
    head = ipv4.encode(packed(THEIRS[4]), packed(OURS[4]), TCP, len(again), options=b"\x94\x04\0\0")
    host.input(virtio.PLAIN + head + again)
    assert peer.heard() == [". 2:2(0) ack 2"]


def test_the_answer_to_our_syn_may_have_ip_options() -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    answer = peer.frame("S.", 0, 1)[START + 20 :]
    head = ipv4.encode(
        packed(THEIRS[4]), packed(OURS[4]), TCP, len(answer), options=b"\x94\x04\0\0"
    )
    broken = bytearray(answer)
    broken[4] ^= 1
    host.input(virtio.PLAIN + head + bytes(broken))
    assert host.drops() == {"tcp-checksum": 1}
    host.input(virtio.PLAIN + head + answer)
    assert tcb.state is ESTABLISHED
    vouched = bytearray(virtio.PLAIN + head + peer.frame("P.", 1, 1, b"text")[START + 20 :])
    vouched[12:14] = (len(vouched) - START).to_bytes(2, "big")
    vouched[20:22] = b"\0\0"
    vouched[20:22] = checksum(bytes(vouched[START : START + 24])).to_bytes(2, "big")
    vouched[0] = virtio.DATA_VALID
    host.input(bytes(vouched))
    assert host.read(tcb) == b"text"


@both_versions
def test_a_syn_in_fragments_finds_its_listener(version: int) -> None:
    host = listening(version)
    segment = tcp_segment(THEIRS[version], OURS[version], 40000, 80, 7, 0, tcp.SYN, b"x" * 40)
    for frame in fragments(host, TCP, segment, 24):
        host.input(frame)
    assert len(host.stack.half_open()) == 1


@both_versions
def test_overlapping_fragments_are_dropped_with_their_datagram(version: int) -> None:
    # RFC 5722, RFC 8200 §4.5
    host = Host(version)
    first, second = fragments(host, TCP, b"x" * 48, 24)
    host.input(first)
    evil = fragments(host, TCP, b"y" * 40, 8)
    assert silent(host, evil[1])["fragment-overlap"] == 1
    assert silent(host, second) == {}
    assert host.stack.pending_timers() == 1  # what came after begins anew


@both_versions
def test_fragments_that_wait_too_long_are_given_up(version: int) -> None:
    host = Host(version, fragment_timeout_us=30 * SECOND)
    _, second = fragments(host, TCP, b"x" * 32, 16)
    host.input(second)
    host.advance(29 * SECOND)
    assert host.stack.pending_timers() == 1
    host.advance(2 * SECOND)
    assert host.drops() == {"fragments-timed-out": 1}
    assert host.stack.pending_timers() == 0
    assert host.frames == []  # without the first one nobody is told


@both_versions
def test_the_sender_is_told_of_fragments_given_up_if_the_first_was_there(version: int) -> None:
    # RFC 1122 §3.3.2, RFC 8200 §4.5
    host = Host(version, fragment_timeout_us=30 * SECOND)
    first, _ = fragments(host, TCP, b"x" * 48, 24)
    host.input(first)
    host.advance(31 * SECOND)
    (sent,) = host.drain()
    kind = icmp.V4_TIME_EXCEEDED if version == 4 else icmp.V6_TIME_EXCEEDED
    assert (sent.icmp.type, sent.icmp.code) == (kind, icmp.REASSEMBLY_TIME_EXCEEDED)
    assert sent.dst == packed(THEIRS[version])


@both_versions
def test_memory_for_fragments_is_bounded(version: int) -> None:
    host = Host(version, max_fragments=10_000)
    for ident in range(50):
        host.input(fragments(host, TCP, b"x" * 2000, 1000, ident)[0])
    assert host.drops()["fragments-evicted"] > 30
    assert host.stack.pending_timers() < 10


def test_a_whole_that_no_ipv4_packet_can_hold_is_dropped() -> None:
    host = Host()
    payload = bytes(65535)  # with its header more than 65535
    for frame in fragments(host, TCP, payload, 1480):
        host.input(frame)
    assert host.frames == []
    assert host.drops().get("fragment-length", 0) >= 1


class Recorder(Host):
    """Keeps what the probe is shown."""

    def __init__(self, version: int) -> None:
        self.seen: list[bytes] = []
        super().__init__(version)

    def received(self, frame: bytes, note: str, now: int) -> None:
        self.seen.append(frame)


@both_versions
def test_an_onlooker_sees_well_formed_packets_only(version: int) -> None:
    host = Recorder(version)
    segment = tcp_segment(THEIRS[version], OURS[version], 40000, 80, 7, 0, tcp.SYN, b"x" * 50)
    for frame in fragments(host, TCP, segment, 32):
        host.input(frame)
    assert len(host.seen) >= 3
    for frame in host.seen:
        if version == 4:
            assert ipv4.decode(frame, START).total_length == len(frame) - START
        else:
            header = ipv6.decode(frame, START)
            assert header.end == len(frame)


# Path MTUs (RFC 1191 §6.3, RFC 8201 §5.3)


def test_a_path_mtu_is_forgotten_after_ten_minutes() -> None:
    known = PathMtus()
    remote = ip_address("10.0.0.2").packed
    assert known.get(remote, 1500, 0) == 1500
    known.lower(remote, 1000, 0)
    assert known.get(remote, 1500, 599 * SECOND) == 1000
    assert known.get(remote, 900, 0) == 900
    assert known.get(remote, 1500, 600 * SECOND) == 1500
    assert known.get(remote, 1500, 0) == 1500


def test_the_table_of_path_mtus_is_bounded() -> None:
    known = PathMtus()
    for i in range(MAX_PATH_MTUS + 1):
        known.lower(i.to_bytes(4, "big"), 1000, 0)
    assert known.get((0).to_bytes(4, "big"), 1500, 1) == 1500
    assert known.get((1).to_bytes(4, "big"), 1500, 1) == 1000
