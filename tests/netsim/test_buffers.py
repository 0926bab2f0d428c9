"""Buffers that follow the traffic, in virtual time: a long fast path is filled, a slow reader is
not offered a large window."""

import pytest

from tools.simulation.application import Ending, Plan
from tools.simulation.scenario import Dialogue, Scenario
from tools.simulation.world import World
from ustack.config import TcpConfig
from ustack.device.link import LinkConfig

MIB = 1 << 20
RATE_BPS = 10**9
ROUND_TRIP_US = 100_000
LARGE = TcpConfig(send_buffer_max=32 * MIB, receive_buffer_max=32 * MIB)  # 12.5 MB in flight


def duration(size: int, client: TcpConfig, server: TcpConfig) -> int:
    """µs of virtual time in which `size` bytes go from client to server."""
    link = LinkConfig(delay_us=ROUND_TRIP_US // 2, rate_bps=RATE_BPS, queue=5000)
    whole = (1 << 20, 1 << 20)
    plan = Plan(size, Ending.HALF_CLOSE, writes=whole, reads=whole)
    scenario = Scenario(
        seed=1,
        mtu=9000,
        dialogues=(Dialogue(plan, Plan(0, Ending.HALF_CLOSE, reads=whole)),),
        there=link,
        back=link,
        client=client,
        server=server,
    )
    return World(scenario).run().duration_us


def test_autotuned_buffers_fill_a_path_of_100_ms_and_1_gbit_per_second() -> None:
    # the difference is what the last 20 MB took, when slow start was over
    took = duration(50 * 10**6, LARGE, LARGE) - duration(30 * 10**6, LARGE, LARGE)
    wire = 9000 / (9000 - 52)  # headers, timestamps
    assert took <= 20 * 10**6 * 8 * wire / RATE_BPS * 1_000_000 * 1.05


@pytest.mark.parametrize("end", ["sender", "receiver"])
def test_one_small_buffer_bounds_the_rate(end: str) -> None:
    """The counterpart: with 1 MiB at one end, one MiB goes in each round trip."""
    small = TcpConfig(send_buffer_max=MIB, receive_buffer_max=MIB)
    ends = (small, LARGE) if end == "sender" else (LARGE, small)
    took = duration(14 * MIB, *ends) - duration(7 * MIB, *ends)
    assert 0.75 <= took / (7 * ROUND_TRIP_US) <= 1.5


def test_a_window_that_is_not_moderated_stays_as_it_was() -> None:
    fixed = TcpConfig(moderate_receive_buffer=False)
    took = duration(4 * MIB, LARGE, fixed)
    trips = took / ROUND_TRIP_US
    assert 4 * MIB / trips <= 131_072  # the whole default buffer at most
