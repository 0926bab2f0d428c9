"""One-way transfers between two of the four hosts, and the world they happen in."""

import asyncio
import selectors
import socket
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tools.comparison.hosts import Bridge, KernelHost, Port
from tools.comparison.links import Link
from tools.comparison.recording import Recording
from ustack.runtime.driver import monotonic_us
from ustack.runtime.network import DEFAULT_CONFIG, Network
from ustack.stack.trace import Tracer

MTU = 1500
CHUNK = 256 << 10  # bytes handed to a sender at once
FIRST_PORT = 20_000
USTACK_BUFFER = 32 << 20  # as much as KERNEL_SETTINGS lets the kernel grow to

NAMES = ("ustack", "kernel")
PAIRS = tuple((near, far) for near in NAMES for far in NAMES)  # sender, receiver
Pair = tuple[str, str]
KERNEL_PAIR: Pair = ("kernel", "kernel")

_T = TypeVar("_T")


def pair_name(pair: Pair) -> str:
    return f"{pair[0]}>{pair[1]}"


@dataclass(slots=True)
class Transfer:
    """What became of one transfer. Times in µs of the bridge's clock, sizes in bytes."""

    size: int | None  # None: without end
    began_at: int = 0  # the connect
    ended_at: int = 0  # the last byte has arrived, or the time allowed is over; 0: still running
    received: int = 0
    complete: bool = False
    arrivals: list[tuple[int, int]] = field(default_factory=list)  # (time, bytes so far)

    def note(self, count: int) -> bool:
        """`count` bytes have arrived; True: that was all."""
        self.received += count
        self.arrivals.append((monotonic_us(), self.received))
        return self.size is not None and self.received >= self.size

    @property
    def goodput_bps(self) -> float:
        """From the connect to the end."""
        return self.received * 8e6 / max(self.ended_at - self.began_at, 1)

    def received_by(self, at: int) -> int:
        """How much had arrived at `at`."""
        index = bisect_right(self.arrivals, at, key=lambda arrival: arrival[0])
        return self.arrivals[index - 1][1] if index else 0

    def arrived_at(self, count: int) -> int | None:
        """When the first `count` bytes were there."""
        index = bisect_left(self.arrivals, count, key=lambda arrival: arrival[1])
        return self.arrivals[index][0] if index < len(self.arrivals) else None


class World:
    """The four hosts, and transfers between them, one or many at a time."""

    def __init__(
        self,
        bridge: Bridge,
        kernels: tuple[KernelHost, KernelHost],
        networks: tuple[Network, Network],
        congestion: str,
    ) -> None:
        self.bridge = bridge
        self._kernels = kernels
        self._networks = networks
        self._congestion = congestion
        self._next_port = FIRST_PORT

    async def transfer(
        self,
        pair: Pair,
        links: tuple[Link, Link],
        *,
        size: int | None = None,
        seconds: float,
        recording: Recording | None = None,
    ) -> Transfer:
        """`size` bytes (None: without end) from the near host to the far one, for `seconds`.

        `recording` gets the near host's segments, and a kernel's TCP_INFO.
        """
        port = self._next_port
        self._next_port += 1
        self.bridge.lay(port, *links)
        if recording is not None:
            self.bridge.tap(port, recording.take)
        transfer = Transfer(size)
        received = asyncio.get_running_loop().create_future()
        serve = self._serve_kernel if pair[1] == "kernel" else self._serve_ustack
        send = self._send_kernel if pair[0] == "kernel" else self._send_ustack
        async with serve(port, transfer, received):
            transfer.began_at = monotonic_us()
            sending = asyncio.create_task(send(_address(pair[1]), port, size, recording))
            try:
                async with asyncio.timeout(seconds):
                    await _first_failure(sending, received)
                    transfer.complete = True
            except TimeoutError:
                pass
            transfer.ended_at = monotonic_us()
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending
            self.bridge.remove(port)
        return transfer

    # ------------------------------------------------------------------ the kernel's ends

    @asynccontextmanager
    async def _serve_kernel(
        self, port: int, transfer: Transfer, done: asyncio.Future[None]
    ) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        listener = self._kernels[1].socket(self._congestion)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", port))
        listener.listen(1)

        async def receive() -> None:
            connection, _ = await loop.sock_accept(listener)
            buffer = bytearray(4 << 20)
            with connection:
                connection.setblocking(False)
                try:
                    while count := await loop.sock_recv_into(connection, buffer):
                        if transfer.note(count) and not done.done():
                            done.set_result(None)
                finally:
                    _abort(connection)

        task = asyncio.create_task(receive())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await task
            listener.close()

    async def _send_kernel(
        self, address: str, port: int, size: int | None, recording: Recording | None
    ) -> None:
        loop = asyncio.get_running_loop()
        chunk = bytes(CHUNK)
        with self._kernels[0].socket(self._congestion) as connection:
            try:
                if recording is not None:
                    recording.info = connection
                await loop.sock_connect(connection, (address, port))
                left = size
                while left is None or left > 0:
                    count = CHUNK if left is None else min(left, CHUNK)
                    await loop.sock_sendall(connection, chunk[:count])
                    if left is not None:
                        left -= count
                await asyncio.Event().wait()  # until it is cancelled: the peer still receives
            finally:
                _abort(connection)

    # ------------------------------------------------------------------ ustack's ends

    @asynccontextmanager
    async def _serve_ustack(
        self, port: int, transfer: Transfer, done: asyncio.Future[None]
    ) -> AsyncIterator[None]:
        server = await self._networks[1].create_server(lambda: _Sink(transfer, done), port=port)
        try:
            yield
        finally:
            server.close()
            for tcb in self._networks[1].stack.connections():
                if tcb.local.port == port:
                    self._networks[1].stack.abort(tcb, self._networks[1].driver.user_call())

    async def _send_ustack(
        self, address: str, port: int, size: int | None, recording: Recording | None
    ) -> None:
        del recording  # ustack has a tracer of its own
        transport, source = await self._networks[0].create_connection(
            lambda: _Source(size), address, port
        )
        try:
            await source.lost.wait()
        finally:
            transport.abort()


