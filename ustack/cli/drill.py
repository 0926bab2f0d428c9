"""`ustack drill FILE...|DIR`: packetdrill scripts against ustack, in parallel."""

import os
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import click

from ustack.drill.matcher import RELAXATIONS
from ustack.drill.parser import COMMAND_LINE
from ustack.drill.player import Report
from ustack.drill.run import Options, find_scripts, plays_in, run_file
from ustack.drill.script import Settings
from ustack.drill.settings import IP_VERSIONS, NAMES, Option, apply_options

EXIT_FAILED = 1
FEW = 4  # scripts: below that, more processes cost more than they save


class _Command(click.Command):
    """Takes the options of packetdrill's own command line, too: `--mtu=1400` is `-o mtu=1400`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {name for parameter in self.params for name in parameter.opts}
        rewritten: list[str] = []
        for arg in args:
            option = arg.partition("=")[0]
            if option not in known and option[:2] == "--" and option[2:] in NAMES:
                rewritten.append("-o")
            rewritten.append(arg)
        return super().parse_args(ctx, rewritten)


@click.command(cls=_Command, short_help="run packetdrill scripts against the stack")
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--ip_version",
    "--ip-version",
    "ip_versions",
    multiple=True,
    type=click.Choice([*IP_VERSIONS, "all"]),
    help="Family of sockets and packets; can be given several times. Default: the script's.",
)
@click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="An option as at the top of a script (tolerance_usecs=10000); it wins over the script's.",
)
@click.option("-D", "--define", "definitions", multiple=True, metavar="NAME=VALUE")
@click.option(
    "--relax",
    "relaxations",
    multiple=True,
    type=click.Choice(RELAXATIONS),
    help="Do not compare this. A script that passes only so is reported.",
)
@click.option(
    "--allow-shell", is_flag=True, help="Give commands that are not known here to /bin/sh."
)
@click.option(
    "--captures",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("artifacts/drill"),
    show_default=True,
    help="Where the pcapng files of failing scripts go.",
)
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=None, help="Default: all cores.")
@click.option("-v", "--verbose", is_flag=True, help="Name passing scripts and all remarks too.")
def drill(
    paths: tuple[Path, ...],
    ip_versions: tuple[str, ...],
    options: tuple[str, ...],
    definitions: tuple[str, ...],
    relaxations: tuple[str, ...],
    allow_shell: bool,
    captures: Path,
    jobs: int | None,
    verbose: bool,
) -> int:
    """Plays packetdrill scripts (files, or all *.pkt below folders) and says which pass.

    With --ip_version, scripts whose name ends in -ipv4 or -ipv6 are played in that family only.
    Options of packetdrill itself (--tolerance_usecs=10000) are taken as -o has them.
    """
    chosen = list(IP_VERSIONS) if "all" in ip_versions else list(dict.fromkeys(ip_versions))
    common = [_option(text) for text in options]
    common += [Option(COMMAND_LINE, "define", text) for text in definitions]
    apply_options(Settings(), common)  # an unknown option is one error, not one for each script
    scripts = find_scripts(paths)
    if not scripts:
        raise click.ClickException("no scripts (*.pkt) there")

    work: list[tuple[Path, Options]] = []
    versions: list[str | None] = [*chosen] or [None]
    for version in versions:
        line = [*common]
        if version is not None:
            line.append(Option(COMMAND_LINE, "ip_version", version))
        settings = Options(tuple(line), frozenset(relaxations), allow_shell, captures)
        work += [(script, settings) for script in scripts if plays_in(script, version)]

    passed = 0
    jobs = jobs or os.cpu_count() or 1
    parallel = len(work) >= FEW and jobs > 1
    pool: Executor | None = ProcessPoolExecutor(jobs) if parallel else None
    with pool or nullcontext():
        reports = pool.map(_run, work, chunksize=4) if pool is not None else map(_run, work)
        for (script, settings), report in zip(work, reports, strict=True):
            passed += report.passed
            _show(_label(script, settings), report, verbose)
    click.echo(f"{passed} passed, {len(work) - passed} failed")
    return 0 if passed == len(work) else EXIT_FAILED


def _option(text: str) -> Option:
    name, equals, value = text.removeprefix("--").partition("=")
    return Option(COMMAND_LINE, name, value if equals else None)


def _run(work: tuple[Path, Options]) -> Report:
    return run_file(*work)


def _label(script: Path, options: Options) -> str:
    version = next((o.value for o in options.command_line if o.name == "ip_version"), None)
    return f"{script} [{version}]" if version else str(script)


def _show(label: str, report: Report, verbose: bool) -> None:
    if report.passed and not verbose and not report.relaxed:
        return
    needed = f" (relaxed: {', '.join(sorted(report.relaxed))})" if report.relaxed else ""
    click.echo(f"{'PASS' if report.passed else 'FAIL'} {label}{needed}")
    if not report.passed:
        for line in report.lines:
            click.echo(f"  {line}")
    if verbose or not report.passed:
        for note in report.notes:
            click.echo(f"  note: {note}")
