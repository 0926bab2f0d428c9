"""How fast a transfer is, in virtual time: loss x round trip x receive buffer, as a table of text.

The table is a snapshot in tests/netsim: a change of recovery shows as a diff to be reviewed.
`tools/sim --goodput` writes it anew.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean

from tools.simulation.transfer import transfer
from ustack.config import TcpConfig
from ustack.device.link import LinkConfig

SNAPSHOT = Path(__file__).parents[2] / "tests" / "netsim" / "goodput.txt"
LOSSES = (0.0, 0.01, 0.03, 0.1)  # of data and of ACKs
ROUND_TRIPS_MS = (2, 20, 200)
BUFFERS = (16 << 10, 4 << 20)  # bytes
RATE_BPS = 100_000_000
QUEUE = 250  # packets
SIZE = 400_000  # bytes
SEEDS = (1, 2)


COLUMNS = {
    "SACK": TcpConfig(),
    "NewReno": TcpConfig(sack=False),
    "BBR": TcpConfig(congestion="bbr"),
}


def goodput(loss: float, round_trip_ms: int, buffer: int, seed: int, sender: TcpConfig) -> float:
    """bit/s of a transfer of SIZE bytes, from the SYN to the last ACK."""
    link = LinkConfig(delay_us=round_trip_ms * 500, loss=loss, rate_bps=RATE_BPS, queue=QUEUE)
    config = replace(sender, receive_buffer=buffer)
    return transfer(SIZE, link, config, seed).rate


def table() -> str:
    """The whole table; kbit/s, the mean of the seeds."""
    lines = [
        f"Goodput in kbit/s of {SIZE} bytes at {RATE_BPS // 10**6} Mbit/s, loss both ways.",
        "Written by tools/sim --goodput; the time is virtual, so figures are exact.",
        "",
        "  loss   RTT ms   buffer KiB" + "".join(f"{name:>10}" for name in COLUMNS),
    ]
    for loss, round_trip, buffer in product(LOSSES, ROUND_TRIPS_MS, BUFFERS):
        figures = [
            fmean(goodput(loss, round_trip, buffer, seed, sender) for seed in SEEDS) / 1000
            for sender in COLUMNS.values()
        ]
        lines.append(
            f"{loss:6.1%} {round_trip:8} {buffer >> 10:12}"
            + "".join(f"{figure:10.0f}" for figure in figures)
        )
    return "\n".join(lines) + "\n"
