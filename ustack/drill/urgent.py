"""Urgent octets as Linux hands them to programs: beside the stream, unless SO_OOBINLINE is on.

By itself ustack leaves them in the stream (RFC 6093 §4); scripts for Linux see the difference.
Linux tcp_recv_urg(), tcp_recvmsg_locked(), tcp_read_sock(), tcp_check_urg(), tcp_poll().
"""

import errno
from dataclasses import dataclass

from ustack.errors import os_error
from ustack.stack.socket_constants import (
    MSG_PEEK,
    POLLIN,
    POLLPRI,
    POLLRDNORM,
    SO_OOBINLINE,
    SOL_SOCKET,
)
from ustack.stack.sockets import Socket
from ustack.stack.stack import Stack
from ustack.tcp.tcb import Tcb


@dataclass(slots=True)
class _Mark:
    """Of one socket. Positions are sequence numbers, unwrapped."""

    at: int = -1  # the urgent octet that was announced last
    taken: bool = False  # recv(MSG_OOB) has had it


class UrgentMarks:
    """Where reading stops, for all sockets of a script."""

    def __init__(self) -> None:
        self._marks: dict[Socket, _Mark] = {}

    def limit(self, socket: Socket, stack: Stack, now: int, *, splice: bool) -> int | None:
        """How much of the stream may be read in one call; None: all of it.

        An urgent octet that stands first is left out, but splice() gets no further than it.
        """
        tcb = socket.tcb
        if tcb is None or tcb.rcv.up is None:
            return None
        mark = self._current(socket, tcb, stack, now)
        at, inline = mark.at - _next(tcb), _is_inline(socket, now)
        if at < 0:
            return None
        if at == 0 and not inline and tcb.receive_buffer.readable:
            if splice:
                return 0
            stack.receive(tcb, 1, now)
            return None
        return at or None

    def queued(self, socket: Socket, stack: Stack, now: int) -> int:
        """SIOCINQ: what can be read before an urgent octet that is here."""
        tcb = socket.tcb
        if tcb is None or tcb.rcv.up is None or socket.listener is not None:
            return socket.input_queue()
        at = self._current(socket, tcb, stack, now).at
        if _is_inline(socket, now) or not _next(tcb) <= at < tcb.rcv.nxt:
            return socket.input_queue()
        return at - _next(tcb)

    def at_mark(self, socket: Socket, stack: Stack, now: int) -> int:
        """SIOCATMARK: reading has come to the urgent octet."""
        tcb = socket.tcb
        if tcb is None or tcb.rcv.up is None:
            return 0
        return int(self._current(socket, tcb, stack, now).at == _next(tcb))

    def polled(self, socket: Socket, stack: Stack, events: int, now: int) -> int:
        """`events` without what an urgent octet is not: text to read, or urgent once taken."""
        tcb = socket.tcb
        if tcb is None or tcb.rcv.up is None or tcb.closed:
            return events
        mark = self._current(socket, tcb, stack, now)
        if mark.taken:
            events &= ~POLLPRI
        alone = mark.at == _next(tcb) and tcb.receive_buffer.readable == 1
        if alone and not _is_inline(socket, now) and tcb.rcv.fin is None:
            events &= ~(POLLIN | POLLRDNORM)
        return events

    def take(self, socket: Socket, stack: Stack, flags: int, now: int) -> int:
        """recv(MSG_OOB): the octet, beside the stream; EINVAL where there is none, EAGAIN before it
        has come."""
        tcb = socket.tcb
        if tcb is None or tcb.rcv.up is None or _is_inline(socket, now):
            raise os_error(errno.EINVAL)
        mark = self._current(socket, tcb, stack, now)
        if mark.taken or mark.at < _next(tcb):
            raise os_error(errno.EINVAL)
        if mark.at >= tcb.rcv.nxt:
            raise os_error(errno.EAGAIN)
        mark.taken = not flags & MSG_PEEK
        return 1

    def _current(self, socket: Socket, tcb: Tcb, stack: Stack, now: int) -> _Mark:
        """The mark; an old one that reading had come to is lost when a new one is announced."""
        assert tcb.rcv.up is not None
        mark = self._marks.setdefault(socket, _Mark())
        at = tcb.rcv.up - 1
        if at != mark.at:
            if mark.at == _next(tcb) and tcb.receive_buffer.readable:
                if not _is_inline(socket, now):
                    stack.receive(tcb, 1, now)
            mark.at, mark.taken = at, False
        return mark


def _next(tcb: Tcb) -> int:
    """The octet that the next read begins with."""
    return tcb.rcv.nxt - tcb.receive_buffer.readable


def _is_inline(socket: Socket, now: int) -> bool:
    return bool(socket.getsockopt(SOL_SOCKET, SO_OOBINLINE, now))
