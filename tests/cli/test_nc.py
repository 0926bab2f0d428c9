"""`ustack nc`: descriptors through a connection, over the virtual network."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime.test_streams import echo
from tests.runtime.virtual import FAR, FAR6, in_virtual_time, two_networks
from ustack.cli.common import Failure
from ustack.cli.main import run
from ustack.cli.nc import accept_one, connect, converse
from ustack.runtime.streams import Writer

PORT = 7000


@contextmanager
def pipe(content: bytes = b"", *, ended: bool = False) -> Iterator[tuple[int, int]]:
    """The reading and the writing end of a pipe that holds `content`."""
    reading, writing = os.pipe()
    os.write(writing, content)
    if ended:
        os.close(writing)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        if not ended:
            os.close(writing)


def everything(descriptor: int) -> bytes:
    """What is in a pipe now."""
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("host", [FAR, FAR6])
@in_virtual_time
async def test_stdin_goes_to_the_peer_and_the_peer_to_stdout(host: str) -> None:
    async with two_networks() as (near, far):
        await far.start_server(echo, port=PORT)
        with pipe(b"hello\n", ended=True) as (source, _), pipe() as (result, sink):
            streams = await connect(near, host, PORT)
            await converse(streams, source, sink, half_close=True)
            assert everything(result) == b"hello\n"


@in_virtual_time
async def test_without_half_close_the_peer_ends_the_conversation() -> None:
    async def answer(reader: asyncio.StreamReader, writer: Writer) -> None:
        assert await reader.readexactly(4) == b"ping"
        await asyncio.sleep(60)
        assert not reader.at_eof()
        writer.write(b"pong")
        writer.close()

    async with two_networks() as (near, far):
        await far.start_server(answer, port=PORT)
        with pipe(b"ping", ended=True) as (source, _), pipe() as (result, sink):
            await converse(await connect(near, FAR, PORT), source, sink, half_close=False)
            assert everything(result) == b"pong"


@in_virtual_time
async def test_our_side_goes_on_after_the_peers_fin() -> None:
    received = bytearray()

    async def half_closing(reader: asyncio.StreamReader, writer: Writer) -> None:
        writer.write(b"over to you")
        writer.write_eof()
        received.extend(await reader.read())
        writer.close()

    async with two_networks() as (near, far):
        await far.start_server(half_closing, port=PORT)
        reading, writing = os.pipe()
        with pipe() as (result, sink):
            talking = asyncio.create_task(
                converse(await connect(near, FAR, PORT), reading, sink, half_close=True)
            )
            await asyncio.sleep(10)
            assert everything(result) == b"over to you"
            os.write(writing, b"thanks")
            os.close(writing)
            await talking
            os.close(reading)
            await asyncio.sleep(1)
            assert received == b"thanks"


@in_virtual_time
async def test_files_can_be_source_and_sink(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "in").write_bytes(content)
    async with two_networks() as (near, far):
        await far.start_server(echo, port=PORT)
        with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
            await converse(
                await connect(near, FAR, PORT), source.fileno(), sink.fileno(), half_close=True
            )
    assert (tmp_path / "out").read_bytes() == content


@in_virtual_time
async def test_a_full_stdout_stops_the_peer() -> None:
    sent = bytes(range(256)) * 100_000

    async def pour(_: asyncio.StreamReader, writer: Writer) -> None:
        writer.write(sent)
        writer.close()

    async with two_networks() as (near, far):
        await far.start_server(pour, port=PORT)
        with pipe(ended=True) as (source, _), pipe() as (result, sink):
            streams = await connect(near, FAR, PORT)
            talking = asyncio.create_task(converse(streams, source, sink, half_close=False))
            await asyncio.sleep(100)
            assert not talking.done()
            (tcb,) = far.stack.connections()
            assert tcb.snd.wnd == 0
            received = bytearray()
            while len(received) < len(sent):
                received += everything(result)
                await asyncio.sleep(0)
            await talking
            assert received == sent


@in_virtual_time
async def test_the_first_connection_is_taken_and_no_other() -> None:
    async with two_networks() as (near, far):
        accepting = asyncio.create_task(accept_one(far, PORT))
        await asyncio.sleep(0.1)
        reader, writer = await near.open_connection(FAR6, PORT)
        _, accepted = await accepting
        with pytest.raises(ConnectionRefusedError):
            await near.open_connection(FAR, PORT)
        accepted.write(b"hello")
        accepted.close()
        assert await reader.read() == b"hello"
        writer.close()


@in_virtual_time
async def test_a_refused_connection_is_named() -> None:
    async with two_networks() as (near, _):
        with pytest.raises(Failure) as caught:
            await connect(near, FAR, 99)
        assert caught.value.format_message() == f"{FAR} port 99: Connection refused"
        assert caught.value.exit_code == 1


@in_virtual_time
async def test_a_broken_connection_is_an_error() -> None:
    async def reset(reader: asyncio.StreamReader, writer: Writer) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async with two_networks() as (near, far):
        await far.start_server(reset, port=PORT)
        with pipe(b"x") as (source, _), pipe() as (_, sink):
            streams = await connect(near, FAR, PORT)
            with pytest.raises(ConnectionResetError):
                await converse(streams, source, sink, half_close=False)


@pytest.mark.parametrize(
    "arguments",
    [[], ["10.9.0.1"], ["-l", "80", "10.9.0.1", "80"], ["-l", "0"], ["10.9.0.1", "70000"]],
)
def test_arguments_that_make_no_sense_are_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["nc", *arguments]) == 2
    assert capsys.readouterr().err
