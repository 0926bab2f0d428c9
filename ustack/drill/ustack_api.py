"""System calls with descriptors, on the sockets of a `SocketLayer`."""

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace

from ustack.drill.constants import CONSTANTS
from ustack.drill.files import PIPE_SIZE, FileSystem, Pipe, RegularFile
from ustack.drill.host import Message
from ustack.drill.udp_tunnel import UdpTunnel
from ustack.drill.urgent import UrgentMarks
from ustack.errors import os_error
from ustack.stack import socket_constants as c
from ustack.stack.error_queue import ControlMessage, Stamp, transmit_stamps
from ustack.stack.readiness import Epoll, poll
from ustack.stack.socket_base import Call
from ustack.stack.socket_layer import SocketLayer
from ustack.stack.socket_options import STRUCTURES
from ustack.stack.sockets import Socket
from ustack.stack.udp_socket import DatagramSocket

FIRST_FD = 3  # after stdin, stdout and stderr
F_GETFD, F_SETFD = CONSTANTS["F_GETFD"], CONSTANTS["F_SETFD"]
F_GETFL, F_SETFL = CONSTANTS["F_GETFL"], CONSTANTS["F_SETFL"]
O_RDWR, O_NONBLOCK = CONSTANTS["O_RDWR"], CONSTANTS["O_NONBLOCK"]
SIOCINQ, SIOCOUTQ = CONSTANTS["SIOCINQ"], CONSTANTS["SIOCOUTQ"]
SIOCATMARK = CONSTANTS["SIOCATMARK"]
SIOCOUTQNSD, FIONBIO = CONSTANTS["SIOCOUTQNSD"], CONSTANTS["FIONBIO"]
INT = 4  # bytes of an int
ENCAPSULATION = c.IPPROTO_TCP, CONSTANTS["TCP_REMOTE_UDP_ENCAPS_PORT"]
SPLICE_F_NONBLOCK = CONSTANTS["SPLICE_F_NONBLOCK"]


AnySocket = Socket | DatagramSocket
File = AnySocket | Epoll | Pipe | RegularFile


