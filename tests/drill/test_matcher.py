"""What is compared of an outbound packet, and what is not (language §11)."""

import pytest

from ustack.drill.matcher import StampCheck, Window, compare, compare_live, joins
from ustack.drill.packets import Endpoints, LivePacket, build_tcp, decode
from ustack.drill.parser import parse_script
from ustack.drill.script import PacketEvent, TcpPacket

WAY = Endpoints(b"\xc0\xa8\0\1", b"\xc0\0\2\1", 8080, 33000)


def packet(line: str) -> TcpPacket:
    event = parse_script(f"0 > {line}", "t.pkt").events[0]
    assert isinstance(event, PacketEvent) and isinstance(event.packet, TcpPacket)
    return event.packet


def live(line: str) -> LivePacket:
    return decode(build_tcp(packet(line), WAY), 0)


@pytest.mark.parametrize(
    "expected, actual, difference",
    [
        ("P. 1:2(1) ack 1", ". 1:2(1) ack 1", "flags: expected P., actual ."),
        ("S.5 1:1(0) ack 1", "S.4 1:1(0) ack 1", "flags: expected S.5, actual S.4"),
        (". 1:1(0) ack 1", ". 2:2(0) ack 1", "sequence number: expected 1, actual 2"),
        (". 1:1(0) ack 1", ". 1:2(1) ack 1", "payload length: expected 0, actual 1"),
        (". 1:1(0) ack 1", ". 1:1(0) ack 2", "ack: expected 1, actual 2"),
        ("R 1:1(0)", "R 1:1(0) ack 2", "ack: expected 0, actual 2"),
        (". 1:1(0) ack 1 win 5", ". 1:1(0) ack 1 win 6", "win: expected 5, actual 6"),
        (". 1:1(0) ack 1", ". 1:1(0) ack 1 urg 6", "urg: expected 0, actual 6"),
        (
            ". 1:1(0) ack 1",
            ". 1:1(0) ack 1 <nop,nop,sackOK>",
            "options: expected no options, actual <nop,nop,sackOK>",
        ),
        (
            "S 1:1(0) <mss 1460,nop,nop,sackOK>",
            "S 1:1(0) <nop,nop,sackOK,mss 1460>",
            "options: expected <mss 1460,nop,nop,sackOK>, actual <nop,nop,sackOK,mss 1460>",
        ),
        ("[ce] . 1:1(0) ack 1", "[ect0] . 1:1(0) ack 1", "IP header: expected ce, actual ect0"),
        ("[ttl 64] . 1:1(0)", "[ttl 63] . 1:1(0)", "IP header: expected ttl 64, actual ttl 63"),
    ],
)
def test_a_difference_is_said(expected: str, actual: str, difference: str) -> None:
    assert compare(packet(expected), packet(actual)) == [difference]


@pytest.mark.parametrize(
    "expected, actual",
    [
        (". 1:1(0) ack 1", ". 1:1(0) ack 1 win 6"),
        (". 1:1(0) ack 1", "[ce] . 1:1(0) ack 1"),
        ("[ect01] . 1:1(0) ack 1", "[ect1] . 1:1(0) ack 1"),
        ("[ttl 255] . 1:1(0) ack 1", "[ttl 64] . 1:1(0) ack 1"),
        (". 1:1(0) ack 1 <...>", ". 1:1(0) ack 1 <nop,nop,sackOK>"),
        (". ...(5) ack 1", ". 7:12(5) ack 1"),
        (
            ". 1:1(0) ack 1 <nop,nop,TS val 5 ecr 6>",
            ". 1:1(0) ack 1 <nop,nop,TS val 500 ecr 600>",
        ),
    ],
)
def test_what_is_not_written_is_not_compared(expected: str, actual: str) -> None:
    assert compare(packet(expected), packet(actual)) == []


def test_ts_val_is_compared_in_ticks_when_the_tick_is_known() -> None:
    expected = packet(". 1:1(0) ack 1 <nop,nop,TS val 100 ecr 6>")
    actual = packet(". 1:1(0) ack 1 <nop,nop,TS val 104 ecr 6>")
    assert compare(expected, actual, StampCheck(1000, 4000)) == []
    assert compare(expected, actual, StampCheck(1001, 4000)) == ["TS val: expected 100, actual 104"]


def test_relaxations_ignore_what_they_name_and_no_more() -> None:
    expected = packet("P. 1:2(1) ack 1 win 5 <nop,nop,sackOK,mss 9>")
    actual = packet(". 1:2(1) ack 1 win 6 <mss 9,sackOK,nop,nop>")
    assert len(compare(expected, actual)) == 3
    assert compare(expected, actual, relaxed=frozenset({"psh", "win"})) != []
    assert compare(expected, actual, relaxed=frozenset({"psh", "window", "options"})) == []


def test_the_time_of_a_packet_has_two_bounds() -> None:
    window = Window(1000, 2000)
    assert window.difference(1000) is None
    assert window.difference(2000) is None
    assert window.difference(2001) == ("time: sent at 0.002001, expected 0.001000 to 0.002000")


def test_pieces_of_a_line_follow_each_other_and_agree() -> None:
    first = live(". 1:1001(1000) ack 1 win 9")
    assert joins(first, live("P. 1001:2001(1000) ack 1 win 9"), True, frozenset())
    assert joins(first, live("FP. 1001:1501(500) ack 1 win 9"), True, frozenset())
    assert not joins(first, live(". 1001:1501(500) ack 1 win 9"), False, frozenset())
    assert joins(first, live(". 1001:1501(500) ack 1 win 9"), False, frozenset({"segments"}))
    assert not joins(first, live(". 1002:2002(1000) ack 1 win 9"), True, frozenset())
    assert not joins(first, live(". 1001:2001(1000) ack 2 win 9"), True, frozenset())
    assert not joins(first, live(". 1001:2001(1000) ack 1 win 8"), True, frozenset())


def test_the_ip_part_is_checked_whatever_is_written() -> None:
    sent = live(". 1:11(10) ack 1")
    assert compare_live(sent, expect_ipv6=False) == []
    assert compare_live(sent, expect_ipv6=True) == ["IP version: expected 6"]
