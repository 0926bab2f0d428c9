"""ustack as the thing under test: a stack on a virtual clock over a wire in memory.

Time moves only to the next event of the script or, while a packet or a call is waited for, to
the next deadline of the stack. Nothing sleeps, and two runs do exactly the same.
"""

import random
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace

from ustack.config import SECOND
from ustack.drill.commands import Commands
from ustack.drill.failure import ScriptFailure
from ustack.drill.fragments import Defragmenter
from ustack.drill.freebsd import as_freebsd
from ustack.drill.host import Snapshot, Task
from ustack.drill.machine import counters, sockets
from ustack.drill.packets import LivePacket, framed
from ustack.drill.pipelines import Machine
from ustack.drill.positions import Position
from ustack.drill.script import Settings
from ustack.drill.snippets import LINUX_STATES, bbr_info, memory_info, tcp_info
from ustack.drill.sysctls import Environment
from ustack.drill.udp_tunnel import UdpTunnel
from ustack.drill.ustack_api import UstackApi
from ustack.errors import UStackError
from ustack.stack.probe import Probe
from ustack.stack.socket_base import Call
from ustack.stack.socket_constants import IPPROTO_TCP, SO_MEMINFO, SOL_SOCKET, TCP_CC_INFO
from ustack.stack.socket_layer import SocketLayer
from ustack.stack.stack import Stack
from ustack.tcp.fast_open import CLIENT
from ustack.wire import Buffer
from ustack.wire.gso import split
from ustack.wire.virtio import HEADER_LEN

EPOCH_US = 1_000 * SECOND  # what the stack's clock shows when a test begins
GSO_MAX = 65535  # bytes; language §11.3: scripts are written for a stack with TSO
SECRET = b"secret of drills"  # 16 bytes
MAX_TURNS = 10_000  # flushes without time passing: more is a loop without an end


