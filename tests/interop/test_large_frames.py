"""Text to the kernel in frames of more than 64 KiB (BIG TCP), as without a capture."""

import asyncio
import errno
import os
import random
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop.in_process import ADDRESSES, INTERFACE
from tests.interop.kernel_side import HANG_GUARD_S, connect, digest_of_rest
from tests.interop.serving import USTACK_IPV4
from ustack.device.tun import BIG_PACKET, TunDevice
from ustack.runtime.network import Network
from ustack.wire import Buffer, virtio
from ustack.wire.ipv4 import MAX_PACKET

pytestmark = pytest.mark.interop

TEXT = random.Random(6).randbytes(48 << 20)
PORT = 80
FAR = "10.8.0.2"  # beyond the kernel, which forwards


class NotingTun(TunDevice):
    """A TUN that notes how large the frames are, and has `memory` for so large ones."""

    def __init__(self) -> None:
        super().__init__(INTERFACE)
        self.largest = 0
        self.memory = BIG_PACKET
        self.refused = 0

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        length = sum(map(len, parts))
        if length > self.memory:
            self.refused += 1
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "writev", no_memory)
                return super().write(parts, now)
        self.largest = max(self.largest, length)
        return super().write(parts, now)


def no_memory(descriptor: int, parts: Sequence[Buffer]) -> int:
    raise OSError(errno.ENOBUFS, "No buffer space available")


@asynccontextmanager
async def sender() -> AsyncIterator[NotingTun]:
    """A server that sends TEXT to whoever connects."""
    device = NotingTun()
    if device.gso_max <= MAX_PACKET:
        device.close()
        pytest.skip("BIG TCP over IPv4 needs Linux 6.3")
    device.configure(ADDRESSES)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(TEXT)
        writer.write_eof()
        await reader.read()
        writer.close()

    async with asyncio.timeout(HANG_GUARD_S), Network(device, ADDRESSES) as network:
        await network.start_server(serve, port=PORT)
        yield device


def fetch() -> tuple[int, str]:
    """What a kernel socket of this thread's namespace gets."""
    with connect(USTACK_IPV4, PORT) as connection:
        return digest_of_rest(connection)


def test_the_kernel_takes_them() -> None:
    async def run() -> None:
        async with sender() as device:
            assert await asyncio.to_thread(fetch) == (len(TEXT), sha256(TEXT).hexdigest())
            assert device.largest > 2 * MAX_PACKET
            assert not device.write_errors

    asyncio.run(run())


def test_without_memory_for_them_the_text_goes_in_smaller_ones() -> None:
    async def run() -> None:
        async with sender() as device:
            device.memory = 2 * MAX_PACKET
            assert await asyncio.to_thread(fetch) == (len(TEXT), sha256(TEXT).hexdigest())
            assert 0 < device.refused < 10
            assert device.gso_max == MAX_PACKET

    asyncio.run(run())


@contextmanager
def far_host() -> Iterator[int]:
    """A namespace behind this one, which forwards to it; its process."""
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        inside = f"nsenter --target {holder.pid} --net"
        here = Path("/proc/thread-self/ns/net").readlink()
        while Path(f"/proc/{holder.pid}/ns/net").readlink() == here:
            time.sleep(0.001)
        for command in (
            "ip link add near0 type veth peer name far0",
            f"ip link set far0 netns {holder.pid}",
            "ip address add 10.8.0.1/24 dev near0",
            "ip link set near0 up",
            f"{inside} ip address add {FAR}/24 dev far0",
            f"{inside} ip link set far0 up",
            f"{inside} ip route add default via 10.8.0.1",
        ):
            subprocess.run(command.split(), check=True)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        yield holder.pid
        holder.stdin.close()


def test_the_kernel_forwards_them() -> None:
    client_there = f"nsenter --target {{}} --net nc -N {USTACK_IPV4} {PORT}"

    async def run(pid: int) -> None:
        async with sender() as device:
            client = await asyncio.create_subprocess_exec(
                *client_there.format(pid).split(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
            )
            received, _ = await client.communicate()
            assert sha256(received).digest() == sha256(TEXT).digest()
            assert device.largest > MAX_PACKET + virtio.HEADER_LEN

    with far_host() as pid:
        asyncio.run(run(pid))
