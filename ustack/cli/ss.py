"""`ustack ss`: the sockets of a running `ustack serve`, as `ss -tino` shows the kernel's."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from ustack.cli.common import DEFAULT_TUN, Failure, one_line_errors
from ustack.cli.main import describe
from ustack.cli.watching import watching
from ustack.runtime.control import ask_sockets, control_path
from ustack.runtime.snapshot import Snapshot, SocketRow, Value
from ustack.tcp.congestion import INFINITE_SSTHRESH
from ustack.tcp.pacing import UNLIMITED

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
@click.option(
    "--watch",
    is_flag=False,
    flag_value=1.0,
    type=click.FloatRange(min=0.1),
    metavar="[SECONDS]",
    help="Again and again, every second or every SECONDS, until Ctrl-C.",
)
@one_line_errors
def ss(control: Path | None, tun: str, as_json: bool, watch: float | None) -> None:
    """Show connections, listeners, timers and TIME-WAITs of a running network."""
    path = control or control_path(tun)
    snapshot = _ask(path)
    if watch is not None:
        watching(lambda: _ask(path), table, snapshot, watch)
        return
    if as_json:
        click.echo(json.dumps(snapshot, indent=2))
        return
    for line in table(snapshot):
        click.echo(line)


def _ask(path: Path) -> Snapshot:
    try:
        return ask_sockets(path)
    except OSError as error:
        raise Failure(f"no running ustack at {path}: {describe(error)}") from error


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
    words += _more(info)
    words.append(f"ca_state:{info['ca_state']}")
    return " ".join(words)


def _more(info: dict[str, Value]) -> Iterator[str]:
    """What is shown only where there is something to show."""
    for key, word, show in MORE:
        value = info.get(key)
        if value and value != UNLIMITED:
            yield f"{word}:{show(value)}"
    cwnd, rtt = info["snd_cwnd"], info["rtt"]
    if isinstance(cwnd, int) and isinstance(rtt, int) and cwnd and rtt:
        yield f"send:{_rate(cwnd * 8e6 / rtt)}"  # as ss: what the window would give
    for key, word in (("app_limited", "app_limited"), ("ecn", "ecn"), ("ecn_seen", "ecnseen")):
        if info.get(key):
            yield word


def _ms(us: Value) -> str:
    """Milliseconds without superfluous digits: 204, 0.05."""
    assert isinstance(us, int)
    return f"{us / 1000:g}"


def _whole_ms(us: Value) -> str:
    assert isinstance(us, int)
    return str(us // 1000)


def _rate(bps: float) -> str:
    """As ss: 1.45Gbps, 812kbps."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if bps >= size:
            return f"{bps / size:.3g}{unit}bps"
    return f"{bps:.0f}bps"


def _octets_rate(value: Value) -> str:
    assert isinstance(value, int)
    return _rate(value * 8)


# Of TcpInfo, what is shown where it is there and not zero: key, ss's word, how
MORE: tuple[tuple[str, str, Callable[[Value], str]], ...] = (
    ("notsent", "notsent", str),
    ("last_data_sent", "lastsnd", _whole_ms),
    ("last_data_recv", "lastrcv", _whole_ms),
    ("pacing_rate", "pacing_rate", _octets_rate),
    ("delivery_rate", "delivery_rate", _octets_rate),
    ("bytes_retrans", "bytes_retrans", str),
    ("dsack_dups", "dsack_dups", str),
    ("dsack_bytes", "dsack_bytes", str),
    ("reord_seen", "reord_seen", lambda value: str(int(bool(value)))),
    ("delivered_ce", "delivered_ce", str),
    ("rcv_rtt", "rcv_rtt", _ms),
    ("rcv_space", "rcv_space", str),
    ("rcv_ssthresh", "rcv_ssthresh", str),
)
