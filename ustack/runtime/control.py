"""A Unix socket on which a running network answers questions: one line of JSON each way.

Only the user who runs the network may connect (mode 0600). The path goes when the network does;
one that a killed process left behind is taken over.
"""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

from ustack.errors import AddressInUse, MalformedFile
from ustack.runtime.snapshot import Snapshot

MAX_REQUEST = 1024  # bytes
ANSWER_TIMEOUT_S = 5.0  # a network answers from its event loop: anything longer is a hang


def control_path(tun: str) -> Path:
    """Where the network on this interface answers, unless told otherwise."""
    directory = os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    return Path(directory) / f"ustack-{tun}.sock"


@asynccontextmanager
async def control_socket(path: Path, snapshot: Callable[[], Snapshot]) -> AsyncIterator[None]:
    """Questions to `path` are answered. Raises OSError, AddressInUse when somebody is there."""
    loop = asyncio.get_running_loop()
    with _bound(path) as listening:
        server = await loop.create_unix_server(lambda: _Session(snapshot), sock=listening)
        try:
            yield
        finally:
            server.close()
            with suppress(FileNotFoundError):
                path.unlink()


def ask_sockets(path: Path) -> Snapshot:
    """What the network behind `path` holds. Raises OSError when there is none."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_TIMEOUT_S)
        client.connect(str(path))
        client.sendall(json.dumps({"command": "sockets"}).encode() + b"\n")
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    try:
        snapshot = json.loads(answer)
    except ValueError as error:
        raise MalformedFile(f"{path}: not an answer of ustack") from error
    if not isinstance(snapshot, dict) or "error" in snapshot:
        raise MalformedFile(f"{path}: {snapshot}")
    return cast("Snapshot", snapshot)


class _Session(asyncio.Protocol):
    """One question, one answer."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._request = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None
        self._request += data
        if b"\n" not in self._request and len(self._request) <= MAX_REQUEST:
            return
        transport.write(json.dumps(self._answer()).encode() + b"\n")
        transport.close()

    def _answer(self) -> Snapshot | dict[str, str]:
        try:
            request = json.loads(self._request)
        except ValueError:
            return {"error": "the request is not JSON"}
        if request != {"command": "sockets"}:
            return {"error": "unknown command"}
        return self._snapshot()


def _bound(path: Path) -> socket.socket:
    """A socket bound to `path`. Nobody can connect before it listens, so before its mode is set."""
    unix = socket.socket(socket.AF_UNIX)
    try:
        with suppress(FileNotFoundError):
            _remove_stale(path)
        try:
            unix.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except BaseException:
        unix.close()
        raise
    unix.setblocking(False)
    return unix


def _remove_stale(path: Path) -> None:
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise AddressInUse(f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise AddressInUse(f"{path}: another ustack answers there")
