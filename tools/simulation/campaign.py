"""One seed after another: what a worker does, on a core of this machine or of a cluster."""

import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tools.simulation.observer import BrokenRule
from tools.simulation.scenario import random_scenario
from tools.simulation.world import World

SEEDS_PER_JOB = 20  # handed to a worker at once
SEEDS_PER_CLUSTER_JOB = 50  # each starts a Python


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke a rule, or the stack."""

    seed: int
    reason: str  # one line for a broken rule, the traceback for anything else


@dataclass(slots=True)
class Report:
    """What came of some seeds."""

    seeds: int = 0
    failures: list[Failure] = field(default_factory=list)
    virtual_us: int = 0
    packets: int = 0
    text: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)  # of ends: "orderly" or an error's name

    def add(self, other: "Report") -> None:
        """Take in what another worker found."""
        self.seeds += other.seeds
        self.failures += other.failures
        self.virtual_us += other.virtual_us
        self.packets += other.packets
        self.text += other.text
        self.outcomes += other.outcomes


def run_seeds(seeds: range) -> Report:
    """Simulate the scenarios of `seeds`."""
    report = Report()
    for seed in seeds:
        report.seeds += 1
        reason = run_seed(seed, report)
        if reason:
            report.failures.append(Failure(seed, reason))
    return report


def run_seed(seed: int, report: Report, captures: Path | None = None) -> str:
    """Simulate one scenario. Returns why it failed, "" if it did not."""
    try:
        result = World(random_scenario(seed), captures).run()
    except BrokenRule as error:
        return str(error)
    except Exception:  # noqa: BLE001 (whatever the stack raised is the finding)
        return traceback.format_exc()
    report.virtual_us += result.duration_us
    report.packets += result.packets
    report.text += result.text
    for pair in result.outcomes:
        report.outcomes.update(type(error).__name__ if error else "orderly" for error in pair)
    return ""


def jobs(seeds: range, size: int = SEEDS_PER_JOB) -> list[range]:
    """`seeds` in portions for workers."""
    return [seeds[at : at + size] for at in range(0, len(seeds), size)]
