"""Scripts to events; expected values are those of the language's description."""

from dataclasses import replace

import pytest

from ustack.drill.parser import COMMAND_LINE, parse_script
from ustack.drill.positions import Position
from ustack.drill.script import (
    AccEcn,
    Anything,
    Array,
    CodeEvent,
    CommandEvent,
    EndOfOptions,
    FastOpen,
    Field,
    Function,
    IcmpPacket,
    Integer,
    IpInfo,
    Md5,
    Mss,
    Name,
    Nop,
    Or,
    Packet,
    PacketEvent,
    Quoted,
    RawOption,
    Sack,
    SackPermitted,
    Script,
    String,
    Struct,
    SyscallEvent,
    TcpOption,
    TcpPacket,
    TimeKind,
    Timestamp,
    UdpPacket,
    When,
    WindowScale,
)
from ustack.drill.settings import Option
from ustack.errors import MalformedFile
from ustack.wire.tcp import ACK, AE, CWR, ECE, FIN, PSH, SYN


def parse(text: str, **command_line: str) -> Script:
    options = [Option(COMMAND_LINE, name, value) for name, value in command_line.items()]
    return parse_script(text, "t.pkt", options)


def packet(line: str, **command_line: str) -> Packet:
    event = parse(f"0 {line}", **command_line).events[0]
    assert isinstance(event, PacketEvent)
    return event.packet


def tcp(line: str) -> TcpPacket:
    found = packet(line)
    assert isinstance(found, TcpPacket)
    return found


def options(text: str) -> tuple[TcpOption, ...] | None:
    return tcp(f"> . 1:1(0) ack 1 <{text}>").options


def call(text: str) -> SyscallEvent:
    event = parse(f"0 {text}").events[0]
    assert isinstance(event, SyscallEvent)
    return event


# Times


@pytest.mark.parametrize(
    "text, when",
    [
        ("0.25", When(TimeKind.ABSOLUTE, 250_000)),
        ("+.1", When(TimeKind.RELATIVE, 100_000)),
        ("+1", When(TimeKind.RELATIVE, 1_000_000)),
        ("*", When(TimeKind.ANY)),
        ("0.1~0.3", When(TimeKind.ABSOLUTE_WINDOW, 100_000, 300_000)),
        ("+0.1~+0.3", When(TimeKind.RELATIVE_WINDOW, 100_000, 300_000)),
        ("+.0000019", When(TimeKind.RELATIVE, 1)),
    ],
)
def test_every_form_of_time_is_read(text: str, when: When) -> None:
    assert parse(f"0 close(3) = 0\n{text} > . 1:1(0) ack 1").events[1].when == when


def test_a_blocking_call_has_a_start_and_an_end() -> None:
    event = parse("0 close(3) = 0\n+.1...0.300 read(4, ..., 1000) = 0").events[1]
    assert isinstance(event, SyscallEvent)
    assert (event.when.start_us, event.end_us) == (100_000, 300_000)


# TCP packets


def test_all_parts_of_a_tcp_packet_are_read_in_order() -> None:
    assert tcp("< [ect0] P. 1:1001(1000) ack 5841 win 257 urg 1 <nop,nop,sack 1:2 3:4>") == (
        TcpPacket(
            PSH | ACK,
            1,
            1000,
            5841,
            257,
            1,
            (Nop(), Nop(), Sack(((1, 2), (3, 4)))),
            ip=IpInfo(ecn="ect0"),
        )
    )


@pytest.mark.parametrize(
    "text, flags, ace",
    [
        (".", ACK, None),
        ("-", 0, None),
        ("S.", SYN | ACK, None),
        ("FP.", FIN | PSH | ACK, None),
        ("SEW", SYN | ECE | CWR, None),
        ("SEWA", SYN | ECE | CWR | AE, None),
        ("S.5", SYN | ACK | AE | ECE, 5),
        (".7", ACK | AE | CWR | ECE, 7),
        ("P1.", PSH | ACK | ECE, 1),
        ("S.0", SYN | ACK, None),
        ("S.E", SYN | ACK | ECE, None),
    ],
)
def test_flags_are_letters_with_the_dot_for_ack_or_an_ace_digit(
    text: str, flags: int, ace: int | None
) -> None:
    found = tcp(f"> {text} 1:1(0)")
    assert (found.flags, found.ace) == (flags, ace)


