"""The services of `ustack serve`, over the virtual network."""

import asyncio
import re
from itertools import pairwise

import pytest

from tests.runtime.virtual import FAR, FAR6, in_virtual_time, two_networks
from ustack.cli.services import SERVICES, SOURCE_CHUNK, Port
from ustack.config import StackConfig, TcpConfig
from ustack.runtime.network import Network

SMALL = {"config": StackConfig(tcp=TcpConfig(nagle=False, send_buffer=65536, receive_buffer=65536))}


async def serve(far: Network) -> None:
    for port, service in SERVICES.items():
        await far.create_server(service, port=port)


@pytest.mark.parametrize("host", [FAR, FAR6])
@in_virtual_time
async def test_echo_returns_everything_before_it_closes(host: str) -> None:
    async with two_networks(near=SMALL, far=SMALL) as (near, far):
        await serve(far)
        reader, writer = await near.open_connection(host, Port.ECHO)
        sent = bytes(range(256)) * 4000
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == sent
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_echo_does_not_read_what_it_cannot_send_back() -> None:
    async with two_networks(near=SMALL, far=SMALL) as (near, far):
        await serve(far)
        reader, writer = await near.open_connection(FAR, Port.ECHO, limit=1000)
        sent = bytes(range(256)) * 8000
        writer.write(sent)
        await asyncio.sleep(30)
        # Two windows, two send buffers, and the water mark of one transport: the rest is ours.
        assert writer.transport.get_write_buffer_size() > len(sent) - 8 * 65536
        writer.write_eof()
        assert await reader.read() == sent
        writer.close()


@in_virtual_time
async def test_discard_takes_everything_and_says_nothing() -> None:
    async with two_networks(near=SMALL, far=SMALL) as (near, far):
        await serve(far)
        reader, writer = await near.open_connection(FAR, Port.DISCARD)
        writer.write(bytes(1_000_000))
        await writer.drain()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_daytime_says_one_line_and_closes() -> None:
    async with two_networks() as (near, far):
        await serve(far)
        reader, writer = await near.open_connection(FAR, Port.DAYTIME)
        line = (await reader.read()).decode("ascii")
        assert re.fullmatch(r"\w+, \w+ \d\d, \d{4} \d\d:\d\d:\d\d-UTC\r\n", line)
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_source_sends_the_pattern_until_the_peer_has_enough() -> None:
    async with two_networks(near=SMALL, far=SMALL) as (near, far):
        await serve(far)
        reader, writer = await near.open_connection(FAR, Port.SOURCE)
        received = await reader.readexactly(2 * len(SOURCE_CHUNK))
        assert received == 2 * SOURCE_CHUNK
        writer.write_eof()
        while await reader.read(1 << 20):
            pass
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_source_waits_for_a_reader_that_pauses() -> None:
    async with two_networks(near=SMALL, far=SMALL) as (near, far):
        await serve(far)
        _, writer = await near.open_connection(FAR, Port.SOURCE)
        await asyncio.sleep(1)
        tcb = next(tcb for tcb in far.stack.connections())
        before = tcb.counters.bytes_acked
        await asyncio.sleep(5)
        assert tcb.counters.bytes_acked == before
        writer.transport.abort()


def test_the_source_repeats_without_a_seam() -> None:
    lines = (SOURCE_CHUNK * 2).split(b"\r\n")[:-1]
    assert {len(line) for line in lines} == {72}
    for line, following in pairwise(lines):
        assert line[1:] == following[:-1]
