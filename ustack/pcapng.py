"""Capture files: pcapng written and read, and the older pcap format read.

Knows blocks and bytes, nothing of TCP or of this stack. Each block goes out in one `write`, so a
process that is killed leaves a file that can be read to its last packet.
The pcapng format: draft-ietf-opsawg-pcapng; pcap: draft-ietf-opsawg-pcap; link types:
tcpdump.org/linktypes.html.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

from ustack.errors import MalformedFile

Buffer = bytes | bytearray | memoryview

# Link types
LINK_NULL = 0  # BSD loopback: address family, 4 bytes in the byte order of the writer
LINK_ETHERNET = 1
LINK_RAW = 101  # IPv4 or IPv6, told apart by the version field
LINK_LOOP = 108  # OpenBSD loopback: as NULL, in network byte order
LINK_LINUX_SLL = 113  # Linux "any" device
LINK_IPV4 = 228
LINK_IPV6 = 229
LINK_LINUX_SLL2 = 276

# Block types
SECTION_HEADER = 0x0A0D0D0A
INTERFACE_DESCRIPTION = 1
SIMPLE_PACKET = 3
ENHANCED_PACKET = 6

BYTE_ORDER_MAGIC = 0x1A2B3C4D
BLOCK_OVERHEAD = 12  # type, length, and length again behind the body
MAX_BLOCK = 16 << 20  # bytes; what Wireshark takes: a longer one is a sign of damage
UNKNOWN_LENGTH = 0xFFFF_FFFF_FFFF_FFFF

# Options
OPT_END = 0
OPT_COMMENT = 1
SHB_USERAPPL = 4
IF_NAME = 2
IF_DESCRIPTION = 3
IF_TSRESOL = 9
IF_TSOFFSET = 14
EPB_FLAGS = 2

NANOSECONDS = 9  # if_tsresol: units of 10**-9 s
MICROSECONDS = 6  # if_tsresol when the option is missing
POWER_OF_TWO = 0x80  # if_tsresol: the exponent is of 2, not of 10

# Magic numbers of the pcap format: how many ns one unit of the fraction is
PCAP_MAGIC = {0xA1B2C3D4: 1_000, 0xA1B23C4D: 1}
PCAP_HEADER_LEN = 24
PCAP_RECORD_LEN = 16

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPES_VLAN = (0x8100, 0x88A8)  # IEEE 802.1Q, 802.1ad
FAMILIES_IP = (2, 10, 24, 28, 30)  # AF_INET everywhere; AF_INET6 of Linux, the BSDs and macOS


class Direction(IntEnum):
    """The low two bits of epb_flags."""

    UNKNOWN = 0
    IN = 1
    OUT = 2


@dataclass(slots=True, frozen=True)
class Record:
    """One packet of a capture."""

    time_ns: int  # since the epoch; 0 when the file has no time for it
    packet: bytes  # as captured, with its link layer
    link_type: int
    comment: str = ""  # several comments are lines
    direction: Direction = Direction.UNKNOWN
    original_length: int = 0  # bytes on the wire; more than len(packet) when cut
    interface: str = ""  # its name, when the file tells


class Writer:
    """Writes one section to `file`, little-endian, times in ns.

    `file` gets one `write` per block. Errors of the file are the caller's; a block that was
    written in part is an OSError as well (an unbuffered file on a full disk).
    """

    def __init__(self, file: BinaryIO, *, application: str = "ustack") -> None:
        self.size = 0  # bytes of complete blocks
        self._file = file
        self._interfaces = 0
        self._block(
            SECTION_HEADER,
            struct.pack("<IHHQ", BYTE_ORDER_MAGIC, 1, 0, UNKNOWN_LENGTH),
            _option(SHB_USERAPPL, application.encode()) + _option(OPT_END, b""),
        )

    def interface(self, link_type: int, *, name: str = "", description: str = "") -> int:
        """The number of a new interface, for `packet`."""
        options = b""
        if name:
            options += _option(IF_NAME, name.encode())
        if description:
            options += _option(IF_DESCRIPTION, description.encode())
        options += _option(IF_TSRESOL, bytes([NANOSECONDS])) + _option(OPT_END, b"")
        no_snap_length = 0
        self._block(
            INTERFACE_DESCRIPTION, struct.pack("<HHI", link_type, 0, no_snap_length), options
        )
        self._interfaces += 1
        return self._interfaces - 1

    def packet(
        self,
        packet: Buffer,
        time_ns: int,
        *,
        interface: int = 0,
        comment: str = "",
        direction: Direction = Direction.UNKNOWN,
    ) -> None:
        """An enhanced packet block. `time_ns`: since the epoch."""
        options = b""
        if comment:
            options += _option(OPT_COMMENT, comment.encode())
        if direction:
            options += _option(EPB_FLAGS, struct.pack("<I", direction))
        if options:
            options += _option(OPT_END, b"")
        size = len(packet)
        time_high, time_low = time_ns >> 32, time_ns & 0xFFFF_FFFF
        self._block(
            ENHANCED_PACKET,
            struct.pack("<IIIII", interface, time_high, time_low, size, size),
            packet,
            bytes(-size % 4),
            options,
        )

    def _block(self, block_type: int, *body: Buffer) -> None:
        length = BLOCK_OVERHEAD + sum(len(part) for part in body)
        block = b"".join((struct.pack("<II", block_type, length), *body, struct.pack("<I", length)))
        written = self._file.write(block)
        if written != length:
            raise OSError(f"only {written} of {length} bytes were written")
        self.size += length


def _option(code: int, value: bytes) -> bytes:
    value = value[:0xFFFF]
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


@dataclass(slots=True, frozen=True)
class _Interface:
    link_type: int
    snap_length: int  # 0: none
    name: str
    units_per_second: int
    offset_seconds: int

    def time_ns(self, units: int) -> int:
        return units * 1_000_000_000 // self.units_per_second + self.offset_seconds * 1_000_000_000


def read(path: Path | str) -> Iterator[Record]:
    """The packets of a pcapng or pcap file, in the order of the file.

    Raises MalformedFile at the damaged place, after the packets before it; OSError when the file
    cannot be opened.
    """
    with open(path, "rb") as file:
        yield from Reader(file, str(path))


class Reader:
    """Iterates over the packets of an open pcapng or pcap file; `name` is for the error text.

    Both byte orders, several sections and interfaces; unknown blocks are skipped.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._offset = 0  # of the block being read
        self._position = 0
        self._order = "<"
        self._interfaces: list[_Interface] = []

    def __iter__(self) -> Iterator[Record]:
        magic = self._take(4, "neither a pcapng nor a pcap file")
        if int.from_bytes(magic, "little") == SECTION_HEADER:
            return self._blocks(magic)
        for order in "<>":
            resolution_ns = PCAP_MAGIC.get(struct.unpack(order + "I", magic)[0])
            if resolution_ns is not None:
                self._order = order
                return self._pcap_records(resolution_ns)
        raise self._error("neither a pcapng nor a pcap file")

    # pcapng

    def _blocks(self, type_bytes: bytes) -> Iterator[Record]:
        while type_bytes:
            block_type = int.from_bytes(type_bytes, "little" if self._order == "<" else "big")
            length_bytes = self._take(4)
            if block_type == SECTION_HEADER:  # the same number in either byte order
                magic = self._take(4)
                self._begin_section(magic)
                body = magic + self._body(length_bytes, taken=len(magic))
            else:
                body = self._body(length_bytes, taken=0)
            if block_type == INTERFACE_DESCRIPTION:
                self._interfaces.append(self._interface(body))
            elif block_type == ENHANCED_PACKET:
                yield self._enhanced_packet(body)
            elif block_type == SIMPLE_PACKET:
                yield self._simple_packet(body)
            self._offset = self._position
            type_bytes = self._take_or_end(4)

    def _begin_section(self, magic: bytes) -> None:
        for order in "<>":
            if struct.unpack(order + "I", magic)[0] == BYTE_ORDER_MAGIC:
                self._order = order
                self._interfaces = []
                return
        raise self._error("section header without a byte-order magic")

    def _body(self, length_bytes: bytes, taken: int) -> bytes:
        """The rest of the block's body, its lengths checked."""
        (length,) = struct.unpack(self._order + "I", length_bytes)
        if length % 4 or not BLOCK_OVERHEAD + taken <= length <= MAX_BLOCK:
            raise self._error(f"block length {length}")
        body = self._take(length - BLOCK_OVERHEAD - taken)
        if self._take(4) != length_bytes:
            raise self._error("the two lengths of the block differ")
        return body

    def _interface(self, body: bytes) -> _Interface:
        link_type, _, snap_length = self._unpack("HHI", body, 0)
        options = self._options(body, 8)
        resolution = options.get(IF_TSRESOL, [b""])[0] or bytes([MICROSECONDS])
        exponent = resolution[0] & ~POWER_OF_TWO
        offset = 0
        if IF_TSOFFSET in options:
            (offset,) = self._unpack("q", options[IF_TSOFFSET][0], 0)
        return _Interface(
            link_type=link_type,
            snap_length=snap_length,
            name=_text(options.get(IF_NAME, [])),
            units_per_second=(2 if resolution[0] & POWER_OF_TWO else 10) ** exponent,
            offset_seconds=offset,
        )

    def _enhanced_packet(self, body: bytes) -> Record:
        number, time_high, time_low, size, original_length = self._unpack("IIIII", body, 0)
        interface = self._interface_of(number)
        packet = self._packet(body, 20, size)
        options = self._options(body, 20 + size + -size % 4)
        flags = 0
        if EPB_FLAGS in options:
            (flags,) = self._unpack("I", options[EPB_FLAGS][0], 0)
        return Record(
            time_ns=interface.time_ns(time_high << 32 | time_low),
            packet=packet,
            link_type=interface.link_type,
            comment=_text(options.get(OPT_COMMENT, [])),
            direction=Direction(flags & 3) if flags & 3 != 3 else Direction.UNKNOWN,
            original_length=original_length,
            interface=interface.name,
        )

    def _simple_packet(self, body: bytes) -> Record:
        (original_length,) = self._unpack("I", body, 0)
        interface = self._interface_of(0)
        size = original_length
        if interface.snap_length:
            size = min(size, interface.snap_length)
        return Record(
            time_ns=0,
            packet=self._packet(body, 4, size),
            link_type=interface.link_type,
            original_length=original_length,
            interface=interface.name,
        )

    def _interface_of(self, number: int) -> _Interface:
        if number >= len(self._interfaces):
            raise self._error(f"a packet of interface {number}, which is not described")
        return self._interfaces[number]

    def _packet(self, body: bytes, start: int, size: int) -> bytes:
        if start + size > len(body):
            raise self._error(f"a packet of {size} bytes does not fit its block")
        return body[start : start + size]

    def _options(self, body: bytes, start: int) -> dict[int, list[bytes]]:
        options: dict[int, list[bytes]] = {}
        while start < len(body):
            code, size = self._unpack("HH", body, start)
            if code == OPT_END:
                break
            start += 4
            if start + size > len(body):
                raise self._error(f"option {code} does not fit its block")
            options.setdefault(code, []).append(body[start : start + size])
            start += size + -size % 4
        return options

    def _unpack(self, layout: str, data: bytes, start: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self._order + layout, data, start)
        except struct.error:
            raise self._error("the block is too short for its fields") from None

    # pcap

    def _pcap_records(self, resolution_ns: int) -> Iterator[Record]:
        header = self._take(PCAP_HEADER_LEN - 4)
        link_type = self._unpack("HHiIII", header, 0)[5] & 0xFFFF  # above it: length of the FCS
        self._offset = self._position
        while header := self._take_or_end(PCAP_RECORD_LEN):
            seconds, fraction, size, original_length = self._unpack("IIII", header, 0)
            if size > MAX_BLOCK:
                raise self._error(f"a packet of {size} bytes")
            yield Record(
                time_ns=seconds * 1_000_000_000 + fraction * resolution_ns,
                packet=self._take(size),
                link_type=link_type,
                original_length=original_length,
            )
            self._offset = self._position

    # bytes

    def _take_or_end(self, size: int) -> bytes:
        """`size` bytes, or none at the end of the file."""
        data = self._file.read(size)
        self._position += len(data)
        if data and len(data) < size:
            raise self._error("the file ends inside this block")
        return data

    def _take(self, size: int, at_end: str = "the file ends inside this block") -> bytes:
        data = self._file.read(size)
        self._position += len(data)
        if len(data) < size:
            raise self._error(at_end)
        return data

    def _error(self, text: str) -> MalformedFile:
        return MalformedFile(f"{self._name}: at byte {self._offset}: {text}")


