"""Control messages, and the error queue of a socket: what recvmsg() says besides data.

Made for a socket when the first message is queued. recvmsg(2) MSG_ERRQUEUE, ip(7) IP_RECVERR,
Linux Documentation/networking: timestamping.rst, msg_zerocopy.rst.
"""

import errno
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ustack.errors import os_error
from ustack.stack import socket_constants as c

MAX_MESSAGES = 1024  # a queue that nobody reads does not grow beyond this
MAX_ID = 0xFFFF_FFFF
ICMP_ORIGINS = (c.SO_EE_ORIGIN_ICMP, c.SO_EE_ORIGIN_ICMP6)


@dataclass(slots=True, frozen=True)
class Stamp:
    """The first of the three times of SCM_TIMESTAMPING, µs; 0: not taken."""

    time_us: int


@dataclass(slots=True, frozen=True)
class ExtendedError:
    """struct sock_extended_err."""

    errno: int
    origin: int
    type: int = 0
    code: int = 0
    info: int = 0
    data: int = 0


ControlData = int | Stamp | ExtendedError | Mapping[str, int]


@dataclass(slots=True, frozen=True)
class ControlMessage:
    """One cmsg. A mapping is the netlink attributes of SCM_TIMESTAMPING_OPT_STATS by name."""

    level: int
    kind: int
    data: ControlData


@dataclass(slots=True, frozen=True)
class QueuedError:
    """One entry: the control messages and the size of the packet that it quotes."""

    control: tuple[ControlMessage, ...]
    quoted: int = 0  # bytes


class ErrorQueue:
    """First in, first out; counts what found no room."""

    __slots__ = ("_entries", "dropped")

    def __init__(self) -> None:
        self._entries: deque[QueuedError] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: QueuedError) -> None:
        """Queues `entry`, or counts it when there is no room."""
        if len(self._entries) >= MAX_MESSAGES:
            self.dropped += 1
        else:
            self._entries.append(entry)

    def take(self) -> QueuedError | None:
        """The oldest entry, None: there is none."""
        return self._entries.popleft() if self._entries else None

    def icmp_error(self) -> int | None:
        """The errno of the oldest entry if an ICMP message made it."""
        error = self._entries[0].control[-1].data if self._entries else None
        if isinstance(error, ExtendedError) and error.origin in ICMP_ORIGINS:
            return error.errno
        return None

    def copied(self, first: int, last: int, ipv6: bool) -> None:
        """The buffers of the sends `first`..`last` with MSG_ZEROCOPY are the caller's again.

        They were copied after all. Neighbouring notices become one (msg_zerocopy.rst).
        """
        if self._entries:
            message = self._entries[-1].control[-1]
            error = message.data
            if isinstance(error, ExtendedError) and error.origin == c.SO_EE_ORIGIN_ZEROCOPY:
                if (error.data + 1) & MAX_ID == first:
                    merged = replace(message, data=replace(error, data=last))
                    self._entries[-1] = QueuedError((merged,))
                    return
        notice = ExtendedError(
            0,
            c.SO_EE_ORIGIN_ZEROCOPY,
            code=c.SO_EE_CODE_ZEROCOPY_COPIED,
            info=first,
            data=last,
        )
        self.add(QueuedError((received_error(notice, ipv6),)))


def received_error(error: ExtendedError, ipv6: bool) -> ControlMessage:
    """`error` as IP_RECVERR or IPV6_RECVERR brings it."""
    if ipv6:
        return ControlMessage(c.IPPROTO_IPV6, c.IPV6_RECVERR, error)
    return ControlMessage(c.IPPROTO_IP, c.IP_RECVERR, error)


def transmit_stamps(control: Iterable[ControlMessage]) -> int | None:
    """The SOF_TIMESTAMPING_TX_* bits for one sendmsg(), None: those of the socket hold.

    EINVAL for what Linux knows nothing of (sock_cmsg_send); other levels are not for us.
    """
    stamps: int | None = None
    for message in control:
        if message.level != c.SOL_SOCKET:
            continue
        if message.kind == c.SO_TIMESTAMPING and isinstance(message.data, int):
            if message.data & ~c.SOF_TIMESTAMPING_TX_MASK:
                raise os_error(errno.EINVAL)
            stamps = message.data
        elif message.kind not in (c.SO_MARK, c.SO_PRIORITY, c.SCM_RIGHTS, c.SCM_CREDENTIALS):
            raise os_error(errno.EINVAL)
    return stamps
