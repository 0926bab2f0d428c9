"""A port in LISTEN, how many handshakes it has begun, and who waits to be accepted."""

from collections import deque
from typing import Protocol

from ustack.config import TcpConfig
from ustack.tcp.tcb import NEVER, Tcb


class Pending(Protocol):
    """Connections that SYNs with text have opened."""

    def add(self, tcb: Tcb) -> None: ...
    def count(self, now: int) -> int: ...


class Listener:
    """LISTEN (RFC 9293 §3.10.1, passive OPEN).

    Linux: a SYN is dropped while more than `backlog` established connections wait, and so is the
    ACK that would add one: the peer sends again, and by then there may be room.
    """

    __slots__ = (
        "address",
        "backlog",
        "closed",
        "config",
        "events",
        "half_open",
        "key",
        "overflowed_at",
        "pending",
        "port",
        "queue",
        "user",
        "young",
    )

    def __init__(
        self, key: bytes | None, address: str | None, port: int, backlog: int, config: TcpConfig
    ) -> None:
        self.key = key  # our address in bytes, None: all of them
        self.address = address
        self.port = port
        self.backlog = max(backlog, 0)
        self.config = config
        self.queue: deque[Tcb] = deque()  # ESTABLISHED or later, to be accepted in this order
        self.half_open = 0  # handshakes under way (stack/syn_queue.py)
        self.young = 0  # of them: those whose SYN,ACK was not sent again for want of an answer
        self.overflowed_at = -NEVER  # µs, when the last SYN was answered with a cookie
        self.pending: Pending | None = None  # Fast Open: not confirmed yet (stack/fast_open.py)
        self.closed = False
        self.events = 0
        self.user: object = None

    def full(self) -> bool:
        """No further connection can wait for accept."""
        return len(self.queue) > self.backlog

    def syn_queue_full(self) -> bool:
        """No further handshake can begin, unless it needs no memory (Linux: backlog + 1)."""
        return self.half_open > self.backlog
