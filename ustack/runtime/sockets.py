"""Blocking sockets, in the shape of the standard library's, for ordinary threaded programs.

The semantics are those of `ustack.stack.sockets`; this module adds the waiting. A thread of the
network runs an event loop with a `Driver`; all calls are made there, and the calling thread
sleeps until its call has ended. Nothing polls.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from ustack.config import StackConfig
from ustack.device.base import Device
from ustack.errors import os_error
from ustack.runtime.driver import Driver, User, monotonic_us
from ustack.runtime.randomness import RandomBelow
from ustack.stack import sockets as core
from ustack.stack.probe import Probe
from ustack.stack.socket_base import Received
from ustack.stack.socket_constants import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    MSG_PEEK,
    SO_ERROR,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
)
from ustack.stack.socket_layer import SocketLayer
from ustack.stack.stack import Stack
from ustack.stack.trace import Tracer
from ustack.stack.udp_socket import DatagramSocket as CoreDatagramSocket
from ustack.wire import Buffer

SECRET_LEN = 16  # bytes; as `ustack.runtime.network`
CLOSE_TIMEOUT = 2.0  # seconds that `SocketNetwork.close` lets connections end in order
SEND_SIZE = 1 << 20  # bytes that sendall() offers at a time

T = TypeVar("T")
S = TypeVar("S", core.Socket, CoreDatagramSocket)
Address = tuple[str, int]


class _Blocked(Protocol):
    """A call that has not ended, whatever its result is."""

    wake_at: int | None

    def resume(self, now: int) -> bool:
        """Runs on until it blocks again (False) or has ended (True)."""
        ...

    def give_up(self) -> None:
        """Ends with EBADF: the network is closed."""
        ...


class _Waiting(Generic[T]):
    """A call, and where the thread that made it waits for the outcome."""

    def __init__(self, call: core.Call[T], outcome: Future[T]) -> None:
        self.wake_at: int | None = None  # µs; when it wants to be resumed at the latest
        self._call = call
        self._outcome = outcome
        self._started = False

    def resume(self, now: int) -> bool:
        try:
            self.wake_at = self._call.send(now) if self._started else next(self._call)
        except StopIteration as stop:
            self._outcome.set_result(stop.value)
        except Exception as error:  # noqa: BLE001 (it belongs to the thread that called)
            self._outcome.set_exception(error)
        else:
            self._started = True
            return False
        return True

    def give_up(self) -> None:
        self._call.close()
        self._outcome.set_exception(os_error(errno.EBADF))


class _Owner(User):
    """What the driver tells about one socket."""

    __slots__ = ("_network", "_socket")

    def __init__(self, network: "SocketNetwork", socket: core.Socket | CoreDatagramSocket) -> None:
        self._network = network
        self._socket = socket

    def notify(self, events: int) -> None:
        self._socket.notify(events)
        self._network.something_happened()


class SocketNetwork:
    r"""`addresses` of ours, with prefix, behind `device`, and sockets on them.

    >>> from ustack.device.link import Link
    >>> link = Link()
    >>> with SocketNetwork(link.a, ["10.0.0.1/24"]) as near, \
    ...         SocketNetwork(link.b, ["10.0.0.2/24"]) as far:
    ...     server = far.create_server(("", 7))
    ...     client = near.create_connection(("10.0.0.2", 7))
    ...     peer, address = server.accept()
    ...     client.sendall(b"hello")
    ...     peer.recv(100)
    b'hello'

    The device belongs to the network from here on. Any thread may use any socket.
    """

    def __init__(
        self,
        device: Device,
        addresses: Sequence[str],
        *,
        config: StackConfig | None = None,
        probe: Probe | None = None,
        tracer: Tracer | None = None,
        secret: bytes | None = None,
        randrange: Callable[[int], int] | None = None,
        clock: Callable[[], int] = monotonic_us,
    ) -> None:
        config = replace(
            config or StackConfig(),
            addresses=tuple(addresses),
            mtu=device.mtu,
            gso_max=device.gso_max,
            checksum_offload=device.checksum_offload,
        )
        self.stack = Stack(
            config,
            secret=secret or os.urandom(SECRET_LEN),
            randrange=randrange or RandomBelow(),
            probe=probe,
            tracer=tracer,
        )
        self._layer = SocketLayer(self.stack, config.tcp, lambda socket: _Owner(self, socket))
        self._device = device
        self._blocked: list[_Blocked] = []
        self._resume_pending = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._driver = Driver(self.stack, device, loop=self._loop, clock=clock)
        self._thread = threading.Thread(target=self._run_loop, name="ustack", daemon=True)
        self._thread.start()

    # What users call

    def socket(self, family: int = AF_INET, kind: int = SOCK_STREAM, proto: int = 0) -> "Socket":
        """A new TCP socket; OSError for what is none. For UDP see `datagram_socket`."""
        return Socket(self, self.do(lambda now: self._layer.socket(family, kind, proto)))

    def datagram_socket(self, family: int = AF_INET) -> "DatagramSocket":
        """A new UDP socket."""
        return DatagramSocket(
            self, self.do(lambda now: self._layer.datagram_socket(family, SOCK_DGRAM, 0))
        )

    def create_connection(self, address: Address, timeout: float | None = None) -> "Socket":
        """A socket that is connected to (host address, port); `timeout` stays on it."""
        made = self.socket(_family(address[0]))
        made.settimeout(timeout)
        try:
            made.connect(address)
        except BaseException:
            made.close()
            raise
        return made

    def create_server(self, address: Address, *, backlog: int = 128) -> "Socket":
        """A listening socket; host "" is every address, port 0 any free one."""
        made = self.socket(_family(address[0]))
        try:
            made.bind(address)
            made.listen(backlog)
        except BaseException:
            made.close()
            raise
        return made

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """All sockets and the device are closed: in order within `timeout` seconds, else reset."""
        if not self._closed:
            self._closed = True
            asyncio.run_coroutine_threadsafe(self._close(timeout), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # For the sockets of this module, from any thread

    def run(self, start: Callable[[int], core.Call[T]]) -> T:
        """The result of a call that may block; `start(now)` makes it."""
        if self._closed:
            raise os_error(errno.EBADF)
        outcome: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._begin, start, outcome)
        return outcome.result()

    def do(self, action: Callable[[int], T]) -> T:
        """The result of a call that never blocks."""

        def start(now: int) -> core.Call[T]:
            yield from ()
            return action(now)

        return self.run(start)

    # In the thread of the loop

    def something_happened(self) -> None:
        """The blocked calls are looked at again soon."""
        if not self._resume_pending:
            self._resume_pending = True
            self._loop.call_soon(self._resume)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._driver.start()
        frames_wait = self._device.on_readable
        if frames_wait is not None:
            # The other end of a device in memory may live in another thread.
            self._device.on_readable = lambda: self._from_any_thread(frames_wait)
        self._loop.run_forever()

    def _from_any_thread(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody reads any more
            self._loop.call_soon_threadsafe(callback)

    def _begin(self, start: Callable[[int], core.Call[T]], outcome: Future[T]) -> None:
        if self._driver.closed:
            outcome.set_exception(os_error(errno.EBADF))
            return
        now = self._driver.now()
        waiting = _Waiting(start(now), outcome)
        if not waiting.resume(now):
            self._blocked.append(waiting)
        self._driver.request_turn()
        self._arm()

    def _resume(self) -> None:
        self._resume_pending = False
        now = self._driver.now()
        self._blocked = [blocked for blocked in self._blocked if not blocked.resume(now)]
        self._driver.request_turn()
        self._arm()

    def _arm(self) -> None:
        """The timer fires at the first time-out of a call."""
        now = self._driver.now()
        deadlines = [blocked.wake_at for blocked in self._blocked]
        deadline = min((at for at in deadlines if at is not None), default=None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            # One µs more: rounding in floats must not wake us before the deadline.
            self._timer = self._loop.call_later(max(deadline - now + 1, 0) / 1e6, self._resume)

    async def _close(self, timeout: float) -> None:
        now = self._driver.now()
        for each in list(self._layer.sockets):
            next(each.close(now), None)  # no lingering: the driver lingers for all of them
        await self._driver.close(timeout)
        for blocked in self._blocked:
            blocked.give_up()
        self._blocked.clear()
        if self._timer is not None:
            self._timer.cancel()


class _SocketBase(Generic[S]):
    """What both kinds of sockets have of `socket.socket`."""

    def __init__(self, network: SocketNetwork, inner: S) -> None:
        self._network = network
        self._inner: S = inner
        self._timeout: float | None = None

    def bind(self, address: Address) -> None:
        """The socket has this local address."""
        self._network.do(lambda now: self._inner.bind(*address))

    def connect(self, address: Address) -> None:
        """The connection is open; of a datagram socket: this is its peer."""
        try:
            self._run(lambda now: self._inner.connect(*address, now))
        except BlockingIOError:
            if self._timeout:
                raise TimeoutError(errno.ETIMEDOUT, "timed out") from None
            raise

    # Sending and receiving

    def send(self, data: Buffer, flags: int = 0) -> int:
        """How many bytes were taken: all of them, unless non-blocking or timed out."""
        return self._run(lambda now: self._inner.send(data, flags, now))

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Up to `size` bytes, b"" at the end of the stream; or one datagram, cut to `size`."""
        return self._received(size, flags).data

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0, flags: int = 0) -> int:
        """As recv, into `buffer`; how many bytes."""
        data = self.recv(size or len(buffer), flags)
        memoryview(buffer)[: len(data)] = data
        return len(data)

    def _received(self, size: int, flags: int) -> Received:
        return self._run(lambda now: self._inner.receive(size, flags, now))

    # Closing

    def shutdown(self, how: int) -> None:
        """Sending, receiving or both are over."""
        self._network.do(lambda now: self._inner.shutdown(how, now))

    def close(self) -> None:
        """The socket is gone; queued data is still sent. A second call does nothing."""
        if not self._inner.closed:
            self._network.run(self._inner.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # Waiting

    def setblocking(self, blocking: bool) -> None:
        """As settimeout(None) or settimeout(0)."""
        self.settimeout(None if blocking else 0.0)

    def settimeout(self, timeout: float | None) -> None:
        """Calls raise TimeoutError after so many seconds; 0: they never wait; None: for ever."""
        if timeout is not None and timeout < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = timeout
        waiting_us = round(timeout * 1e6) if timeout else None
        self._inner.nonblocking = timeout == 0
        self._inner.options.receive_timeout_us = waiting_us
        self._inner.options.send_timeout_us = waiting_us

    def gettimeout(self) -> float | None:
        """What `settimeout` was told."""
        return self._timeout

    def poll(self) -> int:
        """The POLL* bits that hold now (poll(2))."""
        return self._network.do(self._inner.poll)

    # Options

    def getsockopt(self, level: int, option: int) -> int | bytes:
        """The value: an int, or bytes for a structure or string."""
        return self._network.do(lambda now: self._inner.getsockopt(level, option, now))

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """The option is set, on a live connection too."""
        self._network.do(lambda now: self._inner.setsockopt(level, option, value, now))

    def _run(self, start: Callable[[int], core.Call[T]]) -> T:
        if self._inner.closed:
            raise os_error(errno.EBADF)
        try:
            return self._network.run(start)
        except BlockingIOError as error:
            if self._timeout and error.errno == errno.EAGAIN:
                raise TimeoutError(errno.ETIMEDOUT, "timed out") from None
            raise


class Socket(_SocketBase[core.Socket]):
    """A stream socket with the methods of `socket.socket`. Made by `SocketNetwork`."""

    def listen(self, backlog: int = 128) -> None:
        """Connections are taken from here on."""
        self._network.do(lambda now: self._inner.listen(backlog, now))

    def accept(self) -> tuple["Socket", Address]:
        """The next connection and the address of its peer; it blocks, whatever this one does."""
        child = self._run(lambda now: self._inner.accept(0, now))
        made = Socket(self._network, child)
        return made, made.getpeername()

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """All bytes were taken."""
        view = memoryview(data)
        while view:
            view = view[self.send(view[:SEND_SIZE], flags) :]

    def getsockname(self) -> Address:
        """The local address."""
        inner = self._inner
        if inner.tcb is not None:
            return inner.tcb.local
        if inner.listener is not None:
            return (inner.listener.address or "", inner.listener.port)
        return inner.bound or ("", 0)

    def getpeername(self) -> Address:
        """The address of the peer; ENOTCONN."""
        if self._inner.tcb is None:
            raise os_error(errno.ENOTCONN)
        return self._inner.tcb.remote


class DatagramSocket(_SocketBase[CoreDatagramSocket]):
    """A datagram socket with the methods of `socket.socket`. Made by `SocketNetwork`."""

    def sendto(self, data: Buffer, address: Address) -> int:
        """A datagram leaves for `address`; how many bytes were taken: all."""
        return self._run(lambda now: self._inner.send_to(*address, data, 0, now))

    def recvfrom(self, size: int, flags: int = 0) -> tuple[bytes, Address]:
        """One datagram, cut to `size`, and where it came from."""
        received = self._received(size, flags)
        return received.data, received.source or ("", 0)

    def getsockname(self) -> Address:
        """The local address."""
        return self._network.do(lambda now: self._inner.local())

    def getpeername(self) -> Address:
        """The address of the peer; ENOTCONN."""
        return self._network.do(lambda now: self._inner.peer())


def _family(host: str) -> int:
    return AF_INET6 if ":" in host else AF_INET


__all__ = [
    "AF_INET",
    "AF_INET6",
    "IPPROTO_TCP",
    "MSG_PEEK",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SO_ERROR",
    "TCP_NODELAY",
    "DatagramSocket",
    "Socket",
    "SocketNetwork",
]
