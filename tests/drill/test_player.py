"""Scripts played on ustack: what passes, what fails, and how it is said (language §5, §10-§12)."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from ustack.drill.parser import COMMAND_LINE, parse_script
from ustack.drill.player import Player, Report
from ustack.drill.settings import Option
from ustack.drill.virtual import VirtualHost

LISTEN = """
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
"""
ESTABLISHED = (
    LISTEN
    + """
+0 < S 0:0(0) win 32792 <mss 1000,sackOK,nop,nop,nop,wscale 7>
+0 > S. 0:0(0) ack 1 <...>
+.1 < . 1:1(0) ack 1 win 257
+0 accept(3, ..., ...) = 4
"""
)


def play(
    text: str,
    relaxations: frozenset[str] = frozenset(),
    allow_shell: bool = False,
    line: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    options = [Option(COMMAND_LINE, name, value) for name, value in line.items()]
    script = parse_script(text, "t.pkt", options)
    host = VirtualHost(script.settings, allow_shell=allow_shell)
    return Player(script, host, relaxations=relaxations).play()


def passes(text: str, **line: str) -> bool:
    report = play(text, line=line)
    assert report.passed, "\n".join(report.lines)
    return report.passed


def failure(text: str, **line: str) -> str:
    report = play(text, line=line)
    assert not report.passed
    return report.lines[0]


@pytest.mark.parametrize("version", ["ipv4", "ipv6", "ipv4-mapped-ipv6"])
def test_the_same_file_plays_in_all_three_families(version: str) -> None:
    assert passes(
        ESTABLISHED
        + """
