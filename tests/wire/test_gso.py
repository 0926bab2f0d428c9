from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, in4_chksum
from scapy.layers.inet6 import IPv6, in6_chksum
from scapy.utils import checksum as scapy_checksum

from ustack.errors import MalformedPacket
from ustack.wire import gso, ipv4, ipv6, tcp, udp, virtio
from ustack.wire.checksum import pseudo_sum
from ustack.wire.tcp_options import encode_options

EXAMPLES = settings(derandomize=True, max_examples=100, deadline=None)

SRC, DST = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])
SRC6 = bytes.fromhex("fd000009000000000000000000000001")
DST6 = bytes.fromhex("fd000009000000000000000000000002")
ALL_FLAGS = tcp.FIN | tcp.PSH | tcp.ACK | tcp.CWR | tcp.ECE
PAYLOAD = bytes(n % 251 for n in range(5000))
DESTINATION_OPTIONS = bytes((ipv6.TCP, 0, 1, 4, 0, 0, 0, 0))


class Piece(NamedTuple):
    ident: int | None
    header: tcp.TcpHeader
    payload: bytes


def segment(
    version: int,
    payload: bytes,
    *,
    seq: int = 0xFFFF_FF00,
    flags: int = ALL_FLAGS,
    options: bytes = b"",
    ident: int = 0xFFFF,
    extension: bytes = b"",
    gso_size: int = 1000,
    gso_type: int | None = None,
    flags_virtio: int = virtio.NEEDS_CSUM,
    csum_offset: int = tcp.CHECKSUM_OFFSET,
    shift: int = 0,
) -> bytes:
    """A frame as a stack with offload sends it: partial checksum, one gso_size for all pieces."""
    src, dst = (SRC, DST) if version == 4 else (SRC6, DST6)
    length = tcp.HEADER_LEN + len(options) + len(payload)
    header = tcp.encode(
        80, 40000, seq, 7, flags, 1234,
        options=options, checksum=pseudo_sum(src, dst, ipv4.TCP, length),
    )  # fmt: skip
    if version == 4:
        ip = ipv4.encode(src, dst, ipv4.TCP, length, ident=ident, options=extension)
    else:
        protocol = ipv6.DESTINATION_OPTIONS if extension else ipv6.TCP
        ip = ipv6.encode(src, dst, protocol, len(extension) + length) + extension
    if gso_type is None:
        gso_type = virtio.GSO_TCPV4 if version == 4 else virtio.GSO_TCPV6
    start = len(ip) + shift
    first = virtio.HEADER.pack(
        flags_virtio, gso_type, len(ip) + len(header), gso_size, start, csum_offset
    )
    return first + ip + header + payload


def verified(frame: bytes) -> Piece:
    """The parts of a plain frame, after scapy agreed with each of its checksums."""
    assert frame.startswith(virtio.PLAIN)
    packet = frame[virtio.HEADER_LEN :]
    ident: int | None = None
    if packet[0] >> 4 == 4:
        v4 = ipv4.decode(packet, 0)
        ident, start = v4.ident, v4.header_len
        assert v4.total_length == len(packet)
        assert scapy_checksum(packet[:start]) == 0
        assert in4_chksum(ipv4.TCP, IP(src="10.9.0.1", dst="10.9.0.2"), packet[start:]) == 0
    else:
        v6 = ipv6.decode(packet, 0)
        start = v6.payload_offset
        assert v6.end == len(packet)
        assert in6_chksum(ipv6.TCP, IPv6(src="fd00:9::1", dst="fd00:9::2"), packet[start:]) == 0
    header = tcp.decode(packet, start, len(packet))
    return Piece(ident, header, packet[start + header.data_offset :])


def reason(frame: bytes) -> str:
    with pytest.raises(MalformedPacket) as caught:
        gso.split(frame)
    return caught.value.reason


