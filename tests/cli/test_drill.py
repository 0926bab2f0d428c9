"""`ustack drill`, as a user sees it."""

from pathlib import Path

from click.testing import CliRunner, Result

from ustack.cli.drill import drill

PASSES = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 close(3) = 0\n"
FAILS = (
    "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n+0 bind(3, ..., ...) = 0\n+0 listen(3, 1) = 0\n"
    "+0 < S 0:0(0) win 100\n+0 > S. 0:0(0) ack 9 <...>\n"
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(drill, [str(one) for one in arguments], standalone_mode=False)


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_tree_is_played_and_counted(tmp_path: Path) -> None:
    for number in range(6):
        script(tmp_path, f"a/{number}.pkt", PASSES)
    script(tmp_path, "b/fails.pkt", FAILS)
    result = run(tmp_path, "--captures", tmp_path / "captures", "-j", "2")
    assert result.output.splitlines()[-1] == "6 passed, 1 failed"
    assert result.return_value == 1
    assert "fails.pkt:5: outbound packet: ack: expected 9, actual 1" in result.output
    assert [path.suffix for path in (tmp_path / "captures").iterdir()] == [".pcapng"]


def test_every_family_asked_for_is_played(tmp_path: Path) -> None:
    path = script(tmp_path, "a.pkt", PASSES)
    result = run(path, "--ip_version", "all", "-v")
    assert result.output.splitlines() == [
        f"PASS {path} [ipv4]",
        f"PASS {path} [ipv6]",
        f"PASS {path} [ipv4-mapped-ipv6]",
        "3 passed, 0 failed",
    ]
    assert result.return_value == 0


def test_a_malformed_script_is_one_line_with_its_position(tmp_path: Path) -> None:
    path = script(tmp_path, "a.pkt", "0 frobnicate() = 0\n")
    result = run(path, "--captures", tmp_path)
    assert f"{path}:1: unknown system call 'frobnicate'" in result.output
    assert result.output.splitlines()[-1] == "0 passed, 1 failed"


def test_an_unknown_option_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    path = script(tmp_path, "a.pkt", PASSES)
    result = run(path, "-o", "nonsense=1")
    assert "command line:0: unknown option --nonsense" in str(result.exception)


def test_a_folder_without_scripts_is_an_error(tmp_path: Path) -> None:
    assert "no scripts" in str(run(tmp_path).exception)


def test_options_of_packetdrills_command_line_are_taken_and_win(tmp_path: Path) -> None:
    text = "--mtu=1500\n" + FAILS.replace("ack 9 <...>", "ack 1 <mss 1360>").replace(
        "100\n", "100 <mss 9>\n"
    )
    path = script(tmp_path, "a.pkt", text)
    captures = "--captures", tmp_path / "captures"
    assert run(path, *captures).return_value == 1
    assert run("--mtu=1400", "--strict_segments", "--verbose", path, *captures).return_value == 0
    assert run("-o", "mtu=1400", path, *captures).return_value == 0
    assert "No such option" in str(run("--nonsense=1", path).exception)
