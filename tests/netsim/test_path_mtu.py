"""Black holes: packets above a size vanish without a word. Virtual time, every byte checked."""

from dataclasses import replace

import pytest

from tools.simulation.application import Ending, Plan
from tools.simulation.scenario import Dialogue, Scenario
from tools.simulation.world import Result, World
from ustack.config import SECOND, TcpConfig
from ustack.device.link import LinkConfig

SIZE = 300_000  # bytes
DELAY_US = 10_000
DEFAULT = TcpConfig()


def through(
    path_mtu: int,
    *,
    mtu: int = 1500,
    gso: bool = False,
    family: int = 4,
    loss: float = 0.0,
    config: TcpConfig = DEFAULT,
) -> Result:
    """A transfer to a server behind a hole that swallows what is larger than `path_mtu`."""
    link = LinkConfig(delay_us=DELAY_US, mtu=path_mtu, loss=loss)
    whole = (SIZE, SIZE)
    plan = Plan(SIZE, Ending.HALF_CLOSE, writes=whole)
    scenario = Scenario(
        seed=3,
        family=family,
        mtu=mtu,
        gso=gso,
        dialogues=(Dialogue(plan, Plan(0, Ending.HALF_CLOSE, reads=whole)),),
        there=link,
        back=link,
        client=config,
        server=config,
    )
    result = World(scenario).run()
    client, server = result.applications[0]
    assert server is not None
    assert (client.error, server.error) == (None, None)
    assert server.read == SIZE
    return result


@pytest.mark.parametrize("gso", [False, True], ids=("no-offload", "offload"))
@pytest.mark.parametrize("family", [4, 6], ids=("IPv4", "IPv6"))
@pytest.mark.parametrize(
    "mtu, path_mtu", [(1500, 1499), (1500, 1400), (1500, 1280), (9000, 1500), (65535, 4000)]
)
def test_a_black_hole_costs_three_timeouts_and_no_more(
    mtu: int, path_mtu: int, family: int, gso: bool
) -> None:
    # 0.2 + 0.4 + 0.8 s, and the transfer itself
    result = through(path_mtu, mtu=mtu, family=family, gso=gso)
    assert result.duration_us < 4 * SECOND


@pytest.mark.parametrize("path_mtu", [600, 300, 120])
def test_a_very_narrow_hole_is_found_by_halving(path_mtu: int) -> None:
    assert through(path_mtu).duration_us < 300 * SECOND


def test_the_size_that_passes_is_found_again_by_probes() -> None:
    """Less than one packet in twenty is more than the best size would need, once it is found."""
    result = through(1400, gso=True)
    best = SIZE / (1400 - 52)
    assert through(1400).packets < 2 * 1.25 * best  # data and ACKs
    assert result.resent < 40_000


def test_a_black_hole_and_losses_together() -> None:
    for gso in (False, True):
        assert through(1300, gso=gso, loss=0.01).duration_us < 15 * SECOND


def test_without_probing_a_black_hole_is_the_end() -> None:
    """The counterpart: this is what the tests above rest on."""
    config = replace(DEFAULT, mtu_probing=0, r2_retransmissions=5)
    with pytest.raises(AssertionError):
        through(1400, config=config)


def test_probing_from_the_start_meets_no_hole() -> None:
    config = replace(DEFAULT, mtu_probing=2)
    result = through(1400, config=config)
    assert result.duration_us < 1 * SECOND
    assert result.resent <= 8 * 1500  # lost probes


def test_a_clean_path_is_probed_up_to_its_mtu() -> None:
    config = replace(DEFAULT, mtu_probing=2)
    assert through(0, config=config, mtu=9000).resent == 0
