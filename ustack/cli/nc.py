"""`ustack nc`: stdin and stdout through one connection of ustack."""

import asyncio
import ipaddress
import os
import select
import socket
import stat
import sys
from collections.abc import Awaitable, Callable

import click

from ustack.cli.common import (
    EXIT_INTERRUPTED,
    Failure,
    Misuse,
    TunOptions,
    first_of,
    one_line_errors,
    stop_signals,
    tun_network,
    tun_options,
)
from ustack.cli.main import describe
from ustack.runtime.network import Network
from ustack.runtime.streams import Writer

STDIN = 0
STDOUT = 1
CHUNK = 64 * 1024  # bytes moved at once

PORT = click.IntRange(1, 65535)

Streams = tuple[asyncio.StreamReader, Writer]


@click.command()
@tun_options
@click.option("-l", "--listen", type=PORT, metavar="PORT", help="Wait for one connection.")
@click.option("-N", "--half-close", is_flag=True, help="Send FIN when stdin ends.")
@click.argument("host", required=False)
@click.argument("port", required=False, type=PORT)
@one_line_errors
def nc(
    options: TunOptions,
    listen: int | None,
    half_close: bool,
    host: str | None,
    port: int | None,
) -> None:
    """Connect stdin and stdout to HOST PORT, or to whoever connects to -l PORT.

    Ends when stdin and the peer have both ended; when stdin is a terminal, with the peer.
    """
    if (listen is None) == (host is None or port is None) or (listen is not None and host):
        raise Misuse("give HOST and PORT, or -l PORT")

    async def opened(network: Network) -> Streams:
        if listen is not None:
            return await accept_one(network, listen)
        assert host is not None and port is not None
        return await connect(network, host, port)

    if asyncio.run(_run(options, opened, half_close=half_close)):
        sys.exit(EXIT_INTERRUPTED)


async def connect(network: Network, host: str, port: int) -> Streams:
    """A connection to the first address of `host` that answers. Raises Failure."""
    failure = Failure(f"{host}: no address")
    for address in await _addresses(host):
        try:
            return await network.open_connection(address, port)
        except OSError as error:
            failure = Failure(f"{address} port {port}: {describe(error)}")
    raise failure


async def accept_one(network: Network, port: int) -> Streams:
    """The first connection to `port`, of either family; later ones are refused."""
    first: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()

    def connected(reader: asyncio.StreamReader, writer: Writer) -> None:
        if first.done():
            writer.transport.abort()
        else:
            first.set_result((reader, writer))

    server = await network.start_server(connected, port=port, backlog=1)
    try:
        return await first
    finally:
        server.close()


async def converse(streams: Streams, source: int, sink: int, *, half_close: bool) -> None:
    """Copies descriptor `source` to the peer and the peer to descriptor `sink`, to both ends.

    The peer has acknowledged everything on return. Raises OSError when the connection breaks.
    """
    reader, writer = streams
    upload = asyncio.create_task(_upload(source, writer, half_close))
    download = asyncio.create_task(_download(reader, sink))
    if os.isatty(source):
        download.add_done_callback(lambda _: upload.cancel())
    try:
        done, _ = await asyncio.wait((upload, download), return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if not task.cancelled():
                task.result()
        writer.close()
        await writer.wait_closed()
    finally:
        upload.cancel()
        download.cancel()


async def _run(
    options: TunOptions, opened: Callable[[Network], Awaitable[Streams]], *, half_close: bool
) -> bool:
    """The whole life of the command; True when a signal ended it."""
    with stop_signals() as stop:
        async with tun_network(options) as network:

            async def transfer() -> None:
                await converse(await opened(network), STDIN, STDOUT, half_close=half_close)

            return await first_of(transfer(), stop.wait()) == 1


async def _upload(source: int, writer: Writer, half_close: bool) -> None:
    while data := await _read(source):
        writer.write(data)
        await writer.drain()
    if half_close:
        writer.write_eof()


async def _download(reader: asyncio.StreamReader, sink: int) -> None:
    while data := await reader.read(CHUNK):
        await _write(sink, data)


async def _read(source: int) -> bytes:
    """Some bytes, b"" at the end. Does not block the loop, whatever the descriptor is."""
    loop = asyncio.get_running_loop()
    await _ready(source, loop.add_reader, loop.remove_reader)
    return os.read(source, CHUNK)


async def _write(sink: int, data: bytes) -> None:
    """All of `data` is written. A pipe that is writable takes PIPE_BUF bytes without blocking;
    O_NONBLOCK is no way, because it belongs to whoever shares the descriptor."""
    loop = asyncio.get_running_loop()
    at_once = CHUNK if stat.S_ISREG(os.fstat(sink).st_mode) else select.PIPE_BUF
    poll = select.poll()
    poll.register(sink, select.POLLOUT)
    rest = memoryview(data)
    while rest:
        if not poll.poll(0):
            await _ready(sink, loop.add_writer, loop.remove_writer)
        rest = rest[os.write(sink, rest[:at_once]) :]


async def _ready(
    descriptor: int,
    add: Callable[[int, Callable[[], None]], None],
    remove: Callable[[int], bool],
) -> None:
    """The descriptor can be read or written, as `add` says. A file of a disk always can."""
    ready = asyncio.Event()
    try:
        add(descriptor, ready.set)
    except PermissionError:  # epoll refuses what never blocks
        await asyncio.sleep(0)
        return
    try:
        await ready.wait()
    finally:
        remove(descriptor)


async def _addresses(host: str) -> list[str]:
    """Of a name, what the system's resolver says."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Failure(f"{host}: {describe(error)}") from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
