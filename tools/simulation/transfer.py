"""One sender and one receiver over a given link: how fast a transfer is, in virtual time."""

from functools import partial
from statistics import median
from typing import NamedTuple

from tools.simulation.application import Ending, Plan
from tools.simulation.scenario import Dialogue, Scenario
from tools.simulation.world import World
from ustack.config import TcpConfig
from ustack.device.link import LinkConfig

WHOLE = (1 << 20, 1 << 20)  # the sizes of reads and writes, bytes
LOOK_EVERY_US = 20_000


class Transfer(NamedTuple):
    """What came of it."""

    rate: float  # bit/s of text, from the SYN to the last ACK
    round_trip_ms: float  # SRTT, the median over time


def plans(size: int) -> tuple[Plan, Plan]:
    """The sender's of `size` bytes, and the receiver's."""
    sender = Plan(size, Ending.HALF_CLOSE, writes=WHOLE, reads=WHOLE)
    return sender, Plan(0, Ending.HALF_CLOSE, reads=WHOLE)


def transfer(size: int, link: LinkConfig, config: TcpConfig, seed: int) -> Transfer:
    """`size` bytes over `link`, the same in both directions; `config` is that of both ends."""
    scenario = Scenario(
        seed=seed,
        dialogues=(Dialogue(*plans(size)),),
        there=link,
        back=link,
        client=config,
        server=config,
    )
    world = World(scenario)
    round_trips: list[int] = []
    world.at(LOOK_EVERY_US, partial(_look, world, round_trips))
    rate = size * 8e6 / world.run().duration_us
    return Transfer(rate, median(round_trips) / 1000 if round_trips else 0.0)


def _look(world: World, round_trips: list[int]) -> None:
    for tcb in world.client.stack.connections():
        if tcb.rtt.srtt:
            round_trips.append(tcb.rtt.srtt)
        world.later(LOOK_EVERY_US, partial(_look, world, round_trips))
