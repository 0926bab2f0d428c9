"""`open_connection` and `start_server` in asyncio's shapes.

The reader is asyncio's own; the writer is asyncio's with a `wait_closed` that means what it says.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from ustack.config import TcpConfig
from ustack.runtime.driver import Driver
from ustack.runtime.server import DEFAULT_BACKLOG, Hosts, TcpServer, create_server
from ustack.runtime.transport import TcpTransport, create_connection

DEFAULT_LIMIT = 64 * 1024  # bytes; asyncio's limit of a line, and half of what a reader holds


class Writer(asyncio.StreamWriter):
    """asyncio's StreamWriter on a connection of ustack."""

    def __init__(
        self,
        transport: TcpTransport,
        protocol: asyncio.StreamReaderProtocol,
        reader: asyncio.StreamReader,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(transport, protocol, reader, loop)
        self._connection = transport

    async def wait_closed(self) -> None:
        """The peer has acknowledged everything, FIN included; call after close().

        Raises the reason when the connection broke before, ConnectionAborted after abort().
        """
        await self._connection.wait_closed()


ClientConnected = Callable[[asyncio.StreamReader, Writer], Awaitable[None] | None]


class _ServerProtocol(asyncio.StreamReaderProtocol):
    """Calls `client_connected_cb` with our Writer, and keeps both until the connection ends."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        client_connected_cb: ClientConnected,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(reader, loop=loop)
        self._loop = loop
        self._streams: tuple[asyncio.StreamReader, Writer | None] | None = (reader, None)
        self._connected = client_connected_cb
        self._handler: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._streams is not None
        reader, _ = self._streams
        writer = Writer(cast("TcpTransport", transport), self, reader, self._loop)
        self._streams = (reader, writer)
        result = self._connected(reader, writer)
        if asyncio.iscoroutine(result):
            self._handler = self._loop.create_task(result)
            self._handler.add_done_callback(self._handled)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._streams = None

    def _handled(self, task: asyncio.Task[None]) -> None:
        """A handler that failed leaves no connection behind."""
        self._handler = None
        if task.cancelled():
            error = None
        else:
            error = task.exception()
            if error is None:
                return
            self._loop.call_exception_handler(
                {"message": "exception in client_connected_cb", "exception": error, "task": task}
            )
        if self._streams is not None and self._streams[1] is not None:
            self._streams[1].close()


async def open_connection(
    driver: Driver,
    host: str,
    port: int,
    *,
    limit: int = DEFAULT_LIMIT,
    local_addr: tuple[str | None, int] | None = None,
    config: TcpConfig | None = None,
    fast_open: bytes | None = None,
) -> tuple[asyncio.StreamReader, Writer]:
    """The two ends of an open connection. Errors, cancellation and `fast_open` as in
    `create_connection`."""
    loop = driver.loop
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await create_connection(
        driver,
        lambda: protocol,
        host,
        port,
        local_addr=local_addr,
        config=config,
        fast_open=fast_open,
    )
    return reader, Writer(transport, protocol, reader, loop)


async def start_server(
    driver: Driver,
    client_connected_cb: ClientConnected,
    host: Hosts = None,
    port: int = 0,
    *,
    limit: int = DEFAULT_LIMIT,
    backlog: int = DEFAULT_BACKLOG,
    start_serving: bool = True,
    config: TcpConfig | None = None,
) -> TcpServer:
    """A server that calls `client_connected_cb(reader, writer)`; a coroutine becomes a task."""
    loop = driver.loop

    def factory() -> _ServerProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return _ServerProtocol(reader, client_connected_cb, loop)

    return await create_server(
        driver,
        factory,
        host,
        port,
        backlog=backlog,
        start_serving=start_serving,
        config=config,
    )
