"""From the records of a capture file to TCP segments with names and numbers.

Owns the way from an IP packet to the TCP header, tolerant where an observer must be: a capture
may be cut short, and TCP checksums may have been left to hardware. Must not know what the
segments mean.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ustack.errors import MalformedPacket
from ustack.pcapng import Record, ip_packet
from ustack.wire import ipv4, ipv6, tcp
from ustack.wire.ecn import ecn_field
from ustack.wire.tcp_options import Options, decode_options


class Endpoint(NamedTuple):
    """One end of a connection."""

    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class TcpPacket(NamedTuple):
    """One TCP segment as seen on its way, numbers as on the wire."""

    number: int  # counted from 1 over all records, as Wireshark does
    time_ns: int
    source: Endpoint
    destination: Endpoint
    seq: int  # low 32 bits
    ack: int  # low 32 bits
    flags: int
    window: int  # not scaled
    length: int  # bytes of payload, also when the capture does not hold them all
    options: Options
    comment: str
    ecn: int  # field of the IP header, RFC 3168 §5


def tcp_packets(records: Iterable[Record]) -> Iterator[TcpPacket]:
    """Yields the TCP segments among `records`, without fragments and malformed packets."""
    for number, record in enumerate(records, start=1):
        try:
            segment = _decode(number, record)
        except MalformedPacket:
            continue
        if segment is not None:
            yield segment


def _decode(number: int, record: Record) -> TcpPacket | None:
    """The segment in `record`, None if it holds something else. Raises MalformedPacket."""
    captured = ip_packet(record)
    if captured is None:
        return None
    if captured[0] >> 4 == 4:
        packet = _whole(captured, int.from_bytes(captured[2:4], "big"))
        v4 = ipv4.decode(packet, 0)
        if v4.protocol != ipv4.TCP or v4.fragment_offset or v4.more_fragments:
            return None
        source: object = ipaddress.IPv4Address(v4.src)
        destination: object = ipaddress.IPv4Address(v4.dst)
        start, end = v4.header_len, v4.total_length
    else:
        packet = _whole(captured, ipv6.HEADER_LEN + int.from_bytes(captured[4:6], "big"))
        v6 = ipv6.decode(packet, 0)
        if v6.protocol != ipv6.TCP or v6.fragment or v6.problem:
            return None
        source, destination = ipaddress.IPv6Address(v6.src), ipaddress.IPv6Address(v6.dst)
        start, end = v6.payload_offset, v6.end
    header = tcp.decode(packet, start, end)
    payload_start = start + header.data_offset
    if payload_start > len(captured):
        raise MalformedPacket("tcp-truncated")
    return TcpPacket(
        number,
        record.time_ns,
        Endpoint(str(source), header.src_port),
        Endpoint(str(destination), header.dst_port),
        header.seq,
        header.ack,
        header.flags,
        header.window,
        end - payload_start,
        decode_options(packet, start + tcp.HEADER_LEN, payload_start),
        record.comment,
        ecn_field(captured, 0),
    )


def _whole(captured: bytes, length: int) -> bytes:
    """The packet in its full length: bytes that were not captured read as zeros.

    Only headers are looked at, and those are checked to be among the captured bytes.
    """
    return captured.ljust(length, b"\0")
