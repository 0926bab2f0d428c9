"""The peer dies or the path breaks in mid-transfer."""

import asyncio
import socket
import subprocess
from pathlib import Path

import pytest

from tests.interop.in_process import INTERFACE, comes_true, ustack_network
from tests.interop.kernel_side import (
    connect,
    counted,
    eventually,
    kernel_sockets,
    kernel_state,
    python_process,
)
from tests.interop.serving import DISCARD, ECHO, KERNEL_IPV4, SOURCE, Serve, Serving
from ustack.config import SECOND, TcpConfig

pytestmark = pytest.mark.interop

PORT = 4000
RECEIVER = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(client.getsockname()[1], flush=True)
while client.recv(1 << 16):
    pass
"""
SENDER = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(client.getsockname()[1], flush=True)
while True:
    client.sendall(bytes(1 << 16))
"""


@pytest.mark.parametrize(
    "program,port", [(RECEIVER, SOURCE), (SENDER, DISCARD)], ids=["receiver", "sender"]
)
def test_nothing_is_left_of_a_connection_whose_process_was_killed_in_mid_transfer(
    serve: Serve, program: str, port: int
) -> None:
    with serve() as serving:
        address = serving.address("ipv4")
        with python_process(program, address, str(port)) as process:
            assert process.stdout is not None
            local_port = int(process.stdout.readline())
            eventually(lambda: has_moved(serving, local_port), "data is moving")
            process.kill()
        eventually(lambda: kernel_state(local_port) in (None, "TIME-WAIT"), "the kernel closed")
        eventually(lambda: not serving.connection_lines(local_port), "ustack closed")
        with connect(address, ECHO) as client:
            client.sendall(b"still here")
            assert client.recv(16) == b"still here"


def has_moved(serving: Serving, local_port: int) -> bool:
    """The kernel's own count for the connection has passed a megabyte."""
    output = subprocess.run(
        ["ss", "--no-header", "-tin", f"sport = :{local_port}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    counts = [
        int(word.partition(":")[2])
        for word in output.split()
        if word.startswith(("bytes_received:", "bytes_acked:"))
    ]
    return max(counts, default=0) > 1 << 20


def set_link(state: str) -> None:
    subprocess.run(["ip", "link", "set", INTERFACE, state], check=True)


def test_the_user_timeout_ends_a_connection_whose_peer_has_vanished(tmp_path: Path) -> None:
    """RFC 9293 §3.10.8: the user is told, and the connection is gone without a word."""

    async def scenario() -> None:
        tcp = TcpConfig(user_timeout_us=2 * SECOND)
        async with ustack_network(tmp_path, tcp=tcp) as network:
            with socket.create_server((KERNEL_IPV4, PORT)) as listener:
                reader, writer = await network.open_connection(KERNEL_IPV4, PORT)
                with (await asyncio.to_thread(listener.accept))[0]:
                    set_link("down")
                    with counted(Tcp_InSegs=0):
                        writer.write(b"into the void")
                        with pytest.raises(TimeoutError):
                            await reader.read()
                    assert not network.stack.connections()
                    states = {each.state for each in kernel_sockets(PORT)}
                    assert states == {"LISTEN", "ESTAB"}

    asyncio.run(scenario())


def test_a_connection_survives_a_path_that_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with ustack_network(tmp_path) as network:
            with socket.create_server((KERNEL_IPV4, PORT)) as listener:
                reader, writer = await network.open_connection(KERNEL_IPV4, PORT)
                with (await asyncio.to_thread(listener.accept))[0] as connection:
                    set_link("down")
                    writer.write(b"before")
                    await comes_true(
                        lambda: (
                            network.stack.status(
                                network.stack.connections()[0], network.driver.now()
                            ).retransmits
                        ),
                        "ustack retransmits into the void",
                    )
                    set_link("up")
                    assert await asyncio.to_thread(connection.recv, 16) == b"before"
                    connection.sendall(b"after")
                    assert await reader.readexactly(5) == b"after"
                    writer.transport.abort()

    asyncio.run(scenario())
