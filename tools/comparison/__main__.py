"""`tools/compare-goodput [WHAT...] [--json FILE]`: measures, and shows the figures in tables."""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import click
from rich.console import Console
from rich.table import Table

from tools.benchmarks.namespaces import prepare
from tools.benchmarks.report import machine
from tools.comparison import cells, episodes
from tools.comparison.cells import Cell, Row
from tools.comparison.hosts import check_kernel_has
from tools.comparison.recording import Recording
from tools.comparison.scheduling import be_prompt
from tools.comparison.transfers import (
    KERNEL_PAIR,
    PAIRS,
    World,
    pair_name,
    run,
    together,
    world,
)
from ustack.runtime.trace import TraceFile
from ustack.tcp.congestion import REGISTRY

FILE_WIDTH = 120  # columns, when the table is not shown on a terminal
OURS = [pair for pair in PAIRS if pair != KERNEL_PAIR]
KERNEL_NAMES = {"newreno": "reno"}

Result: TypeAlias = dict[str, Any]


async def _grid(world_: World, console: Console, only: str, seeds: int | None) -> Result:
    chosen = [cell for cell in cells.grid() if only in _cell_name(cell)]
    table = _table("Goodput, Mbit/s, and its ratio to kernel>kernel", "cell", _pair_columns())
    found = []
    for cell in chosen:
        with console.status(_cell_name(cell)):
            row = await cells.measure(world_, cell, cells.SECONDS, seeds)
        table.add_row(_cell_name(cell), *_goodput_columns(row), _verdict(row))
        found.append(_row_json(row))
        if not console.is_terminal:
            click.echo(f"{_cell_name(cell)}: {found[-1]['ratios']}", err=True)
    console.print(table)
    met = sum(all(one["met"].values()) for one in found)
    console.print(f"{met} of {len(found)} cells meet the aim with every pair")
    return {"cells": found, "met": met == len(found)}


def _cell_name(cell: Cell) -> str:
    text = f"{cell.round_trip_ms} ms, loss {cell.loss:.0%}"
    if cell.buffer != 1.0:
        text += f", buffer {cell.buffer:g} BDP"
    if cell.reorder:
        text += f", reorder {cell.reorder:.0%}"
    return text


def _pair_columns() -> list[str]:
    return [pair_name(KERNEL_PAIR), *map(pair_name, OURS), "aim"]


def _goodput_columns(row: Row) -> list[str]:
    columns = [f"{row.value(KERNEL_PAIR) / 1e6:.2f}"]
    for pair in OURS:
        ratio = row.ratio(pair)
        colour = "green" if ratio >= row.cell.aim else "red"
        columns.append(f"{row.value(pair) / 1e6:.2f} [{colour}]{ratio:.2f}[/]")
    return columns


def _verdict(row: Row) -> str:
    met = all(row.ratio(pair) >= row.cell.aim for pair in OURS)
    late = " (late)" if row.late_us > row.cell.late_limit_us else ""
    return f"{row.cell.aim:g} " + ("met" if met else "missed") + late


def _row_json(row: Row) -> Result:
    return {
        "cell": _cell_name(row.cell),
        "loss": row.cell.loss,
        "round_trip_ms": row.cell.round_trip_ms,
        "buffer_bdp": row.cell.buffer,
        "reorder": row.cell.reorder,
        "late_us": row.late_us,
        "aim": row.cell.aim,
        "goodput_bps": {pair_name(pair): row.goodputs[pair] for pair in PAIRS},
        "ratios": {pair_name(pair): round(row.ratio(pair), 3) for pair in OURS},
        "met": {pair_name(pair): row.ratio(pair) >= row.cell.aim for pair in OURS},
    }


async def _repairs(world_: World, console: Console) -> Result:
    found = await episodes.repairs(world_)
    table = _table("Repair of a loss, in round trips of 100 ms", "lost", _pair_columns())
    met = True
    for repair in episodes.REPAIRS:
        row = found[repair.name]
        limit = repair.aim + episodes.REPAIR_TOLERANCE
        met &= all(row[pair_name(pair)] <= limit for pair in OURS)
        times = (f"{row[pair_name(pair)]:.2f}" for pair in (KERNEL_PAIR, *OURS))
        table.add_row(repair.name, *times, f"{repair.aim:g}")
    console.print(table)
    return {"round_trips": found, "met": met}


async def _megabyte(world_: World, console: Console) -> Result:
    found = await episodes.megabyte(world_)
    title = "1 MB at 20 ms: seconds without loss, with 1 %, and their ratio"
    table = _table(title, "rate", _pair_columns())
    for rate, times in found.items():
        columns = []
        for pair in (KERNEL_PAIR, *OURS):
            without, with_loss = times[pair_name(pair)]
            columns.append(f"{without:.2f} {with_loss:.2f} {with_loss / without:.2f}")
        table.add_row(rate, *columns, f"{episodes.MEGABYTE_AIM}")
    console.print(table)
    ratios = {
        rate: {name: lossy / clean for name, (clean, lossy) in times.items()}
        for rate, times in found.items()
    }
    return {"seconds": found, "ratios": ratios}


