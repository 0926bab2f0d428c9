import io
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from tests.device.frames import OURS, tcp_frame
from ustack.errors import MalformedFile
from ustack.pcapng import (
    LINK_ETHERNET,
    LINK_IPV4,
    LINK_IPV6,
    LINK_LINUX_SLL,
    LINK_LINUX_SLL2,
    LINK_LOOP,
    LINK_NULL,
    LINK_RAW,
    Direction,
    Reader,
    Record,
    Writer,
    ip_packet,
    read,
)
from ustack.wire.virtio import HEADER_LEN

V4 = tcp_frame(b"payload")[HEADER_LEN:]
V6 = tcp_frame(b"payload", src=OURS[1], dst="fd00:9::1")[HEADER_LEN:]
TIME_NS = 1_700_000_000_123_456_789


def records(data: bytes) -> list[Record]:
    return list(Reader(io.BytesIO(data), "test.pcapng"))


def written(fill: Callable[[Writer], None]) -> bytes:
    file = io.BytesIO()
    writer = Writer(file)
    writer.interface(LINK_RAW, name="ustack0", description="a test")
    fill(writer)
    assert writer.size == len(file.getvalue())
    return file.getvalue()


# Files of other writers, by hand


def block(order: str, block_type: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", block_type) + length + body + length


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, link_type: int, snap_length: int = 0, options: bytes = b"") -> bytes:
    return block(order, 1, struct.pack(order + "HHI", link_type, 0, snap_length) + options)


def enhanced(order: str, number: int, units: int, packet: bytes, options: bytes = b"") -> bytes:
    size = len(packet)
    head = struct.pack(order + "IIIII", number, units >> 32, units & 0xFFFF_FFFF, size, size)
    return block(order, 6, head + packet + bytes(-size % 4) + options)


def pcap(order: str, magic: int, packets: list[tuple[int, int, bytes]], link_type: int) -> bytes:
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)
    for seconds, fraction, packet in packets:
        data += struct.pack(order + "IIII", seconds, fraction, len(packet), len(packet)) + packet
    return data


# What we write


def test_what_is_written_is_read_back() -> None:
    def fill(writer: Writer) -> None:
        second = writer.interface(LINK_ETHERNET, name="eth0")
        writer.packet(V4, TIME_NS, comment="ESTABLISHED -> CLOSE_WAIT", direction=Direction.IN)
        writer.packet(memoryview(V6), TIME_NS + 1, direction=Direction.OUT)
        writer.packet(b"abc", TIME_NS + 2, interface=second)

    first, second, third = records(written(fill))
    assert first == Record(
        time_ns=TIME_NS,
        packet=V4,
        link_type=LINK_RAW,
        comment="ESTABLISHED -> CLOSE_WAIT",
        direction=Direction.IN,
        original_length=len(V4),
        interface="ustack0",
    )
    assert (second.packet, second.direction, second.comment) == (V6, Direction.OUT, "")
    assert (third.packet, third.link_type, third.interface) == (b"abc", LINK_ETHERNET, "eth0")
    assert [record.time_ns - TIME_NS for record in (first, second, third)] == [0, 1, 2]


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=100),
            st.integers(0, 2**63),
            st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")),
            st.sampled_from(Direction),
        )
    )
)
def test_every_packet_time_comment_and_direction_survives(
    packets: list[tuple[bytes, int, str, Direction]],
) -> None:
    def fill(writer: Writer) -> None:
        for packet, time_ns, comment, direction in packets:
            writer.packet(packet, time_ns, comment=comment, direction=direction)

    assert [
        (record.packet, record.time_ns, record.comment, record.direction)
        for record in records(written(fill))
    ] == packets


def test_each_block_is_one_write() -> None:
    class Counting(io.BytesIO):
        writes = 0

        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            self.writes += 1
            return super().write(data)

    file = Counting()
    writer = Writer(file)
    writer.interface(LINK_RAW)
    writer.packet(V4, 0, comment="one")
    assert file.writes == 3


