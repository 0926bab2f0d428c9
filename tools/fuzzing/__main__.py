"""`tools/fuzz --minutes N`: hostile packets against the stack for so long; prints what it found."""

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path

import click

from tools.fuzzing.campaign import Tally, keep, run_seeds
from tools.fuzzing.subject import fails
from tools.fuzzing.trace import Trace

CORPUS = Path("tests/fuzz/corpus")
SEEDS_PER_JOB = 50


@click.command()
@click.option("--minutes", type=float, default=1.0, show_default=True, help="How long.")
@click.option("--seed", type=int, default=0, show_default=True, help="Where the seeds begin.")
@click.option("--seeds", type=click.IntRange(1), help="So many seeds instead of a time.")
@click.option("-j", "processes", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--corpus",
    type=click.Path(path_type=Path, file_okay=False),
    default=CORPUS,
    show_default=True,
    help="Where the traces of findings go.",
)
@click.option("--guided", is_flag=True, help="Let coverage guide it (pip install '.[fuzz]').")
@click.argument("traces", nargs=-1, type=click.Path(path_type=Path, exists=True, dir_okay=False))
def main(
    minutes: float,
    seed: int,
    seeds: int | None,
    processes: int,
    corpus: Path,
    guided: bool,
    traces: tuple[Path, ...],
) -> None:
    """Drives a stack into each state and throws packets at it, in virtual time.

    The same seed does the same. With TRACES (files of the corpus), only plays these again. Exits
    with 1 when a rule was broken.
    """
    if traces:
        raise SystemExit(play_again(traces))
    if guided:
        raise SystemExit(run_guided(minutes, seed, corpus))
    total = Tally()
    begin = time.monotonic()
    for portion in portions(seed, seeds, processes):
        for found in portion.findings:
            click.echo(f"seed {found.seed}: {found.reason[:300]}\n    at {found.where}")
            path = keep(found, corpus)
            if path is not None:
                click.echo(f"    tools/fuzz {path}")
            else:
                click.echo(f"    tools/fuzz --seed {found.seed} --seeds 1")
        total.add(portion)
        spent = time.monotonic() - begin
        if sys.stderr.isatty():
            print(f"\r{total.runs} runs, {total.packets} packets", end="\r", file=sys.stderr)
        if seeds is None and spent >= minutes * 60:
            break
    states = ", ".join(f"{many} {name}" for name, many in total.states.most_common())
    click.echo(
        f"{total.runs} runs in {time.monotonic() - begin:.0f} s: {total.packets} packets in, "
        f"{total.answers} out; hostile segments met: {states}"
    )
    click.echo(f"{len(total.findings)} findings")
    raise SystemExit(bool(total.findings))


def portions(seed: int, seeds: int | None, processes: int) -> Iterator[Tally]:
    """Tallies of one job after another, for ever unless `seeds` says how many runs."""
    if seeds is not None:
        end = seed + seeds
        jobs = (range(at, min(at + SEEDS_PER_JOB, end)) for at in range(seed, end, SEEDS_PER_JOB))
    else:
        jobs = (range(at, at + SEEDS_PER_JOB) for at in count(seed, SEEDS_PER_JOB))
    if processes == 1:
        yield from map(run_seeds, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        pending = [pool.apply_async(run_seeds, (job,)) for job in islice(jobs, 2 * processes)]
        while pending:
            yield pending.pop(0).get()
            job = next(jobs, None)
            if job is not None:
                pending.append(pool.apply_async(run_seeds, (job,)))


def play_again(traces: tuple[Path, ...]) -> int:
    """Play kept traces; 1 if one still breaks a rule."""
    broken = 0
    for path in traces:
        try:
            reason = fails(Trace.load(path))
        except ValueError as error:
            raise click.ClickException(str(error)) from error
        click.echo(f"{path}: {reason or 'passes'}")
        broken |= bool(reason)
    return broken


def run_guided(minutes: float, seed: int, corpus: Path) -> int:
    """Coverage-guided, in a process of its own: atheris instruments the stack as it is imported."""
    if find_spec("atheris") is None:
        raise click.ClickException("--guided needs atheris: pip install '.[fuzz]'")
    arguments = [str(round(minutes * 60)), str(seed), str(corpus)]
    return subprocess.call([sys.executable, "-m", "tools.fuzzing.guided", *arguments])


if __name__ == "__main__":
    main()
