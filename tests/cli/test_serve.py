"""`ustack serve` as a process: how it begins, how it ends, what it says when it cannot."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime.virtual import (
    FAR,
    FAR6,
    NEAR,
    in_virtual_time,
    network,
    running_loop,
    two_networks,
)
from ustack.cli.common import CLOSE_TIMEOUT_S
from ustack.cli.main import run
from ustack.cli.serve import services
from ustack.cli.services import Port
from ustack.device.link import Link
from ustack.runtime.snapshot import take_snapshot

HANG_GUARD_S = 60  # a machine under load; nothing is decided by it


@in_virtual_time
async def test_every_service_is_on_both_families() -> None:
    async with (
        two_networks() as (near, far),
        services(far, None, lambda: take_snapshot(far.stack, 0)),
    ):
        for port in Port:
            for host in (FAR, FAR6):
                _, writer = await near.open_connection(host, port)
                assert writer.get_extra_info("peername")[:2] == (host, port)
                writer.transport.abort()


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["--impair", "loss=many"], "ustack serve: impair: 'loss=many'"),
        (["--impair", "gravity=3"], "ustack serve: impair: 'gravity=3'"),
        (["--mtu", "20"], "ustack serve: MTU 20"),
        (["--congestion", "magic"], "magic"),
        (["--http-root", "/nowhere"], "/nowhere"),
        (["--tun", "a name with spaces"], "interface name"),
    ],
)
def test_options_that_make_no_sense_are_wrong_usage(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", *options]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--capture", "--trace"])
def test_a_capture_that_cannot_be_written_is_one_line(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "missing" / "file.pcapng"
    assert run(["serve", option, str(path)]) == 1
    assert capsys.readouterr().err == f"ustack serve: {path}: No such file or directory\n"


@contextmanager
def serving(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`ustack serve` in this namespace; its line when ready has been read."""
    control = directory / "control"
    command = [sys.executable, "-m", "ustack", "serve", "--control", str(control), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def kernel_client(host: str, port: Port) -> socket.socket:
    """A connection of the kernel's."""
    return socket.create_connection((host, int(port)), timeout=HANG_GUARD_S)


@pytest.mark.root
def test_one_line_says_that_it_is_ready(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        assert first_line(process) == "ustack serve: ready on 10.9.0.2, fd00:9::2 (ustack0)"
        with kernel_client("fd00:9::2", Port.ECHO) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as process:
        first_line(process)
        with kernel_client("10.9.0.2", Port.ECHO) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            process.send_signal(number)
            assert client.recv(100) == b""  # FIN, not RST
            client.close()
            assert process.wait(HANG_GUARD_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not (tmp_path / "control").exists()
    gone = subprocess.run(["ip", "link", "show", "ustack0"], capture_output=True, check=False)
    assert gone.returncode != 0


@in_virtual_time
async def test_peers_that_do_not_close_delay_the_end_by_less_than_two_seconds() -> None:
    loop = running_loop()
    link = Link(gso_max=65535)
    async with network(link.a, [f"{NEAR}/24"]) as near:
        far = await network(link.b, [f"{FAR}/24"]).start()
        async with services(far, None, lambda: take_snapshot(far.stack, 0)):
            for port in (Port.ECHO, Port.DISCARD, Port.SOURCE, Port.HTTP):
                await near.create_connection(asyncio.Protocol, FAR, port)
            before = loop.time()
        link.a.close()  # the peers have vanished
        await far.aclose(CLOSE_TIMEOUT_S)
        assert loop.time() - before < 2
        assert far.stack.connections() == []
        for tcb in near.stack.connections():
            near.stack.abort(tcb, loop.clock())


@pytest.mark.root
def test_a_second_signal_forces_the_end(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        first_line(process)
        with kernel_client("10.9.0.2", Port.DISCARD) as client:
            process.send_signal(signal.SIGINT)
            assert client.recv(100) == b""
            process.send_signal(signal.SIGINT)
            assert process.wait(HANG_GUARD_S) == 130
    assert not (tmp_path / "control").exists()


@pytest.mark.root
def test_a_name_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        first_line(first)
        other = tmp_path / "other"
        other.mkdir()
        with serving(other) as second:
            assert second.wait(HANG_GUARD_S) == 1
            assert second.stderr is not None
            assert second.stderr.read() == (
                "ustack serve: TUN 'ustack0': the interface is in use by another process\n"
            )


@pytest.mark.root
def test_a_control_socket_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        first_line(first)
        with serving(tmp_path, "--tun", "ustack1", "--address", "10.10.0.2/24") as second:
            assert second.wait(HANG_GUARD_S) == 1
            assert second.stderr is not None
            error = second.stderr.read()
            assert "another ustack answers there" in error
            assert error.count("\n") == 1


@pytest.mark.root
@pytest.mark.parametrize("address", ["10.9.0.2", "10.9.0.0/24", "nonsense/24", "10.9.0.2/64"])
def test_a_bad_address_is_one_line(tmp_path: Path, address: str) -> None:
    with serving(tmp_path, "--address", address) as process:
        assert process.wait(HANG_GUARD_S) == 2
        assert process.stderr is not None
        error = process.stderr.read()
        assert error.startswith("ustack serve: ")
        assert address in error
        assert error.count("\n") == 1


@pytest.mark.root
def test_an_interface_that_vanishes_is_an_error(tmp_path: Path) -> None:
    with serving(tmp_path) as process:
        first_line(process)
        subprocess.run(["ip", "link", "delete", "ustack0"], check=True)
        assert process.wait(HANG_GUARD_S) == 1
        assert process.stderr is not None
        assert process.stderr.read() == "ustack serve: ustack0: the interface is gone\n"


@pytest.mark.root
def test_it_serves_through_a_bad_network_and_records_it(tmp_path: Path) -> None:
    capture = tmp_path / "capture.pcapng"
    options = ["--impair", "delay=1ms,loss=2%,reorder=2%,seed=7", "--capture", str(capture)]
    with serving(tmp_path, *options, "--no-offload") as process:
        first_line(process)
        sent = bytes(range(256)) * 1000
        with kernel_client("10.9.0.2", Port.ECHO) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: client.recv(65536), b""))
        assert received == sent
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_GUARD_S) == 0
    assert capture.stat().st_size > len(sent)
