"""What happens while a dialogue runs: cuts, smaller MTUs, restarts, deaf users."""

from dataclasses import replace

import pytest

from tools.simulation.application import Ending, Plan
from tools.simulation.observer import BrokenRule
from tools.simulation.scenario import MINUTE, Dialogue, Incident, Kind, Scenario, with_keep_alive
from tools.simulation.world import Result, World
from ustack.config import SECOND, TcpConfig
from ustack.device.link import LinkConfig
from ustack.errors import ConnectionAborted, ConnectionReset, ConnectionTimedOut, UStackError
from ustack.tcp.state import State
from ustack.tcp.tcb import Tcb

MS = 1_000  # µs
SIZE = 100_000  # bytes
CALM = Plan(SIZE)
SLOW = Plan(SIZE, writes=(2_000, 2_000), write_pause_us=(20 * MS, 20 * MS))
LINK = LinkConfig(delay_us=10 * MS)
LOSSY = LinkConfig(delay_us=10 * MS, loss=0.05, reorder=0.05)
KEEP_ALIVE = with_keep_alive(TcpConfig())

families = pytest.mark.parametrize("family", [4, 6], ids=("IPv4", "IPv6"))


def scenario(
    client: Plan,
    server: Plan,
    *incidents: Incident,
    family: int = 4,
    link: LinkConfig = LINK,
    simultaneous: bool = False,
    config: TcpConfig = KEEP_ALIVE,
    seed: int = 1,
) -> Scenario:
    return Scenario(
        seed=seed,
        dialogues=(Dialogue(client, server, simultaneous=simultaneous),),
        family=family,
        there=link,
        back=link,
        client=config,
        server=config,
        incidents=incidents,
    )


def outcome(what: Scenario) -> tuple[type[UStackError] | None, type[UStackError] | None]:
    """The terminal reasons of the first dialogue at the client's and the server's end."""
    client, server = World(what).run().outcomes[0]
    return type(client) if client else None, type(server) if server else None


def orderly(what: Scenario) -> Result:
    result = World(what).run()
    assert set(result.outcomes) == {(None, None)}
    for client, server in result.applications:
        assert server is not None
        assert (client.read, server.read) == (len(server.text), len(client.text))
    return result


def tcbs(result: Result) -> list[Tcb]:
    """The two ends of the first dialogue, as they were last."""
    ends = [end.tcb for end in result.applications[0] if end is not None]
    return [tcb for tcb in ends if tcb is not None]


@families
@pytest.mark.parametrize("link", [LINK, LOSSY], ids=("clean", "lossy"))
def test_both_ends_may_open_at_once(family: int, link: LinkConfig) -> None:
    result = orderly(scenario(CALM, CALM, family=family, link=link, simultaneous=True))
    assert [tcb.passive for tcb in tcbs(result)] == [False, False]


@families
@pytest.mark.parametrize("link", [LINK, LOSSY], ids=("clean", "lossy"))
def test_both_ends_may_close_at_once(family: int, link: LinkConfig) -> None:
    nothing = Plan(0)
    result = orderly(scenario(nothing, nothing, family=family, link=link, simultaneous=True))
    assert [tcb.state for tcb in tcbs(result)] == [State.TIME_WAIT, State.TIME_WAIT]


@families
@pytest.mark.parametrize("link", [LINK, LOSSY], ids=("clean", "lossy"))
def test_after_a_half_close_text_still_flows_the_other_way(family: int, link: LinkConfig) -> None:
    for plans in ((Plan(100), SLOW), (SLOW, Plan(100))):
        result = orderly(scenario(*plans, family=family, link=link))
        assert result.duration_us > (SIZE / 2_000 - 1) * 20 * MS  # SLOW's pauses


@pytest.mark.parametrize("link", [LINK, LOSSY], ids=("clean", "lossy"))
def test_a_reader_that_stops_closes_the_window_and_the_writer_waits(link: LinkConfig) -> None:
    config = replace(KEEP_ALIVE, receive_buffer=8_000)
    stopping = Plan(0, stop_reading_at=10_000, stop_reading_us=30 * SECOND)
    result = orderly(scenario(CALM, stopping, link=link, config=config))
    assert result.duration_us > 30 * SECOND


def test_a_window_that_stays_closed_for_hours_ends_no_connection() -> None:
    """RFC 9293 §3.8.6.1: as long as probes are answered, the connection stays open."""
    config = replace(KEEP_ALIVE, receive_buffer=8_000)
    stopping = Plan(0, stop_reading_at=10_000, stop_reading_us=6 * 60 * MINUTE)
    result = orderly(scenario(CALM, stopping, config=config))
    assert result.duration_us > 6 * 60 * MINUTE


@families
@pytest.mark.parametrize("cut_us", [SECOND, 20 * SECOND, 3 * MINUTE])
def test_a_dialogue_survives_a_black_out(family: int, cut_us: int) -> None:
    cut = (Incident(50 * MS, Kind.CUT), Incident(50 * MS + cut_us, Kind.HEAL))
    result = orderly(scenario(SLOW, SLOW, *cut, family=family))
    assert result.duration_us > cut_us


