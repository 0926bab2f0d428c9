import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    ICMPv6Unknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)

from ustack.errors import MalformedPacket
from ustack.wire import icmp, ipv4, ipv6
from ustack.wire.checksum import checksum
from ustack.wire.icmp import IcmpMessage, Quoted

EXAMPLES = settings(derandomize=True, max_examples=100, deadline=None)
BYTES = st.integers(0, 255)
LONGS = st.integers(0, 0xFFFF_FFFF)
BODIES = st.binary(max_size=60)

SRC, DST = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])
SRC6 = bytes.fromhex("fd000009000000000000000000000001")
DST6 = bytes.fromhex("fd000009000000000000000000000002")
PORTS_SEQ = bytes.fromhex("0050 9c40 fffffffe")


def quote_reason(body: bytes, version: int) -> str:
    with pytest.raises(MalformedPacket) as caught:
        icmp.quoted(body, version)
    return caught.value.reason


def test_an_echo_request_of_ping_decodes() -> None:
    wire = bytes.fromhex("0800 f7fc 0001 0002") + bytes(4)
    assert icmp.decode_v4(wire) == IcmpMessage(icmp.V4_ECHO_REQUEST, 0, 1 << 16 | 2, bytes(4))
    assert icmp.encode_v4(icmp.V4_ECHO_REQUEST, 0, 1 << 16 | 2, bytes(4)) == wire


@EXAMPLES
@given(BYTES, BYTES, LONGS, BODIES)
def test_any_icmpv4_message_survives_the_round_trip(
    kind: int, code: int, rest: int, body: bytes
) -> None:
    wire = icmp.encode_v4(kind, code, rest, memoryview(body))
    assert checksum(wire) == 0
    assert icmp.decode_v4(memoryview(wire)) == (kind, code, rest, body)
    theirs = ICMP(wire)
    assert (theirs.type, theirs.code) == (kind, code)


@EXAMPLES
@given(st.sampled_from([0, 8]), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), BODIES)
def test_echoes_of_icmpv4_agree_with_scapy(kind: int, ident: int, seq: int, body: bytes) -> None:
    wire = bytes(ICMP(type=kind, id=ident, seq=seq) / body)
    assert icmp.decode_v4(wire) == (kind, 0, ident << 16 | seq, body)
    assert icmp.encode_v4(kind, 0, ident << 16 | seq, body) == wire


@EXAMPLES
@given(st.integers(0, 0xFFFF), BODIES)
def test_errors_of_icmpv4_agree_with_scapy(number: int, body: bytes) -> None:
    needed = bytes(ICMP(type=3, code=4, nexthopmtu=number) / body)
    assert icmp.encode_v4(icmp.V4_UNREACHABLE, icmp.V4_FRAGMENTATION_NEEDED, number, body) == needed
    assert icmp.decode_v4(needed) == (3, 4, number, body)
    pointed = bytes(ICMP(type=12, code=0, ptr=number & 0xFF) / body)
    assert icmp.encode_v4(icmp.V4_PARAMETER_PROBLEM, 0, (number & 0xFF) << 24, body) == pointed
    late = bytes(ICMP(type=11, code=1) / body)
    assert icmp.encode_v4(icmp.V4_TIME_EXCEEDED, icmp.REASSEMBLY_TIME_EXCEEDED, 0, body) == late


@EXAMPLES
@given(BYTES, BYTES, LONGS, BODIES)
def test_any_icmpv6_message_survives_the_round_trip(
    kind: int, code: int, rest: int, body: bytes
) -> None:
    wire = icmp.encode_v6(SRC6, DST6, kind, code, rest, memoryview(body))
    assert icmp.decode_v6(memoryview(wire), SRC6, DST6) == (kind, code, rest, body)
    theirs = IPv6(src="fd00:9::1", dst="fd00:9::2", nh=58) / ICMPv6Unknown(
        type=kind, code=code, msgbody=rest.to_bytes(4, "big") + body
    )
    assert bytes(theirs)[40:] == wire


