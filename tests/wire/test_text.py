import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet

from ustack.wire import virtio
from ustack.wire.tcp_options import decode_options
from ustack.wire.text import describe, options_text

EXAMPLES = settings(derandomize=True, max_examples=200, deadline=None)

V4 = IP(src="10.9.0.1", dst="10.9.0.2", id=77)
V6 = IPv6(src="fd00:9::1", dst="fd00:9::2")
LINUX_SYN = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (9, 0)), ("NOP", None), ("WScale", 7)]
SEGMENT = V4 / TCP(sport=80, dport=40000, flags="PA", seq=0xFFFFFFFE, ack=5, window=100) / b"data"
VALID = bytes(virtio.PLAIN + bytes(SEGMENT))

# packet -> its line
LINES: list[tuple[Packet, str]] = [
    (
        V4 / TCP(sport=40000, dport=80, flags="S", seq=1, window=64240, options=LINUX_SYN),
        (
            "IP 10.9.0.1.40000 > 10.9.0.2.80: Flags [S], seq 1, win 64240, "
            "options [mss 1460,sackOK,TS val 9 ecr 0,wscale 7], length 0"
        ),
    ),
    (
        SEGMENT,
        "IP 10.9.0.1.80 > 10.9.0.2.40000: Flags [P.], seq 4294967294:2, ack 5, win 100, length 4",
    ),
    (
        V6 / TCP(sport=80, dport=40000, flags="AU", ack=5, window=100, urgptr=3),
        "IP6 fd00:9::1.80 > fd00:9::2.40000: Flags [.U], ack 5, win 100, urg 3, length 0",
    ),
    (
        V4 / TCP(sport=80, dport=40000, flags="R", seq=5, window=0, chksum=1),
        "IP 10.9.0.1.80 > 10.9.0.2.40000: Flags [R], bad checksum, seq 5, win 0, length 0",
    ),
    (
        IP(src="10.9.0.1", dst="10.9.0.2", tos=2) / TCP(sport=80, dport=9, flags="AEC", ack=5),
        "IP 10.9.0.1.80 > 10.9.0.2.9: Flags [.EW], ack 5, win 8192, length 0, ECT(0)",
    ),
    (
        IPv6(src="fd00:9::1", dst="fd00:9::2", tc=3) / TCP(sport=80, dport=9, flags="A", ack=5),
        "IP6 fd00:9::1.80 > fd00:9::2.9: Flags [.], ack 5, win 8192, length 0, CE",
    ),
    (V4 / UDP(sport=53, dport=7) / b"abc", "IP 10.9.0.1.53 > 10.9.0.2.7: UDP, length 3"),
    (V4 / UDP(sport=53, dport=7, chksum=0), "IP 10.9.0.1.53 > 10.9.0.2.7: UDP, length 0"),
    (
        V6 / UDP(sport=53, dport=7, chksum=0),
        "IP6 fd00:9::1.53 > fd00:9::2.7: UDP, bad checksum, length 0",
    ),
    (
        V4 / ICMP(type=8, id=3, seq=4) / b"abc",
        "IP 10.9.0.1 > 10.9.0.2: ICMP echo request, id 3, seq 4, length 3",
    ),
    (
        V6 / ICMPv6EchoRequest(id=3, seq=4, data=b"abc"),
        "IP6 fd00:9::1 > fd00:9::2: ICMP6 echo request, id 3, seq 4, length 3",
    ),
    (
        V4 / ICMP(type=3, code=4, nexthopmtu=1400) / bytes(SEGMENT)[:28],
        (
            "IP 10.9.0.1 > 10.9.0.2: ICMP unreachable, code 4, mtu 1400, "
            "about 10.9.0.1.80 > 10.9.0.2.40000 protocol 6 seq 4294967294"
        ),
    ),
    (
        V4 / ICMP(type=11, code=0) / bytes(V4 / ICMP()),
        "IP 10.9.0.1 > 10.9.0.2: ICMP time exceeded, code 0, about 10.9.0.1 > 10.9.0.2 protocol 1",
    ),
    (
        V6 / ICMPv6PacketTooBig(mtu=1280) / bytes(V6 / UDP(sport=1, dport=2)),
        (
            "IP6 fd00:9::1 > fd00:9::2: ICMP6 packet too big, code 0, mtu 1280, "
            "about fd00:9::1.1 > fd00:9::2.2 protocol 17"
        ),
    ),
    (
        V6 / ICMPv6DestUnreach(code=4) / b"short",
        (
            "IP6 fd00:9::1 > fd00:9::2: ICMP6 unreachable, code 4, "
            "about malformed: icmp-quote-truncated"
        ),
    ),
    (
        V4 / ICMP(type=13, code=0) / b"",
        "IP 10.9.0.1 > 10.9.0.2: ICMP type 13, code 0, length 12",
    ),
    (
        IP(src="10.9.0.1", dst="10.9.0.2", id=77, flags="MF", frag=2, proto=17) / bytes(16),
        "IP 10.9.0.1 > 10.9.0.2: fragment of protocol 17, id 77, offset 16, length 16, more",
    ),
    (
        IP(src="10.9.0.1", dst="10.9.0.2", id=77, frag=2, proto=17) / bytes(3),
        "IP 10.9.0.1 > 10.9.0.2: fragment of protocol 17, id 77, offset 16, length 3",
    ),
    (
        V6 / IPv6ExtHdrFragment(nh=6, offset=0, m=1, id=9) / bytes(24),
        "IP6 fd00:9::1 > fd00:9::2: fragment of protocol 6, id 9, offset 0, length 24, more",
    ),
    (
        V6 / IPv6ExtHdrFragment(nh=6, offset=1, m=0, id=9) / bytes(8),
        "IP6 fd00:9::1 > fd00:9::2: fragment of protocol 6, id 9, offset 8, length 8",
    ),
    (
        V6 / IPv6ExtHdrRouting(addresses=["fd00::7"], segleft=1, nh=6),
        "IP6 fd00:9::1 > fd00:9::2: header problem, code 0, at 42",
    ),
    (
        IP(src="10.9.0.1", dst="10.9.0.2", proto=132) / b"sctp",
        "IP 10.9.0.1 > 10.9.0.2: protocol 132, length 4",
    ),
    (
        IPv6(src="fd00:9::1", dst="fd00:9::2", nh=1) / b"icmp",
        "IP6 fd00:9::1 > fd00:9::2: protocol 1, length 4",
    ),
    (
        IP(src="10.9.0.1", dst="10.9.0.2", proto=58) / b"icmpv6",
        "IP 10.9.0.1 > 10.9.0.2: protocol 58, length 6",
    ),
    (
        IP(src="10.9.0.1", dst="10.9.0.2", proto=6) / b"short",
        "IP 10.9.0.1 > 10.9.0.2: malformed: tcp-truncated",
    ),
]


