"""Datagram sockets of ours and of the kernel: the kernel judges addresses, checksums, fragments."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.in_process import ADDRESSES, INTERFACE
from tests.interop.kernel_side import HANG_GUARD_S, counted
from tests.interop.serving import (
    CLOSED_PORT,
    KERNEL_IPV4,
    KERNEL_IPV6,
    USTACK_IPV4,
    USTACK_IPV6,
    check_capture,
)
from ustack.device.capture import CaptureProbe
from ustack.device.tun import TunDevice
from ustack.runtime.sockets import AF_INET, AF_INET6, DatagramSocket, SocketNetwork

pytestmark = pytest.mark.interop

SIZES = (0, 1, 1472, 1473, 4000, 60_000)  # bytes; the MTU is 1500: the last three are fragmented
PORT = 7
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
OURS = {"ipv4": USTACK_IPV4, "ipv6": USTACK_IPV6}
KERNELS = {"ipv4": KERNEL_IPV4, "ipv6": KERNEL_IPV6}


@pytest.fixture(params=[True, False], ids=["offload", "no-offload"])
def network(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[SocketNetwork]:
    """A network towards the kernel of this namespace; its capture is sound."""
    file = tmp_path / "udp.pcapng"
    tun = TunDevice(INTERFACE, offload=request.param)
    tun.configure(ADDRESSES)
    epoch = time.time_ns() - time.monotonic_ns()
    probe = CaptureProbe(file, interface=INTERFACE, now_to_epoch_ns=epoch)
    with SocketNetwork(tun, ADDRESSES, probe=probe) as made:
        yield made
    probe.close()
    check_capture(file)


def ours(network: SocketNetwork, family: str) -> DatagramSocket:
    made = network.datagram_socket(AF_INET6 if family == "ipv6" else AF_INET)
    made.settimeout(HANG_GUARD_S)
    return made


def kernels(family: str) -> socket.socket:
    kind = socket.AF_INET6 if family == "ipv6" else socket.AF_INET
    made = socket.socket(kind, socket.SOCK_DGRAM)
    made.settimeout(HANG_GUARD_S)
    return made


@FAMILIES
def test_datagrams_of_all_sizes_go_both_ways(network: SocketNetwork, family: str) -> None:
    with ours(network, family) as server, kernels(family) as client:
        server.bind(("", PORT))
        client.connect((OURS[family], PORT))
        for size in SIZES:
            payload = bytes(number % 251 for number in range(size))
            client.send(payload)
            received, sender = server.recvfrom(1 << 16)
            assert received == payload
            assert sender == client.getsockname()[:2]
            server.sendto(payload[::-1], sender)
            assert client.recv(1 << 16) == payload[::-1]


def test_the_kernel_finds_our_checksums_right(network: SocketNetwork) -> None:
    with (
        counted(Udp_InDatagrams=3, Udp_InCsumErrors=0, Ip_ReasmOKs=1),
        ours(network, "ipv4") as client,
        kernels("ipv4") as server,
    ):
        server.bind((KERNEL_IPV4, PORT))
        client.connect((KERNEL_IPV4, PORT))
        for size in (1, 100, 3000):
            client.send(b"x" * size)
            assert server.recv(1 << 16) == b"x" * size


@FAMILIES
def test_a_port_that_the_kernel_has_not_is_refused(network: SocketNetwork, family: str) -> None:
    with ours(network, family) as client:
        client.connect((KERNELS[family], CLOSED_PORT))
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(16)


@FAMILIES
def test_a_port_that_we_have_not_is_refused(network: SocketNetwork, family: str) -> None:
    with kernels(family) as client:
        client.connect((OURS[family], CLOSED_PORT))
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(16)