+0 write(4, ..., 1000) = 1000
+0 > P. 1:1001(1000) ack 1
+.1 < P. 1:101(100) ack 1001 win 257
+0 > . 1001:1001(0) ack 101
+0 read(4, ..., 1000) = 100
+0 close(4) = 0
+0 > F. 1001:1001(0) ack 101
+.1 < F. 101:101(0) ack 1002 win 32792
+0 > . 1002:1002(0) ack 102
""",
        ip_version=version,
    )


def test_an_active_open_is_followed_with_its_isn_and_timestamps() -> None:
    assert passes(
        """
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0...0.1 connect(3, ..., ...) = 0
+0 > S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>
+.1 < S. 0:0(0) ack 1 win 5792 <mss 1460,sackOK,TS val 700 ecr 100,nop,wscale 7>
+0 > . 1:1(0) ack 1 <nop,nop,TS val 200 ecr 700>
"""
    )


def test_a_nonblocking_connect_reports_through_so_error() -> None:
    assert passes(
        """
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 fcntl(3, F_GETFL) = 2
+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
+0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)
+0 > S 0:0(0) <...>
+0 connect(3, ..., ...) = -1 EALREADY
+.1 < R. 0:0(0) ack 1 win 0
+0 poll([{fd=3, events=POLLOUT, revents=POLLOUT|POLLERR|POLLHUP}], 1, 0) = 1
+0 getsockopt(3, SOL_SOCKET, SO_ERROR, [ECONNREFUSED], [4]) = 0
+0 getsockopt(3, SOL_SOCKET, SO_ERROR, [0], [4]) = 0
"""
    )


def test_a_blocking_read_returns_when_the_data_arrives() -> None:
    text = ESTABLISHED + "+0...{} read(4, ..., 10) = 10\n+.2 < P. 1:11(10) ack 1 win 257\n"
    assert passes(text.format("0.2"))
    assert "read() returned at 0.300000, expected 0.400000" in failure(text.format("0.3"))


def test_a_call_that_never_returns_is_a_failure() -> None:
    assert "read() blocks for ever" in failure(ESTABLISHED + "+0 read(4, ..., 10) = 10")
    assert "read() still blocks" in failure(ESTABLISHED + "+0...0.5 read(4, ..., 10) = 10")


def test_a_mismatch_names_line_fields_both_packets_and_the_last_packets() -> None:
    report = play(ESTABLISHED + "+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 2 win 5\n")
    assert not report.passed
    assert report.lines[0].startswith("t.pkt:12: outbound packet: ack: expected 2, actual 1; win:")
    assert report.lines[1] == "  expected:          > P. 1:11(10) ack 2 win 5"
    assert report.lines[2].startswith("  actual:   0.100000 > P. 1:11(10) ack 1 win ")
    assert report.lines[3] == "  last 4 packets:"
    assert report.lines[4].startswith("    0.000000 < S 0:0(0) win 32792 <mss 1000,")


def test_a_packet_that_is_not_in_the_script_fails_the_next_outbound_line() -> None:
    text = ESTABLISHED + "+0 < P. 1:11(10) ack 1 win 257\n+0 close(3) = 0\n+.5 > R. 1:1(0) ack 1\n"
    assert "flags: expected R., actual ." in failure(text)


def test_a_packet_that_never_comes_is_waited_for_two_seconds() -> None:
    report = play(ESTABLISHED + "+0 > . 1:1(0) ack 1")
    assert report.lines[:3] == [
        "t.pkt:11: no packet was sent",
        "  expected:          > . 1:1(0) ack 1",
        "  actual:   nothing",
    ]


@pytest.mark.parametrize(
    "time, right",
    [
        ("+1.2", True),
        ("+1.0", True),
        ("+1.6", False),
        ("+.5", False),
        ("*", True),
        ("+.9~+1.1", True),
    ],
)
def test_the_time_of_a_packet_is_checked_with_the_tolerance(time: str, right: bool) -> None:
    # The SYN is resent after one second (RFC 6298 §2.1): 12.5 % of 1.2 s is 150 ms.
    text = f"""
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 fcntl(3, F_SETFL, O_NONBLOCK) = 0
+0 connect(3, ..., ...) = -1 EINPROGRESS
+0 > S 0:0(0) <...>
{time} > S 0:0(0) <...>
"""
    assert play(text, line={"tolerance_percent": "20"}).passed == right


def test_a_line_may_be_several_segments_unless_segments_are_strict() -> None:
    text = ESTABLISHED + "+0 write(4, ..., 3000) = 3000\n+0 > P. 1:3001(3000) ack 1\n"
    assert passes(text)
    assert "payload length: expected 3000, actual 1000" in failure("--strict_segments\n" + text)


def test_a_wrong_result_and_a_wrong_errno_are_said() -> None:
    assert "close() = -1 EBADF, expected 0" in failure("0 close(9) = 0")
    assert "close() = -1 EBADF, expected -1 EPIPE" in failure("0 close(9) = -1 EPIPE")
    assert passes("0 close(9) = -1 (whatever it is)")


def test_relaxations_are_reported_when_they_were_needed() -> None:
    text = ESTABLISHED + "+0 write(4, ..., 10) = 10\n+0 > . 1:11(10) ack 1\n"
    report = play(text, relaxations=frozenset({"psh", "window"}))
    assert report.passed
    assert report.relaxed == {"psh"}


def test_packet_mismatches_can_be_made_warnings() -> None:
    text = ESTABLISHED + "+0 write(4, ..., 10) = 10\n+0 > . 1:11(10) ack 1\n"
    report = play(text, line={"non_fatal": "packet"})
    assert report.passed
    assert any("flags: expected ., actual P." in note for note in report.notes)


def test_snippets_see_tcp_info_of_their_moment_and_share_names() -> None:
    text = (
        ESTABLISHED
        + "+0 %{ before = tcpi_snd_cwnd; assert tcpi_state == TCP_ESTABLISHED }%\n"
        + "+0 write(4, ..., 10000) = 10000\n+0 > P. 1:10001(10000) ack 1\n"
        + "+.1 < . 1:1(0) ack 10001 win 257\n"
    )
    assert passes(text + "+0 %{ assert tcpi_snd_cwnd == 2 * before }%\n")
    assert "assertion failed: 20 in: assert tcpi_snd_cwnd == 5, tcpi_snd_cwnd" in failure(
        text + "+0 %{ assert tcpi_snd_cwnd == 5, tcpi_snd_cwnd }%\n"
    )


def test_an_unknown_command_is_refused_unless_a_shell_is_allowed() -> None:
    text = "0 `sed -n p /dev/null`\n+0 close(9) = -1"
    assert "refused to run 'sed -n p /dev/null'" in failure(text)
    assert play(text, allow_shell=True).passed
    assert "exit status 1" in play("0 `expr 1 = 2`\n", allow_shell=True).lines[0]


def test_settings_without_a_knob_are_said_and_unknown_ones_are_errors() -> None:
    report = play("`sysctl -q net.ipv4.tcp_thin_linear_timeouts=1`\n0 close(9) = -1")
    assert report.notes == ["sysctl net.ipv4.tcp_thin_linear_timeouts=1 has no knob in ustack"]
    assert "t.pkt:1: unknown sysctl 'net.ipv4.tcp_nonsense'" in failure(
        "`sysctl -q net.ipv4.tcp_nonsense=2`\n0 close(9) = -1"
    )


def test_commands_configure_the_sockets_made_after_them() -> None:
    assert passes(
        "`sysctl -q net.ipv4.tcp_timestamps=0 net.ipv4.tcp_sack=0`"
        "\n0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 fcntl(3, F_SETFL, O_NONBLOCK) = 0\n"
        "+0 connect(3, ..., ...) = -1 EINPROGRESS\n+0 > S 0:0(0) <mss 1460,nop,wscale 7>\n"
    )


def test_sleeping_in_a_command_lets_virtual_time_pass() -> None:
    assert passes("0 `sleep 5`\n+0 close(9) = -1\n5 close(9) = -1")


def test_icmp_is_injected_and_answered() -> None:
    assert passes(
        LISTEN + "+0 < icmp echo_request id 7\n+0 > icmp echo_reply id 7\n", ip_version="ipv4"
    )


def test_a_port_where_nobody_listens_answers_with_a_reset() -> None:
    assert passes(
        "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 bind(3, ..., ...) = 0\n"
        "+0 < S 5:5(0) win 100\n+0 > R. 0:0(0) ack 6\n"
    )


def test_what_is_not_supported_is_said_with_its_line(tmp_path: Path) -> None:
    assert "t.pkt:1: psp_rx_assoc() is not supported" in failure("0 psp_rx_assoc() = 0")
    assert "tunnels are not supported" in failure("0 < ipv4 10.0.0.1 > 10.0.0.2: S 0:0(0) win 100")
    assert "unknown symbol 'SO_NONSENSE'" in failure(
        LISTEN + "+0 setsockopt(3, SOL_SOCKET, SO_NONSENSE, [1], 4) = 0"
    )


def test_text_goes_through_pipes_and_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(700))
    text = (
        ESTABLISHED
        + """
