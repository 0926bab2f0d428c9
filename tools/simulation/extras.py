"""What a seed adds to its plain scenario: features and situations that are rare, each by lot.

They have a generator of their own, so that a new one leaves the plain scenario of a seed alone.
"""

import random
from collections.abc import Callable
from dataclasses import replace

from tools.simulation.application import Ending, Plan
from tools.simulation.scenario import (
    DAY,
    Dialogue,
    Incident,
    Kind,
    Scenario,
    plain_scenario,
)
from ustack.config import SECOND, TcpConfig

Extra = Callable[[random.Random, Scenario], Scenario]

SAFE_SIZES = (400, 576, 1000, 1280, 1400)  # bytes of IP packets that black holes let through
HOUR = 3600 * SECOND
SHORT = 5000  # bytes
TINY_WINDOW = 100  # bytes
IPV6_MIN_MTU = 1280  # RFC 8200 §5


def random_scenario(seed: int) -> Scenario:
    """The scenario of `seed`, with everything."""
    rng = random.Random(f"extras {seed}")
    scenario = plain_scenario(seed)
    for share, extra in EXTRAS:
        if rng.random() < share:
            scenario = extra(rng, scenario)
    return judgeable(scenario)


def judgeable(scenario: Scenario) -> Scenario:
    """`scenario` without what would be nobody's fault.

    Of many fragments several may be damaged, and two errors can cancel in the checksum of the
    whole; a window of some octets may cost a probe of two minutes for each.
    """
    if scenario.most_fragments() > 1:
        there, back = (replace(link, corrupt=0.0) for link in (scenario.there, scenario.back))
        scenario = replace(scenario, there=there, back=back)
    windows = [one.receive_buffer for one in (scenario.client, scenario.server)]
    if any(one is not None and one < TINY_WINDOW for one in windows):
        scenario = replace(scenario, limit_us=max(scenario.limit_us, 7 * DAY))
    return scenario


def sockets(rng: random.Random, scenario: Scenario) -> Scenario:
    """Users who call sockets."""
    which = rng.choice(((True, False), (False, True), (True, True)))
    return replace(scenario, client_sockets=which[0], server_sockets=which[1])


def fast_open(rng: random.Random, scenario: Scenario) -> Scenario:
    """Clients that open fast: with a cookie or without one yet, with one that is no good any more,
    through a middlebox that swallows such SYNs, to servers that have it or not."""
    first = [replace(one, fast_open=not one.simultaneous) for one in scenario.dialogues]
    last = max(one.start_us for one in first)
    again = [
        replace(
            shortened(first[0]), start_us=last + gap, port=None, simultaneous=False, fast_open=True
        )
        for gap in rng.choice(((), (SECOND,), (SECOND, 2 * SECOND, 400 * SECOND)))
    ]
    free = rng.random() < 0.2
    incidents = list(scenario.incidents)
    if rng.random() < 0.3:
        key = Incident(last + rng.choice((0, 1500_000)), Kind.NEW_COOKIE_KEY, rng.getrandbits(120))
        incidents.append(key)
    if rng.random() < 0.2:
        begin = last + rng.choice((0, 1500_000))
        incidents.append(Incident(begin, Kind.EAT_TEXT_ON_SYN, 1))
        incidents.append(Incident(begin + 100 * SECOND, Kind.EAT_TEXT_ON_SYN, 0))
    return replace(
        scenario,
        dialogues=tuple(first + again),
        client=replace(scenario.client, fast_open_no_cookie=free),
        server=replace(
            scenario.server, fast_open_queue=rng.choice((0, 1, 8, 8)), fast_open_no_cookie=free
        ),
        incidents=tuple(incidents),
    )


def path_mtu_probing(rng: random.Random, scenario: Scenario) -> Scenario:
    """Probing by lot, and often a black hole from the beginning or in mid-connection."""
    incidents = list(scenario.incidents)
    if rng.random() < 0.7:
        begin = rng.choice((0, 50_000, SECOND, 5 * SECOND))
        size = rng.choice([size for size in SAFE_SIZES if scenario.family == 4 or size >= 1280])
        incidents.append(Incident(begin, Kind.BLACK_HOLE, size))
        if rng.random() < 0.3:
            incidents.append(Incident(begin + 20 * SECOND, Kind.BLACK_HOLE, 0))

    def probing(config: TcpConfig) -> TcpConfig:
        return replace(
            config,
            mtu_probing=rng.choice((0, 1, 1, 2, 2)),
            base_mss=rng.choice((48, 512, 1024)),
            mtu_probe_interval_us=rng.choice((5 * SECOND, 600 * SECOND)),
        )

    return replace(
        scenario,
        client=probing(scenario.client),
        server=probing(scenario.server),
        incidents=tuple(incidents),
    )


