import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, IPOption_NOP

from ustack.errors import MalformedPacket
from ustack.wire import ipv4
from ustack.wire.checksum import checksum

EXAMPLES = settings(derandomize=True, max_examples=150, deadline=None)
ADDRESSES = st.binary(min_size=4, max_size=4)

# The worked example of https://en.wikipedia.org/wiki/Internet_checksum: checksum 0xB861
KNOWN = bytes.fromhex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7") + bytes(0x73 - 20)


def text(address: bytes) -> str:
    return ".".join(map(str, address))


def with_checksum(header: bytes) -> bytes:
    return header[:10] + checksum(header[:10], header[12:]).to_bytes(2, "big") + header[12:]


def reason(packet: bytes, start: int = 0) -> str:
    with pytest.raises(MalformedPacket) as caught:
        ipv4.decode(packet, start)
    return caught.value.reason


def test_a_known_header_decodes() -> None:
    assert ipv4.decode(KNOWN, 0) == ipv4.Ipv4(
        header_len=20,
        total_length=0x73,
        dscp=0,
        ecn=0,
        ident=0,
        dont_fragment=True,
        more_fragments=False,
        fragment_offset=0,
        ttl=64,
        protocol=ipv4.UDP,
        src=bytes([192, 168, 0, 1]),
        dst=bytes([192, 168, 0, 199]),
        options=b"",
    )


def test_a_known_header_is_encoded() -> None:
    src, dst = bytes([192, 168, 0, 1]), bytes([192, 168, 0, 199])
    assert ipv4.encode(src, dst, ipv4.UDP, 0x73 - 20, dont_fragment=True) == KNOWN[:20]


