"""A host of the simulation: one stack, its clock and its port; and where its numbers begin.

Each host has a clock of its own, as real ones have. That is also what puts the numbers next to
their wrap: the ISN follows a 4 µs clock and the timestamps a 1 ms clock, both with offsets keyed
by the secret, so there is a secret and a clock with which the ISN of a given flow lies just below
2^32 and the timestamps pass 2^32 within the first minute. `Wrap.find` searches for them, with the
stack's public API only.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from tools.simulation.path import Port
from ustack.config import StackConfig
from ustack.stack import socket_constants as c
from ustack.stack.listener import Listener
from ustack.stack.probe import Probe
from ustack.stack.socket_layer import SocketLayer
from ustack.stack.sockets import Socket
from ustack.stack.stack import Stack
from ustack.tcp.tcb import ACCEPTABLE, Endpoint, Tcb
from ustack.wire import Buffer

READ_BUDGET = 64  # frames a driver reads before it lets the stack answer
WRAP = 1 << 32
ISN_ROOM = 20_000  # octets at most between the ISN and the wrap
ISN_TICK_US = 4
TIMESTAMP_ROOM_US = 60_000_000  # the timestamps wrap so long, at most, after the start
ISN_PERIOD_US = WRAP * ISN_TICK_US
TIMESTAMP_PERIOD_US = WRAP * 1000


@dataclass(frozen=True, slots=True)
class Wrap:
    """A secret and a start of the clock (µs) that put a flow's numbers next to their wrap."""

    secret: bytes
    clock_us: int

    @staticmethod
    @lru_cache(maxsize=256)
    def find(local: Endpoint, remote: Endpoint, prefix: int, seed: int) -> "Wrap":
        """For the connection from `local` to `remote`, the same for the same arguments."""
        rng = random.Random(f"{local} {remote} {seed}")
        room = rng.randrange(1, ISN_ROOM)
        while True:
            secret = rng.randbytes(16)
            config = StackConfig(addresses=(f"{local.address}/{prefix}",))
            stack = Stack(config, secret=secret, randrange=rng.randrange)
            tcb = stack.connect(remote.address, remote.port, 0, local_port=local.port)
            isn_at_zero, timestamp_at_zero = tcb.snd.iss, tcb.ts_offset
            first = (-isn_at_zero - room) % WRAP * ISN_TICK_US
            for clock_us in range(first, TIMESTAMP_PERIOD_US, ISN_PERIOD_US):
                until_wrap_ms = (-timestamp_at_zero - clock_us // 1000) % WRAP
                if until_wrap_ms * 1000 < TIMESTAMP_ROOM_US:
                    return Wrap(secret, clock_us)


class Host:
    """Drives a stack as a runtime does. Times given to its methods are the world's, in µs."""

    def __init__(
        self,
        name: str,
        config: StackConfig,
        port: Port,
        *,
        secret: bytes,
        clock_us: int,
        seed: int,
        probe: Probe | None,
        on_packet: Callable[["Host", bytes], None],
    ) -> None:
        self.name = name
        self.config = config
        self.port = port
        self.clock_us = clock_us  # what its clock shows when the world's shows 0
        self.packets_in = 0
        self.packets_out = 0
        self._probe = probe
        self._seed = seed
        self._boots = 0
        self._on_packet = on_packet
        self._on_event: dict[object, Callable[[int], None]] = {}
        self.stack = self._boot(secret)

    def _boot(self, secret: bytes) -> Stack:
        self._boots += 1
        rng = random.Random(self._seed * 1000 + self._boots)
        stack = Stack(self.config, secret=secret, randrange=rng.randrange, probe=self._probe)
        self.sockets = SocketLayer(stack, self.config.tcp)
        return stack

    def restart(self) -> None:
        """The machine crashes and comes up again: it remembers nothing."""
        self._on_event.clear()
        self.stack = self._boot(random.Random(f"{self._seed} {self._boots}").randbytes(16))

    def time(self, now: int) -> int:
        """What this host's clock shows."""
        return now + self.clock_us

    def on_event(self, subject: Tcb | Listener, handler: Callable[[int], None]) -> None:
        """`handler(flags)` is told of the events of `subject`."""
        self._on_event[subject] = handler

    def serve(self, port: int, accepted: Callable[[Tcb], None], backlog: int = 128) -> Listener:
        """Listen on `port`; each connection goes to `accepted`."""
        listener = self.stack.listen(port, 0, backlog=backlog)
        stack = self.stack

        def on_listener(flags: int) -> None:
            if flags & ACCEPTABLE:
                while (tcb := stack.accept(listener)) is not None:
                    accepted(tcb)

        self.on_event(listener, on_listener)
        return listener

    def serve_socket(
        self, port: int, now: int, accepted: Callable[[Tcb, Socket], None], backlog: int = 128
    ) -> None:
        """The same with a listening socket."""
        listening = self.socket()
        listening.bind("", port)
        listening.listen(backlog, self.time(now))
        assert listening.listener is not None

        def on_listener(flags: int) -> None:
            listening.notify(flags)
            while listening.poll(0) & c.POLLIN:
                try:
                    next(listening.accept(c.SOCK_NONBLOCK, 0))
                except StopIteration as done:
                    child: Socket = done.value
                    assert child.tcb is not None
                    accepted(child.tcb, child)

        self.on_event(listening.listener, on_listener)

    def socket(self) -> Socket:
        """A new one that never waits."""
        kind = c.SOCK_STREAM | c.SOCK_NONBLOCK
        return self.sockets.socket(c.AF_INET6, kind, 0)

    def turn(self, now: int) -> None:
        """One turn of the driver: read, time out, flush, tell the applications."""
        at = self.time(now)
        stack = self.stack
        for frame in self.port.read(READ_BUDGET, now):
            self.packets_in += 1
            if self.port.on_delivery is not None:
                self.port.on_delivery(frame)
            stack.input(frame, at)
        due = stack.next_deadline()
        if due is not None and due <= at:
            stack.handle_timeouts(at)

        def write(parts: Sequence[Buffer], _: int) -> bool:
            self.packets_out += 1
            self._on_packet(self, b"".join(parts))
            return self.port.write(parts, now)

        stack.flush(at, write)
        while stack is self.stack and (events := stack.take_events()):
            for subject, flags in events:
                handler = self._on_event.get(subject)
                if handler is not None:
                    handler(flags)
            stack.flush(at, write)

    def next_deadline(self, now: int) -> int | None:
        """When `turn` has something to do (world's µs), at the earliest now."""
        due = self.stack.next_deadline()
        arrival = self.port.next_deadline(now)
        if due is not None and (arrival is None or due - self.clock_us < arrival):
            arrival = due - self.clock_us
        return arrival if arrival is None or arrival > now else now
