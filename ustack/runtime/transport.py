"""`asyncio.Transport` over a connection of the stack, for existing protocols.

Bytes go up by a direct call of `protocol.data_received` in the turn that received them. Where
asyncio leaves a choice this does what its socket transport does, with one addition:
`connection_lost` after `close` means that the peer has acknowledged everything.
"""

import asyncio
import ipaddress
import logging
from asyncio.base_events import _SendfileFallbackProtocol  # type: ignore[attr-defined]
from asyncio.constants import LOG_THRESHOLD_FOR_CONNLOST_WRITES, _SendfileMode
from asyncio.transports import _FlowControlMixin
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar, cast

from ustack.config import TcpConfig
from ustack.errors import ConnectionAborted, NotConnected, UsageError, UStackError
from ustack.runtime.driver import ClosableUser, Driver
from ustack.tcp.tcb import CLOSED_EVENT, CONNECTED, FIN_ACKED, READABLE, WRITABLE, Endpoint, Tcb
from ustack.wire import Buffer

logger = logging.getLogger(__name__)

READ_SIZE = 256 * 1024  # most bytes in one data_received, as asyncio's socket transport

SocketAddress = tuple[str, int] | tuple[str, int, int, int]

_P = TypeVar("_P", bound=asyncio.BaseProtocol)


class ConnectionOwner(Protocol):
    """Told when a transport has ended: the server that accepted it."""

    def connection_ended(self, transport: "TcpTransport") -> None: ...


