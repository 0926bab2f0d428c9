"""Which CPUs the kernel's receive work goes to: only ever for an interface of this namespace."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ustack.device.steering import cpu_mask, steer_away

ROOT = Path(__file__).parents[2]
OWN = "lo"
SHOW = """
import os, sys
from pathlib import Path
from ustack.device.tun import TunDevice
if len(sys.argv) > 1:
    os.sched_setaffinity(0, {int(sys.argv[1])})
device = TunDevice("steer0")
device.configure(["10.9.0.2/24"])
print(device.gso_max, Path("/sys/class/net/steer0/queues/rx-0/rps_cpus").read_text())
"""


def make_sysfs(directory: Path, interfaces: list[tuple[int, str]]) -> Path:
    """A tree like /sys/class/net; returns the file that names the CPUs for `OWN`."""
    for index, name in interfaces:
        (directory / name / "queues/rx-0").mkdir(parents=True)
        (directory / name / "ifindex").write_text(f"{index}\n")
    (directory / "bonding_masters").write_text("bond0\n")
    setting = directory / OWN / "queues/rx-0/rps_cpus"
    setting.write_text("0\n")
    return setting


@pytest.mark.parametrize(
    "cpus,mask",
    [
        (set(), "00000000"),
        ({0}, "00000001"),
        ({0, 1, 4}, "00000013"),
        ({31}, "80000000"),
        ({32}, "00000001,00000000"),
        ({0, 95}, "80000000,00000000,00000001"),
    ],
)
def test_a_set_of_cpus_is_written_as_the_kernel_writes_it(cpus: set[int], mask: str) -> None:
    assert cpu_mask(cpus) == mask


def test_the_work_goes_to_the_cpus_that_we_leave_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = make_sysfs(tmp_path, socket.if_nameindex())
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2})
    assert steer_away(OWN, tmp_path)
    assert setting.read_text() == "0000000b"
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    assert steer_away(OWN, tmp_path)
    assert setting.read_text() == "0000000f"


def test_with_one_cpu_nothing_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = make_sysfs(tmp_path, socket.if_nameindex())
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert not steer_away(OWN, tmp_path)
    assert setting.read_text() == "0\n"


def test_the_sysfs_of_another_namespace_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    setting = make_sysfs(tmp_path, [*socket.if_nameindex(), (99, "elsewhere0")])
    assert not steer_away(OWN, tmp_path)
    assert setting.read_text() == "0\n"


def test_a_system_without_such_a_setting_is_no_error(tmp_path: Path) -> None:
    assert not steer_away(OWN, tmp_path / "missing")
    make_sysfs(tmp_path, socket.if_nameindex()).unlink()
    (tmp_path / OWN / "queues/rx-0").rmdir()
    assert not steer_away(OWN, tmp_path)


@pytest.mark.root
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_the_kernel_is_told_when_an_interface_is_brought_up() -> None:
    ours = min(os.sched_getaffinity(0))
    command = [str(ROOT / "tools/in-namespace"), sys.executable, "-c", SHOW, str(ours)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if "No such file" in done.stderr:
        pytest.skip("this container does not let a namespace have a sysfs of its own")
    assert done.returncode == 0, done.stderr
    gso_max, mask = done.stdout.split()
    if int(gso_max) < 1 << 16:
        pytest.skip("BIG TCP over IPv4 needs Linux 6.3")
    everyone = set(range(os.cpu_count() or 1))
    assert int(mask.replace(",", ""), 16) == sum(1 << cpu for cpu in everyone - {ours})
