"""`cap_set`: which capabilities the process of a script has, and the calls that fail without.

The language file names the call and no more. Here, as in cap_set_proc(3), the capabilities that are
named are those that the process has from then on, all others are gone; a last argument of 0 takes
the named ones away instead, and 1 gives them back. Nothing happens to the process of the player.
"""

import errno

from ustack.drill import arguments
from ustack.drill.constants import CONSTANTS
from ustack.drill.failure import ScriptFailure
from ustack.drill.script import Array, Expression, Integer, Name, Or, SyscallEvent
from ustack.errors import os_error

ALL = "ALL"  # in the place of the names
NET_ADMIN, NET_RAW = "CAP_NET_ADMIN", "CAP_NET_RAW"
_SOCKET, _TCP, _IP = (CONSTANTS[name] for name in ("SOL_SOCKET", "IPPROTO_TCP", "IPPROTO_IP"))
# socket(7), tcp(7), ip(7): any of these capabilities is enough
_NEEDED = {
    (_SOCKET, "SO_MARK"): {NET_ADMIN, NET_RAW},
    (_SOCKET, "SO_DEBUG"): {NET_ADMIN},
    (_SOCKET, "SO_RCVBUFFORCE"): {NET_ADMIN},
    (_SOCKET, "SO_SNDBUFFORCE"): {NET_ADMIN},
    (_SOCKET, "SO_BUSY_POLL"): {NET_ADMIN},
    (_TCP, "TCP_REPAIR"): {NET_ADMIN},
    (_IP, "IP_TRANSPARENT"): {NET_ADMIN, NET_RAW},
}
_BY_NUMBER = {(level, CONSTANTS[name]): needed for (level, name), needed in _NEEDED.items()}
_PRIORITY = _SOCKET, CONSTANTS["SO_PRIORITY"]
_CONGESTION = _TCP, CONSTANTS["TCP_CONGESTION"]
HIGHEST_PRIORITY = 6  # without CAP_NET_ADMIN
ALLOWED_CONGESTION = (b"reno", b"cubic")  # Linux tcp_allowed_congestion_control
_NONE = ("NONE", "CAP_NONE")


class Capabilities:
    """Those of the one process of a script; at first it has all."""

    def __init__(self) -> None:
        self._held: set[str] | None = None  # None: all
        self._gone: set[str] = set()

    def set(self, event: SyscallEvent) -> None:
        """What a call of cap_set() says. Raises ScriptFailure."""
        written = list(event.arguments)
        switch: int | None = None
        if len(written) > 1 and isinstance(written[-1], Integer):
            switch = arguments.number(event, written.pop())
        names = {name for each in written for name in _names(event, each)}
        if switch is None:
            self._held, self._gone = (
                (names - {*_NONE}, set()) if ALL not in names else (None, set())
            )
        elif switch:
            self._gone -= names
        else:
            self._gone |= names

    def _has(self, *any_of: str) -> bool:
        held = set(any_of) if self._held is None else self._held & set(any_of)
        return bool(held - self._gone)

    def check(self, level: int, name: int, value: bytes) -> None:
        """EPERM if this process may not set the option."""
        needed = _BY_NUMBER.get((level, name))
        if (level, name) == _PRIORITY:
            if not 0 <= int.from_bytes(value[:4], "little", signed=True) <= HIGHEST_PRIORITY:
                needed = {NET_ADMIN, NET_RAW}
        elif (level, name) == _CONGESTION:
            if value.split(b"\0")[0] not in ALLOWED_CONGESTION:
                needed = {NET_ADMIN}
        if needed is not None and not self._has(*needed):
            raise os_error(errno.EPERM)


def _names(event: SyscallEvent, written: Expression) -> set[str]:
    match written:
        case Name(name):
            return {name}
        case Or(left, right):
            return _names(event, left) | _names(event, right)
        case Array(items):
            return {name for item in items for name in _names(event, item)}
        case Integer(0):
            return set()
    raise ScriptFailure(event.position, "cap_set() takes the names of capabilities")
