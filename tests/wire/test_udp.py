from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from ustack.errors import MalformedPacket
from ustack.wire import udp

EXAMPLES = settings(derandomize=True, max_examples=50, deadline=None)
WORDS = st.integers(0, 0xFFFF)


@EXAMPLES
@given(WORDS, WORDS, WORDS, st.binary(max_size=20))
def test_scapy_and_we_agree_both_ways(src: int, dst: int, field: int, payload: bytes) -> None:
    wire = udp.encode(src, dst, len(payload), field) + payload
    assert wire == bytes(UDP(sport=src, dport=dst, chksum=field) / payload)
    header = udp.decode(memoryview(b"12" + wire + b"3"), 2, 2 + len(wire))
    assert header == (src, dst, 8 + len(payload), field)


@pytest.mark.parametrize("length", [0, 7, 13])
def test_a_length_outside_the_datagram_is_malformed(length: int) -> None:
    wire = udp.HEADER.pack(1, 2, length, 0) + b"data"
    with pytest.raises(MalformedPacket, match="udp-length"):
        udp.decode(wire, 0, len(wire))


def test_a_cut_header_is_truncated() -> None:
    for end in range(8):
        with pytest.raises(MalformedPacket, match="udp-truncated"):
            udp.decode(bytes(12), 0, end)
    with pytest.raises(MalformedPacket, match="udp-truncated"):
        udp.decode(bytes(12), 0, 13)


ENDS = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}


@pytest.mark.parametrize("version", [4, 6])
@EXAMPLES
@given(WORDS, WORDS, st.binary(max_size=40))
def test_scapy_makes_the_same_checksum(version: int, src: int, dst: int, payload: bytes) -> None:
    ours, theirs = ENDS[version]
    layer = IP(src=ours, dst=theirs) if version == 4 else IPv6(src=ours, dst=theirs)
    ends = ip_address(ours).packed, ip_address(theirs).packed
    wire = udp.encode_datagram(*ends, src, dst, payload)
    assert bytes(layer / UDP(sport=src, dport=dst) / payload).endswith(wire)
    udp.verify(udp.decode(wire, 0, len(wire)), *ends, wire, 0)


def test_a_checksum_of_zero_goes_as_all_ones() -> None:
    # RFC 768: zero says that there is none
    ends = bytes(4), bytes(4)
    first = udp.encode_datagram(*ends, 1, 2, bytes(2))
    filler = first[6:8]  # completes the sum
    wire = udp.encode_datagram(*ends, 1, 2, filler)
    assert wire[6:8] == b"\xff\xff"
    udp.verify(udp.decode(wire, 0, len(wire)), *ends, wire, 0)


def test_none_is_right_over_ipv4_and_missing_over_ipv6() -> None:
    wire = udp.encode(1, 2, 3) + b"abc"
    header = udp.decode(wire, 0, len(wire))
    udp.verify(header, bytes(4), bytes(4), wire, 0)
    with pytest.raises(MalformedPacket, match="udp-checksum"):
        udp.verify(header, bytes(16), bytes(16), wire, 0)


@pytest.mark.parametrize("size", [4, 16])
def test_a_wrong_checksum_is_malformed(size: int) -> None:
    ends = bytes(size), b"\1" * size
    wire = bytearray(udp.encode_datagram(*ends, 1, 2, b"odd"))
    wire[-1] ^= 1
    with pytest.raises(MalformedPacket, match="udp-checksum"):
        udp.verify(udp.decode(wire, 0, len(wire)), *ends, wire, 0)
