"""Two senders that share a bottleneck for a minute, and one whose controller is changed again and
again: in virtual time, to the octet."""

from dataclasses import replace
from functools import partial
from itertools import permutations

import pytest

from tools.simulation.scenario import Dialogue, Scenario
from tools.simulation.transfer import plans
from tools.simulation.world import World
from ustack.config import SECOND, TcpConfig
from ustack.device.link import LinkConfig
from ustack.stack.stack import Stack

RATE_BPS = 4_000_000
ROUND_TRIP_US = 60_000
PRODUCT = RATE_BPS * ROUND_TRIP_US // SECOND // 8 // 1500  # packets that fill the path
BUFFER = 1 << 20
MINUTE = 60 * SECOND


class Over(Exception):
    """The minute is."""


def scenario(dialogues: tuple[Dialogue, ...], link: LinkConfig, seed: int) -> Scenario:
    config = TcpConfig(receive_buffer=BUFFER, send_buffer=BUFFER, congestion="cubic")
    return Scenario(
        seed=seed, dialogues=dialogues, there=link, back=link, client=config, server=config
    )


def switch(stack: Stack, now: int, congestion: str) -> None:
    """TCP_CONGESTION on the newest connection, live or not."""
    tcb = stack.connections()[-1]
    stack.configure(tcb, replace(tcb.config, congestion=congestion), now)


def share(first: str, second: str, *, queue: int, seed: int) -> tuple[float, float]:
    """What part of the bottleneck each of two senders gets from its start to the end of a minute;
    the second begins two seconds later."""
    link = LinkConfig(delay_us=ROUND_TRIP_US // 2, rate_bps=RATE_BPS, queue=queue)
    starts = (0, 2 * SECOND)
    client, server = plans(2 * MINUTE // SECOND * RATE_BPS // 8)
    dialogues = tuple(Dialogue(client, server, start_us=start) for start in starts)
    world = World(scenario(dialogues, link, seed))
    host = world.client

    def begin(congestion: str) -> None:
        switch(host.stack, host.time(world.now), congestion)

    def over() -> None:
        raise Over

    for start, congestion in zip(starts, (first, second), strict=True):
        world.at(start + 1, partial(begin, congestion))
    world.at(MINUTE, over)
    with pytest.raises(Over):
        world.run()
    one, other = (tcb.counters.bytes_acked for tcb in host.stack.connections())
    rates = one / MINUTE, other / (MINUTE - starts[1])  # bytes/µs
    return rates[0] * 8e6 / RATE_BPS, rates[1] * 8e6 / RATE_BPS


def test_two_cubic_senders_get_the_same() -> None:
    # RFC 9438 §5.4: flows of the same round trip converge to equal shares, by fast convergence
    one, other = share("cubic", "cubic", queue=PRODUCT, seed=1)
    assert one + other > 0.93  # of the rate, with the headers: 0.96 at most
    assert abs(one - other) <= 0.1 * (one + other)


@pytest.mark.parametrize("first, second", [("bbr", "cubic"), ("cubic", "bbr")])
def test_bbr_and_cubic_live_side_by_side(first: str, second: str) -> None:
    # draft-ietf-ccwg-bbr §3.7: neither starves the other, whoever was there before
    one, other = share(first, second, queue=PRODUCT, seed=1)
    assert one + other > 0.9
    assert min(one, other) > 0.3


def test_in_a_deep_queue_cubic_leaves_something_to_bbr() -> None:
    one, other = share("cubic", "bbr", queue=3 * PRODUCT, seed=1)
    assert min(one, other) > 0.2


@pytest.mark.parametrize("one, other", list(permutations(("reno", "cubic", "bbr"), 2)))
def test_controllers_change_places_in_the_midst_of_losses(one: str, other: str) -> None:
    """The peer reads every octet, and it does not take longer than with the slower of them."""
    link = LinkConfig(
        delay_us=10_000, loss=0.03, reorder=0.01, rate_bps=RATE_BPS, queue=3 * PRODUCT
    )
    client, server = plans(600_000)

    def transfer(names: tuple[str, ...]) -> int:
        """Its duration, µs; `names` in turn, for 40 ms each."""
        world = World(scenario((Dialogue(client, server),), link, seed=3))
        host = world.client

        def change(index: int) -> None:
            if host.stack.connections():
                switch(host.stack, host.time(world.now), names[index % len(names)])
                world.later(40_000, partial(change, index + 1))

        world.at(1, partial(change, 0))
        return world.run().duration_us

    assert transfer((one, other)) < 1.5 * max(transfer((one,)), transfer((other,)))
