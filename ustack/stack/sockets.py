"""POSIX stream sockets over a `Stack`, sans-IO: errno, blocking and readiness as Linux has them.

How calls block is in `socket_base`.
POSIX.1-2017 socket pages; tcp(7), socket(7), accept(2), connect(2), poll(2) where it is silent.
"""

import errno
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from ustack.errors import ConnectionReset, UsageError, os_error
from ustack.stack import socket_constants as c
from ustack.stack.connection_options import connection_option
from ustack.stack.error_queue import ControlMessage
from ustack.stack.listener import Listener
from ustack.stack.md5_option import check_family
from ustack.stack.notices import Notices, arrival
from ustack.stack.send_room import is_writable, send_room
from ustack.stack.socket_address import ANY, overlap, unmapped
from ustack.stack.socket_base import (
    Call,
    Received,
    SocketBase,
    deadline_after,
    take_notice,
)
from ustack.stack.socket_options import SocketOptions
from ustack.stack.stack import Stack
from ustack.tcp.ack_policy import begin_dialogue
from ustack.tcp.fast_open import CLIENT
from ustack.tcp.state import CLOSING, FIN_WAIT_1, LAST_ACK, SYN_RECEIVED, SYN_SENT
from ustack.tcp.tcb import CLOSED_EVENT, CORK, MORE, SOFT_ERROR, UNCORKED, Endpoint, Tcb
from ustack.tcp.user_calls import TcpInfo, cork, urgent_pending
from ustack.wire import Buffer

__all__ = ["Call", "Received", "Socket"]

MARKING = c.MSG_EOR | c.MSG_ZEROCOPY
DISCARD = 1 << 20  # bytes taken at a time by MSG_TRUNC
IN_HANDSHAKE = (SYN_SENT, SYN_RECEIVED)
_FAST_OPEN_OPTIONS = (c.TCP_FASTOPEN, c.TCP_FASTOPEN_CONNECT, c.TCP_FASTOPEN_NO_COOKIE)
FIN_UNACKNOWLEDGED = (FIN_WAIT_1, CLOSING, LAST_ACK)


class Layer(Protocol):
    """What a socket knows of the `SocketLayer` that it belongs to."""

    stack: Stack
    sockets: "set[Socket]"

    def owner_of(self, socket: "Socket", /) -> object:
        """What the stack keeps in its `user` slot for `socket`."""


