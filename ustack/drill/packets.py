"""IP packets as the player injects and sees them: bytes to numbers and back, all in live space.

Knows no socket and no mapping. Payloads are zeros in both directions (language §1).
"""

import hashlib
from dataclasses import dataclass

from ustack.drill.script import (
    IcmpPacket,
    IpInfo,
    Md5,
    Quoted,
    Settings,
    TcpOption,
    TcpPacket,
    UdpPacket,
)
from ustack.drill.tcp_options import decode_options, encode_options
from ustack.errors import MalformedPacket
from ustack.wire import icmp, ipv4, ipv6, tcp, udp, virtio
from ustack.wire.checksum import checksum, pseudo_sum

INJECTED_TTL = 255  # language §6.4
QUOTED_BYTES = 8  # of the TCP header, behind the quoted IP header (language §9.1)
ECN_NAMES = ("noecn", "ect1", "ect0", "ce")  # by codepoint
ECN_BITS = {"noecn": 0, "ect1": 1, "ect0": 2, "ce": 3}


@dataclass(slots=True, frozen=True)
class Endpoints:
    """Where a packet comes from and goes to, as on the wire; `ports` of ICMP are 0."""

    source: bytes
    destination: bytes
    source_port: int = 0
    destination_port: int = 0

    @property
    def reverse(self) -> "Endpoints":
        """The other direction."""
        return Endpoints(self.destination, self.source, self.destination_port, self.source_port)


@dataclass(slots=True, frozen=True)
class LivePacket:
    """A packet that the stack sent, at `time_us` since the start of the test."""

    time_us: int
    data: bytes  # the whole IP packet
    endpoints: Endpoints
    ip_header_length: int  # bytes, with IPv4 options and IPv6 extension headers
    tos: int
    ttl: int
    flow_label: int
    protocol: int
    header: tcp.TcpHeader | None  # None: not TCP
    options: tuple[TcpOption, ...]
    payload: bytes  # behind the TCP or UDP header; of other protocols all behind the IP header
    udp_ports: tuple[int, int] | None = None  # of the UDP header that TCP is encapsulated in

    @property
    def is_ipv6(self) -> bool:
        """The IP version of the packet."""
        return len(self.endpoints.source) == 16


# Building


def build_tcp(packet: TcpPacket, endpoints: Endpoints, secret: bytes = b"") -> bytes:
    """The IP packet for `packet`, whose numbers are already those of the wire.

    `secret`: the key of a digest that is to be valid.
    """
    header = tcp.encode(
        endpoints.source_port,
        endpoints.destination_port,
        packet.seq or 0,
        packet.ack,
        packet.flags,
        packet.window or 0,
        options=encode_options(packet.options or ()),
        urgent=packet.urgent,
    )
    text = bytes(packet.length)
    if any(isinstance(option, Md5) and option.valid for option in packet.options or ()):
        digest = md5_digest(endpoints, header, text, secret)
        signed = tuple(
            Md5(digest) if isinstance(option, Md5) and option.valid else option
            for option in packet.options or ()
        )
        header = header[: tcp.HEADER_LEN] + encode_options(signed)
    segment = _with_checksum(header + text, tcp.CHECKSUM_OFFSET, ipv4.TCP, endpoints)
    if packet.udp_ports is not None:
        return build_udp_payload(segment, packet.udp_ports, packet.ip, endpoints)
    return _ip(packet.ip, endpoints, ipv4.TCP, segment)


def md5_digest(endpoints: Endpoints, header: bytes, text: bytes, secret: bytes) -> bytes:
    """The signature of a segment (RFC 2385 §2.0): pseudo-header, header without options and with a
    checksum of zero, text, key."""
    length = len(header) + len(text)
    if len(endpoints.source) == 16:  # RFC 8200 §8.1
        pseudo = length.to_bytes(4, "big") + ipv4.TCP.to_bytes(4, "big")
    else:
        pseudo = ipv4.TCP.to_bytes(2, "big") + length.to_bytes(2, "big")
    at = tcp.CHECKSUM_OFFSET
    fixed = header[:at] + bytes(2) + header[at + 2 : tcp.HEADER_LEN]
    signed = endpoints.source + endpoints.destination + pseudo + fixed + text + secret
    return hashlib.md5(signed, usedforsecurity=False).digest()


