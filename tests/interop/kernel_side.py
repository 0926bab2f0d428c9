"""Kernel sockets and the kernel's own view: what the expectations of these tests come from."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

HANG_GUARD_S = 120.0  # nothing is decided by it: a test that hangs should fail, and say where
RESET_ON_CLOSE = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger {on, 0 s}


@dataclass(slots=True, frozen=True)
class KernelSocket:
    """One line of `ss -tan`."""

    state: str
    receive_queue: int
    send_queue: int
    local: str
    peer: str
    timer: str


def kernel_sockets(port: int) -> list[KernelSocket]:
    """Every TCP socket of the kernel, in any state, with `port` at either end."""
    output = subprocess.run(
        ["ss", "--no-header", "-tano", f"( sport = :{port} or dport = :{port} )"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    sockets = []
    for line in output.splitlines():
        state, receive_queue, send_queue, local, peer, *timer = line.split()
        sockets.append(
            KernelSocket(
                state, int(receive_queue), int(send_queue), local, peer, timer[0] if timer else ""
            )
        )
    return sockets


def kernel_state(connection: socket.socket | int) -> str | None:
    """The state of the connection with this local port (or socket) as `ss` names it, or None."""
    port = connection if isinstance(connection, int) else connection.getsockname()[1]
    states = [each.state for each in kernel_sockets(port) if each.local.endswith(f":{port}")]
    states = [state for state in states if state != "LISTEN"]
    return states[0] if states else None


def kernel_counters() -> dict[str, int]:
    """The counters of this namespace by their SNMP names: "Tcp.OutRsts", "TcpExt.ListenDrops"."""
    counters: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        lines = Path("/proc/thread-self/net", name).read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            prefix, *keys = names.split()
            counters |= {
                prefix.replace(":", ".") + key: int(value)
                for key, value in zip(keys, values.split()[1:], strict=True)
            }
    return counters


@contextmanager
def counted(**expected: int) -> Iterator[None]:
    """The body makes each counter (`Tcp_OutRsts=1`) grow by exactly so much."""
    before = kernel_counters()
    yield
    after = kernel_counters()
    grown = {key: after[name] - before[name] for key, name in _counter_names(expected)}
    assert grown == expected


def _counter_names(keys: dict[str, int]) -> list[tuple[str, str]]:
    return [(key, key.replace("_", ".", 1)) for key in keys]


def eventually(condition: Callable[[], object], what: str) -> None:
    """Returns once `condition()` is true; asking again and again is all that the kernel offers."""
    deadline = time.monotonic() + HANG_GUARD_S
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.02)


def connect(address: str, port: int) -> socket.socket:
    """A kernel socket connected to ustack, whose calls fail rather than hang for ever."""
    return socket.create_connection((address, port), timeout=HANG_GUARD_S)


def reset_on_close(connection: socket.socket) -> None:
    """close() sends RST from now on (SO_LINGER 0)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)


def read_to_end(connection: socket.socket) -> bytes:
    chunks = []
    while chunk := connection.recv(1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def digest_of_rest(connection: socket.socket) -> tuple[int, str]:
    """Length and SHA-256 of everything up to EOF."""
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    digest = sha256()
    length = 0
    while count := connection.recv_into(buffer):
        digest.update(view[:count])
        length += count
    return length, digest.hexdigest()


@contextmanager
def sending(connection: socket.socket, data: bytes, half_close: bool = True) -> Iterator[None]:
    """A thread sends `data`, then EOF, while the body reads; it has ended when this returns."""
    errors: list[OSError] = []

    def send() -> None:
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    yield
    thread.join(HANG_GUARD_S)
    assert not thread.is_alive()
    assert not errors


@contextmanager
def python_process(source: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program of the kernel's side, with pipes; killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
