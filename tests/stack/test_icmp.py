"""ICMP on the wire: echo, errors sent, and errors received, judged as RFC 5927 says."""

import errno
from struct import pack

import pytest

from tests.stack.host import (
    MS,
    MSS,
    OURS,
    SECOND,
    THEIRS,
    Host,
    Peer,
    both_versions,
    ip_frame,
    packed,
)
from ustack.config import TcpConfig
from ustack.errors import ConnectionRefused, HostUnreachable, IcmpError
from ustack.tcp.mtu_search import MtuSearch
from ustack.tcp.state import CLOSED, ESTABLISHED, SYN_SENT
from ustack.tcp.tcb import CLOSED_EVENT, SOFT_ERROR, Tcb
from ustack.wire import icmp, ipv4, ipv6, udp
from ustack.wire.checksum import checksum, pseudo_sum

ROUTER = {4: "192.0.2.1", 6: "2001:db8::1"}


def message(version: int, kind: int, code: int, rest: int, body: bytes, src: str = "") -> bytes:
    """A frame with an ICMP message of either version."""
    src, dst = src or ROUTER[version], OURS[version]
    if version == 4:
        return ip_frame(src, dst, ipv4.ICMP, icmp.encode_v4(kind, code, rest, body))
    payload = icmp.encode_v6(packed(src), packed(dst), kind, code, rest, body)
    return ip_frame(src, dst, ipv6.ICMPV6, payload)


def quote(peer: Peer, seq: int, *, ip_options: bytes = b"") -> bytes:
    """What a router quotes of a segment of ours: the IP header and eight octets."""
    ours, theirs = packed(peer.dst), packed(peer.src)
    ports = pack("!HHI", peer.our_port, peer.port, (peer.our_isn + seq) & 0xFFFF_FFFF)
    if peer.host.version == 4:
        return ipv4.encode(ours, theirs, 6, 500, options=ip_options) + ports
    return ipv6.encode(ours, theirs, 6, 500) + ports


def error(peer: Peer, kind: int, code: int, *, seq: int = 1, rest: int = 0) -> None:
    peer.host.input(message(peer.host.version, kind, code, rest, quote(peer, seq)))


def too_big(peer: Peer, mtu: int, *, seq: int = 1) -> None:
    if peer.host.version == 4:
        error(peer, icmp.V4_UNREACHABLE, icmp.V4_FRAGMENTATION_NEEDED, seq=seq, rest=mtu)
    else:
        error(peer, icmp.V6_PACKET_TOO_BIG, 0, seq=seq, rest=mtu)


# Echo (RFC 1122 §3.2.2.6, RFC 4443 §4.2)


@both_versions
@pytest.mark.parametrize("size", [0, 1, 56, 1400])
def test_an_echo_request_is_answered_with_its_own_data(version: int, size: int) -> None:
    host = Host(version)
    data = bytes(i % 256 for i in range(size))
    kind = icmp.V4_ECHO_REQUEST if version == 4 else icmp.V6_ECHO_REQUEST
    host.input(message(version, kind, 0, 0x12340007, data, THEIRS[version]))
    (sent,) = host.drain()
    answer = sent.icmp
    assert answer.type == (icmp.V4_ECHO_REPLY if version == 4 else icmp.V6_ECHO_REPLY)
    assert (answer.code, answer.rest, answer.body) == (0, 0x12340007, data)
    assert (sent.src, sent.dst) == (packed(OURS[version]), packed(THEIRS[version]))


@both_versions
def test_an_echo_larger_than_the_mtu_is_answered_in_fragments(version: int) -> None:
    host = Host(version)
    data = bytes(i % 251 for i in range(4000))
    kind = icmp.V4_ECHO_REQUEST if version == 4 else icmp.V6_ECHO_REQUEST
    whole = message(version, kind, 0, 1, data, THEIRS[version])
    host.input(whole)
    sent = host.drain()
    assert len(sent) == 3
    assert all(packet.ip_length <= 1500 for packet in sent)
    payload = b"".join(packet.payload for packet in sent)
    assert payload[8:] == data


@both_versions
def test_echoes_are_limited(version: int) -> None:
    host = Host(version, icmp_per_second=10)
    kind = icmp.V4_ECHO_REQUEST if version == 4 else icmp.V6_ECHO_REQUEST
    for _ in range(25):
        host.input(message(version, kind, 0, 1, b"ping", THEIRS[version]))
    assert len(host.drain()) == 10
    assert host.drops()["icmp-limited"] == 15


