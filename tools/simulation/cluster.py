"""Seeds on the workers of a dask cluster (package `distributed`).

A worker needs Python 3.11 and dask, nothing of this repository: each portion brings the code along,
so that what runs there is what would run here, whatever the cluster has seen before.
"""

import pickle
from collections.abc import Iterator

from distributed import Client, as_completed

from tools.simulation.campaign import Report
from tools.simulation.portable import packed_code, work

work.__module__ = "__main__"  # dask then sends the function, not the name of a module it would need


def reports(address: str, portions: list[range], only_model: bool) -> Iterator[Report]:
    """Yields a report for each portion, in the order in which they come.

    Raises OSError if there is no scheduler, ValueError if a worker cannot run ustack.
    """
    with Client(address) as client:
        code = client.scatter(packed_code(), broadcast=True)
        futures = [
            client.submit(work, code, seeds.start, seeds.stop, only_model, pure=False)
            for seeds in portions
        ]
        for future in as_completed(futures):
            report = pickle.loads(future.result())
            assert isinstance(report, Report)
            yield report
