"""What is to happen in one simulation: the two hosts, the road, the dialogues, the incidents.

`plain_scenario(seed)` draws the ordinary part of one, `extras.random_scenario` adds the rest; tests
write theirs out.
"""

import random
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from tools.simulation.application import Ending, Plan
from tools.simulation.features import marked, random_features
from ustack.config import SECOND, TcpConfig
from ustack.device.link import LinkConfig
from ustack.wire import ipv4

MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE
GSO_MAX = 65535
SMALL_LOSS = 0.06  # per packet: with less, no correct TCP gives a connection up
SAFE_PACKET = 400  # bytes: a suspected black hole leads to smaller ones after some timeouts
SHORT_CUT_US = 20 * SECOND
LONG_RTT_US = 500_000
# BBR's bursts of 48-octet segments over a queue of two, without SACK: 26 hours (seed 7828)
GOOD_ROAD_LIMIT_US = 2 * DAY
# A black hole was suspected, so 48 octets at a time; without SACK and timestamps each hole in what
# F-RTO has sent costs a timeout, and nothing is measured (Karn) that would end the back-off.
BAD_ROAD_LIMIT_US = 7 * DAY
MOSTLY = 0.8  # of the scenarios in which a peer may vanish have keep-alive

KEEP_ALIVE_IDLE_US = 100 * SECOND
KEEP_ALIVE_INTERVAL_US = 10 * SECOND


class Kind(Enum):
    """What can happen to the network or to a host."""

    CUT = auto()  # nothing gets through
    HEAL = auto()
    MTU = auto()  # the router in the middle has a new MTU (value; 0: none)
    BLACK_HOLE = auto()  # larger packets vanish without a word (value; 0: no longer)
    EAT_TEXT_ON_SYN = auto()  # SYNs with text or a Fast Open cookie vanish (value; 0: no longer)
    NEW_COOKIE_KEY = auto()  # of the listener, for Fast Open (value): cookies are no good any more
    FLOOD = auto()  # so many SYNs of strangers at once (value)
    RESTART_CLIENT = auto()
    RESTART_SERVER = auto()


