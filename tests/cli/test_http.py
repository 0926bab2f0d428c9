"""The HTTP service, over the virtual network, with aiohttp at both ends."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.runtime.virtual import FAR, in_virtual_time, two_networks
from ustack.cli.http import http_service
from ustack.runtime.aiohttp import UStackConnector
from ustack.runtime.network import Network
from ustack.runtime.snapshot import take_snapshot

URL = f"http://{FAR}"


@asynccontextmanager
async def served(
    near: Network, far: Network, root: Path | None
) -> AsyncIterator[aiohttp.ClientSession]:
    """HTTP on `far`, and a session that reaches it from `near`."""
    async with (
        http_service(far, root, lambda: take_snapshot(far.stack, far.driver.now())),
        aiohttp.ClientSession(connector=UStackConnector(near)) as session,
    ):
        yield session


async def text_of(session: aiohttp.ClientSession, path: str) -> str:
    async with session.get(URL + path) as response:
        assert response.status == 200
        return await response.text()


@in_virtual_time
async def test_the_root_lists_files_that_can_be_fetched(tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello")
    async with two_networks() as (near, far), served(near, far, tmp_path) as session:
        assert "hello.txt" in await text_of(session, "/")
        assert await text_of(session, "/hello.txt") == "hello"


@in_virtual_time
async def test_nothing_outside_the_directory_is_served(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("secret")
    async with two_networks() as (near, far), served(near, far, root) as session:
        reader, writer = await near.open_connection(FAR, 80)
        writer.write(b"GET /../secret HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        assert b"200 OK" not in answer
        assert b"secret" not in answer.partition(b"\r\n\r\n")[2]
        writer.close()
        await session.close()


@in_virtual_time
async def test_the_status_page_shows_connections_and_counters() -> None:
    async with two_networks() as (near, far), served(near, far, None) as session:
        far.stack.input(bytes(10) + b"\x45", far.driver.now())
        page = await text_of(session, "/status")
        assert "ESTAB" in page
        assert f"{FAR}:80" in page
        snapshot = json.loads(await text_of(session, "/status.json"))
        assert sum(snapshot["counters"].values()) >= 1


@in_virtual_time
async def test_without_files_the_root_points_to_the_status() -> None:
    async with two_networks() as (near, far), served(near, far, None) as session:
        assert "/status" in await text_of(session, "/")


@in_virtual_time
async def test_an_idle_client_does_not_delay_the_end() -> None:
    loop = asyncio.get_running_loop()
    async with two_networks() as (near, far):
        async with served(near, far, None) as session:
            await text_of(session, "/")
            before = loop.time()
        assert loop.time() - before < 0.5