def is_signed(live: LivePacket, secret: bytes) -> bool:
    """Whether a digest among its options is that of the packet."""
    header = live.data[live.ip_header_length : len(live.data) - len(live.payload)]
    right = md5_digest(live.endpoints, header, live.payload, secret)
    return Md5(right) in live.options


def build_udp(packet: UdpPacket, endpoints: Endpoints) -> bytes:
    """The IP packet with a datagram of zeros."""
    ports = endpoints.source_port, endpoints.destination_port
    return build_udp_payload(bytes(packet.length), ports, packet.ip, endpoints)


def build_udp_payload(
    payload: bytes, ports: tuple[int, int], ip: IpInfo, endpoints: Endpoints
) -> bytes:
    """The IP packet with a datagram between `ports` (source, destination)."""
    datagram = udp.encode(*ports, len(payload)) + payload
    return _ip(
        ip, endpoints, ipv4.UDP, _with_checksum(datagram, udp.CHECKSUM_OFFSET, ipv4.UDP, endpoints)
    )


def build_icmp(packet: IcmpPacket, endpoints: Endpoints, quoted: Endpoints) -> bytes:
    """The IP packet with an ICMP error about a packet that went along `quoted`, or an echo.

    `packet.seq` is the live sequence number to quote.
    """
    is_ipv6 = len(endpoints.source) == 16
    rest = packet.mtu or 0
    if packet.identifier is not None:
        rest = packet.identifier << 16
    if packet.quoted is Quoted.RAW:
        body = bytes(max(0, packet.length - icmp.HEADER_LEN))
    elif packet.identifier is not None:
        body = b""
    else:
        body = _quotation(packet, quoted)
    if is_ipv6:
        message = icmp.encode_v6(
            endpoints.source, endpoints.destination, packet.type, packet.code, rest, body
        )
        return _ip(packet.ip, endpoints, ipv6.ICMPV6, message)
    message = icmp.encode_v4(packet.type, packet.code, rest, body)
    return _ip(packet.ip, endpoints, ipv4.ICMP, message)


def _quotation(packet: IcmpPacket, quoted: Endpoints) -> bytes:
    """The IP header of the quoted packet and the first bytes behind it."""
    if packet.quoted is Quoted.UDP:
        inner = udp.encode(quoted.source_port, quoted.destination_port, packet.length)
        protocol, length = ipv4.UDP, udp.HEADER_LEN + packet.length
    else:
        header = tcp.encode(quoted.source_port, quoted.destination_port, packet.seq, 0, 0, 0)
        inner = header[:QUOTED_BYTES]
        protocol, length = ipv4.TCP, tcp.HEADER_LEN + packet.length
    if len(quoted.source) == 16:
        return ipv6.encode(quoted.source, quoted.destination, protocol, length) + inner
    return ipv4.encode(quoted.source, quoted.destination, protocol, length) + inner


def framed(packet: bytes, settings: Settings) -> bytes:
    """The packet behind its virtio header; a long one as an aggregate of --mss bytes each."""
    header_length = (packet[0] & 0xF) * 4 if packet[0] >> 4 == 4 else 40
    if not settings.mss or len(packet) <= settings.device_mtu:
        return virtio.PLAIN + packet
    kind = virtio.GSO_TCPV4 if packet[0] >> 4 == 4 else virtio.GSO_TCPV6
    tcp_length = (packet[header_length + 12] >> 4) * 4
    # The checksum is complete, which a receiver may take as valid all the same.
    return (
        virtio.HEADER.pack(
            virtio.NEEDS_CSUM,
            kind,
            header_length + tcp_length,
            settings.mss,
            header_length,
            tcp.CHECKSUM_OFFSET,
        )
        + packet
    )


def ip_of(live: LivePacket, expected: IpInfo) -> IpInfo:
    """The fields of the IP header that `expected` names."""
    return IpInfo(
        ecn=None if expected.ecn is None else ECN_NAMES[live.tos & 3],
        tos=None if expected.tos is None else live.tos,
        ttl=None if expected.ttl is None else live.ttl,
        flow_label=None if expected.flow_label is None else live.flow_label,
    )


def icmp_lengths(packet: IcmpPacket, is_ipv6: bool) -> tuple[int | None, int | None]:
    """Of the message that `packet` describes, and of the packet that it quotes, in bytes.

    None: the script does not say.
    """
    if packet.quoted is Quoted.RAW:
        return packet.length, None
    if packet.identifier is not None:
        return icmp.HEADER_LEN, None
    head = ipv6.HEADER_LEN if is_ipv6 else ipv4.HEADER_LEN
    length = icmp.HEADER_LEN + head + QUOTED_BYTES
    if packet.quoted is Quoted.UDP:
        return length, head + udp.HEADER_LEN + packet.length
    if not (packet.seq or packet.length):
        return None, None
    return length, head + tcp.HEADER_LEN + packet.length


