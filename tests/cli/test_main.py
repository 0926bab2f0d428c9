import subprocess
import sys

import pytest

from ustack.cli.main import describe, run
from ustack.errors import ConnectionReset, MalformedFile


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("serve", "nc", "ss", "ladder"))


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["juggle"]) == 2
    assert "No such command 'juggle'" in capsys.readouterr().err


def test_a_command_is_imported_only_when_it_is_asked_for() -> None:
    source = (
        "import sys; from ustack.cli.main import run; run(['--help']);"
        "sys.exit(' '.join(m for m in ('aiohttp', 'rich', 'pyroute2') if m in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


@pytest.mark.parametrize(
    "error, text",
    [
        (ConnectionReset(), "Connection reset by peer"),
        (FileNotFoundError(2, "No such file or directory", "x.pcap"), "x.pcap: No such file"),
        (MalformedFile("x.pcap: at byte 3:\n bad"), "x.pcap: at byte 3: bad"),
        (OSError("disk on fire"), "disk on fire"),
    ],
)
def test_an_error_is_one_line_without_its_number(error: OSError, text: str) -> None:
    assert describe(error).startswith(text)
    assert "\n" not in describe(error)
