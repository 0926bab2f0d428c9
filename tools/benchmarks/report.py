"""What a benchmark hands back, and how it is shown: one table for people, one JSON for machines."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(slots=True, frozen=True)
class Target:
    """A bound on the figure itself, or on its ratio to the kernel's when `of_kernel`."""

    bound: float
    at_least: bool
    of_kernel: bool = False

    def met_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def text(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.bound:g}" + (" x kernel" if self.of_kernel else "")


@dataclass(slots=True, frozen=True)
class Figure:
    """One measured quantity: every run of ustack, and of the kernel where there is such a thing."""

    benchmark: str
    name: str
    unit: str
    runs: Sequence[float]
    kernel_runs: Sequence[float] = field(default=())
    target: Target | None = None

    @property
    def value(self) -> float:
        return statistics.median(self.runs)

    @property
    def kernel(self) -> float | None:
        return statistics.median(self.kernel_runs) if self.kernel_runs else None

    @property
    def ratio(self) -> float | None:
        """To the kernel, as the median of the ratios of neighbouring runs: drift cancels out."""
        if not self.kernel_runs:
            return None
        return statistics.median(
            ours / theirs for ours, theirs in zip(self.runs, self.kernel_runs, strict=True)
        )

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one, or when its kernel run is missing."""
        if self.target is None:
            return None
        measured = self.ratio if self.target.of_kernel else self.value
        return None if measured is None else self.target.met_by(measured)


def machine() -> dict[str, str | int]:
    """Where and when the figures were taken: without it they cannot be compared with others."""
    cpu_info = Path("/proc/cpuinfo").read_text()
    model = next((line for line in cpu_info.splitlines() if line.startswith("model name")), "?: ?")
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "cpu": model.split(":", 1)[1].strip(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def print_table(figures: Sequence[Figure], where: dict[str, str | int], console: Console) -> None:
    """One row per figure; medians, since a single slow run should not move a number."""
    table = Table(title="ustack beside the kernel, medians", title_justify="left")
    for heading in ("benchmark", "figure"):
        table.add_column(heading)
    for heading in ("ustack", "kernel", "ratio"):
        table.add_column(heading, justify="right")
    table.add_column("unit")
    table.add_column("target")
    previous = ""
    for figure in figures:
        if previous and figure.benchmark != previous:
            table.add_section()
        kernel, ratio = figure.kernel, figure.ratio
        table.add_row(
            figure.benchmark if figure.benchmark != previous else "",
            figure.name,
            _number(figure.value),
            "" if kernel is None else _number(kernel),
            "" if ratio is None else f"{ratio:.2f}",
            figure.unit,
            _verdict(figure),
        )
        previous = figure.benchmark
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in where.items()), style="dim")


def write_json(path: Path, figures: Sequence[Figure], where: dict[str, str | int]) -> None:
    """The same as the table with every run kept, so that medians can be taken again."""
    rows = [
        {
            "benchmark": figure.benchmark,
            "figure": figure.name,
            "unit": figure.unit,
            "ustack": figure.value,
            "ustack_runs": list(figure.runs),
            "kernel": figure.kernel,
            "kernel_runs": list(figure.kernel_runs),
            "ratio": figure.ratio,
            "target": figure.target.text() if figure.target else None,
            "met": figure.met,
        }
        for figure in figures
    ]
    path.write_text(json.dumps({"machine": where, "figures": rows}, indent=1) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(figure: Figure) -> str:
    if figure.target is None:
        return ""
    mark = {True: "[green]met[/]", False: "[red]missed[/]", None: "not measured"}[figure.met]
    return f"{figure.target.text()}: {mark}"
