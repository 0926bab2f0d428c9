"""`tools/bench [NAME...] [--json FILE]`: runs the benchmarks and shows the figures."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import click
from rich.console import Console

from tools.benchmarks import traffic
from tools.benchmarks.acks import acks
from tools.benchmarks.idle import idle
from tools.benchmarks.memory import memory, scale
from tools.benchmarks.namespaces import prepare
from tools.benchmarks.report import Figure, machine, print_table, write_json
from tools.benchmarks.segments import segments
from tools.benchmarks.servers import Placement
from tools.benchmarks.timers import timers

FILE_WIDTH = 120  # columns, when the table is not shown on a terminal

Benchmark: TypeAlias = Callable[[int, Placement], list[Figure]]
BENCHMARKS: dict[str, Benchmark] = {
    "bulk": traffic.bulk,
    "bulk-no-offload": traffic.bulk_no_offload,
    "bulk-jumbo": traffic.bulk_jumbo,
    "ping-pong": traffic.ping_pong,
    "connects": traffic.connects,
    "memory": memory,
    "scale": scale,
    "timers": timers,
    "idle": idle,
    "segments": segments,
    "acks": acks,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every run here.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--no-pin", is_flag=True, help="Leave client and server to the scheduler.")
def main(names: Sequence[str], json_file: Path | None, runs: int, no_pin: bool) -> None:
    """Runs the benchmarks NAMES (all of them when none is given) beside the kernel's own stack.

    Client and server stay on one CPU each, the same for the kernel and for ustack.
    Exits with 1 when a target was missed.
    """
    prepare()
    console = Console() if sys.stdout.isatty() else Console(width=FILE_WIDTH)
    where = machine()
    placement = Placement() if no_pin else Placement.apart()
    figures: list[Figure] = []
    for name in dict.fromkeys(names) or BENCHMARKS:
        with console.status(f"{name} ..."):
            figures += BENCHMARKS[name](runs, placement)
    print_table(figures, where, console)
    if json_file is not None:
        write_json(json_file, figures, where)
    raise SystemExit(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    main()
