"""Private network namespaces for the benchmarks: nothing here touches the machine's own network.

The whole benchmark runs inside tools/in-namespace. The kernel's server runs in a second namespace,
which `veth_to` joins to the first.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import Ethtool

KERNEL_SIDE = "10.8.0.1"
KERNEL_SERVER = "10.8.0.2"
MACHINE = "USTACK_MACHINE_NETNS"  # set by tools/in-namespace: the one that is not ours
_OFFLOADS = ("segmentation", "checksum", "gro", "gso")


def prepare() -> None:
    """Settings of this namespace, which is checked to be a private one."""
    check_private()
    # IPv6 would send router solicitations and listener reports into the middle of a figure.
    sysctl("net/ipv6/conf/default/disable_ipv6", "1")
    # The client closes first: tens of thousands of its TIME_WAITs must not run out of ports.
    sysctl("net/ipv4/ip_local_port_range", "1024 65535")
    sysctl("net/ipv4/tcp_tw_reuse", "1")


def check_private() -> None:
    """Raises RuntimeError in the machine's own network namespace."""
    machine = os.environ.get(MACHINE)
    if machine is None or str(Path("/proc/self/ns/net").readlink()) == machine:
        raise RuntimeError("not in a private network namespace: start it by tools/in-namespace")


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def sysctl(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)


def offload_off(interface: str) -> None:
    """Switches off segmentation, coalescing and checksum offload: `ethtool -K tso off gso off`."""
    with Ethtool() as ethtool:
        features = ethtool.get_features(interface)
        for name, feature in features.features.items():
            if feature.available and any(word in name for word in _OFFLOADS):
                feature.enable = False
        ethtool.set_features(interface, features)


@contextmanager
def veth_to(pid: int, mtu: int, offload: bool) -> Iterator[None]:
    """A veth pair between this namespace (`KERNEL_SIDE`) and that of `pid` (`KERNEL_SERVER`)."""
    ours, theirs = "veth0", "veth1"
    inside = ("nsenter", "--target", str(pid), "--net")
    run("ip", "link", "add", ours, "mtu", str(mtu), "type", "veth", "peer", "name", theirs,
        "mtu", str(mtu))  # fmt: skip
    try:
        if not offload:
            offload_off(ours)
            offload_off(theirs)
        run("ip", "link", "set", theirs, "netns", str(pid))
        run("ip", "address", "add", f"{KERNEL_SIDE}/24", "dev", ours)
        run("ip", "link", "set", ours, "up")
        run(*inside, "ip", "address", "add", f"{KERNEL_SERVER}/24", "dev", theirs)
        run(*inside, "ip", "link", "set", theirs, "up")
        yield
    finally:
        run("ip", "link", "delete", ours)