@dataclass(frozen=True, slots=True)
class Incident:
    """At `at_us` after the start."""

    at_us: int
    kind: Kind
    value: int = 0


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One connection."""

    client: Plan
    server: Plan
    start_us: int = 0
    simultaneous: bool = False  # both ends connect
    port: int | None = None  # of the client; None: one of its own
    fast_open: bool = False  # the client's first text goes with the SYN if it may
    family: int = 0  # 4 or 6; 0: the scenario's


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulation."""

    seed: int
    dialogues: tuple[Dialogue, ...]
    family: int = 4
    mtu: int = 1500
    gso: bool = False
    there: LinkConfig = field(default_factory=LinkConfig)  # client to server
    back: LinkConfig = field(default_factory=LinkConfig)
    client: TcpConfig = field(default_factory=TcpConfig)
    server: TcpConfig = field(default_factory=TcpConfig)
    backlog: int = 128
    syn_cookies: int = 1  # of StackConfig
    memory_limit: int = 512 << 20  # of each host; as StackConfig has it
    incidents: tuple[Incident, ...] = ()
    limit_us: int = DAY  # of virtual time
    client_sockets: bool = False  # its users call sockets, not the stack
    server_sockets: bool = False
    server_mtu: int = 0  # of its device; 0: as the client's

    def must_succeed(self) -> bool:
        """No correct pair of TCPs lets a dialogue of this scenario end with an error."""
        calm = {Ending.HALF_CLOSE, Ending.LAST}
        endings = [(one.client.ending, one.server.ending) for one in self.dialogues]
        kinds = {incident.kind for incident in self.incidents}
        return (
            all({*pair} <= calm for pair in endings)
            and not kinds & {Kind.RESTART_CLIENT, Kind.RESTART_SERVER}
            and all(self._carries_whole_packets(link) for link in (self.there, self.back))
            and self.longest_cut() <= SHORT_CUT_US
            and self.survives_black_holes()
            and (not self.may_send_cookies() or (self.is_smooth() and not self.is_crowded()))
        )

    def has_both_families(self) -> bool:
        """Both hosts have addresses of both."""
        return any(one.family not in (0, self.family) for one in self.dialogues)

    def mtu_of(self, host: str) -> int:
        """Of the device of "client" or "server"."""
        return (host == "server" and self.server_mtu) or self.mtu

    def opens_fast(self) -> bool:
        """Some of the dialogues."""
        return any(one.fast_open for one in self.dialogues)

    def survives_black_holes(self) -> bool:
        """Segments become small enough in time (RFC 4821 §7.7)."""
        holes = [one.value for one in self.incidents if one.kind is Kind.BLACK_HOLE and one.value]
        return not holes or all(
            config.mtu_probing and config.path_mtu_discovery and min(holes) >= SAFE_PACKET
            for config in (self.client, self.server)
        )

    def may_send_cookies(self) -> bool:
        """Handshakes may be stateless: text, or a FIN, that comes before their last ACK, or in its
        place since the accept queue was full, is answered with RST."""
        return self.syn_cookies == 2 or (self.syn_cookies == 1 and self.is_crowded())

    def is_crowded(self) -> bool:
        """The listener may have no room."""
        if any(one.kind is Kind.FLOOD for one in self.incidents):
            return True
        return len(self.dialogues) > self.backlog + 1

    def is_smooth(self) -> bool:
        """Every packet arrives, and in order."""
        return not self.incidents and all(
            not (unreliability(link) or link.reorder or link.rate_bps or link.mtu)
            for link in (self.there, self.back)
        )

    def _carries_whole_packets(self, link: LinkConfig) -> bool:
        """What is not lost often enough to end a connection: a packet, with all its fragments."""
        pieces = self.most_fragments()
        survives = (1 - unreliability(link)) ** pieces
        return 1 - survives <= SMALL_LOSS and not (link.rate_bps and pieces > link.queue)

    def most_fragments(self) -> int:
        """Into how many pieces the router may cut a packet."""
        routers = [one.value for one in self.incidents if one.kind is Kind.MTU and one.value]
        if self.family == 6 or not routers:
            return 1
        if self.client.path_mtu_discovery and self.server.path_mtu_discovery:
            return 1
        room = (min(routers) - ipv4.HEADER_LEN) & ~7
        return max(1, -(-(max(self.mtu, self.server_mtu) - ipv4.HEADER_LEN) // room))

    def longest_cut(self) -> int:
        """The longest time without any packet, µs."""
        longest = 0
        since: int | None = None
        for incident in sorted(self.incidents, key=lambda one: one.at_us):
            if incident.kind is Kind.CUT and since is None:
                since = incident.at_us
            elif incident.kind is Kind.HEAL and since is not None:
                longest = max(longest, incident.at_us - since)
                since = None
        return longest if since is None else self.limit_us

    def loses_nothing(self) -> bool:
        """Every packet arrives, in order and soon: there is nothing to recover from."""
        if self.backlog < len(self.dialogues):
            return False  # the listener drops what it has no room for
        return self.is_smooth() and not self.there.ecn and not self.back.ecn


def with_keep_alive(config: TcpConfig) -> TcpConfig:
    """For an end that would otherwise wait for ever for a peer that has vanished."""
    return replace(
        config,
        keep_alive=True,
        keep_alive_idle_us=KEEP_ALIVE_IDLE_US,
        keep_alive_interval_us=KEEP_ALIVE_INTERVAL_US,
    )


def unreliability(link: LinkConfig) -> float:
    """How likely a packet is lost or damaged."""
    return link.loss + link.corrupt


def plain_scenario(seed: int) -> Scenario:
    """What `seed` means without extras."""
    rng = random.Random(f"scenario {seed}")
    there = random_link(rng)
    back = there if rng.random() < 0.5 else random_link(rng)
    bad = max(unreliability(there), unreliability(back)) > SMALL_LOSS
    rtt = there.delay_us + back.delay_us + 2 * (there.jitter_us + back.jitter_us)
    family = rng.choice((4, 6))
    mtu = rng.choice((1280, 1500, 1500, 9000) if family == 6 else (68, 296, 576, 1500, 1500, 9000))
    client, server = random_config(rng), random_config(rng)
    dialogues = tuple(
        random_dialogue(rng, index, client, server, mtu, rtt, bad)
        for index in range(rng.choice((1, 1, 1, 2, 3)))
    )
    incidents = random_incidents(rng, family) if rng.random() < 0.5 else ()
    restarts = {Kind.RESTART_CLIENT, Kind.RESTART_SERVER} & {one.kind for one in incidents}
    if Kind.RESTART_CLIENT in {one.kind for one in incidents} and rng.random() < 0.7:
        at = max(one.at_us for one in incidents if one.kind is Kind.RESTART_CLIENT)
        again = replace(
            dialogues[0], start_us=at + rng.choice((0, 1000, SECOND)), simultaneous=False, port=0
        )
        dialogues += (again,)
    features = random.Random(f"features {seed}")
    scenario = Scenario(
        seed=seed,
        dialogues=dialogues,
        family=family,
        mtu=mtu,
        gso=rng.random() < 0.5,
        there=marked(features, there),
        back=marked(features, back),
        client=random_features(features, client),
        server=random_features(features, server),
        backlog=rng.choice((0, 1, 128)),
        syn_cookies=features.choice((0, 1, 1, 2)),
        incidents=incidents,
        limit_us=BAD_ROAD_LIMIT_US if bad else GOOD_ROAD_LIMIT_US,
    )
    risky = bad or restarts or not scenario.must_succeed()
    if risky and rng.random() < MOSTLY:
        scenario = replace(
            scenario,
            client=with_keep_alive(scenario.client),
            server=with_keep_alive(scenario.server),
        )
    return scenario


def random_link(rng: random.Random) -> LinkConfig:
    """One direction with faults; often a clean one, so that clean roads stay tested."""
    delay = rng.choice((0, 100, 1_000, 10_000, 50_000, 250_000))

    def sometimes(*values: float) -> float:
        return rng.choice(values) if rng.random() < 0.5 else 0.0

    return LinkConfig(
        delay_us=delay,
        jitter_us=rng.randrange(delay // 2 + 1) if rng.random() < 0.3 else 0,
        loss=sometimes(0.001, 0.01, 0.05, 0.1, 0.2, 0.3),
        reorder=sometimes(0.01, 0.1, 0.3),
        duplicate=sometimes(0.01, 0.1, 0.3),
        corrupt=sometimes(0.001, 0.01, 0.05),
        rate_bps=rng.choice((64_000, 1_000_000, 100_000_000)) if rng.random() < 0.3 else 0,
        queue=rng.choice((5, 20, 1000)),
    )


def random_config(rng: random.Random) -> TcpConfig:
    """One host's TCP."""
    return TcpConfig(
        window_scaling=rng.random() < 0.7,
        timestamps=rng.random() < 0.6,
        sack=rng.random() < 0.7,
        nagle=rng.random() < 0.7,
        path_mtu_discovery=rng.random() < 0.8,
        ack_every_second_segment=rng.random() < 0.2,
        receive_buffer=rng.choice((1, 100, 2000, 16_000, 65_535, 70_000, None, None)),
        send_buffer=rng.choice((1, 500, 5000, 65_536, None)),
        mss=rng.choice((None, None, None, 536, 100)),
    )


def random_dialogue(
    rng: random.Random,
    index: int,
    client: TcpConfig,
    server: TcpConfig,
    mtu: int,
    rtt_us: int,
    bad: bool,
) -> Dialogue:
    """One connection, not larger than what its window and the road carry in reasonable time."""

    def largest(sender: TcpConfig, receiver: TcpConfig) -> int:
        window = min(
            sender.send_buffer or sender.send_buffer_max,
            receiver.receive_buffer or receiver.receive_buffer_max,
        )
        segment = min(window, mtu, sender.mss or mtu, receiver.mss or mtu)
        rounds = 40 if bad or rtt_us > LONG_RTT_US else 120
        return min(300_000, segment * rounds, window * rounds)

    calm = rng.random() < 0.6
    endings = [Ending.HALF_CLOSE, Ending.LAST]
    mine = rng.choice(endings if calm else list(Ending))
    theirs = rng.choice([Ending.HALF_CLOSE] if mine is Ending.LAST else endings)
    if not calm and rng.random() < 0.5:
        theirs = rng.choice([one for one in Ending if one is not mine or one is not Ending.LAST])
    there, back = largest(client, server), largest(server, client)
    plans = [random_plan(rng, mine, there, back), random_plan(rng, theirs, back, there)]
    return Dialogue(
        plans[0],
        plans[1],
        start_us=index * rng.choice((0, 1000, 500_000)),
        simultaneous=rng.random() < 0.15,
    )


def random_plan(rng: random.Random, ending: Ending, largest: int, peers_largest: int) -> Plan:
    """One end."""
    size = rng.choice((0, 1, rng.randrange(largest + 1), rng.randrange(largest + 1), largest))

    def pauses(chance: float, most: int) -> tuple[int, int]:
        return (0, rng.choice((1_000, 50_000, most))) if rng.random() < chance else (0, 0)

    piece = max(1, size // 20)
    bite = max(1, peers_largest // 100)
    return Plan(
        size=size,
        ending=ending,
        writes=rng.choice(((1, 20_000), (piece, 2 * piece), (piece, 10 * piece))),
        write_pause_us=pauses(0.3, 2 * SECOND),
        reads=rng.choice(((1, 100_000), (bite, 2 * bite), (1 << 20, 1 << 20))),
        read_pause_us=pauses(0.3, SECOND),
        stop_reading_at=rng.randrange(peers_largest + 1) if rng.random() < 0.2 else None,
        stop_reading_us=rng.choice((SECOND, 10 * SECOND, 5 * MINUTE)),
        abort_at=rng.randrange(size + 1),
        deaf_us=rng.choice((1_000, SECOND, MINUTE)),
    )


def random_incidents(rng: random.Random, family: int) -> tuple[Incident, ...]:
    """Partitions, MTU changes and restarts in the first seconds."""
    out = []
    at = 0
    for _ in range(rng.randint(1, 3)):
        at += rng.choice((1_000, 20_000, 300_000, 2 * SECOND))
        kind = rng.choice((Kind.CUT, Kind.CUT, Kind.MTU, Kind.MTU, Kind.RESTART_CLIENT))
        if kind is Kind.RESTART_CLIENT and rng.random() < 0.5:
            kind = Kind.RESTART_SERVER
        if kind is Kind.MTU:
            small = (1280, 1400) if family == 6 else (100, 296, 576, 1400)
            out.append(Incident(at, kind, rng.choice((*small, 0))))
            continue
        out.append(Incident(at, kind))
        if kind is Kind.CUT:
            at += rng.choice((50_000, SECOND, 10 * SECOND, MINUTE, 3 * MINUTE, 30 * MINUTE))
            out.append(Incident(at, Kind.HEAL))
    return tuple(out)
