"""What the commands share: errors as one line, signals, the network over a TUN."""

import asyncio
import logging
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import IO, Concatenate, ParamSpec

import click

from ustack.cli.main import describe
from ustack.config import TcpConfig
from ustack.device.base import Device
from ustack.device.capture import CaptureProbe
from ustack.device.impair import ImpairDevice, parse_impair
from ustack.device.tun import TunDevice
from ustack.errors import UsageError, UStackError
from ustack.runtime.driver import monotonic_us
from ustack.runtime.network import DEFAULT_CONFIG, Network
from ustack.runtime.trace import TraceFile

DEFAULT_TUN = "ustack0"
DEFAULT_ADDRESSES = ("10.9.0.2/24", "fd00:9::2/64")
CLOSE_TIMEOUT_S = 1.5  # then what is still open is reset; with the rest, two seconds

EXIT_USAGE = 2  # as click's
EXIT_INTERRUPTED = 130  # as the shell's for SIGINT

_P = ParamSpec("_P")


class Failure(click.ClickException):
    """Ends a command with one line on stderr: "ustack serve: what is wrong"."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        context = click.get_current_context(silent=True)
        self._command = context.command_path if context is not None else "ustack"

    def show(self, file: IO[str] | None = None) -> None:
        click.echo(f"{self._command}: {self.format_message()}", file=file, err=file is None)


class Misuse(Failure):
    """The command was given something that makes no sense."""

    exit_code = EXIT_USAGE


def one_line_errors(command: Callable[_P, None]) -> Callable[_P, None]:
    """What can be expected to go wrong ends the command with one line and an exit code."""

    @wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except UsageError as error:
            raise Misuse(describe(error)) from error
        except (UStackError, OSError) as error:
            raise Failure(describe(error)) from error

    return wrapped


def log_to_stderr(verbosity: int) -> None:
    """-v shows connections, -vv everything."""
    if verbosity:
        level = logging.INFO if verbosity == 1 else logging.DEBUG
        logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s")


@contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """SIGINT and SIGTERM set the event; a second one ends the process with exit code 130."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def handle() -> None:
        if stop.is_set():
            raise SystemExit(EXIT_INTERRUPTED)  # the loop lets it pass
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, handle)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def first_of(*coroutines: Coroutine[object, object, object]) -> int:
    """The index of the first to end. The others are cancelled; what it raised is raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    first = next(index for index, task in enumerate(tasks) if task in done)
    tasks[first].result()
    return first


@dataclass(slots=True, frozen=True)
class TunOptions:
    """The options of every command that brings up a network of its own."""

    tun: str = DEFAULT_TUN
    addresses: Sequence[str] = DEFAULT_ADDRESSES
    offload: bool = True
    mtu: int = 1500
    capture: Path | None = None
    trace: Path | None = None
    impair: str = ""
    congestion: str | None = None


_TUN_OPTIONS = (
    click.option(
        "--tun", default=DEFAULT_TUN, show_default=True, help="Name of the TUN interface."
    ),
    click.option(
        "--address",
        "addresses",
        multiple=True,
        metavar="ADDRESS/PREFIX",
        default=DEFAULT_ADDRESSES,
        show_default=True,
        help="An address of ours; the kernel gets the first of the network. Repeatable.",
    ),
    click.option("--no-offload", is_flag=True, help="No super-segments, no checksum offload."),
    click.option("--mtu", type=int, default=1500, show_default=True),
    click.option(
        "--capture",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Record every packet as pcapng, with comments.",
    ),
    click.option(
        "--trace",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Record what happens to each connection, and why, as JSON lines after qlog.",
    ),
)


def tun_options(command: Callable[Concatenate[TunOptions, _P], None]) -> Callable[..., None]:
    """The click options that bring up a network of its own, handed to `command` as TunOptions."""

    @wraps(command)
    def wrapped(
        tun: str,
        addresses: tuple[str, ...],
        no_offload: bool,
        mtu: int,
        capture: Path | None,
        trace: Path | None,
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> None:
        options = TunOptions(tun, addresses, not no_offload, mtu, capture, trace)
        command(options, *args, **kwargs)

    for option in reversed(_TUN_OPTIONS):
        option(wrapped)
    return wrapped


@asynccontextmanager
async def tun_network(options: TunOptions) -> AsyncIterator[Network]:
    """A started network over a TUN of this machine, closed in order at the end.

    Raises UsageError and OSError with words for the user, and then leaves nothing behind.
    """
    impair = parse_impair(options.impair) if options.impair else None
    capture = _capture(options.capture, options.tun) if options.capture is not None else None
    trace: TraceFile | None = None
    try:
        trace = _trace(options.trace) if options.trace is not None else None
        tun = TunDevice(options.tun, offload=options.offload, mtu=options.mtu)
        device: Device = tun if impair is None else ImpairDevice(tun, impair)
        try:
            tun.configure(options.addresses)
            network = Network(
                device,
                options.addresses,
                config=replace(DEFAULT_CONFIG, tcp=_tcp_config(options)),
                probe=capture,
                tracer=trace,
            )
        except BaseException:
            device.close()
            raise
        try:
            yield await network.start()
        finally:
            await network.aclose(CLOSE_TIMEOUT_S)
    finally:
        if capture is not None:
            capture.close()
            _tell_missed(options.capture, capture.error, f"{capture.missed} packets")
        if trace is not None:
            trace.close()
            _tell_missed(options.trace, trace.error, f"{trace.missed} events")


def _tell_missed(path: Path | None, error: OSError | None, what: str) -> None:
    if error is not None:
        click.echo(f"{path}: {describe(error)}; {what} were not recorded", err=True)


def _tcp_config(options: TunOptions) -> TcpConfig:
    tcp = DEFAULT_CONFIG.tcp
    return tcp if options.congestion is None else replace(tcp, congestion=options.congestion)


def _capture(path: Path, interface: str) -> CaptureProbe:
    # The stack's clock is monotonic; the capture's is the wall clock, as of this moment.
    now_to_epoch_ns = time.time_ns() - monotonic_us() * 1000
    return CaptureProbe(path, interface=interface, now_to_epoch_ns=now_to_epoch_ns)


def _trace(path: Path) -> TraceFile:
    return TraceFile(path, now_to_epoch_us=time.time_ns() // 1000 - monotonic_us())


def say(text: str) -> None:
    """One line on stdout, at once, even into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
