"""Scripts of tests/scripts on the kernel: that the expectations hold elsewhere too.

A few of them, since they run in real time; `tools/drill-kernel tests/scripts` plays all.
"""

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
SCRIPTS = REPOSITORY / "tests" / "scripts"

pytestmark = [pytest.mark.interop, pytest.mark.slow]


@pytest.mark.parametrize(
    "script",
    [
        "close/active.pkt",
        "handshake/simultaneous-open.pkt",
        "rfc5961/rst-in-window.pkt",
        "sack/blocks-reported.pkt",
        "sockets/poll-through-a-life.pkt",
        "timestamps/wrap.pkt",
        "udp/connected.pkt",
        "udp/refused-ipv4.pkt",
    ],
)
def test_the_kernel_passes_what_we_pass(script: str) -> None:
    tool = REPOSITORY / "tools" / "drill-kernel"
    command = [str(tool), "--tries", "5", str(SCRIPTS / script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