@EXAMPLES
@given(LONGS, st.binary(max_size=60))
def test_messages_of_icmpv6_agree_with_scapy(rest: int, body: bytes) -> None:
    for kind, code, message in (
        (icmp.V6_ECHO_REQUEST, 0, ICMPv6EchoRequest(id=rest >> 16, seq=rest & 0xFFFF, data=body)),
        (icmp.V6_ECHO_REPLY, 0, ICMPv6EchoReply(id=rest >> 16, seq=rest & 0xFFFF, data=body)),
        (icmp.V6_PACKET_TOO_BIG, 0, ICMPv6PacketTooBig(mtu=rest) / body),
        (icmp.V6_PARAMETER_PROBLEM, 2, ICMPv6ParamProblem(code=2, ptr=rest) / body),
        (
            icmp.V6_TIME_EXCEEDED,
            1,
            ICMPv6TimeExceeded(code=1, length=rest >> 24, unused=rest & 0xFFFFFF) / body,
        ),
    ):
        wire = bytes(IPv6(src="fd00:9::1", dst="fd00:9::2") / message)[40:]
        assert icmp.encode_v6(SRC6, DST6, kind, code, rest, body) == wire
        assert icmp.decode_v6(wire, SRC6, DST6) == (kind, code, rest, body)


def test_a_wrong_checksum_or_a_cut_header_is_malformed() -> None:
    v4 = icmp.encode_v4(8, 0, 1, b"ping")
    v6 = icmp.encode_v6(SRC6, DST6, 128, 0, 1, b"ping")
    with pytest.raises(MalformedPacket, match="icmp-checksum"):
        icmp.decode_v4(v4[:-1] + b"!")
    with pytest.raises(MalformedPacket, match="icmpv6-checksum"):
        icmp.decode_v6(v6[:-1] + b"!", SRC6, DST6)
    with pytest.raises(MalformedPacket, match="icmpv6-checksum"):
        icmp.decode_v6(v6, SRC6, SRC6)
    for size in range(8):
        with pytest.raises(MalformedPacket, match="icmp-truncated"):
            icmp.decode_v4(v4[:size])
        with pytest.raises(MalformedPacket, match="icmpv6-truncated"):
            icmp.decode_v6(v6[:size], SRC6, DST6)


@pytest.mark.parametrize("options", [b"", b"\x01" * 4, b"\x94\x04\0\0" * 10])
def test_the_flow_of_a_quoted_ipv4_packet_is_found_behind_its_options(options: bytes) -> None:
    body = ipv4.encode(SRC, DST, ipv4.TCP, 1480, options=options) + PORTS_SEQ
    assert icmp.quoted(body, 4) == Quoted(SRC, DST, ipv4.TCP, 80, 40000, 0xFFFFFFFE)


def test_a_quote_of_scapy_gives_its_flow() -> None:
    packet = bytes(IP(src="10.9.0.1", dst="10.9.0.2") / TCP(sport=7, dport=9, seq=5))
    assert icmp.quoted(packet[:28], 4) == Quoted(SRC, DST, ipv4.TCP, 7, 9, 5)
    datagram = bytes(IPv6(src="fd00:9::1", dst="fd00:9::2") / UDP(sport=7, dport=9))
    assert icmp.quoted(datagram, 6) == Quoted(SRC6, DST6, ipv6.UDP, 7, 9, None)


def test_a_quote_of_another_protocol_has_no_ports() -> None:
    ping = bytes(IP(src="10.9.0.1", dst="10.9.0.2") / ICMP())
    assert icmp.quoted(ping, 4) == Quoted(SRC, DST, ipv4.ICMP, 0, 0, None)