@EXAMPLES
@given(
    version=st.sampled_from([4, 6]),
    size=st.integers(0, 5000),
    gso_size=st.integers(200, 2000),
    seq=st.integers(0, 0xFFFF_FFFF),
    flags=st.integers(0, 0x1FF),
    ident=st.integers(0, 0xFFFF),
    stamps=st.booleans(),
    extended=st.booleans(),
    ecn=st.sampled_from([0, virtio.GSO_ECN]),
)
def test_the_pieces_of_a_super_segment_are_right_and_carry_all_of_it(
    version: int, size: int, gso_size: int, seq: int, flags: int, ident: int, stamps: bool,
    extended: bool, ecn: int,
) -> None:  # fmt: skip
    gso_type = ecn | (virtio.GSO_TCPV4 if version == 4 else virtio.GSO_TCPV6)
    extension = b"\x94\x04\0\0" if version == 4 else DESTINATION_OPTIONS
    frame = segment(
        version, PAYLOAD[:size], seq=seq, flags=flags, ident=ident, gso_size=gso_size,
        options=encode_options(tsval=1, tsecr=2) if stamps else b"", gso_type=gso_type,
        extension=extension if extended else b"",
    )  # fmt: skip
    pieces = [verified(piece) for piece in gso.split(frame)]

    assert b"".join(piece.payload for piece in pieces) == PAYLOAD[:size]
    assert len(pieces) == max(1, -(-size // gso_size))
    assert all(len(piece.payload) == gso_size for piece in pieces[:-1])
    for number, piece in enumerate(pieces):
        assert piece.header.seq == (seq + number * gso_size) & 0xFFFF_FFFF
        assert piece.ident == (None if version == 6 else (ident + number) & 0xFFFF)
        assert (piece.header.ack, piece.header.window) == (7, 1234)
        first, last = number == 0, number == len(pieces) - 1
        absent = (0 if first else tcp.CWR) | (0 if last else tcp.FIN | tcp.PSH)
        assert piece.header.flags == flags & ~absent


def test_options_are_repeated_on_each_piece() -> None:
    options = encode_options(tsval=0x1234, tsecr=0x5678)
    frames = gso.split(segment(4, PAYLOAD, options=options))
    assert len(frames) == 5
    assert all(frame[10 + 40 : 10 + 52] == options for frame in frames)


@pytest.mark.parametrize("version", [4, 6])
def test_a_longest_super_segment_is_cut(version: int) -> None:
    payload = bytes(65535 - 60)
    pieces = [verified(piece) for piece in gso.split(segment(version, payload, gso_size=1448))]
    assert sum(len(piece.payload) for piece in pieces) == len(payload)


@pytest.mark.parametrize("version", [4, 6])
def test_a_partial_checksum_without_gso_is_completed(version: int) -> None:
    frame = segment(version, PAYLOAD[:777], gso_type=virtio.GSO_NONE, gso_size=0)
    (piece,) = gso.split(frame)
    assert verified(piece).payload == PAYLOAD[:777]
    assert verified(piece).header.flags == ALL_FLAGS
    assert gso.complete_checksum(frame) == piece


def test_a_plain_frame_stays_as_it_is() -> None:
    frame = gso.complete_checksum(segment(4, b"data", gso_type=virtio.GSO_NONE))
    assert gso.split(frame) == [frame]
    valid = virtio.HEADER.pack(virtio.DATA_VALID, 0, 0, 0, 0, 0) + frame[10:]
    assert gso.split(valid) == [frame]


def test_a_udp_checksum_that_comes_out_as_zero_is_sent_as_ffff() -> None:
    for payload in (b"data", b"\0\0"):
        length = udp.HEADER_LEN + len(payload)
        partial = pseudo_sum(SRC, DST, ipv4.UDP, length)
        header = udp.encode(80, 40000, len(payload), partial)
        if payload == b"\0\0":  # make everything sum to 0xFFFF
            total = (partial + 80 + 40000 + length) % 65535
            payload = (65535 - total).to_bytes(2, "big")
        packet = ipv4.encode(SRC, DST, ipv4.UDP, length) + header + payload
        frame = virtio.HEADER.pack(virtio.NEEDS_CSUM, 0, 0, 0, 20, udp.CHECKSUM_OFFSET) + packet
        (completed,) = gso.split(frame)
        theirs = IP(src="10.9.0.1", dst="10.9.0.2") / UDP(sport=80, dport=40000) / payload
        assert completed[30:] == bytes(theirs)[20:]
    assert completed[36:38] == b"\xff\xff"


@pytest.mark.parametrize("size", range(10))
def test_a_cut_virtio_header_is_malformed(size: int) -> None:
    assert reason(bytes(size)) == "virtio-truncated"
    with pytest.raises(MalformedPacket, match="virtio-truncated"):
        gso.complete_checksum(bytes(size))


def test_only_split_takes_a_super_segment() -> None:
    with pytest.raises(MalformedPacket, match="virtio-gso"):
        gso.complete_checksum(segment(4, PAYLOAD))


@pytest.mark.parametrize("start, offset", [(20, 23), (44, 0), (0xFFFF, 16), (0, 0xFFFF)])
def test_a_checksum_field_outside_the_packet_is_malformed(start: int, offset: int) -> None:
    frame = virtio.HEADER.pack(virtio.NEEDS_CSUM, 0, 0, 0, start, offset) + bytes(44)
    assert reason(frame) == "virtio-checksum-field"


@pytest.mark.parametrize(
    "frame",
    [
        segment(4, PAYLOAD, gso_size=0),
        segment(4, PAYLOAD, flags_virtio=0),
        segment(4, PAYLOAD, csum_offset=6),
        segment(4, PAYLOAD, shift=-4),
        segment(6, PAYLOAD, shift=4),
        segment(4, PAYLOAD, gso_type=virtio.GSO_UDP),
        segment(4, PAYLOAD, gso_type=virtio.GSO_UDP_L4),
        segment(4, PAYLOAD) + b"more than the total length",
        segment(6, PAYLOAD) + b"more than the payload length",
    ],
)
def test_a_virtio_header_that_contradicts_the_packet_is_malformed(frame: bytes) -> None:
    assert reason(frame) == "virtio-gso"


@pytest.mark.parametrize(
    "ip, kind",
    [
        (ipv4.encode(SRC, DST, ipv4.UDP, 20), virtio.GSO_TCPV4),
        (ipv4.encode(SRC, DST, ipv4.TCP, 20, more_fragments=True), virtio.GSO_TCPV4),
        (ipv4.encode(SRC, DST, ipv4.TCP, 20, fragment_offset=8), virtio.GSO_TCPV4),
        (ipv6.encode(SRC6, DST6, ipv6.UDP, 20), virtio.GSO_TCPV6),
        (
            ipv6.encode(SRC6, DST6, ipv6.FRAGMENT_HEADER, 28)
            + ipv6.encode_fragment(ipv6.TCP, ipv6.Fragment(0, True, 1)),
            virtio.GSO_TCPV6,
        ),
        (
            ipv6.encode(SRC6, DST6, ipv6.DESTINATION_OPTIONS, 28)
            + bytes((ipv6.TCP, 0, 0x9E, 4, 0, 0, 0, 0)),
            virtio.GSO_TCPV6,
        ),
    ],
)
def test_what_is_no_whole_tcp_packet_is_not_cut(ip: bytes, kind: int) -> None:
    first = virtio.HEADER.pack(virtio.NEEDS_CSUM, kind, 0, 100, len(ip), tcp.CHECKSUM_OFFSET)
    assert reason(first + ip + tcp.encode(1, 2, 3, 4, tcp.ACK, 5)) == "virtio-gso"


def test_a_family_other_than_the_gso_type_says_is_malformed() -> None:
    assert reason(segment(4, PAYLOAD, gso_type=virtio.GSO_TCPV6)) == "ipv6-version"
    assert reason(segment(6, PAYLOAD, gso_type=virtio.GSO_TCPV4)) == "ipv4-version"


@EXAMPLES
@given(st.binary(max_size=120), st.integers(0, 200))
def test_random_bytes_raise_nothing_but_malformed_packet(noise: bytes, at: int) -> None:
    whole = segment(4, PAYLOAD[:100])
    for frame in (noise, whole[:at] + noise + whole[at + len(noise) :], whole[:at] + noise):
        try:
            pieces = gso.split(frame)
        except MalformedPacket:
            continue
        assert all(piece.startswith(virtio.PLAIN) for piece in pieces)
