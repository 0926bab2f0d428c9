"""getsockopt and setsockopt: which option is which field of `TcpConfig`, and in which unit.

Owns ranges and errno. An option that ustack has no behaviour for is ENOPROTOOPT, as on a kernel
built without it, so that no program believes in something that does not happen; but hints, and
options of what is not here (routes, processors, thin streams), are kept and given back. Ranges and
doubling of buffer sizes are those of Linux (socket(7), tcp(7), ip(7)).
"""

import errno
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ustack.config import SECOND, TcpConfig
from ustack.errors import os_error
from ustack.stack import socket_constants as c
from ustack.stack.md5_option import with_key
from ustack.tcp.congestion import REGISTRY
from ustack.tcp.fast_open import KEY_SIZE

MIN_SNDBUF = 4608  # bytes; Linux SOCK_MIN_SNDBUF
MIN_RCVBUF = 2304  # bytes; Linux SOCK_MIN_RCVBUF
MAX_BUFFER = 1 << 30
MAX_KEEPALIVE_SECONDS = 32767  # Linux MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL
MAX_KEEPALIVE_PROBES = 127  # Linux MAX_TCP_KEEPCNT
MAX_SYN_RETRIES = 127  # Linux MAX_TCP_SYNCNT
MAX_LINGER2_SECONDS = 120  # Linux TCP_FIN_TIMEOUT_MAX
MIN_MSS = 88  # Linux TCP_MIN_MSS, what TCP_MAXSEG takes
MAX_MSS = 32767  # Linux MAX_TCP_WINDOW
MAX_BACKLOG = 4096  # Linux net.core.somaxconn
DEFAULT_TTL = 64  # RFC 9293 §3.9.2 leaves it to us; what -1 goes back to

DEFAULT_MSS = 536  # bytes; RFC 9293 §3.7.1: what TCP_MAXSEG says before there is a connection
CONGESTION_NAME_SIZE = 16  # Linux TCP_CA_NAME_MAX
MAX_TIMEOUTS = 255  # Linux counts them in a byte
MAX_RTO_SECONDS = 120
DELACK_MAX_US = 200_000  # Linux TCP_DELACK_MAX
_LINGER = struct.Struct("=ii")  # struct linger: on, seconds
_TIMEVAL = struct.Struct("=qq")  # struct timeval: seconds, µs

Key = tuple[int, int]  # level, name


@dataclass(slots=True, frozen=True)
class ConfigOption:
    """An integer option that is a field of TcpConfig.

    `low`..`high`: what setsockopt takes, else EINVAL. `write` and `read` translate units.
    """

    low: int
    high: int
    write: Callable[[TcpConfig, int], TcpConfig]
    read: Callable[[TcpConfig], int]


def _user_timeout(config: TcpConfig, milliseconds: int) -> TcpConfig:
    return replace(config, user_timeout_us=milliseconds * 1000 or None)


def _linger2(config: TcpConfig, seconds: int) -> TcpConfig:
    """Negative: do not wait in FIN-WAIT-2 at all; 0: as long as by default."""
    if seconds < 0:
        return replace(config, fin_wait_2_timeout_us=-1)
    time_us = min(seconds, MAX_LINGER2_SECONDS) * SECOND
    return replace(config, fin_wait_2_timeout_us=time_us or TcpConfig().fin_wait_2_timeout_us)


def _max_pacing_rate(config: TcpConfig, rate: int) -> TcpConfig:
    """Bytes/s, -1: no limit. Linux: what was paced once stays paced."""
    if rate == -1:
        return replace(config, max_pacing_rate=None)
    return replace(config, max_pacing_rate=rate & 0xFFFF_FFFF, pacing=True)


def _read_max_pacing_rate(config: TcpConfig) -> int:
    rate = config.max_pacing_rate
    if rate is None:
        return -1
    return rate - (1 << 32) if rate > _INT_MAX else rate


def _timeouts_in(seconds: int) -> int:
    """Of a SYN,ACK, until so many seconds have passed: Linux counts deferral in them."""
    timeouts = elapsed = 0
    while elapsed < seconds and timeouts < MAX_TIMEOUTS:
        elapsed += _timeout(timeouts)
        timeouts += 1
    return timeouts


def _timeout(number: int) -> int:
    """How long the timeout after so many others is, s (RFC 6298 §5.5, tcp_rto_max_ms)."""
    return min(1 << number, MAX_RTO_SECONDS)


