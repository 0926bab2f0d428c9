"""Injected packets as scapy reads them, and sent ones read back."""

import ipaddress
from dataclasses import replace

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from ustack.drill.packets import Endpoints, build_icmp, build_tcp, build_udp, decode
from ustack.drill.parser import parse_script
from ustack.drill.script import IcmpPacket, PacketEvent, TcpPacket, UdpPacket
from ustack.errors import MalformedPacket


def endpoints(source: str, destination: str) -> Endpoints:
    return Endpoints(
        ipaddress.ip_address(source).packed,
        ipaddress.ip_address(destination).packed,
        49152,
        8080,
    )


V4 = endpoints("192.0.2.1", "192.168.0.1")
V6 = endpoints("2001:db8::1", "2001:db8::2")
LINE = "0 < [ect1] P. 1:101(100) ack 7 win 257 urg 3 <mss 1460,nop,nop,sackOK>"


def first_packet(line: str) -> TcpPacket | UdpPacket | IcmpPacket:
    event = parse_script(line, "t.pkt").events[0]
    assert isinstance(event, PacketEvent)
    return event.packet


def tcp_packet() -> TcpPacket:
    packet = first_packet(LINE)
    assert isinstance(packet, TcpPacket)
    return packet


def test_an_injected_ipv4_segment_is_what_the_language_says() -> None:
    packet = IP(build_tcp(tcp_packet(), V4))
    assert (packet.ihl, packet.tos, packet.id, packet.flags, packet.ttl) == (5, 1, 0, 0, 255)
    segment = packet[TCP]
    assert (segment.sport, segment.dport, segment.seq, segment.ack) == (49152, 8080, 1, 7)
    assert (str(segment.flags), segment.window, segment.urgptr) == ("PA", 257, 3)
    assert segment.options == [("MSS", 1460), ("NOP", None), ("NOP", None), ("SAckOK", b"")]
    assert bytes(segment.payload) == bytes(100)
    checksums = packet.chksum, segment.chksum
    del packet.chksum
    del segment.chksum
    again = IP(bytes(packet))
    assert (again.chksum, again[TCP].chksum) == checksums


@pytest.mark.parametrize("way", [V4, V6], ids=["ipv4", "ipv6"])
def test_a_packet_is_read_as_it_was_built(way: Endpoints) -> None:
    live = decode(build_tcp(tcp_packet(), way), 17)
    assert live.header is not None
    assert (live.time_us, live.endpoints, live.tos, live.ttl) == (17, way, 1, 255)
    assert (live.header.seq, live.header.ack, live.header.window) == (1, 7, 257)
    assert live.options == tcp_packet().options
    assert live.payload == bytes(100)
    assert live.is_ipv6 == (way is V6)


def test_a_wrong_tcp_checksum_is_found() -> None:
    data = bytearray(build_tcp(tcp_packet(), V4))
    data[-1] ^= 1
    with pytest.raises(MalformedPacket):
        decode(bytes(data), 0)


def test_flow_label_and_ttl_are_written() -> None:
    packet = tcp_packet()
    packet = replace(packet, ip=replace(packet.ip, flow_label=0x12345, ttl=7))
    live = decode(build_tcp(packet, V6), 0)
    assert (live.flow_label, live.ttl) == (0x12345, 7)


def test_an_icmp_error_quotes_the_packet_of_the_other_direction() -> None:
    message = first_packet("0 < icmp unreachable frag_needed mtu 1200 [1:1461(1460)]")
    assert isinstance(message, IcmpPacket)
    packet = IP(build_icmp(replace(message, seq=1001), V4, V4.reverse))
    error = packet[ICMP]
    assert (error.type, error.code, error.nexthopmtu) == (3, 4, 1200)
    quoted = error.payload
    assert (quoted.src, quoted.dst, quoted.len) == ("192.168.0.1", "192.0.2.1", 20 + 20 + 1460)
    assert bytes(quoted.payload) == bytes.fromhex("1f90 c000 000003e9")
    checksum = error.chksum
    del error.chksum
    assert IP(bytes(packet))[ICMP].chksum == checksum


def test_packet_too_big_carries_the_mtu() -> None:
    message = IcmpPacket(2, mtu=1300, seq=5, length=10)
    error = IPv6(build_icmp(message, V6, V6.reverse))[ICMPv6PacketTooBig]
    assert error.mtu == 1300
    assert error.payload.plen == 20 + 10


def test_a_datagram_has_zeros_and_a_checksum() -> None:
    packet = IP(build_udp(UdpPacket(20), V4))
    assert (packet[UDP].len, bytes(packet[UDP].payload)) == (28, bytes(20))
    checksum = packet[UDP].chksum
    del packet[UDP].chksum
    assert IP(bytes(packet))[UDP].chksum == checksum


def test_raw_and_datagram_quotes_have_their_length() -> None:
    raw = first_packet("0 < icmp type_12 [raw(20)]")
    assert isinstance(raw, IcmpPacket)
    assert len(build_icmp(raw, V4, V4.reverse)) == 20 + 20
    quoted = first_packet("0 < icmp unreachable port_unreachable [udp(20)]")
    assert isinstance(quoted, IcmpPacket)
    assert IP(build_icmp(quoted, V4, V4.reverse))[ICMP].payload.proto == 17
    echo = first_packet("0 < icmp echo_request id 7")
    assert isinstance(echo, IcmpPacket)
    assert IP(build_icmp(echo, V4, V4.reverse))[ICMP].id == 7
