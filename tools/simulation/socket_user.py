"""One end of a connection whose user calls sockets (`ustack.stack.sockets`) instead of the stack.

The plan is the same. On the way the user peeks, drops, corks, marks text as urgent, changes the
sizes of buffers and lingers, by lot; the bytes and the terminal reasons must not change for it.
"""

import errno
import struct
from collections.abc import Callable
from typing import TypeVar

from tools.simulation.application import Application
from tools.simulation.observer import BrokenRule
from ustack.stack import socket_constants as c
from ustack.stack.error_queue import ControlMessage, ExtendedError
from ustack.stack.sockets import Call, Socket
from ustack.stack.stack import Stack
from ustack.tcp.tcb import Tcb

T = TypeVar("T")

PEEKS = 0.1  # of the reads look first
DROPS = 0.02  # of the reads take text away unseen (MSG_TRUNC)
MARKS = 0.05  # of the writes are MSG_MORE, the same share is MSG_OOB
CHANGES = 0.03  # of the writes change an option before
LINGERS = 0.3  # of the closes
BUFFERS = (1000, 5000, 60_000, 300_000)  # bytes, for SO_RCVBUF and SO_SNDBUF
TIME_STAMPS = (
    c.SOF_TIMESTAMPING_TX_ACK
    | c.SOF_TIMESTAMPING_SOFTWARE
    | c.SOF_TIMESTAMPING_OPT_ID
    | c.SOF_TIMESTAMPING_OPT_TSONLY
)
WATCHED = 0.2  # of the ends ask for time stamps