def test_an_idle_connection_does_not_notice_a_black_out() -> None:
    cut = (Incident(SECOND, Kind.CUT), Incident(SECOND + 30 * MINUTE, Kind.HEAL))
    late = Plan(2, writes=(1, 1), write_pause_us=(40 * MINUTE, 40 * MINUTE))
    result = orderly(scenario(late, Plan(0, Ending.LAST), *cut, config=TcpConfig()))
    assert result.duration_us > 40 * MINUTE
    assert result.resent == 0


def test_a_cut_that_does_not_end_is_given_up_after_r2() -> None:
    cut = Incident(100 * MS, Kind.CUT)
    assert outcome(scenario(SLOW, SLOW, cut)) == (ConnectionTimedOut, ConnectionTimedOut)


def test_who_waits_without_keep_alive_for_a_peer_that_gave_up_in_silence_waits_for_ever() -> None:
    """RFC 9293 §3.8.4: keep-alives are off by default. The simulated user breaks off in the end."""
    cut = Incident(SECOND, Kind.CUT)
    what = scenario(SLOW, Plan(0, Ending.LAST), cut, config=TcpConfig())
    result = World(what).run()
    assert isinstance(result.outcomes[0][0], ConnectionTimedOut)
    assert isinstance(result.outcomes[0][1], ConnectionAborted)
    assert result.counters["forsaken"] == 1


def test_two_that_wait_for_each_other_are_not_called_forsaken() -> None:
    waiting = Plan(100, Ending.LAST)
    with pytest.raises(BrokenRule, match="stuck"):
        World(scenario(waiting, waiting, config=TcpConfig())).run()


@families
@pytest.mark.parametrize("gso", [False, True], ids=("no-offload", "offload"))
def test_a_smaller_path_mtu_is_learnt(family: int, gso: bool) -> None:
    drop = Incident(60 * MS, Kind.MTU, 1280)
    what = replace(scenario(SLOW, SLOW, drop, family=family), gso=gso)
    result = orderly(what)
    assert result.counters["too-big"] > 0
    assert result.counters["icmp-path-mtu"] > 0
    assert result.duration_us < 10 * SECOND  # no retransmission timer had to help


def test_a_path_that_fragments_is_no_obstacle() -> None:
    config = replace(KEEP_ALIVE, path_mtu_discovery=False)
    drop = Incident(60 * MS, Kind.MTU, 300)
    result = orderly(scenario(SLOW, SLOW, drop, config=config, link=LOSSY))
    assert result.counters["datagrams-reassembled"] > 0


@families
def test_a_restarted_host_answers_the_survivor_with_a_reset(family: int) -> None:
    restart = Incident(200 * MS, Kind.RESTART_SERVER)
    assert outcome(scenario(SLOW, SLOW, restart, family=family))[0] is ConnectionReset


@families
def test_a_survivor_that_only_listens_finds_out_by_keep_alive(family: int) -> None:
    restart = Incident(200 * MS, Kind.RESTART_CLIENT)
    what = scenario(SLOW, Plan(0, Ending.LAST), restart, family=family)
    assert outcome(what)[1] is ConnectionReset


@families
def test_a_restarted_client_gets_through_from_the_same_port(family: int) -> None:
    """RFC 9293 §3.5.1: the SYN finds half an old connection, which the reset clears away."""
    what = scenario(SLOW, Plan(0, Ending.LAST), family=family)
    again = Dialogue(CALM, CALM, start_us=400 * MS, port=40_000)
    restart = Incident(300 * MS, Kind.RESTART_CLIENT)
    result = World(replace(what, dialogues=(*what.dialogues, again), incidents=(restart,))).run()
    assert isinstance(result.outcomes[0][1], ConnectionReset)
    assert result.outcomes[1] == (None, None)
    assert result.applications[1][0].read == SIZE


@families
def test_who_closes_without_reading_resets(family: int) -> None:
    """SHLD-3: the peer must not believe that its text was read."""
    deaf = Plan(0, Ending.DEAF, deaf_us=SECOND)
    result = outcome(scenario(CALM, deaf, family=family))
    assert result == (ConnectionReset, ConnectionAborted)


@families
def test_text_that_arrives_after_a_full_close_is_answered_with_a_reset(family: int) -> None:
    assert outcome(scenario(SLOW, Plan(10, Ending.CLOSE), family=family))[0] is ConnectionReset


@pytest.mark.parametrize("at", [0, 1, 50_000])
def test_an_abort_is_a_reset_for_the_peer(at: int) -> None:
    breaking = Plan(SIZE, Ending.ABORT, abort_at=at)
    assert outcome(scenario(CALM, breaking)) == (ConnectionReset, ConnectionAborted)


def test_a_dead_end_does_not_open() -> None:
    cut = Incident(0, Kind.CUT)
    result = World(scenario(CALM, CALM, cut)).run()
    ((client, server),) = result.applications
    assert server is None
    assert isinstance(client.error, ConnectionTimedOut)
    assert result.duration_us >= 3 * MINUTE  # RFC 9293 §3.8.3 for SYN