class UstackApi:
    """A table of descriptors; `clock` gives the time of the stack."""

    def __init__(
        self,
        layer: SocketLayer,
        clock: Callable[[], int],
        epoch_us: int = 0,
        virtual_files: dict[str, int] | None = None,
        tunnel: UdpTunnel | None = None,
    ) -> None:
        """`epoch_us`: what the clock shows when the script begins.

        `virtual_files`: sizes of the files that commands have made; they are not on disk.
        """
        self._disk = FileSystem({} if virtual_files is None else virtual_files)
        self._tunnel = tunnel
        self._layer = layer
        self._epoch_us = epoch_us
        self._clock = clock
        self._files: dict[int, File] = {}
        self._urgent = UrgentMarks()

    def attach(self, layer: SocketLayer) -> None:
        """`layer` takes the place of one in which nothing has happened yet."""
        self._layer = layer

    def socket_of(self, fd: int) -> Socket | None:
        """The stream socket behind a descriptor."""
        found = self._files.get(fd)
        return found if isinstance(found, Socket) else None

    def _socket(self, fd: int) -> AnySocket:
        found = self._files.get(fd)
        if found is None:
            raise os_error(errno.EBADF)
        if not isinstance(found, AnySocket):
            raise os_error(errno.ENOTSOCK)
        return found

    def _stream(self, fd: int) -> Socket:
        """For what datagram sockets do not do."""
        found = self._socket(fd)
        if not isinstance(found, Socket):
            raise os_error(errno.EOPNOTSUPP)
        return found

    def _epoll(self, fd: int) -> Epoll:
        found = self._files.get(fd)
        if found is None:
            raise os_error(errno.EBADF)
        if not isinstance(found, Epoll):
            raise os_error(errno.EINVAL)
        return found

    def _install(self, file: File) -> int:
        fd = FIRST_FD
        while fd in self._files:
            fd += 1
        self._files[fd] = file
        return fd

    def socket(self, domain: int, kind: int, protocol: int) -> Call[int]:
        yield from ()
        if kind & c.SOCK_TYPE_MASK == c.SOCK_DGRAM:
            return self._install(self._layer.datagram_socket(domain, kind, protocol))
        return self._install(self._layer.socket(domain, kind, protocol))

    def bind(self, fd: int, address: str, port: int) -> Call[int]:
        yield from ()
        self._socket(fd).bind(address, port)
        return 0

    def listen(self, fd: int, backlog: int) -> Call[int]:
        yield from ()
        self._stream(fd).listen(backlog, self._clock())
        return 0

    def accept(self, fd: int) -> Call[tuple[int, int]]:
        child = yield from self._stream(fd).accept(0, self._clock())
        assert child.tcb is not None
        return self._install(child), child.tcb.remote.port

    def connect(self, fd: int, address: str, port: int) -> Call[int]:
        yield from self._socket(fd).connect(address, port, self._clock())
        return 0

    def disconnect(self, fd: int) -> Call[int]:
        yield from ()
        self._socket(fd).disconnect(self._clock())
        return 0

    def send(
        self,
        fd: int,
        sizes: Sequence[int],
        flags: int,
        null: bool,
        control: Sequence[ControlMessage] = (),
    ) -> Call[int]:
        size = sum(sizes)
        if (null and size) or any(each < 0 for each in sizes):
            raise os_error(errno.EFAULT)
        file = self._files.get(fd)
        if isinstance(file, Pipe):
            return (yield from file.write(size))
        if isinstance(file, RegularFile):
            return self._disk.write(file, size)
        socket = self._socket(fd)
        stamps = transmit_stamps(control)
        if isinstance(socket, DatagramSocket):
            return (yield from socket.send(bytes(size), flags, self._clock()))
        return (yield from socket.send(bytes(size), flags, self._clock(), sizes, stamps))

    def send_to(
        self, fd: int, address: str, port: int, sizes: Sequence[int], flags: int
    ) -> Call[int]:
        if any(size < 0 for size in sizes):
            raise os_error(errno.EFAULT)
        data = bytes(sum(sizes))
        return (yield from self._socket(fd).send_to(address, port, data, flags, self._clock()))

    def local_port(self, fd: int) -> Call[int]:
        yield from ()
        socket = self._socket(fd)
        if isinstance(socket, DatagramSocket):
            return socket.local().port
        if socket.tcb is not None:
            return socket.tcb.local.port
        return socket.bound.port if socket.bound is not None else 0

    def receive(self, fd: int, size: int, flags: int, null: bool) -> Call[Message]:
        file = self._files.get(fd)
        if isinstance(file, Pipe):
            return Message((yield from file.read(size)))
        if isinstance(file, RegularFile):
            return Message(self._disk.read(file, size))
        socket = self._socket(fd)
        if null and size and not flags & c.MSG_TRUNC and socket.input_queue():
            raise os_error(errno.EFAULT)
        if isinstance(socket, Socket) and not flags & c.MSG_ERRQUEUE:
            if flags & c.MSG_OOB and socket.tcb is not None:
                taken = self._urgent.take(socket, self._layer.stack, flags, self._clock())
                return Message(taken, c.MSG_OOB)
            limit = self._urgent.limit(socket, self._layer.stack, self._clock(), splice=False)
            size = min(size, limit or size)
        received = yield from socket.receive(size, flags, self._clock())
        return Message(received.size, received.flags, tuple(map(self._timed, received.control)))

    def _timed(self, message: ControlMessage) -> ControlMessage:
        """A time stamp as the script counts."""
        if not isinstance(message.data, Stamp):
            return message
        return replace(message, data=Stamp(message.data.time_us - self._epoch_us))

    def shutdown(self, fd: int, how: int) -> Call[int]:
        yield from ()
        self._socket(fd).shutdown(how, self._clock())
        return 0

    def close(self, fd: int) -> Call[int]:
        found = self._files.pop(fd, None)
        if found is None:
            raise os_error(errno.EBADF)
        if isinstance(found, AnySocket):
            yield from found.close(self._clock())
        return 0

    def getsockopt(self, fd: int, level: int, name: int, size: int) -> Call[int | bytes]:
        yield from ()
        if (level, name) == ENCAPSULATION and self._tunnel is not None:
            return self._tunnel.asked(self._stream(fd))
        value = self._socket(fd).getsockopt(level, name, self._clock())
        return value[:size] if isinstance(value, bytes) else value

    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> Call[int]:
        yield from ()
        socket = self._socket(fd)
        if (level, name) in STRUCTURES:
            socket.setsockopt(level, name, value, self._clock())
            return 0
        one_byte = level == c.IPPROTO_IP and len(value) == 1  # ip(7) takes a char too
        if len(value) < INT and not one_byte:
            raise os_error(errno.EINVAL)
        number = int.from_bytes(value[:INT], "little", signed=not one_byte)
        if (level, name) == ENCAPSULATION and self._tunnel is not None:
            self._tunnel.ask(self._stream(fd), number)
            return 0
        socket.setsockopt(level, name, number, self._clock())
        return 0

    def fcntl(self, fd: int, command: int, argument: int) -> Call[int]:
        yield from ()
        socket = self._socket(fd)
        if command == F_GETFL:
            return O_RDWR | (O_NONBLOCK if socket.nonblocking else 0)
        if command == F_SETFL:
            socket.nonblocking = bool(argument & O_NONBLOCK)
            return 0
        if command in (F_GETFD, F_SETFD):
            return 0
        raise os_error(errno.EINVAL)

    def ioctl(self, fd: int, request: int, argument: int) -> Call[int]:
        yield from ()
        socket = self._socket(fd)
        if request == SIOCINQ and isinstance(socket, Socket):
            return self._urgent.queued(socket, self._layer.stack, self._clock())
        if request == SIOCATMARK and isinstance(socket, Socket):
            return self._urgent.at_mark(socket, self._layer.stack, self._clock())
        if request == SIOCINQ:
            return socket.input_queue()
        if request == SIOCOUTQ:
            return socket.output_queue()
        if request == SIOCOUTQNSD and isinstance(socket, Socket):
            return socket.unsent_queue()
        if request == FIONBIO:
            socket.nonblocking = bool(argument)
            return argument
        raise os_error(errno.ENOTTY)

    def pipe(self) -> Call[tuple[int, int]]:
        yield from ()
        made = Pipe()
        return self._install(made), self._install(made)

    def splice(self, source: int, target: int, size: int, flags: int) -> Call[int]:
        """From a socket or file to a pipe, or from a pipe to a socket or file (splice(2))."""
        one, other = self._files.get(source), self._files.get(target)
        waits = c.MSG_DONTWAIT if flags & SPLICE_F_NONBLOCK else 0
        if isinstance(one, Socket) and isinstance(other, Pipe):
            room = PIPE_SIZE - other.held
            if not room:
                raise os_error(errno.EAGAIN)
            # Linux tcp_splice_read(): only the socket's own O_NONBLOCK counts here
            limit = self._urgent.limit(one, self._layer.stack, self._clock(), splice=True)
            if limit == 0:
                return 0
            wanted = min(size, room, limit or room)
            received = yield from one.receive(wanted, 0, self._clock())
            other.held += received.size
            return received.size
        if isinstance(one, Pipe) and isinstance(other, Socket):
            sent = yield from other.send(bytes(min(size, one.held)), waits, self._clock())
            one.held -= sent
            return sent
        if isinstance(one, RegularFile) and isinstance(other, Pipe):
            return (yield from other.write(self._disk.read(one, min(size, PIPE_SIZE - other.held))))
        if isinstance(one, Pipe) and isinstance(other, RegularFile):
            return self._disk.write(other, (yield from one.read(size)))
        raise os_error(errno.EBADF if one is None or other is None else errno.EINVAL)

    def open(self, path: str, flags: int) -> Call[int]:
        yield from ()
        return self._install(self._disk.open(path, flags))

    def sendfile(self, target: int, source: int, offset: int | None, size: int) -> Call[int]:
        file = self._files.get(source)
        if not isinstance(file, RegularFile):
            raise os_error(errno.EBADF if file is None else errno.EINVAL)
        start = file.offset if offset is None else offset
        count = self._disk.read(file, size, start)
        sent = yield from self._stream(target).send(bytes(count), 0, self._clock())
        if offset is None:
            file.offset += sent
        return sent

    def poll(self, entries: Sequence[tuple[int, int]], timeout_ms: int) -> Call[list[int]]:
        sockets: list[tuple[AnySocket | None, int]] = []
        for fd, events in entries:
            found = self._files.get(fd)
            if fd >= 0:  # poll(2): below 0 it is ignored
                sockets.append((found if isinstance(found, AnySocket) else None, events))
        returned = yield from poll(sockets, _timeout_us(timeout_ms), self._clock())
        answers = iter(
            self._urgent.polled(socket, self._layer.stack, found, self._clock())
            if isinstance(socket, Socket)
            else found
            for (socket, _), found in zip(sockets, returned, strict=True)
        )
        return [next(answers) if fd >= 0 else 0 for fd, _ in entries]

    def epoll_create(self, size: int) -> Call[int]:
        yield from ()
        if size <= 0:
            raise os_error(errno.EINVAL)
        return self._install(Epoll())

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int, data: int) -> Call[int]:
        yield from ()
        epoll, socket = self._epoll(epfd), self._socket(fd)
        if op == CONSTANTS["EPOLL_CTL_ADD"]:
            epoll.add(socket, events, data)
        elif op == CONSTANTS["EPOLL_CTL_MOD"]:
            epoll.modify(socket, events, data)
        elif op == CONSTANTS["EPOLL_CTL_DEL"]:
            epoll.delete(socket)
        else:
            raise os_error(errno.EINVAL)
        return 0

    def epoll_wait(self, epfd: int, most: int, timeout_ms: int) -> Call[list[tuple[int, int]]]:
        epoll = self._epoll(epfd)
        found = yield from epoll.wait(most, _timeout_us(timeout_ms), self._clock())
        return [(events, data) for events, data in found if isinstance(data, int)]


def _timeout_us(timeout_ms: int) -> int | None:
    return None if timeout_ms < 0 else timeout_ms * 1000
