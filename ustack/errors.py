"""The errors of ustack.

Each error that the API raises is also the standard-library ``OSError`` it means, with the
same errno that a kernel socket would give, so ``except ConnectionResetError`` works on both.
`MalformedPacket` is the peer's fault: it is counted inside `Stack.input` and users never see it.
"""

import errno
import os


class UStackError(Exception):
    """Base of everything that ustack raises on purpose."""


class MalformedPacket(UStackError):
    """A packet that cannot be decoded. The only exception a decoder raises.

    `reason` is a short fixed word ("ipv4-truncated"): it names the drop counter.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UsageError(UStackError, ValueError):
    """The caller asked for something that makes no sense (bad address, bad option, bad state)."""


class MalformedFile(UStackError, ValueError):
    """A capture, script or option text that cannot be read; the message names file and position."""


class _StackOSError(UStackError, OSError):
    """Carries a fixed errno; the text defaults to the system's words for it."""

    _errno = 0

    def __init__(self, detail: str | None = None) -> None:
        text = os.strerror(self._errno)
        super().__init__(self._errno, f"{text}: {detail}" if detail else text)


class ConnectionReset(_StackOSError, ConnectionResetError):
    """The peer sent RST on a synchronized connection (RFC 9293 §3.10.7.4)."""

    _errno = errno.ECONNRESET


class ConnectionRefused(_StackOSError, ConnectionRefusedError):
    """The peer answered our SYN with RST, or ICMP said that the port is unreachable."""

    _errno = errno.ECONNREFUSED


class ConnectionAborted(_StackOSError, ConnectionAbortedError):
    """The local user aborted the connection (RFC 9293 §3.10.5)."""

    _errno = errno.ECONNABORTED


class ConnectionTimedOut(_StackOSError, TimeoutError):
    """R2, the user timeout or the keep-alive limit passed without an answer (RFC 9293 §3.8.3)."""

    _errno = errno.ETIMEDOUT


class HostUnreachable(_StackOSError):
    """ICMP reported the host unreachable while the connection was being opened."""

    _errno = errno.EHOSTUNREACH


class NetworkUnreachable(_StackOSError):
    """There is no local address of the family that the remote address needs, or ICMP said so."""

    _errno = errno.ENETUNREACH


class IcmpError(UStackError, OSError):
    """Another ICMP error, with the errno that Linux gives it (icmp(7))."""

    def __init__(self, number: int) -> None:
        super().__init__(number, f"{os.strerror(number)}: ICMP")


class BrokenPipe(_StackOSError, BrokenPipeError):
    """SEND after the local side was closed for sending (RFC 9293 §3.10.2, "connection closing")."""

    _errno = errno.EPIPE


class AddressInUse(_StackOSError):
    """The local port, or the whole four-tuple, is taken by another socket."""

    _errno = errno.EADDRINUSE


class AddressNotAvailable(_StackOSError):
    """The local address is not ours, or every ephemeral port towards this peer is held."""

    _errno = errno.EADDRNOTAVAIL


class NotConnected(_StackOSError):
    """The call needs a connection and there is none (RFC 9293 §3.10.2)."""

    _errno = errno.ENOTCONN


class NoBufferSpace(_StackOSError):
    """A table of the stack has reached its cap."""

    _errno = errno.ENOBUFS


def os_error(number: int) -> OSError:
    """The standard-library error for an errno, with the system's words for it.

    For calls that answer as POSIX sockets do: `OSError` picks its own subclass by the number.
    """
    return OSError(number, os.strerror(number))
