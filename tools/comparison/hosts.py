"""Four hosts in one process: the kernel in two namespaces of its own, and two stacks of ustack.

`Bridge` carries their frames, each transfer over its own pair of links. Host addresses:
10.1.0.1 (kernel) and 10.1.0.2 (ustack) are near, 10.2.0.1 and 10.2.0.2 are far.
"""

import asyncio
import ctypes
import os
import socket
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tools.benchmarks.namespaces import check_private, sysctl
from tools.comparison.links import TCP_AT, Link
from ustack.device.tun import TunDevice
from ustack.runtime.driver import monotonic_us
from ustack.wire import Buffer

CLONE_NEWNET = 0x40000000  # linux/sched.h
BATCH = 64  # frames moved at once
SOURCE_AT, DESTINATION_AT = 22, 26  # bytes of an IPv4 address in a frame
GSO_MAX = 65_535

# Equal rules for every run: no memory of earlier connections, room for the windows of the cells.
KERNEL_SETTINGS = {
    "net/ipv4/tcp_no_metrics_save": "1",
    "net/ipv4/tcp_rmem": "4096 131072 67108864",
    "net/ipv4/tcp_wmem": "4096 131072 67108864",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv4/ip_local_port_range": "1024 65535",
}

_libc = ctypes.CDLL(None, use_errno=True)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Tap(Protocol):
    """Sees segments at the near host."""

    def __call__(self, frame: bytes, now: int, *, outward: bool) -> None: ...


class KernelHost:
    """The kernel's TCP in a namespace of its own, behind a TUN that the bridge holds."""

    def __init__(self, address: str, mtu: int) -> None:
        check_private()
        self.address = address
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if _libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            for name, value in KERNEL_SETTINGS.items():
                sysctl(name, value)
            self.device = TunDevice("compare0", mtu=mtu)
            network = address.rpartition(".")[0]
            self.device.configure([f"{network}.2/24"])
            for command in (
                ("ip", "link", "set", "lo", "up"),
                ("ip", "link", "set", "compare0", "txqueuelen", "10000"),
                ("ip", "route", "add", "default", "dev", "compare0"),
            ):
                subprocess.run(command, check=True)
        finally:
            _enter(self._home)

    def socket(self, congestion: str) -> socket.socket:
        """A TCP socket of this host, non-blocking."""
        with self._entered():
            made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def close(self) -> None:
        self.device.close()
        os.close(self._namespace)
        os.close(self._home)

    @contextmanager
    def _entered(self) -> Iterator[None]:
        _enter(self._namespace)
        try:
            yield
        finally:
            _enter(self._home)


class Port:
    """The device of a stack of ustack in this process: frames go to the bridge and come from it."""

    def __init__(self, carry: Callable[[bytes], None], mtu: int) -> None:
        self.mtu = mtu
        self.gso_max = GSO_MAX
        self.checksum_offload = True
        self.on_readable: Callable[[], None] | None = None
        self._carry = carry
        self._arrived: deque[bytes] = deque()

    def arrive(self, frame: bytes) -> None:
        self._arrived.append(frame)
        if self.on_readable is not None:
            self.on_readable()

    def fileno(self) -> int:
        return -1

    def read(self, budget: int, now: int) -> list[bytes]:
        return [self._arrived.popleft() for _ in range(min(budget, len(self._arrived)))]

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        self._carry(b"".join(parts))
        return True

    def next_deadline(self) -> int | None:
        return None

    def close(self) -> None:
        self._arrived.clear()


class Bridge:
    """Frames between near hosts (10.1.0.x) and far ones, over the links of their far port."""

    def __init__(self) -> None:
        self.late: list[int] = []  # µs by which each batch of arrivals was late
        self._hosts: dict[bytes, Callable[[bytes], object]] = {}
        self._links: dict[int, tuple[Link, Link]] = {}
        self._taps: dict[int, Tap] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._loop = asyncio.get_running_loop()

    def attach(self, address: str, deliver: Callable[[bytes], object]) -> None:
        """Frames to `address` go to `deliver`."""
        self._hosts[socket.inet_aton(address)] = deliver

    def attach_kernel(self, host: KernelHost) -> None:
        device = host.device

        def read() -> None:
            now = monotonic_us()
            for frame in device.read(BATCH, now):
                self.carry(frame)

        self._loop.add_reader(device.fileno(), read)
        self.attach(host.address, lambda frame: device.write((frame,), 0))

    def lay(self, port: int, there: Link, back: Link) -> None:
        """Segments to far `port` pass `there`, and those from it `back`."""
        self._links[port] = there, back

    def tap(self, port: int, tap: Tap) -> None:
        """`tap(frame, now, outward=...)` is told of the near host's segments to and from `port`."""
        self._taps[port] = tap

    def remove(self, port: int) -> None:
        """What is still on the way to or from `port` is lost."""
        del self._links[port]
        self._taps.pop(port, None)

    def carry(self, frame: bytes) -> None:
        """A host has sent `frame`."""
        outward = frame[SOURCE_AT + 1] == 1  # from 10.1.0.x
        at = TCP_AT + 2 if outward else TCP_AT
        links = self._links.get(int.from_bytes(frame[at : at + 2], "big"))
        if links is None:
            return  # that dialogue is over
        link = links[0] if outward else links[1]
        now = monotonic_us()
        if outward and self._taps:
            self._tell(frame, at, now, outward=True)
        link.accept(frame, now)
        deadline = link.next_deadline()
        if deadline is not None:
            self._arm(deadline, now)

    def _tell(self, frame: bytes, at: int, now: int, *, outward: bool) -> None:
        tap = self._taps.get(int.from_bytes(frame[at : at + 2], "big"))
        if tap is not None:
            tap(frame, now, outward=outward)

    def _arm(self, deadline: int, now: int) -> None:
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(deadline - now, 0) / 1e6, self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now = monotonic_us()
        deadlines = []
        for pair in list(self._links.values()):
            for link in pair:
                deadline = link.next_deadline()
                if deadline is not None and deadline <= now:
                    self.late.append(now - deadline)
                    for frame in link.due(now, BATCH):
                        if self._taps and link is pair[1]:
                            self._tell(frame, TCP_AT, now, outward=False)
                        self._hosts[frame[DESTINATION_AT : DESTINATION_AT + 4]](frame)
                    deadline = link.next_deadline()
                if deadline is not None:
                    deadlines.append(deadline)
        if deadlines:
            self._arm(min(deadlines), monotonic_us())

    def close(self) -> None:
        self._links.clear()
        if self._timer is not None:
            self._timer.cancel()


def check_kernel_has(congestion: str) -> None:
    """Raises FileNotFoundError with the reason when the kernel cannot use `congestion`."""
    available = Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split()
    if congestion not in available:
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
            return
        raise FileNotFoundError(f"this kernel has {', '.join(available)}, but not {congestion}")
