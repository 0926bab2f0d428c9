"""The demonstration behind `tools/demo`: the kernel's TCP and ours talk, and a ladder shows how.

Runs inside the private network namespace that `tools/in-namespace` made; refuses to run anywhere
else. Everything it starts it also ends, in order, also when it is interrupted.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from rich.console import Console
from rich.markup import escape

from ustack.ladder import Connection, Explainer, Ladder, connections, overview, tcp_packets
from ustack.pcapng import LINK_RAW, Direction, Record, Writer, read
from ustack.runtime.control import ask_sockets
from ustack.runtime.snapshot import SocketRow

CAPTURE = Path("demo.pcapng")
USTACK = (sys.executable, "-m", "ustack")

# The kernel has .1 and ::1 of each network; `ustack serve` and `ustack nc` are a host each.
SERVER_TUN, SERVER = "ustack0", {"IPv4": "10.9.0.2", "IPv6": "fd00:9::2"}
CLIENT_TUN, CLIENT = "ustack1", {"IPv4": "10.9.1.2", "IPv6": "fd00:9:1::2"}
KERNEL = {"IPv4": "10.9.1.1", "IPv6": "fd00:9:1::1"}  # as the client sees it
PREFIX = {"IPv4": 24, "IPv6": 64}
ECHO, DAYTIME, HTTP, KERNEL_PORT = 7, 13, 80, 9000

PAGE_SIZE = 200_000  # bytes: enough for a stretch of data worth folding
STEP_LIMIT_S = 10.0  # for one command
DEMO_LIMIT_S = 55  # for everything: then it is given up
EXIT_FAILURE = 1


class DemoError(Exception):
    """Something did not go as it must; the text says what."""


def main() -> int:
    # Into a file or a pipe: a width at which each packet has one line.
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, _give_up)
    signal.alarm(DEMO_LIMIT_S)
    try:
        _check_surroundings()
        _demonstrate(console)
    except (DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _give_up(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGALRM:
        raise DemoError(f"not done after {DEMO_LIMIT_S} s; given up")
    raise SystemExit(128 + number)  # through every `finally`


def _check_surroundings() -> None:
    machine = os.environ.get("USTACK_MACHINE_NETNS")
    if machine is None or str(Path("/proc/self/ns/net").readlink()) == machine:
        raise DemoError("start it with tools/demo: it configures networks, and only private ones")
    if not os.access(CAPTURE if CAPTURE.exists() else Path(), os.W_OK):
        raise DemoError(f"{CAPTURE} cannot be written here")


def _demonstrate(console: Console) -> None:
    with tempfile.TemporaryDirectory(prefix="ustack-demo-") as name:
        directory = Path(name)
        captures = [directory / "serve.pcapng"]
        control = directory / "control.sock"
        console.rule("[bold]ustack serve: a second TCP on this machine, behind a TUN[/bold]")
        with _serving(console, captures[0], control, directory / "www") as serve_log:
            for family in ("IPv4", "IPv6"):
                console.rule(f"[bold]{family}[/bold]")
                _kernel_to_ustack(console, family)
                captures.append(directory / f"nc-{family}.pcapng")
                _ustack_to_kernel(console, family, captures[-1])
            console.rule("[bold]Who waits in TIME_WAIT? Only who closed first[/bold]")
            _show_time_waits(console, control)
        if "Traceback" in serve_log.read_text():
            raise DemoError(f"ustack serve: {serve_log.read_text()}")
        _merge(captures, CAPTURE)
    _draw(console)
    console.print(
        f"\nAll of it is in [bold]{CAPTURE}[/bold]: open it in Wireshark (docs/wireshark.md), or"
        f" draw any connection with [bold]ustack ladder {CAPTURE} --explain[/bold]."
    )


# The steps


@contextmanager
def _serving(console: Console, capture: Path, control: Path, root: Path) -> Iterator[Path]:
    """`ustack serve` is up, and ended in order afterwards. Gives the file with its stderr."""
    root.mkdir()
    (root / "page.txt").write_bytes(b"ustack " * (PAGE_SIZE // 7))
    log = capture.with_suffix(".log")
    shown = ["ustack", "serve", "--tun", SERVER_TUN]
    for family, address in SERVER.items():
        shown += ["--address", f"{address}/{PREFIX[family]}"]
    _show_command(console, shown)
    command = [*USTACK, *shown[1:], "--http-root", str(root)]
    command += ["--capture", str(capture), "--control", str(control)]
    with (
        log.open("wb") as errors,
        _process(command, stdout=subprocess.PIPE, stderr=errors) as serve,
    ):
        assert serve.stdout is not None
        ready = serve.stdout.readline().decode()
        if "ready" not in ready:
            raise DemoError(f"ustack serve did not start: {log.read_text().strip() or ready}")
        console.print(f"  {escape(ready.strip())}")
        yield log


def _kernel_to_ustack(console: Console, family: str) -> None:
    """curl and nc, on the kernel's TCP, are served by ours."""
    host = SERVER[family]
    url = f"http://[{host}]/page.txt" if ":" in host else f"http://{host}/page.txt"
    page = _run(console, ["curl", "--silent", "--show-error", "--globoff", url], b"")
    if len(page) != PAGE_SIZE // 7 * 7:
        raise DemoError(f"curl got {len(page)} bytes")
    console.print(f"  {len(page)} bytes of HTTP, served by aiohttp on ustack")

    words = f"hello over {family}\n".encode()
    echoed = _run(console, [_netcat(), "-N", host, str(ECHO)], words)
    if echoed != words:
        raise DemoError(f"the echo was {echoed!r}")
    console.print(f"  echo: {echoed.decode().strip()}")

    daytime = _run(console, [_netcat(), host, str(DAYTIME)], b"")
    console.print(f"  daytime: {daytime.decode().strip()}")


