"""A running network answers on a Unix socket, and nobody else can ask."""

import asyncio
import json
import socket
import stat
import threading
from pathlib import Path

import pytest

from ustack.errors import AddressInUse, MalformedFile
from ustack.runtime.control import ask_sockets, control_path, control_socket
from ustack.runtime.snapshot import Snapshot

SNAPSHOT: Snapshot = {"sockets": [], "counters": {"checksum": 3}, "memory": {}}


async def answer(request: bytes, path: Path) -> dict[str, object]:
    """What the control socket says to `request`."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request)
    text = await reader.read()
    writer.close()
    decoded = json.loads(text)
    assert isinstance(decoded, dict)
    return decoded


def test_a_question_is_answered(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def main() -> None:
        async with control_socket(path, lambda: SNAPSHOT):
            assert await asyncio.to_thread(ask_sockets, path) == SNAPSHOT

    asyncio.run(main())


def test_the_socket_is_ours_alone_and_goes_with_the_network(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def main() -> None:
        async with control_socket(path, lambda: SNAPSHOT):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()

    asyncio.run(main())


@pytest.mark.parametrize(
    "request_line, complaint",
    [
        (b"not json\n", "not JSON"),
        (b'{"command": "reboot"}\n', "unknown command"),
        (b"x" * 2000, "not JSON"),
    ],
)
def test_a_bad_question_gets_an_error(tmp_path: Path, request_line: bytes, complaint: str) -> None:
    path = tmp_path / "control"

    async def main() -> None:
        async with control_socket(path, lambda: SNAPSHOT):
            assert complaint in str((await answer(request_line, path))["error"])

    asyncio.run(main())


def test_a_question_may_come_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def main() -> None:
        async with control_socket(path, lambda: SNAPSHOT):
            reader, writer = await asyncio.open_unix_connection(str(path))
            for piece in (b'{"command"', b': "sockets"}', b"\n"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            assert json.loads(await reader.read()) == SNAPSHOT
            writer.close()

    asyncio.run(main())


def test_a_socket_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()

    async def main() -> None:
        async with control_socket(path, lambda: SNAPSHOT):
            assert await asyncio.to_thread(ask_sockets, path) == SNAPSHOT

    asyncio.run(main())


def test_a_running_network_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def main() -> None:
        async with control_socket(path, lambda: SNAPSHOT):
            with pytest.raises(AddressInUse, match="another ustack"):
                async with control_socket(path, lambda: SNAPSHOT):
                    pass
            assert await asyncio.to_thread(ask_sockets, path) == SNAPSHOT

    asyncio.run(main())


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")

    async def main() -> None:
        with pytest.raises(AddressInUse, match="not a socket"):
            async with control_socket(path, lambda: SNAPSHOT):
                pass

    asyncio.run(main())
    assert path.read_text() == "data"


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "control"

    async def main() -> None:
        async with control_socket(path, lambda: SNAPSHOT):
            pass

    with pytest.raises(OSError, match="missing"):
        asyncio.run(main())


def test_asking_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask_sockets(tmp_path / "nobody")


@pytest.mark.parametrize("text", [b"garbage", b"[]", b'{"error": "no"}', b""])
def test_an_answer_that_makes_no_sense_is_an_error(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                client.sendall(text)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(MalformedFile):
            ask_sockets(path)
        thread.join()


def test_the_default_path_is_private_to_user_and_interface(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert control_path("ustack0") == Path("/run/user/1000/ustack-ustack0.sock")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert control_path("other") == Path("/tmp/ustack-other.sock")
