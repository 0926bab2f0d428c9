"""What the player needs from the thing under test: ustack on a virtual clock, or a kernel.

System calls are generators (`Call`, see `ustack.stack.sockets`): on ustack they yield where they
block, on a kernel they run in a thread and never yield.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ustack.drill.packets import LivePacket
from ustack.drill.positions import Position
from ustack.stack.error_queue import ControlMessage
from ustack.stack.socket_base import Call


@dataclass(slots=True)
class Task:
    """A system call that was started. Times are µs since the start of the test."""

    call: Call[int]
    done: bool = False
    result: int = 0
    errno: int = 0  # with result -1
    failure: BaseException | None = None  # the call could not be judged: see ScriptFailure
    finished_us: int = 0
    wake_us: int | None = None  # when it wants to be resumed at the latest


@dataclass(slots=True, frozen=True)
class Message:
    """What recvmsg() got."""

    size: int
    flags: int = 0
    control: tuple[ControlMessage, ...] = ()  # times are µs since the start of the test


@dataclass(slots=True)
class Snapshot:
    """The variables that a code snippet sees (language §13.2)."""

    values: Mapping[str, int] = field(default_factory=dict)


class SocketApi(Protocol):
    """System calls with live descriptors. Errors are OSErrors. Payloads are zeros."""

    def socket(self, domain: int, kind: int, protocol: int) -> Call[int]: ...
    def bind(self, fd: int, address: str, port: int) -> Call[int]: ...
    def listen(self, fd: int, backlog: int) -> Call[int]: ...
    def accept(self, fd: int) -> Call[tuple[int, int]]:
        """The new descriptor and the port of the peer."""
        ...

    def connect(self, fd: int, address: str, port: int) -> Call[int]: ...
    def disconnect(self, fd: int) -> Call[int]: ...
    def send(
        self,
        fd: int,
        sizes: Sequence[int],
        flags: int,
        null: bool,
        control: Sequence[ControlMessage] = (),
    ) -> Call[int]:
        """Buffers of these sizes, in one call. `null`: the pointer is NULL."""
        ...

    def send_to(
        self, fd: int, address: str, port: int, sizes: Sequence[int], flags: int
    ) -> Call[int]:
        """With an address, for MSG_FASTOPEN and datagrams; "": AF_UNSPEC."""
        ...

    def local_port(self, fd: int) -> Call[int]:
        """The port that getsockname() says."""
        ...

    def receive(self, fd: int, size: int, flags: int, null: bool) -> Call[Message]: ...
    def shutdown(self, fd: int, how: int) -> Call[int]: ...
    def close(self, fd: int) -> Call[int]: ...
    def getsockopt(self, fd: int, level: int, name: int, size: int) -> Call[int | bytes]: ...
    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> Call[int]: ...
    def fcntl(self, fd: int, command: int, argument: int) -> Call[int]: ...
    def ioctl(self, fd: int, request: int, argument: int) -> Call[int]:
        """The value that stands where the argument was."""
        ...

    def pipe(self) -> Call[tuple[int, int]]:
        """The descriptors of the reading and the writing end."""
        ...

    def splice(self, source: int, target: int, size: int, flags: int) -> Call[int]: ...
    def open(self, path: str, flags: int) -> Call[int]: ...
    def sendfile(self, target: int, source: int, offset: int | None, size: int) -> Call[int]:
        """`offset` None: where the file stands."""
        ...

    def poll(self, entries: Sequence[tuple[int, int]], timeout_ms: int) -> Call[list[int]]:
        """The returned events of each (descriptor, events)."""
        ...

    def epoll_create(self, size: int) -> Call[int]: ...
    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int, data: int) -> Call[int]: ...
    def epoll_wait(self, epfd: int, most: int, timeout_ms: int) -> Call[list[tuple[int, int]]]:
        """(events, data) of what is ready."""
        ...


class Host(Protocol):
    """A stack under test with its clock and its wire. Times are µs since `start`."""

    @property
    def api(self) -> SocketApi: ...

    def prepare(self, text: str, position: Position) -> None:
        """Runs a command before the test: the init command."""
        ...

    def start(self) -> None:
        """The clock stands at 0 and runs from here on."""
        ...

    def now(self) -> int: ...
    def sleep_until(self, when_us: int) -> None: ...
    def inject(self, packet: bytes) -> None: ...
    def next_packet(self, until_us: int | None) -> LivePacket | None:
        """The next packet that was sent; waits for one at most until then. None: there is none.

        `until_us` None: as long as anything can still happen.
        """
        ...

    def begin(self, call: Call[int]) -> Task:
        """Starts the call; returns when it is done or asleep."""
        ...

    def finish(self, task: Task, until_us: int | None) -> None:
        """Waits for the task, at most until then; with None as long as anything can happen."""
        ...

    def command(self, text: str, position: Position) -> None:
        """Runs a shell command. Raises ScriptFailure."""
        ...

    def snapshot(self, fd: int | None) -> Snapshot:
        """TCP_INFO of that descriptor."""
        ...

    def notes(self) -> list[str]:
        """What was asked for and has no meaning or no effect here."""
        ...

    def close(self) -> None: ...
