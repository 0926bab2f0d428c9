"""Socket options whose value is that of the live connection (getsockopt(2), tcp(7), ip(7))."""

import errno
from ipaddress import ip_address
from struct import Struct

from ustack.errors import os_error
from ustack.stack import socket_constants as c
from ustack.stack.send_room import memory_info
from ustack.stack.socket_options import SocketOptions
from ustack.stack.stack import Stack
from ustack.tcp.ack_policy import is_dialogue
from ustack.tcp.buffer_sizes import TIMESTAMP_OPTION
from ustack.tcp.congestion.bbr import Bbr
from ustack.tcp.congestion.bbr_states import GAINS
from ustack.tcp.handshake import default_mss, timestamp
from ustack.tcp.md5_signature import signature_size
from ustack.tcp.tcb import Tcb

# struct tcp_bbr_info: low and high half of the bandwidth (bytes/s), µs, pacing and cwnd gain
_BBR_INFO = Struct("<IIIII")
BBR_UNIT = 256  # a gain of 1


def connection_option(
    stack: Stack, tcb: Tcb | None, options: SocketOptions, level: int, name: int, now: int
) -> int | bytes:
    """The value as `tcb` has it, else as `options` have it; ENOTCONN, ENOPROTOOPT."""
    if (level, name) in ((c.IPPROTO_IP, c.IP_MTU), (c.IPPROTO_IPV6, c.IPV6_MTU)):
        if tcb is None:
            raise os_error(errno.ENOTCONN)
        remote = ip_address(tcb.remote.address).packed
        return stack.path_mtus.get(remote, stack.config.mtu, now)
    if (level, name) == (c.SOL_SOCKET, c.SO_MEMINFO):
        sizes = [
            connection_option(stack, tcb, options, c.SOL_SOCKET, each, now)
            for each in (c.SO_RCVBUF, c.SO_SNDBUF)
        ]
        receive_size, send_size = (size for size in sizes if isinstance(size, int))
        return memory_info(tcb, receive_size, send_size)
    if tcb is not None:
        match level, name:
            case c.SOL_SOCKET, c.SO_SNDBUF if not options.send_buffer_fixed:
                return tcb.send_buffer.limit
            case c.SOL_SOCKET, c.SO_RCVBUF if not options.receive_buffer_fixed:
                return 2 * tcb.receive_buffer.limit
            case c.IPPROTO_TCP, c.TCP_MAXSEG:
                if tcb.options_agreed:
                    return tcb.snd.mss + signature_size(tcb)
                # Linux: without an answer, the default less the timestamps that it has offered
                size = default_mss(tcb.fixed_headers)
                return size - TIMESTAMP_OPTION if tcb.config.timestamps else size
            case c.IPPROTO_TCP, c.TCP_QUICKACK:
                return int(not is_dialogue(tcb))
            case c.IPPROTO_TCP, c.TCP_TIMESTAMP:
                return timestamp(tcb, now)
            case c.IPPROTO_TCP, c.TCP_CC_INFO:
                return congestion_info(tcb)
    return options.get(level, name)


def congestion_info(tcb: Tcb) -> bytes:
    """TCP_CC_INFO: only BBR has something to tell, in the structure of Linux."""
    control = tcb.congestion
    if not isinstance(control, Bbr):
        return b""
    gains = (gain * BBR_UNIT // 100 for gain in GAINS[control.phase])
    return _BBR_INFO.pack(
        control.bw & 0xFFFF_FFFF, control.bw >> 32, min(control.min_rtt, 0xFFFF_FFFF), *gains
    )