def test_ack_without_the_dot_does_not_set_the_flag() -> None:
    found = tcp("< S 0:0(0) ack 7 win 100")
    assert (found.flags, found.ack) == (SYN, 7)


def test_every_tcp_option_is_read() -> None:
    assert options("mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 8") == (
        Mss(1460),
        SackPermitted(),
        Timestamp(100, 0),
        Nop(),
        WindowScale(8),
    )
    assert options("FO 3021b9d889017eeb,eol,eol") == (
        FastOpen(bytes.fromhex("3021b9d889017eeb"), experimental=False),
        EndOfOptions(),
        EndOfOptions(),
    )
    assert options("FO,nop,nop") == (FastOpen(b"", experimental=False), Nop(), Nop())
    assert options("FOEXP 12345678") == (FastOpen(b"\x12\x34\x56\x78", experimental=True),)
    assert options("md5 00112233445566778899aabbccddeeff,nop,nop") == (
        Md5(bytes.fromhex("00112233445566778899aabbccddeeff")),
        Nop(),
        Nop(),
    )
    assert options("md5 valid,nop,nop") == (Md5(bytes(16), valid=True), Nop(), Nop())
    for written in ("gen 77 0011", "gen 77:0011", "gen 77 4 0011", "gen 0x4d:4:0x0011"):
        assert options(written) == (RawOption(77, b"\0\x11"),)
    assert options("gen 77,nop,nop") == (RawOption(77, b""), Nop(), Nop())
    assert options("ECN e1b 1 ceb 2 e0b 3,nop") == (AccEcn(174, (1, 2, 3)), Nop())
    assert options("nop,nop,nop,ECN e0b 5") == (Nop(), Nop(), Nop(), AccEcn(172, (5,)))
    assert options("nop,nop,TS val ... ecr 5!") == (Nop(), Nop(), Timestamp(None, 5, True))


def test_no_brackets_mean_no_options_and_an_ellipsis_means_any() -> None:
    assert tcp("> . 1:1(0) ack 1").options == ()
    assert options("...") is None


def test_the_extensions_of_the_freebsd_scripts_are_read() -> None:
    assert tcp("< S 4294967295:4294967295(0)! win 100").absolute
    assert tcp("> S. ...(0) ack 65537").seq is None
    assert tcp("> . 1:1(0) ack 1 </udp(9811 > 1)".replace("<", "")).udp_ports == (9811, 1)
    info = tcp("> (ttl 64, class 0x12) . 1:1(0) ack 1").ip
    assert info == IpInfo(ttl=64, tos=0x12)
    assert tcp("> (ecn ect0) . 1:1(0) ack 1").ip == IpInfo(ecn="ect0")
    assert tcp("> (af11) . 1:1(0) ack 1").ip == IpInfo(tos=10 << 2)


def test_explicit_ports_and_a_flow_label_are_read() -> None:
    found = tcp("< [flowlabel 0x12345] 1234 > 80 S 0:0(0) win 100")
    assert (found.ports, found.ip.flow_label) == ((1234, 80), 0x12345)


def test_outer_headers_are_read_over_and_said() -> None:
    event = parse("0 < ipv4 10.0.0.1 > 10.0.0.2: gre: S 0:0(0) win 100").events[0]
    assert isinstance(event, PacketEvent)
    assert event.tunnel


# UDP and ICMP


def test_datagrams_are_read_with_and_without_ports() -> None:
    assert packet("> udp (1000)") == UdpPacket(1000)
    assert packet("< udp 5000 > 6000 (20)") == UdpPacket(20, (5000, 6000))


def test_icmp_messages_are_read_with_what_they_quote() -> None:
    assert packet("< icmp unreachable frag_needed mtu 1200 [1:1461(1460)]") == IcmpPacket(
        3, 4, mtu=1200, seq=1, length=1460
    )
    assert packet("< icmp unreachable host_unreachable") == IcmpPacket(3, 1)
    assert packet("< icmp unreachable code_9 [udp(20)]") == IcmpPacket(
        3, 9, quoted=Quoted.UDP, length=20
    )
    assert packet("< icmp type_12 [raw(4)]") == IcmpPacket(12, quoted=Quoted.RAW, length=4)
    assert packet("> icmp echo_reply id 7") == IcmpPacket(0, identifier=7)
    assert packet("< icmp packet_too_big mtu 1300 [1:2(1)]", ip_version="ipv6") == IcmpPacket(
        2, mtu=1300, seq=1, length=1
    )


