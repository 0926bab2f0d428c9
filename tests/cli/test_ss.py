"""`ustack ss` shows a snapshot as `ss -tino` would."""

import asyncio
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from ustack.cli.common import Failure
from ustack.cli.main import run
from ustack.cli.ss import table
from ustack.cli.watching import watching
from ustack.runtime.control import control_socket
from ustack.runtime.snapshot import Snapshot, SocketRow, Value
from ustack.tcp.congestion import INFINITE_SSTHRESH

INFO: dict[str, Value] = {
    "congestion": "newreno",
    "timestamps": True,
    "sack": True,
    "snd_wscale": 7,
    "rcv_wscale": 10,
    "rto": 204_000,
    "rtt": 52,
    "rttvar": 20,
    "min_rtt": 40,
    "snd_mss": 1448,
    "rcv_mss": 536,
    "advmss": 1460,
    "snd_cwnd": 14480,
    "snd_ssthresh": INFINITE_SSTHRESH,
    "unacked": 0,
    "sacked": 0,
    "lost": 0,
    "backoff": 0,
    "out_of_order": 0,
    "retrans": 0,
    "total_retrans": 0,
    "bytes_acked": 1000,
    "bytes_received": 2000,
    "segs_out": 3,
    "segs_in": 4,
    "snd_wnd": 64512,
    "rcv_wnd": 65535,
    "ca_state": "open",
}


def row(
    state: str,
    *,
    local: tuple[str, int] = ("10.9.0.2", 7),
    remote: tuple[str, int] = ("10.9.0.1", 40000),
    timer: tuple[str, int, int] | None = None,
    info: dict[str, Value] | None = None,
) -> SocketRow:
    return {
        "state": state,
        "receive_queue": 1,
        "send_queue": 2,
        "local": local,
        "remote": remote,
        "timer": timer,
        "info": info or {},
    }


def lines(*rows: SocketRow) -> list[str]:
    """The lines below the header, with single spaces."""
    snapshot: Snapshot = {"sockets": list(rows), "counters": {}, "memory": {}}
    header, *rest = (" ".join(line.split()) for line in table(snapshot))
    assert header.startswith("State Recv-Q Send-Q Local Address:Port")
    return rest


def test_a_listener_has_stars_where_nothing_is_bound() -> None:
    assert lines(row("LISTEN", local=("", 80), remote=("", 0))) == ["LISTEN 1 2 *:80 *:*"]


def test_ipv6_addresses_are_in_brackets() -> None:
    shown = lines(row("CLOSE_WAIT", local=("fd00::2", 7), remote=("fd00::1", 40000)))
    assert shown == ["CLOSE-WAIT 1 2 [fd00::2]:7 [fd00::1]:40000"]


def test_states_have_the_names_of_ss() -> None:
    states = ["ESTABLISHED", "SYN_RECEIVED", "FIN_WAIT_1", "TIME_WAIT"]
    shown = [line.split()[0] for line in lines(*(row(state) for state in states))]
    assert shown == ["ESTAB", "SYN-RECV", "FIN-WAIT-1", "TIME-WAIT"]


@pytest.mark.parametrize(
    "timer, text",
    [
        (("rto", 200_000, 0), "timer:(on,200ms,0)"),
        (("rto", 3_250_000, 4), "timer:(on,3.2sec,4)"),
        (("persist", 59_000_000, 2), "timer:(persist,59sec,2)"),
        (("timewait", 150_000_000, 0), "timer:(timewait,2min30sec,0)"),
        (("keep_alive", 7_199_000_000, 0), "timer:(keepalive,119min,0)"),
        (("keep_alive", 7_200_000_000, 0), "timer:(keepalive,2hour,0)"),
    ],
)
def test_timers_are_shown_as_ss_does(timer: tuple[str, int, int], text: str) -> None:
    assert lines(row("ESTABLISHED", timer=timer))[0].endswith(text)


def test_details_are_on_a_line_of_their_own() -> None:
    _, details = lines(row("ESTABLISHED", info=INFO))
    assert details == (
        "newreno ts sack wscale:7,10 rto:204 rtt:0.052/0.02 minrtt:0.04 mss:1448 rcvmss:536 "
        "advmss:1460 cwnd:14480 bytes_acked:1000 bytes_received:2000 segs_out:3 segs_in:4 "
        "snd_wnd:64512 rcv_wnd:65535 send:2.23Gbps ca_state:open"
    )


