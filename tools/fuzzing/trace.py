"""What was done to a stack under test, step by step, as text that can be kept and played again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Setup:
    """What the stack under test is made with."""

    version: int = 4  # of IP, for the connections it opens
    variant: str = "plain"  # a name in tools.fuzzing.subject.VARIANTS
    start: int = 0  # µs, the clock of the first step


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens to the stack: a frame, a user's call, time.

    `what`: "packet" (its bytes in `frame`), "wild" (the same, but its text may be anything),
    "turn", "time", or the name of a user's call. `who`: the connection, counted in the order the
    user got them. `size`: bytes, backlog or frames that the device takes.
    """

    at: int  # µs
    what: str
    who: int = 0
    size: int = 0
    frame: bytes = b""

    def __str__(self) -> str:
        words = [str(self.at), self.what]
        if self.frame:
            words.append(self.frame.hex())
        elif self.who or self.size:
            words += [str(self.who), str(self.size)]
        return " ".join(words)


@dataclass(slots=True)
class Trace:
    """A whole run."""

    setup: Setup
    steps: list[Step]

    def save(self, path: Path, reason: str) -> None:
        """Write the run down; `reason` is what it found, for the reader."""
        setup = self.setup
        lines = [
            *(f"# {line}" for line in reason.splitlines()),
            f"setup {setup.version} {setup.variant} {setup.start}",
            *map(str, self.steps),
        ]
        path.write_text("\n".join(lines) + "\n")

    @staticmethod
    def load(path: Path) -> "Trace":
        """Read what `save` has written. ValueError names the line that makes no sense."""
        setup: Setup | None = None
        steps: list[Step] = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            try:
                if setup is None:
                    _, version, variant, start = words
                    setup = Setup(int(version), variant, int(start))
                    continue
                step = Step(int(words[0]), words[1])
                if step.what in ("packet", "wild"):
                    frame = bytes.fromhex(words[2]) if len(words) > 2 else b""
                    step = replace(step, frame=frame)
                elif len(words) > 2:
                    step = replace(step, who=int(words[2]), size=int(words[3]))
                steps.append(step)
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path}:{number}: not a step: {line[:60]!r}") from error
        if setup is None:
            raise ValueError(f"{path}: no setup line")
        return Trace(setup, steps)


def reduce(trace: Trace, fails: Callable[[Trace], bool], budget: int = 400) -> Trace:
    """A shorter trace for which `fails` still holds, found by leaving out ever smaller parts."""
    steps = trace.steps
    size = max(len(steps) // 2, 1)
    while budget > 0:
        at = 0
        while at < len(steps) and budget > 0:
            budget -= 1
            fewer = steps[:at] + steps[at + size :]
            if fails(Trace(trace.setup, fewer)):
                steps = fewer
            else:
                at += size
        if size == 1:
            break
        size //= 2
    return Trace(trace.setup, steps)
