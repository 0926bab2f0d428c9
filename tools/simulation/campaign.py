"""One seed after another: what a worker does, on a core of this machine or of a cluster."""

import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tools.simulation.extras import random_scenario
from tools.simulation.model_world import DuelWorld, random_duel
from tools.simulation.observer import BrokenRule
from tools.simulation.world import World

SEEDS_PER_JOB = 20  # handed to a worker at once
MODEL_SHARE = 8  # every eighth seed is a duel with the model as well
SEEDS_PER_CLUSTER_JOB = 50  # each starts a Python


@dataclass(frozen=True, slots=True)
class Failure:
    """A seed that broke a rule, or the stack."""

    seed: int
    reason: str  # one line for a broken rule, the traceback for anything else
    model: bool = False  # against the model


@dataclass(slots=True)
class Report:
    """What came of some seeds."""

    seeds: int = 0
    duels: int = 0  # with the model
    failures: list[Failure] = field(default_factory=list)
    virtual_us: int = 0
    packets: int = 0
    text: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)  # of ends: "orderly" or an error's name

    def add(self, other: "Report") -> None:
        """Take in what another worker found."""
        self.seeds += other.seeds
        self.duels += other.duels
        self.failures += other.failures
        self.virtual_us += other.virtual_us
        self.packets += other.packets
        self.text += other.text
        self.outcomes += other.outcomes


def run_seeds(seeds: range, *, only_model: bool = False) -> Report:
    """Simulate the scenarios of `seeds`; some of them, or all and only these, with the model."""
    report = Report()
    for seed in seeds:
        report.seeds += 1
        reason = "" if only_model else run_seed(seed, report)
        model = not reason and (only_model or seed % MODEL_SHARE == 0)
        if model:
            reason = run_duel(seed, report)
        if reason:
            report.failures.append(Failure(seed, reason, model))
    return report


def run_duel(seed: int, report: Report, captures: Path | None = None) -> str:
    """ustack against the model. Returns why it failed, "" if it did not."""
    report.duels += 1
    world = DuelWorld(random_duel(seed), captures)
    try:
        report.virtual_us += world.run()
    except BrokenRule as error:
        return str(error)
    except Exception:  # noqa: BLE001 (whatever the stack raised is the finding)
        return traceback.format_exc()
    report.packets += world.packets
    report.text += world.observer.text
    terminal = world.application.error
    report.outcomes[type(terminal).__name__ if terminal else "orderly"] += 1
    return ""


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