def test_a_block_written_in_part_is_an_error() -> None:
    class Full(io.BytesIO):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            return super().write(data[:7])

    with pytest.raises(OSError, match="only 7 of"):
        Writer(Full())


def test_tshark_reads_comments_names_directions_and_nanoseconds(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")

    def fill(writer: Writer) -> None:
        writer.packet(V4, TIME_NS, comment="fast retransmit ✓", direction=Direction.OUT)
        writer.packet(V6, TIME_NS + 1, direction=Direction.IN)

    path = tmp_path / "test.pcapng"
    path.write_bytes(written(fill))
    fields = ["frame.comment", "frame.time_epoch", "frame.interface_name"]
    fields += ["frame.interface_description", "frame.packet_flags_direction", "tcp.payload"]
    command = ["tshark", "-r", str(path), "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split("\t") for line in shown.splitlines()]
    assert [row[0] for row in rows] == ["fast retransmit ✓", ""]
    assert [row[1] for row in rows] == ["1700000000.123456789", "1700000000.123456790"]
    assert [row[2:4] for row in rows] == [["ustack0", "a test"]] * 2
    assert [int(row[4], 0) for row in rows] == [Direction.OUT, Direction.IN]
    assert [row[5] for row in rows] == [b"payload".hex()] * 2


def test_scapy_reads_the_same_packets(tmp_path: Path) -> None:
    path = tmp_path / "test.pcapng"
    path.write_bytes(written(lambda writer: writer.packet(V4, TIME_NS, comment="a comment")))
    with RawPcapNgReader(str(path)) as reader:
        ((packet, metadata),) = list(reader)
    assert packet == V4
    assert metadata.linktype == LINK_RAW
    assert metadata.tshigh << 32 | metadata.tslow == TIME_NS
    assert metadata.tsresol == 1_000_000_000
    assert metadata.comments == [b"a comment"]


# What others write


@pytest.mark.parametrize("order", ["<", ">"])
def test_either_byte_order_is_read(order: str) -> None:
    options = option(order, 2, b"eth0") + option(order, 9, b"\x09") + option(order, 0, b"")
    packet_options = (
        option(order, 1, "größer".encode())
        + option(order, 1, b"second comment")
        + option(order, 2, struct.pack(order + "I", 2))
        + option(order, 0, b"")
    )
    (record,) = records(
        section(order)
        + interface(order, LINK_RAW, options=options)
        + enhanced(order, 0, TIME_NS, V4, packet_options)
    )
    assert record.packet == V4
    assert record.time_ns == TIME_NS
    assert record.comment == "größer\nsecond comment"
    assert record.direction is Direction.OUT
    assert record.interface == "eth0"


@pytest.mark.parametrize(
    "options,units,time_ns",
    [
        (b"", 1_500_000, 1_500_000_000),
        (option("<", 9, b"\x03"), 1_500, 1_500_000_000),
        (option("<", 9, b"\x8a"), 1536, 1_500_000_000),
        (option("<", 14, struct.pack("<q", 100)), 1_500_000, 101_500_000_000),
        (option("<", 14, struct.pack("<q", -1)), 1_500_000, 500_000_000),
    ],
)
def test_time_resolution_and_offset_are_applied(options: bytes, units: int, time_ns: int) -> None:
    (record,) = records(
        section("<") + interface("<", LINK_RAW, options=options) + enhanced("<", 0, units, V4)
    )
    assert record.time_ns == time_ns


def test_several_sections_each_have_their_interfaces() -> None:
    data = (
        section("<")
        + interface("<", LINK_RAW)
        + interface("<", LINK_ETHERNET)
        + enhanced("<", 1, 0, V4)
        + section(">")
        + interface(">", LINK_LINUX_SLL)
        + enhanced(">", 0, 0, V6)
    )
    assert [record.link_type for record in records(data)] == [LINK_ETHERNET, LINK_LINUX_SLL]
    with pytest.raises(MalformedFile, match="interface 1, which is not described"):
        records(data + enhanced(">", 1, 0, V4))


def test_simple_packets_are_cut_at_the_snap_length() -> None:
    whole = block("<", 3, struct.pack("<I", len(V4)) + V4)
    cut = block("<", 3, struct.pack("<I", len(V4)) + V4[:40])
    (record,) = records(section("<") + interface("<", LINK_RAW) + whole)
    assert (record.packet, record.time_ns) == (V4, 0)
    (record,) = records(section("<") + interface("<", LINK_RAW, 40) + cut)
    assert (record.packet, record.original_length) == (V4[:40], len(V4))


def test_unknown_blocks_are_skipped() -> None:
    unknown = block("<", 0x0BAD, b"custom things")
    data = section("<") + unknown + interface("<", LINK_RAW) + unknown + enhanced("<", 0, 0, V4)
    assert [record.packet for record in records(data + unknown)] == [V4]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic,unit_ns", [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_the_old_pcap_format_is_read(order: str, magic: int, unit_ns: int) -> None:
    packets = [(1_700_000_000, 123_456, V4), (1_700_000_001, 0, V6)]
    first, second = records(pcap(order, magic, packets, LINK_RAW))
    assert first.packet == V4
    assert first.time_ns == 1_700_000_000_000_000_000 + 123_456 * unit_ns
    assert second.packet == V6
    assert first.link_type == second.link_type == LINK_RAW


def test_a_file_without_packets_is_fine() -> None:
    assert records(section("<")) == []
    assert records(pcap("<", 0xA1B2C3D4, [], LINK_RAW)) == []


# What is no capture, or a damaged one


@pytest.mark.parametrize("data", [b"", b"\x0a", b"#!/bin/sh\n", bytes(100)])
def test_a_foreign_file_is_refused(data: bytes) -> None:
    with pytest.raises(
        MalformedFile, match=r"test\.pcapng: at byte 0: neither a pcapng nor a pcap"
    ):
        records(data)


def test_every_truncation_is_found_after_the_packets_before_it() -> None:
    start = section("<") + interface("<", LINK_RAW) + enhanced("<", 0, 0, V4)
    whole = start + enhanced("<", 0, 0, V6)
    for size in range(len(start) + 1, len(whole)):
        reader = iter(Reader(io.BytesIO(whole[:size]), "cut.pcapng"))
        assert next(reader).packet == V4
        with pytest.raises(MalformedFile, match=f"cut.pcapng: at byte {len(start)}: the file ends"):
            next(reader)


def test_every_truncation_of_a_pcap_file_is_found() -> None:
    start = pcap("<", 0xA1B2C3D4, [(0, 0, V4)], LINK_RAW)
    whole = pcap("<", 0xA1B2C3D4, [(0, 0, V4), (0, 0, V6)], LINK_RAW)
    for size in range(len(start) + 1, len(whole)):
        with pytest.raises(MalformedFile, match=f"at byte {len(start)}: the file ends"):
            records(whole[:size])


BEGIN = section("<") + interface("<", LINK_RAW)


@pytest.mark.parametrize(
    "data,reason",
    [
        (section("<")[:8] + bytes(20), "byte-order magic"),
        (BEGIN + struct.pack("<II", 6, 33), "block length 33"),
        (BEGIN + struct.pack("<II", 6, 8), "block length 8"),
        (BEGIN + struct.pack("<II", 6, 0xFFFF_FFFC), "block length"),
        (BEGIN + block("<", 6, bytes(8))[:-4] + b"\x08\0\0\0", "two lengths"),
        (BEGIN + block("<", 6, bytes(8)), "too short"),
        (BEGIN + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 99, 99) + bytes(4)), "not fit"),
        (BEGIN + enhanced("<", 0, 0, V4, b"\x01\0\xff\0"), "option 1 does not fit"),
        (BEGIN + enhanced("<", 0, 0, V4, option("<", 2, b"")), "too short"),
        (pcap("<", 0xA1B2C3D4, [], 1) + struct.pack("<IIII", 0, 0, 2**31, 0), "packet of 2147483"),
    ],
)
def test_damage_is_named_with_its_place(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedFile, match=f"test.pcapng: at byte [0-9]+: .*{reason}"):
        records(data)