# System calls


def test_arguments_of_all_kinds_are_read() -> None:
    assert call('setsockopt(3, SOL_TCP, TCP_CONGESTION, "cu" "bic\\x00", 6) = 0').arguments == (
        Integer(3),
        Name("SOL_TCP"),
        Name("TCP_CONGESTION"),
        String(b"cubic\0"),
        Integer(6),
    )
    assert call("fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0x02 (flags O_RDWR)").arguments[2] == Or(
        Name("O_RDWR"), Name("O_NONBLOCK")
    )
    assert call("setsockopt(3, 1, 13, {onoff=1, linger=0}, 8) = 0").arguments[3] == Struct(
        (Field("onoff", None, Integer(1)), Field("linger", None, Integer(0)))
    )
    assert call("readv(4, [{..., 10}, {..., 0x14}], 2) = 30").arguments[1] == Array(
        (
            Struct((Field(None, None, Anything()), Field(None, None, Integer(10)))),
            Struct((Field(None, None, Anything()), Field(None, None, Integer(20)))),
        )
    )


def test_a_message_header_and_a_socket_address_are_read() -> None:
    message = call(
        "recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{...,10}], msg_flags=MSG_EOR,"
        " msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_INQ, cmsg_data=4}]}, 0) = 10"
    ).arguments[1]
    assert isinstance(message, Struct)
    assert message.get("msg_flags") == Name("MSG_EOR")
    assert message.fields[1].count == Integer(1)
    address = call(
        "connect(3, {sa_family = AF_INET, sin_port = htons(80),"
        ' sin_addr = inet_addr("192.0.2.1")}, ...) = 0'
    ).arguments[1]
    assert isinstance(address, Struct)
    assert address.get("sin_port") == Function("htons", (Integer(80),))


def test_result_errno_and_note_are_read() -> None:
    found = call("connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)")
    assert (found.result, found.errno) == (Integer(-1), "EINPROGRESS")
    found = call("read(3, ..., 5) = -1 (whatever)")
    assert (found.result, found.errno) == (Integer(-1), None)


# The whole script


def test_options_init_events_and_cleanup_are_told_apart() -> None:
    script = parse(
        "--ip_version=ipv4\n--tolerance_usecs=10000\n--local_ip=10.0.0.1\n--remote_ip=10.0.0.2/24\n"
        "`../common/defaults.sh`\n0 close(3) = 0\n+0 `sleep 1`\n+0 %{ assert 1 }%\n`cleanup`"
    )
    assert script.settings.tolerance_us == 10_000
    assert (script.settings.local_address, script.settings.remote_address) == (
        "10.0.0.1",
        "10.0.0.2",
    )
    assert script.init is not None and script.init.text == "../common/defaults.sh"
    assert script.cleanup is not None and script.cleanup.text == "cleanup"
    command, code = script.events[1:]
    assert isinstance(command, CommandEvent) and command.text == "sleep 1"
    assert isinstance(code, CodeEvent) and code.text == "assert 1"
    assert code.position == Position("t.pkt", 8)


def test_the_command_line_wins_and_addresses_of_the_other_family_are_dropped() -> None:
    text = "--ip_version=ipv4 --local_ip=10.0.0.1 --bind_port=99\n0 close(3) = 0"
    script = parse(text, ip_version="ipv6", bind_port="100")
    assert script.settings.local_address == "fd3d:a0b:17d6::1"
    assert script.settings.bind_port == 100
    assert script.settings.device_mtu == 1520


def test_definitions_come_from_the_script_the_command_line_and_the_runner() -> None:
    text = "--define=PORT=5\n0 close(PORT) = CODE\n+0 < icmp unreachable CODE [1:2(1)]"
    event = parse(text).events[1]
    assert isinstance(event, PacketEvent)
    assert event.packet == IcmpPacket(3, 1, seq=1, length=1)
    first = parse(text, define="PORT=7").events[0]
    assert isinstance(first, SyscallEvent)
    assert first.arguments == (Integer(7),)


