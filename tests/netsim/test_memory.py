"""A dozen transfers over a path with loss, to a host that may hold little (RFC 6429 §4)."""

import pytest

from tools.simulation.application import Ending, Plan
from tools.simulation.scenario import Dialogue, Scenario
from tools.simulation.world import Result, World
from ustack.device.link import LinkConfig
from ustack.tcp.memory import Memory
from ustack.tcp.memory_pressure import QUANTUM

TRANSFERS = 12
SIZE = 400_000
LIMIT = 400_000
BATCH = 128 * 1500  # bytes; what the device may deliver between two looks at the account


def transfers(limit: int, *, loss: float = 0.02, pause_us: int = 0) -> World:
    """A world in which the server's readers pause `pause_us` after each read."""
    link = LinkConfig(delay_us=50_000, rate_bps=200_000_000, queue=2000, loss=loss)
    sends = Plan(SIZE, Ending.HALF_CLOSE, writes=(50_000, 50_000))
    reads = Plan(0, Ending.HALF_CLOSE, reads=(20_000, 20_000), read_pause_us=(pause_us, pause_us))
    dialogues = tuple(Dialogue(sends, reads) for _ in range(TRANSFERS))
    return World(Scenario(7, dialogues, there=link, back=link, memory_limit=limit))


def run(world: World) -> tuple[Result, int]:
    """The result, and the most that a host ever held."""
    result = world.run()
    assert result.outcomes == [(None, None)] * TRANSFERS
    assert world.server.stack.memory.used == world.client.stack.memory.used == 0
    return result, max(MOST.values())


MOST: dict[int, int] = {}


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    MOST.clear()
    change = Memory.change

    def watching(memory: Memory, by: int) -> None:
        change(memory, by)
        MOST[id(memory)] = max(MOST.get(id(memory), 0), memory.used)

    monkeypatch.setattr(Memory, "change", watching)


def test_without_a_limit_that_counts_they_hold_more() -> None:
    """The counterpart: this is what the limit below keeps them from."""
    _, most = run(transfers(64 << 20))
    assert most > 2 * LIMIT


def test_text_behind_gaps_stays_below_the_limit_and_arrives_in_the_end() -> None:
    result, most = run(transfers(LIMIT))
    assert most <= LIMIT + TRANSFERS * QUANTUM + BATCH
    assert result.counters["memory-pressure"] >= 1


def test_slow_readers_stay_below_the_limit_too() -> None:
    result, most = run(transfers(LIMIT, loss=0.0, pause_us=30_000))
    assert most <= LIMIT + TRANSFERS * QUANTUM + BATCH
    assert result.counters["memory-pressure"] >= 1
