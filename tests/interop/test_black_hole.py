"""A path that swallows large packets without a word, with the kernel at the other end."""

import asyncio
import random
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop.in_process import ustack_network
from tests.interop.serving import KERNEL_IPV4, KERNEL_IPV6
from ustack.config import TcpConfig

pytestmark = pytest.mark.interop

PORT = 4001
DATA = random.Random(4821).randbytes(2 << 20)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("probing", [1, 2], ids=["after-the-hole", "from-the-start"])
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "no-offload"])
def test_text_reaches_the_kernel_through_a_black_hole(
    tmp_path: Path, family: str, probing: int, offload: bool
) -> None:
    address = KERNEL_IPV6 if family == "ipv6" else KERNEL_IPV4
    received: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()

    async def scenario() -> None:
        async with ustack_network(
            tmp_path, offload=offload, impair="mtu=1350", tcp=TcpConfig(mtu_probing=probing)
        ) as network:
            server = await asyncio.start_server(take, address, PORT)
            reader, writer = await network.open_connection(address, PORT)
            writer.write(DATA)
            writer.write_eof()
            assert await reader.read() == b""
            info = writer.get_extra_info("tcp_info")
            headers = 72 if family == "ipv6" else 52
            assert 1350 - headers - 8 <= info.snd_mss <= 1350 - headers
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    asyncio.run(scenario())
    assert sha256(received[0]).digest() == sha256(DATA).digest()


def test_the_kernel_reaches_ustack_through_one(tmp_path: Path) -> None:
    """The counterpart: its own probing finds the size that our side can hear."""
    Path("/proc/sys/net/ipv4/tcp_mtu_probing").write_text("2")

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(DATA)
        writer.close()

    async def scenario() -> None:
        async with ustack_network(tmp_path, impair="mtu=1350") as network:
            server = await asyncio.start_server(give, KERNEL_IPV4, PORT)
            reader, writer = await network.open_connection(KERNEL_IPV4, PORT)
            assert sha256(await reader.read()).digest() == sha256(DATA).digest()
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    asyncio.run(scenario())
