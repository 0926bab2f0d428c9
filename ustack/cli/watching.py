"""A listing that is shown again and again: in place on a terminal, elsewhere one after another."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ustack.runtime.snapshot import Snapshot, SocketRow

Table = Callable[[Snapshot], Iterable[str]]


def watching(
    ask: Callable[[], Snapshot],
    table: Table,
    first: Snapshot,
    seconds: float,
    *,
    console: Console | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """`table` of what `ask` answers, `first` to begin with, every `seconds` until Ctrl-C.

    Raises what `ask` raises: the network has ended.
    """
    console = console or Console()
    with suppress(KeyboardInterrupt):
        if not console.is_terminal:
            _one_after_the_other(ask, table, first, seconds, sleep)
        with Live(console=console, auto_refresh=False, screen=True) as live:
            before, now = None, first
            while True:
                lines = [_summary(before, now, seconds), "", *table(now)]
                shown = (Text(line, no_wrap=True, overflow="ellipsis") for line in lines)
                live.update(Group(*shown), refresh=True)
                sleep(seconds)
                before, now = now, ask()


def _one_after_the_other(
    ask: Callable[[], Snapshot],
    table: Table,
    first: Snapshot,
    seconds: float,
    sleep: Callable[[float], None],
) -> None:
    before, now = None, first
    while True:
        click.echo("\n".join([_summary(before, now, seconds), *table(now), ""]))
        sleep(seconds)
        before, now = now, ask()


def _summary(before: Snapshot | None, now: Snapshot, seconds: float) -> str:
    """The time, how many there are of each kind, and the rates since `before`."""
    states: dict[str, int] = {}
    for row in now["sockets"]:
        states[row["state"]] = states.get(row["state"], 0) + 1
    counts = ", ".join(f"{count} {state.replace('_', '-')}" for state, count in states.items())
    text = f"{time.strftime('%H:%M:%S')}  {counts or 'no sockets'}"
    if before is None:
        return text
    rates = (
        _total(now, before, key) * 8 / seconds / 1e6 for key in ("bytes_received", "bytes_acked")
    )
    return text + "  in {:.3g} Mbit/s, out {:.3g} Mbit/s".format(*rates)


def _total(now: Snapshot, before: Snapshot, key: str) -> int:
    """By how much `key` has grown over the connections that were there before."""
    earlier = {_name(row): row["info"].get(key) for row in before["sockets"]}
    total = 0
    for row in now["sockets"]:
        value, old = row["info"].get(key), earlier.get(_name(row))
        if isinstance(value, int) and isinstance(old, int):
            total += value - old
    return total


def _name(row: SocketRow) -> tuple[tuple[str, int], tuple[str, int]]:
    # lists, once they have come through JSON
    local_host, local_port = row["local"]
    remote_host, remote_port = row["remote"]
    return (local_host, local_port), (remote_host, remote_port)
