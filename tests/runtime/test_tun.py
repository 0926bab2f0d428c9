"""A network towards the kernel: usable when start returns, gone when it ends."""

import asyncio
import subprocess

import pytest

from tests.runtime.test_streams import echo
from ustack.errors import UsageError
from ustack.runtime.tun import tun

PORT = 7

pytestmark = pytest.mark.root


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("host", ["10.9.0.2", "fd00:9::2"])
def test_the_kernel_reaches_us_at_once(host: str, offload: bool) -> None:
    async def main() -> None:
        async with tun("ustack7", offload=offload) as network:
            await network.start_server(echo, port=PORT)
            reader, writer = await asyncio.open_connection(host, PORT)  # the kernel's
            sent = bytes(range(256)) * 4000
            writer.write(sent)
            assert await reader.readexactly(len(sent)) == sent
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


@pytest.mark.parametrize("host", ["10.9.0.1", "fd00:9::1"])
def test_we_reach_the_kernel_at_once(host: str) -> None:
    async def main() -> None:
        async with tun("ustack7") as network:
            server = await asyncio.start_server(
                lambda reader, writer: writer.close(), host, PORT
            )  # the kernel's
            reader, writer = await network.open_connection(host, PORT)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()

    asyncio.run(main())


def test_the_interface_goes_with_the_network() -> None:
    async def main() -> None:
        async with tun("ustack7", ["10.9.0.2/24"]):
            assert _is_there()

    asyncio.run(main())
    assert not _is_there()


def test_a_bad_address_leaves_no_interface() -> None:
    with pytest.raises(UsageError):
        tun("ustack7", ["10.9.0.0/24"])
    assert not _is_there()


def _is_there() -> bool:
    shown = subprocess.run(["ip", "link", "show", "ustack7"], capture_output=True, check=False)
    return shown.returncode == 0
