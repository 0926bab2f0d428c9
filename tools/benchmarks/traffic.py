"""Bulk, ping-pong and connection rate: one client, against ustack and against the kernel."""

from tools.benchmarks.report import Figure, Target
from tools.benchmarks.servers import Path, Placement, alternate

MEGABYTE = 1e6
BULK_S = 1.5
SHORT_S = 1.5
HALF_THE_KERNEL = Target(0.5, at_least=True, of_kernel=True)
THE_KERNEL = Target(1.0, at_least=True, of_kernel=True)
WITHOUT_OFFLOAD = Target(25, at_least=True)  # MB/s each way
PING_PONG = Target(2.0, at_least=False, of_kernel=True)
CONNECTS = Target(0.25, at_least=True, of_kernel=True)


def bulk(runs: int, placement: Placement) -> list[Figure]:
    """One connection, MTU 1500, super-segments and checksum offload on both sides."""
    return _both_ways("bulk", Path(), runs, placement, HALF_THE_KERNEL, THE_KERNEL)


def bulk_no_offload(runs: int, placement: Placement) -> list[Figure]:
    """Every packet of the wire is a packet of the TUN, with its checksum done in Python."""
    path = Path(offload=False)
    return _both_ways("bulk-no-offload", path, runs, placement, WITHOUT_OFFLOAD, WITHOUT_OFFLOAD)


def bulk_jumbo(runs: int, placement: Placement) -> list[Figure]:
    """The largest MTU of IP."""
    return _both_ways("bulk-jumbo", Path(mtu=65535), runs, placement)


def ping_pong(runs: int, placement: Placement) -> list[Figure]:
    """One byte there and back, with client and server on two CPUs and on one."""
    figures: list[Figure] = []
    for where, place, p50_target in (
        ("two CPUs", placement, PING_PONG),
        ("one CPU", Placement.together(), None),
    ):
        ours, theirs = alternate("ping-pong", SHORT_S, runs, Path(), place)
        for key, name, target in (("p50_us", "p50", p50_target), ("p99_us", "p99", None)):
            figures.append(
                Figure(
                    "ping-pong",
                    f"{name}, {where}",
                    "µs",
                    [result[key] for result in ours],
                    [result[key] for result in theirs],
                    target,
                )
            )
    return figures


def connects(runs: int, placement: Placement) -> list[Figure]:
    """Connect, echo one byte, close: complete connections per second."""
    figures: list[Figure] = []
    for measurement, name, target in (
        ("connects", "one at a time", CONNECTS),
        ("connects-at-once", "16 at once", None),
    ):
        ours, theirs = alternate(measurement, SHORT_S, runs, Path(), placement)
        figures.append(
            Figure(
                "connects",
                name,
                "per second",
                [result["per_second"] for result in ours],
                [result["per_second"] for result in theirs],
                target,
            )
        )
    return figures


def _both_ways(
    benchmark: str,
    path: Path,
    runs: int,
    placement: Placement,
    target_in: Target | None = None,
    target_out: Target | None = None,
) -> list[Figure]:
    figures: list[Figure] = []
    for measurement, name, target in (
        ("bulk-in", "in (kernel to ustack)", target_in),
        ("bulk-out", "out (ustack to kernel)", target_out),
    ):
        ours, theirs = alternate(measurement, BULK_S, runs, path, placement)
        figures.append(
            Figure(
                benchmark,
                name,
                "MB/s",
                [result["bytes_per_second"] / MEGABYTE for result in ours],
                [result["bytes_per_second"] / MEGABYTE for result in theirs],
                target,
            )
        )
    return figures
