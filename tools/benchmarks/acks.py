"""What one ACK costs beside how much is in flight: the same for 10 segments and for 10 000.

Each segment leaves at a moment of its own, so that the scoreboard has a range for each. The figure
is the time of one turn (input of the ACK, and flush of what it lets out), in the middle of many.
"""

import time
from collections.abc import Callable, Iterator
from statistics import median

from tools.benchmarks.crafted_peer import ACK, MSS, STACK_ADDRESS, CraftedPeer, Remote, remotes
from tools.benchmarks.report import Figure, Target
from tools.benchmarks.servers import Placement
from ustack.config import StackConfig, TcpConfig
from ustack.stack.stack import Stack
from ustack.tcp.tcb import Tcb

FLIGHTS = (10, 100, 1_000, 10_000)  # segments
ACKS = 200  # measured at least, on as many connections as that takes
BUFFER = 64 << 20
SPACING_US = 10
HOLE_EVERY = 10  # segments: one of them is lost
FLAT = Target(2.0, at_least=False)  # times the cost with 10 in flight

Kind = Callable[[Remote, int, int], Iterator[bytes]]


def acks(runs: int, placement: Placement) -> list[Figure]:
    """µs per ACK for each kind and flight, and the ratio of the largest flight to the smallest."""
    del placement  # in this process
    figures = []
    for name, kind in (
        ("in order", _in_order),
        ("SACK behind one hole", _one_hole),
        (f"SACK, every {HOLE_EVERY}th lost", _many_holes),
    ):
        costs = {flight: [_cost(kind, flight) for _ in range(runs)] for flight in FLIGHTS}
        for flight, found in costs.items():
            figures.append(Figure("acks", f"{name}, {flight} in flight", "µs", found))
        ratios = [
            most / least for least, most in zip(costs[FLIGHTS[0]], costs[FLIGHTS[-1]], strict=True)
        ]
        title = f"{name}, {FLIGHTS[-1]} to {FLIGHTS[0]}"
        figures.append(Figure("acks", title, "times", ratios, target=FLAT))
    return figures


def _cost(kind: Kind, flight: int) -> float:
    """µs: the median of ACKS turns or more; neither the first of a loss nor the machine counts."""
    spent: list[float] = []
    while len(spent) < ACKS:
        spent += _turns(kind, flight)
    return median(spent) * 1e6


def _turns(kind: Kind, flight: int) -> list[float]:
    peer, remote, tcb = _open(flight)
    una = remote.ack
    for _ in range(flight):
        peer.now += SPACING_US
        peer.stack.send(tcb, bytes(MSS), peer.now)
        peer.turn()
    if tcb.scoreboard.in_flight != flight * MSS:
        raise RuntimeError(f"{tcb.scoreboard.in_flight} bytes in flight")
    peer.now += 50_000
    spent: list[float] = []
    for frame in kind(remote, una, flight):
        peer.now += SPACING_US
        spent.append(_turn(peer.stack, frame, peer.now))
    return spent


def _turn(stack: Stack, frame: bytes, now: int) -> float:
    start = time.perf_counter()
    stack.input(frame, now)
    stack.flush(now, _taken)
    elapsed = time.perf_counter() - start
    stack.take_events()
    return elapsed


def _open(flight: int) -> tuple[CraftedPeer, Remote, Tcb]:
    tcp = TcpConfig(send_buffer=BUFFER, initial_window_segments=2 * flight)
    peer = CraftedPeer(StackConfig(addresses=(f"{STACK_ADDRESS}/8",), tcp=tcp))
    (remote,) = remotes(1)
    (tcb,) = peer.open([remote])
    return peer, remote, tcb


def _in_order(remote: Remote, una: int, flight: int) -> Iterator[bytes]:
    for number in range(1, min(ACKS, flight // 2) + 1):
        remote.ack = (una + number * MSS) & 0xFFFF_FFFF
        yield remote.segment(ACK)


def _one_hole(remote: Remote, una: int, flight: int) -> Iterator[bytes]:
    """The first segment is lost, all others arrive: one block, which grows. Measured at its end."""
    remote.ack = una
    first = una + MSS
    for number in range(max(2, flight - ACKS), flight + 1):
        yield remote.segment(ACK, sack=[(first, una + number * MSS)])


def _many_holes(remote: Remote, una: int, flight: int) -> Iterator[bytes]:
    """Of HOLE_EVERY segments the first is lost; the others arrive, with the last three blocks."""
    remote.ack = una
    blocks: list[tuple[int, int]] = []
    for number in range(flight):
        at = una + number * MSS
        if number % HOLE_EVERY == 0:
            continue
        if number % HOLE_EVERY == 1:
            blocks.insert(0, (at, at + MSS))
        else:
            blocks[0] = (blocks[0][0], at + MSS)
        del blocks[3:]
        yield remote.segment(ACK, sack=blocks)


def _taken(parts: object, now: int) -> bool:
    return True
