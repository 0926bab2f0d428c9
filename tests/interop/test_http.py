"""curl, as it comes, against the HTTP service."""

import random
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop.kernel_side import HANG_GUARD_S
from tests.interop.serving import HTTP, Serve, Serving

pytestmark = pytest.mark.interop

FILE = random.Random(80).randbytes(16 << 20)


@pytest.fixture
def serving(serve: Serve, tmp_path: Path) -> Iterator[Serving]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "file.bin").write_bytes(FILE)
    with serve("--http-root", str(root)) as serving:
        yield serving


def curl(*arguments: str) -> bytes:
    return subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", *arguments],
        stdout=subprocess.PIPE,
        check=True,
        timeout=HANG_GUARD_S,
    ).stdout


def url(serving: Serving, family: str, path: str) -> str:
    address = serving.address(family)
    return f"http://{f'[{address}]' if family == 'ipv6' else address}:{HTTP}/{path}"


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_curl_gets_a_file_intact(serving: Serving, family: str) -> None:
    body = curl(url(serving, family, "file.bin"))
    assert sha256(body).digest() == sha256(FILE).digest()


def test_curl_uses_one_connection_for_two_requests(serving: Serving, tmp_path: Path) -> None:
    output = tmp_path / "output"
    one = ("--output", str(output), url(serving, "ipv4", "file.bin"))
    connects = curl("--write-out", "%{num_connects} ", *one, *one)
    assert connects.split() == [b"1", b"0"]
    assert output.read_bytes() == FILE


def test_curl_gets_404_for_a_file_that_is_not_there(serving: Serving) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        curl(url(serving, "ipv4", "missing"))
    assert caught.value.returncode == 22  # curl(1): an HTTP error with --fail


def test_the_status_page_shows_the_connection_that_asks_for_it(serving: Serving) -> None:
    page = curl(url(serving, "ipv4", "status"))
    assert b"ESTAB" in page
