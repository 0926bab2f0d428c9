"""One end of one connection, as a user sees it: it writes, reads, pauses and closes by a plan.

Everything it writes comes from a seed that its peer knows, so each byte read is compared at once.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from tools.simulation.observer import BrokenRule
from ustack.errors import UStackError
from ustack.stack.stack import Stack
from ustack.tcp.tcb import CLOSED_EVENT, CONNECTED, FIN_ACKED, READABLE, WRITABLE, Tcb

Schedule = Callable[[int, Callable[[], None]], None]  # µs from now, what


class Ending(Enum):
    """How an end takes its leave."""

    HALF_CLOSE = auto()  # shutdown() after the last write, close() at EOF
    LAST = auto()  # shutdown() and close() only when the peer's EOF was read
    CLOSE = auto()  # close() after the last write, without waiting for the peer
    ABORT = auto()  # abort() after so many bytes
    DEAF = auto()  # reads nothing, close() after its last write and a while


@dataclass(frozen=True, slots=True)
class Plan:
    """What one end does. Sizes are bytes, times µs; pairs are the ends of a uniform draw."""

    size: int = 0  # it sends so much
    ending: Ending = Ending.HALF_CLOSE
    writes: tuple[int, int] = (1, 20_000)
    write_pause_us: tuple[int, int] = (0, 0)
    reads: tuple[int, int] = (1, 100_000)
    read_pause_us: tuple[int, int] = (0, 0)
    stop_reading_at: int | None = None  # after so many bytes it reads nothing for a while
    stop_reading_us: int = 0
    abort_at: int = 0  # bytes written and read; for ABORT
    deaf_us: int = 1_000_000  # for DEAF


class Application:
    """One end. `error` and `ended` tell how it went; the judge is `tools.simulation.verdict`."""

    def __init__(self, name: str, plan: Plan, peer: Plan, seed: int, schedule: Schedule) -> None:
        self.name = name
        self.plan = plan
        self.text = text_of(seed, name, plan.size)
        self.expected = text_of(seed, "client" if name == "server" else "server", peer.size)
        self.written = 0
        self.read = 0
        self.connected = False
        self.eof = False
        self.shut = False  # shutdown() or close() was called
        self.closed = False  # close() was called, no matter what is unread
        self.closed_early = False  # close() came before the peer's EOF
        self.aborted = False
        self.fin_acked = False
        self.ended = False
        self.error: UStackError | None = None
        self.ended_at = 0
        self.lost = False  # its host was restarted
        self.tcb: Tcb | None = None
        self._rng = random.Random(f"{seed} {name} behaviour")
        self._schedule = schedule
        self._stack: Stack | None = None
        self._time: Callable[[], int] = lambda: 0
        self._reading = plan.ending is not Ending.DEAF
        self._will_read = False  # it has paused
        self._has_stopped = False
        self._writing = True
        self._full = False

    def start(self, stack: Stack, tcb: Tcb, time: Callable[[], int]) -> None:
        """Take the connection. `time()`: the host's clock."""
        self._stack, self.tcb, self._time = stack, tcb, time

    def on_event(self, flags: int) -> None:
        """Do what the plan says about these events."""
        if self.lost:
            return
        if flags & CONNECTED and not self.connected:
            self.begin()
        if flags & FIN_ACKED:
            self.fin_acked = True
        if flags & WRITABLE:
            self._full = False
            self._write()
        if flags & READABLE:
            self._read()
        if flags & CLOSED_EVENT:
            self._over()

    def begin(self) -> None:
        """The connection is open."""
        self.connected = True
        if self.plan.ending is Ending.DEAF:
            self._schedule(self.plan.deaf_us, self._close_deaf)
        if self._time_to_abort():
            return
        self._write()
        self._read()

    def is_over(self) -> bool:
        """The connection is, and nothing of it will be read later; or the host was restarted."""
        return self.lost or (self.ended and not self._will_read)

    @property
    def stack(self) -> Stack:
        assert self._stack is not None
        return self._stack

    def _alive(self) -> Tcb | None:
        tcb = self.tcb
        return None if tcb is None or tcb.closed or self.ended or self.lost else tcb

    # ------------------------------------------------------------------ user calls

    def _send(self, tcb: Tcb, piece: bytes) -> int:
        return self.stack.send(tcb, piece, self._time())

    def _receive(self, tcb: Tcb, size: int) -> bytes:
        return bytes(self.stack.receive(tcb, size, self._time()))

    def _shutdown(self, tcb: Tcb) -> None:
        self.stack.shutdown(tcb, self._time())

    def _close_connection(self, tcb: Tcb) -> None:
        self.stack.close(tcb, self._time())

    def _abort_connection(self, tcb: Tcb) -> None:
        self.stack.abort(tcb, self._time())

    # ------------------------------------------------------------------ writing

    def _write(self) -> None:
        while self._writing and not self._full and not self.shut:
            tcb = self._alive()
            if tcb is None:
                return
            if self.written == self.plan.size:
                self._written_all()
                return
            size = min(self._rng.randint(*self.plan.writes), self.plan.size - self.written)
            piece = self.text[self.written : self.written + size]
            taken = self._send(tcb, piece)
            self.written += taken
            if taken < size:
                self._full = True
            if self._time_to_abort():
                return
            pause = self._rng.randint(*self.plan.write_pause_us)
            if pause:
                self._writing = False
                self._schedule(pause, self._resume_writing)

    def _resume_writing(self) -> None:
        self._writing = True
        self._write()

    def _written_all(self) -> None:
        tcb = self._alive()
        if tcb is None or self.shut:
            return
        ending = self.plan.ending
        if ending is Ending.HALF_CLOSE:
            self.shut = True
            self._shutdown(tcb)
            self._close_if_done()
        elif ending is Ending.CLOSE:
            self._close(early=not self.eof)
        elif ending is Ending.LAST and self.eof:
            self._close(early=False)

    # ------------------------------------------------------------------ reading

    def _read(self) -> None:
        while self._reading and not self.eof and not self.closed:
            tcb = self._alive()
            if tcb is None:
                return
            stop = self.plan.stop_reading_at
            if stop is not None and self.read >= stop and not self._has_stopped:
                self._has_stopped = True
                self._pause_reading(self.plan.stop_reading_us)
                return
            data = self._receive(tcb, self._rng.randint(*self.plan.reads))
            if not data:
                if tcb.eof:
                    self._end_of_file()
                return
            self._check(data)
            if self._time_to_abort():
                return
            if tcb.eof:
                self._end_of_file()
                return
            self._pause_reading(self._rng.randint(*self.plan.read_pause_us))

    def _pause_reading(self, pause: int) -> None:
        if pause:
            self._reading, self._will_read = False, True
            self._schedule(pause, self._resume_reading)

    def _resume_reading(self) -> None:
        self._reading, self._will_read = True, False
        self._read()
        if self.ended:
            self._drain()

    def _check(self, data: bytes) -> None:
        expected = self.expected[self.read : self.read + len(data)]
        if data != expected:
            at = self.read + next(
                (i for i, (a, b) in enumerate(zip(data, expected, strict=False)) if a != b),
                len(expected),
            )
            raise BrokenRule(f"{self.name}: the byte at {at} is not the one that was sent")
        self.read += len(data)

    def _end_of_file(self) -> None:
        self.eof = True
        if self.plan.ending is Ending.LAST and self.written == self.plan.size:
            self._close(early=False)
        self._close_if_done()

    # ------------------------------------------------------------------ the end

    def _close_if_done(self) -> None:
        if self.eof and self.shut and not self.closed:
            self._close(early=False)

    def _close(self, *, early: bool) -> None:
        self.shut = self.closed = True
        self.closed_early = early
        tcb = self._alive()
        if tcb is not None:
            self._close_connection(tcb)

    def _close_deaf(self) -> None:
        if self._alive() is not None and not self.closed:
            self._close(early=True)

    def _time_to_abort(self) -> bool:
        if self.plan.ending is not Ending.ABORT or self.aborted:
            return self.aborted
        if self.written + self.read < self.plan.abort_at:
            return False
        tcb = self._alive()
        if tcb is not None:
            self.aborted = self.shut = self.closed = True
            self._abort_connection(tcb)
        return True

    def abort(self) -> None:
        """Abort now."""
        tcb = self._alive()
        if tcb is not None:
            self.aborted = self.shut = self.closed = True
            self._abort_connection(tcb)

    def _over(self) -> None:
        assert self.tcb is not None
        if self.ended:
            raise BrokenRule(f"{self.name}: told twice that the connection is over")
        self.ended = True
        self.error = self.tcb.error
        self.ended_at = self._time()
        if self._reading:
            self._drain()

    def _drain(self) -> None:
        """Read what is left of a connection that is over."""
        tcb = self.tcb
        assert tcb is not None
        while not self.closed and not self.eof:
            try:
                data = self._receive(tcb, 1 << 20)
            except UStackError:
                return
            if data:
                self._check(data)
            if tcb.eof:
                self.eof = True
            elif not data:
                return


def text_of(seed: int, name: str, size: int) -> bytes:
    """What the end called `name` sends."""
    return random.Random(f"{seed} {name} text").randbytes(size)
