"""Packets of the model: IP and TCP headers packed and read by hand (RFC 791, 8200, 9293 §3.1).

Shares nothing with ustack.wire, so that a header both would get wrong shows.
"""

import struct
from dataclasses import dataclass, field

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TCP = 6
WORD = 1 << 16


@dataclass(slots=True)
class Segment:
    """SEG.SEQ and so on; options that are absent are None."""

    seq: int
    ack: int = 0
    flags: int = ACK
    window: int = 0
    text: bytes = b""
    mss: int | None = None
    wscale: int | None = None
    sack_permitted: bool = False
    sack: list[tuple[int, int]] = field(default_factory=list)
    timestamps: tuple[int, int] | None = None  # TSval, TSecr

    @property
    def length(self) -> int:
        """SEG.LEN: SYN and FIN count."""
        return len(self.text) + bool(self.flags & SYN) + bool(self.flags & FIN)


@dataclass(frozen=True, slots=True)
class Flow:
    """Where packets go: addresses as bytes, 4 or 16."""

    source: bytes
    target: bytes
    source_port: int
    target_port: int

    def back(self) -> "Flow":
        """The other direction."""
        return Flow(self.target, self.source, self.target_port, self.source_port)


def pack(flow: Flow, segment: Segment, ident: int) -> bytes:
    """An IP packet; IPv4 may be fragmented."""
    options = pack_options(segment)
    offset = 5 + len(options) // 4
    header = struct.pack(
        "!HHIIBBHHH",
        *(flow.source_port, flow.target_port, segment.seq, segment.ack),
        *(offset << 4, segment.flags, segment.window, 0, 0),
    )
    tcp = bytearray(header + options + segment.text)
    tcp[16:18] = struct.pack("!H", checksum(pseudo_header(flow, len(tcp)) + tcp))
    if len(flow.source) == 16:
        ip6 = struct.pack("!IHBB", 6 << 28, len(tcp), TCP, 64)
        return ip6 + flow.source + flow.target + tcp
    ip4 = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), ident, 0, 64, TCP, 0))
    ip4 += flow.source + flow.target
    ip4[10:12] = struct.pack("!H", checksum(ip4))
    return bytes(ip4 + tcp)


def unpack(packet: bytes, flow: Flow) -> Segment | None:
    """The segment of `flow` in `packet`; None for anything else, or if it is damaged."""
    tcp = payload(packet, flow)
    if tcp is None or len(tcp) < 20 or checksum(pseudo_header(flow, len(tcp)) + tcp):
        return None
    source, target, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", tcp)
    start = (offset >> 4) * 4
    if (source, target) != (flow.source_port, flow.target_port) or not 20 <= start <= len(tcp):
        return None
    segment = Segment(seq, ack, flags, window, tcp[start:])
    unpack_options(segment, tcp[20:start])
    return segment


def payload(packet: bytes, flow: Flow) -> bytes | None:
    """The TCP part of a whole IP packet from and to the addresses of `flow`."""
    if len(flow.source) == 16:
        if len(packet) < 40 or packet[0] >> 4 != 6 or packet[6] != TCP:
            return None
        if packet[8:40] != flow.source + flow.target:
            return None
        end = 40 + int.from_bytes(packet[4:6], "big")
        return packet[40:end] if end <= len(packet) else None
    if len(packet) < 20 or packet[0] != 0x45 or packet[9] != TCP or checksum(packet[:20]):
        return None
    fragmented = int.from_bytes(packet[6:8], "big") & 0x3FFF
    end = int.from_bytes(packet[2:4], "big")
    if fragmented or packet[12:20] != flow.source + flow.target or end > len(packet):
        return None
    return packet[20:end]


def pack_options(segment: Segment) -> bytes:
    """RFC 9293 §3.2, 7323, 2018; padded with NOPs."""
    out = b""
    if segment.mss is not None:
        out += struct.pack("!BBH", 2, 4, segment.mss)
    if segment.wscale is not None:
        out += bytes((3, 3, segment.wscale))
    if segment.sack_permitted:
        out += bytes((4, 2))
    if segment.timestamps is not None:
        out += struct.pack("!BBII", 8, 10, *segment.timestamps)
    if segment.sack:
        out += bytes((5, 2 + 8 * len(segment.sack)))
        out += b"".join(struct.pack("!II", *block) for block in segment.sack)
    return out + b"\1" * (-len(out) % 4)


def unpack_options(segment: Segment, options: bytes) -> None:
    """Only what the model uses; the rest is skipped."""
    while options and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
            continue
        if len(options) < 2 or not 2 <= options[1] <= len(options):
            return
        kind, value, options = options[0], options[2 : options[1]], options[options[1] :]
        if kind == 2 and len(value) == 2:
            segment.mss = int.from_bytes(value, "big")
        elif kind == 3 and len(value) == 1:
            segment.wscale = min(value[0], 14)
        elif kind == 4:
            segment.sack_permitted = True
        elif kind == 8 and len(value) == 8:
            value_, echo = struct.unpack("!II", value)
            segment.timestamps = (value_, echo)


def pseudo_header(flow: Flow, length: int) -> bytes:
    """RFC 9293 §3.1, RFC 8200 §8.1."""
    if len(flow.source) == 16:
        return flow.source + flow.target + struct.pack("!II", length, TCP)
    return flow.source + flow.target + struct.pack("!BBH", 0, TCP, length)


def checksum(data: bytes | bytearray) -> int:
    """RFC 1071: the ones' complement of the ones' complement sum; 0 over data that holds it."""
    if len(data) % 2:
        data = data + b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >= WORD:
        total = total % WORD + total // WORD
    return WORD - 1 - total
