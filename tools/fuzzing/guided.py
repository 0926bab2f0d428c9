"""Coverage guides the same generator: its dice are the bytes that atheris mutates.

An input of atheris is a tape from which `Generator` takes every choice, so a mutation changes one
decision and leaves the others; frames of raw bytes are among the choices. Needs the extra "fuzz".
"""

import sys
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["ustack"]):
    from tools.fuzzing.campaign import finding, keep, new_subject
    from tools.fuzzing.generator import Generator
    from tools.fuzzing.trace import Trace

INPUTS = Path("artifacts/fuzz-inputs")  # atheris' own collection; it grows from run to run
MAX_INPUT = 4096  # bytes
FIRST_INPUTS = 50


class TapeEndError(Exception):
    """All choices have been made."""


class Tape(Random):
    """A Random whose numbers are read from `tape`."""

    def __init__(self, tape: bytes) -> None:
        super().__init__(0)
        self._tape = tape
        self._at = 0

    def getrandbits(self, k: int) -> int:
        """The next k bits, most from whole bytes."""
        size = (k + 7) // 8
        piece = self._tape[self._at : self._at + size]
        if not piece:
            raise TapeEndError
        self._at += size
        return int.from_bytes(piece, "big") & (1 << k) - 1

    def random(self) -> float:
        """One byte is fine enough for the weights used here."""
        return self.getrandbits(8) / 256

    def randbytes(self, n: int) -> bytes:
        """Raw bytes: what a noisy frame is made of."""
        return self.getrandbits(8 * n).to_bytes(n, "big") if n else b""


def one_input(data: bytes, corpus: Path) -> None:
    """One run with the choices in `data`. A broken rule is kept and raised."""
    tape = Tape(data)
    subject = None
    try:
        subject = new_subject(tape)
        generator = Generator(tape, subject)
        try:
            generator.run(MAX_INPUT)
        except TapeEndError:
            subject.finish()
    except TapeEndError:
        return
    except Exception as error:
        if subject is not None:
            path = keep(finding(0, error, Trace(subject.setup, subject.steps)), corpus)
            print(f"{error}\n    tools/fuzz {path or corpus}")
        raise


def run(seconds: int, seed: int, corpus: Path) -> None:
    """Fuzz for so long. atheris prints the executions (#N) and exits with 77 at a finding."""
    INPUTS.mkdir(parents=True, exist_ok=True)
    if not any(INPUTS.iterdir()):  # long enough to lead somewhere
        for number in range(FIRST_INPUTS):
            (INPUTS / f"random-{number}").write_bytes(Random(number).randbytes(MAX_INPUT // 4))
    options = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={MAX_INPUT}",
        f"-artifact_prefix={INPUTS}/",
        "-timeout=30",
        "-len_control=0",
        "-print_final_stats=1",
    ]
    if seed:
        options.append(f"-seed={seed}")
    atheris.Setup([*options, str(INPUTS)], lambda data: one_input(data, corpus))
    atheris.Fuzz()


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
