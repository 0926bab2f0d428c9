"""Blocking sockets between two networks in one process."""

import errno
import threading
from collections.abc import Iterator

import pytest

from ustack.config import StackConfig, TcpConfig
from ustack.device.link import Link
from ustack.runtime.sockets import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    MSG_PEEK,
    SO_ERROR,
    SOL_SOCKET,
    TCP_NODELAY,
    Socket,
    SocketNetwork,
)
from ustack.stack.socket_constants import POLLIN, POLLOUT, SHUT_WR, SO_LINGER

Pair = tuple[Socket, Socket]


@pytest.fixture
def networks() -> Iterator[tuple[SocketNetwork, SocketNetwork]]:
    link = Link()
    config = StackConfig(tcp=TcpConfig(send_buffer=1 << 16, receive_buffer=1 << 16))
    near = SocketNetwork(link.a, ["10.0.0.1/24", "fd00::1/64"], config=config)
    far = SocketNetwork(link.b, ["10.0.0.2/24", "fd00::2/64"], config=config)
    yield near, far
    near.close(0)
    far.close(0)


@pytest.fixture
def pair(networks: tuple[SocketNetwork, SocketNetwork]) -> Pair:
    near, far = networks
    server = far.create_server(("", 7))
    client = near.create_connection(("10.0.0.2", 7), timeout=10)
    peer, address = server.accept()
    assert address == client.getsockname()
    peer.settimeout(10)
    return client, peer


def test_bytes_go_both_ways_and_the_end_of_the_stream_is_seen(pair: Pair) -> None:
    client, peer = pair
    client.sendall(b"hello")
    assert peer.recv(100) == b"hello"
    peer.sendall(b"world")
    client.shutdown(SHUT_WR)
    assert peer.recv(100) == b""
    assert client.recv(3) == b"wor"
    peer.close()
    assert client.recv(100, MSG_PEEK) == b"ld"
    assert client.recv(100) == b"ld"
    assert client.recv(100) == b""


def test_a_writer_waits_for_its_reader(pair: Pair) -> None:
    client, peer = pair
    data = bytes(range(256)) * 4096

    def write() -> None:
        client.sendall(data)
        client.close()

    writer = threading.Thread(target=write)
    writer.start()
    received = bytearray()
    while chunk := peer.recv(10_000):
        received += chunk
    writer.join()
    assert received == data


def test_a_refused_connection_raises_the_error_of_the_standard_library(
    networks: tuple[SocketNetwork, SocketNetwork],
) -> None:
    near, _ = networks
    with pytest.raises(ConnectionRefusedError):
        near.create_connection(("10.0.0.2", 9), timeout=10)
    with pytest.raises(ConnectionRefusedError):
        near.create_connection(("fd00::2", 9), timeout=10)


def test_a_timeout_is_a_timeout_error_and_zero_never_waits(pair: Pair) -> None:
    client, _ = pair
    client.settimeout(0.02)
    with pytest.raises(TimeoutError):
        client.recv(10)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(10)
    assert client.gettimeout() == 0


def test_a_nonblocking_connect_is_watched_with_poll(
    networks: tuple[SocketNetwork, SocketNetwork],
) -> None:
    near, far = networks
    server = far.create_server(("10.0.0.2", 7))
    client = near.socket(AF_INET)
    client.setblocking(False)
    with pytest.raises(BlockingIOError) as caught:
        client.connect(("10.0.0.2", 7))
    assert caught.value.errno == errno.EINPROGRESS
    peer, _ = server.accept()
    peer.sendall(b"x")
    client.settimeout(10)
    assert client.recv(1) == b"x"
    assert client.getsockopt(SOL_SOCKET, SO_ERROR) == 0
    assert client.poll() & (POLLIN | POLLOUT) == POLLOUT


def test_options_are_set_and_read_back(pair: Pair) -> None:
    client, _ = pair
    client.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    assert client.getsockopt(IPPROTO_TCP, TCP_NODELAY) == 1
    with pytest.raises(OSError, match="Protocol not available"):
        client.setsockopt(IPPROTO_TCP, 999, 1)


def test_an_abort_reaches_the_peer_as_connection_reset(pair: Pair) -> None:
    client, peer = pair
    client.setsockopt(SOL_SOCKET, SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    with pytest.raises(ConnectionResetError):
        peer.recv(10)
    assert peer.recv(10) == b""
    with pytest.raises(BrokenPipeError):
        peer.send(b"x")


def test_a_closed_socket_is_a_bad_descriptor(pair: Pair) -> None:
    client, _ = pair
    client.close()
    client.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        client.recv(1)


def test_a_port_can_be_listened_on_once(networks: tuple[SocketNetwork, SocketNetwork]) -> None:
    _, far = networks
    far.create_server(("10.0.0.2", 7))
    with pytest.raises(OSError, match="Address already in use"):
        far.create_server(("10.0.0.2", 7))


def test_closing_the_network_wakes_whoever_waits(
    networks: tuple[SocketNetwork, SocketNetwork],
) -> None:
    _, far = networks
    server = far.create_server(("10.0.0.2", 7))
    failures: list[OSError] = []

    def wait() -> None:
        try:
            server.accept()
        except OSError as error:
            failures.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    far.close(0)
    waiting.join(10)
    assert not waiting.is_alive()
    assert [failure.errno in (errno.EBADF, errno.EINVAL) for failure in failures] == [True]


@pytest.mark.parametrize("address", ["10.0.0.2", "fd00::2"])
def test_datagrams_go_both_ways(
    networks: tuple[SocketNetwork, SocketNetwork], address: str
) -> None:
    near, far = networks
    family = AF_INET6 if ":" in address else AF_INET
    with far.datagram_socket(family) as server, near.datagram_socket(family) as client:
        server.bind(("", 7))
        server.settimeout(10)
        client.settimeout(10)
        client.connect((address, 7))
        assert client.getpeername() == (address, 7)
        client.send(b"hello")
        data, sender = server.recvfrom(100)
        assert (data, sender) == (b"hello", client.getsockname())
        assert server.sendto(b"world, cut short", sender) == 16
        assert client.recv(5) == b"world"
        with pytest.raises(OSError, match="not connected"):
            server.getpeername()


def test_a_datagram_for_nobody_is_refused_at_the_next_call(
    networks: tuple[SocketNetwork, SocketNetwork],
) -> None:
    near, _ = networks
    with near.datagram_socket() as client:
        client.settimeout(10)
        client.connect(("10.0.0.2", 7))
        client.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        client.settimeout(0)
        with pytest.raises(BlockingIOError):
            client.recv(100)
    with pytest.raises(OSError, match="Bad file descriptor"):
        client.send(b"too late")


def test_a_datagram_socket_of_ipv4_does_not_hear_ipv6(
    networks: tuple[SocketNetwork, SocketNetwork],
) -> None:
    near, far = networks
    with far.datagram_socket(AF_INET) as server, near.datagram_socket(AF_INET6) as client:
        server.bind(("", 7))
        client.settimeout(10)
        client.connect(("fd00::2", 7))
        client.send(b"hello")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
