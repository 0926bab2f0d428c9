"""Wake-ups of a server whose connections are all quiet."""

import time
from pathlib import Path as FilePath

from tools.benchmarks.report import Figure, Target
from tools.benchmarks.servers import USTACK_SERVER, Path, Placement, idle_client, ustack_server

SETTLE_S = 2.0  # delayed ACKs and the like are over
WATCH_S = 5.0
NO_WAKE_UP = Target(0, at_least=False)


def idle(runs: int, placement: Placement) -> list[Figure]:
    """Times that the process left its sleep in epoll, and the CPU time it took meanwhile."""
    del runs  # zero is zero
    figures: list[Figure] = []
    for count in (1, 1000):
        with ustack_server(Path(), placement) as server, idle_client(USTACK_SERVER, count):
            time.sleep(SETTLE_S)
            before = _sleeps(server.pid)
            time.sleep(WATCH_S)
            wake_ups = _sleeps(server.pid) - before
        figures.append(
            Figure(
                "idle",
                f"wake-ups, {count:,} connection{'s' * (count > 1)}",
                f"in {WATCH_S:g} s",
                [wake_ups],
                target=NO_WAKE_UP,
            )
        )
    return figures


def _sleeps(pid: int) -> int:
    """Voluntary context switches of all threads: each wait that began after a wake-up."""
    total = 0
    for task in FilePath(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                total += int(line.split()[1])
    return total
