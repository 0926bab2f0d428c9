"""Two hosts with sockets, joined by a wire without delay, on a virtual clock."""

from collections.abc import Sequence
from typing import TypeVar

from ustack.config import StackConfig, TcpConfig
from ustack.stack.socket_constants import AF_INET, SOCK_STREAM
from ustack.stack.socket_layer import SocketLayer
from ustack.stack.sockets import Call, Socket
from ustack.stack.stack import Stack
from ustack.wire import Buffer

T = TypeVar("T")

START = 1_000_000_000  # µs
MS = 1_000
SECOND = 1_000_000
CONFIG = TcpConfig(send_buffer=20_000, receive_buffer=20_000, nagle=False)
SERVER = "10.0.0.2"


class Host:
    """A stack with its sockets; what it sends waits in `sent`."""

    def __init__(self, address: str, config: TcpConfig) -> None:
        self.stack = Stack(
            StackConfig(addresses=(f"{address}/24",), tcp=config),
            secret=bytes(16),
            randrange=lambda limit: 0,
        )
        self.layer = SocketLayer(self.stack, config)
        self.sent: list[bytes] = []

    def socket(self, kind: int = SOCK_STREAM) -> Socket:
        return self.layer.socket(AF_INET, kind, 0)

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        self.sent.append(b"".join(parts))
        return True


class World:
    """`client` and `server`; `cut` loses everything on the wire."""

    def __init__(self, config: TcpConfig = CONFIG) -> None:
        self.now = START
        self.client = Host("10.0.0.1", config)
        self.server = Host(SERVER, config)
        self.cut = False

    def settle(self) -> None:
        """Everything that can happen at this moment has happened."""
        busy = True
        while busy:
            busy = False
            for host, other in ((self.client, self.server), (self.server, self.client)):
                host.stack.handle_timeouts(self.now)
                host.stack.flush(self.now, host.write)
                events = host.stack.take_events()
                host.layer.dispatch(events)
                frames, host.sent = host.sent, []
                busy = busy or bool(frames) or bool(events)
                for frame in [] if self.cut else frames:
                    other.stack.input(frame, self.now)

    def advance(self, duration: int) -> None:
        """Time passes, deadline by deadline."""
        end = self.now + duration
        while True:
            self.settle()
            deadlines = [
                at
                for host in (self.client, self.server)
                if (at := host.stack.next_deadline()) is not None and at > self.now
            ]
            if not deadlines or min(deadlines) > end:
                break
            self.now = min(deadlines)
        self.now = end
        self.settle()

    def call(self, call: Call[T]) -> T:
        """The result of a call that ends without time passing."""
        try:
            next(call)
            for _ in range(100):
                self.settle()
                call.send(self.now)
        except StopIteration as stop:
            self.settle()
            result: T = stop.value
            return result
        raise AssertionError("the call blocks")

    def blocks(self, call: Call[T]) -> Call[T]:
        """The call, of which it is checked that it blocks now."""
        next(call)
        self.settle()
        call.send(self.now)
        return call

    def resume(self, call: Call[T]) -> T:
        """The result of a call that has blocked before."""
        self.settle()
        try:
            for _ in range(100):
                call.send(self.now)
                self.settle()
        except StopIteration as stop:
            self.settle()
            result: T = stop.value
            return result
        raise AssertionError("the call still blocks")

    def listener(self, port: int = 7, backlog: int = 5) -> Socket:
        made = self.server.socket()
        made.bind(SERVER, port)
        made.listen(backlog, self.now)
        return made

    def pair(self) -> tuple[Socket, Socket]:
        """A connected client and the server's end."""
        listener = self.listener()
        client = self.client.socket()
        self.call(client.connect(SERVER, 7, self.now))
        return client, self.call(listener.accept(0, self.now))
