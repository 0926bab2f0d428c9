"""What a TCP host does at the IP level: RFC 791, 1122 §3.2, 8200, 4443, 6437, 6864."""

from itertools import pairwise, permutations

import pytest

from tests.stack.host import (
    ISN,
    OURS,
    SECOND,
    THEIRS,
    Host,
    Peer,
    Sent,
    both_versions,
    ip_frame,
    packed,
    tcp_segment,
)
from ustack.config import TcpConfig
from ustack.wire import icmp, ipv4, ipv6, tcp, udp
from ustack.wire.checksum import checksum, pseudo_sum
from ustack.wire.ipv6 import Fragment
from ustack.wire.virtio import HEADER_LEN, PLAIN


def syn(version: int, payload: bytes = b"") -> bytes:
    """A SYN to the port that listens, without its IP header."""
    return tcp_segment(THEIRS[version], OURS[version], 40000, 80, ISN, 0, tcp.SYN, payload)


def listening(version: int, **config: object) -> Host:
    host = Host(version, **config)  # type: ignore[arg-type]
    host.listen()
    return host


def v6_frame(first: int, body: bytes, *, src: str = THEIRS[6], hop_limit: int = 64) -> bytes:
    head = ipv6.encode(packed(src), packed(OURS[6]), first, len(body), hop_limit=hop_limit)
    return PLAIN + head + body


def is_syn_ack(sent: list[Sent]) -> bool:
    return len(sent) == 1 and sent[0].protocol == ipv4.TCP and sent[0].payload[13] == 0x12


def error_of(sent: list[Sent]) -> icmp.IcmpMessage:
    (packet,) = sent
    return packet.icmp


def ping(version: int, data: bytes) -> bytes:
    src, dst = THEIRS[version], OURS[version]
    if version == 4:
        message = icmp.encode_v4(icmp.V4_ECHO_REQUEST, 0, 7 << 16 | 9, data)
        return ip_frame(src, dst, ipv4.ICMP, message)
    message = icmp.encode_v6(packed(src), packed(dst), icmp.V6_ECHO_REQUEST, 0, 7 << 16 | 9, data)
    return ip_frame(src, dst, ipv6.ICMPV6, message)


# IPv4 header (RFC 1122 §3.2.1)


def test_a_packet_of_another_version_is_dropped_in_silence() -> None:
    host = listening(4)
    frame = bytearray(ip_frame(THEIRS[4], OURS[4], ipv4.TCP, syn(4)))
    frame[HEADER_LEN] = 0x55
    host.input(bytes(frame))
    assert host.is_clean()


def test_a_bad_header_checksum_is_dropped_in_silence() -> None:
    host = listening(4)
    for port in (80, 81):
        segment = tcp_segment(THEIRS[4], OURS[4], 40000, port, ISN, 0, tcp.SYN)
        frame = bytearray(ip_frame(THEIRS[4], OURS[4], ipv4.TCP, segment))
        frame[HEADER_LEN + 8] ^= 1  # TTL
        host.input(bytes(frame))
    assert host.is_clean()
    assert host.drops() == {"ipv4-checksum": 2}


@both_versions
@pytest.mark.parametrize("limit", [0, 1])
def test_a_packet_for_us_may_be_at_the_end_of_its_life(version: int, limit: int) -> None:
    # RFC 1122 §3.2.1.7, RFC 8200 §3
    host = listening(version)
    field = "ttl" if version == 4 else "hop_limit"
    frame = ip_frame(THEIRS[version], OURS[version], ipv4.TCP, syn(version), **{field: limit})
    host.input(frame)
    assert is_syn_ack(host.drain())


@pytest.mark.parametrize(
    "options",
    [
        "01 01 01 00",
        "44 08 05 00 00 00 00 00",
        "07 07 04 00 00 00 00 00",
        "9e 04 00 00",
        "99 03 00",
    ],
    ids=["padding", "timestamp", "record route", "unknown", "unknown, padded"],
)
def test_ip_options_are_stepped_over(options: str) -> None:
    # MUST-50, RFC 1122 §3.2.1.8
    host = listening(4)
    octets = bytes.fromhex(options)
    head = ipv4.encode(packed(THEIRS[4]), packed(OURS[4]), ipv4.TCP, len(syn(4)), options=octets)
    host.input(PLAIN + head + syn(4))
    assert is_syn_ack(host.drain())


