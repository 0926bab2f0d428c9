"""An unmodified aiohttp application runs on ustack, as server and as client."""

import asyncio
import io
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.runtime.virtual import FAR, FAR6, in_virtual_time, two_networks
from ustack.runtime.aiohttp import UStackConnector
from ustack.runtime.network import Network
from ustack.runtime.streams import Writer

LARGE = bytes(range(256)) * 8000


def application(files: Path | None = None) -> web.Application:
    """As anybody would write it."""

    async def hello(request: web.Request) -> web.Response:
        return web.Response(text=f"hello {request.remote}")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(LARGE[:65536])
        await response.write_eof()
        return response

    async def websocket(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data[::-1])
        return socket

    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/", hello)
    app.router.add_post("/echo", echo)
    app.router.add_get("/stream", stream)
    app.router.add_get("/websocket", websocket)
    if files is not None:
        app.router.add_static("/files", files)
    return app


@asynccontextmanager
async def served(
    near: Network, far: Network, app: web.Application
) -> AsyncIterator[aiohttp.ClientSession]:
    """`app` on port 80 of `far`, and a session that reaches it from `near`."""
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    assert runner.server is not None
    server = await far.create_server(runner.server, port=80)
    async with aiohttp.ClientSession(connector=UStackConnector(near)) as session:
        yield session
    server.close()
    await runner.cleanup()


@pytest.mark.parametrize("host", [FAR, f"[{FAR6}]"])
@in_virtual_time
async def test_a_page_is_fetched(host: str) -> None:
    async with (
        two_networks() as (near, far),
        served(near, far, application()) as session,
        session.get(f"http://{host}/") as response,
    ):
        assert response.status == 200
        assert (await response.text()).startswith("hello ")


@in_virtual_time
async def test_a_large_body_goes_both_ways() -> None:
    async with (
        two_networks() as (near, far),
        served(near, far, application()) as session,
        session.post(f"http://{FAR}/echo", data=io.BytesIO(LARGE)) as response,
    ):
        assert await response.read() == LARGE


@in_virtual_time
async def test_a_stream_is_read_slowly() -> None:
    async with (
        two_networks() as (near, far),
        served(near, far, application()) as session,
        session.get(f"http://{FAR}/stream") as response,
    ):
        size = 0
        async for chunk in response.content.iter_chunked(100_000):
            size += len(chunk)
            await asyncio.sleep(0.1)
        assert size == 100 * 65536


@in_virtual_time
async def test_one_connection_serves_many_requests() -> None:
    async with (
        two_networks() as (near, far),
        served(near, far, application()) as session,
    ):
        for _ in range(20):
            async with session.get(f"http://{FAR}/") as response:
                assert response.status == 200
                await response.read()
        assert len(near.stack.connections()) == 1


@in_virtual_time
async def test_fifty_requests_at_once() -> None:
    async with (
        two_networks() as (near, far),
        served(near, far, application()) as session,
    ):

        async def one() -> int:
            async with session.post(f"http://{FAR}/echo", data=b"x" * 10_000) as response:
                return len(await response.read())

        assert await asyncio.gather(*(one() for _ in range(50))) == [10_000] * 50


@in_virtual_time
async def test_websocket_messages_go_both_ways() -> None:
    async with (
        two_networks() as (near, far),
        served(near, far, application()) as session,
        session.ws_connect(f"http://{FAR}/websocket") as socket,
    ):
        await socket.send_str("abc")
        assert await socket.receive_str() == "cba"


@in_virtual_time
async def test_files_are_served(tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(LARGE)
    async with (
        two_networks() as (near, far),
        served(near, far, application(tmp_path)) as session,
        session.get(f"http://{FAR}/files/large.bin") as response,
    ):
        assert await response.read() == LARGE


@in_virtual_time
async def test_a_refused_connection_is_aiohttps_error() -> None:
    async with (
        two_networks() as (near, _),
        aiohttp.ClientSession(connector=UStackConnector(near)) as session,
    ):
        with pytest.raises(aiohttp.ClientConnectorError, match="refused"):
            await session.get(f"http://{FAR}:81/")


@in_virtual_time
async def test_a_connect_timeout_is_aiohttps_error() -> None:
    async with two_networks() as (near, _):
        async with aiohttp.ClientSession(connector=UStackConnector(near)) as session:
            with pytest.raises(aiohttp.ConnectionTimeoutError):
                await session.get(
                    "http://10.0.0.99/", timeout=aiohttp.ClientTimeout(sock_connect=3)
                )
        assert near.stack.connections() == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate of FAR, with its key, in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is missing: apt-get install openssl")
    path = tmp_path / "far.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={FAR}", "-addext"]
    command += [f"subjectAltName=IP:{FAR}", "-keyout", str(path), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@asynccontextmanager
async def served_over_tls(
    near: Network, far: Network, certificate: Path, trusted: Path | None
) -> AsyncIterator[aiohttp.ClientSession]:
    """The application on port 443 of `far` by `loop.start_tls`, and a session on `near`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    client_context = ssl.create_default_context(cafile=trusted)
    runner = web.AppRunner(application(), shutdown_timeout=1)
    await runner.setup()
    loop = asyncio.get_running_loop()

    async def upgrade(_: asyncio.StreamReader, writer: Writer) -> None:
        assert runner.server is not None
        protocol = runner.server()
        try:
            transport = await loop.start_tls(writer.transport, protocol, context, server_side=True)
        except OSError:
            return  # the client did not like the certificate
        assert transport is not None
        protocol.connection_made(transport)

    server = await far.start_server(upgrade, port=443)
    connector = UStackConnector(near, ssl=client_context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session
    server.close()
    await runner.cleanup()


@in_virtual_time
async def test_https_works_over_a_transport_of_ours(certificate: Path) -> None:
    async with (
        two_networks() as (near, far),
        served_over_tls(near, far, certificate, certificate) as session,
        session.post(f"https://{FAR}/echo", data=io.BytesIO(LARGE)) as response,
    ):
        assert await response.read() == LARGE


@in_virtual_time
async def test_a_certificate_that_is_not_trusted_is_aiohttps_error(certificate: Path) -> None:
    async with (
        two_networks() as (near, far),
        served_over_tls(near, far, certificate, None) as session,
    ):
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"https://{FAR}/")