class TcpTransport(_FlowControlMixin, ClosableUser):
    """One open connection. Made by `create_connection` and `TcpServer`, not by users.

    The stack's send buffer (`TcpConfig.send_buffer`) is to this transport what the kernel's socket
    buffer is to asyncio's: the water marks count the bytes beyond it, which the stack has not
    accepted yet. asyncio's own `_FlowControlMixin` is the base because `loop.sendfile` insists.
    """

    __slots__ = (
        "error",
        "_driver",
        "_stack",
        "_tcb",
        "_owner",
        "_protocol",
        "_buffered",
        "_queue",
        "_queued",
        "_read_paused",
        "_eof_received",
        "_eof_written",
        "_closing",
        "_acknowledged",
        "_lost",
        "_over",
        "_late_writes",
        "_close_waiters",
        "__weakref__",
    )
    # Of the base, which has no types of its own for them.
    _loop: asyncio.AbstractEventLoop
    _protocol_paused: bool
    _high_water: int
    _low_water: int
    # loop.sendfile() copies through write(); loop.start_tls() puts its protocol between.
    _sendfile_compatible = _SendfileMode.FALLBACK
    _start_tls_compatible = True

    def __init__(
        self,
        driver: Driver,
        tcb: Tcb,
        protocol: asyncio.BaseProtocol,
        owner: ConnectionOwner | None = None,
    ) -> None:
        super().__init__(None, driver.loop)
        self.error: BaseException | None = None  # why the peer may not have got everything
        self._driver = driver
        self._stack = driver.stack
        self._tcb = tcb
        self._owner = owner
        self._queue: deque[Buffer] | None = None  # what the stack does not accept yet
        self._queued = 0  # bytes in it
        self._read_paused = False
        self._eof_received = False
        self._eof_written = False  # write_eof() was called
        self._closing = False  # close() was called or the connection broke: nothing is delivered
        self._acknowledged = False  # all that we sent, FIN included
        self._lost = False  # connection_lost() follows in this iteration, or was called
        self._over = False  # it was called
        self._late_writes = 0
        self._close_waiters: list[asyncio.Future[None]] = []
        self._protocol: asyncio.Protocol
        self.set_protocol(protocol)

    def start(self) -> None:
        """The protocol has the connection: connection_made() first, then what already arrived."""
        self._tcb.user = self
        self._driver.add_user(self)
        logger.info("%r: open", self)
        try:
            self._protocol.connection_made(self)
        except Exception as error:  # noqa: BLE001 (the user's code)
            self._fatal_error(error, "protocol.connection_made() failed")
            return
        tcb = self._tcb
        if tcb.closed:
            self._driver.post(tcb, READABLE | CLOSED_EVENT)
        elif tcb.receive_buffer.readable or tcb.eof:
            self._driver.post(tcb, READABLE)

    def __repr__(self) -> str:
        tcb = self._tcb
        return f"<TcpTransport {_text(tcb.local)} > {_text(tcb.remote)} {tcb.state.name}>"

    # Events of the connection, called in a turn of the driver.

    def notify(self, events: int) -> None:  # hot
        if events & WRITABLE:
            self._push()
        if events & READABLE:
            self._deliver()
        if events & (FIN_ACKED | CLOSED_EVENT):
            self._ended(events)

    def _deliver(self) -> None:  # hot
        """The protocol has all that is readable, and EOF, unless it pauses or closes us."""
        tcb = self._tcb
        buffer = tcb.receive_buffer
        try:
            if self._buffered is not None:
                self._deliver_into(self._buffered)
            else:
                data_received = self._protocol.data_received
                receive, now = self._stack.receive, self._driver.user_call()
                while buffer.readable and not (self._read_paused or self._closing):
                    # `bytes` of bytes is the same object; of a view of a frame, the one copy.
                    data_received(bytes(receive(tcb, READ_SIZE, now)))
        except Exception as error:  # noqa: BLE001 (the user's code)
            self._fatal_error(error, "protocol.data_received() failed")
            return
        if tcb.eof and not buffer.readable:
            self._deliver_eof()

    def _deliver_into(self, protocol: asyncio.BufferedProtocol) -> None:  # hot
        tcb, now = self._tcb, self._driver.user_call()
        buffer = tcb.receive_buffer
        while buffer.readable and not (self._read_paused or self._closing):
            space = memoryview(protocol.get_buffer(-1))
            if not space:
                raise RuntimeError("get_buffer() returned an empty buffer")
            data = self._stack.receive(tcb, len(space), now)
            space[: len(data)] = data
            protocol.buffer_updated(len(data))

    def _deliver_eof(self) -> None:
        if self._eof_received or self._read_paused or self._closing:
            return
        self._eof_received = True
        try:
            keep_open = self._protocol.eof_received()
        except Exception as error:  # noqa: BLE001 (the user's code)
            self._fatal_error(error, "protocol.eof_received() failed")
            return
        if not keep_open:
            self.close()

    def _push(self) -> None:  # hot
        """The stack has what it accepts of the queue; the protocol may write again."""
        queue = self._queue
        if queue is None or self._lost:
            return
        try:
            while queue:
                data = queue[0]
                taken = self._stack.send(self._tcb, data, self._driver.user_call())
                self._queued -= taken
                if taken < len(data):
                    queue[0] = memoryview(data)[taken:]
                    break
                queue.popleft()
        except UStackError:
            return  # the connection is over: CLOSED_EVENT follows
        if not queue:
            self._queue = None
            self._end_sending()
        if self._protocol_paused and self._queued <= self._low_water:
            self._protocol_paused = False
            self._tell("resume_writing", self._protocol.resume_writing)

    def _end_sending(self) -> None:
        """What close() or write_eof() asked for, now that the stack has every byte."""
        if self._closing:
            self._stack.close(self._tcb, self._driver.user_call())
        elif self._eof_written:
            self._stack.shutdown(self._tcb, self._driver.user_call())

    def _ended(self, events: int) -> None:
        """Our FIN is acknowledged, or the connection is over."""
        error = self._tcb.error
        if events & FIN_ACKED or error is None:
            self._acknowledged = True
        if self._closing and self._acknowledged:
            self._lose(None)  # whatever comes now is not ours to hear
        elif error is not None:
            # What close() itself caused is no news: unread data makes it an abort.
            self._lose(None if self._closing and isinstance(error, ConnectionAborted) else error)
            self.error = error
        # Otherwise the protocol may still want what we hold for it, and will call close().

    # asyncio.WriteTransport

    def write(self, data: Buffer) -> None:  # hot
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._eof_written or self._closing:
            self._refuse_write()
            return
        size = len(data)
        queue = self._queue
        if queue is None:
            if not size:
                return
            try:
                taken = self._stack.send(self._tcb, data, self._driver.user_call())
            except UStackError:
                return  # the connection is over: CLOSED_EVENT follows
            if taken == size:
                return
            queue = self._queue = deque()
            queue.append(memoryview(data)[taken:])
            self._queued = size - taken
        else:
            queue.append(data)
            self._queued += size
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if self._queued > self._high_water and not self._protocol_paused:
            self._protocol_paused = True
            self._tell("pause_writing", self._protocol.pause_writing)

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        for data in list_of_data:
            self.write(data)

    def _tell(self, name: str, method: Callable[[], None]) -> None:
        """The protocol is told; an exception of its own does not reach the writer."""
        try:
            method()
        except Exception as error:  # noqa: BLE001 (the user's code)
            self._driver.report(f"protocol.{name}() failed", error, self)

    def _refuse_write(self) -> None:
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        self._late_writes += 1
        if self._late_writes == LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning("%r: data is written after the connection was closed", self)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """FIN follows the data; the other direction stays open."""
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        if self._queue is None:
            self._end_sending()

    def get_write_buffer_size(self) -> int:
        """Bytes that the stack has not accepted yet."""
        return self._queued

    # asyncio.ReadTransport

    def is_reading(self) -> bool:
        return not self._read_paused and not self._closing

    def pause_reading(self) -> None:
        """Received data stays in the stack, whose window closes as it fills."""
        self._read_paused = True

    def resume_reading(self) -> None:
        """Delivery goes on in the next round, never from inside this call."""
        if self._read_paused:
            self._read_paused = False
            self._driver.post(self._tcb, READABLE)

    # asyncio.BaseTransport

    def close(self) -> None:
        """FIN follows the data; connection_lost(None) when the peer has acknowledged it all.

        A peer that sends on gets RST, as from a kernel's socket. If the connection breaks before,
        connection_lost() gets the reason.
        """
        if self._closing:
            return
        self._closing = True
        if self._queue is None:
            self._end_sending()
            if self._acknowledged:
                self._lose(None)

    def abort(self) -> None:
        """RST; connection_lost(None) follows."""
        self._force_close(None)

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if self._protocol_paused and isinstance(self._protocol, _SendfileFallbackProtocol):
            # sendfile() is over: the protocol that comes back knows of no pause of its copying, or
            # is resumed by restore(); if there is still too much, it is told then.
            self._protocol_paused = False
            self._loop.call_soon(self._pause_if_full)
        self._buffered = protocol if isinstance(protocol, asyncio.BufferedProtocol) else None
        self._protocol = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: object = None) -> object:
        """ "peername", "sockname" as sockets give them; "tcp_info": a TcpInfo of this moment."""
        if name == "peername":
            return socket_address(self._tcb.remote)
        if name == "sockname":
            return socket_address(self._tcb.local)
        if name == "tcp_info":
            return self._stack.status(self._tcb, self._driver.now())
        return default

    async def wait_closed(self) -> None:
        """connection_lost() was called, and the peer had acknowledged everything.

        Raises the reason when that cannot be known: the connection broke or was aborted.
        """
        if not self._over:
            waiter = self._loop.create_future()
            self._close_waiters.append(waiter)
            try:
                await waiter
            finally:
                self._close_waiters.remove(waiter)
        if self.error is not None:
            raise self.error

    # The end

    def _fatal_error(self, error: Exception, message: str) -> None:
        self._driver.report(message, error, self)
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        """The connection is reset. asyncio's SSL protocol calls this too."""
        if self._lost:
            return
        self._stack.abort(self._tcb, self._driver.user_call())
        self._lose(error)
        self.error = error or ConnectionAborted()

    def _lose(self, error: BaseException | None) -> None:
        """The connection is not ours any more; connection_lost() follows, once."""
        if self._lost:
            return
        self._lost = True
        self._closing = True
        self._queue = None
        self._queued = 0
        self.error = error
        self._loop.call_soon(self._connection_lost, error)

    def _connection_lost(self, error: BaseException | None) -> None:
        self._over = True
        self._tcb.user = None
        logger.info("%r: ended: %s", self, self.error or "in order")
        try:
            self._protocol.connection_lost(cast("Exception | None", error))
        except Exception as failure:  # noqa: BLE001 (the user's code)
            self._driver.report("protocol.connection_lost() failed", failure, self)
        for waiter in self._close_waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._owner is not None:
            self._owner.connection_ended(self)
        self._driver.remove_user(self)


