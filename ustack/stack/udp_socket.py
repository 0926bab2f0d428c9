"""POSIX datagram sockets over UDP, sans-IO: errno, truncation and readiness as Linux has them.

How calls block is in `socket_base`. udp(7), socket(7), ip(7), recv(2); RFC 1122 §4.1.
"""

import errno
from collections.abc import Callable

from ustack.config import TcpConfig
from ustack.errors import os_error
from ustack.stack import socket_constants as c
from ustack.stack.error_queue import (
    ControlMessage,
    ErrorQueue,
    ExtendedError,
    QueuedError,
    received_error,
)
from ustack.stack.icmp_meaning import Meaning
from ustack.stack.ip import packed_address
from ustack.stack.socket_address import ANY, UNSPECIFIED, unmapped
from ustack.stack.socket_base import Call, Received, SocketBase, deadline_after, take_notice
from ustack.stack.socket_options import MIN_RCVBUF, MIN_SNDBUF, SocketOptions, doubled
from ustack.stack.stack import Stack
from ustack.stack.udp import DEFAULT_LIMIT, Datagram, Remote, Sending, UdpPort
from ustack.tcp.tcb import Endpoint
from ustack.wire import Buffer

READABLE_BITS = c.POLLIN | c.POLLRDNORM
WRITABLE_BITS = c.POLLOUT | c.POLLWRNORM | c.POLLWRBAND
DOUBLED_DEFAULT = DEFAULT_LIMIT  # what SO_RCVBUF and SO_SNDBUF say before they are set
MAX_CORKED = 65_535  # bytes that MSG_MORE collects; no datagram is larger


class DatagramOptions(SocketOptions):
    """The options of a datagram socket: those of TCP are not there (ENOPROTOOPT)."""

    def __init__(self, config: TcpConfig) -> None:
        super().__init__(config)
        self.receive_buffer = self.send_buffer = DOUBLED_DEFAULT
        self.tos = config.dscp << 2

    def get(self, level: int, name: int) -> int | bytes:
        """As SocketOptions.get."""
        match level, name:
            case c.IPPROTO_TCP, _:
                raise os_error(errno.ENOPROTOOPT)
            case c.SOL_SOCKET, c.SO_TYPE:
                return c.SOCK_DGRAM
            case c.SOL_SOCKET, c.SO_PROTOCOL:
                return c.IPPROTO_UDP
            case c.SOL_SOCKET, c.SO_RCVBUF:
                return self.receive_buffer
            case c.SOL_SOCKET, c.SO_SNDBUF:
                return self.send_buffer
            case (c.IPPROTO_IP, c.IP_TOS) | (c.IPPROTO_IPV6, c.IPV6_TCLASS):
                return self.tos
        return super().get(level, name)

    def set(self, level: int, name: int, value: int | bytes) -> None:
        """As SocketOptions.set. The ECN bits of IP_TOS are the user's here."""
        match level, name, value:
            case c.IPPROTO_TCP, _, _:
                raise os_error(errno.ENOPROTOOPT)
            case c.SOL_SOCKET, c.SO_RCVBUF | c.SO_RCVBUFFORCE, int(size):
                self.receive_buffer = doubled(size, MIN_RCVBUF)
            case c.SOL_SOCKET, c.SO_SNDBUF | c.SO_SNDBUFFORCE, int(size):
                self.send_buffer = doubled(size, MIN_SNDBUF)
            case _:
                super().set(level, name, value)
                if (level, name) in ((c.IPPROTO_IP, c.IP_TOS), (c.IPPROTO_IPV6, c.IPV6_TCLASS)):
                    self.tos = value if isinstance(value, int) else self.tos

    def sending(self) -> Sending:
        """How the next datagram leaves (ip(7) IP_MTU_DISCOVER)."""
        modes = (
            self.get(c.IPPROTO_IP, c.IP_MTU_DISCOVER),
            self.get(c.IPPROTO_IPV6, c.IPV6_MTU_DISCOVER),
        )
        strict = (c.IP_PMTUDISC_DO, c.IP_PMTUDISC_PROBE)
        return Sending(
            self.config.ttl,
            self.tos,
            dont_fragment=c.IP_PMTUDISC_DONT not in modes,
            refuse=any(mode in strict for mode in modes),
        )


