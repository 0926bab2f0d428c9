"""What is printed is what the parser reads."""

import pytest

from ustack.drill.notation import packet_text, time_text
from ustack.drill.parser import parse_script
from ustack.drill.script import PacketEvent


@pytest.mark.parametrize(
    "line",
    [
        "> S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 8>",
        "< [ect0] P. 1:1001(1000) ack 5841 win 257 urg 1 <nop,nop,sack 1461:2921 4381:5841>",
        "> [tos 0x10,ttl 64,flowlabel 0x12345] FPUEWA. 1:1(0) ack 1 <...>",
        "> S.5 0:0(0) ack 1 <nop,ECN e1b 1 ceb 2 e0b 3>",
        "> R 1:1(0)",
        "> - 4294967295:9(10)",
        "> . ...(10) ack 1 <nop,nop,TS val ... ecr 5!>",
        "< 80 > 90 S 5:5(0)! win 0 <FO 0011>",
        "< S 5:5(0) win 0 <FOEXP,md5 00112233,nop,eol>",
        "< S 5:5(0) win 0 <md5 valid,gen 30 001122,nop>",
        "> . 1:1(0) ack 1 /udp(9811 > 1)",
        "> udp (1000)",
        "< udp 5000 > 6000 (20)",
        "< icmp unreachable frag_needed mtu 1200 [1:1461(1460)]",
        "< icmp time_exceeded code_7 [udp(20)]",
        "> icmp echo_reply id 7",
    ],
)
def test_a_printed_packet_reads_as_it_was_written(line: str) -> None:
    event = parse_script(f"0 {line}", "t.pkt").events[0]
    assert isinstance(event, PacketEvent)
    assert packet_text(event.packet, event.inbound, ipv6=False) == line


def test_times_have_six_digits() -> None:
    assert time_text(1_000_250) == "1.000250"
