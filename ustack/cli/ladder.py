"""`ustack ladder`: draws the TCP connections of a capture file."""

import sys
from collections.abc import Iterator

import click
from rich.console import Console

from ustack.errors import MalformedFile
from ustack.ladder import Connection, Explainer, Ladder, connections, overview, tcp_packets
from ustack.pcapng import Record, read

MOST_DRAWN = 10  # connections that are drawn without being asked for one by one
EXIT_FAILURE = 1


class _Records:
    """The records of a file up to the place where it is damaged."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.damage: MalformedFile | None = None
        self.count = 0

    def __iter__(self) -> Iterator[Record]:
        try:
            for record in read(self.path):
                self.count += 1
                yield record
        except MalformedFile as error:
            self.damage = error


@click.command(short_help="draw the TCP connections of a capture file")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--connection", "-c", type=click.IntRange(min=1), help="Draw only this one.")
@click.option("--list", "-l", "list_only", is_flag=True, help="List the connections instead.")
@click.option("--full", "-f", is_flag=True, help="Draw every packet: fold nothing.")
@click.option("--explain", "-e", is_flag=True, help="Say the reason for each step.")
@click.option("--width", type=click.IntRange(min=60), help="Columns; default: the terminal's.")
def ladder(
    file: str,
    connection: int | None,
    list_only: bool,
    full: bool,
    explain: bool,
    width: int | None,
) -> int:
    """Draw the TCP connections of FILE (pcapng or pcap) as ladders.

    Numbers are relative to each side's initial sequence number. The state of each end is what
    RFC 9293 says it must be, judged from the packets alone. Long stretches of data are folded.
    """
    records = _Records(file)
    found = connections(tcp_packets(records))
    if records.damage and not records.count:
        raise records.damage
    if not found:
        raise click.ClickException(f"{file}: no TCP connection in {records.count} packets")
    if connection is not None and connection > len(found):
        raise click.BadParameter(f"{file} has {_count(len(found))}", param_hint="'--connection'")
    # A terminal that cannot show a character gets a "?", not a traceback.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    console = Console(width=width, highlight=False)
    if list_only:
        console.print(overview(found))
    else:
        _draw(console, found, connection, full=full, explain=explain)
    if records.damage:
        click.echo(f"ustack: {records.damage} (drawn up to there)", err=True)
        return EXIT_FAILURE
    return 0


def _count(number: int) -> str:
    return f"{number} connection" if number == 1 else f"{number} connections"


def _draw(
    console: Console, found: list[Connection], only: int | None, *, full: bool, explain: bool
) -> None:
    numbers = [only] if only else range(1, min(len(found), MOST_DRAWN) + 1)
    for number in numbers:
        chosen = found[number - 1]
        console.print(f"\nConnection {number} of {len(found)}", style="bold")
        console.print(Ladder(chosen, full=full, explain=Explainer() if explain else None))
    if only is None and len(found) > MOST_DRAWN:
        console.print(
            f"\n{len(found) - MOST_DRAWN} more connections: "
            "see them with --list, draw one with --connection N"
        )
