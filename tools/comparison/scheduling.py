"""Being woken in time on a busy machine, without asking for more of the CPU than others have."""

import ctypes
import os
import platform
import struct

SLICE_NS = 100_000  # the shortest that Linux allows: sched(7), since 6.12
SYS_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}  # asm/unistd.h; no wrapper in older C libraries
# struct sched_attr (linux/sched/types.h): size, policy, flags, nice, priority, runtime, ...
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")


def be_prompt() -> bool:
    """This process asks for short slices, and so is run soon after it wakes; True: it gets them.

    Linux's scheduler (EEVDF) runs the task with the earliest deadline, and a short slice has an
    early one. The share of the CPU stays that of its nice value.
    """
    number = SYS_SCHED_SETATTR.get(platform.machine())
    if number is None:
        return False
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, 0, nice, 0, SLICE_NS, 0, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(number, 0, ctypes.c_char_p(attributes), 0) == 0)
