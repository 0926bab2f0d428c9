"""ustack inside the test: for what the services of `ustack serve` never do, such as abort."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.interop.kernel_side import HANG_GUARD_S
from tests.interop.serving import USTACK_IPV4, USTACK_IPV6, check_capture
from ustack.config import StackConfig, TcpConfig
from ustack.device.base import Device
from ustack.device.capture import CaptureProbe
from ustack.device.impair import ImpairDevice, parse_impair
from ustack.device.tun import TunDevice
from ustack.runtime.network import Network

ADDRESSES = (f"{USTACK_IPV4}/24", f"{USTACK_IPV6}/64")
NO_TCP_DEFAULTS = TcpConfig()
INTERFACE = "ustack0"


@asynccontextmanager
async def ustack_network(
    directory: Path,
    *,
    offload: bool = True,
    impair: str = "",
    tcp: TcpConfig = NO_TCP_DEFAULTS,
) -> AsyncIterator[Network]:
    """A network towards the kernel of this namespace; nothing leaks, and its capture is sound."""
    file = directory / "in-process.pcapng"
    tun = TunDevice(INTERFACE, offload=offload)
    tun.configure(ADDRESSES)
    device: Device = ImpairDevice(tun, parse_impair(impair)) if impair else tun
    epoch = time.time_ns() - time.monotonic_ns()
    probe = CaptureProbe(file, interface=INTERFACE, now_to_epoch_ns=epoch)
    network = Network(device, ADDRESSES, config=StackConfig(tcp=tcp), probe=probe)
    try:
        async with asyncio.timeout(HANG_GUARD_S), network:
            yield network
    finally:
        probe.close()
    assert not network.stack.connections()
    await asyncio.to_thread(check_capture, file)


async def comes_true(condition: Callable[[], object], what: str) -> None:
    """Returns once `condition()` is true. It may block: it runs in a thread of its own."""
    deadline = time.monotonic() + HANG_GUARD_S
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"never came true: {what}"
        await asyncio.sleep(0.02)
