"""netcat and `ustack nc`, each at either end."""

import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.interop.kernel_side import HANG_GUARD_S, eventually, kernel_sockets
from tests.interop.serving import (
    ECHO,
    KERNEL_IPV4,
    KERNEL_IPV6,
    USTACK,
    USTACK_IPV4,
    USTACK_IPV6,
    Serve,
    check_capture,
)

pytestmark = pytest.mark.interop

PORT = 4000
TO_USTACK = random.Random(1).randbytes(1 << 20)
TO_KERNEL = random.Random(2).randbytes(1 << 20)
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])


def conversation(command: list[str], data: bytes) -> bytes:
    """What the program printed, given `data` on its stdin; it ended with success."""
    return subprocess.run(
        command, input=data, stdout=subprocess.PIPE, check=True, timeout=HANG_GUARD_S
    ).stdout


@FAMILIES
def test_netcat_gets_its_input_back_from_the_echo(serve: Serve, family: str) -> None:
    with serve() as serving:
        command = ["nc", "-N", serving.address(family), str(ECHO)]
        assert conversation(command, TO_USTACK) == TO_USTACK


@FAMILIES
def test_ustack_nc_talks_to_a_listening_netcat(tmp_path: Path, family: str) -> None:
    capture = tmp_path / "nc.pcapng"
    address = KERNEL_IPV6 if family == "ipv6" else KERNEL_IPV4
    listening = ["nc", "-6" if family == "ipv6" else "-4", "-N", "-l", str(PORT)]
    connecting = [*USTACK, "nc", "-N", "--capture", str(capture), address, str(PORT)]
    with ThreadPoolExecutor(1) as pool:
        kernel = pool.submit(conversation, listening, TO_USTACK)
        eventually(lambda: kernel_sockets(PORT), "netcat listens")
        assert conversation(connecting, TO_KERNEL) == TO_USTACK
        assert kernel.result() == TO_KERNEL
    check_capture(capture)


@FAMILIES
def test_netcat_talks_to_a_listening_ustack_nc(tmp_path: Path, family: str) -> None:
    capture = tmp_path / "nc.pcapng"
    address = USTACK_IPV6 if family == "ipv6" else USTACK_IPV4
    listening = [*USTACK, "nc", "-N", "--capture", str(capture), "-l", str(PORT)]
    connecting = ["nc", "-N", address, str(PORT)]
    with ThreadPoolExecutor(1) as pool:
        ours = pool.submit(conversation, listening, TO_KERNEL)
        assert once_it_listens(connecting, TO_USTACK) == TO_KERNEL
        assert ours.result() == TO_USTACK
    check_capture(capture)


def once_it_listens(command: list[str], data: bytes) -> bytes:
    """The conversation, begun again while the connect fails: `ustack nc -l` prints nothing."""
    deadline = time.monotonic() + HANG_GUARD_S
    while True:
        try:
            return conversation(command, data)
        except subprocess.CalledProcessError:
            assert time.monotonic() < deadline, "netcat never connected"