def flood(rng: random.Random, scenario: Scenario) -> Scenario:
    """Strangers who fill the SYN queue while the dialogues begin."""
    incident = Incident(rng.choice((0, 0, 100_000)), Kind.FLOOD, rng.choice((3, 20, 300)))
    return replace(
        scenario,
        backlog=rng.choice((1, 8, 128)),
        incidents=(*scenario.incidents, incident),
    )


def crowd(rng: random.Random, scenario: Scenario) -> Scenario:
    """Some dozens of short dialogues, many from ports that have just been used."""
    endings = (Ending.HALF_CLOSE, Ending.HALF_CLOSE, Ending.LAST, Ending.CLOSE, Ending.ABORT)
    ports = rng.choice((8, 20, 50))
    dialogues = []
    for index in range(rng.choice((10, 30, 50))):
        mine = rng.choice(endings)
        theirs = Ending.HALF_CLOSE if mine is Ending.LAST else rng.choice(endings)
        client, server = (short_plan(rng, ending) for ending in (mine, theirs))
        start = rng.randrange(rng.choice((1, 100_000, 5 * SECOND, 100 * SECOND)))
        port = 41_000 + index % ports
        dialogues.append(Dialogue(client, server, start_us=start, port=port))
    others = map(shortened, scenario.dialogues)
    return replace(scenario, dialogues=(*others, *dialogues))


def shortened(dialogue: Dialogue) -> Dialogue:
    """`dialogue` with little text: there are many of them."""
    client, server = (
        replace(plan, size=min(plan.size, SHORT), abort_at=min(plan.abort_at, SHORT, plan.size))
        for plan in (dialogue.client, dialogue.server)
    )
    return replace(dialogue, client=client, server=server)


def short_plan(rng: random.Random, ending: Ending) -> Plan:
    """A few octets."""
    size = rng.choice((0, 1, 100, 1000))
    return Plan(size=size, ending=ending, abort_at=rng.randrange(size + 1))


def both_families(rng: random.Random, scenario: Scenario) -> Scenario:
    """Some dialogues in the other family."""
    routers = [one.value for one in scenario.incidents if one.kind is Kind.MTU and one.value]
    links = [link.mtu for link in (scenario.there, scenario.back) if link.mtu]
    if min(scenario.mtu, scenario.server_mtu or scenario.mtu, *routers, *links) < IPV6_MIN_MTU:
        return scenario
    dialogues = [
        replace(one, family=rng.choice((4, 6)), simultaneous=False) for one in scenario.dialogues
    ]
    one = rng.choice(dialogues)
    dialogues.append(replace(one, family=10 - one.family, start_us=one.start_us, port=None))
    return replace(scenario, dialogues=tuple(dialogues))


def unlike_mtus(rng: random.Random, scenario: Scenario) -> Scenario:
    """Devices of different sizes."""
    sizes = (1280, 1500, 9000) if scenario.family == 6 else (296, 576, 1280, 1500, 9000)
    if scenario.has_both_families():
        sizes = (1280, 1500, 9000)
    return replace(scenario, server_mtu=rng.choice(sizes))


def tiny_queues(rng: random.Random, scenario: Scenario) -> Scenario:
    """A slow road before which hardly anything may wait."""
    there, back = (
        replace(link, queue=rng.choice((1, 2, 3)), rate_bps=rng.choice((1_000_000, 100_000_000)))
        for link in (scenario.there, scenario.back)
    )
    return replace(scenario, there=there, back=back)


def hours_without_window(rng: random.Random, scenario: Scenario) -> Scenario:
    """A reader who goes home, while his peer has more to say than the windows take."""
    first, *others = scenario.dialogues
    pause = rng.choice((HOUR, 5 * HOUR))
    server = replace(first.server, stop_reading_at=first.client.size // 2, stop_reading_us=pause)
    return replace(scenario, dialogues=(replace(first, server=server), *others))


def weeks_of_silence(rng: random.Random, scenario: Scenario) -> Scenario:
    """Longer than the timestamps that were heard last are good for (RFC 7323 §5.5)."""
    first, *others = scenario.dialogues
    size = min(first.client.size, 2000)
    client = replace(
        first.client, size=size, abort_at=min(first.client.abort_at, size),
        writes=(max(size // 2, 1), size or 1),
        write_pause_us=(24 * DAY, 27 * DAY),
    )  # fmt: skip
    quiet = {"keep_alive": False}
    return replace(
        scenario,
        dialogues=(replace(first, client=client), *others),
        client=replace(scenario.client, send_buffer=None, **quiet),  # type: ignore[arg-type]
        server=replace(scenario.server, **quiet),  # type: ignore[arg-type]
        limit_us=scenario.limit_us + 100 * DAY,
    )


EXTRAS: tuple[tuple[float, Extra], ...] = (
    (0.35, sockets),
    (0.2, fast_open),
    (0.2, path_mtu_probing),
    (0.05, crowd),
    (0.1, both_families),
    (0.15, unlike_mtus),
    (0.08, tiny_queues),
    (0.08, flood),
    (0.05, hours_without_window),
    (0.03, weeks_of_silence),
)
