"""poll() and epoll over sockets of a `SocketLayer`, sans-IO like them: waiting is a generator.

poll(2), epoll(7), epoll_ctl(2).
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ustack.errors import os_error
from ustack.stack import socket_constants as c
from ustack.stack.socket_base import Call

ALWAYS = c.POLLERR | c.POLLHUP  # reported whether asked for or not
_BEHAVIOUR = c.EPOLLET | c.EPOLLONESHOT  # bits of an epoll mask that are no events
NOTHING_REPORTED = -1


class Pollable(Protocol):
    """A socket of either kind: what is asked of it here."""

    closed: bool
    news: int

    def poll(self, now: int) -> int: ...


def poll(
    entries: Sequence[tuple[Pollable | None, int]], timeout_us: int | None, now: int
) -> Call[list[int]]:
    """The returned events of each (socket, events); POLLNVAL where there is no socket.

    Waits until one is not 0, at most `timeout_us` (None: for ever).
    """
    deadline = None if timeout_us is None else now + timeout_us
    while True:
        found = [
            c.POLLNVAL if socket is None else socket.poll(now) & (events | ALWAYS)
            for socket, events in entries
        ]
        if any(found) or (deadline is not None and now >= deadline):
            return found
        now = yield deadline


@dataclass(slots=True)
class _Interest:
    events: int
    data: object
    reported: int = NOTHING_REPORTED  # `Pollable.news` when it was last reported
    armed: bool = True  # EPOLLONESHOT: until it was reported


class Epoll:
    """An interest list. `data` is given back with the events."""

    def __init__(self) -> None:
        self._interests: dict[Pollable, _Interest] = {}

    def add(self, socket: Pollable, events: int, data: object) -> None:
        """EPOLL_CTL_ADD; EEXIST."""
        if socket in self._interests:
            raise os_error(errno.EEXIST)
        self._interests[socket] = _Interest(events, data)

    def modify(self, socket: Pollable, events: int, data: object) -> None:
        """EPOLL_CTL_MOD; also arms EPOLLONESHOT again. ENOENT."""
        if socket not in self._interests:
            raise os_error(errno.ENOENT)
        self._interests[socket] = _Interest(events, data)

    def delete(self, socket: Pollable) -> None:
        """EPOLL_CTL_DEL; ENOENT."""
        if self._interests.pop(socket, None) is None:
            raise os_error(errno.ENOENT)

    def wait(self, most: int, timeout_us: int | None, now: int) -> Call[list[tuple[int, object]]]:
        """(events, data) of at most `most` ready sockets; [] after `timeout_us`."""
        if most <= 0:
            raise os_error(errno.EINVAL)
        deadline = None if timeout_us is None else now + timeout_us
        while True:
            found = self._ready(most, now)
            if found or (deadline is not None and now >= deadline):
                return found
            now = yield deadline

    def _ready(self, most: int, now: int) -> list[tuple[int, object]]:
        found: list[tuple[int, object]] = []
        for socket, interest in list(self._interests.items()):
            if socket.closed:
                del self._interests[socket]
                continue
            if not interest.armed or len(found) == most:
                continue
            mask = socket.poll(now) & (interest.events & ~_BEHAVIOUR | ALWAYS)
            if not mask:
                continue
            if interest.events & c.EPOLLET:
                # Edge-triggered: only what has changed since it was reported
                if interest.reported == socket.news:
                    continue
                interest.reported = socket.news
            interest.armed = not interest.events & c.EPOLLONESHOT
            found.append((mask, interest.data))
        return found
