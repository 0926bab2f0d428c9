"""A network towards the kernel of this machine. Linux only, so apart from `network`."""

from collections.abc import Sequence

from ustack.config import StackConfig
from ustack.device.tun import TunDevice
from ustack.runtime.network import DEFAULT_CONFIG, Network
from ustack.stack.probe import Probe
from ustack.stack.trace import Tracer


def tun(
    name: str = "ustack0",
    addresses: Sequence[str] = ("10.9.0.2/24", "fd00:9::2/64"),
    *,
    offload: bool = True,
    mtu: int = 1500,
    config: StackConfig = DEFAULT_CONFIG,
    probe: Probe | None = None,
    tracer: Tracer | None = None,
) -> Network:
    """A network towards this machine's kernel, over a new TUN interface, not started yet.

    The kernel's side is up and has the first host address of each network. Needs CAP_NET_ADMIN.
    Raises OSError when the system refuses, UsageError for a bad name, address or MTU.
    """
    device = TunDevice(name, offload=offload, mtu=mtu)
    try:
        device.configure(addresses)
        return Network(device, addresses, config=config, probe=probe, tracer=tracer)
    except BaseException:
        device.close()
        raise
