"""What a connection and a TIME_WAIT cost to hold, and whether holding many slows new ones down."""

import gc
import time
import tracemalloc
from pathlib import Path as FilePath

from tools.benchmarks.crafted_peer import BATCH, CraftedPeer, Remote, remotes
from tools.benchmarks.report import Figure, Target
from tools.benchmarks.servers import USTACK_SERVER, Path, Placement, idle_client, ustack_server

ESTABLISHED = 10_000
TIME_WAITS = 100_000
SAMPLE = 2_000  # connections whose memory is averaged
ACCEPTS = 1_000  # per batch of the rate of accepting
BATCHES_PER_RUN = 4
KIB = 1024
IDLE_CONNECTION = Target(6, at_least=False)  # KiB
TIME_WAIT_RECORD = Target(400, at_least=False)  # bytes
SAME_SPEED = Target(0.8, at_least=True)  # equal, but for what two runs differ anyway


def memory(runs: int, placement: Placement) -> list[Figure]:
    """Bytes per idle connection and per TIME_WAIT, tables and timers included."""
    del runs  # allocation is the same in every run
    return [
        Figure(
            "memory",
            "idle connection, the stack alone",
            "KiB",
            [_idle_connection() / KIB],
            target=IDLE_CONNECTION,
        ),
        Figure(
            "memory",
            "idle connection, resident, with its transport",
            "KiB",
            [_resident_connection(placement) / KIB],
            target=IDLE_CONNECTION,
        ),
        Figure(
            "memory",
            f"TIME_WAIT, each of {TIME_WAITS:,}",
            "bytes",
            [_time_wait()],
            target=TIME_WAIT_RECORD,
        ),
    ]


def scale(runs: int, placement: Placement) -> list[Figure]:
    """Handshakes accepted per second, with an empty stack and with a full one."""
    del placement  # in this process
    peer = CraftedPeer.with_offload()
    accepts = runs * BATCHES_PER_RUN * ACCEPTS
    ends = remotes(ESTABLISHED + TIME_WAITS + 2 * accepts)
    empty = _accept_rates(peer, ends[:accepts])
    held = ends[2 * accepts :]
    for start in range(0, TIME_WAITS, SAMPLE):
        batch = held[start : start + SAMPLE]
        peer.close_actively(batch, peer.open(batch))
    peer.open(held[TIME_WAITS:])
    counts = len(peer.stack.connections()), len(peer.stack.time_waits())
    if counts != (ESTABLISHED, TIME_WAITS):
        raise RuntimeError(f"held {counts}, not {(ESTABLISHED, TIME_WAITS)}")
    full = _accept_rates(peer, ends[accepts : 2 * accepts])
    name = f"{ESTABLISHED:,} established and {TIME_WAITS:,} TIME_WAIT"
    return [
        Figure("scale", "accepted, nothing held", "per second", empty),
        Figure("scale", f"accepted beside {name}", "per second", full),
        # The best of each: other work on the machine only ever slows a batch down.
        Figure("scale", "ratio of the best", "", [max(full) / max(empty)], target=SAME_SPEED),
    ]


def _idle_connection() -> float:
    """Bytes per established connection that has carried a byte each way, by tracemalloc."""
    peer = CraftedPeer.with_offload()
    ends = remotes(SAMPLE)
    warm_up = remotes(BATCH, first=SAMPLE)
    _use(peer, warm_up)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        _use(peer, ends)
        peer.turn()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before - _own_bytes(ends)) / SAMPLE


def _use(peer: CraftedPeer, ends: list[Remote]) -> None:
    """Opened, one byte received and one sent, all acknowledged, read and quiet."""
    for start in range(0, len(ends), BATCH):
        batch = ends[start : start + BATCH]
        tcbs = peer.open(batch)
        for remote in batch:
            peer.stack.input(remote.segment(payload=b"x"), peer.now)
        for tcb in tcbs:
            peer.stack.send(tcb, peer.stack.receive(tcb, 1, peer.now), peer.now)
        peer.hear(batch)
        for remote in batch:
            peer.stack.input(remote.segment(), peer.now)
        peer.turn()


def _own_bytes(ends: list[Remote]) -> int:
    """What the crafted ends took meanwhile: the ints that `heard` left in them."""
    return sum(value.__sizeof__() for end in ends for value in (end.seq, end.ack, end.tsecr))


def _resident_connection(placement: Placement) -> float:
    """Growth of the serving process per idle connection of the kernel's client."""
    with ustack_server(Path(), placement) as server:
        with idle_client(USTACK_SERVER, 100):  # the first connections fill caches and pools
            pass
        before = _resident_bytes(server.pid)
        with idle_client(USTACK_SERVER, SAMPLE):
            return (_resident_bytes(server.pid) - before) / SAMPLE


def _resident_bytes(pid: int) -> int:
    for line in FilePath(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KIB
    raise RuntimeError(f"no VmRSS for {pid}")


def _time_wait() -> float:
    """Bytes per TIME_WAIT: the record, its key, and its share of the table and the timer wheel."""
    peer = CraftedPeer.with_offload()
    ends = remotes(TIME_WAITS)
    peer.close_actively(ends[:BATCH], peer.open(ends[:BATCH]))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for start in range(BATCH, TIME_WAITS, BATCH):
            batch = ends[start : start + BATCH]
            peer.close_actively(batch, peer.open(batch))
            ends[start : start + BATCH] = [_FORGOTTEN] * len(batch)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    records = len(peer.stack.time_waits())
    if records != TIME_WAITS or peer.stack.connections():
        raise RuntimeError(f"{records} TIME_WAITs, {len(peer.stack.connections())} connections")
    return (after - before) / (TIME_WAITS - BATCH)


_FORGOTTEN = Remote(b"", 0)


def _accept_rates(peer: CraftedPeer, ends: list[Remote]) -> list[float]:
    """Handshakes per second, per batch; the connections are aborted again outside the clock."""
    rates: list[float] = []
    for start in range(0, len(ends), ACCEPTS):
        batch = ends[start : start + ACCEPTS]
        begin = time.perf_counter()
        tcbs = peer.open(batch)
        rates.append(len(batch) / (time.perf_counter() - begin))
        for tcb in tcbs:
            peer.stack.abort(tcb, peer.now)
        peer.turn()
    return rates
