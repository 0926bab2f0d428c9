"""Seeds in a process that has nothing but Python: the code of this repository comes along."""

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("ustack", "tools/simulation")


def packed_code() -> bytes:
    """The packages of this repository that a simulation needs, as a zip that can be imported."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tools/__init__.py", "")  # zipimport knows no namespace packages
        for package in PACKAGES:
            for file in sorted((ROOT / package).rglob("*.py")):
                archive.write(file, file.relative_to(ROOT))
    return packed.getvalue()


def work(code: bytes, start: int, stop: int, only_model: bool = False) -> bytes:
    """On a worker: the pickled report of `run_seeds` on seeds `start` to `stop` - 1.

    In a process of its own, since the worker may have imported another ustack long ago.
    """
    seeds = (
        "import pickle, sys; from tools.simulation.campaign import run_seeds; "
        f"report = run_seeds(range({start}, {stop}), only_model={only_model}); "
        "sys.stdout.buffer.write(pickle.dumps(report))"
    )
    with tempfile.NamedTemporaryFile(suffix=".zip") as archive:
        archive.write(code)
        archive.flush()
        script = f"import sys; sys.path.insert(0, {archive.name!r}); {seeds}"
        done = subprocess.run(
            [sys.executable, "-I", "-c", script], capture_output=True, check=False
        )
    if done.returncode:
        raise ValueError(f"a worker failed: {done.stderr.decode(errors='replace')[-500:]}")
    return done.stdout
