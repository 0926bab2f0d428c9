"""On which CPUs the kernel does its work for what we write into an interface.

Without this it delivers each packet to its receiver inside our write(), and sends what an ACK of
ours lets it send there too. With receive packet steering (RPS) other CPUs do that meanwhile.
Measured with ustack and a kernel peer on a CPU each, bulk rate beside kernel to kernel: from the
kernel 0.52 and 0.62 with it; to the kernel in frames of 64 KiB 0.78 and 0.70 (each costs an
interrupt of the other CPU), of 256 KiB 0.93 and 0.99. Round trips of one byte take as long.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

CPU_WORD = 32  # bits of a CPU mask between two commas: Documentation/core-api/printk-formats


def steer_away(name: str, sysfs: Path = Path("/sys/class/net")) -> bool:
    """The kernel handles what comes from interface `name` on the CPUs that this process may not
    use, or, if it may use all, on any. False: it cannot be told to, or there is only one CPU.

    Only a matter of speed, so refusals are no error. `sysfs` shows the interfaces of the network
    namespace in which it was mounted; when that is not ours, it is left alone.
    """
    try:
        shown = {(int((path / "ifindex").read_text()), path.name) for path in _interfaces(sysfs)}
        if shown != set(socket.if_nameindex()):
            return False
        everyone = set(range(os.cpu_count() or 1))
        if len(everyone) == 1:
            return False
        others = everyone - os.sched_getaffinity(0) or everyone
        (sysfs / name / "queues/rx-0/rps_cpus").write_text(cpu_mask(others))
    except OSError:
        return False
    return True


def _interfaces(sysfs: Path) -> Iterator[Path]:
    return (path for path in sysfs.iterdir() if path.is_dir())  # bonding_masters is a file


def cpu_mask(cpus: set[int]) -> str:
    """The CPUs as the kernel writes a set: hexadecimal words, the highest first."""
    mask = sum(1 << cpu for cpu in cpus)
    words: list[str] = []
    while mask or not words:
        words.insert(0, f"{mask % (1 << CPU_WORD):08x}")
        mask >>= CPU_WORD
    return ",".join(words)
