"""The connections that accept() may take, and those that TCP_DEFER_ACCEPT holds back (tcp(7))."""

from collections import deque

from ustack.stack.listener import Listener
from ustack.stack.socket_options import SocketOptions
from ustack.stack.stack import Stack
from ustack.tcp.tcb import Tcb


class AcceptQueue:
    """Of one listening socket. `user` is told of what happens to a connection held back."""

    __slots__ = ("_deferred", "_listener", "_options", "_ready", "_stack", "_user")

    def __init__(
        self, stack: Stack, listener: Listener, options: SocketOptions, user: object
    ) -> None:
        self._stack = stack
        self._listener = listener
        self._options = options
        self._user = user
        self._deferred: list[tuple[Tcb, int]] = []  # (connection, until)
        self._ready: deque[Tcb] = deque()

    def take(self, now: int) -> Tcb | None:
        """The connection to accept, if there is one."""
        self._admit(now)
        if self._ready:
            return self._ready.popleft()
        return None if self._defers() else self._stack.accept(self._listener)

    def waiting(self, now: int) -> bool:
        """accept() would not block."""
        self._admit(now)
        return bool(self._ready or (self._listener.queue and not self._defers()))

    def next_deadline(self) -> int | None:
        """When a connection has been held back for long enough (µs)."""
        return min((until for _, until in self._deferred), default=None)

    def abort(self, now: int) -> None:
        """Nobody will accept them."""
        for tcb in (*self._ready, *(tcb for tcb, _ in self._deferred)):
            self._stack.abort(tcb, now)
        self._ready.clear()
        self._deferred.clear()

    def _defers(self) -> bool:
        return self._options.defer_accept_us > 0

    def _admit(self, now: int) -> None:
        """TCP_DEFER_ACCEPT: a connection is only accepted with data, or when it has waited."""
        if not (self._defers() or self._deferred):
            return
        while (tcb := self._stack.accept(self._listener)) is not None:
            tcb.user = self._user
            self._deferred.append((tcb, now + self._options.defer_accept_us))
        held: list[tuple[Tcb, int]] = []
        for tcb, until in self._deferred:
            if now < until and not (tcb.receive_buffer.readable or tcb.closed or tcb.eof):
                held.append((tcb, until))
            else:
                self._ready.append(tcb)
        self._deferred = held
