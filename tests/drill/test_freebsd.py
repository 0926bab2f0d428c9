"""Scripts for FreeBSD: recognized by what they configure, played with its defaults.

The wire format is that of FreeBSD's tcp_addoptions(), the figures are its documented sysctls.
"""

from pathlib import Path

import pytest

from ustack.drill.freebsd import is_for_freebsd
from ustack.drill.parser import parse_script
from ustack.drill.player import Report
from ustack.drill.run import Options, run_file

MARK = "0 `sysctl net.inet.tcp.rfc1323=1`\n"
LISTEN = """
+0.00 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0.00 bind(3, ..., ...) = 0
+0.00 listen(3, 1) = 0
"""
OPEN = (
    LISTEN
    + """
+0.00 < S  0:0(0)       win 65535 <mss 1000>
+0.00 > S. 0:0(0) ack 1 win 65535 <mss 1460>
+0.05 < .  1:1(0) ack 1 win 65535
+0.00 accept(3, ..., ...) = 4
"""
)


def play(text: str, folder: Path) -> Report:
    path = folder / "t.pkt"
    path.write_text(text)
    return run_file(path, Options())


def passes(text: str, folder: Path) -> bool:
    report = play(text, folder)
    assert report.passed, "\n".join(report.lines)
    return report.passed


@pytest.mark.parametrize(
    "event",
    [
        "0 `sysctl -w net.inet.tcp.msl=1000`",
        "0 `kldload -n cc_newreno`",
        "0 `sockstat -4 | grep -c LISTEN`",
        '0 setsockopt(3, IPPROTO_TCP, TCP_FUNCTION_BLK, {function_set_name="freebsd"}, 36) = 0',
    ],
)
def test_what_exists_on_freebsd_only_tells_its_scripts(event: str) -> None:
    assert is_for_freebsd(parse_script(event, "t.pkt", []))


@pytest.mark.parametrize(
    "event",
    [
        "0 `sysctl -q net.ipv4.tcp_sack=1`",
        "0 setsockopt(3, IPPROTO_TCP, TCP_NODELAY, [1], 4) = 0",
    ],
)
def test_a_script_for_linux_is_none(event: str) -> None:
    assert not is_for_freebsd(parse_script(event, "t.pkt", []))


@pytest.mark.parametrize(
    "offered, answered",
    [
        ("<mss 1460>", "<mss 1460>"),
        ("<mss 1460,sackOK,eol,eol>", "<mss 1460,sackOK,eol,eol>"),
        ("<mss 1460,nop,wscale 3>", "<mss 1460,nop,wscale 6>"),
        ("<mss 1460,sackOK,TS val 9 ecr 0>", "<mss 1460,sackOK,TS val 1 ecr 9>"),
        ("<mss 1460,nop,nop,TS val 9 ecr 0>", "<mss 1460,nop,nop,TS val 1 ecr 9>"),
        (
            "<mss 1460,nop,wscale 3,sackOK,TS val 9 ecr 0>",
            "<mss 1460,nop,wscale 6,sackOK,TS val 1 ecr 9>",
        ),
    ],
)
def test_a_syn_ack_has_the_options_in_freebsds_order(
    offered: str, answered: str, tmp_path: Path
) -> None:
    text = f"{LISTEN}+0 < S 0:0(0) win 65535 {offered}\n+0 > S. 0:0(0) ack 1 win 65535 {answered}"
    assert passes(MARK + text, tmp_path)
    assert not play(text, tmp_path).passed  # Linux's window is another


def test_a_syn_is_repeated_each_second_at_first(tmp_path: Path) -> None:
    repeated = "+1 > S 0:0(0) win 65535 <...>\n" * 5
    text = """
+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
+0 connect(3, ..., ...) = -1 EINPROGRESS
+0 > S 0:0(0) win 65535 <mss 1460,nop,wscale 6,sackOK,TS val 100 ecr 0>
"""
    assert passes(MARK + text + repeated + "+2 > S 0:0(0) win 65535 <...>", tmp_path)


def test_the_window_is_of_whole_segments_of_the_peers_and_nothing_is_rounded_up(
    tmp_path: Path,
) -> None:
    """65 536 become 66 000 with segments of 1000, of which the scale of 6 shows 1031.25."""
    text = """
+0.00 < S  0:0(0)       win 65535 <mss 1000,nop,wscale 6>
+0.00 > S. 0:0(0) ack 1 win 65535 <mss 1460,nop,wscale 6>
+0.05 < .  1:1(0) ack 1 win 1024
+0.00 accept(3, ..., ...) = 4
+0.00 write(4, ..., 10) = 10
+0.00 > P. 1:11(10) ack 1 win 1031
"""
    assert passes(MARK + LISTEN + text, tmp_path)


def test_the_first_segment_is_acknowledged_after_the_delay_and_each_second_at_once(
    tmp_path: Path,
) -> None:
    text = """
+0.00 < P. 1:1001(1000) ack 1 win 65535
+0.04 > .  1:1(0) ack 1001 win 65000
+0.00 < P. 1001:2001(1000) ack 1 win 65535
+0.00 < P. 2001:3001(1000) ack 1 win 65535
+0.00 > .  1:1(0) ack 3001 win 63000
"""
    assert passes(MARK + OPEN + text, tmp_path)


def test_a_close_with_unread_text_sends_a_fin_and_text_after_it_a_reset(tmp_path: Path) -> None:
    text = """
+0.00 < P. 1:1001(1000) ack 1 win 65535
+0.04 > .  1:1(0) ack 1001 win 65000
+0.00 close(4) = 0
+0.00 > F. 1:1(0) ack 1001
+0.05 < P. 1001:2001(1000) ack 2 win 65535
+0.00 > R  2:2(0) win 0
"""
    assert passes(MARK + OPEN + text, tmp_path)


def test_a_zero_window_is_probed_with_text_after_five_seconds(tmp_path: Path) -> None:
    text = """
+0.00 write(4, ..., 2000) = 2000
+0.00 > .  1:1001(1000) ack 1
+0.00 > P. 1001:2001(1000) ack 1
+0.05 < .  1:1(0) ack 2001 win 0
+0.00 write(4, ..., 10) = 10
+5.00 > .  2001:2002(1) ack 1
"""
    assert passes(MARK + OPEN + text, tmp_path)


def test_a_reset_does_not_end_time_wait(tmp_path: Path) -> None:
    text = """
+0.00 close(4) = 0
+0.00 > F. 1:1(0) ack 1
+0.05 < F. 1:1(0) ack 2 win 65535
+0.00 > .  2:2(0) ack 2
+0.05 < R  2:2(0) win 0
+0.05 < F. 1:1(0) ack 2 win 65535
+0.00 > .  2:2(0) ack 2
"""
    assert passes(MARK + OPEN + text, tmp_path)


def test_a_setting_of_the_whole_stack_counts_before_anything_has_happened(tmp_path: Path) -> None:
    closed = """
+0.00 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0.00 bind(3, ..., ...) = 0
+0.00 < S 0:0(0) win 65535 <mss 1460>
+0.00 > R. 0:0(0) ack 1 win 0
"""
    assert passes(MARK + closed, tmp_path)
    report = play("0 `sysctl net.inet.tcp.blackhole=2`\n" + closed, tmp_path)
    assert report.lines[0].endswith("t.pkt:6: no packet was sent")
    late = closed + "+0 `sysctl net.inet.tcp.blackhole=2`"
    assert any("too late" in note for note in play(late, tmp_path).notes)
