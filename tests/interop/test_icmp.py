"""Echo and unreachable, as the kernel's own ICMP and UDP sockets see them."""

import socket

import pytest

from tests.interop.kernel_side import HANG_GUARD_S, counted
from tests.interop.serving import CLOSED_PORT, Serve

pytestmark = pytest.mark.interop

ECHO_REQUEST = {"ipv4": 8, "ipv6": 128}  # RFC 792, RFC 4443 §4.1
ECHO_REPLY = {"ipv4": 0, "ipv6": 129}
SIZES = (0, 1, 56, 1400, 8000)  # bytes after the ICMP header
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])


def kernel_socket(family: str, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if family == "ipv6" else socket.AF_INET, kind, protocol)
    made.settimeout(HANG_GUARD_S)
    return made


@FAMILIES
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "no-offload"])
def test_a_ping_is_answered_with_its_own_data(serve: Serve, offload: bool, family: str) -> None:
    """What ping(8) does, through the kernel's ping socket; 8 000 bytes come in fragments."""
    protocol = socket.IPPROTO_ICMPV6 if family == "ipv6" else socket.IPPROTO_ICMP
    with (
        serve(offload=offload) as serving,
        kernel_socket(family, socket.SOCK_DGRAM, protocol) as ping,
    ):
        ping.connect((serving.address(family), 0))
        for sequence, size in enumerate(SIZES):
            payload = bytes(number % 251 for number in range(size))
            header = bytes((ECHO_REQUEST[family], 0, 0, 0, 0, 0)) + sequence.to_bytes(2)
            ping.send(header + payload)
            reply = ping.recv(1 << 16)
            assert reply[0] == ECHO_REPLY[family]
            assert int.from_bytes(reply[6:8]) == sequence
            assert reply[8:] == payload


def test_udp_to_a_closed_port_is_refused_over_ipv4(serve: Serve) -> None:
    with serve() as serving, counted(Icmp_InDestUnreachs=1):
        check_refused(serving.address("ipv4"), "ipv4")


def test_udp_to_a_closed_port_is_refused_over_ipv6(serve: Serve) -> None:
    with serve() as serving:
        check_refused(serving.address("ipv6"), "ipv6")


def check_refused(address: str, family: str) -> None:
    with kernel_socket(family, socket.SOCK_DGRAM) as datagrams:
        datagrams.connect((address, CLOSED_PORT))
        datagrams.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            datagrams.recv(16)