def check_read_or_named(data: bytes) -> None:
    """What is read lies inside `data`; what cannot be read is said, and where."""
    try:
        found = records(data)
    except MalformedFile as error:
        said = re.fullmatch("test.pcapng: at byte ([0-9]+): .+", str(error))
        assert said is not None and int(said[1]) <= len(data)
    else:
        assert all(bytes(record.packet) in data for record in found)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_file_or_damage_that_is_named_with_its_place(
    data: bytes, begun: bool
) -> None:
    check_read_or_named(BEGIN + data if begun else data)


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_leaves_a_file_or_damage_that_is_named_with_its_place(
    place: int, change: int
) -> None:
    options = option("<", 1, b"comment") + option("<", 2, bytes(4)) + option("<", 0, b"")
    whole = bytearray(
        section("<")
        + interface("<", LINK_RAW, options=option("<", 9, b"\x09"))
        + enhanced("<", 0, TIME_NS, V4, options)
    )
    whole[place % len(whole)] ^= change
    check_read_or_named(bytes(whole))


def test_read_opens_a_file_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcapng"
    path.write_bytes(written(lambda writer: writer.packet(V4, 0)))
    assert [record.packet for record in read(path)] == [V4]
    path.write_text("text")
    with pytest.raises(MalformedFile, match=r"capture\.pcapng"):
        list(read(str(path)))


