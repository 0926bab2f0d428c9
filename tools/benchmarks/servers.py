"""The two servers of a network benchmark, up at once, and the client's runs against them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from subprocess import PIPE, Popen

from tools.benchmarks.namespaces import KERNEL_SERVER, veth_to
from tools.benchmarks.services import READY

USTACK_SERVER = "10.9.0.2"
_STOP_TIMEOUT_S = 10
_CLIENT_TIMEOUT_S = 60  # beyond its measuring time: a hang guard, no figure is decided by it


@dataclass(slots=True, frozen=True)
class Placement:
    """Which CPU the client and the server stay on; None leaves it to the scheduler."""

    client_cpu: int | None = None
    server_cpu: int | None = None

    @classmethod
    def apart(cls) -> "Placement":
        """One CPU each when there are two; the same for the kernel's runs and for ustack's."""
        cpus = sorted(os.sched_getaffinity(0))
        return cls(cpus[0], cpus[1]) if len(cpus) > 1 else cls()

    @classmethod
    def together(cls) -> "Placement":
        cpu = min(os.sched_getaffinity(0))
        return cls(cpu, cpu)


@dataclass(slots=True, frozen=True)
class Path:
    """The way between client and server."""

    mtu: int = 1500
    offload: bool = True


@contextmanager
def kernel_server(path: Path, placement: Placement) -> Iterator[Popen[str]]:
    """The services on kernel sockets in a namespace of their own, behind a veth pair."""
    unshare = ("unshare", "--net")
    with (
        _serving("tools.benchmarks.kernel_server", (), placement, prefix=unshare) as server,
        veth_to(server.pid, path.mtu, path.offload),
    ):
        yield server


@contextmanager
def ustack_server(path: Path, placement: Placement) -> Iterator[Popen[str]]:
    """The same services on ustack, behind a TUN in this namespace."""
    options = ["--mtu", str(path.mtu)]
    if not path.offload:
        options.append("--no-offload")
    with _serving("tools.benchmarks.ustack_server", options, placement) as server:
        yield server


def alternate(
    measurement: str, seconds: float, runs: int, path: Path, placement: Placement
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """`runs` results of ustack and of the kernel, in turns: both see the same minute."""
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    with ExitStack() as stack:
        stack.enter_context(kernel_server(path, placement))
        stack.enter_context(ustack_server(path, placement))
        for _ in range(runs):
            theirs.append(run_client(measurement, KERNEL_SERVER, seconds, placement))
            ours.append(run_client(measurement, USTACK_SERVER, seconds, placement))
    return ours, theirs


def run_client(
    measurement: str, host: str, amount: float, placement: Placement
) -> dict[str, float]:
    """One run of the neutral client as a process of its own; what it measured."""
    command = [
        *_python("tools.benchmarks.neutral_client", placement.client_cpu),
        *(measurement, host, str(amount)),
    ]
    limit = amount + _CLIENT_TIMEOUT_S
    done = subprocess.run(command, stdout=PIPE, text=True, check=True, timeout=limit)
    result: dict[str, float] = json.loads(done.stdout)
    return result


@contextmanager
def idle_client(host: str, count: int) -> Iterator[None]:
    """Holds `count` idle connections of a client process open while the body runs."""
    command = [*_python("tools.benchmarks.neutral_client", None), "hold-idle", host, str(count)]
    with _until_stdin_ends(command) as client:
        assert client.stdout is not None
        held = json.loads(client.stdout.readline())["held"]
        if held != count:
            raise RuntimeError(f"only {held} of {count} connections are held")
        yield


@contextmanager
def _serving(
    module: str, options: Sequence[str], placement: Placement, prefix: Sequence[str] = ()
) -> Iterator[Popen[str]]:
    command = [*prefix, *_python(module, placement.server_cpu), *options]
    with _until_stdin_ends(command) as server:
        assert server.stdout is not None
        line = server.stdout.readline().strip()
        if line != READY:
            raise RuntimeError(f"{module} said {line!r} instead of {READY!r}")
        yield server


@contextmanager
def _until_stdin_ends(command: Sequence[str]) -> Iterator[Popen[str]]:
    """A process that ends by itself when we close its stdin, or are gone."""
    process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)
    try:
        yield process
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _python(module: str, cpu: int | None) -> list[str]:
    pin = [] if cpu is None else ["--cpu", str(cpu)]
    return [sys.executable, "-m", module, *pin]
