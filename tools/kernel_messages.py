"""Control messages of the kernel as those of ustack: for tools/drill_kernel.py."""

import struct
import sys

from ustack.drill.constants import CONSTANTS
from ustack.stack.error_queue import ControlMessage, ExtendedError, Stamp

CONTROL_SIZE = 1024  # bytes; room for all messages of one recvmsg()
INT = 4
_EXTENDED_ERROR = struct.Struct("=IBBBxII")  # struct sock_extended_err
# enum of SCM_TIMESTAMPING_OPT_STATS (linux/tcp.h), from 1
_ATTRIBUTES = """BUSY RWND_LIMITED SNDBUF_LIMITED DATA_SEGS_OUT TOTAL_RETRANS PACING_RATE
    DELIVERY_RATE SND_CWND REORDERING MIN_RTT RECUR_RETRANS DELIVERY_RATE_APP_LMT SNDQ_SIZE CA_STATE
    SND_SSTHRESH DELIVERED DELIVERED_CE BYTES_SENT BYTES_RETRANS DSACK_DUPS REORD_SEEN SRTT
    TIMEOUT_REHASH BYTES_NOTSENT EDT TTL REHASH""".split()
_ATTRIBUTE = struct.Struct("=HH")  # length with this header, type
_TIMESPEC = struct.Struct("=qq")


def control_message(level: int, kind: int, data: bytes, epoch_us: int) -> ControlMessage:
    """A cmsg as the kernel wrote it. `epoch_us`: the wall clock when the test began."""
    if kind == CONSTANTS["SCM_TIMESTAMPING"] and level == CONSTANTS["SOL_SOCKET"]:
        seconds, nanoseconds = _TIMESPEC.unpack_from(data)
        at_us = seconds * 1_000_000 + nanoseconds // 1000
        return ControlMessage(level, kind, Stamp(at_us - epoch_us if at_us else 0))
    if (level, kind) in (
        (CONSTANTS["SOL_IP"], CONSTANTS["IP_RECVERR"]),
        (CONSTANTS["SOL_IPV6"], CONSTANTS["IPV6_RECVERR"]),
    ):
        return ControlMessage(level, kind, ExtendedError(*_EXTENDED_ERROR.unpack_from(data)))
    if (level, kind) == (CONSTANTS["SOL_SOCKET"], CONSTANTS["SCM_TIMESTAMPING_OPT_STATS"]):
        return ControlMessage(level, kind, _attributes(data))
    return ControlMessage(level, kind, int.from_bytes(data[:INT], sys.byteorder))


def _attributes(data: bytes) -> dict[str, int]:
    """Netlink attributes by name."""
    found: dict[str, int] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if 1 <= kind <= len(_ATTRIBUTES):
            value = data[at + _ATTRIBUTE.size : at + length]
            found[f"TCP_NLA_{_ATTRIBUTES[kind - 1]}"] = int.from_bytes(value, sys.byteorder)
        at += (max(length, _ATTRIBUTE.size) + 3) & ~3
    return found
