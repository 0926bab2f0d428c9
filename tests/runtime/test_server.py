"""The server is what asyncio's is; closing it and its connections are two things."""

import asyncio
import socket

import pytest

from tests.runtime.test_streams import echo
from tests.runtime.virtual import FAR, FAR6, NEAR, in_virtual_time, running_loop, two_networks
from ustack.errors import AddressInUse, AddressNotAvailable, NotConnected, UsageError

PORT = 7000


@in_virtual_time
async def test_a_server_listens_on_every_address_unless_told_otherwise() -> None:
    async with two_networks() as (near, far):
        server = await far.start_server(echo, port=PORT)
        assert server.is_serving()
        assert server.get_loop() is running_loop()
        assert [(s.family, s.getsockname()) for s in server.sockets] == [
            (socket.AF_INET, ("0.0.0.0", PORT)),
            (socket.AF_INET6, ("::", PORT, 0, 0)),
        ]
        for host in (FAR, FAR6):
            _, writer = await near.open_connection(host, PORT)
            writer.close()


@pytest.mark.parametrize(
    "host, open_on, closed_on",
    [(FAR, FAR, FAR6), (FAR6, FAR6, FAR), ("0.0.0.0", FAR, FAR6), ("::", FAR6, FAR)],
)
@in_virtual_time
async def test_a_server_listens_only_where_it_was_told(
    host: str, open_on: str, closed_on: str
) -> None:
    async with two_networks() as (near, far):
        await far.start_server(echo, host, PORT)
        _, writer = await near.open_connection(open_on, PORT)
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await near.open_connection(closed_on, PORT)


@in_virtual_time
async def test_several_addresses_share_one_ephemeral_port() -> None:
    async with two_networks() as (_, far):
        server = await far.start_server(echo, [FAR, FAR6])
        ports = {s.getsockname()[1] for s in server.sockets}
        assert len(server.sockets) == 2
        assert len(ports) == 1
        assert 0 not in ports


@in_virtual_time
async def test_a_port_can_be_listened_on_once() -> None:
    async with two_networks() as (_, far):
        server = await far.start_server(echo, port=PORT)
        with pytest.raises(AddressInUse):
            await far.start_server(echo, FAR, PORT)
        server.close()
        await far.start_server(echo, port=PORT)


@in_virtual_time
async def test_when_one_address_is_taken_none_is_listened_on() -> None:
    async with two_networks() as (near, far):
        await far.start_server(echo, FAR6, PORT)
        with pytest.raises(AddressInUse):
            await far.start_server(echo, [FAR, FAR6], PORT)
        with pytest.raises(ConnectionRefusedError):
            await near.open_connection(FAR, PORT)


@in_virtual_time
async def test_addresses_that_are_not_ours_are_refused() -> None:
    async with two_networks() as (_, far):
        with pytest.raises(AddressNotAvailable):
            await far.start_server(echo, NEAR, PORT)
        with pytest.raises(UsageError, match="nowhere"):
            await far.start_server(echo, "nowhere", PORT)


@in_virtual_time
async def test_serving_can_begin_later() -> None:
    async with two_networks() as (near, far):
        server = await far.start_server(echo, port=PORT, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await near.open_connection(FAR, PORT)
        await server.start_serving()
        await server.start_serving()
        _, writer = await near.open_connection(FAR, PORT)
        writer.close()


@in_virtual_time
async def test_a_closed_server_refuses_and_keeps_its_connections() -> None:
    async with two_networks() as (near, far):
        server = await far.start_server(echo, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        await asyncio.sleep(0.1)
        server.close()
        server.close()
        assert not server.is_serving()
        assert server.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            await near.open_connection(FAR, PORT)
        writer.write(b"still served")
        assert await reader.readexactly(12) == b"still served"
        waiting = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(1)
        assert not waiting.done()
        writer.close()
        await waiting
        with pytest.raises(NotConnected):
            await server.start_serving()


@in_virtual_time
async def test_close_clients_ends_connections_in_order() -> None:
    async with two_networks() as (near, far):
        server = await far.start_server(lambda *_: None, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        await asyncio.sleep(0.1)
        server.close()
        server.close_clients()
        assert await reader.read() == b""
        await server.wait_closed()
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_abort_clients_resets_connections() -> None:
    async with two_networks() as (near, far):
        server = await far.start_server(echo, port=PORT)
        reader, _ = await near.open_connection(FAR, PORT)
        await asyncio.sleep(0.1)
        server.close()
        server.abort_clients()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await server.wait_closed()


@in_virtual_time
async def test_serve_forever_serves_until_cancelled() -> None:
    async with two_networks() as (near, far):
        server = await far.start_server(echo, port=PORT, start_serving=False)
        serving = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already"):
            await server.serve_forever()
        reader, writer = await near.open_connection(FAR, PORT)
        await asyncio.sleep(0.1)
        serving.cancel()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving()


@in_virtual_time
async def test_a_server_is_a_context_manager() -> None:
    async with two_networks() as (near, far):
        async with await far.start_server(echo, port=PORT):
            _, writer = await near.open_connection(FAR, PORT)
            writer.close()
            await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await near.open_connection(FAR, PORT)


@in_virtual_time
async def test_a_protocol_factory_that_fails_resets_that_connection_only() -> None:
    protocols = iter([asyncio.Protocol()])
    loop = running_loop()
    async with two_networks() as (near, far):
        await far.create_server(lambda: next(protocols), port=PORT)
        _, first = await near.open_connection(FAR, PORT)
        await asyncio.sleep(0.1)
        reader, _ = await near.open_connection(FAR, PORT)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert len(far.stack.connections()) == 1
        assert len(loop.problems) == 1
        loop.problems.clear()
        first.close()