def test_options_of_the_original_program_are_noted() -> None:
    script = parse("--send_omit_free\n0 close(3) = 0")
    assert script.notes == ("t.pkt:1: option --send_omit_free has no meaning here",)


# Errors


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "1: expected an event, found end of file"),
        ("--nonsense=1\n0 close(3) = 0", "1: unknown option --nonsense"),
        ("--mtu=abc\n0 close(3) = 0", "1: --mtu: 'abc' is not a number"),
        ("--ip_version=ipv5\n0 close(3) = 0", "1: --ip_version is one of"),
        ("--local_ip=1.2.3\n0 close(3) = 0", "1: --local_ip: '1.2.3' is no address"),
        ("0.1 close(3) = 0", "1: the first event has time 0"),
        ("0 close(3) = 0\n1 close(3) = 0\n.5 close(3) = 0", "3: the event is earlier"),
        ("* close(3) = 0", "1: only an outbound packet"),
        ("0 close(3) = 0\n+0~+1 < . 1:1(0) win 5", "2: only an outbound packet"),
        ("0 close(3) = 0\n+0~1 > . 1:1(0)", "2: both ends of a range"),
        ("0 close(3) = 0\n+2~+1 > . 1:1(0)", "2: the range of time ends before"),
        ("0 close(3) = 0\n+2...1 close(3) = 0", "2: the call ends before it starts"),
        ("0 < S 0:0(0)", "1: an inbound TCP packet needs a window"),
        ("0 < . 1:1(0) win 1 <...>", "1: <...> is for outbound packets only"),
        ("0 < [ect01] . 1:1(0) win 1", "1: ect01 is for outbound packets only"),
        ("0 < . 1:9(5) win 1", "1: 1:9(5): the end is not start plus length"),
        ("0 < . ...(0) win 1", "1: an inbound packet needs a sequence number"),
        ("0 < X 1:1(0) win 1", "1: 'X' is no TCP flag"),
        ("0 < SE.5 1:1(0) win 1", "1: an ACE digit and the flags"),
        ("0 < S9. 1:1(0) win 1", "1: the ACE counter is one digit 0-7"),
        ("0 < . 1:1(0) win 65536", "1: win 65536 is not in 0..65535"),
        ("0 < . 1:1(0) win 1 <nop>", "1: the TCP options take 1 bytes"),
        ("0 < . 1:1(0) win 1 <sack 1:2 3:4 5:6 7:8 9:10,nop,nop>", "1: the TCP options take 44"),
        ("0 < . 1:1(0) win 1 <foo 1>", "1: unknown TCP option 'foo'"),
        ("0 < . 1:1(0) win 1 <FO abc>", "1: 'abc' is no even number of hex digits"),
        ("0 < . 1:1(0) win 1 <md5 0011223344556677889900112233445566>", "1: an MD5 digest"),
        ("0 < . 1:1(0) win 1 <mss 70000>", "1: mss 70000 is not in"),
        ("0 < icmp nonsense", "1: unknown ICMP type 'nonsense'"),
        ("0 < icmp unreachable nonsense", "1: unknown code 'nonsense'"),
        ("0 < icmp unreachable host_unreachable mtu 5", "1: mtu belongs to frag_needed"),
        ("0 frobnicate(3) = 0", "1: unknown system call 'frobnicate'"),
        ("0 close(3) = -1 ENONSENSE", "1: unknown errno name 'ENONSENSE'"),
        ("0 close(3)", "1: expected '=', found end of file"),
        ("0 close(3 = 0", "1: expected ',', found '='"),
        ("0 close(3) = 0 (open", "1: '(' without ')'"),
        ("0 close(3) = 0\n`a`\n`b`", "3: expected the end of the file"),
        ("0 [", "1: expected a packet, a system call, a command or code"),
        ("x", "1: expected a time, found 'x'"),
    ],
)
def test_an_error_is_one_line_with_file_and_line(text: str, message: str) -> None:
    with pytest.raises(MalformedFile) as caught:
        parse(text)
    assert str(caught.value).startswith(f"t.pkt:{message}")
    assert "\n" not in str(caught.value)


def test_a_packet_is_plain_data() -> None:
    assert replace(tcp("> . 1:1(0) ack 1"), ack=2).ack == 2
