"""A reader that sleeps for half a minute costs nothing but the half minute.

All four connections stand still at the same time, so that the suite waits once.
"""

import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256

import pytest

from tests.interop.kernel_side import (
    connect,
    digest_of_rest,
    eventually,
    kernel_sockets,
    sending,
)
from tests.interop.serving import ECHO, SOURCE, Serve, Serving, tshark

pytestmark = [pytest.mark.interop, pytest.mark.slow]

STALL_S = 30.0  # the subject of the test, not a limit
DATA = random.Random(8).randbytes(32 << 20)  # more than all buffers on the way hold
PROBES = 4  # at least: the intervals double, from a fraction of a second


@contextmanager
def stalled_echo(serving: Serving, family: str) -> Iterator[socket.socket]:
    """A connection whose two directions both stand still, because nobody reads the echo."""
    with connect(serving.address(family), ECHO) as client, sending(client, DATA):
        eventually(lambda: timer(client) == "persist", "the kernel probes ustack's zero window")
        yield client


def timer(client: socket.socket) -> str:
    """The timer that the kernel runs for the connection: on, persist, keepalive, timewait, ""."""
    port = client.getsockname()[1]
    (own,) = (each for each in kernel_sockets(port) if each.local.endswith(f":{port}"))
    return own.timer.removeprefix("timer:(").partition(",")[0]


def test_both_directions_recover_after_30_seconds_of_zero_window(serve: Serve) -> None:
    with ExitStack() as stack:
        plain = stack.enter_context(serve(offload=False))
        fast = stack.enter_context(serve(tun="ustack1", network=10))
        echoes = [
            stack.enter_context(stalled_echo(serving, family))
            for serving in (plain, fast)
            for family in ("ipv4", "ipv6")
        ]
        source = stack.enter_context(connect(fast.address("ipv4"), SOURCE))
        time.sleep(STALL_S)
        for client in echoes:
            assert timer(client) == "persist"
            assert digest_of_rest(client) == (len(DATA), sha256(DATA).hexdigest())
        received = 0
        while received < len(DATA):
            received += len(source.recv(1 << 20))
        for serving in (plain, fast):
            assert serving.capture is not None
            probes = tshark(
                serving.capture,
                *("-Y", f"tcp.srcport == {ECHO} && tcp.analysis.zero_window_probe"),
            )
            assert len(probes.splitlines()) >= 2 * PROBES
