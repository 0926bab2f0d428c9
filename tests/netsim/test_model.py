"""ustack against the model: a simple TCP of its own, from RFC 9293, without ustack's code."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from tools.simulation import model, model_wire
from tools.simulation.application import Ending, Plan
from tools.simulation.campaign import run_seeds
from tools.simulation.model import Leave, ModelConfig
from tools.simulation.model_wire import ACK, SYN, Flow, Segment, checksum, pack, unpack
from tools.simulation.model_world import Duel, DuelWorld, random_duel
from tools.simulation.observer import BrokenRule
from tools.simulation.scenario import with_keep_alive
from ustack.config import TcpConfig
from ustack.device.link import LinkConfig
from ustack.errors import ConnectionReset, ConnectionTimedOut

SEEDS = range(100_000, 100_060)
LINK = LinkConfig(delay_us=10_000, loss=0.05, reorder=0.1, duplicate=0.1, corrupt=0.01)
DUEL = Duel(
    seed=1,
    opens="ustack",
    family=4,
    mtu=1500,
    plan=Plan(20_000),
    size=20_000,
    config=TcpConfig(),
    model=ModelConfig(in_flight=4),
    there=LINK,
    back=LINK,
)


def outcome(duel: Duel) -> tuple[object, str]:
    world = DuelWorld(duel)
    world.run()
    if world.model.reason == "orderly":
        assert bytes(world.model.received) == world.application.text
        assert world.application.read == duel.size
    return type(world.application.error), world.model.reason


@pytest.mark.parametrize("first", SEEDS[::20])
def test_random_duels_break_no_rule(first: int) -> None:
    report = run_seeds(range(first, first + 20), only_model=True)
    assert report.failures == []
    assert report.duels == 20
    assert report.outcomes["orderly"] > 0


@pytest.mark.parametrize("family", [4, 6], ids=("IPv4", "IPv6"))
@pytest.mark.parametrize("opens", ["ustack", "model", "both"])
@pytest.mark.parametrize("options", [False, True], ids=("bare", "options"))
def test_both_ends_end_in_order(family: int, opens: str, options: bool) -> None:
    simple = ModelConfig(in_flight=4)
    rich = replace(simple, wscale=2, window=200_000, timestamps=True, sack=True)
    duel = replace(DUEL, family=family, opens=opens, model=rich if options else simple)
    assert outcome(duel) == (type(None), "orderly")


@pytest.mark.parametrize("ending", [Ending.HALF_CLOSE, Ending.LAST])
@pytest.mark.parametrize("window", [1, 50, 3000])
def test_stop_and_wait_through_a_small_window(ending: Ending, window: int) -> None:
    size = min(20 * window, 20_000)
    simple = ModelConfig(window=window, read_every_us=1000)
    duel = replace(DUEL, plan=Plan(size, ending), size=size, model=simple)
    assert outcome(duel) == (type(None), "orderly")


def test_who_closes_last_closes_last() -> None:
    last = replace(DUEL, model=ModelConfig(leave=Leave.FIN_LAST))
    assert outcome(last) == (type(None), "orderly")


def test_a_reset_of_the_model_ends_the_connection() -> None:
    duel = replace(DUEL, model=ModelConfig(leave=Leave.RESET, leave_at=5000))
    assert outcome(duel) == (ConnectionReset, "aborted")


@pytest.mark.parametrize("plan", [Plan(20_000), Plan(0, Ending.LAST)], ids=("writing", "waiting"))
def test_a_model_that_vanishes_is_given_up(plan: Plan) -> None:
    silent = ModelConfig(leave=Leave.VANISH, leave_at=5000)
    duel = replace(DUEL, plan=plan, model=silent, config=with_keep_alive(TcpConfig()))
    assert outcome(duel) == (ConnectionTimedOut, "vanished")


def test_the_same_seed_gives_the_same_capture_byte_by_byte(tmp_path: Path) -> None:
    captures = []
    for attempt in ("first", "second"):
        folder = tmp_path / attempt
        folder.mkdir()
        DuelWorld(random_duel(SEEDS[1]), folder).run()
        captures.append((folder / "client.pcapng").read_bytes())
    assert captures[0] == captures[1]


def test_text_that_was_not_sent_is_noticed() -> None:
    world = DuelWorld(DUEL)
    world.model.text = b"?" + world.model.text[1:]
    with pytest.raises(BrokenRule, match="the byte at 0 is not the one that was sent"):
        world.run()
    world = DuelWorld(DUEL)
    take, wrong = world.model.arrives, world.application.text[150] ^ 1

    def damaged(packet: bytes, now: int) -> None:
        take(packet, now)
        world.model.received[150:151] = bytes([wrong]) * (len(world.model.received) > 150)

    world.model.arrives = damaged  # type: ignore[method-assign]
    with pytest.raises(BrokenRule, match="the model received what was not sent"):
        world.run()


def test_the_model_knows_nothing_of_ustack() -> None:
    for module in (model, model_wire):
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text())
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module or "")
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        assert not {name for name in imported if name.startswith("ustack")}
        assert {name for name in imported if "simulation" in name} <= {
            "tools.simulation.model_wire"
        }


# RFC 1071 §3: the sum of 0001 f203 f4f5 f6f7 is ddf2.
def test_the_checksum_is_that_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize("octets", [4, 16])
def test_what_is_packed_is_unpacked_unless_a_bit_is_wrong(octets: int) -> None:
    flow = Flow(bytes(range(octets)), bytes(range(octets, 2 * octets)), 1, 2)
    segment = Segment(
        7, 8, SYN | ACK, 9, b"abc", mss=1000, wscale=3, sack_permitted=True, timestamps=(5, 6)
    )
    packet = pack(flow, segment, 1)
    assert unpack(packet, flow) == segment
    assert unpack(packet, flow.back()) is None
    damaged = bytearray(packet)
    damaged[-1] ^= 1
    assert unpack(bytes(damaged), flow) is None