def test_the_flow_of_a_quoted_ipv6_packet_is_found_behind_its_extension_headers() -> None:
    packet = bytes(
        IPv6(src="fd00:9::1", dst="fd00:9::2")
        / IPv6ExtHdrHopByHop()
        / IPv6ExtHdrRouting(addresses=["fd00::7"])
        / IPv6ExtHdrFragment(m=1)
        / IPv6ExtHdrDestOpt()
        / TCP(sport=7, dport=9, seq=5)
    )
    assert icmp.quoted(packet, 6) == Quoted(SRC6, DST6, ipv6.TCP, 7, 9, 5)


def test_the_walk_through_a_quote_is_bounded() -> None:
    chain = bytes((60, 0, 1, 4, 0, 0, 0, 0)) * 20
    quote = icmp.quoted(ipv6.encode(SRC6, DST6, 60, 160) + chain, 6)
    assert (quote.protocol, quote.seq) == (ipv6.DESTINATION_OPTIONS, None)


def test_a_quote_without_ports_is_truncated() -> None:
    v4 = ipv4.encode(SRC, DST, ipv4.TCP, 20) + PORTS_SEQ
    v6 = ipv6.encode(SRC6, DST6, 60, 28) + bytes((6, 0, 1, 4, 0, 0, 0, 0)) + PORTS_SEQ
    for body, version in ((v4, 4), (v6, 6)):
        reasons = {quote_reason(body[:size], version) for size in range(len(body))}
        assert reasons == {"icmp-quote-truncated"}


def test_a_quote_of_a_later_fragment_has_no_flow() -> None:
    v4 = ipv4.encode(SRC, DST, ipv4.TCP, 20, fragment_offset=8) + PORTS_SEQ
    assert quote_reason(v4, 4) == "icmp-quote-fragment"
    piece = ipv6.encode_fragment(ipv6.TCP, ipv6.Fragment(8, False, 1)) + PORTS_SEQ
    v6 = ipv6.encode(SRC6, DST6, ipv6.FRAGMENT_HEADER, len(piece)) + piece
    assert quote_reason(v6, 6) == "icmp-quote-fragment"


@pytest.mark.parametrize("first, version", [(0x65, 4), (0x44, 4), (0x45, 6)])
def test_a_quote_of_another_version_or_header_length_is_refused(first: int, version: int) -> None:
    assert quote_reason(bytes((first,)) + bytes(60), version) == "icmp-quote-header"


@EXAMPLES
@given(st.binary(max_size=100))
def test_random_bytes_are_malformed_unless_their_checksum_is_right(data: bytes) -> None:
    repaired = (data[:2] + checksum(data[:2], data[4:]).to_bytes(2, "big") + data[4:])[: len(data)]
    for wire in (data, repaired):
        try:
            message = icmp.decode_v4(wire)
        except MalformedPacket:
            assert len(wire) < 8 or checksum(wire)
        else:
            assert not checksum(wire)
            assert message.body == wire[8:]
        with pytest.raises(MalformedPacket, match=r"icmpv6-(truncated|checksum)"):
            icmp.decode_v6(repaired, SRC6, DST6)  # its sum has a pseudo-header too


@EXAMPLES
@given(st.binary(max_size=100))
def test_of_random_bytes_a_quote_has_its_addresses_and_ports_or_is_malformed(data: bytes) -> None:
    quotes6 = [(ipv6.encode(SRC6, DST6, protocol, 0) + data, 6) for protocol in (0, 6, 43, 44, 60)]
    quotes4 = [(data, 4), (b"\x45" + data, 4), (b"\x4f" + data, 4)]
    for body, version in quotes6 + quotes4:
        try:
            quote = icmp.quoted(body, version)
        except MalformedPacket:
            continue
        if version == 6:
            assert (quote.src, quote.dst) == (SRC6, DST6)
        else:
            assert quote.src + quote.dst == body[12:20]
        ports = quote.src_port.to_bytes(2, "big") + quote.dst_port.to_bytes(2, "big")
        assert ports in body or quote.protocol not in (ipv4.TCP, ipv4.UDP)
