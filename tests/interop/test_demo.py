"""`tools/demo` does what it promises, and what it draws agrees with what the stack noted."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.serving import check_capture
from ustack.ladder import Row, connections, tcp_packets
from ustack.pcapng import read

pytestmark = pytest.mark.interop

DEMO = Path(__file__).parents[2] / "tools" / "demo.py"
DEMO_LIMIT_S = 60  # what it promises
OURS = {"10.9.0.2", "fd00:9::2", "10.9.1.2", "fd00:9:1::2"}


@pytest.fixture
def demo(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEMO_LIMIT_S,
        check=False,
    )


def test_the_demo_tells_the_whole_story(
    demo: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert demo.returncode == 0, demo.stderr
    assert demo.stderr == ""
    for words in ("why three?", "take four steps?", "TIME_WAIT lasts two MSL", "the one who pays"):
        assert words in " ".join(demo.stdout.split())
    check_capture(tmp_path / "demo.pcapng")


def test_the_states_drawn_are_those_that_the_stack_was_in(
    demo: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    assert demo.returncode == 0, demo.stderr
    found = connections(tcp_packets(read(tmp_path / "demo.pcapng")))
    assert len(found) == 8
    noted = 0
    for connection in found:
        (own,) = (side for side, end in enumerate(connection.ends) if end.address in OURS)
        for row in connection.rows:
            state = state_noted(row)
            if state is not None:
                noted += 1
                assert row.after[own].name == state, f"packet {row.packet.number}"
    assert noted >= 8 * 4  # at least: opening, ESTABLISHED, and two steps of the close


def state_noted(row: Row) -> str | None:
    """Where the stack was after the packet, if it noted a change: "A -> B, B -> C" ends in C."""
    _, arrow, state = row.packet.comment.rpartition(" -> ")
    return state if arrow else None
