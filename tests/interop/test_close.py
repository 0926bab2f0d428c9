"""Every way for a connection to end, begun by either side, seen from the kernel."""

import asyncio
import fcntl
import random
import socket
import sys
import termios
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop.in_process import comes_true, ustack_network
from tests.interop.kernel_side import (
    connect,
    counted,
    eventually,
    kernel_state,
    read_to_end,
    reset_on_close,
)
from tests.interop.serving import (
    DAYTIME,
    ECHO,
    KERNEL_IPV4,
    KERNEL_IPV6,
    USTACK_IPV4,
    Serve,
)
from ustack.runtime.streams import Writer

pytestmark = pytest.mark.interop

PORT = 4000
DATA = random.Random(6).randbytes(2 << 20)
SMALL_BUFFER = 64 << 10  # most of DATA must move after the half-close
# What an echo has room for while its client does not read: the kernel's SMALL_BUFFER, the 87 040
# and 65 535 bytes with which our send and receive buffers begin (Linux tcp_wmem, tcp_rmem).
ECHOED = DATA[: 160 << 10]
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
PATHS = pytest.mark.parametrize("impair", ["", "loss=2%,seed=3"], ids=["clean", "loss"])


@FAMILIES
@PATHS
def test_data_flows_to_the_kernel_after_it_has_half_closed(
    serve: Serve, impair: str, family: str
) -> None:
    options = ["--impair", impair] if impair else []
    with serve(*options) as serving, connect(serving.address(family), ECHO) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        client.sendall(ECHOED)
        client.shutdown(socket.SHUT_WR)
        eventually(lambda: kernel_state(client) == "FIN-WAIT-2", "our FIN is acknowledged")
        assert sha256(read_to_end(client)).digest() == sha256(ECHOED).digest()


@FAMILIES
@PATHS
def test_data_flows_to_ustack_after_it_has_half_closed(
    tmp_path: Path, impair: str, family: str
) -> None:
    address = KERNEL_IPV6 if family == "ipv6" else KERNEL_IPV4

    async def serve_after_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b"request"
        port = writer.get_extra_info("sockname")[1]
        await comes_true(lambda: kernel_state(port) == "CLOSE-WAIT", "ustack's FIN is seen")
        writer.write(DATA)
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        async with ustack_network(tmp_path, impair=impair) as network:
            server = await asyncio.start_server(serve_after_eof, address, PORT)
            reader, writer = await network.open_connection(address, PORT)
            writer.write(b"request")
            writer.write_eof()
            assert sha256(await reader.read()).digest() == sha256(DATA).digest()
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
            # The active closer keeps TIME_WAIT, the other one keeps nothing.
            assert len(network.stack.time_waits()) == 1
            port = writer.get_extra_info("sockname")[1]
            await comes_true(lambda: kernel_state(port) is None, "the kernel has forgotten it")

    asyncio.run(scenario())


def test_only_the_kernel_keeps_time_wait_when_it_closed_first(serve: Serve) -> None:
    with serve() as serving:
        with connect(serving.address("ipv4"), ECHO) as client:
            port = client.getsockname()[1]
            client.sendall(b"hello")
            assert client.recv(16) == b"hello"
            client.shutdown(socket.SHUT_WR)
            assert client.recv(16) == b""
        assert kernel_state(port) == "TIME-WAIT"
        eventually(lambda: not serving.connection_lines(port), "ustack's side is CLOSED")


@FAMILIES
def test_only_ustack_keeps_time_wait_when_it_closed_first(serve: Serve, family: str) -> None:
    with serve() as serving:
        with connect(serving.address(family), DAYTIME) as client:
            port = client.getsockname()[1]
            assert read_to_end(client)
            assert kernel_state(port) == "CLOSE-WAIT"
        eventually(lambda: kernel_state(port) is None, "LAST-ACK is over")
        (line,) = serving.connection_lines(port)
        assert "TIME-WAIT" in line.replace("_", "-")


def unacknowledged(client: socket.socket) -> int:
    """Bytes in the kernel's send queue (SIOCOUTQ, tcp(7))."""
    answer = fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def test_a_reset_by_the_kernel_reaches_the_reader_as_connection_reset(tmp_path: Path) -> None:
    async def scenario() -> None:
        outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def handle(reader: asyncio.StreamReader, writer: Writer) -> None:
            try:
                outcome.set_result(await reader.read())
            except ConnectionError as error:
                outcome.set_exception(error)
            writer.close()

        async with ustack_network(tmp_path) as network:
            await network.start_server(handle, port=PORT)
            client = await asyncio.to_thread(connect, USTACK_IPV4, PORT)
            await asyncio.to_thread(client.sendall, b"hello")
            # else our ACK could cross the RST, and be answered with another
            await comes_true(lambda: not unacknowledged(client), "hello is acknowledged")
            with counted(Tcp_OutRsts=1):
                reset_on_close(client)
                client.close()
                with pytest.raises(ConnectionResetError):
                    await outcome
            assert not network.stack.time_waits()

    asyncio.run(scenario())


class Deaf(asyncio.Protocol):
    """Reads nothing."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()


class Aborter(asyncio.Protocol):
    """Aborts when the first bytes come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert data == b"hello"
        self.transport.abort()


def test_an_abort_by_ustack_reaches_the_kernel_as_a_reset(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ustack_network(tmp_path) as network:
            await network.create_server(Aborter, port=PORT)
            with await asyncio.to_thread(connect, USTACK_IPV4, PORT) as client:
                with counted(Tcp_EstabResets=1, Tcp_OutRsts=0):
                    client.sendall(b"hello")
                    with pytest.raises(ConnectionResetError):
                        await asyncio.to_thread(client.recv, 16)
                assert kernel_state(client) is None

    asyncio.run(scenario())


def test_a_close_with_data_unread_reaches_the_kernel_as_a_reset(tmp_path: Path) -> None:
    """RFC 9293 §3.6.1: what was received and will never be read must not look delivered."""

    async def scenario() -> None:
        deaf = Deaf()
        async with ustack_network(tmp_path) as network:
            await network.create_server(lambda: deaf, port=PORT)
            with await asyncio.to_thread(connect, USTACK_IPV4, PORT) as client:
                with counted(Tcp_EstabResets=1, Tcp_OutRsts=0):
                    client.sendall(b"hello")
                    await comes_true(
                        lambda: network.stack.connections()[0].receive_buffer.readable,
                        "ustack holds the data",
                    )
                    deaf.transport.close()
                    with pytest.raises(ConnectionResetError):
                        await asyncio.to_thread(client.recv, 16)
                assert kernel_state(client) is None

    asyncio.run(scenario())
