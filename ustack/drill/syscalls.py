"""System call events: arguments to numbers, the call on a `SocketApi`, outputs compared.

Owns the names that scripts give to descriptors. Knows nothing of time.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ustack.drill import arguments
from ustack.drill.arguments import md5_key
from ustack.drill.capabilities import Capabilities
from ustack.drill.constants import CONSTANTS
from ustack.drill.failure import ScriptFailure
from ustack.drill.host import SocketApi
from ustack.drill.mapping import SocketsUnderTest
from ustack.drill.messages import check_control, written_control
from ustack.drill.script import (
    Anything,
    Array,
    Expression,
    Function,
    Integer,
    Name,
    Settings,
    String,
    Struct,
    SyscallEvent,
)
from ustack.stack.socket_base import Call

AF_INET, AF_INET6, AF_UNSPEC = (CONSTANTS[n] for n in ("AF_INET", "AF_INET6", "AF_UNSPEC"))
# FreeBSD: which of several TCPs of its own serves the socket, and what only those have.
WITHOUT_MEANING = frozenset(
    """TCP_FUNCTION_BLK TCP_NOOPT TCP_KEEPINIT TCP_MAXUNACKTIME TCP_CCALGOOPT TCP_DELACK TCP_LOG
    TCP_LOGBUF TCP_LOGID TCP_PCAP_IN TCP_PCAP_OUT TCP_STATS TCP_RACK_TLP
    TCP_RACK_RR_CONF TCP_RACK_PACE_ALWAYS TCP_DATA_AFTER_CLOSE SO_NOSIGPIPE SO_RERROR SO_USELOOPBACK
    SO_SETFIB SO_USER_COOKIE SO_TS_CLOCK SO_ACCEPTFILTER SO_NO_OFFLOAD SO_NO_DDP""".split()
)
# What changes every segment in a way that ustack cannot: to go on without would say nothing.
NOT_SUPPORTED = frozenset("TCP_AO_ADD_KEY TCP_ULP".split())
MD5SIG = Name("TCP_MD5SIG")
INT = 4  # bytes
NO_FD = (1 << 31) - 1  # no process has this descriptor
SOCK_TYPE_MASK = 0xF  # without SOCK_NONBLOCK and SOCK_CLOEXEC


class Syscalls:
    """Runs the system calls of one script."""

    def __init__(self, api: SocketApi, sockets: SocketsUnderTest, settings: Settings) -> None:
        self._api = api
        self._sockets = sockets
        self._settings = settings
        self.notes: list[str] = []  # what was asked for and means nothing here
        self._fds: dict[int, int] = {}  # script -> live
        self._signing: dict[int, int] = {}  # live descriptor -> FreeBSD's TCP_MD5SIG
        self._capabilities = Capabilities()
        self._datagrams: set[int] = set()  # script descriptors of datagram sockets
        self._calls: dict[str, Callable[[SyscallEvent], Call[int]]] = {
            "socket": self._socket,
            "bind": self._bind,
            "listen": self._listen,
            "accept": self._accept,
            "connect": self._connect,
            "read": self._receive,
            "recv": self._receive,
            "recvfrom": self._receive,
            "readv": self._readv,
            "recvmsg": self._recvmsg,
            "write": self._send,
            "send": self._send,
            "sendto": self._sendto,
            "writev": self._writev,
            "sendmsg": self._sendmsg,
            "shutdown": self._shutdown,
            "close": self._close,
            "fcntl": self._fcntl,
            "ioctl": self._ioctl,
            "getsockopt": self._getsockopt,
            "setsockopt": self._setsockopt,
            "cap_set": self._cap_set,
            "poll": self._poll,
            "epoll_create": self._epoll_create,
            "epoll_ctl": self._epoll_ctl,
            "epoll_wait": self._epoll_wait,
            "pipe": self._pipe,
            "splice": self._splice,
            "open": self._open,
            "sendfile": self._sendfile,
        }

    def call(self, event: SyscallEvent) -> Call[int]:
        """The call, ready to be run; its value is what the system call returns.

        Raises ScriptFailure when an output of the call is not the written one.
        """
        run = self._calls.get(event.name)
        if run is None:
            raise ScriptFailure(event.position, f"{event.name}() is not supported")
        return run(event)

    def live_fd(self, script_fd: int | None) -> int | None:
        """The descriptor that the script calls `script_fd`."""
        return None if script_fd is None else self._fds.get(script_fd)

    # Opening

    def _socket(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 3)
        domain, kind_written, protocol = event.arguments
        kind = arguments.number(event, kind_written)
        family = AF_INET6 if self._settings.ipv6_sockets else AF_INET
        fd = yield from self._api.socket(
            family if isinstance(domain, Anything) else arguments.number(event, domain),
            kind,
            arguments.number(event, protocol),
        )
        script_fd = self._bind_fd(event, fd)
        if script_fd is not None:
            datagram = kind & SOCK_TYPE_MASK == CONSTANTS["SOCK_DGRAM"]
            self._datagrams -= {script_fd}
            self._datagrams |= {script_fd} if datagram else set()
            self._sockets.created(script_fd, datagram=datagram)
        return fd

    def _bind(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 3)
        address, port = self._settings.local_address, self._settings.bind_port
        written = arguments.socket_address(event, event.arguments[1])
        if written is not None:
            address, port = written
        self._sockets.bound(self._script_fd(event, 0), port)
        return (yield from self._api.bind(self._fd(event, 0), self._for_family(address), port))

    def _listen(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 2)
        result = yield from self._api.listen(
            self._fd(event, 0), arguments.number(event, event.arguments[1])
        )
        self._sockets.listening(self._script_fd(event, 0))
        return result

    def _accept(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 3)
        fd, port = yield from self._api.accept(self._fd(event, 0))
        script_fd = self._bind_fd(event, fd)
        if script_fd is not None:
            self._sockets.accepted(script_fd, port)
        return fd

    def _connect(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 3)
        fd, script_fd = self._fd(event, 0), self._script_fd(event, 0)
        target = self._target(event, event.arguments[1])
        if target is None:
            result = yield from self._api.disconnect(fd)
            self._sockets.disconnected(script_fd)
            return result
        self._sockets.connecting(script_fd, target)
        result = yield from self._api.connect(fd, self._for_family(target[0]), target[1])
        yield from self._learn_way(script_fd)
        return result

    def _target(self, event: SyscallEvent, written: Expression) -> tuple[str, int] | None:
        """The address that is written, or of the settings; None: its family is AF_UNSPEC."""
        if isinstance(written, Struct):
            if arguments.member(event, written, "sa_family") == AF_UNSPEC:
                return None
            return arguments.socket_address(event, written)
        if not isinstance(written, Anything) and arguments.number(event, written) == AF_UNSPEC:
            return None
        return self._settings.remote_address, self._settings.connect_port

    def _learn_way(self, script_fd: int) -> Call[None]:
        """Datagrams follow no handshake, so the local port is asked for."""
        if script_fd in self._datagrams:
            port = yield from self._api.local_port(self._fds[script_fd])
            self._sockets.sends_from(script_fd, port)

    # Sending and receiving

    def _send(self, event: SyscallEvent) -> Call[int]:
        """write(fd, buffer, n) and send(fd, buffer, n, flags)"""
        arguments.count(event, 3, 4)
        flags = arguments.number(event, event.arguments[3]) if len(event.arguments) > 3 else 0
        size = arguments.number(event, event.arguments[2])
        return (
            yield from self._api.send(
                self._fd(event, 0), [size], flags, arguments.is_null(event, 1)
            )
        )

    def _sendto(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 6)
        flags = arguments.number(event, event.arguments[3])
        size = arguments.number(event, event.arguments[2])
        null = arguments.is_null(event, 1)
        named = self._names_target(event, flags) and not arguments.is_null(event, 4)
        if named and not (null and size):
            return (yield from self._send_to(event, [size], flags, event.arguments[4]))
        return (yield from self._api.send(self._fd(event, 0), [size], flags, null))

    def _names_target(self, event: SyscallEvent, flags: int) -> bool:
        """The address of the call matters: to a stream socket only with MSG_FASTOPEN."""
        datagram = self._script_fd(event, 0) in self._datagrams
        return datagram or bool(flags & CONSTANTS["MSG_FASTOPEN"])

    def _send_to(
        self, event: SyscallEvent, sizes: list[int], flags: int, to: Expression
    ) -> Call[int]:
        """MSG_FASTOPEN, with which the call connects, too; or a datagram."""
        script_fd = self._script_fd(event, 0)
        target = self._target(event, to)
        if target is not None:
            self._sockets.connecting(script_fd, target)
        address, port = target or ("", self._settings.connect_port)
        address = self._for_family(address) if address else ""
        sent = yield from self._api.send_to(self._fd(event, 0), address, port, sizes, flags)
        yield from self._learn_way(script_fd)
        return sent

    def _writev(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 3)
        sizes, null = arguments.buffers(event)
        return (yield from self._api.send(self._fd(event, 0), sizes, 0, null))

    def _sendmsg(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 3)
        message = arguments.struct(event, event.arguments[1])
        if arguments.number(event, message.get("msg_flags") or Integer(0)) != 0:
            raise ScriptFailure(event.position, "msg_flags of sendmsg() must be 0")
        sizes = arguments.message_iovec(event, message)
        flags = arguments.number(event, event.arguments[2])
        name = message.get("msg_name")
        if self._names_target(event, flags) and not (isinstance(name, Integer | Name)):
            return (yield from self._send_to(event, sizes, flags, name or Anything()))
        control = written_control(event, message)
        fd = self._fd(event, 0)
        return (yield from self._api.send(fd, sizes, flags, null=False, control=control))

    def _receive(self, event: SyscallEvent) -> Call[int]:
        """read(fd, buffer, n), recv(..., flags) and recvfrom(..., flags, address, length)"""
        arguments.count(event, 3, 4, 6)
        flags = arguments.number(event, event.arguments[3]) if len(event.arguments) > 3 else 0
        size = arguments.number(event, event.arguments[2])
        message = yield from self._api.receive(
            self._fd(event, 0), size, flags, arguments.is_null(event, 1)
        )
        return message.size

    def _readv(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 3)
        sizes, null = arguments.buffers(event)
        message = yield from self._api.receive(self._fd(event, 0), sum(sizes), 0, null)
        return message.size

    def _recvmsg(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 3)
        expected = arguments.struct(event, event.arguments[1])
        size = sum(arguments.message_iovec(event, expected))
        flags = arguments.number(event, event.arguments[2])
        message = yield from self._api.receive(self._fd(event, 0), size, flags, null=False)
        self._compare(
            event,
            "msg_flags",
            arguments.number(event, expected.get("msg_flags") or Integer(0)),
            message.flags,
        )
        check_control(event, expected, message, self._settings.tolerance_us)
        return message.size

    # Closing and control

    def _shutdown(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 2)
        how = arguments.number(event, event.arguments[1])
        return (yield from self._api.shutdown(self._fd(event, 0), how))

    def _close(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 1)
        script_fd = self._script_fd(event, 0)
        fd = self._fd(event, 0)
        self._fds.pop(script_fd, None)
        self._sockets.closed(script_fd)
        return (yield from self._api.close(fd))

    def _fcntl(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 2, 3)
        argument = arguments.number(event, event.arguments[2]) if len(event.arguments) > 2 else 0
        command = arguments.number(event, event.arguments[1])
        return (yield from self._api.fcntl(self._fd(event, 0), command, argument))

    def _ioctl(self, event: SyscallEvent) -> Call[int]:
        """The third argument is what the call must give, or what FIONBIO takes."""
        arguments.count(event, 2, 3)
        request = arguments.number(event, event.arguments[1])
        written = arguments.array(event.arguments[2]) if len(event.arguments) > 2 else ()
        expected = arguments.number(event, written[0]) if written else None
        value = yield from self._api.ioctl(self._fd(event, 0), request, expected or 0)
        if expected is not None:
            self._compare(event, "ioctl value", expected, value)
        return 0

    # Options

    def _getsockopt(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 5)
        _, level, name, expected, length = event.arguments
        if self._is_without_meaning(event, name):
            return 0
        if name == MD5SIG and self.expected_result(event) == 0:
            self._compare_all(event, expected, self._signing.get(self._fd(event, 0), 0))
            return 0
        sizes = arguments.array(length)
        size = arguments.number(event, sizes[0] if sizes else length)
        value = yield from self._api.getsockopt(
            self._fd(event, 0), arguments.number(event, level), arguments.number(event, name), size
        )
        if isinstance(expected, Anything):
            return 0
        if isinstance(expected, String):
            actual = value if isinstance(value, bytes) else value.to_bytes(INT, "little")
            # The kernel pads names with zeros up to the length of the buffer.
            if actual.rstrip(b"\0") != expected.value.rstrip(b"\0"):
                self._differ(event, "option value", expected.value, actual)
            return 0
        given = len(value) if isinstance(value, bytes) else min(INT, size)
        self._compare(event, "option length", size, given)
        if isinstance(expected, Struct | Function):
            self._compare(event, "option value", arguments.option_bytes(event, expected), value)
            return 0
        if isinstance(value, bytes):
            value = int.from_bytes(value[:INT], "little", signed=True)
        self._compare_all(event, expected, value)
        return 0

    def _compare_all(self, event: SyscallEvent, expected: Expression, value: int) -> None:
        wanted = arguments.numbers(event, expected)
        if wanted:
            self._compare(event, "option value", wanted[0], value)

    def _setsockopt(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 5)
        _, level, name, value, length = event.arguments
        if self._is_without_meaning(event, name):
            return 0
        if isinstance(name, Name) and name.name in NOT_SUPPORTED:
            if self.expected_result(event) == 0:
                raise ScriptFailure(event.position, f"{name.name} is not supported")
        data = arguments.option_bytes(event, value)
        size = arguments.number(event, length)
        if name == MD5SIG and len(data) == INT and self.expected_result(event) == 0:
            return (yield from self._sign(event, on=any(data)))
        level_number, number = arguments.number(event, level), arguments.number(event, name)
        self._capabilities.check(level_number, number, data)
        return (
            yield from self._api.setsockopt(
                self._fd(event, 0), level_number, number, data[:size] if size >= 0 else b""
            )
        )

    def _sign(self, event: SyscallEvent, *, on: bool) -> Call[int]:
        """FreeBSD's TCP_MD5SIG, a switch: its keys are those of setkey(8), here the one secret."""
        fd = self._fd(event, 0)
        if not on and not self._signing.get(fd):
            return 0
        settings = self._settings
        address = self._for_family(settings.remote_address)
        key = md5_key(address, settings.md5_secret if on else b"")
        yield from self._api.setsockopt(fd, CONSTANTS["IPPROTO_TCP"], CONSTANTS["TCP_MD5SIG"], key)
        self._signing[fd] = int(on)
        return 0

    def _cap_set(self, event: SyscallEvent) -> Call[int]:
        """cap_set(CAP_A, CAP_B, ...): see `capabilities`."""
        yield from ()
        self._capabilities.set(event)
        return 0

    def _is_without_meaning(self, event: SyscallEvent, name: Expression) -> bool:
        found = isinstance(name, Name) and name.name in WITHOUT_MEANING
        if isinstance(name, Name) and found:
            self.notes.append(f"{event.position}: socket option {name.name} has no meaning here")
        return found

    # Pipes and files

    def _pipe(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 1)
        names = arguments.numbers(event, event.arguments[0])
        if len(names) != 2:
            raise ScriptFailure(event.position, "pipe() takes the names of two descriptors")
        reading, writing = yield from self._api.pipe()
        self._fds[names[0]], self._fds[names[1]] = reading, writing
        return 0

    def _splice(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 6)
        size, flags = (arguments.number(event, event.arguments[index]) for index in (4, 5))
        return (yield from self._api.splice(self._fd(event, 0), self._fd(event, 2), size, flags))

    def _open(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 2, 3)
        path = event.arguments[0]
        if not isinstance(path, String):
            raise ScriptFailure(event.position, "open() takes a path as its first argument")
        found = Path(event.position.file).parent / os.fsdecode(path.value)
        fd = yield from self._api.open(str(found), arguments.number(event, event.arguments[1]))
        self._bind_fd(event, fd)
        return fd

    def _sendfile(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 4)
        _, _, written, count = event.arguments
        offset: int | None = None
        if isinstance(written, Array) and written.items:
            offset = arguments.number(event, written.items[0])
        size = arguments.number(event, count)
        return (yield from self._api.sendfile(self._fd(event, 0), self._fd(event, 1), offset, size))

    # Readiness

    def _poll(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 3)
        entries: list[tuple[int, int]] = []
        expected: list[int] = []
        for item in arguments.array(event.arguments[0]):
            entry = arguments.struct(event, item)
            fd = arguments.number(event, entry.get("fd") or Integer(-1))
            live = self._fds.get(fd, NO_FD) if fd >= 0 else -1  # poll(2): below 0 it is ignored
            entries.append((live, arguments.member(event, entry, "events")))
            expected.append(arguments.member(event, entry, "revents"))
        timeout = arguments.number(event, event.arguments[2])
        returned = yield from self._api.poll(entries, timeout)
        for index, (wanted, actual) in enumerate(zip(expected, returned, strict=True)):
            if wanted != actual:
                self._differ(
                    event, f"revents of element {index}", poll_text(wanted), poll_text(actual)
                )
        return sum(1 for events in returned if events)

    def _epoll_create(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 1)
        fd = yield from self._api.epoll_create(arguments.number(event, event.arguments[0]))
        self._bind_fd(event, fd)
        return fd

    def _epoll_ctl(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 4)
        _, op, _, argument = event.arguments
        events = data = 0
        if isinstance(argument, Struct):
            events = arguments.member(event, argument, "events")
            data = arguments.epoll_data(event, argument)
        return (
            yield from self._api.epoll_ctl(
                self._fd(event, 0), arguments.number(event, op), self._fd(event, 2), events, data
            )
        )

    def _epoll_wait(self, event: SyscallEvent) -> Call[int]:
        arguments.count(event, 4)
        _, expected, most, timeout = event.arguments
        if isinstance(expected, Array):
            written = [arguments.struct(event, item) for item in expected.items]
        else:
            written = [arguments.struct(event, expected)]
        found = yield from self._api.epoll_wait(
            self._fd(event, 0), arguments.number(event, most), arguments.number(event, timeout)
        )
        for entry, (events, data) in zip(written, found, strict=False):
            wanted = arguments.member(event, entry, "events")
            if wanted != events:
                self._differ(event, "events", poll_text(wanted), poll_text(events))
            self._compare(event, "epoll data", arguments.epoll_data(event, entry), data)
        return len(found)

    def _for_family(self, address: str) -> str:
        if self._settings.ip_version == "ipv4-mapped-ipv6":
            return f"::ffff:{address}"
        return address

    # Descriptors

    def _script_fd(self, event: SyscallEvent, index: int) -> int:
        return arguments.number(event, event.arguments[index])

    def _fd(self, event: SyscallEvent, index: int) -> int:
        return self._fds.get(self._script_fd(event, index), -1)

    def _bind_fd(self, event: SyscallEvent, live: int) -> int | None:
        """The written result becomes the name of `live`."""
        if isinstance(event.result, Anything):
            return None
        script_fd = arguments.number(event, event.result)
        if script_fd < 0:
            return None
        self._fds[script_fd] = live
        return script_fd

    # Results

    def expected_result(self, event: SyscallEvent) -> int | None:
        """The written result; None: any."""
        return None if isinstance(event.result, Anything) else arguments.number(event, event.result)

    def _compare(
        self, event: SyscallEvent, what: str, expected: int | bytes, actual: int | bytes
    ) -> None:
        if expected != actual:
            self._differ(event, what, expected, actual)

    def _differ(self, event: SyscallEvent, what: str, expected: object, actual: object) -> NoReturn:
        raise ScriptFailure(
            event.position, f"{event.name}(): {what}: expected {expected}, actual {actual}"
        )


def poll_text(mask: int) -> str:
    """POLL* bits by name."""
    names = [name for name, value in CONSTANTS.items() if name.startswith("POLL") and value & mask]
    return "|".join(names) or "0"