class _Opening(ClosableUser):
    """Owns a connection until it is ESTABLISHED."""

    __slots__ = ("_driver", "_tcb", "connected")

    def __init__(self, driver: Driver, tcb: Tcb) -> None:
        self._driver = driver
        self._tcb = tcb
        self.connected: asyncio.Future[None] = driver.loop.create_future()

    def notify(self, events: int) -> None:
        if self.connected.done():
            return  # the transport that takes over looks for itself
        if events & CLOSED_EVENT:
            self.connected.set_exception(self._tcb.error or ConnectionAborted())
        elif events & CONNECTED:
            self.connected.set_result(None)

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        """The caller of create_connection() gets ConnectionAborted."""
        if not self.connected.done():
            self.connected.set_exception(ConnectionAborted("the network was closed"))


async def create_connection(
    driver: Driver,
    protocol_factory: Callable[[], _P],
    host: str,
    port: int,
    *,
    local_addr: tuple[str | None, int] | None = None,
    config: TcpConfig | None = None,
    fast_open: bytes | None = None,
) -> tuple[TcpTransport, _P]:
    """An open connection to `host`, an address, as `loop.create_connection` makes one.

    `config` None: that of the stack. Raises the OSError that a kernel's socket would raise. When
    the caller is cancelled, nothing of the attempt is left.

    `fast_open`: the first text, which goes with the SYN if the peer has given us a cookie before,
    and after the handshake otherwise (RFC 7413). A SYN may arrive twice: the peer's application
    must bear it if this text is processed twice (§6.2).
    """
    if driver.closed:
        raise NotConnected("the network is closed")
    stack = driver.stack
    local_host, local_port = local_addr if local_addr is not None else (None, 0)
    tcb = stack.connect(
        normal_address(host),
        port,
        driver.user_call(),
        local_address=normal_address(local_host) if local_host else None,
        local_port=local_port,
        config=config,
        fast_open=fast_open,
    )
    later = fast_open[len(tcb.send_buffer) :] if fast_open else b""
    opening = _Opening(driver, tcb)
    tcb.user = opening
    driver.add_user(opening)
    try:
        await opening.connected
        protocol = protocol_factory()
    except BaseException:
        tcb.user = None
        stack.abort(tcb, driver.user_call())
        raise
    finally:
        driver.remove_user(opening)
    transport = TcpTransport(driver, tcb, protocol)
    transport.start()
    if later:
        transport.write(later)
    return transport, protocol


def normal_address(host: str) -> str:
    """The address as the stack writes it. Raises UsageError for a name: there is no resolver."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError as error:
        raise UsageError(f"{host!r} is not an IPv4 or IPv6 address") from error


def socket_address(endpoint: Endpoint) -> SocketAddress:
    """The tuple that the socket module uses for this family."""
    if ":" in endpoint.address:
        return (endpoint.address, endpoint.port, 0, 0)
    return (endpoint.address, endpoint.port)


def _as_bytes(data: Buffer) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"data must be a bytes-like object, not {type(data).__name__!r}")
    return bytes(data)


def _text(endpoint: Endpoint) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