class Socket(SocketBase):
    """One stream socket. Made by `SocketLayer.socket` and by `accept`."""

    def __init__(self, layer: Layer, family: int, options: SocketOptions) -> None:
        super().__init__(family, options)
        self.owner: object = layer.owner_of(self)
        self.bound: Endpoint | None = None
        self.tcb: Tcb | None = None
        self._postponed: Endpoint | None = None  # TCP_FASTOPEN_CONNECT: until the first text
        self.listener: Listener | None = None
        self._layer = layer
        self._stack = layer.stack
        self._connecting = False  # connect() has begun and has not reported its end
        self._shut_read = self._shut_write = False
        self._notices: Notices | None = None  # from the first send that asks for any

    # Opening

    def bind(self, address: str, port: int) -> None:
        """The socket has this local address; "" is every address, port 0 any free one."""
        tcb = self.tcb
        over = tcb is not None and tcb.closed
        bound = self.bound is not None and not (over and tcb is not None and tcb.passive)
        if (
            bound or self.listener is not None or (tcb is not None and not over)
        ):  # Linux: what accept() had bound ends with it
            raise os_error(errno.EINVAL)
        self.bound = Endpoint(unmapped(address), port)
        if port and any(self._excludes(other) for other in self._layer.sockets):
            self.bound = None
            raise os_error(errno.EADDRINUSE)

    def _excludes(self, other: "Socket") -> bool:
        """Both cannot be bound to this address (socket(7) SO_REUSEADDR, SO_REUSEPORT)."""
        mine, theirs = self.bound, other.bound
        if other is self or mine is None or theirs is None or other.tcb is not None:
            return False
        reused = self.options.reuse_address and other.options.reuse_address
        shared = self.options.reuse_port and other.options.reuse_port
        return overlap(mine, theirs) and not (shared or (reused and other.listener is None))

    def listen(self, backlog: int, now: int) -> None:
        """Connections to the bound address are taken. Calling it again changes nothing."""
        if self.tcb is not None:
            raise os_error(errno.EINVAL)
        if self.listener is not None:
            return
        bound = self.bound or ANY
        self.listener = self._stack.listen(
            bound.port,
            now,
            address=bound.address or None,
            backlog=max(1, backlog),
            config=self.options.config,
        )
        self.listener.user = self.owner

    def accept(self, flags: int, now: int) -> Call["Socket"]:
        """The next connection. `flags`: SOCK_NONBLOCK."""
        deadline = deadline_after(self.options.receive_timeout_us, now)
        while True:
            if self.listener is None:
                raise os_error(errno.EINVAL)
            tcb = self._stack.accept(self.listener)
            if tcb is not None:
                break
            now = yield from self._block(0, now, deadline)
        child = Socket(self._layer, self.family, self.options.copy())
        child.options.config = replace(
            child.options.config, defer_accept=0, md5_keys=tcb.config.md5_keys
        )
        child.nonblocking = bool(flags & c.SOCK_NONBLOCK)
        child.tcb = tcb
        tcb.user = child.owner
        child.bound = tcb.local
        if tcb.closed:
            child._ended()
        self._layer.sockets.add(child)
        return child

    def connect(self, address: str, port: int, now: int) -> Call[None]:
        """The connection to that address is open."""
        already = self.tcb is not None and not self._connecting
        if self.listener is not None or already or self._postponed is not None:
            raise os_error(errno.EISCONN)
        if self.tcb is None:
            asks = self.options.fast_open_connect
            if asks and self._may_postpone(unmapped(address), now):
                self._postponed = Endpoint(unmapped(address), port)
                return
            self._open(unmapped(address), port, now, b"" if asks else None)
            self._connecting = True
            self._shut_read = self._shut_write = False
            if self.nonblocking:
                raise os_error(errno.EINPROGRESS)
        elif self._in_handshake() and self.nonblocking:
            raise os_error(errno.EALREADY)
        yield from self._await_handshake(now)

    def _await_handshake(self, now: int) -> Call[int]:
        """The connection is open; returns the time."""
        deadline = deadline_after(self.options.send_timeout_us, now)
        while self._in_handshake():
            if deadline is not None and now >= deadline:
                raise os_error(errno.EINPROGRESS)
            now = yield deadline
        self._connecting = False
        if self.tcb is None:  # shutdown() gave it up meanwhile
            raise os_error(self._take_error() or errno.ECONNABORTED)
        if self.tcb.closed:
            self.tcb = None  # a failed socket may be connected again
            raise os_error(self._take_error() or errno.ECONNABORTED)
        return now

    def _may_postpone(self, address: str, now: int) -> bool:
        """The first text may go with the SYN, so that waits for it (TCP_FASTOPEN_CONNECT)."""
        bound = self.bound or ANY
        return self._stack.may_send_on_syn(address, bound.address, self.options.config, now)

    def send_to(self, address: str, port: int, data: Buffer, flags: int, now: int) -> Call[int]:
        """sendto() with MSG_FASTOPEN: connects and sends at once (RFC 7413, tcp(7))."""
        if not (address and self._stack.config.fast_open & CLIENT):
            raise os_error(errno.EOPNOTSUPP)
        if self._connecting and not self._in_handshake():  # Linux: this ends the connect(), too
            now = yield from self._await_handshake(now)
            return (yield from self.send(data, flags & ~c.MSG_FASTOPEN, now))
        if self.tcb is not None or self.listener is not None:
            raise os_error(errno.EALREADY if self._in_handshake() else errno.EISCONN)
        if self._postponed is not None:
            address, port = self._postponed
            self._postponed = None
        self._open(unmapped(address), port, now, data)
        self._connecting = True
        self._shut_read = self._shut_write = False
        assert self.tcb is not None
        taken = len(self.tcb.send_buffer)
        if self._nonblocking(flags):
            if taken:
                return taken
            raise os_error(errno.EINPROGRESS)
        view = memoryview(data)
        if taken < len(data):  # what follows the handshake at once, so that the ACK can ride on it
            taken += self._stack.send(self.tcb, view[taken:], now)
        now = yield from self._await_handshake(now)
        if taken == len(data):
            return taken
        return taken + (yield from self.send(view[taken:], flags & ~c.MSG_FASTOPEN, now))

    def _open(self, address: str, port: int, now: int, fast_open: Buffer | None = None) -> None:
        bound = self.bound or ANY
        try:
            self.tcb = self._stack.connect(
                address,
                port,
                now,
                local_address=bound.address or None,
                local_port=bound.port,
                config=self.options.config,
                fast_open=fast_open,
            )
        except UsageError:
            raise os_error(errno.EINVAL) from None
        self.tcb.user = self.owner
        if not self.options.quick_ack:
            self._stack.quick_ack(self.tcb, 0)

    def disconnect(self, now: int) -> None:
        """connect() to AF_UNSPEC: the connection is aborted, the socket is as if new."""
        if self.listener is not None:
            self._stop_listening(now)
        if self.tcb is not None:
            self.tcb.user = None
            self._stack.abort(self.tcb, now)
        self._postponed = None
        self.tcb = None
        self._connecting = self._shut_read = self._shut_write = False
        self.error = 0

    # Sending

    def send(
        self,
        data: Buffer,
        flags: int,
        now: int,
        buffers: Sequence[int] = (),
        stamps: int | None = None,
    ) -> Call[int]:
        """How many bytes of `data` were taken: all of them, unless the socket is non-blocking.

        `buffers`: sizes of the pieces that `data` is gathered from (sendmsg(2)). `stamps`: bits
        that stand for those of SO_TIMESTAMPING, this once.
        """
        if self._postponed is not None:
            return (yield from self.send_to(*self._postponed, data, flags, now))
        deadline = deadline_after(self.options.send_timeout_us, now)
        while self._in_handshake():
            if self.tcb is not None and not self._nonblocking(flags):
                begin_dialogue(self.tcb)  # Linux: this text can carry the ACK of the peer's SYN
            now = yield from self._block(flags, now, deadline)
        tcb = self._sending()
        urgent = bool(flags & c.MSG_OOB)
        more = bool(flags & c.MSG_MORE)
        kind = CORK if self.options.cork else MORE if more else UNCORKED
        if tcb.cork or kind:
            cork(tcb, kind)
        return (
            yield from self._push(
                data, flags, now, deadline, urgent=urgent, more=more, buffers=buffers, stamps=stamps
            )
        )

    def _push(
        self,
        data: Buffer,
        flags: int,
        now: int,
        deadline: int | None,
        *,
        urgent: bool = False,
        more: bool = False,
        buffers: Sequence[int] = (),
        stamps: int | None = None,
    ) -> Call[int]:
        """Hand `data` to the stack, waiting for room where that is allowed."""
        view = memoryview(data)
        sent = 0
        waited = False
        while True:
            try:
                tcb = self._sending()
            except OSError:
                if sent:
                    return sent
                raise
            rest = view[sent:] if sent else data
            # One that waits goes on when a third is free (Linux sk_stream_write_space)
            low_water = self.options.not_sent_low_water
            room = send_room(tcb, low_water) if not waited or self._writable(tcb) else 0
            sent += self._stack.send(tcb, rest, now, urgent=urgent, more=more, room=room)
            whole = sent == len(view)
            if whole or (
                sent and (self._nonblocking(flags) or (deadline is not None and now >= deadline))
            ):
                if sent and (flags & MARKING or self.options.timestamping or stamps):
                    flags = flags if whole else flags & ~c.MSG_EOR
                    self._noticing().mark(tcb, sent, flags, buffers, stamps)
                return sent
            now = yield from self._block(flags, now, deadline)
            waited = True

    def _noticing(self) -> Notices:
        if self._notices is None:
            self._notices = Notices(self.options)
        return self._notices

    def _sending(self) -> Tcb:
        """The connection, ready to take data; else the error that send() gives."""
        tcb = self.tcb
        if tcb is None or tcb.closed or self._shut_write or self.error:
            raise os_error(self._take_error() or errno.EPIPE)
        return tcb

    # Receiving

    def receive(self, size: int, flags: int, now: int) -> Call[Received]:
        """Up to `size` bytes; none at the end of the stream."""
        if flags & c.MSG_ERRQUEUE:
            return self._receive_error(size)
        if flags & c.MSG_OOB:  # RFC 6093 §4: urgent data stays inline
            raise os_error(errno.ENOTCONN if self.listener is not None else errno.EINVAL)
        target = size if flags & c.MSG_WAITALL else max(1, min(self.options.low_water, size))
        deadline = deadline_after(self.options.receive_timeout_us, now)
        got = bytearray()
        dropped = 0
        while True:
            if self._postponed is not None:
                now = yield from self._block(flags, now, deadline)
                continue
            if self.listener is not None or self.tcb is None:
                if self.error:
                    raise os_error(self._take_error())
                raise os_error(errno.ENOTCONN)
            if flags & c.MSG_PEEK:
                got[:] = self.tcb.receive_buffer.peek(size)
            elif flags & c.MSG_TRUNC:
                dropped += self._drop(size - dropped, now)
            else:
                self._fill(got, size, now)
            count = len(got) + dropped
            if count >= target or (size == 0 and self.tcb.receive_buffer.readable):
                break
            if not count and self.error and not _fin_received(self.tcb):
                raise os_error(self._take_error())
            if self._at_end():
                break
            if count and (self._nonblocking(flags) or (deadline is not None and now >= deadline)):
                break
            now = yield from self._block(flags, now, deadline)
        if flags & c.MSG_PEEK and flags & c.MSG_TRUNC:
            return Received(b"", len(got))
        control = self._queue_hint()
        if count and self.tcb is not None:
            control = arrival(self.options, self.tcb) + control
        return Received(bytes(got), len(got) + dropped, 0, control)

    def _queue_hint(self) -> tuple[ControlMessage, ...]:
        """TCP_INQ: how much is left to be read; the end of the stream counts as one byte."""
        if not self.options.tells_queue:
            return ()
        left = self.input_queue() + (self.tcb is not None and _fin_received(self.tcb))
        return (ControlMessage(c.IPPROTO_TCP, c.TCP_INQ, left),)

    def _receive_error(self, size: int) -> Received:
        """MSG_ERRQUEUE: the oldest entry of the error queue; EAGAIN."""
        self._collect()
        return take_notice(self._notices.queue if self._notices is not None else None, size)

    def _collect(self) -> None:
        """What there is to tell of sends goes into the error queue."""
        tcb = self.tcb
        if tcb is not None and tcb.marks is not None and self._notices is not None:
            self._notices.collect(tcb.marks, self.family == c.AF_INET6)

    def _fill(self, got: bytearray, size: int, now: int) -> None:
        assert self.tcb is not None
        while len(got) < size and self.tcb.receive_buffer.readable:
            got += self._stack.receive(self.tcb, size - len(got), now)

    def _drop(self, size: int, now: int) -> int:
        assert self.tcb is not None
        dropped = 0
        while dropped < size and self.tcb.receive_buffer.readable:
            dropped += len(self._stack.receive(self.tcb, min(DISCARD, size - dropped), now))
        return dropped

    def _at_end(self) -> bool:
        """Nothing more will come: the peer's FIN was read, or reading was shut down."""
        tcb = self.tcb
        if tcb is None:
            return False
        return self._shut_read or tcb.closed or _fin_received(tcb)

    # Closing

    def shutdown(self, how: int, now: int) -> None:
        """Sending (SHUT_WR), receiving (SHUT_RD) or both are over."""
        if how not in (c.SHUT_RD, c.SHUT_WR, c.SHUT_RDWR):
            raise os_error(errno.EINVAL)
        if self.listener is not None:
            if how != c.SHUT_WR:
                self._stop_listening(now)
            return
        if self._postponed is not None:  # Linux: as in SYN-SENT
            self._postponed = None
            self.error = errno.ECONNRESET
            return
        if self.tcb is None or self.tcb.closed:
            raise os_error(errno.ENOTCONN)
        if self.tcb.state is SYN_SENT:  # Linux: as connect() to AF_UNSPEC, with an error
            self.disconnect(now)
            self.error = errno.ECONNRESET
            return
        self.news += 1  # Linux: whoever polls hears of it
        if how != c.SHUT_WR:
            self._shut_read = self.tcb.deaf = True
        if how != c.SHUT_RD and not self._shut_write:
            self._shut_write = True
            self._stack.shutdown(self.tcb, now)

    def close(self, now: int) -> Call[None]:
        """The socket is gone. With SO_LINGER and a time, waits for the peer to acknowledge."""
        self.closed = True
        self._layer.sockets.discard(self)
        if self.listener is not None:
            self._stop_listening(now)
        tcb = self.tcb
        if tcb is None:
            return
        linger = self.options.linger_us
        if linger == 0 and not tcb.closed:
            self._stack.abort(tcb, now)
        else:
            self._stack.close(tcb, now)
        deadline = now + (linger or 0)
        while tcb.state in FIN_UNACKNOWLEDGED and now < deadline:
            now = yield deadline

    def _stop_listening(self, now: int) -> None:
        assert self.listener is not None
        self._stack.close_listener(self.listener, now)
        self.listener = None

    # Readiness

    def poll(self, now: int) -> int:
        """The POLL* bits that hold now, as Linux's tcp_poll() computes them."""
        if self.listener is not None:
            return c.POLLIN | c.POLLRDNORM if self.listener.queue else 0
        if self._postponed is not None:
            return c.POLLOUT | c.POLLWRNORM  # so that the first text comes
        tcb = self.tcb
        over = tcb is None or tcb.closed
        read_over = tcb is not None and (self._at_end() or over)
        write_over = self._shut_write or (tcb is not None and over)
        self._collect()
        told = self._notices is not None and len(self._notices.queue)
        mask = c.POLLERR if self.error or told else 0
        if over or (read_over and write_over):
            mask |= c.POLLHUP
        if read_over:
            mask |= c.POLLIN | c.POLLRDNORM | c.POLLRDHUP
        if tcb is None or (over and not tcb.receive_buffer.readable):
            return mask | c.POLLOUT | c.POLLWRNORM
        if _opening(tcb):
            return mask
        if tcb.receive_buffer.readable >= self.options.low_water:
            mask |= c.POLLIN | c.POLLRDNORM
        if write_over or self._writable(tcb):
            mask |= c.POLLOUT | c.POLLWRNORM
        if urgent_pending(tcb) and tcb.rcv.up is not None and tcb.rcv.up <= tcb.rcv.nxt:
            mask |= c.POLLPRI  # Linux: once the last urgent octet is there
        return mask

    def _writable(self, tcb: Tcb) -> bool:
        low_water = self.options.not_sent_low_water
        if low_water and 2 * max(0, tcb.send_buffer.end - tcb.snd.nxt) >= low_water:
            return False
        return is_writable(tcb)

    def input_queue(self) -> int:
        """SIOCINQ: bytes that can be read now."""
        if self.listener is not None:
            raise os_error(errno.EINVAL)
        return 0 if self.tcb is None else self.tcb.receive_buffer.readable

    def output_queue(self) -> int:
        """SIOCOUTQ: bytes written and not acknowledged yet, a FIN counted as one."""
        if self.listener is not None:
            raise os_error(errno.EINVAL)
        tcb = self.tcb
        if tcb is None or tcb.closed or _opening(tcb):
            return 0
        unacknowledged_fin = tcb.fin_queued and (tcb.snd.fin is None or tcb.snd.una <= tcb.snd.fin)
        return len(tcb.send_buffer) + unacknowledged_fin

    def unsent_queue(self) -> int:
        """SIOCOUTQNSD: bytes written and not sent even once."""
        if self.listener is not None:
            raise os_error(errno.EINVAL)
        tcb = self.tcb
        if tcb is None or tcb.closed:
            return 0
        return max(0, tcb.send_buffer.end - tcb.snd.nxt)

    def info(self, now: int) -> TcpInfo:
        """TCP_INFO of the connection; ENOTCONN without one."""
        if self.tcb is None:
            raise os_error(errno.ENOTCONN)
        return self._stack.status(self.tcb, now)

    # Options

    def getsockopt(self, level: int, name: int, now: int) -> int | bytes:
        """The value: an int, or bytes for a structure or a string."""
        if level == c.SOL_SOCKET:
            match name:
                case c.SO_ERROR:
                    return self._take_error() or self._take_soft_error()
                case c.SO_ACCEPTCONN:
                    return int(self.listener is not None)
                case c.SO_DOMAIN:
                    return self.family
        if level == c.IPPROTO_IPV6 and self.family != c.AF_INET6:
            raise os_error(errno.EOPNOTSUPP)
        return connection_option(self._stack, self.tcb, self.options, level, name, now)

    def _take_soft_error(self) -> int:
        """What ICMP has said and no ACK has refuted yet (Linux sk_err_soft)."""
        if self.tcb is None or self.tcb.closed:
            return 0
        soft, self.tcb.soft_error = self.tcb.soft_error, None
        return getattr(soft, "errno", 0)

    def setsockopt(self, level: int, name: int, value: int | bytes, now: int) -> None:
        """Sets the option, on a live connection too."""
        if level == c.IPPROTO_IPV6 and self.family != c.AF_INET6:
            raise os_error(errno.ENOPROTOOPT)
        if (level, name) == (c.SOL_SOCKET, c.SO_TIMESTAMPING):
            self._set_timestamping(value)
        if level == c.IPPROTO_TCP and name in _FAST_OPEN_OPTIONS:
            self._check_fast_open(name)
        if level == c.IPPROTO_TCP and name in (c.TCP_MD5SIG, c.TCP_MD5SIG_EXT):
            check_family(value, self.family)
        self.options.set(level, name, value)
        tcb = self.tcb
        if self.listener is not None:
            self.listener.config = self.options.config
        if tcb is None or tcb.closed:
            return
        self._stack.configure(tcb, self.options.config, now)
        if level != c.IPPROTO_TCP:
            return
        # TCP_NODELAY lets go of what is held back, under TCP_CORK too; switched off it does nothing
        if name == c.TCP_NODELAY and value:
            self._stack.cork(tcb, UNCORKED)  # the next write finds the cork where it was
        elif name == c.TCP_CORK:
            self._stack.cork(tcb, CORK if self.options.cork else UNCORKED)
        elif name == c.TCP_QUICKACK:
            self._stack.quick_ack(tcb, self.options.quick_ack)

    def _check_fast_open(self, name: int) -> None:
        """EINVAL while it is connected, EOPNOTSUPP where connect() has no Fast Open (tcp(7))."""
        if self.tcb is not None and not self.tcb.closed:
            raise os_error(errno.EINVAL)
        if name == c.TCP_FASTOPEN_CONNECT and not self._stack.config.fast_open & CLIENT:
            raise os_error(errno.EOPNOTSUPP)

    def _set_timestamping(self, value: int | bytes) -> None:
        """Octets are counted from here on (timestamping.rst, SOF_TIMESTAMPING_OPT_ID); EINVAL."""
        if not isinstance(value, int) or not value & c.SOF_TIMESTAMPING_OPT_ID:
            return
        if self.tcb is None or self.tcb.closed:
            raise os_error(errno.EINVAL)
        if self.options.timestamping & c.SOF_TIMESTAMPING_OPT_ID:
            return
        written = value & c.SOF_TIMESTAMPING_OPT_ID_TCP
        self._noticing().first = self.tcb.send_buffer.end if written else self.tcb.snd.una

    # What happened below

    def notify(self, flags: int) -> None:
        """Events of the stack for this socket (`ustack.tcp.tcb`)."""
        self.news += 1
        if flags & SOFT_ERROR and self.options.receives_errors and self.tcb is not None:
            if isinstance(self.tcb.soft_error, OSError):  # ip(7) IP_RECVERR
                self.error = self.tcb.soft_error.errno or 0
        if flags & CLOSED_EVENT:
            self._ended()

    def _ended(self) -> None:
        """The reason becomes the pending error. Linux: a RST after the peer's FIN is EPIPE."""
        tcb = self.tcb
        if tcb is None or tcb.error is None or self.closed:
            return
        after_fin = _fin_received(tcb) and not tcb.fin_queued
        if isinstance(tcb.error, ConnectionReset) and after_fin:
            self.error = errno.EPIPE
        elif isinstance(tcb.error, OSError):
            self.error = tcb.error.errno or errno.ECONNABORTED

    # Blocking

    def _in_handshake(self) -> bool:
        return self.tcb is not None and _opening(self.tcb)


def _opening(tcb: Tcb) -> bool:
    """Nothing can be sent yet. With Fast Open, an accepted connection can at once (RFC 7413)."""
    return tcb.state in IN_HANDSHAKE and not tcb.passive


def _fin_received(tcb: Tcb) -> bool:
    """The peer's FIN is in order: nothing follows what can be read now."""
    return tcb.rcv.fin is not None and tcb.rcv.nxt > tcb.rcv.fin
