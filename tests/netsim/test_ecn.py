"""ECN between two stacks, and that the onlooker would notice what RFC 3168 forbids."""

from dataclasses import replace

import pytest

from tools.simulation.application import Plan
from tools.simulation.ecn_rules import CE, ECT0, NOT_ECT, EcnState, fault
from tools.simulation.scenario import Dialogue, Scenario
from tools.simulation.world import World
from ustack.config import TcpConfig
from ustack.device.link import LinkConfig
from ustack.wire.tcp import ACK, CWR, ECE, SYN

ASKED = EcnState(asked=True)
GRANTED = EcnState(granted=True)
MARKED = EcnState(granted=True, marks=1)
SILENT = EcnState()


@pytest.mark.parametrize("family", [4, 6], ids=("IPv4", "IPv6"))
def test_marks_slow_a_sender_down_without_a_loss(family: int) -> None:
    config = TcpConfig(ecn=1)
    link = LinkConfig(delay_us=10_000)
    plain = Scenario(
        seed=1,
        dialogues=(Dialogue(Plan(400_000), Plan(0)),),
        family=family,
        client=config,
        server=config,
        there=link,
        back=link,
    )
    fast = World(plain).run()
    slow = World(replace(plain, there=replace(link, ecn=0.05))).run()
    assert slow.outcomes == [(None, None)]
    assert slow.resent == 0
    assert slow.duration_us > 1.5 * fast.duration_us
    nobody_asks = replace(plain, client=TcpConfig(ecn=2), there=replace(link, ecn=1.0))
    assert World(nobody_asks).run().duration_us == fast.duration_us


@pytest.mark.parametrize(
    "mine, peer, flags, field, text, again, section",
    [
        (SILENT, SILENT, SYN, ECT0, False, False, "6.1.1"),
        (ASKED, SILENT, ACK, ECT0, True, False, "6.1.1"),
        (ASKED, GRANTED, ACK, ECT0, False, False, "6.1.4"),
        (ASKED, GRANTED, ACK, ECT0, True, True, "6.1.5"),
        (ASKED, GRANTED, ACK, CE, True, False, "5"),
        (GRANTED, ASKED, ACK | ECE, NOT_ECT, False, False, "6.1.3"),
        (ASKED, SILENT, ACK | CWR, NOT_ECT, True, False, "6.1.2"),
    ],
)
def test_the_onlooker_notices(
    mine: EcnState, peer: EcnState, flags: int, field: int, text: bool, again: bool, section: str
) -> None:
    assert f"§{section})" in fault(mine, peer, flags, field, text=text, again=again)


def test_the_onlooker_allows_what_is_agreed() -> None:
    assert not fault(ASKED, GRANTED, ACK, ECT0, text=True, again=False)
    assert not fault(MARKED, ASKED, ACK | ECE, NOT_ECT, text=False, again=False)
    assert not fault(ASKED, GRANTED, ACK | CWR, ECT0, text=True, again=False)
