"""`ustack ss`: the sockets of a running `ustack serve`, as `ss -tino` shows the kernel's."""

import json
from collections.abc import Iterator
from pathlib import Path

import click

from ustack.cli.common import DEFAULT_TUN, Failure, one_line_errors
from ustack.cli.main import describe
from ustack.runtime.control import ask_sockets, control_path
from ustack.runtime.snapshot import Snapshot, SocketRow, Value
from ustack.tcp.congestion.newreno import INFINITE_SSTHRESH

# ss's names where they are not the RFC's
STATES = {"ESTABLISHED": "ESTAB", "SYN_RECEIVED": "SYN-RECV"}
TIMERS = {"rto": "on", "keep_alive": "keepalive", "fin_wait_2": "timewait"}
UNITS_S = ((86_400, "day"), (3_600, "hour"), (60, "min"))

HEADER = ("State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Timer")


@click.command()
@click.option(
    "--control",
    type=click.Path(path_type=Path),
    metavar="SOCKET",
    help="Where the network answers. [default: ${XDG_RUNTIME_DIR:-/tmp}/ustack-<tun>.sock]",
)
@click.option("--tun", default=DEFAULT_TUN, show_default=True, help="Of the network to ask.")
@click.option("--json", "as_json", is_flag=True, help="The whole answer, counters included.")
@one_line_errors
def ss(control: Path | None, tun: str, as_json: bool) -> None:
    """Show connections, listeners, timers and TIME-WAITs of a running network."""
    path = control or control_path(tun)
    try:
        snapshot = ask_sockets(path)
    except OSError as error:
        raise Failure(f"no running ustack at {path}: {describe(error)}") from error
    if as_json:
        click.echo(json.dumps(snapshot, indent=2))
        return
    for line in table(snapshot):
        click.echo(line)


def table(snapshot: Snapshot) -> Iterator[str]:
    """The lines of the listing, each connection with an indented one of details."""
    rows = [HEADER]
    details = [""]
    for socket in snapshot["sockets"]:
        rows.append(_columns(socket))
        details.append(_details(socket["info"]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for row, detail in zip(rows, details, strict=True):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if detail:
            yield f"\t {detail}"


def _columns(socket: SocketRow) -> tuple[str, str, str, str, str, str]:
    state = socket["state"]
    timer = socket["timer"]
    return (
        STATES.get(state, state.replace("_", "-")),
        str(socket["receive_queue"]),
        str(socket["send_queue"]),
        _endpoint(*socket["local"]),
        _endpoint(*socket["remote"]),
        "" if timer is None else _timer(*timer),
    )


def _endpoint(host: str, port: int) -> str:
    shown_port = str(port) if port else "*"
    if not host:
        return f"*:{shown_port}"
    return f"[{host}]:{shown_port}" if ":" in host else f"{host}:{shown_port}"


def _timer(name: str, left_us: int, expired: int) -> str:
    return f"timer:({TIMERS.get(name, name)},{_duration(left_us)},{expired})"


def _duration(us: int) -> str:
    """As ss: 200ms, 4.5sec, 59sec, 2min30sec, 119min, 2hour."""
    if us < 1_000_000:
        return f"{us // 1000}ms"
    if us < 10_000_000:
        return f"{us / 1e6:.1f}sec"
    seconds = us // 1_000_000
    for size, unit in UNITS_S:
        if seconds >= 2 * size:
            rest = seconds % size
            exact = unit == "min" and seconds < 10 * size and rest
            return f"{seconds // size}{unit}" + (f"{rest}sec" if exact else "")
    return f"{seconds}sec"


def _details(info: dict[str, Value]) -> str:
    """ "newreno ts sack wscale:7,7 rto:204 rtt:0.05/0.02 mss:1448 cwnd:10 ..." as ss -i."""
    if not info:
        return ""
    words = [str(info["congestion"])]
    words += [word for key, word in (("timestamps", "ts"), ("sack", "sack")) if info[key]]
    words.append(f"wscale:{info['snd_wscale']},{info['rcv_wscale']}")
    words.append(f"rto:{_ms(info['rto'])}")
    if info["rtt"] is not None:
        words.append(f"rtt:{_ms(info['rtt'])}/{_ms(info['rttvar'])}")
        words.append(f"minrtt:{_ms(info['min_rtt'])}")
    words.append(f"mss:{info['snd_mss']}")
    words.append(f"rcvmss:{info['rcv_mss']}")
    words.append(f"advmss:{info['advmss']}")
    words.append(f"cwnd:{info['snd_cwnd']}")
    for key, word in (
        ("snd_ssthresh", "ssthresh"),
        ("unacked", "unacked"),
        ("sacked", "sacked"),
        ("lost", "lost"),
        ("backoff", "backoff"),
        ("out_of_order", "rcv_ooo"),
    ):
        value = info[key]
        if value and value != INFINITE_SSTHRESH:
            words.append(f"{word}:{value}")
    if info["total_retrans"]:
        words.append(f"retrans:{info['retrans']}/{info['total_retrans']}")
    words.append(f"bytes_acked:{info['bytes_acked']}")
    words.append(f"bytes_received:{info['bytes_received']}")
    words.append(f"segs_out:{info['segs_out']}")
    words.append(f"segs_in:{info['segs_in']}")
    words.append(f"snd_wnd:{info['snd_wnd']}")
    words.append(f"rcv_wnd:{info['rcv_wnd']}")
    words.append(f"ca_state:{info['ca_state']}")
    return " ".join(words)


def _ms(us: Value) -> str:
    """Milliseconds without superfluous digits: 204, 0.05."""
    assert isinstance(us, int)
    return f"{us / 1000:g}"