class VirtualHost:
    """A `Host`. `probe` sees every packet; `environment` is what the commands change.

    `freebsd`: it begins with FreeBSD's defaults, not with Linux's.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        allow_shell: bool = False,
        probe: Probe | None = None,
        freebsd: bool = False,
    ) -> None:
        local = settings.local_address
        length = 64 if ":" in local else 16
        self.environment = Environment()
        self.environment.stack = replace(
            self.environment.stack,
            addresses=(f"{local}/{length}",),
            mtu=settings.device_mtu,
            gso_max=GSO_MAX,
            checksum_offload=True,
            fast_open=CLIENT,  # as Linux begins; scripts set more
        )
        # Scripts are written for Linux, which takes liberties with the RFCs here.
        self.environment.tcp = replace(
            self.environment.tcp,
            probe_with_text=False,
            soft_errors_end_opening=True,
            text_on_syn_ack=False,
            acks_await_reader=True,
            linux_windows=True,
            cut_segments=2,
            slow_start="hystart",
            pacing=False,
        )
        if freebsd:
            self.environment.tcp = as_freebsd(self.environment.tcp)
            self.environment.note("a script for FreeBSD: played with its defaults")
        self._settings = settings
        self._probe = probe
        self._now = 0
        self._sent: deque[LivePacket] = deque()
        self._defragmenter = Defragmenter()
        self._tunnel = UdpTunnel(settings.device_mtu, self._in_use, expected=settings.tunnelled)
        self._tasks: list[Task] = []
        self._drops_output = False
        self._commands = Commands(
            self.environment,
            allow_shell=allow_shell,
            wait=self._pass_time,
            drop_output=self._set_drops_output,
            machine=Machine(
                lambda: counters(self._stack),
                lambda: sockets(self.stack) if self._stack else [],
            ),
        )
        self._stack: Stack | None = None
        self._layer: SocketLayer | None = None
        self._api: UstackApi | None = None
        self._untouched = True  # the stack has seen no call and no packet yet

    @property
    def api(self) -> UstackApi:
        assert self._api is not None
        return self._api

    @property
    def stack(self) -> Stack:
        """The stack under test, from `start` on."""
        assert self._stack is not None
        return self._stack

    # Commands

    def prepare(self, text: str, position: Position) -> None:
        self._commands.run(text, position)

    def command(self, text: str, position: Position) -> None:
        before = self.environment.stack
        self._commands.run(text, position)
        if self.environment.stack != before and self._untouched:
            self._make_stack()
        elif self.environment.stack != before:
            self.environment.note(f"{position}: too late for a setting of the whole stack")
        assert self._layer is not None
        self._layer.config = self.environment.tcp
        if self.environment.tunnel_port is not None:
            self._tunnel.port = self.environment.tunnel_port

    def _pass_time(self, duration_us: int) -> None:
        self.sleep_until(self._now + duration_us)

    def _set_drops_output(self, drops: bool) -> None:
        self._drops_output = drops

    def notes(self) -> list[str]:
        return self.environment.notes

    # Time

    def start(self) -> None:
        self._make_stack()
        assert self._layer is not None
        if self.environment.tunnel_port is not None:
            self._tunnel.port = self.environment.tunnel_port
        self._api = UstackApi(
            self._layer, self._clock, EPOCH_US, self._commands.files, self._tunnel
        )

    def _make_stack(self) -> None:
        config = replace(self.environment.stack, tcp=self.environment.tcp)
        seeded = random.Random(0)  # the same in every run
        self._stack = Stack(config, secret=SECRET, randrange=seeded.randrange, probe=self._probe)
        self._layer = SocketLayer(self._stack, self.environment.tcp)
        if self._api is not None:
            self._api.attach(self._layer)

    def _clock(self) -> int:
        return EPOCH_US + self._now

    def now(self) -> int:
        return self._now

    def sleep_until(self, when_us: int) -> None:
        """All that is due until then has happened."""
        if self._stack is not None:
            while self._advance(when_us):
                pass
        self._now = max(self._now, when_us)

    def _advance(self, limit_us: int | None) -> bool:
        """Moves to the next deadline and does what is due; False when none is in reach."""
        due = self.stack.next_deadline()
        deadlines = [] if due is None else [due - EPOCH_US]
        deadlines += [task.wake_us for task in self._tasks if task.wake_us is not None]
        if not deadlines:
            return False
        at = max(self._now, min(deadlines))
        if limit_us is not None and at > limit_us:
            return False
        self._now = at
        self.stack.handle_timeouts(self._clock())
        self._turn()
        return True

    def _turn(self) -> None:
        """Packets out, events up, sleeping calls resumed, until nothing changes any more."""
        layer = self._layer
        assert layer is not None
        for _ in range(MAX_TURNS):
            now = self._clock()
            self.stack.flush(now, self._write)
            events = self.stack.take_events()
            layer.dispatch(events)
            finished = [self._resume(task) for task in list(self._tasks)]
            at = self.stack.next_deadline()
            if not events and not any(finished) and (at is None or at > now):
                return
            if at is not None and at <= now:
                self.stack.handle_timeouts(now)
        raise UStackError("the stack has work without end at one moment")

    # The wire

    def inject(self, packet: bytes) -> None:
        self._untouched = False
        unpacked = self._tunnel.arrives(packet)
        if unpacked is None:
            self.environment.note("dropped: not in the UDP tunnel of its connection")
        else:
            self.stack.input(framed(unpacked, self._settings), self._clock())
        self._turn()

    def _in_use(self, flow: bytes) -> bool:
        """The stack knows a connection of that key, however far it is."""
        stack = self.stack
        flows = {tcb.flow for tcb in stack.connections()}
        flows |= {request.flow for request in stack.half_open()}
        return flow in flows | {record.flow for record in stack.time_waits()}

    def _write(self, parts: Sequence[Buffer], now: int) -> bool:
        if self._drops_output:
            return True
        for frame in split(b"".join(parts)):
            sent = self._defragmenter.feed(frame[HEADER_LEN:], now - EPOCH_US)
            if sent is not None:
                self._sent.append(self._tunnel.leaves(sent))
        return True

    def next_packet(self, until_us: int | None) -> LivePacket | None:
        while not self._sent:
            if not self._advance(until_us):
                if until_us is not None:
                    self._now = max(self._now, until_us)
                return None
        return self._sent.popleft()

    # System calls

    def begin(self, call: Call[int]) -> Task:
        self._untouched = False
        task = Task(call)
        self._tasks.append(task)
        self._resume(task, first=True)
        self._turn()
        return task

    def finish(self, task: Task, until_us: int | None) -> None:
        while not task.done and self._advance(until_us):
            pass

    def _resume(self, task: Task, *, first: bool = False) -> bool:
        """Runs the call on until it blocks again; True when it has ended."""
        try:
            wake_at = next(task.call) if first else _send(task.call, self._clock())
        except StopIteration as stop:
            task.result = stop.value
        except ScriptFailure as failure:
            task.failure = failure
        except OSError as error:
            task.result, task.errno = -1, error.errno or 0
        else:
            task.wake_us = None if wake_at is None else wake_at - EPOCH_US
            return False
        task.done = True
        task.finished_us = self._now
        self._tasks.remove(task)
        return True

    def snapshot(self, fd: int | None) -> Snapshot:
        socket = self.api.socket_of(fd) if fd is not None else None
        if socket is None:
            return Snapshot()
        if socket.tcb is None:
            state = "CLOSED" if socket.listener is None else "LISTEN"
            return Snapshot({"tcpi_state": LINUX_STATES[state]})
        now = self._clock()
        memory = socket.getsockopt(SOL_SOCKET, SO_MEMINFO, now)
        congestion = socket.getsockopt(IPPROTO_TCP, TCP_CC_INFO, now)
        assert isinstance(memory, bytes) and isinstance(congestion, bytes)
        return Snapshot(tcp_info(socket.info(now)) | memory_info(memory) | bbr_info(congestion))

    def close(self) -> None:
        """Nothing to do: the stack is thrown away."""


def _send(call: Generator[int | None, int, int], now: int) -> int | None:
    return call.send(now)