def test_what_there_is_more_to_say_is_said_in_the_words_of_ss() -> None:
    more: dict[str, Value] = {
        **INFO,
        "notsent": 7,
        "last_data_sent": 12_345,
        "last_data_recv": 0,
        "pacing_rate": 125_000,
        "reord_seen": True,
        "rcv_rtt": 1_500,
        "app_limited": True,
        "ecn_seen": False,
    }
    _, details = lines(row("ESTABLISHED", info=more))
    for word in ("notsent:7", "lastsnd:12", "pacing_rate:1Mbps", "reord_seen:1", "rcv_rtt:1.5"):
        assert f" {word} " in details
    assert " app_limited " in details
    for word in ("lastrcv", "ecn"):
        assert word not in details


@pytest.mark.parametrize("option, waits", [(["--watch"], 1.0), (["--watch", "0.5"], 0.5)])
def test_watching_goes_on_until_it_is_interrupted(
    option: list[str],
    waits: float,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "control"
    slept: list[float] = []
    received = iter((2000, 252_000, 252_000))

    def snapshot() -> Snapshot:
        info: dict[str, Value] = {**INFO, "bytes_received": next(received)}
        return {
            "sockets": [row("ESTABLISHED", info=info), row("LISTEN", remote=("", 0))],
            "counters": {},
            "memory": {},
        }

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "__kwdefaults__", {"console": None, "sleep": sleep})

    async def main() -> None:
        async with control_socket(path, snapshot):
            assert await asyncio.to_thread(run, ["ss", "--control", str(path), *option]) == 0

    asyncio.run(main())
    assert slept == [waits] * 3
    shown = capsys.readouterr().out
    assert shown.count("State") == 3
    assert shown.count("1 ESTABLISHED, 1 LISTEN") == 3
    assert f"in {2 / waits:g} Mbit/s, out 0 Mbit/s" in shown
    assert "in 0 Mbit/s" in shown


def test_on_a_terminal_the_listing_is_shown_in_place() -> None:
    snapshot: Snapshot = {"sockets": [row("ESTABLISHED", info=INFO)], "counters": {}, "memory": {}}
    asked: list[int] = []

    def sleep(seconds: float) -> None:
        if len(asked) == 2:
            raise KeyboardInterrupt

    def ask() -> Snapshot:
        asked.append(1)
        return snapshot

    terminal = Console(force_terminal=True, width=200, height=20, file=io.StringIO())
    watching(ask, table, snapshot, 1, console=terminal, sleep=sleep)
    assert isinstance(terminal.file, io.StringIO)
    shown = terminal.file.getvalue()
    assert shown.count("10.9.0.1:40000") == 3
    assert "\x1b[?1049h" in shown  # the alternate screen
    assert shown.endswith("\x1b[?25h\x1b[?1049l")  # left again, with a cursor


def test_a_network_that_ends_ends_the_watching() -> None:
    snapshot: Snapshot = {"sockets": [], "counters": {}, "memory": {}}

    def ask() -> Snapshot:
        raise Failure("no running ustack")

    with pytest.raises(Failure):
        watching(ask, table, snapshot, 1, sleep=lambda seconds: None)


def test_trouble_is_shown_only_where_there_is_any() -> None:
    trouble: dict[str, Value] = {
        **INFO,
        "rtt": None,
        "snd_ssthresh": 28960,
        "lost": 1448,
        "backoff": 2,
        "total_retrans": 5,
        "timestamps": False,
    }
    _, details = lines(row("ESTABLISHED", info=trouble))
    for word in ("ssthresh:28960", "lost:1448", "backoff:2", "retrans:0/5", "newreno sack"):
        assert word in details
    assert " rtt:" not in details


def test_a_running_network_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "control"
    snapshot: Snapshot = {
        "sockets": [row("ESTABLISHED", info=INFO)],
        "counters": {"x": 1},
        "memory": {},
    }

    async def main() -> None:
        async with control_socket(path, lambda: snapshot):
            assert await asyncio.to_thread(run, ["ss", "--control", str(path)]) == 0
            assert "10.9.0.1:40000" in capsys.readouterr().out
            assert await asyncio.to_thread(run, ["ss", "--json", "--control", str(path)]) == 0
            assert json.loads(capsys.readouterr().out)["counters"] == {"x": 1}

    asyncio.run(main())


def test_without_a_running_network_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nobody"
    assert run(["ss", "--control", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"ustack ss: no running ustack at {path}: No such file or directory\n"
    )


def test_the_interface_names_the_socket(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert run(["ss", "--tun", "other7"]) == 1
    assert str(tmp_path / "ustack-other7.sock") in capsys.readouterr().err
