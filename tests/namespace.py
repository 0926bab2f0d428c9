"""A private network namespace around the test process, so that no test touches the machine's own.

Entered by `tests/conftest.py` before anything else runs. As root a network namespace is enough;
otherwise a user namespace comes with it, in which this process is root. Linux does that only for
a process of one thread, so pytest-xdist's controller makes the user namespace, and each worker,
root by then, a network namespace of its own.
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from fcntl import ioctl
from pathlib import Path

CLONE_NEWUSER = 0x10000000  # linux/sched.h
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS = 0x8913  # linux/sockios.h
SIOCSIFFLAGS = 0x8914
IFF_UP = 1  # linux/if.h
INTERFACE_FLAGS = struct.Struct("16sH14x")  # struct ifreq: name, flags

MACHINE = "USTACK_MACHINE_NETNS"  # environment: the namespace that nothing may configure


class NamespaceRefusedError(Exception):
    """The kernel does not let this process have what the tests need; the text tells why."""


def enter() -> None:
    """The calling thread, and what it starts from now on, is in a new namespace, loopback up.

    Raises NamespaceRefusedError, and then nothing has changed.
    """
    # Half of it may succeed (a user namespace without rights, as AppArmor of Ubuntu 24.04 gives)
    # and there is no way back, so a child tries it first.
    trial = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=False)
    if trial.returncode != 0:
        raise NamespaceRefusedError(trial.stderr.strip().rpartition("\n")[2])
    os.environ.setdefault(MACHINE, identity())
    _unshare()


def _unshare() -> None:
    uid, gid = os.geteuid(), os.getegid()
    try:
        _call_unshare(CLONE_NEWNET)
    except PermissionError:
        _call_unshare(CLONE_NEWUSER | CLONE_NEWNET)
        for file, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            Path("/proc/self", file).write_text(text)
    _raise_loopback()


def _call_unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"unshare: {os.strerror(error)}")


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = ioctl(control, SIOCGIFFLAGS, INTERFACE_FLAGS.pack(b"lo", 0))
        _, flags = INTERFACE_FLAGS.unpack(request)
        ioctl(control, SIOCSIFFLAGS, INTERFACE_FLAGS.pack(b"lo", flags | IFF_UP))


def identity() -> str:
    """Names the network namespace of the calling thread: "net:[4026531840]"."""
    return str(Path("/proc/thread-self/ns/net").readlink())


def check_private() -> None:
    """Nothing outside can be touched from here. Anything else is a bug of the test set-up."""
    assert MACHINE in os.environ, "no private namespace has been entered"
    assert identity() != os.environ[MACHINE], "this is the machine's own network namespace"


def _trial() -> None:
    try:
        _unshare()
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"no private network namespace with a TUN here: {where}{error.strerror}")


if __name__ == "__main__":
    _trial()
