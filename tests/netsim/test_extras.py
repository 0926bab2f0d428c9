"""Situations that scenarios draw rarely, each with every chance to happen."""

import random
from dataclasses import replace

import pytest

from tools.simulation.application import Plan
from tools.simulation.extras import EXTRAS, flood, sockets
from tools.simulation.observer import BrokenRule
from tools.simulation.scenario import Dialogue, Incident, Kind, Scenario
from tools.simulation.socket_user import SocketApplication
from tools.simulation.totals import check_conservation, check_counters
from tools.simulation.world import Result, World
from ustack.config import SECOND, TcpConfig
from ustack.device.link import LinkConfig

LINK = LinkConfig(delay_us=10_000)
CALM = Scenario(1, (Dialogue(Plan(30_000), Plan(10_000)),), there=LINK, back=LINK)


def run(scenario: Scenario) -> Result:
    result = World(scenario).run()
    assert set(result.outcomes) == {(None, None)}
    return result


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("extra", [one for _, one in EXTRAS], ids=lambda one: one.__name__)
def test_each_extra_changes_a_scenario_and_breaks_no_rule(extra: object, seed: int) -> None:
    assert callable(extra)
    scenario = extra(random.Random(seed), CALM)
    assert scenario != CALM
    World(scenario).run()


def test_sockets_are_used_at_both_ends() -> None:
    result = run(replace(CALM, client_sockets=True, server_sockets=True))
    assert all(isinstance(one, SocketApplication) for one in result.applications[0])
    assert sockets(random.Random(1), CALM) != CALM


def test_text_travels_on_syns_once_there_is_a_cookie_and_not_after_the_key_has_changed() -> None:
    one = replace(CALM.dialogues[0], fast_open=True)
    again = [replace(one, start_us=seconds * SECOND) for seconds in (5, 10)]
    key = Incident(8 * SECOND, Kind.NEW_COOKIE_KEY, 1)
    scenario = replace(
        CALM,
        dialogues=(one, *again),
        server=TcpConfig(fast_open_queue=5),
        incidents=(key,),
    )
    counters = run(scenario).counters
    assert counters["fast-open-cookie-requests"] == 1
    assert counters["fast-open-passive"] == counters["fast-open-passive-failed"] == 1


def test_syns_with_text_that_are_swallowed_cost_a_timeout() -> None:
    one = replace(CALM.dialogues[0], fast_open=True)
    eats = Incident(0, Kind.EAT_TEXT_ON_SYN, 1)
    assert run(replace(CALM, dialogues=(one,), incidents=(eats,))).counters["eaten"] == 1


def test_strangers_do_not_keep_a_dialogue_from_beginning() -> None:
    counters = run(replace(flood(random.Random(1), CALM), backlog=8)).counters
    assert counters["flood"] == 1 and counters["syn-cookies-sent"] > 0


def test_a_black_hole_in_mid_connection_is_got_through() -> None:
    slow = replace(LINK, rate_bps=1_000_000)
    hole = Incident(100_000, Kind.BLACK_HOLE, 576)
    assert run(replace(CALM, there=slow, incidents=(hole,))).counters["black hole"] >= 3


def test_two_families_are_served_at_once() -> None:
    six = replace(CALM.dialogues[0], family=6, start_us=1)
    result = run(replace(CALM, dialogues=(CALM.dialogues[0], six)))
    used = {client.tcb.fixed_headers for client, _ in result.applications if client.tcb}
    assert used == {40, 60}


def test_a_port_is_used_again_by_the_next_dialogue() -> None:
    short = Plan(10)
    dialogues = tuple(Dialogue(short, short, start_us=n * 100, port=41_000) for n in range(4))
    assert run(replace(CALM, dialogues=dialogues)).counters["port taken"] > 0


def test_a_packet_that_is_not_accounted_for_is_noticed() -> None:
    world = World(CALM)
    world.run()
    check_conservation(world.path, world.client, world.server)
    world.path.a.entered += 1
    with pytest.raises(BrokenRule, match="client: "):
        check_conservation(world.path, world.client, world.server)
    world.path.a.entered -= 1
    world.server.packets_in += 1
    with pytest.raises(BrokenRule, match="server: read"):
        check_conservation(world.path, world.client, world.server)


def test_a_counter_that_disagrees_with_the_wire_is_noticed() -> None:
    world = World(CALM)
    client, _ = world.run().applications[0]
    tcb = client.tcb
    assert tcb is not None
    end = world.end_of(client)
    check_counters(end)
    tcb.counters.data_segments_out += 1
    with pytest.raises(BrokenRule, match="segments with text"):
        check_counters(end)