@both_versions
def test_an_echo_reply_is_not_answered(version: int) -> None:
    host = Host(version)
    kind = icmp.V4_ECHO_REPLY if version == 4 else icmp.V6_ECHO_REPLY
    host.input(message(version, kind, 0, 1, b"pong"))
    assert host.drain() == []
    assert host.drops() == {}


@both_versions
def test_a_message_with_a_bad_checksum_is_dropped(version: int) -> None:
    host = Host(version)
    kind = icmp.V4_ECHO_REQUEST if version == 4 else icmp.V6_ECHO_REQUEST
    frame = bytearray(message(version, kind, 0, 1, b"ping", THEIRS[version]))
    frame[-1] ^= 1
    host.input(bytes(frame))
    assert host.drain() == []
    assert host.drops() == {"icmp-checksum" if version == 4 else "icmpv6-checksum": 1}


# Errors that we send


def datagram(version: int, *, with_checksum: bool = True) -> bytes:
    src, dst = packed(THEIRS[version]), packed(OURS[version])
    head = udp.encode(5000, 53, 4)
    pseudo = pseudo_sum(src, dst, ipv4.UDP, 12).to_bytes(2, "big")
    field = checksum(pseudo, head, b"what") if with_checksum else 0
    return udp.encode(5000, 53, 4, field) + b"what"


@both_versions
def test_a_datagram_finds_no_port(version: int) -> None:
    # RFC 1122 §4.1.3.1
    host = Host(version)
    frame = ip_frame(THEIRS[version], OURS[version], ipv4.UDP, datagram(version))
    host.input(frame)
    (sent,) = host.drain()
    answer = sent.icmp
    assert (answer.type, answer.code) == ((3, 3) if version == 4 else (1, 4))
    assert answer.body == frame[10:]
    assert sent.dst == packed(THEIRS[version])


@both_versions
def test_a_bad_datagram_is_dropped_in_silence(version: int) -> None:
    host = Host(version)
    bad = bytearray(datagram(version))
    bad[-1] ^= 1
    host.input(ip_frame(THEIRS[version], OURS[version], ipv4.UDP, bytes(bad)))
    host.input(ip_frame(THEIRS[version], OURS[version], ipv4.UDP, bytes(bad)[:7]))
    assert host.drain() == []
    assert host.drops() == {"udp-checksum": 1, "udp-truncated": 1}


def test_over_ipv4_a_datagram_needs_no_checksum() -> None:
    # RFC 768
    host = Host(4)
    host.input(ip_frame(THEIRS[4], OURS[4], ipv4.UDP, datagram(4, with_checksum=False)))
    assert len(host.drain()) == 1


def test_over_ipv6_a_datagram_without_checksum_is_dropped() -> None:
    # RFC 8200 §8.1
    host = Host(6)
    host.input(ip_frame(THEIRS[6], OURS[6], ipv4.UDP, datagram(6, with_checksum=False)))
    assert host.drain() == []
    assert host.drops() == {"udp-checksum": 1}


def test_an_unknown_protocol_is_reported() -> None:
    # RFC 1122 §3.2.2.1; RFC 8200 §4: a parameter problem that points at the next header
    host = Host(4)
    host.input(ip_frame(THEIRS[4], OURS[4], 200, b"x" * 20))
    (sent,) = host.drain()
    assert (sent.icmp.type, sent.icmp.code) == (3, 2)
    host = Host(6)
    host.input(ip_frame(THEIRS[6], OURS[6], 200, b"x" * 20))
    (sent,) = host.drain()
    assert (sent.icmp.type, sent.icmp.code, sent.icmp.rest) == (4, 1, 6)


def test_no_next_header_is_no_error() -> None:
    # RFC 8200 §4.7
    host = Host(6)
    host.input(ip_frame(THEIRS[6], OURS[6], ipv6.NO_NEXT_HEADER, b"x" * 20))
    assert host.drain() == []


@both_versions
def test_errors_are_limited_and_quote_no_more_than_they_may(version: int) -> None:
    host = Host(version, icmp_per_second=3)
    frame = ip_frame(THEIRS[version], OURS[version], 200, b"x" * 1400)
    for _ in range(5):
        host.input(frame)
    sent = host.drain()
    assert len(sent) == 3
    # RFC 1812 §4.3.2.3 and RFC 4443 §2.4 (c)
    assert all(packet.ip_length == (576 if version == 4 else 1280) for packet in sent)