def _text(values: Sequence[bytes]) -> str:
    return "\n".join(value.decode(errors="replace").rstrip("\0") for value in values)


def ip_packet(record: Record) -> bytes | None:
    """The IPv4 or IPv6 packet of `record`, without link layer and padding; None: it has none."""
    packet = record.packet
    start = _link_header_length(packet, record.link_type)
    if start is None or start >= len(packet):
        return None
    version = packet[start] >> 4
    if version == 4 and len(packet) >= start + 20:
        size = int.from_bytes(packet[start + 2 : start + 4], "big")
    elif version == 6 and len(packet) >= start + 40:
        size = 40 + int.from_bytes(packet[start + 4 : start + 6], "big")
    else:
        return None
    # 0 in the length field: a super-segment above 64 KiB (RFC 2675, Linux BIG TCP).
    if size in (0, 40):
        return packet[start:]
    return packet[start : start + size]


def _link_header_length(packet: bytes, link_type: int) -> int | None:
    """Bytes before the IP header; None: no IP packet, or a link type that is not known."""
    if link_type in (LINK_RAW, LINK_IPV4, LINK_IPV6):
        return 0
    if link_type in (LINK_NULL, LINK_LOOP):
        family = packet[:4]
        families = (int.from_bytes(family, "little"), int.from_bytes(family, "big"))
        return 4 if any(number in FAMILIES_IP for number in families) else None
    if link_type == LINK_ETHERNET:
        type_at, start = 12, 14
    elif link_type == LINK_LINUX_SLL:
        type_at, start = 14, 16
    elif link_type == LINK_LINUX_SLL2:
        type_at, start = 0, 20
    else:
        return None
    ethertype = int.from_bytes(packet[type_at : type_at + 2], "big")
    while ethertype in ETHERTYPES_VLAN and start + 4 <= len(packet):
        ethertype = int.from_bytes(packet[start + 2 : start + 4], "big")
        start += 4
    return start if ethertype in (ETHERTYPE_IPV4, ETHERTYPE_IPV6) else None