class DatagramSocket(SocketBase):
    """One datagram socket. Made by `SocketLayer.datagram_socket`."""

    def __init__(
        self,
        stack: Stack,
        owner_of: "Callable[[DatagramSocket], object]",
        family: int,
        options: DatagramOptions,
    ) -> None:
        super().__init__(family, options)
        self.options: DatagramOptions = options
        self.port: UdpPort | None = None  # from bind(), connect() or the first datagram on
        self._owner = owner_of(self)
        self._stack = stack
        self._bound = ANY  # what bind() asked for
        self._corked = bytearray()  # what MSG_MORE collects
        self._errors: ErrorQueue | None = None  # from the first IP_RECVERR report on
        self._shut_read = self._shut_write = False

    # Addresses

    def bind(self, address: str, port: int) -> None:
        """The socket has this local address; "" is every address, port 0 any free one."""
        if self.port is not None:
            raise os_error(errno.EINVAL)
        self.port = self._open(unmapped(address), port)
        self._bound = Endpoint(unmapped(address), port)

    def _open(self, address: str, number: int) -> UdpPort:
        reuse = self.options.reuse_address, self.options.reuse_port
        version: int | None = 4
        if self.family == c.AF_INET6:  # ipv6(7): both, unless IPV6_V6ONLY says otherwise
            version = 6 if self.options.get(c.IPPROTO_IPV6, c.IPV6_V6ONLY) else None
        made = self._stack.udp.open(address, number, reuse, version)
        made.user = self._owner
        made.limit = self.options.receive_buffer
        return made

    def _named(self) -> UdpPort:
        """The port, with a free number if the socket had none."""
        if self.port is None:
            self.port = self._open("", 0)
        return self.port

    def connect(self, address: str, port: int, now: int) -> Call[None]:
        """Datagrams go to that address unless told otherwise, and come from it alone."""
        yield from ()
        remote = self._remote(address, port)
        named = self._named()
        named.local = self._stack.udp.source(named, remote[0])
        named.remote = remote

    def disconnect(self, now: int) -> None:
        """connect() to AF_UNSPEC: what bind() asked for holds again."""
        if self.port is None:
            return
        self.port.remote = None
        if self._bound.address in UNSPECIFIED:
            self.port.local = None
        if not self._bound.port:
            self._stack.udp.close(self.port)
            self.port = None

    def local(self) -> Endpoint:
        """getsockname()."""
        if self.port is None:
            return self._bound
        address = self.port.local
        return Endpoint("" if address is None else self._text(address), self.port.number)

    def peer(self) -> Endpoint:
        """getpeername(); ENOTCONN."""
        if self.port is None or self.port.remote is None:
            raise os_error(errno.ENOTCONN)
        address, number = self.port.remote
        return Endpoint(self._text(address), number)

    def _text(self, address: bytes) -> str:
        return self._stack.addresses.text(address)

    @staticmethod
    def _remote(address: str, port: int) -> Remote:
        if not address or not 0 < port <= 65535:
            raise os_error(errno.EINVAL)
        return packed_address(unmapped(address)), port

    # Sending

    def send(self, data: Buffer, flags: int, now: int) -> Call[int]:
        """A datagram with `data` leaves for the peer; EDESTADDRREQ without one."""
        yield from ()
        if self.port is None or self.port.remote is None:
            raise os_error(errno.EDESTADDRREQ)
        return self._send(self.port.remote, data, flags, now)

    def send_to(self, address: str, port: int, data: Buffer, flags: int, now: int) -> Call[int]:
        """A datagram with `data` leaves for that address."""
        yield from ()
        return self._send(self._remote(address, port), data, flags, now)

    def _send(self, remote: Remote, data: Buffer, flags: int, now: int) -> int:
        if flags & c.MSG_OOB and len(remote[0]) == 4:  # Linux: over IPv6 it means nothing
            raise os_error(errno.EOPNOTSUPP)
        if self.error:
            raise os_error(self._take_error())
        if self._shut_write:
            raise os_error(errno.EPIPE)
        if len(self._corked) + len(data) > MAX_CORKED:
            raise os_error(errno.EMSGSIZE)
        if flags & c.MSG_MORE:  # udp(7): they become one datagram
            self._corked += data
            return len(data)
        payload = bytes(self._corked) + data
        self._corked.clear()
        try:
            self._stack.udp.send(self._named(), remote, payload, self.options.sending(), now)
        except OSError as error:
            if error.errno == errno.EMSGSIZE and self.options.receives_errors:
                mtu = self._stack.udp.path_mtu(remote[0], now)
                local = ExtendedError(errno.EMSGSIZE, c.SO_EE_ORIGIN_LOCAL, info=mtu)
                self._queue_error(local)
            raise
        return len(data)

    # Receiving

    def receive(self, size: int, flags: int, now: int) -> Call[Received]:
        """The oldest datagram, cut to `size`: MSG_TRUNC in the returned flags says so."""
        if flags & c.MSG_ERRQUEUE:
            return self._take_notice(size)
        deadline = deadline_after(self.options.receive_timeout_us, now)
        while True:
            if self.error:
                raise os_error(self._take_error())
            port = self.port
            if port is not None and port.queue:
                peek = flags & c.MSG_PEEK
                datagram = port.queue[0] if peek else self._stack.udp.take(port)
                return self._received(datagram, size, flags)
            if self._shut_read and not self._nonblocking(flags):
                return Received(b"", 0)
            now = yield from self._block(flags, now, deadline)

    def _take_notice(self, size: int) -> Received:
        """MSG_ERRQUEUE. Linux: the pending error is that of the next ICMP message in the queue."""
        told = self._errors.icmp_error() if self._errors is not None else None
        found = take_notice(self._errors, size)
        following = self._errors.icmp_error() if self._errors is not None else None
        if following is not None:
            self.error = following
        elif told is not None:
            self.error = 0
        return found

    def _received(self, datagram: Datagram, size: int, flags: int) -> Received:
        whole = len(datagram.payload)
        cut = whole > size
        control: list[ControlMessage] = []
        if self.options.get(c.IPPROTO_IP, c.IP_RECVTTL):
            control.append(ControlMessage(c.IPPROTO_IP, c.IP_TTL, datagram.ttl))
        if self.options.get(c.IPPROTO_IP, c.IP_RECVTOS):
            control.append(ControlMessage(c.IPPROTO_IP, c.IP_TOS, datagram.tos))
        return Received(
            datagram.payload[:size],
            whole if flags & c.MSG_TRUNC else min(whole, size),
            c.MSG_TRUNC if cut else 0,
            tuple(control),
            datagram.source,
        )

    # Closing

    def shutdown(self, how: int, now: int) -> None:
        """Sending, receiving or both are over; ENOTCONN without a peer, but Linux does it."""
        if how not in (c.SHUT_RD, c.SHUT_WR, c.SHUT_RDWR):
            raise os_error(errno.EINVAL)
        self._shut_read = self._shut_read or how != c.SHUT_WR
        self._shut_write = self._shut_write or how != c.SHUT_RD
        if self.port is None or self.port.remote is None:
            raise os_error(errno.ENOTCONN)

    def close(self, now: int) -> Call[None]:
        """The socket is gone, and what waited in it."""
        yield from ()
        self.closed = True
        if self.port is not None:
            self._stack.udp.close(self.port)
            self.port = None

    # Readiness

    def poll(self, now: int) -> int:
        """The POLL* bits that hold now, as Linux's datagram_poll() computes them."""
        mask = WRITABLE_BITS
        if self.error or (self._errors is not None and len(self._errors)):
            mask |= c.POLLERR
        if self._shut_read:
            mask |= READABLE_BITS | c.POLLRDHUP
        if self._shut_read and self._shut_write:
            mask |= c.POLLHUP
        if self.port is not None and self.port.queue:
            mask |= READABLE_BITS
        return mask

    def input_queue(self) -> int:
        """SIOCINQ: bytes of the first datagram that waits (udp(7) FIONREAD)."""
        if self.port is None or not self.port.queue:
            return 0
        return len(self.port.queue[0].payload)

    def output_queue(self) -> int:
        """SIOCOUTQ: what is sent is out at once."""
        return 0

    # Options

    def getsockopt(self, level: int, name: int, now: int) -> int | bytes:
        """The value: an int, or bytes for a structure or a string."""
        match level, name:
            case c.SOL_SOCKET, c.SO_ERROR:
                return self._take_error()
            case c.IPPROTO_TCP, _ if self.family == c.AF_INET:  # Linux do_ip_getsockopt()
                raise os_error(errno.EOPNOTSUPP)
            case c.SOL_SOCKET, c.SO_ACCEPTCONN:
                return 0
            case c.SOL_SOCKET, c.SO_DOMAIN:
                return self.family
            case (c.IPPROTO_IP, c.IP_MTU) | (c.IPPROTO_IPV6, c.IPV6_MTU):
                if self.port is None or self.port.remote is None:
                    raise os_error(errno.ENOTCONN)
                return self._stack.udp.path_mtu(self.port.remote[0], now)
        return self.options.get(level, name)

    def setsockopt(self, level: int, name: int, value: int | bytes, now: int) -> None:
        """Sets the option."""
        self.options.set(level, name, value)
        if self.port is not None:
            self.port.limit = self.options.receive_buffer

    # What happened below

    def notify(self, flags: int) -> None:
        """Events of the stack for this socket (`ustack.tcp.tcb`)."""
        self.news += 1
        port = self.port
        while port is not None and port.meanings:
            self._hear(port.meanings.popleft(), connected=port.remote is not None)

    def _hear(self, told: Meaning, *, connected: bool) -> None:
        """An ICMP error: with IP_RECVERR all of them count, else hard ones of a connected socket
        (udp(7), ip(7); RFC 1122 §4.1.3.3)."""
        if self.options.receives_errors:
            error = ExtendedError(told.errno, told.origin, told.type, told.code, told.info)
            self._queue_error(error)
        elif not (told.hard and connected):
            return
        self.error = told.errno

    def _queue_error(self, error: ExtendedError) -> None:
        if self._errors is None:
            self._errors = ErrorQueue()
        self._errors.add(QueuedError((received_error(error, self.family == c.AF_INET6),)))
