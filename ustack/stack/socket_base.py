"""What stream and datagram sockets have in common: calls that may block, errors, readiness.

A call that may block is a generator (`Call`): it yields the time (µs, or None) at which it wants
to be resumed at the latest, is resumed with `now` after anything happened to the stack, and its
return value is the call's. A non-blocking socket makes it raise at once instead (EAGAIN,
EINPROGRESS). Whoever drives it (a thread, a script player) owns the clock; nothing here waits.
"""

import errno
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from ustack.errors import os_error
from ustack.stack import socket_constants as c
from ustack.stack.error_queue import ControlMessage, ErrorQueue
from ustack.stack.socket_options import SocketOptions
from ustack.tcp.tcb import Endpoint

T = TypeVar("T")
Call = Generator[int | None, int, T]


@dataclass(slots=True, frozen=True)
class Received:
    """What recv() got. With MSG_TRUNC `data` may be shorter than `size`, what there was.

    `flags` and `control` are what recvmsg() says besides, `source` where a datagram comes from.
    """

    data: bytes
    size: int
    flags: int = 0
    control: tuple[ControlMessage, ...] = ()
    source: Endpoint | None = None


class SocketBase:
    """The part of a socket that does not depend on its protocol.

    `error` is Linux's sk_err: why the last thing failed, until it has been reported once. `news`
    counts what happened, so that edge-triggered epoll can tell what it has reported already.
    """

    def __init__(self, family: int, options: SocketOptions) -> None:
        self.family = family
        self.options = options
        self.nonblocking = False
        self.error = 0
        self.news = 0
        self.closed = False

    def _nonblocking(self, flags: int) -> bool:
        return self.nonblocking or bool(flags & c.MSG_DONTWAIT)

    def _block(self, flags: int, now: int, deadline: int | None) -> Call[int]:
        """Waits once and returns the time; EAGAIN past the deadline."""
        if self._nonblocking(flags) or (deadline is not None and now >= deadline):
            raise os_error(errno.EAGAIN)
        return (yield deadline)

    def _take_error(self) -> int:
        error, self.error = self.error, 0
        return error


def take_notice(queue: ErrorQueue | None, size: int) -> Received:
    """MSG_ERRQUEUE: the oldest entry of an error queue, for a buffer of `size` bytes; EAGAIN."""
    entry = queue.take() if queue is not None else None
    if entry is None:
        raise os_error(errno.EAGAIN)
    flags = c.MSG_ERRQUEUE | (c.MSG_TRUNC if entry.quoted > size else 0)
    count = min(size, entry.quoted)
    return Received(bytes(count), count, flags, entry.control)


def deadline_after(timeout_us: int | None, now: int) -> int | None:
    """When a call that may take so long must have ended; None: never."""
    return None if timeout_us is None else now + timeout_us