_INT_MAX = 0x7FFF_FFFF
_TOS = ConfigOption(
    0, 255, lambda k, v: replace(k, dscp=v >> 2), lambda k: k.dscp << 2
)  # the ECN bits belong to TCP (Linux: INET_ECN_MASK)
_TTL = ConfigOption(
    -1, 255, lambda k, v: replace(k, ttl=DEFAULT_TTL if v <= 0 else v), lambda k: k.ttl
)
_DISCOVER = ConfigOption(  # what is read is what was written: see _WRITTEN
    0,
    5,
    lambda k, v: replace(k, path_mtu_discovery=v != c.IP_PMTUDISC_DONT),
    lambda k: int(k.path_mtu_discovery),
)

CONFIG_OPTIONS: Mapping[Key, ConfigOption] = {
    (c.SOL_SOCKET, c.SO_KEEPALIVE): ConfigOption(
        -_INT_MAX - 1,
        _INT_MAX,
        lambda k, v: replace(k, keep_alive=bool(v)),
        lambda k: int(k.keep_alive),
    ),
    (c.SOL_SOCKET, c.SO_MAX_PACING_RATE): ConfigOption(
        -_INT_MAX - 1, _INT_MAX, _max_pacing_rate, _read_max_pacing_rate
    ),
    (c.IPPROTO_TCP, c.TCP_NODELAY): ConfigOption(
        -_INT_MAX - 1, _INT_MAX, lambda k, v: replace(k, nagle=not v), lambda k: int(not k.nagle)
    ),
    (c.IPPROTO_TCP, c.TCP_KEEPIDLE): ConfigOption(
        1,
        MAX_KEEPALIVE_SECONDS,
        lambda k, v: replace(k, keep_alive_idle_us=v * SECOND),
        lambda k: k.keep_alive_idle_us // SECOND,
    ),
    (c.IPPROTO_TCP, c.TCP_KEEPINTVL): ConfigOption(
        1,
        MAX_KEEPALIVE_SECONDS,
        lambda k, v: replace(k, keep_alive_interval_us=v * SECOND),
        lambda k: k.keep_alive_interval_us // SECOND,
    ),
    (c.IPPROTO_TCP, c.TCP_KEEPCNT): ConfigOption(
        1,
        MAX_KEEPALIVE_PROBES,
        lambda k, v: replace(k, keep_alive_probes=v),
        lambda k: k.keep_alive_probes,
    ),
    (c.IPPROTO_TCP, c.TCP_SYNCNT): ConfigOption(
        1,
        MAX_SYN_RETRIES,
        lambda k, v: replace(k, syn_retransmissions=v),
        lambda k: k.syn_retransmissions,
    ),
    (c.IPPROTO_TCP, c.TCP_DEFER_ACCEPT): ConfigOption(
        -_INT_MAX - 1,
        _INT_MAX,
        lambda k, v: replace(k, defer_accept=_timeouts_in(v)),
        lambda k: sum(map(_timeout, range(k.defer_accept))),
    ),
    (c.IPPROTO_TCP, c.TCP_LINGER2): ConfigOption(
        -_INT_MAX - 1, _INT_MAX, _linger2, lambda k: k.fin_wait_2_timeout_us // SECOND
    ),
    (c.IPPROTO_TCP, c.TCP_USER_TIMEOUT): ConfigOption(
        0, _INT_MAX, _user_timeout, lambda k: (k.user_timeout_us or 0) // 1000
    ),
    (c.IPPROTO_TCP, c.TCP_RTO_MAX_MS): ConfigOption(
        1000,
        120_000,
        lambda k, v: replace(k, max_rto_us=v * 1000),
        lambda k: k.max_rto_us // 1000,
    ),
    (c.IPPROTO_TCP, c.TCP_RTO_MIN_US): ConfigOption(
        1, 200_000, lambda k, v: replace(k, min_rto_us=v), lambda k: k.min_rto_us
    ),
    (c.IPPROTO_TCP, c.TCP_WINDOW_CLAMP): ConfigOption(
        -_INT_MAX - 1,
        _INT_MAX,
        lambda k, v: replace(k, window_clamp=max(v, MIN_RCVBUF // 2) if v else None),
        lambda k: k.window_clamp or 0,
    ),
    (c.IPPROTO_TCP, c.TCP_FASTOPEN): ConfigOption(
        0,
        _INT_MAX,
        lambda k, v: replace(k, fast_open_queue=min(v, MAX_BACKLOG)),
        lambda k: k.fast_open_queue,
    ),
    (c.IPPROTO_TCP, c.TCP_FASTOPEN_NO_COOKIE): ConfigOption(
        0,
        1,
        lambda k, v: replace(k, fast_open_no_cookie=bool(v)),
        lambda k: int(k.fast_open_no_cookie),
    ),
    (c.IPPROTO_IP, c.IP_TOS): _TOS,
    (c.IPPROTO_IP, c.IP_TTL): _TTL,
    (c.IPPROTO_IP, c.IP_MTU_DISCOVER): _DISCOVER,
    (c.IPPROTO_IPV6, c.IPV6_TCLASS): _TOS,
    (c.IPPROTO_IPV6, c.IPV6_UNICAST_HOPS): _TTL,
    (c.IPPROTO_IPV6, c.IPV6_MTU_DISCOVER): _DISCOVER,
}

# Kept and given back; either their effect is what ustack does anyway (several sockets on one port
# only differ in time, urgent data stays inline as RFC 6093 advises), or it lies outside of TCP.
STORED_OPTIONS: Mapping[Key, int] = {
    (c.SOL_SOCKET, c.SO_DEBUG): 0,
    (c.SOL_SOCKET, c.SO_REUSEADDR): 0,
    (c.SOL_SOCKET, c.SO_REUSEPORT): 0,
    (c.SOL_SOCKET, c.SO_PRIORITY): 0,
    (c.SOL_SOCKET, c.SO_MARK): 0,
    (c.SOL_SOCKET, c.SO_OOBINLINE): 0,
    (c.SOL_SOCKET, c.SO_BROADCAST): 0,
    (c.SOL_SOCKET, c.SO_DONTROUTE): 0,
    (c.SOL_SOCKET, c.SO_BUSY_POLL): 0,
    (c.SOL_SOCKET, c.SO_INCOMING_CPU): 0,
    (c.SOL_SOCKET, c.SO_TIMESTAMP): 0,
    (c.SOL_SOCKET, c.SO_RCVLOWAT): 1,
    (c.IPPROTO_TCP, c.TCP_CORK): 0,
    (c.IPPROTO_TCP, c.TCP_QUICKACK): 1,
    (c.IPPROTO_TCP, c.TCP_NOTSENT_LOWAT): 0,
    (c.IPPROTO_TCP, c.TCP_FASTOPEN_CONNECT): 0,
    (c.IPPROTO_TCP, c.TCP_INQ): 0,
    (c.IPPROTO_TCP, c.TCP_THIN_LINEAR_TIMEOUTS): 0,
    (c.IPPROTO_TCP, c.TCP_THIN_DUPACK): 0,
    (c.IPPROTO_TCP, c.TCP_SAVE_SYN): 0,
    (c.IPPROTO_TCP, c.TCP_TX_DELAY): 0,
    (c.IPPROTO_TCP, c.TCP_DELACK_MAX_US): DELACK_MAX_US,
    (c.SOL_SOCKET, c.SO_TIMESTAMPING): 0,
    (c.SOL_SOCKET, c.SO_ZEROCOPY): 0,
    (c.IPPROTO_IP, c.IP_RECVERR): 0,
    (c.IPPROTO_IP, c.IP_RECVTOS): 0,
    (c.IPPROTO_IP, c.IP_RECVTTL): 0,
    (c.IPPROTO_IP, c.IP_FREEBIND): 0,
    (c.IPPROTO_IP, c.IP_TRANSPARENT): 0,
    (c.IPPROTO_IP, c.IP_MINTTL): 0,
    (c.IPPROTO_IP, c.IP_BIND_ADDRESS_NO_PORT): 0,
    (c.IPPROTO_IPV6, c.IPV6_RECVERR): 0,
    (c.IPPROTO_IPV6, c.IPV6_V6ONLY): 0,
    (c.SOL_SOCKET, c.SO_NO_CHECK): 0,
    (c.SOL_SOCKET, c.SO_SELECT_ERR_QUEUE): 0,
    (c.SOL_SOCKET, c.SO_PREFER_BUSY_POLL): 0,
    (c.IPPROTO_IP, c.IP_PKTINFO): 0,
    (c.IPPROTO_IPV6, c.IPV6_RECVPKTINFO): 0,
    (c.IPPROTO_IPV6, c.IPV6_RECVHOPLIMIT): 0,
    (c.IPPROTO_IPV6, c.IPV6_DONTFRAG): 0,
    (c.IPPROTO_IPV6, c.IPV6_RECVTCLASS): 0,
    (c.IPPROTO_IPV6, c.IPV6_FREEBIND): 0,
}
# What setsockopt takes of them, else EINVAL
_RANGES: Mapping[Key, tuple[int, int]] = {
    (c.IPPROTO_TCP, c.TCP_FASTOPEN_CONNECT): (0, 1),
    (c.SOL_SOCKET, c.SO_ZEROCOPY): (0, 1),
    (c.SOL_SOCKET, c.SO_TIMESTAMPING): (0, c.SOF_TIMESTAMPING_MASK),
    (c.IPPROTO_TCP, c.TCP_INQ): (0, 1),
    (c.IPPROTO_TCP, c.TCP_THIN_LINEAR_TIMEOUTS): (0, 1),
    (c.IPPROTO_TCP, c.TCP_THIN_DUPACK): (0, 1),
    (c.IPPROTO_TCP, c.TCP_SAVE_SYN): (0, 2),
    (c.IPPROTO_TCP, c.TCP_DELACK_MAX_US): (1, DELACK_MAX_US),
    (c.IPPROTO_IP, c.IP_MINTTL): (0, 255),
}
# Read as they were written, although less is made of them
_WRITTEN = {(c.IPPROTO_IP, c.IP_MTU_DISCOVER), (c.IPPROTO_IPV6, c.IPV6_MTU_DISCOVER)}
# Taken and given as bytes
STRUCTURES = {
    (c.SOL_SOCKET, c.SO_LINGER),
    (c.SOL_SOCKET, c.SO_RCVTIMEO),
    (c.SOL_SOCKET, c.SO_SNDTIMEO),
    (c.SOL_SOCKET, c.SO_BINDTODEVICE),
    (c.IPPROTO_TCP, c.TCP_CONGESTION),
    (c.IPPROTO_TCP, c.TCP_FASTOPEN_KEY),
    (c.IPPROTO_TCP, c.TCP_MD5SIG),
    (c.IPPROTO_TCP, c.TCP_MD5SIG_EXT),
}
# Not for a socket without CAP_NET_ADMIN, or only in a state that ustack has not
_FORBIDDEN = {(c.IPPROTO_TCP, c.TCP_REPAIR), (c.IPPROTO_TCP, c.TCP_TIMESTAMP)}


def write_config(config: TcpConfig, key: Key, value: int) -> TcpConfig:
    """`config` with the option set; EINVAL out of range."""
    option = CONFIG_OPTIONS[key]
    if not option.low <= value <= option.high:
        raise os_error(errno.EINVAL)
    return option.write(config, value)


def doubled(value: int, minimum: int) -> int:
    """What Linux makes of SO_SNDBUF and SO_RCVBUF: twice as much, for its own bookkeeping."""
    return max(min(value, MAX_BUFFER) * 2, minimum)


class SocketOptions:
    """All options of one socket, set or not; a child takes a copy of its listener's.

    `config` is what a connection is opened with.
    """

    def __init__(self, config: TcpConfig) -> None:
        self.config = config
        self.linger_us: int | None = None  # None: SO_LINGER is off
        self.receive_timeout_us: int | None = None
        self.send_timeout_us: int | None = None
        self._stored = dict(STORED_OPTIONS)
        self._written: dict[Key, int] = {}
        self._send_buffer: int | None = None  # as getsockopt shows it
        self._receive_buffer: int | None = None

    def copy(self) -> "SocketOptions":
        """The same values, changed independently from here on."""
        other = SocketOptions(self.config)
        other.linger_us = self.linger_us
        other._stored = dict(self._stored)
        other._written = dict(self._written)
        other.receive_timeout_us = self.receive_timeout_us
        other.send_timeout_us = self.send_timeout_us
        other._send_buffer = self._send_buffer
        other._receive_buffer = self._receive_buffer
        return other

    @property
    def cork(self) -> bool:
        """TCP_CORK is on."""
        return bool(self._stored[c.IPPROTO_TCP, c.TCP_CORK])

    @property
    def send_buffer_fixed(self) -> bool:
        """SO_SNDBUF was set, or the configuration says how large it is: it does not grow."""
        return self.config.send_buffer is not None

    @property
    def receive_buffer_fixed(self) -> bool:
        """The same for SO_RCVBUF."""
        return self.config.receive_buffer is not None

    @property
    def fast_open_connect(self) -> bool:
        """connect() waits for the first text (TCP_FASTOPEN_CONNECT)."""
        return bool(self._stored[c.IPPROTO_TCP, c.TCP_FASTOPEN_CONNECT])

    @property
    def quick_ack(self) -> int:
        """TCP_QUICKACK as it was last set."""
        return self._stored[c.IPPROTO_TCP, c.TCP_QUICKACK]

    @property
    def timestamping(self) -> int:
        """SO_TIMESTAMPING, as SOF_TIMESTAMPING_* bits."""
        return self._stored[c.SOL_SOCKET, c.SO_TIMESTAMPING]

    @property
    def receives_errors(self) -> bool:
        """IP_RECVERR or IPV6_RECVERR is on: what is soft is reported, too."""
        four, six = (c.IPPROTO_IP, c.IP_RECVERR), (c.IPPROTO_IPV6, c.IPV6_RECVERR)
        return bool(self._stored[four] or self._stored[six])

    @property
    def reuse_address(self) -> bool:
        """SO_REUSEADDR is on."""
        return bool(self._stored[c.SOL_SOCKET, c.SO_REUSEADDR])

    @property
    def reuse_port(self) -> bool:
        """SO_REUSEPORT is on."""
        return bool(self._stored[c.SOL_SOCKET, c.SO_REUSEPORT])

    @property
    def zerocopy(self) -> bool:
        """SO_ZEROCOPY is on: MSG_ZEROCOPY means something."""
        return bool(self._stored[c.SOL_SOCKET, c.SO_ZEROCOPY])

    @property
    def tells_queue(self) -> bool:
        """TCP_INQ is on."""
        return bool(self._stored[c.IPPROTO_TCP, c.TCP_INQ])

    @property
    def low_water(self) -> int:
        """SO_RCVLOWAT, bytes."""
        return self._stored[c.SOL_SOCKET, c.SO_RCVLOWAT]

    @property
    def not_sent_low_water(self) -> int:
        """TCP_NOTSENT_LOWAT, bytes; 0: no limit."""
        own = self._stored[c.IPPROTO_TCP, c.TCP_NOTSENT_LOWAT]
        return own or self.config.not_sent_low_water

    def get(self, level: int, name: int) -> int | bytes:
        """The value of an option that does not depend on the connection; ENOPROTOOPT."""
        key = level, name
        match key:
            case (c.SOL_SOCKET, c.SO_TYPE):
                return c.SOCK_STREAM
            case (c.SOL_SOCKET, c.SO_PROTOCOL):
                return c.IPPROTO_TCP
            case (c.SOL_SOCKET, c.SO_SNDBUF):
                fixed = self._send_buffer or self.config.send_buffer
                return fixed or self.config.send_buffer_initial
            case (c.SOL_SOCKET, c.SO_RCVBUF):
                fixed = self._receive_buffer or self.config.receive_buffer
                return fixed or 2 * self.config.receive_buffer_initial
            case (c.SOL_SOCKET, c.SO_LINGER):
                seconds = 0 if self.linger_us is None else self.linger_us // SECOND
                return _LINGER.pack(self.linger_us is not None, seconds)
            case (c.SOL_SOCKET, c.SO_RCVTIMEO):
                return _TIMEVAL.pack(*divmod(self.receive_timeout_us or 0, SECOND))
            case (c.SOL_SOCKET, c.SO_SNDTIMEO):
                return _TIMEVAL.pack(*divmod(self.send_timeout_us or 0, SECOND))
            case (c.SOL_SOCKET, c.SO_SNDLOWAT):
                return 1
            case (c.IPPROTO_TCP, c.TCP_REPAIR):
                return 0
            case (c.IPPROTO_TCP, c.TCP_MAXSEG):
                return self.config.mss or DEFAULT_MSS
            case (c.IPPROTO_TCP, c.TCP_CONGESTION):
                return self.config.congestion.encode().ljust(CONGESTION_NAME_SIZE, b"\0")
            case (c.IPPROTO_TCP, c.TCP_FASTOPEN_KEY):
                return self.config.fast_open_key
        if key in self._written:
            return self._written[key]
        if key in CONFIG_OPTIONS:
            return CONFIG_OPTIONS[key].read(self.config)
        if key in self._stored:
            return self._stored[key]
        raise os_error(errno.ENOPROTOOPT)

    def set(self, level: int, name: int, value: int | bytes) -> None:
        """Sets the option; EINVAL for a value it cannot have, ENOPROTOOPT for an unknown one."""
        key = level, name
        if key in STRUCTURES:
            if not isinstance(value, bytes):
                raise os_error(errno.EINVAL)
            self._set_structure(key, value)
            return
        if not isinstance(value, int):
            raise os_error(errno.EINVAL)
        match key:
            case _ if key in _FORBIDDEN:
                raise os_error(errno.EPERM)
            case (c.SOL_SOCKET, c.SO_SNDBUF | c.SO_SNDBUFFORCE):
                self._send_buffer = doubled(value, MIN_SNDBUF)
                self.config = replace(self.config, send_buffer=self._send_buffer)
            case (c.SOL_SOCKET, c.SO_RCVBUF | c.SO_RCVBUFFORCE):
                self._receive_buffer = doubled(value, MIN_RCVBUF)
                self.config = replace(self.config, receive_buffer=self._receive_buffer // 2)
            case (c.IPPROTO_TCP, c.TCP_MAXSEG):
                if value and not MIN_MSS <= value <= MAX_MSS:
                    raise os_error(errno.EINVAL)
                self.config = replace(self.config, mss=value or None)
            case (c.SOL_SOCKET, c.SO_RCVLOWAT):
                most = self.config.receive_buffer or self.config.receive_buffer_max // 2
                self._stored[key] = min(value, most) or 1 if value >= 0 else most
            case _ if key in CONFIG_OPTIONS:
                self.config = write_config(self.config, key, value)
                if key in _WRITTEN:
                    self._written[key] = value
            case _ if key in self._stored:
                low, high = _RANGES.get(key, (value, value))
                if not low <= value <= high:
                    raise os_error(errno.EINVAL)
                self._stored[key] = value
            case _:
                raise os_error(errno.ENOPROTOOPT)
        if key == (c.IPPROTO_TCP, c.TCP_DELACK_MAX_US):
            self.config = replace(self.config, delayed_ack_max_us=value)

    def _set_structure(self, key: Key, value: bytes) -> None:
        match key:
            case (c.SOL_SOCKET, c.SO_LINGER):
                on, seconds = _unpacked(_LINGER, value)
                self.linger_us = seconds * SECOND if on else None
            case (c.SOL_SOCKET, c.SO_RCVTIMEO):
                self.receive_timeout_us = _timeout_us(value)
            case (c.SOL_SOCKET, c.SO_SNDTIMEO):
                self.send_timeout_us = _timeout_us(value)
            case (c.IPPROTO_TCP, c.TCP_CONGESTION):
                wanted = value.split(b"\0")[0].decode("ascii", "replace")
                if not value:
                    raise os_error(errno.EINVAL)
                if wanted not in REGISTRY:
                    raise os_error(errno.ENOENT)
                self.config = replace(self.config, congestion=wanted)
            case (c.IPPROTO_TCP, c.TCP_FASTOPEN_KEY):
                if len(value) not in (KEY_SIZE, 2 * KEY_SIZE):
                    raise os_error(errno.EINVAL)
                self.config = replace(self.config, fast_open_key=value)
            case (c.IPPROTO_TCP, c.TCP_MD5SIG | c.TCP_MD5SIG_EXT):
                extended = key[1] == c.TCP_MD5SIG_EXT
                keys = with_key(self.config.md5_keys, value, extended=extended)
                self.config = replace(self.config, md5_keys=keys)
            # SO_BINDTODEVICE: there is one device


def _unpacked(layout: struct.Struct, value: bytes) -> tuple[int, int]:
    if len(value) < layout.size:
        raise os_error(errno.EINVAL)
    first, second = layout.unpack_from(value)
    return first, second


def _timeout_us(value: bytes) -> int | None:
    """A struct timeval; 0 is for ever. EDOM: the µs are a second or more (socket(7))."""
    seconds, microseconds = _unpacked(_TIMEVAL, value)
    if not 0 <= microseconds < SECOND:
        raise os_error(errno.EDOM)
    return max(0, seconds * SECOND + microseconds) or None
