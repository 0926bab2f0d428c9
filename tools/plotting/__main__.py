"""`tools/plot-trace FILE... [-o out.png]`: one picture of one connection of each file."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tools.plotting.from_capture import read_capture
from tools.plotting.from_trace import read_trace
from tools.plotting.series import Series
from ustack.errors import UStackError

TRACES = (".jsonl", ".qlog")


@click.command()
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The picture; its ending chooses the format. [default: beside the first file, .png]",
)
@click.option("--connection", default="", metavar="TEXT", help="The one with TEXT in its name.")
@click.option("--until", type=float, metavar="SECONDS", help="Only the beginning.")
@click.option("--title", default="")
@click.option("--list", "listing", is_flag=True, help="Only name the connections.")
def main(
    files: Sequence[Path],
    output: Path | None,
    connection: str,
    until: float | None,
    title: str,
    listing: bool,
) -> None:
    """Draws the largest connection of each FILE: sequence numbers with retransmissions and SACK
    blocks, congestion window and bytes in flight, round trips.

    FILE is a capture (pcap, pcapng), of whatever stack, or a trace (.jsonl) of `--trace`. Several
    files are drawn beside each other, on the same scales.
    """
    columns = []
    for file in files:
        found = [one for one in _read(file) if connection in one.name]
        if listing:
            for one in found:
                print(f"{file}: {one.name}: {one.size} bytes, {one.resent} segments sent again")
            continue
        if not found:
            raise click.ClickException(f"{file}: no such connection")
        largest = max(found, key=lambda one: one.size)
        columns.append((f"{file.stem}\n{largest.name}", _beginning(largest, until)))
    if listing:
        return
    from tools.plotting.drawing import draw  # noqa: PLC0415 (needs matplotlib, --list does not)

    target = output or files[0].with_suffix(".png")
    draw(columns, target, title)
    print(target)


def _read(file: Path) -> list[Series]:
    try:
        return read_trace(file) if file.suffix in TRACES else read_capture(file)
    except UStackError as error:
        raise click.ClickException(str(error)) from error


def _beginning(series: Series, until: float | None) -> Series:
    """What happened before `until`."""
    if until is None:
        return series
    short = Series(series.name)
    for name in ("sent", "sacks", "losses"):
        setattr(short, name, [one for one in getattr(series, name) if one.at <= until])
    for name in ("acks", "edges", "cwnd", "ssthresh", "in_flight", "window"):
        setattr(short, name, [one for one in getattr(series, name) if one[0] <= until])
    for name in ("rtt", "srtt", "rto", "states"):
        setattr(short, name, [one for one in getattr(series, name) if one[0] <= until])
    short.timeouts = [at for at in series.timeouts if at <= until]
    return short


if __name__ == "__main__":
    sys.exit(main())
