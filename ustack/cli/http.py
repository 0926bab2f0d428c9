"""The HTTP service of `ustack serve`: an ordinary aiohttp application (extra `http`)."""

import html
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from ustack.cli.services import BACKLOG, Port
from ustack.cli.ss import table
from ustack.runtime.network import Network
from ustack.runtime.snapshot import Snapshot

SHUTDOWN_TIMEOUT_S = 0.3  # for requests in progress

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def application(root: Path | None, snapshot: Callable[[], Snapshot]) -> web.Application:
    """The files of `root` at /, the connections and counters of the stack at /status."""

    async def status(_: web.Request) -> web.Response:
        return _page("ustack", _status(snapshot()))

    async def status_json(_: web.Request) -> web.Response:
        return web.json_response(snapshot())

    async def no_files(_: web.Request) -> web.Response:
        body = '<p>No files: no --http-root was given. <a href="/status">Status</a></p>'
        return _page("ustack", body)

    app = web.Application()
    app.router.add_get("/status", status)
    app.router.add_get("/status.json", status_json)
    if root is None:
        app.router.add_get("/", no_files)
    else:
        app.router.add_static("/", root, show_index=True)
    return app


@asynccontextmanager
async def http_service(
    network: Network, root: Path | None, snapshot: Callable[[], Snapshot]
) -> AsyncIterator[None]:
    """Port 80 is served."""
    logger = logging.getLogger("ustack.http")
    access_log = logger if logger.isEnabledFor(logging.INFO) else None
    runner = web.AppRunner(
        application(root, snapshot), access_log=access_log, shutdown_timeout=SHUTDOWN_TIMEOUT_S
    )
    await runner.setup()
    try:
        assert runner.server is not None
        server = await network.create_server(runner.server, port=Port.HTTP, backlog=BACKLOG)
        try:
            yield
        finally:
            server.close()
    finally:
        await runner.cleanup()


def _page(title: str, body: str) -> web.Response:
    text = PAGE.format(title=html.escape(title), body=body)
    return web.Response(text=text, content_type="text/html")


def _status(snapshot: Snapshot) -> str:
    counters = "\n".join(f"{name:24} {value}" for name, value in snapshot["counters"].items())
    sockets = "\n".join(table(snapshot))
    memory = "{used} of {limit} bytes".format_map(snapshot["memory"])
    return (
        f"<h2>Sockets</h2><pre>{html.escape(sockets)}</pre>"
        f"<h2>Memory</h2><p>{memory} in buffers</p>"
        f"<h2>Counters</h2><pre>{html.escape(counters)}</pre>"
    )
