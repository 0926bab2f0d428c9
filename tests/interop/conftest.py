"""Every interop test runs in a network namespace of its own, with the loopback up and nothing else.

Its counters, ports and interfaces are its own too, so tests can run side by side.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import namespace
from tests.interop.serving import Serve, ustack_serve

PING_GROUPS = "0 0"  # our group may open ICMP sockets


@pytest.fixture(autouse=True)
def private_network() -> Iterator[None]:
    """This thread, and every process and thread it starts, is in an empty network namespace."""
    libc = ctypes.CDLL(None)
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        assert libc.unshare(namespace.CLONE_NEWNET) == 0
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        Path("/proc/sys/net/ipv4/ping_group_range").write_text(PING_GROUPS)
        yield
        assert libc.setns(outside, namespace.CLONE_NEWNET) == 0
    finally:
        os.close(outside)


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Starts `ustack serve`: `with serve("--impair", "loss=2%", offload=False) as serving`."""
    return partial(ustack_serve, tmp_path)