@both_versions
def test_everything_tcp_sends_has_the_ttl_configured(version: int) -> None:
    # MUST-49: connections, and what is sent for none: RST, the last ACK of TIME-WAIT
    host = Host(version, TcpConfig(ttl=255, dscp=46))
    peer = Peer(host)
    tcb = peer.establish()
    Peer(host, our_port=81).put("S", 0)
    host.close(tcb)
    peer.put("F.", 1, 2)
    host.turn()
    peer.put("F.", 1, 2)  # again, in TIME-WAIT
    host.turn()
    sent = host.drain()
    assert len(sent) == 4
    assert {(packet.hop_limit, packet.dscp) for packet in sent} == {(255, 46)}


@both_versions
def test_no_packet_of_tcp_is_ever_a_fragment(version: int) -> None:
    # RFC 1122 §3.3.3, RFC 1191 §2, RFC 6864 §4.1: DF is set, and every packet fits the MTU
    host = Host(version, mtu=1280)
    peer = Peer(host)
    tcb = peer.establish(mss=9000)
    host.send(tcb, b"x" * 9000)
    peer.send("F.", 1, 1)
    host.abort(tcb)
    for packet in host.drain():
        assert packet.ip_length <= 1280
        assert packet.dont_fragment


def test_equal_identifications_are_no_duplicates() -> None:
    # RFC 6864 §4.1
    host = Host(4)
    peer = Peer(host)
    tcb = peer.establish()
    for number, text in enumerate((b"one", b"two")):  # ip_frame: identification 0
        host.input(peer.frame("P.", 1 + 3 * number, 1, text))
    assert host.read(tcb) == b"onetwo"


def test_one_flow_label_for_all_packets_of_a_connection_and_no_pattern_between_them() -> None:
    # RFC 6437 §3
    host = Host(6)
    labels = []
    for port in range(40000, 40040):
        peer = Peer(host, port=port)
        tcb = peer.establish()
        host.send(tcb, b"text")
        host.advance(SECOND)  # resent
        host.abort(tcb)
        mine = {
            int.from_bytes(reply.packet.frame[HEADER_LEN : HEADER_LEN + 4], "big") & 0xFFFFF
            for reply in peer.replies()
        }
        assert len(mine) == 1
        labels.append(mine.pop())
    steps = {second - first for first, second in pairwise(labels)}
    assert len(set(labels)) > 35 and len(steps) > 35
    assert max(labels) > 0xFFFF  # all 20 bits are used
    assert 0 not in labels


# Fragments


def fragments(version: int, payload: bytes, size: int = 24) -> list[bytes]:
    out = []
    src, dst = packed(THEIRS[version]), packed(OURS[version])
    for at in range(0, len(payload), size):
        piece, more = payload[at : at + size], at + size < len(payload)
        if version == 4:
            head = ipv4.encode(
                src, dst, ipv4.TCP, len(piece), ident=5, more_fragments=more, fragment_offset=at
            )
            out.append(PLAIN + head + piece)
        else:
            extension = ipv6.encode_fragment(ipv6.TCP, Fragment(at, more, 5))
            out.append(v6_frame(ipv6.FRAGMENT_HEADER, extension + piece))
    return out


@both_versions
def test_fragments_are_put_together_in_any_order(version: int) -> None:
    # RFC 1122 §3.3.2, RFC 8200 §4.5
    for order in permutations(fragments(version, syn(version, b"x" * 40))):
        host = listening(version)
        for frame in order:
            host.input(frame)
        assert is_syn_ack(host.drain())


