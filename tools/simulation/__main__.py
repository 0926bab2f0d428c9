"""`tools/sim --seeds A..B [-j N]`: runs random scenarios and says which seeds break a rule."""

import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

import click

from tools.simulation import controllers as long_path
from tools.simulation.campaign import (
    SEEDS_PER_CLUSTER_JOB,
    Failure,
    Report,
    jobs,
    run_duel,
    run_seed,
    run_seeds,
)
from tools.simulation.extras import random_scenario
from tools.simulation.goodput import SNAPSHOT, table
from tools.simulation.model_world import random_duel

ARTIFACTS = Path("artifacts")
FIRST_FAILURES = 20  # that get a capture


def seed_range(_context: click.Context, _option: click.Parameter, text: str) -> range:
    """A..B, both included, or one number."""
    match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a range of seeds like 1..1000")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise click.BadParameter(f"{text!r} ends before it begins")
    return range(first, last + 1)


@click.command()
@click.option("--seeds", metavar="A..B", callback=seed_range, default="1..200", show_default=True)
@click.option("-j", "processes", type=click.IntRange(1), help="Processes; default: all cores.")
@click.option("--scheduler", metavar="ADDRESS", help="A dask scheduler; needs distributed.")
@click.option("--model", is_flag=True, help="Only against the model (else every eighth also).")
@click.option("--capture", is_flag=True, help="Keep the captures of every seed in artifacts/.")
@click.option("--show", is_flag=True, help="Only print the scenarios of the seeds.")
@click.option("--goodput", is_flag=True, help=f"Only write {SNAPSHOT.name} anew.")
@click.option("--controllers", is_flag=True, help=f"Only write {long_path.TABLE.name} anew.")
def main(
    seeds: range,
    processes: int | None,
    scheduler: str | None,
    model: bool,
    capture: bool,
    show: bool,
    goodput: bool,
    controllers: bool,
) -> None:
    """Simulates two hosts in virtual time, with a random scenario for each seed.

    The same seed gives the same packets. A failing seed prints its reason and the command that
    repeats it, and leaves client.pcapng and server.pcapng in artifacts/sim-SEED/. Exits with 1
    when a seed failed.
    """
    if goodput:
        SNAPSHOT.write_text(table())
        print(f"wrote {SNAPSHOT}")
        return
    if controllers:
        long_path.TABLE.write_text(long_path.table())
        print(f"wrote {long_path.TABLE}")
        return
    if show:
        for seed in seeds:
            print(random_duel(seed) if model else random_scenario(seed))
        return
    report = Report()
    if capture:
        for seed in seeds:
            report.seeds += 1
            reason = capture_seed(seed, model)
            if reason:
                report.failures.append(Failure(seed, reason, model))
            print(f"seed {seed}: {folder(seed)}")
    else:
        for portion in portions(seeds, processes, scheduler, model):
            for failure in portion.failures:
                tell(failure, keep=len(report.failures) < FIRST_FAILURES)
            report.add(portion)
            if sys.stderr.isatty():
                print(f"\r{report.seeds} of {len(seeds)}", end="\r", file=sys.stderr)
    if report.packets:
        print(
            f"{report.packets} packets, {report.text / 1e6:.1f} MB, "
            f"{report.virtual_us / 3.6e9:.1f} hours of virtual time; ends: "
            + ", ".join(f"{count} {name}" for name, count in report.outcomes.most_common())
        )
    if report.duels:
        print(f"{report.duels} of them against the model" if not model else "against the model")
    failed = len(report.failures)
    print(f"{report.seeds - failed} passed, {failed} failed")
    raise SystemExit(failed > 0)


def portions(
    seeds: range, processes: int | None, scheduler: str | None, only_model: bool = False
) -> Iterator[Report]:
    """Reports of workers, here or on a cluster."""
    if scheduler is not None:
        yield from on_cluster(scheduler, seeds, only_model)
        return
    processes = processes or os.cpu_count() or 1
    run = partial(run_seeds, only_model=only_model)
    if processes == 1:
        yield from map(run, jobs(seeds))
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(run, jobs(seeds))


def on_cluster(address: str, seeds: range, only_model: bool) -> Iterator[Report]:
    """Reports of the workers of a dask cluster."""
    try:
        cluster = import_module("tools.simulation.cluster")
    except ImportError as error:
        install = f"{sys.executable} -m pip install distributed"
        raise click.ClickException(f"--scheduler needs dask: {install}") from error
    try:
        yield from cluster.reports(address, jobs(seeds, SEEDS_PER_CLUSTER_JOB), only_model)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"scheduler {address}: {error}") from error


def tell(failure: Failure, *, keep: bool) -> None:
    """Print a failure with the command that repeats it; `keep`: leave its captures."""
    print(f"seed {failure.seed}: {failure.reason}")
    print(f"    tools/sim --seeds {failure.seed} --capture{' --model' if failure.model else ''}")
    if keep:
        capture_seed(failure.seed, failure.model)
        print(f"    {folder(failure.seed)}")


def folder(seed: int) -> Path:
    """Where the captures of `seed` are kept."""
    return ARTIFACTS / f"sim-{seed}"


def capture_seed(seed: int, model: bool) -> str:
    """Run `seed` with captures. Returns why it failed, if it did."""
    folder(seed).mkdir(parents=True, exist_ok=True)
    run = run_duel if model else run_seed
    return run(seed, Report(), folder(seed))


if __name__ == "__main__":
    main()