def quoted_length(live: LivePacket) -> int:
    """What an ICMP error says is the length of the packet that it quotes, with its IP header."""
    quotation = live.payload[icmp.HEADER_LEN :]
    if live.is_ipv6:
        return ipv6.HEADER_LEN + int.from_bytes(quotation[4:6], "big")
    return int.from_bytes(quotation[2:4], "big")


def other_packet(live: LivePacket) -> UdpPacket | IcmpPacket | None:
    """A packet that was sent, as a script would write it; None: neither UDP nor ICMP."""
    if live.protocol == ipv4.UDP:
        ports = live.endpoints.source_port, live.endpoints.destination_port
        return UdpPacket(len(live.payload), ports)
    if live.protocol == (ipv6.ICMPV6 if live.is_ipv6 else ipv4.ICMP) and len(live.payload) > 1:
        return IcmpPacket(
            live.payload[0], live.payload[1], quoted=Quoted.RAW, length=len(live.payload)
        )
    return None


def _ip(ip: IpInfo, endpoints: Endpoints, protocol: int, payload: bytes) -> bytes:
    tos = ip.tos if ip.tos is not None else ECN_BITS.get(ip.ecn or "", 0)
    ttl = INJECTED_TTL if ip.ttl is None else ip.ttl
    source, destination = endpoints.source, endpoints.destination
    if len(source) == 16:
        header = ipv6.encode(
            source,
            destination,
            protocol,
            len(payload),
            hop_limit=ttl,
            dscp=tos >> 2,
            ecn=tos & 3,
            flow_label=ip.flow_label or 0,
        )
    else:
        header = ipv4.encode(
            source, destination, protocol, len(payload), ttl=ttl, dscp=tos >> 2, ecn=tos & 3
        )
    return header + payload


def _with_checksum(payload: bytes, offset: int, protocol: int, endpoints: Endpoints) -> bytes:
    """`payload` with the checksum field at `offset`, which is zero, filled in."""
    pseudo = pseudo_sum(endpoints.source, endpoints.destination, protocol, len(payload))
    value = checksum(pseudo.to_bytes(2, "big"), payload)
    if value == 0 and protocol == ipv4.UDP:
        value = 0xFFFF  # 0 would say that there is no checksum (RFC 768)
    return payload[:offset] + value.to_bytes(2, "big") + payload[offset + 2 :]


# Reading


def decode(data: bytes, time_us: int) -> LivePacket:
    """The packet `data`. Raises MalformedPacket, also for a wrong TCP or UDP checksum."""
    if data[:1] and data[0] >> 4 == 6:
        six = ipv6.decode(data, 0)
        protocol, start, end = six.protocol, six.payload_offset, six.end
        source, destination = six.src, six.dst
        tos, ttl, flow_label = six.dscp << 2 | six.ecn, six.hop_limit, six.flow_label
    else:
        four = ipv4.decode(data, 0)
        protocol, start, end = four.protocol, four.header_len, four.total_length
        source, destination = four.src, four.dst
        tos, ttl, flow_label = four.dscp << 2 | four.ecn, four.ttl, 0
    header: tcp.TcpHeader | None = None
    options: tuple[TcpOption, ...] = ()
    ports = (0, 0)
    payload_at = start
    if protocol == ipv4.TCP:
        header = tcp.decode(data, start, end)
        pseudo = pseudo_sum(source, destination, protocol, end - start)
        if checksum(pseudo.to_bytes(2, "big"), data[start:end]) != 0:
            raise MalformedPacket("tcp-checksum")
        payload_at = start + header.data_offset
        options = decode_options(data[start + tcp.HEADER_LEN : payload_at])
        ports = header.src_port, header.dst_port
    elif protocol == ipv4.UDP:
        datagram = udp.decode(data, start, end)
        udp.verify(datagram, source, destination, data, start)
        ports = datagram.src_port, datagram.dst_port
        payload_at = start + udp.HEADER_LEN
    return LivePacket(
        time_us,
        data,
        Endpoints(source, destination, *ports),
        start,
        tos,
        ttl,
        flow_label,
        protocol,
        header,
        options,
        data[payload_at:end],
    )