class _Sink(asyncio.Protocol):
    def __init__(self, transfer: Transfer, done: asyncio.Future[None]) -> None:
        self._transfer = transfer
        self._done = done

    def data_received(self, data: bytes) -> None:
        if self._transfer.note(len(data)) and not self._done.done():
            self._done.set_result(None)


class _Source(asyncio.Protocol):
    """Writes `size` bytes (None: without end) whenever the transport takes more."""

    def __init__(self, size: int | None) -> None:
        self.lost = asyncio.Event()
        self._left = size
        self._writing = True
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()

    def pause_writing(self) -> None:
        self._writing = False

    def resume_writing(self) -> None:
        transport = self._transport
        assert transport is not None
        self._writing = True
        while self._writing and self._left != 0 and not transport.is_closing():
            count = CHUNK if self._left is None else min(self._left, CHUNK)
            transport.write(bytes(count))
            if self._left is not None:
                self._left -= count


def _abort(connection: socket.socket) -> None:
    """No FIN that would wait for a link that is gone: close() sends a RST."""
    linger_at_once = (1).to_bytes(4, "little") + bytes(4)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_at_once)


async def _first_failure(sending: asyncio.Task[None], received: asyncio.Future[None]) -> None:
    """The receiver has everything. Raises what the sender died of before that."""
    done, _ = await asyncio.wait((sending, received), return_when=asyncio.FIRST_COMPLETED)
    if sending in done and received not in done:
        sending.result()
        await received


def _address(far: str) -> str:
    return "10.2.0.1" if far == "kernel" else "10.2.0.2"


@asynccontextmanager
async def world(
    congestion: str,
    kernel_congestion: str,
    *,
    tracer: Tracer | None = None,
) -> AsyncIterator[World]:
    """Everything is up, the same algorithm everywhere; `tracer` watches the near stack."""
    tcp = replace(
        DEFAULT_CONFIG.tcp,
        congestion=congestion,
        send_buffer=USTACK_BUFFER,
        receive_buffer=USTACK_BUFFER,
    )
    config = replace(DEFAULT_CONFIG, tcp=tcp)
    bridge = Bridge()
    kernels = KernelHost("10.1.0.1", MTU), KernelHost("10.2.0.1", MTU)
    networks = []
    for address, watched in (("10.1.0.2", tracer), ("10.2.0.2", None)):
        port = Port(bridge.carry, MTU)
        bridge.attach(address, port.arrive)
        networks.append(Network(port, [f"{address}/24"], config=config, tracer=watched))
    for host in kernels:
        bridge.attach_kernel(host)
    async with networks[0], networks[1]:
        try:
            yield World(bridge, kernels, (networks[0], networks[1]), kernel_congestion)
        finally:
            bridge.close()
            for host in kernels:
                asyncio.get_running_loop().remove_reader(host.device.fileno())
                host.close()


def run(main: Callable[[], Coroutine[object, object, _T]]) -> _T:
    """Runs `main` in an event loop whose timers are exact to µs; epoll would round them to ms."""

    def precise() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(selectors.SelectSelector())

    with asyncio.Runner(loop_factory=precise) as runner:
        return runner.run(main())


async def together(*transfers: Awaitable[Transfer]) -> list[Transfer]:
    """They all run at the same time, so that all see the same minute of the machine."""
    return list(await asyncio.gather(*transfers))