@pytest.mark.parametrize(
    "headers, code, pointer",
    [
        (ipv6.encode_fragment(ipv6.TCP, Fragment(0, True, 5)) + bytes(21), 0, 4),
        (ipv6.encode_fragment(ipv6.TCP, Fragment(65528, False, 5)) + bytes(8), 0, 42),
        (ipv6.encode_fragment(ipv6.TCP, Fragment(0, True, 5)) + bytes(16), 3, 0),
        (
            ipv6.encode_fragment(ipv6.DESTINATION_OPTIONS, Fragment(0, True, 5))
            + b"\6\1"
            + bytes(6),
            3,
            0,
        ),
        (
            ipv6.encode_fragment(ipv6.DESTINATION_OPTIONS, Fragment(0, True, 5))
            + b"\6\0\1\4"
            + bytes(20),
            3,
            0,
        ),
    ],
    ids=["no multiple of 8", "beyond 65535", "half a header", "half an option header", "no header"],
)
def test_the_source_of_an_impossible_ipv6_fragment_is_told(
    headers: bytes, code: int, pointer: int
) -> None:
    # RFC 8200 §4.5, RFC 7112 §5: Parameter Problem, and nothing is kept
    host = Host(6)
    host.input(v6_frame(ipv6.FRAGMENT_HEADER, headers))
    (sent,) = host.drain()
    assert (sent.icmp.type, sent.icmp.code, sent.icmp.rest) == (4, code, pointer)
    assert host.drops() == {"ipv6-problem": 1}
    host.advance(61 * SECOND)
    assert host.drain() == []


def test_a_whole_header_chain_in_the_first_ipv6_fragment_is_enough() -> None:
    host = listening(6)
    options = b"\6\0\1\4" + bytes(4)
    whole = options + syn(6, b"x" * 40)
    first = ipv6.encode_fragment(ipv6.DESTINATION_OPTIONS, Fragment(0, True, 5)) + whole[:32]
    host.input(v6_frame(ipv6.FRAGMENT_HEADER, first))
    assert host.drain() == []


@both_versions
def test_a_datagram_of_more_than_1500_octets_is_put_together(version: int) -> None:
    host = listening(version)
    for frame in fragments(version, syn(version, b"x" * 2000), 512):
        host.input(frame)
    assert is_syn_ack(host.drain())


@both_versions
def test_overlapping_fragments_end_the_datagram_in_silence(version: int) -> None:
    # RFC 8200 §4.5 (RFC 5722); an exact repetition is none
    host = listening(version)
    first, second, third = fragments(version, syn(version, b"x" * 40))
    host.input(first)
    host.input(first)
    bad = fragments(version, syn(version, b"x" * 40), 32)[0]
    host.input(bad)
    host.input(second)
    host.input(third)
    assert host.drain() == []


@both_versions
def test_a_datagram_that_stays_incomplete_is_reported_if_its_first_piece_is_here(
    version: int,
) -> None:
    # RFC 1122 §3.3.2, RFC 8200 §4.5: Time Exceeded, code 1, after 60 seconds
    host = listening(version)
    first, second, _ = fragments(version, syn(version, b"x" * 40))
    host.input(first)
    host.input(second)
    host.advance(59 * SECOND)
    assert host.drain() == []
    host.advance(2 * SECOND)
    error = error_of(host.drain())
    assert (error.type, error.code) == ({4: 11, 6: 3}[version], 1)
    assert error.body.startswith(first[HEADER_LEN : HEADER_LEN + 4])
    quote = icmp.quoted(error.body, version)
    assert (quote.src, quote.dst_port) == (packed(THEIRS[version]), 80)
    assert host.is_clean()


@both_versions
def test_without_its_first_piece_an_incomplete_datagram_is_dropped_in_silence(version: int) -> None:
    host = listening(version)
    _, second, third = fragments(version, syn(version, b"x" * 40))
    host.input(second)
    host.input(third)
    host.advance(130 * SECOND)
    assert host.is_clean()


def test_an_atomic_fragment_is_a_packet_of_its_own() -> None:
    # RFC 8200 §4.5 (RFC 6946): it disturbs no datagram with the same identification
    host = listening(6)
    pieces = fragments(6, syn(6, b"x" * 40))
    host.input(pieces[0])
    other = tcp_segment(THEIRS[6], OURS[6], 50000, 80, ISN, 0, tcp.SYN)
    atomic = ipv6.encode_fragment(ipv6.TCP, Fragment(0, False, 5))
    host.input(v6_frame(ipv6.FRAGMENT_HEADER, atomic + other))
    assert is_syn_ack(host.drain())
    for piece in pieces[1:]:
        host.input(piece)
    assert is_syn_ack(host.drain())


