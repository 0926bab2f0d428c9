"""One script from file to verdict: parsed, played on ustack, its capture kept when it fails."""

import io
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ustack.device.capture import CaptureProbe
from ustack.drill.freebsd import is_for_freebsd
from ustack.drill.parser import read_script
from ustack.drill.player import Player, Report
from ustack.drill.settings import Option
from ustack.drill.virtual import EPOCH_US, VirtualHost
from ustack.errors import MalformedFile

SUFFIX = ".pkt"


@dataclass(slots=True, frozen=True)
class Options:
    """What the user chose for all scripts of a run."""

    command_line: tuple[Option, ...] = ()
    relaxations: frozenset[str] = frozenset()
    allow_shell: bool = False
    captures: Path | None = None  # folder for the pcapng files of scripts that fail


def run_file(path: Path, options: Options) -> Report:
    """Plays the script at `path`. A file that cannot be read is a failure with one line."""
    try:
        script = read_script(path, options.command_line)
    except MalformedFile as error:
        return Report(passed=False, lines=[str(error)])
    captured = io.BytesIO()
    probe = CaptureProbe(captured, interface="drill", now_to_epoch_ns=-EPOCH_US * 1000)
    host = VirtualHost(
        script.settings,
        allow_shell=options.allow_shell,
        probe=probe,
        freebsd=is_for_freebsd(script),
    )
    player = Player(script, host, relaxations=options.relaxations)
    try:
        report = player.play()
    except Exception as error:  # noqa: BLE001 (a fault of the stack fails this script, not the run)
        where = traceback.extract_tb(error.__traceback__)[-1]
        line = f"{path}: the stack raised {type(error).__name__}: {error}"
        report = Report(passed=False, lines=[line, f"  in {where.filename}:{where.lineno}"])
    if not report.passed and options.captures is not None:
        try:
            kept = str(_keep(captured.getvalue(), path, options.captures, options))
        except OSError as error:
            kept = f"not kept, {options.captures}: {error.strerror}"
        report.lines.append(f"  capture: {kept}")
    return report


def _keep(capture: bytes, path: Path, folder: Path, options: Options) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    version = next((o.value for o in options.command_line if o.name == "ip_version"), None)
    parts = [part for part in path.with_suffix("").parts if part not in ("/", "..", ".")]
    name = "-".join(parts[-3:])
    kept = folder / f"{name}{f'.{version}' if version else ''}.pcapng"
    kept.write_bytes(capture)
    return kept


def plays_in(path: Path, version: str | None) -> bool:
    """Whether the script is meant for that `ip_version`; None: the one it says itself.

    A name that ends in "-ipv4" or "-ipv6" is of one family only: ICMP differs between them.
    """
    if version is None:
        return True
    family = "ipv6" if version == "ipv6" else "ipv4"
    _, dash, suffix = path.stem.rpartition("-")
    return not dash or suffix not in ("ipv4", "ipv6") or suffix == family


def find_scripts(paths: Sequence[Path]) -> list[Path]:
    """The files named, and all scripts below the folders named, in order."""
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
    return found
