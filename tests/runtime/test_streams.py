"""The streams have asyncio's shape; wait_closed means that the peer has everything."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tests.runtime.virtual import FAR, FAR6, in_virtual_time, running_loop, two_networks
from ustack.config import StackConfig, TcpConfig
from ustack.device.link import LinkConfig
from ustack.runtime.streams import Writer

PORT = 7000
SMALL = {"config": StackConfig(tcp=TcpConfig(nagle=False, send_buffer=65536, receive_buffer=65536))}


async def echo(reader: asyncio.StreamReader, writer: Writer) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def keep(reader: asyncio.StreamReader, writer: Writer) -> None:
    """Holds the connection until the peer ends it, reading nothing meanwhile."""
    with suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize("host", [FAR, FAR6])
@in_virtual_time
async def test_an_echo_server_returns_every_byte(host: str) -> None:
    async with two_networks() as (near, far):
        await far.start_server(echo, port=PORT)
        reader, writer = await near.open_connection(host, PORT)
        sent = bytes(range(256)) * 4000

        async def upload() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        _, received = await asyncio.gather(upload(), reader.read())
        assert received == sent
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("size", [10, 5000])
@in_virtual_time
async def test_fast_open_saves_a_round_trip_once_the_cookie_is_there(size: int) -> None:
    # RFC 7413: the request goes with the SYN, the answer comes with or behind the SYN,ACK
    delay = LinkConfig(delay_us=50_000)
    async with two_networks(delay) as (near, far):
        await far.start_server(echo, port=PORT, config=TcpConfig(fast_open_queue=5))
        took = []
        for _ in range(2):
            began = running_loop().time()
            request = b"x" * size
            reader, writer = await near.open_connection(FAR, PORT, fast_open=request)
            assert await reader.readexactly(size) == request
            took.append(running_loop().time() - began)
            writer.close()
            await writer.wait_closed()
        assert took[0] >= 0.2  # handshake, then request and answer
        if size < 1000:
            assert took[1] < 0.15  # one round trip


@in_virtual_time
async def test_bytes_survive_a_bad_link() -> None:
    bad = LinkConfig(delay_us=5000, jitter_us=1000, loss=0.03, reorder=0.05, duplicate=0.02)
    async with two_networks(bad) as (near, far):
        await far.start_server(echo, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        sent = bytes(range(256)) * 1000
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == sent
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_a_plain_function_can_take_connections() -> None:
    async with two_networks() as (near, far):
        taken: asyncio.Queue[tuple[asyncio.StreamReader, Writer]] = asyncio.Queue()
        await far.start_server(lambda *streams: taken.put_nowait(streams), port=PORT)
        _, writer = await near.open_connection(FAR, PORT)
        far_reader, far_writer = await taken.get()
        writer.write(b"line\nrest")
        writer.close()
        assert await far_reader.readline() == b"line\n"
        assert await far_reader.read() == b"rest"
        far_writer.close()
        await far_writer.wait_closed()
        await writer.wait_closed()


@in_virtual_time
async def test_drain_waits_for_a_slow_reader() -> None:
    async with two_networks(near=SMALL, far=SMALL) as (near, far):
        taken: asyncio.Queue[tuple[asyncio.StreamReader, Writer]] = asyncio.Queue()
        await far.start_server(lambda *streams: taken.put_nowait(streams), port=PORT)
        _, writer = await near.open_connection(FAR, PORT)
        far_reader, far_writer = await taken.get()
        writer.write(bytes(1_000_000))
        draining = asyncio.create_task(writer.drain())
        await asyncio.sleep(30)
        assert not draining.done()
        await far_reader.readexactly(1_000_000)
        await draining
        writer.close()
        far_writer.close()


@in_virtual_time
async def test_wait_closed_returns_when_the_peer_has_acknowledged() -> None:
    async with two_networks(LinkConfig(delay_us=50_000)) as (near, far):
        await far.start_server(echo, port=PORT)
        _, writer = await near.open_connection(FAR, PORT)
        writer.write(b"data")
        writer.close()
        before = running_loop().time()
        await writer.wait_closed()
        assert running_loop().time() - before >= 0.1
        await writer.wait_closed()  # at once now


@in_virtual_time
async def test_wait_closed_raises_what_broke_the_connection() -> None:
    impatient = {"config": StackConfig(tcp=TcpConfig(user_timeout_us=5_000_000))}
    async with two_networks(near=impatient) as (near, far):
        await far.start_server(keep, port=PORT)
        _, writer = await near.open_connection(FAR, PORT)
        await asyncio.sleep(1)
        far.device.close()  # the host vanishes
        writer.write(b"into the void")
        writer.close()
        with pytest.raises(TimeoutError):
            await writer.wait_closed()
        for tcb in far.stack.connections():
            far.stack.abort(tcb, running_loop().clock())
        far.driver.request_turn()


@in_virtual_time
async def test_wait_closed_after_abort_says_so() -> None:
    async with two_networks() as (near, far):
        await far.start_server(keep, port=PORT)
        _, writer = await near.open_connection(FAR, PORT)
        writer.transport.abort()
        with pytest.raises(ConnectionAbortedError):
            await writer.wait_closed()


@in_virtual_time
async def test_a_reset_reaches_the_reader() -> None:
    def reset(_: asyncio.StreamReader, writer: Writer) -> None:
        writer.transport.abort()

    async with two_networks() as (near, far):
        await far.start_server(reset, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionResetError):
            await writer.drain()


@in_virtual_time
async def test_a_handler_that_fails_closes_its_connection() -> None:
    async def fail(reader: asyncio.StreamReader, _: Writer) -> None:
        await reader.readexactly(1)
        raise ValueError("the handler gave up")

    loop = running_loop()
    async with two_networks() as (near, far):
        await far.start_server(fail, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        writer.write(b"x")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert [str(problem["exception"]) for problem in loop.problems] == ["the handler gave up"]
        loop.problems.clear()


@in_virtual_time
async def test_a_cancelled_handler_closes_its_connection() -> None:
    handlers: list[asyncio.Task[None]] = []

    async def handler(reader: asyncio.StreamReader, _: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.append(task)
        await reader.read()

    async with two_networks() as (near, far):
        await far.start_server(handler, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        await asyncio.sleep(1)
        handlers[0].cancel()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


AWAITS: dict[str, Callable[[asyncio.StreamReader, Writer], Awaitable[object]]] = {
    "read": lambda reader, _: reader.read(),
    "readline": lambda reader, _: reader.readline(),
    "drain": lambda _, writer: writer.drain(),
    "wait_closed": lambda _, writer: writer.wait_closed(),
}


@pytest.mark.parametrize("name", AWAITS)
@in_virtual_time
async def test_cancelling_an_await_leaves_the_connection_usable(name: str) -> None:
    async with two_networks(near=SMALL, far=SMALL) as (near, far):
        taken: asyncio.Queue[tuple[asyncio.StreamReader, Writer]] = asyncio.Queue()
        await far.start_server(lambda *streams: taken.put_nowait(streams), port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        far_reader, far_writer = await taken.get()
        writer.write(bytes(1_000_000))  # so that drain() has to wait

        async def wait() -> None:
            await AWAITS[name](reader, writer)

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(1)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        far_writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        assert await far_reader.readexactly(1_000_000) == bytes(1_000_000)
        writer.close()
        assert await far_reader.read() == b""
        far_writer.close()
        await asyncio.gather(writer.wait_closed(), far_writer.wait_closed())


@in_virtual_time
async def test_one_cancelled_wait_closed_does_not_disturb_another() -> None:
    async with two_networks(LinkConfig(delay_us=50_000)) as (near, far):
        await far.start_server(echo, port=PORT)
        _, writer = await near.open_connection(FAR, PORT)
        writer.close()
        impatient = asyncio.create_task(writer.wait_closed())
        patient = asyncio.create_task(writer.wait_closed())
        await asyncio.sleep(0.01)
        impatient.cancel()
        await patient
        assert impatient.cancelled()


@in_virtual_time
async def test_a_connect_that_takes_too_long_can_be_given_up() -> None:
    async with two_networks() as (near, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await near.open_connection("10.0.0.99", PORT)
        await asyncio.sleep(0)
        assert near.stack.connections() == []


@in_virtual_time
async def test_a_hundred_connections_share_a_stack() -> None:
    async with two_networks() as (near, far):
        await far.start_server(echo, port=PORT)

        async def one(number: int) -> None:
            reader, writer = await near.open_connection(FAR if number % 2 else FAR6, PORT)
            sent = number.to_bytes(4, "big") * 1000
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == sent
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(one(number) for number in range(100)))
