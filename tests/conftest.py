"""What all tests share: a private network namespace, and the captures of failed tests kept."""

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

from tests import namespace

# What the marked tests call, and the Debian package it comes in
PROGRAMS = {
    "root": {"ip": "iproute2"},
    "interop": {
        "ip": "iproute2",
        "ss": "iproute2",
        "curl": "curl",
        "nc": "netcat-openbsd",
        "tshark": "tshark",
    },
}
KEPT = ("*.pcapng", "*.stderr")  # of a failed test's tmp_path

refused = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """The whole run moves into a private namespace; where that is refused, the reason is kept."""
    try:
        namespace.enter()
    except namespace.NamespaceRefusedError as error:
        config.stash[refused] = str(error)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that configure a network run in the private namespace or not at all."""
    for marker, programs in PROGRAMS.items():
        if item.get_closest_marker(marker) is None:
            continue
        if refused in item.config.stash:
            pytest.skip(item.config.stash[refused])
        namespace.check_private()
        for program, package in programs.items():
            if shutil.which(program) is None:
                pytest.skip(f"{program} is missing: apt-get install {package}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Leaves the captures of a failed test in artifacts/, for `ustack ladder` and Wireshark."""
    report = yield
    directory = getattr(item, "funcargs", {}).get("tmp_path")
    if report.failed and isinstance(directory, Path):
        files = [file for pattern in KEPT for file in directory.rglob(pattern)]
        target = item.config.rootpath / "artifacts" / _file_name(item.nodeid)
        for file in files:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        if files:
            report.sections.append(("captures", f"kept in {target}"))
    return report


def _file_name(nodeid: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in nodeid)