def _ustack_to_kernel(console: Console, family: str, capture: Path) -> None:
    """`ustack nc`, on our TCP, is served by a netcat on the kernel's."""
    listen = [_netcat(), "-l", "-N", "-6" if family == "IPv6" else "-4", str(KERNEL_PORT)]
    _show_command(console, [*listen, "&"])
    question, answer = b"who is there?\n", b"the kernel\n"
    with _process(listen, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        _wait_for(lambda: _kernel_listens(KERNEL_PORT), "nc to listen")
        own = f"{CLIENT[family]}/{PREFIX[family]}"
        address = [KERNEL[family], str(KERNEL_PORT)]
        shown = ["ustack", "nc", "-N", "--tun", CLIENT_TUN, "--address", own, *address]
        command = [*USTACK, *shown[1:-2], "--capture", str(capture), *address]
        _show_command(console, shown)
        with _process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            received = _say(client, question, server)
            heard = _say(server, answer, client)
            _end(client)  # its FIN is the first; nc -l ends with the connection
            _end(server)
    if (received, heard) != (question, answer):
        raise DemoError(f"ustack nc: the kernel received {received!r} and we {heard!r}")
    console.print(f"  kernel received: {received.decode().strip()}")
    console.print(f"  ustack received: {heard.decode().strip()}")


def _show_time_waits(console: Console, control: Path) -> None:
    """Both sides' own lists; a connection may be in TIME_WAIT in one of them only."""
    _wait_for(lambda: _is_quiet(control), "every connection to end")
    ours = _run(console, ["ustack", "ss", "--control", control.name], b"", _ss_command(control))
    _show_output(console, ours)
    kernels = _run(console, ["ss", "-tan"], b"")
    _show_output(console, kernels)

    waiting = {(*row["remote"], *row["local"]) for row in _rows(control, "TIME_WAIT")}
    kernel_waiting = {
        (*_endpoint(fields[3]), *_endpoint(fields[4]))
        for fields in (line.split() for line in kernels.decode().splitlines())
        if fields[0] == "TIME-WAIT"
    }
    if waiting & kernel_waiting:
        raise DemoError(f"in TIME_WAIT at both ends: {waiting & kernel_waiting}")
    if {ports[3] for ports in waiting} != {DAYTIME}:
        raise DemoError(f"in TIME_WAIT at our end: {waiting}")
    console.print(
        f"[green]✓[/green] daytime closes first, so ustack waits ({len(waiting)}); curl and nc"
        f" close first, so the kernel does ({len(kernel_waiting)}); nobody waits at both ends."
    )


def _merge(captures: list[Path], target: Path) -> None:
    """Writes one file with an interface per capture, the packets in order of time."""
    with target.open("wb") as file:
        writer = Writer(file, application="ustack demo")
        records: list[tuple[Record, int]] = []
        for capture in captures:
            number = -1
            for record in read(capture):
                if number < 0:
                    number = writer.interface(LINK_RAW, name=f"{record.interface} ({capture.stem})")
                records.append((record, number))
        for record, number in sorted(records, key=lambda pair: pair[0].time_ns):
            writer.packet(
                record.packet,
                record.time_ns,
                interface=number,
                comment=record.comment,
                direction=Direction(record.direction),
            )


def _draw(console: Console) -> None:
    """Three connections out of the capture: who opens and who closes differs."""
    found = connections(tcp_packets(read(CAPTURE)))
    console.rule("[bold]What was really on the wire[/bold]")
    console.print(overview(found))
    chosen: list[tuple[str, Callable[[Connection], bool]]] = [
        (
            "curl on the kernel fetches a page from ustack: the kernel opens and closes",
            lambda c: c.ends[1] == (SERVER["IPv4"], HTTP),
        ),
        (
            "nc on the kernel asks ustack for the time: ustack closes first",
            lambda c: c.ends[1] == (SERVER["IPv6"], DAYTIME),
        ),
        (
            "ustack nc talks to nc on the kernel: ustack opens",
            lambda c: c.ends[1] == (KERNEL["IPv4"], KERNEL_PORT),
        ),
    ]
    explain = Explainer()  # one for all: what has been said once is known
    for title, wanted in chosen:
        connection = next((each for each in found if wanted(each)), None)
        if connection is None:
            raise DemoError(f"not in the capture: {title}")
        console.rule(f"[bold]{title}[/bold]")
        console.print(Ladder(connection, explain=explain))


# Processes


@contextmanager
def _process(
    command: list[str],
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours, ended at the latest with the block: by SIGTERM, then by SIGKILL."""
    with subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STEP_LIMIT_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def _run(
    console: Console, shown: list[str], given: bytes, command: list[str] | None = None
) -> bytes:
    """What a command prints. It is shown first, and must succeed."""
    _show_command(console, shown, given)
    try:
        done = subprocess.run(
            command or shown, input=given, capture_output=True, timeout=STEP_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"{' '.join(shown)}: no end after {STEP_LIMIT_S:.0f} s") from None
    if done.returncode != 0:
        raise DemoError(f"{' '.join(shown)}: {done.stderr.decode().strip()}")
    return done.stdout


def _say(speaker: subprocess.Popen[bytes], line: bytes, listener: subprocess.Popen[bytes]) -> bytes:
    """What the listener prints after the speaker was given a line on stdin."""
    assert speaker.stdin is not None and listener.stdout is not None
    speaker.stdin.write(line)
    speaker.stdin.flush()
    return listener.stdout.readline()


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process has ended by itself, after its stdin did."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        code = process.wait(STEP_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise DemoError(f"{process.args!r} does not end") from None
    if code != 0:
        raise DemoError(f"{process.args!r} ended with exit code {code}")


def _show_command(console: Console, command: list[str], given: bytes = b"") -> None:
    pipe = f"echo '{given.decode().strip()}' | " if given else ""
    console.print(f"[bold cyan]$[/bold cyan] {escape(pipe + ' '.join(command))}")


def _show_output(console: Console, output: bytes) -> None:
    for line in output.decode().splitlines():
        console.print(f"  {escape(line.rstrip())}", soft_wrap=True)


def _netcat() -> str:
    """OpenBSD's, which knows -N; Debian calls it so when another one is installed as well."""
    return "nc.openbsd" if shutil.which("nc.openbsd") else "nc"


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + STEP_LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"waited in vain for {what}")
        time.sleep(0.02)


# Both sides' sockets


def _ss_command(control: Path) -> list[str]:
    return [*USTACK, "ss", "--control", str(control)]


def _rows(control: Path, *states: str) -> list[SocketRow]:
    return [row for row in ask_sockets(control)["sockets"] if row["state"] in states]


def _is_quiet(control: Path) -> bool:
    """Whether nothing but listeners and TIME_WAITs is left at either end."""
    listening = {"LISTEN", "TIME_WAIT"}
    return all(row["state"] in listening for row in ask_sockets(control)["sockets"]) and all(
        line.split()[0] in ("LISTEN", "TIME-WAIT") for line in _kernel_sockets()
    )


def _kernel_listens(port: int) -> bool:
    lines = [line.split() for line in _kernel_sockets()]
    return any(line[0] == "LISTEN" and line[3].endswith(f":{port}") for line in lines)


def _kernel_sockets() -> list[str]:
    done = subprocess.run(["ss", "-Htan"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def _endpoint(text: str) -> tuple[str, int]:
    """ "[fd00:9::1]:80" and "10.9.0.1:80" as address and port."""
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


if __name__ == "__main__":
    sys.exit(main())
