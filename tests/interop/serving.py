"""`ustack serve` as a process, and the check of every capture that these tests make."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tests.interop.kernel_side import HANG_GUARD_S

ECHO, DISCARD, DAYTIME, SOURCE, HTTP = 7, 9, 13, 19, 80
CLOSED_PORT = 81
KERNEL_IPV4, KERNEL_IPV6 = "10.9.0.1", "fd00:9::1"
USTACK_IPV4, USTACK_IPV6 = "10.9.0.2", "fd00:9::2"
IPV6_MINIMUM_MTU = 1280  # RFC 8200 §5
USTACK = (sys.executable, "-m", "ustack")
SIGINT_CODES = (0, 128 + signal.SIGINT)

# Linux computes 0xFFFF where the TCP checksum is 0x0000, as it must for UDP (skb_checksum_help).
# tshark calls that bad, and it would be from us: RFC 1624 §3.
_KERNELS_ZERO = "(tcp.checksum == 0xffff && frame.packet_flags_direction == 1)"
_FAULTS = (
    f"_ws.malformed || (tcp.checksum.status == 0 && !{_KERNELS_ZERO}) || ip.checksum.status == 0"
    " || udp.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0"
)
# What the payload of a test looks like to other dissectors is not our concern.
_PAYLOAD_IS_DATA = ("-d", "tcp.port==1-65535,data", "-d", "udp.port==1-65535,data")


@dataclass(slots=True)
class Serving:
    """A running `ustack serve` with every service on its own addresses."""

    process: subprocess.Popen[str]
    control: Path
    network: int
    capture: Path | None

    def address(self, family: str) -> str:
        """Ours, of this family."""
        return f"fd00:{self.network}::2" if family == "ipv6" else f"10.{self.network}.0.2"

    def ss(self) -> str:
        """What `ustack ss` shows of it."""
        return subprocess.run(
            [*USTACK, "ss", "--control", str(self.control)],
            capture_output=True,
            text=True,
            check=True,
            timeout=HANG_GUARD_S,
        ).stdout

    def connection_lines(self, port: int) -> list[str]:
        """The lines of `ustack ss` with the kernel's port `port`."""
        return [line for line in self.ss().splitlines() if f":{port} " in f"{line} "]


Serve: TypeAlias = Callable[..., AbstractContextManager[Serving]]


@contextmanager
def ustack_serve(
    directory: Path,
    *options: str,
    offload: bool = True,
    mtu: int = 1500,
    capture: bool = True,
    tun: str = "ustack0",
    network: int = 9,
) -> Iterator[Serving]:
    """`ustack serve` in this namespace, ready; ended by SIGINT, in order, when the body is done."""
    control = directory / f"{tun}.sock"
    file = directory / f"{tun}.pcapng" if capture else None
    errors = directory / f"{tun}.stderr"
    command = [*USTACK, "serve", "--tun", tun, "--mtu", str(mtu), "--control", str(control)]
    command += ["--address", f"10.{network}.0.2/24"]
    if mtu >= IPV6_MINIMUM_MTU:
        command += ["--address", f"fd00:{network}::2/64"]
    if not offload:
        command.append("--no-offload")
    if file is not None:
        command += ["--capture", str(file)]
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [*command, *options], stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    try:
        assert process.stdout is not None
        with process.stdout as stdout:
            assert "ready" in stdout.readline(), errors.read_text()
        yield Serving(process, control, network, file)
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG_GUARD_S) in SIGINT_CODES
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert "Traceback" not in errors.read_text()
    if file is not None:
        check_capture(file)


def check_capture(file: Path) -> None:
    """tshark finds no malformed packet and no bad checksum in it."""
    found = tshark(file, "-Y", _FAULTS)
    assert found == "", f"{file.name}: {found}"


def tshark(file: Path, *options: str) -> str:
    """What tshark prints for the capture, with every checksum verified."""
    return subprocess.run(
        [
            *("tshark", "-n", "-r", str(file), *_PAYLOAD_IS_DATA),
            *("-o", "ip.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"),
            *("-o", "tcp.check_checksum:TRUE", "-o", "tcp.desegment_tcp_streams:FALSE"),
            *options,
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_GUARD_S,
    ).stdout
