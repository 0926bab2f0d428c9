"""Damaged scripts: one clear line with file and position, never another exception."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.drill.parser import parse_script
from ustack.drill.player import Player
from ustack.drill.run import Options, run_file
from ustack.drill.virtual import VirtualHost
from ustack.errors import MalformedFile

SCRIPT = """--tolerance_usecs=5000
`sysctl -q net.ipv4.tcp_sack=1`
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < [ect0] S 0:0(0) win 32792 <mss 1000,sackOK,TS val 1 ecr 0,nop,wscale 7>
+0 > S. 0:0(0) ack 1 <...>
+.1 < . 1:1(0) ack 1 win 257 <nop,nop,TS val 2 ecr 1>
+0 accept(3, ..., ...) = 4
+0...0.1 read(4, ..., 100) = 10
+.1 < icmp unreachable frag_needed mtu 1200 [1:1001(1000)]
+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 10}], msg_flags=0}, 0) = 10
+0 %{ assert tcpi_snd_cwnd == 10 }%
+0~+.1 > P. 1:11(10) ack 1 <nop,nop,sack 1:2>
`sleep 1`
"""
CHARACTERS = '0123456789.:()<>[]{}=,|+-*~"`%\\ \n/#abSFPRWE_!é'


def complaint_about(text: str) -> str | None:
    try:
        parse_script(text, "t.pkt")
    except MalformedFile as error:
        return str(error)
    return None


def is_one_line_with_position(complaint: str) -> bool:
    return complaint.startswith("t.pkt:") and "\n" not in complaint


@given(st.text(CHARACTERS, max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_script_or_one_line(text: str) -> None:
    complaint = complaint_about(text)
    assert complaint is None or is_one_line_with_position(complaint)


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(SCRIPT) - 1), st.integers(0, 10), st.text(CHARACTERS, max_size=5)
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_script_is_played_or_one_line(edits: list[tuple[int, int, str]]) -> None:
    text = SCRIPT
    for at, removed, inserted in edits:
        text = text[:at] + inserted + text[at + removed :]
    complaint = complaint_about(text)
    if complaint is not None:
        assert is_one_line_with_position(complaint)
        return
    script = parse_script(text, "t.pkt")
    report = Player(script, VirtualHost(script.settings)).play()
    assert report.passed or report.lines[0].startswith("t.pkt:")


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "binary.pkt").write_bytes(b"\xff\xfe\x00")
    for name, reason in (("none.pkt", "No such file or directory"), ("binary.pkt", "not a text")):
        report = run_file(tmp_path / name, Options())
        assert not report.passed
        assert len(report.lines) == 1 and reason in report.lines[0]
