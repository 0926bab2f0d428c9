"""Every script of tests/scripts, played in both families; and the matrix that they cover."""

from pathlib import Path

import pytest

from ustack.drill.parser import COMMAND_LINE
from ustack.drill.run import Options, find_scripts, plays_in, run_file
from ustack.drill.settings import Option

SCRIPTS = Path(__file__).parent.parent / "scripts"
PLAYS = [
    (path, version)
    for version in ("ipv4", "ipv6")
    for path in find_scripts([SCRIPTS])
    if plays_in(path, version)
]

STATES = (
    "closed",
    "listen",
    "syn-sent",
    "syn-received",
    "established",
    "fin-wait-1",
    "fin-wait-2",
    "close-wait",
    "closing",
    "last-ack",
    "time-wait",
)
KINDS = ("syn", "syn-ack", "ack", "text", "fin", "rst", "none")  # none: no ACK, SYN, FIN, RST
# Cells of RFC 9293 §3.10.7 without a script of their own, and why.
WITHOUT_SCRIPT = {
    "rcv-none-closed": "dropped or answered exactly as text is",
    "rcv-text-closed": "answered as an ACK: RST at SEG.ACK",
    "rcv-text-listen": "answered as an ACK: RST at SEG.ACK",
    "rcv-text-syn-sent": "text without SYN is dropped as an ACK alone is",
    "rcv-none-syn-sent": "dropped before anything is looked at, as a FIN is",
    "rcv-syn-syn-sent": "simultaneous open: handshake/simultaneous-open.pkt",
    "rcv-syn-ack-syn-received": "simultaneous open: handshake/simultaneous-open.pkt",
    "rcv-syn-time-wait": "reuse of the pair: time-wait/new-syn.pkt, time-wait/old-syn.pkt",
    "rcv-syn-ack-time-wait": "no SYN of ours is out: judged as stray text",
    "rcv-none-time-wait": "dropped as in every state",
    "rcv-ack-time-wait": "an acceptable ACK changes nothing",
    "rcv-syn-listen": "the ordinary open: options/all-offered.pkt",
}


@pytest.mark.parametrize(
    "path, version",
    PLAYS,
    ids=[f"{path.relative_to(SCRIPTS).with_suffix('')}-{version}" for path, version in PLAYS],
)
def test_the_script_passes(path: Path, version: str, tmp_path: Path) -> None:
    line = (Option(COMMAND_LINE, "ip_version", version),)
    report = run_file(path, Options(line, captures=tmp_path))
    assert report.passed, "\n".join(report.lines)


def test_every_script_opens_with_a_sentence_and_its_source() -> None:
    for path in find_scripts([SCRIPTS]):
        first, second = path.read_text().splitlines()[:2]
        assert first.startswith("// "), path
        assert any(
            word in first + second for word in ("RFC ", "POSIX", "Linux", "tcp(7)", "send(2)")
        ), path


def test_every_cell_of_the_matrix_has_a_script_or_a_reason() -> None:
    folders = {path.name for path in (SCRIPTS / "segment-arrives").iterdir()}
    cells = {f"rcv-{kind}-{state}" for kind in KINDS for state in STATES}
    missing = sorted(cells - folders - set(WITHOUT_SCRIPT))
    assert missing == []
    assert sorted(folders - cells) == []
    assert sorted(folders & set(WITHOUT_SCRIPT)) == [], "a reason that is no longer needed"
