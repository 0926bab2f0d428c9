"""Control messages of the kernel as those of ustack: for tools/drill_kernel.py."""

import struct
import sys

from ustack.drill.constants import CONSTANTS
from ustack.stack.error_queue import ControlMessage, ExtendedError, Stamp

CONTROL_SIZE = 1024  # bytes; room for all messages of one recvmsg()
INT = 4
_EXTENDED_ERROR = struct.Struct("=IBBBxII")  # struct sock_extended_err
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
    return ControlMessage(level, kind, int.from_bytes(data[:INT], sys.byteorder))
