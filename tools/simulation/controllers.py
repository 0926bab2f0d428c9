"""What each congestion controller makes of a long path, in virtual time, as a table of text.

`tools/sim --controllers` writes it; docs/congestion.md tells what it means.
"""

from itertools import product
from pathlib import Path
from statistics import fmean, median

from tools.simulation.transfer import Transfer, transfer
from ustack.config import TcpConfig
from ustack.device.link import LinkConfig

TABLE = Path(__file__).parents[2] / "tests" / "netsim" / "controllers.txt"
RATE_BPS = 10_000_000
ROUND_TRIP_MS = 100
CONTROLLERS = ("bbr", "cubic", "newreno")
CELLS = ((0.0, 0.25), (0.0, 1), (0.0, 3), (0.01, 1), (0.03, 1), (0.05, 1))  # loss, queue in BDP
SIZE = 6_000_000  # bytes, where nothing is lost at random
LOSSY_SIZE = 2_000_000
SEEDS = (1, 2, 3)
BUFFER = 4 << 20
DISTURBANCES = ((0.01, 0.0), (0.0, 0.01), (0.01, 0.01))  # loss, reordering
DISTURBED_ROUND_TRIPS_MS = (40, 100)
MEGABYTE = 1_000_000
MEGABYTE_ROUND_TRIP_MS = 20
MEGABYTE_LOSS = 0.01
MEGABYTE_RATES_MBIT = (2, 5, 10, 20)
MEGABYTE_SEEDS = range(1, 21)


def packets_in(round_trip_ms: int) -> int:
    """Packets that fill the path: the bandwidth-delay product (BDP)."""
    return RATE_BPS * round_trip_ms // 1000 // 8 // 1500


def run(
    congestion: str,
    size: int,
    *,
    loss: float = 0.0,
    reorder: float = 0.0,
    jitter_us: int = 0,
    round_trip_ms: int = ROUND_TRIP_MS,
    queue: float = 3,
    seed: int = 1,
) -> Transfer:
    """A transfer of `size` bytes. Loss and reordering are both ways; `queue`: in BDP."""
    link = LinkConfig(
        delay_us=round_trip_ms * 500,
        jitter_us=jitter_us,
        loss=loss,
        reorder=reorder,
        rate_bps=RATE_BPS,
        queue=int(queue * packets_in(round_trip_ms)),
    )
    config = TcpConfig(congestion=congestion, receive_buffer=BUFFER, send_buffer=BUFFER)
    return transfer(size, link, config, seed)


def share(congestion: str, size: int, **path: float) -> float:
    """What part of the rate `run` gets."""
    return run(congestion, size, **path).rate / RATE_BPS  # type: ignore[arg-type]


def row(loss: float, queue: float) -> str:
    """A line of the first table."""
    size = LOSSY_SIZE if loss else SIZE
    line = f"{loss:6.1%} {queue:12.2f}"
    for name in CONTROLLERS:
        runs = [run(name, size, loss=loss, queue=queue, seed=seed) for seed in SEEDS]
        rate = fmean(one.rate for one in runs) / 1e6
        line += f"{rate:10.2f} {fmean(one.round_trip_ms for one in runs):5.0f}"
    return line


def megabyte(rate_mbit: int, loss: float, seed: int) -> float:
    """Seconds that a megabyte takes with CUBIC; the queue holds one BDP."""
    rate, round_trip_us = rate_mbit * 1_000_000, MEGABYTE_ROUND_TRIP_MS * 1000
    queue = max(rate * round_trip_us // 8_000_000 // 1500, 5)
    link = LinkConfig(delay_us=round_trip_us // 2, rate_bps=rate, queue=queue, loss=loss)
    config = TcpConfig(receive_buffer=BUFFER, send_buffer=BUFFER)
    return MEGABYTE * 8 / transfer(MEGABYTE, link, config, seed).rate


def megabyte_row(rate_mbit: int) -> str:
    """A line of the last table."""
    clean = megabyte(rate_mbit, 0.0, 1)
    ratios = [megabyte(rate_mbit, MEGABYTE_LOSS, seed) / clean for seed in MEGABYTE_SEEDS]
    return f"{rate_mbit:8} {clean:17.2f} {median(ratios):8.2f} {fmean(ratios):6.2f}"


def table() -> str:
    """All three tables, the first two with means of the seeds."""
    lines = [
        f"One sender over {RATE_BPS // 10**6} Mbit/s and {ROUND_TRIP_MS} ms, loss both ways:",
        "Mbit/s from the SYN to the last ACK, and the median of the smoothed round trip in ms.",
        "Written by tools/sim --controllers; the time is virtual, so figures are exact.",
        "",
        "  loss   queue, BDP" + "".join(f"{name:>16}" for name in CONTROLLERS),
    ]
    lines += [row(loss, queue) for loss, queue in CELLS]
    lines += [
        "",
        "BBR, a queue of one BDP: parts of the rate. Who is reordered skips half a round trip.",
        "",
        "  loss   reordered   RTT ms    part",
    ]
    for (loss, reorder), round_trip in product(DISTURBANCES, DISTURBED_ROUND_TRIPS_MS):
        path = {"loss": loss, "reorder": reorder, "round_trip_ms": round_trip, "queue": 1}
        part = fmean(share("bbr", LOSSY_SIZE, **path, seed=seed) for seed in SEEDS)
        lines.append(f"{loss:6.1%} {reorder:11.1%} {round_trip:8} {part:7.2f}")
    way = f"{MEGABYTE_ROUND_TRIP_MS} ms, loss {MEGABYTE_LOSS:.0%}"
    lines += [
        "",
        f"CUBIC, {way}: a megabyte, in times without loss, {len(MEGABYTE_SEEDS)} seeds.",
        "",
        "  Mbit/s   seconds unhurt   median   mean",
        *map(megabyte_row, MEGABYTE_RATES_MBIT),
    ]
    return "\n".join(lines) + "\n"
