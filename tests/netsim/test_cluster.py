"""Seeds on the workers of a cluster: the same reports as here."""

import pickle
import sys

import pytest

from tools.simulation.__main__ import portions
from tools.simulation.campaign import Report, run_seeds
from tools.simulation.portable import packed_code, work

SEEDS = range(100_000, 100_004)


def test_a_worker_without_this_repository_gives_the_same_report() -> None:
    assert pickle.loads(work(packed_code(), SEEDS.start, SEEDS.stop)) == run_seeds(SEEDS)


def test_a_worker_that_cannot_run_it_says_why() -> None:
    with pytest.raises(ValueError, match="No module named 'tools'"):
        work(b"", SEEDS.start, SEEDS.stop)


def test_dask_workers_give_the_same_reports() -> None:
    distributed = pytest.importorskip("distributed", reason="needs distributed (dask)")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        total = Report()
        for portion in portions(SEEDS, None, cluster.scheduler_address):
            total.add(portion)
    assert total == run_seeds(SEEDS)


def test_without_dask_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "tools.simulation.cluster", raising=False)
    with pytest.raises(Exception, match="pip install distributed"):
        list(portions(SEEDS, None, "127.0.0.1:1"))
