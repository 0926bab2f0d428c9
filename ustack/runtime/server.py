"""`asyncio.Server` over listeners of the stack."""

import asyncio
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ustack.config import TcpConfig
from ustack.errors import NotConnected, UsageError
from ustack.runtime.driver import ClosableUser, Driver
from ustack.runtime.transport import SocketAddress, TcpTransport, normal_address, socket_address
from ustack.stack.listener import Listener
from ustack.tcp.tcb import ACCEPTABLE, Endpoint

DEFAULT_BACKLOG = 128  # connections waiting to be accepted; Linux somaxconn was 128 for long

Hosts = str | Iterable[str] | None

ANY_IPV4 = "0.0.0.0"  # of our own stack
ANY_IPV6 = "::"


@dataclass(slots=True, frozen=True)
class ServerSocket:
    """What programs ask of a server's socket: its family and address."""

    family: socket.AddressFamily
    address: SocketAddress

    def getsockname(self) -> SocketAddress:
        return self.address


class TcpServer(asyncio.AbstractServer, ClosableUser):
    """Listens on `hosts`; each accepted connection gets a protocol. See `create_server`."""

    def __init__(
        self,
        driver: Driver,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        hosts: Hosts,
        port: int,
        *,
        backlog: int,
        config: TcpConfig | None,
    ) -> None:
        self._driver = driver
        self._protocol_factory = protocol_factory
        self._addresses = _addresses(driver, hosts)
        self._port = port
        self._backlog = backlog
        self._config = config
        self._listeners: list[Listener] = []
        self._connections: set[TcpTransport] = set()
        self._closed = False
        self._closed_waiters: list[asyncio.Future[None]] = []
        self._serving_forever: asyncio.Future[None] | None = None

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._driver.loop

    def is_serving(self) -> bool:
        return bool(self._listeners)

    @property
    def sockets(self) -> tuple[ServerSocket, ...]:
        """One entry for each address; the unspecified address of a family stands for all."""
        found: list[ServerSocket] = []
        for listener in self._listeners:
            hosts = [listener.address] if listener.address else _unspecified(self._driver)
            for host in hosts:
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                address = socket_address(Endpoint(host, listener.port))
                found.append(ServerSocket(family, address))
        return tuple(found)

    async def start_serving(self) -> None:
        self.listen()

    def listen(self) -> None:
        """The ports are open. Raises AddressInUse or AddressNotAvailable; then none is."""
        if self._listeners:
            return
        if self._closed or self._driver.closed:
            raise NotConnected("the server is closed")
        driver = self._driver
        port = self._port
        try:
            for address in self._addresses:
                listener = driver.stack.listen(
                    port,
                    driver.user_call(),
                    address=address,
                    backlog=self._backlog,
                    config=self._config,
                )
                listener.user = self
                self._listeners.append(listener)
                port = listener.port  # one ephemeral port for all addresses
        except OSError:
            self._close_listeners()
            raise
        driver.add_user(self)

    async def serve_forever(self) -> None:
        """Serves until cancelled; then closes the server and its connections, in order."""
        if self._serving_forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self.listen()
        self._serving_forever = self._driver.loop.create_future()
        try:
            await self._serving_forever
        except asyncio.CancelledError:
            self.close()
            self.close_clients()
            await self.wait_closed()
            raise
        finally:
            self._serving_forever = None

    def close(self) -> None:
        """Stops listening. Connections that were accepted stay open; others are reset."""
        if self._closed:
            return
        self._closed = True
        self._close_listeners()
        if self._serving_forever is not None and not self._serving_forever.done():
            self._serving_forever.cancel()
        self._check_closed()
        self._driver.remove_user(self)

    def abort(self) -> None:
        self.close()

    def close_clients(self) -> None:
        """Closes every accepted connection in order."""
        for transport in list(self._connections):
            transport.close()

    def abort_clients(self) -> None:
        """Resets every accepted connection."""
        for transport in list(self._connections):
            transport.abort()

    async def wait_closed(self) -> None:
        """The server is closed and none of its connections is left."""
        if self._closed and not self._connections:
            return
        waiter = self._driver.loop.create_future()
        self._closed_waiters.append(waiter)
        try:
            await waiter
        finally:
            self._closed_waiters.remove(waiter)

    def notify(self, events: int) -> None:  # hot
        if not events & ACCEPTABLE:
            return
        stack = self._driver.stack
        for listener in self._listeners:
            while (tcb := stack.accept(listener)) is not None:
                try:
                    protocol = self._protocol_factory()
                except Exception as error:  # noqa: BLE001 (the user's code)
                    self._driver.report("protocol factory failed", error, self)
                    stack.abort(tcb, self._driver.user_call())
                    continue
                transport = TcpTransport(self._driver, tcb, protocol, self)
                self._connections.add(transport)
                transport.start()

    def connection_ended(self, transport: TcpTransport) -> None:
        """An accepted connection is gone."""
        self._connections.discard(transport)
        self._check_closed()

    def _close_listeners(self) -> None:
        driver = self._driver
        for listener in self._listeners:
            listener.user = None
            driver.stack.close_listener(listener, driver.user_call())
        self._listeners.clear()

    def _check_closed(self) -> None:
        if self._closed and not self._connections:
            for waiter in self._closed_waiters:
                if not waiter.done():
                    waiter.set_result(None)


async def create_server(
    driver: Driver,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: Hosts = None,
    port: int = 0,
    *,
    backlog: int = DEFAULT_BACKLOG,
    start_serving: bool = True,
    config: TcpConfig | None = None,
) -> TcpServer:
    """A server as `loop.create_server` makes one.

    `host`: None or "" for all addresses of the stack, "0.0.0.0" and "::" for all of one family,
    an address, or several of these. `port` 0: an ephemeral port.
    """
    server = TcpServer(driver, protocol_factory, host, port, backlog=backlog, config=config)
    if start_serving:
        server.listen()
    return server


def _addresses(driver: Driver, hosts: Hosts) -> list[str | None]:
    """What to listen on; None means all addresses of both families."""
    if hosts is None or hosts == "":
        return [None]
    own = _own_addresses(driver)
    found: dict[str | None, None] = {}  # in order, without duplicates
    for host in [hosts] if isinstance(hosts, str) else hosts:
        if host == "":
            return [None]
        if host == ANY_IPV4:
            found.update(dict.fromkeys(a for a in own if ":" not in a))
        elif host == ANY_IPV6:
            found.update(dict.fromkeys(a for a in own if ":" in a))
        else:
            found[normal_address(host)] = None
    if not found:
        raise UsageError(f"{hosts!r}: the stack has no address of this family")
    return list(found)


def _own_addresses(driver: Driver) -> list[str]:
    return [normal_address(a.partition("/")[0]) for a in driver.stack.config.addresses]


def _unspecified(driver: Driver) -> list[str]:
    """The unspecified address of each family that the stack has."""
    families = {":" in address for address in _own_addresses(driver)}
    return [ANY_IPV6 if ipv6 else ANY_IPV4 for ipv6 in sorted(families)]
