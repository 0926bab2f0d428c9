"""The workers of a dask cluster (extra `cluster`), each with this repository importable."""

from collections.abc import Iterator

from distributed import Client, as_completed

from tools.simulation.campaign import Report, run_seeds


def reports(address: str, portions: list[range]) -> Iterator[Report]:
    """Yields a report for each portion, in the order in which they come. OSError: no scheduler."""
    with Client(address) as client:
        futures = client.map(run_seeds, portions, pure=False)
        for future in as_completed(futures):
            yield future.result()
