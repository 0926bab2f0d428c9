import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    HBHOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Pad1,
    PadN,
    RouterAlert,
)

from ustack.errors import MalformedPacket
from ustack.wire import ipv6
from ustack.wire.ipv6 import Fragment, Problem

EXAMPLES = settings(derandomize=True, max_examples=150, deadline=None)
ADDRESSES = st.binary(min_size=16, max_size=16)
SRC = bytes.fromhex("fd000009000000000000000000000001")
DST = bytes.fromhex("fd000009000000000000000000000002")
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
PADDED = b"\x01\x04\0\0\0\0"  # one PadN that fills an extension header of 8 bytes


def packet(protocol: int, payload: bytes, dst: bytes = DST) -> bytes:
    return ipv6.encode(SRC, dst, protocol, len(payload)) + payload


def extension(next_header: int, content: bytes) -> bytes:
    assert len(content) % 8 == 6
    return bytes((next_header, len(content) // 8)) + content


def reason(data: bytes) -> str:
    with pytest.raises(MalformedPacket) as caught:
        ipv6.decode(data, 0)
    return caught.value.reason


def test_a_known_header_decodes_and_encodes() -> None:
    wire = bytes.fromhex("6b912345 0004 06 40") + SRC + DST + b"data"
    ip = ipv6.Ipv6(
        payload_offset=40,
        end=44,
        protocol=ipv6.TCP,
        payload_length=4,
        dscp=0x2E,
        ecn=1,
        flow_label=0x12345,
        hop_limit=64,
        src=SRC,
        dst=DST,
        fragment=None,
        next_header_at=6,
        problem=None,
    )
    assert ipv6.decode(wire, 0) == ip
    assert wire[:40] == ipv6.encode(SRC, DST, ipv6.TCP, 4, dscp=0x2E, ecn=1, flow_label=0x12345)


@EXAMPLES
@given(
    src=ADDRESSES,
    dst=ADDRESSES,
    dscp=st.integers(0, 63),
    ecn=st.integers(0, 3),
    flow_label=st.integers(0, 0xFFFFF),
    hop_limit=st.integers(0, 255),
    protocol=st.integers(0, 255).filter(lambda value: value not in ipv6.EXTENSION_HEADERS),
    payload=st.binary(max_size=40),
)
def test_scapy_and_we_agree_on_the_fixed_header_both_ways(
    src: bytes, dst: bytes, dscp: int, ecn: int, flow_label: int, hop_limit: int, protocol: int,
    payload: bytes,
) -> None:  # fmt: skip
    header = ipv6.encode(
        src, dst, protocol, len(payload),
        hop_limit=hop_limit, dscp=dscp, ecn=ecn, flow_label=flow_label,
    )  # fmt: skip
    theirs = IPv6(header)
    assert (theirs.version, theirs.tc, theirs.fl) == (6, dscp << 2 | ecn, flow_label)
    assert (theirs.plen, theirs.nh, theirs.hlim) == (len(payload), protocol, hop_limit)
    rebuilt = bytes(
        IPv6(
            src=theirs.src, dst=theirs.dst, tc=theirs.tc, fl=theirs.fl, nh=protocol, hlim=hop_limit
        )
        / payload
    )
    assert rebuilt == header + payload
    ip = ipv6.decode(memoryview(b"123" + rebuilt + b"4"), 3)
    assert (ip.src, ip.dst, ip.dscp, ip.ecn, ip.flow_label) == (src, dst, dscp, ecn, flow_label)
    assert (ip.hop_limit, ip.protocol, ip.payload_length) == (hop_limit, protocol, len(payload))
    assert rebuilt[ip.payload_offset - 3 : ip.end - 3] == payload


@EXAMPLES
@given(
    hop_by_hop=st.booleans(),
    others=st.lists(st.sampled_from(["destination", "routing", "atomic"]), max_size=6),
    pads=st.lists(st.integers(0, 5), max_size=3),
)
def test_extension_headers_of_scapy_are_walked_to_the_payload(
    hop_by_hop: bool, others: list[str], pads: list[int]
) -> None:
    options = [Pad1(), *(PadN(optdata=bytes(size)) for size in pads), RouterAlert(value=0)]
    theirs = IPv6(src="fd00:9::1", dst="fd00:9::2")
    if hop_by_hop:
        theirs /= IPv6ExtHdrHopByHop(options=options)
    for name in others:
        if name == "destination":
            theirs /= IPv6ExtHdrDestOpt(options=options)
        elif name == "routing":
            theirs /= IPv6ExtHdrRouting(addresses=["fd00::7"] * len(pads), segleft=0)
        else:
            theirs /= IPv6ExtHdrFragment(offset=0, m=0, id=77)
    theirs.lastlayer().nh = ipv6.TCP
    wire = bytes(theirs) + b"segment"
    wire = wire[:4] + (len(wire) - 40).to_bytes(2, "big") + wire[6:]
    ip = ipv6.decode(wire, 0)
    assert (ip.protocol, ip.fragment, ip.problem) == (ipv6.TCP, None, None)
    assert wire[ip.payload_offset : ip.end] == b"segment"
    assert wire[ip.next_header_at] == ipv6.TCP


@EXAMPLES
@given(offset=st.integers(0, 0x1FFF), more=st.booleans(), ident=st.integers(0, 0xFFFF_FFFF))
def test_fragments_agree_with_scapy_both_ways(offset: int, more: bool, ident: int) -> None:
    fragment = Fragment(offset * 8, more, ident)
    header = ipv6.encode_fragment(ipv6.DESTINATION_OPTIONS, fragment)
    theirs = IPv6ExtHdrFragment(header)
    assert (theirs.nh, theirs.offset, theirs.m, theirs.id) == (60, offset, more, ident)
    assert bytes(IPv6ExtHdrFragment(nh=60, offset=offset, m=int(more), id=ident)) == header
    ip = ipv6.decode(packet(ipv6.FRAGMENT_HEADER, header + extension(ipv6.TCP, PADDED)), 0)
    if offset or more:  # the walk does not look into a piece
        assert (ip.fragment, ip.protocol) == (fragment, ipv6.DESTINATION_OPTIONS)
        assert ip.payload_offset == 48
    else:
        assert (ip.fragment, ip.protocol, ip.payload_offset) == (None, ipv6.TCP, 56)


def test_the_reserved_bits_of_a_fragment_header_do_not_make_a_fragment() -> None:
    ip = ipv6.decode(packet(ipv6.FRAGMENT_HEADER, bytes.fromhex("06ff 0006 00000001")), 0)
    assert (ip.fragment, ip.protocol) == (None, ipv6.TCP)


@pytest.mark.parametrize("protocol", [ipv6.NO_NEXT_HEADER, 50, 51, 135, 253])
def test_a_protocol_that_is_not_walked_is_the_payload_s(protocol: int) -> None:
    ip = ipv6.decode(packet(ipv6.DESTINATION_OPTIONS, extension(protocol, PADDED)), 0)
    assert (ip.protocol, ip.payload_offset, ip.problem) == (protocol, 48, None)
    assert ip.next_header_at == 40  # where a parameter problem would point


def test_hop_by_hop_behind_another_header_is_an_unknown_next_header() -> None:
    payload = extension(ipv6.HOP_BY_HOP, PADDED) + extension(ipv6.TCP, PADDED)
    ip = ipv6.decode(packet(ipv6.DESTINATION_OPTIONS, payload), 0)
    assert ip.problem == Problem(ipv6.UNKNOWN_NEXT_HEADER, 40)


def test_a_routing_header_with_segments_left_is_an_erroneous_field() -> None:
    wire = bytes(
        IPv6(src="fd00:9::1", dst="fd00:9::2")
        / IPv6ExtHdrRouting(addresses=["fd00::7"], segleft=1, nh=ipv6.TCP)
    )
    assert ipv6.decode(b"xx" + wire, 2).problem == Problem(ipv6.ERRONEOUS_FIELD, 42)


@pytest.mark.parametrize(
    "kind, dst, expected",
    [
        (0x1E, DST, None),  # 00: skip
        (0x9E, DST, Problem(ipv6.UNKNOWN_OPTION, 42)),  # 10: report
        (0x9E, ALL_NODES, Problem(ipv6.UNKNOWN_OPTION, 42)),
        (0xDE, DST, Problem(ipv6.UNKNOWN_OPTION, 42)),  # 11: report unless multicast
        (0xC2, DST, Problem(ipv6.UNKNOWN_OPTION, 42)),  # jumbo payload
    ],
)
def test_the_high_bits_of_an_unknown_option_say_what_to_do(
    kind: int, dst: bytes, expected: Problem | None
) -> None:
    payload = bytes(IPv6ExtHdrHopByHop(options=[HBHOptUnknown(otype=kind, optdata=b"1234")], nh=6))
    assert ipv6.decode(packet(ipv6.HOP_BY_HOP, payload, dst), 0).problem == expected


@pytest.mark.parametrize("kind, dst", [(0x5E, DST), (0x5E, ALL_NODES), (0xDE, ALL_NODES)])
def test_an_option_that_asks_for_silence_is_dropped_in_silence(kind: int, dst: bytes) -> None:
    payload = extension(ipv6.TCP, bytes((kind, 4, 0, 0, 0, 0)))
    assert reason(packet(ipv6.DESTINATION_OPTIONS, payload, dst)) == "ipv6-option-discard"


@pytest.mark.parametrize("options", [b"\x01\x03\0\0\0\x01", b"\0\0\0\0\0\x01", b"\x01\x05\0\0\0\0"])
def test_an_option_that_leaves_its_header_is_malformed(options: bytes) -> None:
    assert reason(packet(ipv6.DESTINATION_OPTIONS, extension(6, options))) == "ipv6-option-length"


def test_the_walk_is_bounded_in_headers_and_in_options() -> None:
    chain = extension(ipv6.DESTINATION_OPTIONS, PADDED)
    last = extension(ipv6.TCP, PADDED)
    most = chain * (ipv6.MAX_EXTENSION_HEADERS - 1) + last
    assert ipv6.decode(packet(ipv6.DESTINATION_OPTIONS, most), 0).protocol == ipv6.TCP
    assert reason(packet(ipv6.DESTINATION_OPTIONS, chain + most)) == "ipv6-too-many-extensions"
    pads = extension(ipv6.TCP, bytes(6 + 8 * 8))
    assert reason(packet(ipv6.DESTINATION_OPTIONS, pads)) == "ipv6-too-many-options"


def test_a_packet_cut_anywhere_is_truncated() -> None:
    wire = packet(ipv6.TCP, bytes(20))
    assert {reason(wire[:size]) for size in range(len(wire))} == {"ipv6-truncated"}


@pytest.mark.parametrize(
    "payload", [b"", bytes(7), b"\x06\x01" + PADDED, b"\x06\xff" + bytes(2000)]
)
@pytest.mark.parametrize("protocol", [ipv6.HOP_BY_HOP, ipv6.ROUTING, ipv6.DESTINATION_OPTIONS])
def test_an_extension_header_that_leaves_the_packet_is_malformed(
    protocol: int, payload: bytes
) -> None:
    assert reason(packet(protocol, payload)) == "ipv6-extension-truncated"


def test_another_version_is_refused() -> None:
    assert reason(b"\x45" + packet(ipv6.TCP, b"")[1:]) == "ipv6-version"


@EXAMPLES
@given(st.binary(max_size=200), st.sampled_from([0, 43, 44, 60, 6]))
def test_random_bytes_raise_nothing_but_malformed_packet(data: bytes, protocol: int) -> None:
    for wire in (data, packet(protocol, data), packet(protocol, b"\x3c\x00" + data)):
        try:
            ip = ipv6.decode(wire, 0)
        except MalformedPacket:
            continue
        assert 40 <= ip.payload_offset <= ip.end <= len(wire)