# IPv6 extension headers (RFC 8200 §4)


def extension(next_header: int, options: bytes) -> bytes:
    options += bytes((1, (-len(options) - 4) % 8)) + bytes((-len(options) - 4) % 8)
    return bytes((next_header, (len(options) + 2) // 8 - 1)) + options


def test_tcp_is_served_behind_extension_headers() -> None:
    host = listening(6)
    chain = extension(ipv6.ROUTING, bytes((0x1E, 1, 0)))
    chain += bytes((ipv6.DESTINATION_OPTIONS, 0, 4, 0)) + bytes(4)  # nothing left to visit
    chain += extension(ipv6.FRAGMENT_HEADER, b"")
    chain += ipv6.encode_fragment(ipv6.TCP, Fragment(0, False, 1))
    host.input(v6_frame(ipv6.HOP_BY_HOP, chain + syn(6)))
    assert is_syn_ack(host.drain())


@pytest.mark.parametrize("kind, answer", [(0x1E, None), (0x5E, "silence"), (0x9E, 2), (0xDE, 2)])
def test_the_first_bits_of_an_unknown_option_say_what_to_do(
    kind: int, answer: int | str | None
) -> None:
    host = listening(6)
    body = extension(ipv6.TCP, bytes((kind, 1, 0))) + syn(6)
    host.input(v6_frame(ipv6.DESTINATION_OPTIONS, body))
    sent = host.drain()
    if answer is None:
        assert is_syn_ack(sent)
    elif answer == "silence":
        assert sent == []
    else:
        error = error_of(sent)
        assert (error.type, error.code, error.rest) == (icmp.V6_PARAMETER_PROBLEM, answer, 42)


def test_an_unknown_next_header_is_reported_where_it_stands() -> None:
    host = listening(6)
    host.input(v6_frame(ipv6.DESTINATION_OPTIONS, extension(200, b"") + bytes(20)))
    error = error_of(host.drain())
    assert (error.type, error.code, error.rest) == (icmp.V6_PARAMETER_PROBLEM, 1, 40)


def test_a_routing_header_with_places_left_to_visit_is_reported() -> None:
    # RFC 8200 §4.4, RFC 5095
    host = listening(6)
    host.input(v6_frame(ipv6.ROUTING, bytes((ipv6.TCP, 0, 0, 1)) + bytes(4) + syn(6)))
    error = error_of(host.drain())
    assert (error.type, error.code, error.rest) == (icmp.V6_PARAMETER_PROBLEM, 0, 42)


# ICMP (RFC 1122 §3.2.2, RFC 4443)


@both_versions
@pytest.mark.parametrize("size", [0, 56, 3000])
def test_an_echo_request_is_answered_with_all_its_data(version: int, size: int) -> None:
    host = Host(version, mtu=9000)
    data = bytes(n & 0xFF for n in range(size))
    host.input(ping(version, data))
    (answer,) = host.drain()
    assert (answer.src, answer.dst) == (packed(OURS[version]), packed(THEIRS[version]))
    reply = answer.icmp
    assert reply.type == {4: icmp.V4_ECHO_REPLY, 6: icmp.V6_ECHO_REPLY}[version]
    assert (reply.code, reply.rest, reply.body) == (0, 7 << 16 | 9, data)


@both_versions
def test_messages_of_unknown_type_are_dropped_in_silence(version: int) -> None:
    host = Host(version)
    src, dst = THEIRS[version], OURS[version]
    for kind in (42, 200):
        if version == 4:
            frame = ip_frame(src, dst, ipv4.ICMP, icmp.encode_v4(kind, 0, 0, bytes(40)))
        else:
            message = icmp.encode_v6(packed(src), packed(dst), kind, 0, 0, bytes(40))
            frame = ip_frame(src, dst, ipv6.ICMPV6, message)
        host.input(frame)
    assert host.is_clean()


def datagram(version: int, size: int = 100) -> bytes:
    src, dst = packed(THEIRS[version]), packed(OURS[version])
    return udp_to(src, dst, b"x" * size)


def udp_to(src: bytes, dst: bytes, data: bytes) -> bytes:
    length = udp.HEADER_LEN + len(data)
    pseudo = pseudo_sum(src, dst, ipv4.UDP, length)
    field = checksum(pseudo.to_bytes(2, "big"), udp.encode(5000, 7, len(data)), data)
    return udp.encode(5000, 7, len(data), field) + data


@both_versions
def test_udp_for_nobody_is_answered_with_port_unreachable(version: int) -> None:
    # RFC 1122 §3.2.2.1, RFC 4443 §3.1; the quote is unchanged and as long as may be
    host = Host(version)
    frame = ip_frame(THEIRS[version], OURS[version], ipv4.UDP, datagram(version))
    host.input(frame)
    error = error_of(host.drain())
    assert (error.type, error.code) == {4: (3, 3), 6: (1, 4)}[version]
    assert error.body == frame[HEADER_LEN:]


def test_an_error_fits_in_the_minimum_mtu() -> None:
    # RFC 4443 §2.4 (c); RFC 1812 §4.3.2.3
    for version, most in ((4, 576), (6, 1280)):
        host = Host(version)
        host.input(ip_frame(THEIRS[version], OURS[version], ipv4.UDP, datagram(version, 1400)))
        (sent,) = host.drain()
        assert sent.ip_length == most


def test_an_unknown_protocol_is_reported_as_unreachable() -> None:
    host = Host(4)
    host.input(ip_frame(THEIRS[4], OURS[4], 200, bytes(20)))
    error = error_of(host.drain())
    assert (error.type, error.code) == (icmp.V4_UNREACHABLE, icmp.V4_PROTOCOL_UNREACHABLE)


@pytest.mark.parametrize("dst", ["255.255.255.255", "10.0.0.255", "224.0.0.1"])
def test_no_error_answers_what_was_sent_to_many(dst: str) -> None:
    host = Host(4)
    body = udp_to(packed(THEIRS[4]), packed(dst), b"x")
    host.input(ip_frame(THEIRS[4], dst, ipv4.UDP, body))
    assert host.is_clean()


@pytest.mark.parametrize(
    "src", ["0.0.0.0", "224.0.0.1", "10.0.0.255", "127.0.0.1", "::", "ff02::9"]
)
def test_no_error_goes_to_an_address_that_is_no_host(src: str) -> None:
    host = Host()
    dst = OURS[4] if "." in src else OURS[6]
    host.input(ip_frame(src, dst, ipv4.UDP, udp_to(packed(src), packed(dst), b"x")))
    assert host.is_clean()


@both_versions
def test_no_error_answers_an_error(version: int) -> None:
    host = Host(version)
    src, dst = THEIRS[version], OURS[version]
    quote = ip_frame(dst, src, ipv4.UDP, bytes(8))[HEADER_LEN:]
    if version == 4:
        frame = ip_frame(src, dst, ipv4.ICMP, icmp.encode_v4(3, 3, 0, quote))
    else:
        message = icmp.encode_v6(packed(src), packed(dst), 1, 4, 0, quote)
        frame = ip_frame(src, dst, ipv6.ICMPV6, message)
    host.input(frame)
    assert host.is_clean()


@both_versions
def test_no_error_answers_a_later_fragment(version: int) -> None:
    host = Host(version)
    body = datagram(version, 20)
    src, dst = packed(THEIRS[version]), packed(OURS[version])
    if version == 4:
        head = ipv4.encode(src, dst, 200, 8, ident=5, fragment_offset=16)
        host.input(PLAIN + head + body[16:24])
    else:
        piece = ipv6.encode_fragment(200, Fragment(16, False, 5)) + body[16:24]
        host.input(v6_frame(ipv6.FRAGMENT_HEADER, piece))
    assert host.drain() == []


@both_versions
def test_errors_and_echoes_are_limited(version: int) -> None:
    # RFC 4443 §2.4 (f)
    host = Host(version, icmp_per_second=10)
    for _ in range(50):
        host.input(ip_frame(THEIRS[version], OURS[version], ipv4.UDP, datagram(version)))
        host.input(ping(version, b""))
    assert len(host.drain()) == 10
