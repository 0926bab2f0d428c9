"""A whole network for the application: a stack, its device and the driver between them.

No global state: a process has as many networks as it makes, and they do not notice each other.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

from ustack.config import StackConfig, TcpConfig
from ustack.device.base import Device
from ustack.runtime import server, streams, transport
from ustack.runtime.driver import Driver, monotonic_us
from ustack.runtime.randomness import RandomBelow
from ustack.stack.probe import Probe
from ustack.stack.stack import Stack
from ustack.stack.trace import Tracer

SECRET_LEN = 16  # bytes; keys the ISN (RFC 6528), SYN cookies and port selection (RFC 6056)

# asyncio switches Nagle off on its sockets; so does this.
DEFAULT_CONFIG = StackConfig(tcp=TcpConfig(nagle=False))

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class Network:
    """`addresses` of ours, with prefix, behind `device`. Use it as an async context manager.

    >>> import asyncio
    >>> from ustack.device.link import Link
    >>> async def main() -> bytes:
    ...     link = Link()
    ...     async with (
    ...         Network(link.a, ["10.0.0.1/24"]) as near,
    ...         Network(link.b, ["10.0.0.2/24"]) as far,
    ...     ):
    ...         async def echo(reader, writer):
    ...             writer.write(await reader.read())
    ...             writer.close()
    ...
    ...         await far.start_server(echo, port=7)
    ...         reader, writer = await near.open_connection("10.0.0.2", 7)
    ...         writer.write(b"hello")
    ...         writer.write_eof()
    ...         answer = await reader.read()
    ...         writer.close()
    ...         await writer.wait_closed()
    ...         return answer
    >>> asyncio.run(main())
    b'hello'

    The device belongs to the network from here on. `config` gives everything but the addresses
    and what the device says for itself (MTU, offload).
    """

    def __init__(
        self,
        device: Device,
        addresses: Sequence[str],
        *,
        config: StackConfig = DEFAULT_CONFIG,
        probe: Probe | None = None,
        tracer: Tracer | None = None,
        secret: bytes | None = None,
        randrange: Callable[[int], int] | None = None,
        clock: Callable[[], int] = monotonic_us,
    ) -> None:
        self.device = device
        config = replace(
            config,
            addresses=tuple(addresses),
            mtu=device.mtu,
            gso_max=device.gso_max,
            checksum_offload=device.checksum_offload,
        )
        self.stack = Stack(
            config,
            secret=secret if secret is not None else os.urandom(SECRET_LEN),
            randrange=randrange or RandomBelow(),
            probe=probe,
            tracer=tracer,
        )
        self._clock = clock
        self._driver: Driver | None = None

    @property
    def driver(self) -> Driver:
        if self._driver is None:
            raise RuntimeError("the network has not been started: use 'async with'")
        return self._driver

    async def start(self) -> Self:
        """The network answers on its addresses."""
        if self._driver is not None:
            raise RuntimeError("the network was started before")
        self._driver = Driver(self.stack, self.device, clock=self._clock)
        self._driver.start()
        return self

    async def aclose(self, timeout: float = 2.0) -> None:
        """Every connection is closed in order, or reset after `timeout` s, and the device too."""
        if self._driver is not None:
            await self._driver.close(timeout)
        else:
            self.device.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def open_connection(
        self,
        host: str,
        port: int,
        *,
        limit: int = streams.DEFAULT_LIMIT,
        local_addr: tuple[str | None, int] | None = None,
        config: TcpConfig | None = None,
        fast_open: bytes | None = None,
    ) -> tuple[asyncio.StreamReader, streams.Writer]:
        """As `asyncio.open_connection`; `host` is an address. See `ustack.runtime.streams`."""
        return await streams.open_connection(
            self.driver,
            host,
            port,
            limit=limit,
            local_addr=local_addr,
            config=config,
            fast_open=fast_open,
        )

    async def start_server(
        self,
        client_connected_cb: streams.ClientConnected,
        host: server.Hosts = None,
        port: int = 0,
        *,
        limit: int = streams.DEFAULT_LIMIT,
        backlog: int = server.DEFAULT_BACKLOG,
        start_serving: bool = True,
        config: TcpConfig | None = None,
    ) -> server.TcpServer:
        """As `asyncio.start_server`; `host` None is every address of this network."""
        return await streams.start_server(
            self.driver,
            client_connected_cb,
            host,
            port,
            limit=limit,
            backlog=backlog,
            start_serving=start_serving,
            config=config,
        )

    async def create_connection(
        self,
        protocol_factory: Callable[[], _P],
        host: str,
        port: int,
        *,
        local_addr: tuple[str | None, int] | None = None,
        config: TcpConfig | None = None,
    ) -> tuple[transport.TcpTransport, _P]:
        """As `loop.create_connection`; `host` is an address."""
        return await transport.create_connection(
            self.driver, protocol_factory, host, port, local_addr=local_addr, config=config
        )

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: server.Hosts = None,
        port: int = 0,
        *,
        backlog: int = server.DEFAULT_BACKLOG,
        start_serving: bool = True,
        config: TcpConfig | None = None,
    ) -> server.TcpServer:
        """As `loop.create_server`; `host` None is every address of this network."""
        return await server.create_server(
            self.driver,
            protocol_factory,
            host,
            port,
            backlog=backlog,
            start_serving=start_serving,
            config=config,
        )