+0 pipe([5, 6]) = 0
+.1 < P. 1:101(100) ack 1 win 257
+0 > . 1:1(0) ack 101
+0 splice(4, NULL, 6, NULL, 1000, 0) = 100
+0 splice(5, NULL, 4, NULL, 1000, 0) = 100
+0 > P. 1:101(100) ack 101
+.1 < . 101:101(0) ack 101 win 257
+0 open("file", O_RDONLY) = 7
+0 sendfile(4, 7, [200], 5000) = 500
+0 > P. 101:601(500) ack 101
+.1 < . 101:101(0) ack 601 win 257
+0 sendfile(4, 7, NULL, 600) = 600
+0 > P. 601:1201(600) ack 101
+0 splice(4, NULL, 7, NULL, 10, 0) = -1 EINVAL
+0 close(5) = 0
"""
    )
    script = parse_script(text, str(tmp_path / "t.pkt"))
    report = Player(script, VirtualHost(script.settings)).play()
    assert report.passed, "\n".join(report.lines)


def test_two_runs_send_the_same_bytes() -> None:
    first, second = (play(ESTABLISHED + "+0 > . 1:1(0) ack 1").lines for _ in range(2))
    assert first == second


ZEROCOPY = (
    ESTABLISHED.replace("+0 bind", "+0 setsockopt(3, SOL_SOCKET, SO_ZEROCOPY, [1], 4) = 0\n+0 bind")
    + """
+0 send(4, ..., 1000, MSG_ZEROCOPY) = 1000
+0 > P. 1:1001(1000) ack 1
+.1 < . 1:1(0) ack 1001 win 257
+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{...,0}], msg_flags=MSG_ERRQUEUE, msg_control=[
    {cmsg_level=CMSG_LEVEL_IP, cmsg_type=CMSG_TYPE_RECVERR,
     cmsg_data={ee_errno=0, ee_origin=SO_EE_ORIGIN_ZEROCOPY, ee_type=0, ee_code=1,
                ee_info=0, ee_data=0}}]}, MSG_ERRQUEUE) = 0
"""
)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("ee_data=0", "ee_data=7", "ee_data: expected 7, actual 0"),
        ("cmsg_type=CMSG_TYPE_RECVERR", "cmsg_type=IP_TTL", "expected level 0 type 2"),
        ("msg_flags=MSG_ERRQUEUE", "msg_flags=0", "msg_flags: expected 0, actual 8192"),
        (", msg_control=[\n", ", msg_control=[{cmsg_level=1, cmsg_type=1, cmsg_data=1},\n", "2"),
    ],
)
def test_a_control_message_that_differs_is_named(old: str, new: str, said: str) -> None:
    assert passes(ZEROCOPY)
    assert said in failure(ZEROCOPY.replace(old, new))