@EXAMPLES
@given(
    src=ADDRESSES,
    dst=ADDRESSES,
    tos=st.integers(0, 255),
    ident=st.integers(0, 0xFFFF),
    flags=st.integers(0, 3),
    frag=st.integers(0, 0x1FFF),
    ttl=st.integers(0, 255),
    proto=st.integers(0, 255),
    nops=st.integers(0, 40),
    payload=st.binary(max_size=40),
    before=st.integers(0, 11),
    after=st.integers(0, 11),
)
def test_what_scapy_builds_we_decode(
    src: bytes, dst: bytes, tos: int, ident: int, flags: int, frag: int, ttl: int, proto: int,
    nops: int, payload: bytes, before: int, after: int,
) -> None:  # fmt: skip
    packet = IP(
        src=text(src), dst=text(dst), tos=tos, id=ident, flags=flags, frag=frag, ttl=ttl,
        proto=proto, options=[IPOption_NOP()] * nops,
    )  # fmt: skip
    wire = bytes(packet / payload)
    options = (b"\x01" * nops).ljust(-(-nops // 4) * 4, b"\0")
    ip = ipv4.decode(memoryview(bytes(before) + wire + bytes(after)), before)
    assert (ip.src, ip.dst, ip.dscp << 2 | ip.ecn, ip.ident) == (src, dst, tos, ident)
    assert (ip.dont_fragment, ip.more_fragments) == (bool(flags & 2), bool(flags & 1))
    assert (ip.fragment_offset, ip.ttl, ip.protocol) == (frag * 8, ttl, proto)
    assert (ip.options, ip.header_len) == (options, 20 + len(options))
    assert wire[ip.header_len : ip.total_length] == payload


@EXAMPLES
@given(
    src=ADDRESSES,
    dst=ADDRESSES,
    dscp=st.integers(0, 63),
    ecn=st.integers(0, 3),
    ident=st.integers(0, 0xFFFF),
    dont_fragment=st.booleans(),
    more_fragments=st.booleans(),
    frag=st.integers(0, 0x1FFF),
    ttl=st.integers(0, 255),
    protocol=st.integers(0, 255),
    payload=st.binary(max_size=40),
    nops=st.integers(0, 40),
)
def test_what_we_encode_scapy_and_we_decode(
    src: bytes, dst: bytes, dscp: int, ecn: int, ident: int, dont_fragment: bool,
    more_fragments: bool, frag: int, ttl: int, protocol: int, payload: bytes, nops: int,
) -> None:  # fmt: skip
    header = ipv4.encode(
        src, dst, protocol, len(payload), ttl=ttl, ident=ident, dscp=dscp, ecn=ecn,
        dont_fragment=dont_fragment, more_fragments=more_fragments, fragment_offset=frag * 8,
        options=b"\x01" * nops,
    )  # fmt: skip
    theirs = IP(header + payload)
    assert (theirs.src, theirs.dst, theirs.tos) == (text(src), text(dst), dscp << 2 | ecn)
    assert (theirs.id, theirs.frag, theirs.ttl, theirs.proto) == (ident, frag, ttl, protocol)
    assert int(theirs.flags) == dont_fragment << 1 | more_fragments
    assert (theirs.ihl * 4, theirs.len) == (len(header), len(header) + len(payload))
    assert with_checksum(header) == header
    padded = (b"\x01" * nops).ljust(-(-nops // 4) * 4, b"\0")
    assert ipv4.decode(header + payload, 0) == (
        len(header), len(header) + len(payload), dscp, ecn, ident, dont_fragment, more_fragments,
        frag * 8, ttl, protocol, src, dst, padded,
    )  # fmt: skip


def test_a_packet_cut_anywhere_is_truncated() -> None:
    assert {reason(KNOWN[:size]) for size in range(len(KNOWN))} == {"ipv4-truncated"}


def test_another_version_is_refused() -> None:
    assert reason(with_checksum(b"\x65" + KNOWN[1:])) == "ipv4-version"


def test_a_header_shorter_than_five_words_is_refused() -> None:
    assert reason(with_checksum(b"\x44" + KNOWN[1:])) == "ipv4-header-length"


def test_a_header_longer_than_the_buffer_is_truncated() -> None:
    assert reason(b"\x4f" + KNOWN[1:40]) == "ipv4-truncated"


def test_a_total_length_inside_the_header_is_refused() -> None:
    assert reason(KNOWN[:2] + b"\x00\x13" + KNOWN[4:]) == "ipv4-total-length"


@pytest.mark.parametrize("bit", [n for n in range(160) if n // 8 not in (0, 2, 3)])
def test_every_flipped_bit_of_the_header_fails_the_checksum(bit: int) -> None:
    broken = bytearray(KNOWN)
    broken[bit // 8] ^= 0x80 >> bit % 8
    assert reason(bytes(broken)) == "ipv4-checksum"


@EXAMPLES
@given(st.binary(max_size=80), st.integers(0, 10))
def test_random_bytes_are_malformed_or_a_header_that_lies_inside_them(
    data: bytes, start: int
) -> None:
    for packet in (data, b"\x45\0\0\x20" + data, with_checksum(b"\x45\0\0\x20" + data[:16]) + data):
        try:
            header = ipv4.decode(packet, start)
        except MalformedPacket:
            continue
        assert 20 <= header.header_len <= header.total_length <= len(packet) - start


def test_options_are_walked_in_order_past_nops_and_up_to_the_end_of_the_list() -> None:
    options = bytes.fromhex("01 94 04 0000 01 83 03 04 00 07 27")
    assert list(ipv4.walk_options(options)) == [
        (1, ipv4.OPTION_ROUTER_ALERT, b"\0\0"),
        (6, ipv4.OPTION_LOOSE_SOURCE_ROUTE, b"\x04"),
    ]
    assert list(ipv4.walk_options(b"\x01\x01\x01\x01")) == []


@pytest.mark.parametrize("options", [b"\x07", b"\x07\x00", b"\x07\x01", b"\x01\x07\x04\x00"])
def test_an_option_length_that_makes_no_sense_is_malformed(options: bytes) -> None:
    with pytest.raises(MalformedPacket, match="ipv4-option-length"):
        list(ipv4.walk_options(options))
