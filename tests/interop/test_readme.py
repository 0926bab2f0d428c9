"""The README's example does what it says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.kernel_side import HANG_GUARD_S, eventually, kernel_sockets

pytestmark = pytest.mark.interop

README = Path(__file__).parents[2] / "README.md"
PORT = 8000


def test_the_example_of_the_readme_fetches_a_page_from_the_kernel(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (tmp_path / "index.html").write_text("hello from the kernel")
    serve = [sys.executable, "-m", "http.server", str(PORT), "--directory", str(tmp_path)]
    with subprocess.Popen(serve, stderr=subprocess.DEVNULL) as server:
        try:
            eventually(lambda: kernel_sockets(PORT), "the HTTP server listens")
            done = subprocess.run(
                [sys.executable, "-c", example],
                capture_output=True,
                text=True,
                check=False,
                timeout=HANG_GUARD_S,
            )
        finally:
            server.terminate()
    assert done.stderr == ""
    assert done.stdout.startswith("b'HTTP/1.0 200 OK")
    assert done.stdout.endswith("hello from the kernel'\n")