class SocketApplication(Application):
    """An `Application` on a non-blocking socket."""

    socket: Socket

    def use(self, socket: Socket) -> None:
        """The end's socket, before `start`."""
        self.socket = socket
        self._reported = 0  # the error that a call has told
        self._last_key = -1  # of the time stamps

    def connect(
        self, socket: Socket, address: str, ports: tuple[int, int], text: bytes | None, now: int
    ) -> Tcb:
        """Open from the first to the second of `ports`; `text`: with Fast Open. OSError."""
        self.use(socket)
        try:
            socket.bind("", ports[0])
            if text is None:
                next(socket.connect(address, ports[1], now))
            else:
                next(socket.send_to(address, ports[1], text, c.MSG_FASTOPEN, now))
        except StopIteration as done:
            self.written = done.value or 0
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                next(socket.close(now), None)
                raise
        assert socket.tcb is not None
        return socket.tcb

    def start(self, stack: Stack, tcb: Tcb, time: Callable[[], int]) -> None:
        super().start(stack, tcb, time)
        if self._rng.random() < WATCHED and not tcb.closed:
            value = TIME_STAMPS
            self.socket.setsockopt(c.SOL_SOCKET, c.SO_TIMESTAMPING, value, time())

    def on_event(self, flags: int) -> None:
        self.socket.notify(flags)
        self._read_error_queue()
        super().on_event(flags)

    # ------------------------------------------------------------------ calls

    def _send(self, tcb: Tcb, piece: bytes) -> int:
        flags, chance = 0, self._rng.random()
        if chance < CHANGES:
            self._change_something()
        elif chance < CHANGES + MARKS:
            flags = c.MSG_MORE
        elif chance < CHANGES + 2 * MARKS:
            flags = c.MSG_OOB
        return self._told(self.socket.send(piece, flags, self._time())) or 0

    def _change_something(self) -> None:
        rng = self._rng
        level, name, values = rng.choice(
            (
                (c.SOL_SOCKET, c.SO_RCVBUF, BUFFERS),
                (c.SOL_SOCKET, c.SO_SNDBUF, BUFFERS),
                (c.IPPROTO_TCP, c.TCP_CORK, (0, 1)),
                (c.IPPROTO_TCP, c.TCP_NODELAY, (0, 1)),
                (c.IPPROTO_TCP, c.TCP_QUICKACK, (0, 1)),
            )
        )
        self.socket.setsockopt(level, name, rng.choice(values), self._time())

    def _receive(self, tcb: Tcb, size: int) -> bytes:
        chance = self._rng.random()
        seen: bytes | None = None
        if chance < PEEKS:
            looked = self._told(self.socket.receive(size, c.MSG_PEEK, self._time()))
            seen = looked.data if looked is not None else b""
        elif chance < PEEKS + DROPS:
            dropped = self._told(self.socket.receive(size, c.MSG_TRUNC, self._time()))
            return self.expected[self.read : self.read + (dropped.size if dropped else 0)]
        got = self._told(self.socket.receive(size, 0, self._time()))
        data = got.data if got is not None else b""
        if seen is not None and seen != data:
            raise BrokenRule(f"{self.name}: MSG_PEEK showed {len(seen)} other bytes at {self.read}")
        return data

    def _shutdown(self, tcb: Tcb) -> None:
        self.socket.shutdown(c.SHUT_WR, self._time())

    def _close_connection(self, tcb: Tcb) -> None:
        if self._rng.random() < LINGERS:
            self._linger(self._rng.choice((1, 30)))
        self._close_socket()

    def _abort_connection(self, tcb: Tcb) -> None:
        self._linger(0)
        self._close_socket()

    def _linger(self, seconds: int) -> None:
        value = struct.pack("=ii", 1, seconds)
        self.socket.setsockopt(c.SOL_SOCKET, c.SO_LINGER, value, self._time())

    def _close_socket(self) -> None:
        """close(), which may wait (SO_LINGER): until the peer has acknowledged, or so long."""
        call = self.socket.close(self._time())
        until = next(call, None)
        if until is not None:
            self._schedule(until - self._time(), lambda: self._linger_is_over(call))

    def _linger_is_over(self, call: Call[None]) -> None:
        if self.lost:
            return
        try:
            call.send(self._time())
        except StopIteration:
            return
        raise BrokenRule(f"{self.name}: close() waits longer than SO_LINGER says")

    def _told(self, call: Call[T]) -> T | None:
        """What a call on a non-blocking socket returns; None: EAGAIN, or the connection is over."""
        try:
            next(call)
        except StopIteration as done:
            value: T = done.value
            return value
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self._reported = error.errno or 0
            return None
        raise BrokenRule(f"{self.name}: a call on a non-blocking socket waits")

    # ------------------------------------------------------------------ the end

    def _read_error_queue(self) -> None:
        """Time stamps come in the order of the octets that they are for."""
        if self.socket.closed:
            return
        while told := self._told_stamp():
            for message in told:
                if isinstance(message.data, ExtendedError):
                    key = message.data.data
                    if key <= self._last_key:
                        raise BrokenRule(f"{self.name}: time stamp {key} after {self._last_key}")
                    self._last_key = key

    def _told_stamp(self) -> tuple[ControlMessage, ...]:
        reported = self._reported
        got = self._told(self.socket.receive(1, c.MSG_ERRQUEUE, self._time()))
        self._reported = reported
        return got.control if got is not None else ()

    def _drain(self) -> None:
        super()._drain()
        self._release()

    def _over(self) -> None:
        super()._over()
        if not self._reading and not self._will_read:
            self._release()

    def _release(self) -> None:
        """The connection is over: its error is told once, and the socket goes."""
        if self.socket.closed:
            return
        told = self.socket.getsockopt(c.SOL_SOCKET, c.SO_ERROR, self._time())
        expected: int | None = 0
        if self.error is not None:
            expected = self.error.errno if isinstance(self.error, OSError) else errno.EPIPE
        if expected and (told or self._reported) not in (expected, errno.EPIPE):
            raise BrokenRule(f"{self.name}: SO_ERROR says {told!r} about {self.error!r}")
        if told and not expected:
            raise BrokenRule(f"{self.name}: SO_ERROR says {told!r} about an orderly end")
        self._close_socket()
