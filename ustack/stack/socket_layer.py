"""All sockets of one stack: made, told of events, and woken when their time has come."""

import errno
from collections.abc import Callable, Iterable

from ustack.config import TcpConfig
from ustack.errors import os_error
from ustack.stack import socket_constants as c
from ustack.stack.listener import Listener
from ustack.stack.socket_options import SocketOptions
from ustack.stack.sockets import Socket
from ustack.stack.stack import Stack
from ustack.stack.udp import UdpPort
from ustack.stack.udp_socket import DatagramOptions, DatagramSocket
from ustack.tcp.tcb import Tcb


class SocketLayer:
    """All sockets of a stack. `config` is what new sockets start from; it may be replaced.

    `owner_of(socket)` is what the stack keeps in its `user` slot for a socket, and what it names
    in its events; by default the socket itself, which `dispatch` tells.
    """

    def __init__(
        self,
        stack: Stack,
        config: TcpConfig,
        owner_of: Callable[[Socket | DatagramSocket], object] = lambda socket: socket,
    ) -> None:
        self.stack = stack
        self.config = config
        self.owner_of = owner_of
        self.sockets: set[Socket] = set()

    def socket(self, family: int, kind: int, protocol: int) -> Socket:
        """A new stream socket. `kind` may carry SOCK_NONBLOCK."""
        if family not in (c.AF_INET, c.AF_INET6):
            raise os_error(errno.EAFNOSUPPORT)
        if kind & c.SOCK_TYPE_MASK != c.SOCK_STREAM:
            raise os_error(errno.ESOCKTNOSUPPORT)
        if protocol not in (0, c.IPPROTO_TCP):
            raise os_error(errno.EPROTONOSUPPORT)
        made = Socket(self, family, SocketOptions(self.config))
        made.nonblocking = bool(kind & c.SOCK_NONBLOCK)
        self.sockets.add(made)
        return made

    def datagram_socket(self, family: int, kind: int, protocol: int) -> DatagramSocket:
        """A new datagram socket. `kind` may carry SOCK_NONBLOCK."""
        if family not in (c.AF_INET, c.AF_INET6):
            raise os_error(errno.EAFNOSUPPORT)
        if protocol not in (0, c.IPPROTO_UDP):
            raise os_error(errno.EPROTONOSUPPORT)
        made = DatagramSocket(self.stack, self.owner_of, family, DatagramOptions(self.config))
        made.nonblocking = bool(kind & c.SOCK_NONBLOCK)
        return made

    def dispatch(self, events: Iterable[tuple[Tcb | Listener | UdpPort, int]]) -> None:
        """Tells the sockets what `Stack.take_events` says."""
        for subject, flags in events:
            user = subject.user
            if isinstance(user, Socket | DatagramSocket):
                user.notify(flags)