@both_versions
def test_nobody_is_told_of_errors_about_errors(version: int) -> None:
    host = Host(version)
    body = quote(Peer(host), 1)
    host.input(message(version, 3, 3, 0, body))
    host.input(message(version, 5, 0, 0, body[:10]))
    host.input(message(version, 100, 0, 0, b""))
    assert host.drain() == []


# Errors about a connection that is being opened


@both_versions
def test_a_refusal_by_icmp_ends_the_attempt(version: int) -> None:
    # MUST-56 hard errors; RFC 5927 §4.1: it must quote our SYN
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    kind, code = (3, 3) if version == 4 else (1, 4)
    error(peer, kind, code, seq=77)
    assert tcb.state is SYN_SENT
    error(peer, kind, code, seq=0)
    assert tcb.state is CLOSED
    assert isinstance(tcb.error, ConnectionRefused)
    assert host.events_of(tcb) & CLOSED_EVENT
    assert peer.heard() == []
    assert host.drops() == {"icmp-not-in-flight": 1, "icmp-refused": 1}


def test_a_protocol_that_is_unreachable_ends_the_attempt_too() -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    error(peer, 3, 2, seq=0)
    assert isinstance(tcb.error, IcmpError)
    assert tcb.error.errno == errno.ENOPROTOOPT  # icmp(7)