# The IP packet inside


def ethernet(ethertype: int) -> bytes:
    return bytes(12) + ethertype.to_bytes(2, "big")


@pytest.mark.parametrize("packet,ethertype,bsd_family", [(V4, 0x0800, 2), (V6, 0x86DD, 30)])
def test_the_link_layer_is_stripped(packet: bytes, ethertype: int, bsd_family: int) -> None:
    vlan = bytes(12) + b"\x88\xa8\x00\x01\x81\x00\x00\x02" + ethertype.to_bytes(2, "big")
    cases = [
        (LINK_RAW, b""),
        (LINK_IPV4, b""),
        (LINK_IPV6, b""),
        (LINK_ETHERNET, ethernet(ethertype)),
        (LINK_ETHERNET, vlan),
        (LINK_LINUX_SLL, bytes(14) + ethertype.to_bytes(2, "big")),
        (LINK_LINUX_SLL2, ethertype.to_bytes(2, "big") + bytes(18)),
        (LINK_NULL, bsd_family.to_bytes(4, "little")),
        (LINK_NULL, bsd_family.to_bytes(4, "big")),
        (LINK_LOOP, bsd_family.to_bytes(4, "big")),
    ]
    for link_type, header in cases:
        assert ip_packet(Record(0, header + packet, link_type)) == packet


def test_the_padding_of_a_short_ethernet_frame_is_cut() -> None:
    record = Record(0, ethernet(0x0800) + V4 + bytes(13), LINK_ETHERNET)
    assert ip_packet(record) == V4


def test_a_packet_cut_by_the_snap_length_is_returned_as_far_as_it_goes() -> None:
    assert ip_packet(Record(0, V6[:50], LINK_RAW)) == V6[:50]


def test_a_super_segment_without_a_length_is_returned_whole() -> None:
    big = V4[:2] + b"\0\0" + V4[4:]
    assert ip_packet(Record(0, big, LINK_RAW)) == big


@pytest.mark.parametrize(
    "packet,link_type",
    [
        (b"", LINK_RAW),
        (V4[:10], LINK_RAW),
        (V6[:30], LINK_RAW),
        (b"\x99" + V4, LINK_RAW),
        (ethernet(0x0806) + bytes(28), LINK_ETHERNET),
        (ethernet(0x8100), LINK_ETHERNET),
        (ethernet(0x0800), LINK_ETHERNET),
        (b"short", LINK_ETHERNET),
        (b"\x07\0\0\0" + V4, LINK_NULL),
        (V4, 105),
    ],
)
def test_what_is_no_ip_packet_is_none(packet: bytes, link_type: int) -> None:
    assert ip_packet(Record(0, packet, link_type)) is None