async def _fairness(world_: World, console: Console, seconds: float, runs: int) -> Result:
    found = await episodes.fairness(world_, seconds, runs)
    title = f"Two senders on one bottleneck of 8 Mbit/s at 100 ms for {seconds:g} s"
    table = _table(title, "senders", ["first's shares", "median", "both, Mbit/s"])
    for name, rates in found.items():
        shares = [one / ((one + other) or 1.0) for one, other in rates]
        total = median(one + other for one, other in rates)
        each = ", ".join(f"{share:.0%}" for share in shares)
        table.add_row(name, each, f"{median(shares):.0%}", f"{total:.2f}")
    console.print(table)
    return {"mbit_per_s": found}


async def _fill(world_: World, console: Console) -> Result:
    found = await episodes.fill(world_, 6.0)
    title = "1 Gbit/s at 100 ms, super-segments: seconds to fill it to 0.9, and the last second"
    table = _table(title, "pair", ["to 0.9 of the rate", "Mbit/s at the end"])
    for name, (filled, last) in found.items():
        table.add_row(name, "never" if filled is None else f"{filled:.2f} s", f"{last:.0f}")
    console.print(table)
    return {"pairs": found}


async def _record(congestion: str, kernel_name: str, only: str, directory: Path) -> None:
    """One run of each chosen cell, traced at the sender: ustack's and the kernel's."""
    directory.mkdir(parents=True, exist_ok=True)
    for cell in [one for one in cells.grid() if only in _cell_name(one)]:
        name = re.sub(r"[^a-z0-9.]+", "-", _cell_name(cell).replace("%", ""))
        trace = TraceFile(directory / f"{name}.ustack.jsonl", title=_cell_name(cell))
        recording = Recording("kernel")
        async with world(congestion, kernel_name, tracer=trace) as world_:
            sampling = asyncio.create_task(recording.sample())
            await together(
                world_.transfer(("ustack", "kernel"), cells.links(cell.link, 1), seconds=6.0),
                world_.transfer(
                    KERNEL_PAIR, cells.links(cell.link, 1), seconds=6.0, recording=recording
                ),
            )
            sampling.cancel()
        trace.close()
        recording.write(directory / f"{name}.kernel.jsonl")
        print(f"{directory / name}.ustack.jsonl {directory / name}.kernel.jsonl")


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="right")
    return table


Measurement: TypeAlias = Callable[[World, Console], Awaitable[Result]]
NAMES = ("grid", "repairs", "megabyte", "fairness", "fill")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option(
    "--congestion", default="reno", show_default=True, type=click.Choice(sorted(REGISTRY))
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every run here.")
@click.option("--cells", "only", default="", metavar="TEXT", help="Cells with TEXT in their name.")
@click.option("--seeds", type=click.IntRange(1), help="Runs of each cell. [default: by its loss]")
@click.option(
    "--record",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Measure nothing: traces of ustack and the kernel as senders, for tools/plot-trace.",
)
@click.option("--fair-seconds", type=float, default=60.0, show_default=True)
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Of fairness: a minute decides little, who has lost most in its slow start stays behind.",
)
def main(
    names: Sequence[str],
    congestion: str,
    json_file: Path | None,
    only: str,
    seeds: int | None,
    record: Path | None,
    fair_seconds: float,
    runs: int,
) -> None:
    """Runs NAMES (all when none is given): ustack>ustack, ustack>kernel, kernel>ustack beside
    kernel>kernel, at the same time over the same kind of link, with the same congestion control.
    """
    prepare()
    be_prompt()
    kernel_name = KERNEL_NAMES.get(congestion, congestion)
    check_kernel_has(kernel_name)
    if record is not None:
        run(partial(_record, congestion, kernel_name, only, record))
        return
    console = Console() if sys.stdout.isatty() else Console(width=FILE_WIDTH)
    measurements: dict[str, Measurement] = {
        "grid": partial(_grid, only=only, seeds=seeds),
        "repairs": _repairs,
        "megabyte": _megabyte,
        "fairness": partial(_fairness, seconds=fair_seconds, runs=runs),
        "fill": _fill,
    }

    async def measure() -> Result:
        found: Result = {"machine": machine(), "congestion": congestion}
        async with world(congestion, kernel_name) as world_:
            for name in dict.fromkeys(names) or NAMES:
                found[name] = await measurements[name](world_, console)
        return found

    found = run(measure)
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