@pytest.mark.parametrize("packet, line", LINES, ids=[line for _, line in LINES])
def test_a_packet_is_one_line(packet: Packet, line: str) -> None:
    assert describe(virtio.PLAIN + bytes(packet)) == line


def test_a_super_segment_says_so_and_its_partial_checksum_is_not_called_bad() -> None:
    header = virtio.HEADER.pack(virtio.NEEDS_CSUM, virtio.GSO_TCPV4, 40, 2, 20, 16)
    packet = bytes(SEGMENT)[:36] + b"\0\0" + bytes(SEGMENT)[38:]
    assert describe(header + packet).endswith("win 100, length 4, gso 2")
    assert "bad checksum" not in describe(header + packet)
    assert "bad checksum" in describe(virtio.PLAIN + packet)


@pytest.mark.parametrize(
    "frame, line",
    [
        (b"", "malformed: frame-truncated"),
        (virtio.PLAIN, "malformed: frame-truncated"),
        (virtio.PLAIN + b"\x00", "malformed: ip-version"),
        (virtio.PLAIN + b"\x45", "malformed: ipv4-truncated"),
        (virtio.PLAIN + b"\x60", "malformed: ipv6-truncated"),
    ],
)
def test_what_is_no_packet_is_said_to_be_malformed(frame: bytes, line: str) -> None:
    assert describe(frame) == line


@pytest.mark.parametrize(
    "wire, text",
    [
        ("", ""),
        ("050a 00000001 00000002", "sack 1 {1:2}"),
        ("2202", "tfo req"),
        ("2206 01020304", "tfo cookie 01020304"),
        ("1c04 8005", "uto 300 s"),
        ("ac0b 000001 000002 000003", "acc-ecn e0b 1 ceb 2 e1b 3"),
        ("ae08 000001 000002", "acc-ecn e1b 1 ceb 2"),
        ("0402 02", "sackOK,malformed"),
    ],
)
def test_options_are_named_as_in_tcpdump(wire: str, text: str) -> None:
    data = bytes.fromhex(wire)
    assert options_text(decode_options(data, 0, len(data))) == text


@EXAMPLES
@given(st.binary(max_size=120), st.sampled_from([frame for frame, _ in LINES]), st.integers(0, 120))
def test_no_bytes_make_it_raise(noise: bytes, packet: Packet, at: int) -> None:
    whole = bytes(packet)
    for frame in (
        noise,
        virtio.PLAIN + noise,
        virtio.PLAIN + whole[:at],
        virtio.PLAIN + whole[:at] + noise[:4] + whole[at + 4 :],
    ):
        line = describe(frame)
        assert line
        assert "\n" not in line
