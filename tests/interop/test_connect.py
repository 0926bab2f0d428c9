"""Opening: refused, waiting for a full backlog, and many at once."""

import asyncio
import random
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.in_process import comes_true, ustack_network
from tests.interop.kernel_side import (
    HANG_GUARD_S,
    connect,
    counted,
    kernel_counters,
    kernel_sockets,
)
from tests.interop.serving import (
    CLOSED_PORT,
    ECHO,
    KERNEL_IPV4,
    KERNEL_IPV6,
    USTACK_IPV4,
    Serve,
)
from ustack.runtime.network import Network
from ustack.runtime.streams import Writer
from ustack.tcp.tcb import Tcb

pytestmark = pytest.mark.interop

PORT = 4000
PARALLEL = 200
EACH = 32 << 10  # bytes that each of the parallel connections carries both ways
FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])


@FAMILIES
def test_a_connect_to_a_closed_port_of_ustack_is_refused(serve: Serve, family: str) -> None:
    with (
        serve() as serving,
        counted(Tcp_AttemptFails=1),
        pytest.raises(ConnectionRefusedError),
    ):
        connect(serving.address(family), CLOSED_PORT)


@FAMILIES
def test_a_connect_to_a_closed_port_of_the_kernel_is_refused(tmp_path: Path, family: str) -> None:
    address = KERNEL_IPV6 if family == "ipv6" else KERNEL_IPV4

    async def scenario() -> None:
        async with ustack_network(tmp_path) as network:
            with counted(Tcp_OutRsts=1), pytest.raises(ConnectionRefusedError):
                await network.open_connection(address, CLOSED_PORT)

    asyncio.run(scenario())


def test_a_full_backlog_of_the_kernel_only_delays_ustack(tmp_path: Path) -> None:
    """Linux has answered the SYNs with cookies and drops everything that does not fit its queue.

    Only what ustack sends again can make those connections known to it.
    """

    async def visit(network: Network) -> None:
        reader, writer = await network.open_connection(KERNEL_IPV4, PORT)
        writer.write(b"hello")
        assert await reader.readexactly(7) == b"welcome"
        writer.close()
        await writer.wait_closed()

    async def scenario() -> None:
        async with ustack_network(tmp_path) as network:
            with socket.create_server((KERNEL_IPV4, PORT), backlog=0) as listener:
                listener.settimeout(HANG_GUARD_S)
                before = kernel_counters()["TcpExt.ListenDrops"]
                async with asyncio.TaskGroup() as group:
                    for _ in range(3):
                        group.create_task(visit(network))
                    await comes_true(
                        lambda: kernel_counters()["TcpExt.ListenDrops"] > before,
                        "the queue is full",
                    )
                    for _ in range(3):
                        connection, _ = await asyncio.to_thread(listener.accept)
                        with connection:
                            assert await asyncio.to_thread(connection.recv, 16) == b"hello"
                            connection.sendall(b"welcome")

    asyncio.run(scenario())


def test_a_full_backlog_of_ustack_only_delays_the_kernel(tmp_path: Path) -> None:
    backlog, clients = 2, 6  # Linux's count: one more than the backlog can wait

    async def scenario() -> None:
        async with ustack_network(tmp_path) as network:
            driver, stack = network.driver, network.stack
            listener = stack.listen(PORT, driver.now(), backlog=backlog)
            before = kernel_counters()["TcpExt.TCPSynRetrans"]
            with ExitStack() as sockets:
                kernel_ends = [sockets.enter_context(start_connect()) for _ in range(backlog + 1)]
                await comes_true(
                    lambda: len(listener.queue) == backlog + 1, "as many as can wait have arrived"
                )
                kernel_ends += [
                    sockets.enter_context(start_connect()) for _ in range(clients - backlog - 1)
                ]
                await comes_true(
                    lambda: kernel_counters()["TcpExt.TCPSynRetrans"] > before,
                    "the kernel had to send a SYN again",
                )
                assert len(stack.connections()) == backlog + 1
                accepted: list[Tcb] = []
                while len(accepted) < clients:
                    while (tcb := stack.accept(listener)) is not None:
                        accepted.append(tcb)
                        stack.send(tcb, b"welcome", driver.now())
                        driver.request_turn()
                    await asyncio.sleep(0.01)
                for end in kernel_ends:
                    assert await asyncio.to_thread(end.recv, 16) == b"welcome"
                states = {each.state for each in kernel_sockets(PORT)}
                assert states == {"ESTAB"}
                for tcb in accepted:
                    stack.abort(tcb, driver.now())
                driver.request_turn()

    def start_connect() -> socket.socket:
        """A kernel socket whose connect goes on in the background."""
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex((USTACK_IPV4, PORT))
        client.settimeout(None)
        return client

    asyncio.run(scenario())


async def echo_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seed: int) -> bool:
    """One of the parallel connections, closed in order: whether its own data came back."""
    data = random.Random(seed).randbytes(EACH)
    writer.write(data)
    writer.write_eof()
    echoed = await reader.read()
    writer.close()
    await writer.wait_closed()
    return echoed == data


def test_200_parallel_connections_from_the_kernel_each_get_their_own_data(serve: Serve) -> None:
    async def visit(address: str, seed: int) -> bool:
        return await echo_once(*await asyncio.open_connection(address, ECHO), seed)

    async def scenario() -> list[bool]:
        addresses = [serving.address("ipv4"), serving.address("ipv6")]
        return await asyncio.gather(*(visit(addresses[seed % 2], seed) for seed in range(PARALLEL)))

    with serve() as serving:
        assert asyncio.run(scenario()) == [True] * PARALLEL


def test_200_parallel_connections_to_the_kernel_each_get_their_own_data(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()
        await writer.wait_closed()

    async def visit(network: Network, address: str, seed: int) -> bool:
        reader, writer = await network.open_connection(address, PORT)
        assert isinstance(writer, Writer)
        return await echo_once(reader, writer, seed)

    async def scenario() -> list[bool]:
        async with ustack_network(tmp_path) as network:
            addresses = [KERNEL_IPV4, KERNEL_IPV6]
            server = await asyncio.start_server(echo, addresses, PORT, backlog=PARALLEL)
            echoed = await asyncio.gather(
                *(visit(network, addresses[seed % 2], seed) for seed in range(PARALLEL))
            )
            server.close()
            await server.wait_closed()
            return echoed

    assert asyncio.run(scenario()) == [True] * PARALLEL
