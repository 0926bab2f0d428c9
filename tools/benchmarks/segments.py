"""What one segment costs inside the stack: no device, no event loop, no system call."""

import time
from collections.abc import Callable

from tools.benchmarks.crafted_peer import BATCH, MSS, CraftedPeer, Remote, remotes
from tools.benchmarks.report import Figure, Target
from tools.benchmarks.servers import Placement
from ustack.tcp.tcb import Tcb

BATCHES = 100
SUPER_SEGMENT = 43 * MSS  # the most that fits a 64 KiB packet
RECEIVE_LIMIT = 8 << 20
BUFFER = 4 << 20  # a whole batch fits; buffers that follow the traffic begin smaller
INPUT_COST = Target(3.0, at_least=False)  # µs, `input` to receive buffer, on the reference machine


def segments(runs: int, placement: Placement) -> list[Figure]:
    """µs per segment: `Stack.input` of data in order, and `flush` of data to send."""
    del placement  # in this process
    return [
        Figure(
            "segments",
            "input, 1448 B in order",
            "µs",
            [_input_cost(MSS) for _ in range(runs)],
            target=INPUT_COST,
        ),
        Figure(
            "segments",
            "input, super-segment of 62 KB",
            "µs",
            [_input_cost(SUPER_SEGMENT) for _ in range(runs)],
        ),
        Figure(
            "segments",
            "input, 1448 B, checksum verified here",
            "µs",
            [_input_cost(MSS, verified=True) for _ in range(runs)],
        ),
        Figure(
            "segments",
            "input to ACK sent and data read, alone",
            "µs",
            [_whole_turn() for _ in range(runs)],
        ),
        Figure(
            "segments",
            "one byte in, read, sent back",
            "µs",
            [_echo_turn() for _ in range(runs)],
        ),
        Figure(
            "segments",
            "flush, per super-segment sent",
            "µs",
            [_emit_cost(CraftedPeer.with_offload) for _ in range(runs)],
        ),
        Figure(
            "segments",
            "flush, per 1448 B sent with its checksum",
            "µs",
            [_emit_cost(CraftedPeer.without_offload) for _ in range(runs)],
        ),
    ]


def _open(make: Callable[[], CraftedPeer]) -> tuple[CraftedPeer, Remote, Tcb]:
    peer = make()
    (remote,) = remotes(1)
    (tcb,) = peer.open([remote])
    return peer, remote, tcb


def _input_cost(size: int, verified: bool = False) -> float:
    """The best batch: what the code costs, without the machine's other work."""
    peer, remote, tcb = _open(lambda: CraftedPeer.with_offload(BUFFER))
    payload = bytes(size)
    best = float("inf")
    for batch in range(BATCHES):
        count = (BATCH if size <= MSS else BATCH // 4) if batch else 1  # the window opens first
        frames = [remote.segment(payload=payload) for _ in range(count)]
        if verified:
            frames = [complete_checksum(frame) for frame in frames]
        take, now = peer.stack.input, peer.now
        start = time.perf_counter()
        for frame in frames:
            take(frame, now)
        best = min(best, (time.perf_counter() - start) / count)
        received = 0
        while data := peer.stack.receive(tcb, RECEIVE_LIMIT, now):
            received += len(data)
        if received != count * size:
            raise RuntimeError(f"{received} of {count * size} bytes: {peer.stack.counters}")
        peer.now += 100
        peer.hear([remote])
    return best * 1e6


def _whole_turn() -> float:
    """One segment per batch, as in ping-pong: input, receive, flush of the ACK, next deadline."""
    peer, remote, tcb = _open(CraftedPeer.with_offload)
    frames = [remote.segment(payload=b"x") for _ in range(BATCHES * 10)]
    stack = peer.stack
    start = time.perf_counter()
    for frame in frames:
        peer.now += 100
        stack.input(frame, peer.now)
        stack.receive(tcb, RECEIVE_LIMIT, peer.now)
        stack.flush(peer.now, _taken)
        stack.take_events()
        stack.next_deadline()
    return (time.perf_counter() - start) / len(frames) * 1e6


def _echo_turn() -> float:
    """What the stack costs in each round trip of ping-pong, without loop and system calls."""
    peer, remote, tcb = _open(CraftedPeer.with_offload)
    stack = peer.stack
    spent = 0.0
    for _ in range(BATCHES * 10):
        frame = remote.segment(payload=b"x")
        peer.now += 100
        start = time.perf_counter()
        stack.input(frame, peer.now)
        stack.send(tcb, bytes(stack.receive(tcb, RECEIVE_LIMIT, peer.now)), peer.now)
        sent = peer.turn()
        stack.next_deadline()
        spent += time.perf_counter() - start
        peer.deliver(sent, [remote])
    return spent / (BATCHES * 10) * 1e6


def _taken(parts: object, now: int) -> bool:
    return True


def _emit_cost(make: Callable[[], CraftedPeer]) -> float:
    """Time in `flush` per segment that came out, once the window has grown."""
    peer, remote, tcb = _open(make)
    chunk = bytes(1 << 20)
    best = float("inf")
    for _ in range(BATCHES):
        peer.now += 1000
        remote.tsval += 1
        peer.stack.send(tcb, chunk, peer.now)
        start = time.perf_counter()
        sent = peer.turn()
        elapsed = time.perf_counter() - start
        if len(sent) > 4:
            best = min(best, elapsed / len(sent))
        peer.deliver(sent, [remote])
        peer.stack.input(remote.segment(), peer.now)
    return best * 1e6


def complete_checksum(frame: bytes) -> bytes:
    """The same packet from a device without offload: zero virtio header, TCP checksum in place."""
    packet = frame[10:]
    segment = packet[20:]
    pseudo_header = packet[12:20] + bytes((0, 6)) + len(segment).to_bytes(2)
    padding = bytes(len(segment) % 2)
    checksum = 0xFFFF - int.from_bytes(pseudo_header + segment + padding) % 0xFFFF
    return bytes(10) + packet[:36] + checksum.to_bytes(2) + packet[38:]
