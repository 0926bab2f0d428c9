"""`ustack serve`: a host of its own beside the kernel, with a few services."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import click

from ustack.cli.common import (
    Failure,
    TunOptions,
    first_of,
    log_to_stderr,
    one_line_errors,
    say,
    stop_signals,
    tun_network,
    tun_options,
)
from ustack.cli.services import BACKLOG, SERVICES
from ustack.runtime.control import control_path, control_socket
from ustack.runtime.network import Network
from ustack.runtime.snapshot import Snapshot, take_snapshot
from ustack.tcp.congestion import REGISTRY

try:
    from ustack.cli.http import http_service
except ImportError:  # the extra `http` is not installed
    http_service = None  # type: ignore[assignment]


@click.command()
@tun_options
@click.option(
    "--impair",
    default="",
    metavar="TEXT",
    help="Faults in both directions: 'delay=10ms,jitter=2ms,loss=1%,reorder=5%,duplicate=1%,"
    "ecn=1%,corrupt=0.1%,rate=100mbit,queue=100,seed=7'.",
)
@click.option(
    "--congestion", type=click.Choice(sorted(REGISTRY)), help="Congestion control algorithm."
)
@click.option(
    "--http-root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory whose files HTTP serves; without it only /status.",
)
@click.option(
    "--control",
    type=click.Path(path_type=Path),
    metavar="SOCKET",
    help="Where `ustack ss` asks. [default: ${XDG_RUNTIME_DIR:-/tmp}/ustack-<tun>.sock]",
)
@click.option("-v", "--verbose", count=True, help="Log to stderr; twice for more.")
@one_line_errors
def serve(
    options: TunOptions,
    impair: str,
    congestion: str | None,
    http_root: Path | None,
    control: Path | None,
    verbose: int,
) -> None:
    """Serve echo (7), discard (9), daytime (13), an endless source (19) and HTTP (80).

    On our own addresses, behind a TUN interface. Ctrl-C ends it in order.
    """
    log_to_stderr(verbose)
    options = replace(options, impair=impair, congestion=congestion)
    asyncio.run(_serve(options, control or control_path(options.tun), http_root))


@asynccontextmanager
async def services(
    network: Network, http_root: Path | None, snapshot: Callable[[], Snapshot]
) -> AsyncIterator[None]:
    """All services are up, on both families."""
    async with AsyncExitStack() as stack:
        for port, protocol in SERVICES.items():
            server = await network.create_server(protocol, port=port, backlog=BACKLOG)
            stack.callback(server.close)
        if http_service is not None:
            await stack.enter_async_context(http_service(network, http_root, snapshot))
        yield


async def _serve(options: TunOptions, control: Path, http_root: Path | None) -> None:
    with stop_signals() as stop:
        async with tun_network(options) as network:

            def snapshot() -> Snapshot:
                return take_snapshot(network.stack, network.driver.now())

            async with (
                control_socket(control, snapshot),
                services(network, http_root, snapshot),
            ):
                ours = ", ".join(address.partition("/")[0] for address in options.addresses)
                say(f"ustack serve: ready on {ours} ({options.tun})")
                await first_of(stop.wait(), network.driver.device_lost.wait())
                if network.driver.device_lost.is_set():
                    raise Failure(f"{options.tun}: the interface is gone")