@both_versions
def test_an_unreachable_host_does_not_end_the_attempt(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    error(peer, *((3, 1) if version == 4 else (1, 3)), seq=0)
    assert tcb.state is SYN_SENT
    assert isinstance(tcb.soft_error, HostUnreachable)
    assert host.events_of(tcb) & SOFT_ERROR
    host.advance(SECOND + MS)
    assert peer.heard() == ["S 0:1(0)"]


@both_versions
def test_an_unreachable_host_ends_the_attempt_where_linux_is_asked_for(version: int) -> None:
    host = Host(version, TcpConfig(soft_errors_end_opening=True))
    peer = Peer(host)
    tcb = peer.connect()
    error(peer, *((3, 1) if version == 4 else (1, 3)), seq=0)
    assert tcb.closed
    assert isinstance(tcb.error, HostUnreachable)


# Errors about an established connection: all of them are soft (RFC 5927 §5.2)


def sending(version: int, config: TcpConfig | None = None) -> tuple[Host, Peer, Tcb]:
    """Ten segments of 1000 octets are in flight."""
    host = Host(version, config)
    peer = Peer(host)
    tcb = peer.establish(mss=9000 if config else MSS)
    host.send(tcb, bytes(i % 251 for i in range(10 * MSS)))
    peer.heard()
    return host, peer, tcb


HARD_OR_SOFT = [
    (4, 3, 0), (4, 3, 1), (4, 3, 2), (4, 3, 3), (4, 3, 5), (4, 3, 13), (4, 11, 0), (4, 11, 1),
    (4, 12, 0), (6, 1, 0), (6, 1, 1), (6, 1, 3), (6, 1, 4), (6, 3, 0), (6, 4, 1),
]  # fmt: skip


@pytest.mark.parametrize("version,kind,code", HARD_OR_SOFT)
def test_no_error_ends_a_connection_in_progress(version: int, kind: int, code: int) -> None:
    host, peer, tcb = sending(version)
    error(peer, kind, code)
    assert tcb.state is ESTABLISHED
    assert tcb.soft_error is not None
    assert host.events_of(tcb) & SOFT_ERROR
    assert peer.heard() == []
    host.advance(SECOND // 2)
    assert peer.heard()[0] == ". 1:1001(1000) ack 1"


@pytest.mark.parametrize("version,kind", [(4, 4), (4, 5), (6, 100)])
def test_source_quench_redirect_and_the_unknown_change_nothing(version: int, kind: int) -> None:
    # MUST-55, RFC 6633
    host, peer, tcb = sending(version)
    before = host.stack.status(tcb, host.now)
    error(peer, kind, 0)
    assert host.stack.status(tcb, host.now) == before
    assert tcb.soft_error is None
    assert host.drops() == {"icmp-ignored": 1}


@both_versions
@pytest.mark.parametrize("seq", [0, 10_001, 5_000_000, -1])
def test_an_error_about_what_is_not_in_flight_is_ignored(version: int, seq: int) -> None:
    # RFC 5927 §4.1
    host, peer, tcb = sending(version)
    error(peer, *((3, 1) if version == 4 else (1, 3)), seq=seq)
    assert tcb.soft_error is None
    assert host.drops() == {"icmp-not-in-flight": 1}


@both_versions
@pytest.mark.parametrize("seq", [0, 10_002, 5_000_000, -1])
def test_too_big_about_what_is_not_in_flight_is_ignored(version: int, seq: int) -> None:
    # RFC 5927 §4.1
    host, peer, _ = sending(version)
    too_big(peer, 1400, seq=seq)
    assert host.drops() == {"icmp-not-in-flight": 1}


@both_versions
def test_a_pure_ack_may_be_what_was_too_big(version: int) -> None:
    # Linux tcp_v4_err, tcp_v6_err: between(seq, snd_una, snd_nxt)
    host, peer, tcb = sending(version)
    too_big(peer, 1300, seq=10_001)
    assert tcb.path_mtu_payload == 1300 - (40 if version == 4 else 60)
    assert host.drops() == {"icmp-path-mtu": 1}


@both_versions
def test_a_router_s_word_about_a_path_mtu_probe_is_no_congestion(version: int) -> None:
    # RFC 8201 §5.4, RFC 4821 §7.5. The probe is stood in for by the first segments in flight.
    host, peer, tcb = sending(version)
    congestion = tcb.congestion
    assert congestion is not None
    tcb.mtu = MtuSearch(600, tcb.path_mtu_payload, host.now)
    tcb.mtu.sent(tcb.path_mtu_payload, tcb.snd.una, tcb.snd.una + 1400, 0)
    cwnd, ssthresh = congestion.cwnd, congestion.ssthresh
    too_big(peer, 1400)
    assert (tcb.mtu.size, tcb.mtu.high) == (0, MSS)  # the peer's MSS
    assert tcb.snd.mss == 600
    assert congestion.ssthresh == ssthresh
    assert congestion.cwnd == cwnd * 600 // MSS  # as many segments as before


@both_versions
def test_other_connections_to_the_same_host_learn_the_path_mtu(version: int) -> None:
    # RFC 1191 §6.2
    host, peer, _ = sending(version)
    other = Peer(host, 50_000)
    other_tcb = other.establish(mss=1400)
    host.send(other_tcb, b"x" * 1400)
    other.heard()
    too_big(peer, 1300)
    payload = 1300 - (40 if version == 4 else 60)
    assert other_tcb.snd.mss == payload
    host.turn()
    assert [len(reply.payload) for reply in other.replies()] == [payload, 1400 - payload]


@both_versions
def test_an_error_about_somebody_elses_segment_is_ignored(version: int) -> None:
    host, _, tcb = sending(version)
    error(Peer(host, 12345), 3, 1)
    assert tcb.soft_error is None
    assert host.drops() == {"icmp-no-connection": 1}


@both_versions
@pytest.mark.parametrize(
    "protocol, counted", [(ipv4.UDP, "icmp-no-socket"), (200, "icmp-not-for-tcp")]
)
def test_an_error_about_what_nobody_sent_is_ignored(
    version: int, protocol: int, counted: str
) -> None:
    host, peer, _ = sending(version)
    body = bytearray(quote(peer, 1))
    body[9 if version == 4 else 6] = protocol
    host.input(message(version, 3 if version == 4 else 1, 1, 0, bytes(body)))
    assert host.drops() == {counted: 1}


@both_versions
def test_an_error_that_quotes_too_little_is_dropped(version: int) -> None:
    host, peer, _ = sending(version)
    host.input(message(version, 3 if version == 4 else 1, 1, 0, quote(peer, 1)[:-4]))
    assert host.drops() == {"icmp-quote-truncated": 1}


def test_a_quoted_header_with_options_is_understood() -> None:
    host, peer, tcb = sending(4)
    body = quote(peer, 1, ip_options=b"\x94\x04\0\0")
    host.input(message(4, 3, 1, 0, body))
    assert tcb.soft_error is not None


# Path MTU (RFC 1191, RFC 8201)


@pytest.mark.parametrize("version,mtu", [(4, 1000), (6, 1300)])
def test_what_was_too_big_is_resent_in_pieces_that_fit(version: int, mtu: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(mss=9000)
    text = bytes(i % 251 for i in range(8000))
    host.send(tcb, text)
    assert max(reply.packet.ip_length for reply in peer.replies()) == 1500
    before = host.stack.status(tcb, host.now)
    too_big(peer, mtu)
    replies = peer.replies()
    assert max(reply.packet.ip_length for reply in replies) == mtu
    assert all(reply.packet.dont_fragment for reply in replies)
    assert b"".join(reply.payload for reply in replies) == text
    after = host.stack.status(tcb, host.now)  # as many segments as before, RFC 5681 §3.1
    assert after.snd_cwnd // after.snd_mss == before.snd_cwnd // before.snd_mss
    assert after.snd_ssthresh == before.snd_ssthresh
    too_big(peer, mtu)  # once for each decrease
    assert peer.heard() == []
    assert host.drops() == {"icmp-path-mtu": 1, "icmp-bad-mtu": 1}
    peer.send(".", 1, 8001)
    assert len(tcb.send_buffer) == 0


@pytest.mark.parametrize("version,mtu", [(4, 20), (4, 67), (4, 1500), (4, 9000), (6, 1000), (6, 1279), (6, 1500), (6, 1 << 20)])  # fmt: skip  # noqa: E501
def test_an_mtu_that_makes_no_sense_is_ignored(version: int, mtu: int) -> None:
    host, peer, tcb = sending(version)
    too_big(peer, mtu)
    assert peer.heard() == []
    assert host.stack.status(tcb, host.now).snd_mss == MSS
    assert host.drops() == {"icmp-bad-mtu": 1}


def test_the_smallest_mtus_of_the_rfcs_are_believed() -> None:
    host, peer, tcb = sending(4)
    too_big(peer, 68)
    assert host.stack.status(tcb, host.now).snd_mss == 28
    host, peer, tcb = sending(6, TcpConfig())
    too_big(peer, 1280)
    assert host.stack.status(tcb, host.now).snd_mss == 1220


def test_sack_blocks_are_left_out_where_they_do_not_fit_the_path() -> None:
    # 68 octets: IP 20, TCP 20, timestamps 12, and no more than one block
    host = Host(tcp=TcpConfig(compressed_acks=0))
    peer = Peer(host)
    tcb = peer.establish(sack=True, tsval=5)
    host.send(tcb, b"x" * 100)
    peer.heard()
    too_big(peer, 68)
    for start in (101, 301, 501):
        peer.send(".", start, 1, b"y" * 50)
    peer.put(".", 701, 1, b"y" * 50)
    host.turn()
    acks = [reply for reply in peer.replies() if not reply.payload]
    assert acks
    assert all(reply.packet.ip_length <= 68 for reply in acks)
    assert acks[-1].ack == 1


def test_a_router_that_names_no_mtu_means_the_next_plateau() -> None:
    # RFC 1191 §7.1
    host, peer, tcb = sending(4, TcpConfig())
    for mss in (1492 - 40, 1006 - 40, 508 - 40):
        too_big(peer, 0)
        assert host.stack.status(tcb, host.now).snd_mss == mss
        peer.heard()


def test_without_path_mtu_discovery_nothing_is_believed() -> None:
    host, peer, _ = sending(4, TcpConfig(path_mtu_discovery=False))
    too_big(peer, 1000)
    assert peer.heard() == []
    assert host.drops() == {"icmp-ignored": 1}


def test_what_one_connection_learned_the_next_one_knows() -> None:
    host, peer, _ = sending(4, TcpConfig())
    too_big(peer, 1000)
    peer.heard()
    other = Peer(host, 40001)
    tcb = other.establish(mss=9000)
    assert host.stack.status(tcb, host.now).snd_mss == 960
    host.advance(601 * SECOND)
    third = Peer(host, 40002)
    tcb = third.establish(mss=9000)
    assert host.stack.status(tcb, host.now).snd_mss == 1460


def test_an_error_in_a_frame_for_somebody_else_is_dropped() -> None:
    host, peer, tcb = sending(4)
    body = quote(peer, 1)
    host.input(ip_frame(ROUTER[4], "10.0.0.99", ipv4.ICMP, icmp.encode_v4(3, 1, 0, body)))
    assert tcb.soft_error is None
    assert tcb.state is ESTABLISHED
