"""ustack against the model of `tools.simulation.model` on a bad road: `tools/sim --model`.

The judge knows both ends: bytes, terminal reasons and leaks, as between two stacks.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path as FilePath

from tools.simulation.application import Application, Ending, Plan, text_of
from tools.simulation.features import random_features
from tools.simulation.host import Host, Wrap
from tools.simulation.invariants import check_connection
from tools.simulation.model import Leave, Model, ModelConfig
from tools.simulation.model_wire import Flow
from tools.simulation.observer import BrokenRule, Observer
from tools.simulation.path import Path
from tools.simulation.scenario import (
    Incident,
    Kind,
    Scenario,
    random_config,
    random_incidents,
    random_link,
    random_plan,
    unreliability,
    with_keep_alive,
)
from tools.simulation.verdict import SLACK, patience
from ustack.config import SECOND, StackConfig, TcpConfig
from ustack.device.capture import CaptureProbe
from ustack.device.link import Link, LinkConfig
from ustack.errors import ConnectionAborted, ConnectionRefused, ConnectionReset
from ustack.tcp.tcb import Endpoint, Tcb
from ustack.wire.virtio import HEADER_LEN, PLAIN

ADDRESSES = {4: ("10.0.0.1", "10.0.0.2", 24), 6: ("fd00::1", "fd00::2", 64)}
PORTS = (40_000, 80)  # ustack's and the model's; the other way round if ustack listens
EPOCH_NS = 1_600_000_000 * 10**9
READ_BUDGET = 64  # packets
TURNS_PER_INSTANT = 10_000
LIMIT_US = 24 * 3600 * SECOND
LONG_RTT_US = 500_000
MOSTLY = 0.8  # with keep-alive, where the model may vanish
WINDOWS = (1, 50, 1000, 5000, 65_535, 200_000)  # octets
ISS_ROOM = 5_000  # octets at most between the model's ISS and the wrap


@dataclass(frozen=True, slots=True)
class Duel:
    """One simulation."""

    seed: int
    opens: str  # who sends a SYN: "ustack", "model" or "both"
    family: int
    mtu: int
    plan: Plan
    size: int  # octets the model sends
    config: TcpConfig
    model: ModelConfig
    there: LinkConfig  # to the model
    back: LinkConfig
    incidents: tuple[Incident, ...] = ()

    def must_succeed(self) -> bool:
        """No correct ends let it end with an error."""
        calm = self.plan.ending in (Ending.HALF_CLOSE, Ending.LAST)
        polite = self.model.leave in (Leave.FIN_FIRST, Leave.FIN_LAST)
        return calm and polite and self.road().must_succeed()

    def road(self) -> Scenario:
        """What a `Scenario` says about the road."""
        model = replace(self.config, path_mtu_discovery=False)  # the model sends without DF
        road = (self.there, self.back)
        return Scenario(
            self.seed, (), self.family, self.mtu, there=road[0], back=road[1],
            client=self.config, server=model, incidents=self.incidents,
        )  # fmt: skip


def random_duel(seed: int) -> Duel:
    """The duel of `seed`."""
    rng = random.Random(f"duel {seed}")
    there = random_link(rng)
    back = there if rng.random() < 0.5 else random_link(rng)
    family = rng.choice((4, 6))
    mtu = rng.choice((1280, 1500, 9000) if family == 6 else (296, 576, 1500, 9000))
    config = random_config(rng)
    model = random_model(rng)
    bad = max(unreliability(there), unreliability(back)) > 0.06
    slow = bad or there.delay_us + back.delay_us > LONG_RTT_US
    turns = 40 if slow else 150
    mine = min(config.send_buffer or config.send_buffer_max, model.window, model.mss or 536) * turns
    its = (
        min(config.receive_buffer or config.receive_buffer_max, 536, config.mss or 536)
        * model.in_flight
        * turns
    )
    ending = rng.choice(list(Ending) if rng.random() < 0.4 else [Ending.HALF_CLOSE, Ending.LAST])
    if ending is Ending.LAST and model.leave is Leave.FIN_LAST:
        model = replace(model, leave=Leave.FIN_FIRST)  # somebody has to begin
    plan = random_plan(rng, ending, min(mine, 60_000), min(its, 60_000))
    size = rng.choice((0, 1, rng.randrange(min(its, 60_000) + 1)))
    incidents = random_incidents(rng, family) if rng.random() < 0.4 else ()
    kinds = {Kind.CUT, Kind.HEAL}
    if config.path_mtu_discovery or family == 6:
        kinds.add(Kind.MTU)  # the model puts no fragments together
    opens = rng.choice(("ustack", "ustack", "model", "model", "both"))
    duel = Duel(
        seed, opens, family, mtu, plan, size, config,
        replace(model, leave_at=rng.randrange(size + plan.size + 1)),
        there, back, tuple(one for one in incidents if one.kind in kinds),
    )  # fmt: skip
    if not duel.must_succeed() and rng.random() < MOSTLY:
        duel = replace(duel, config=with_keep_alive(config))
    features = random.Random(f"features {seed}")
    return replace(duel, config=random_features(features, duel.config))


def random_model(rng: random.Random) -> ModelConfig:
    """One of many simple TCPs."""
    mss, window = rng.choice((None, 100, 536, 1220)), rng.choice(WINDOWS)
    wscale = rng.choice((None, 0, 2, 14))
    if wscale and window >> wscale < (mss or 536):
        wscale = 0  # what is left of a small window would be no window
    leave = rng.choice(list(Leave)) if rng.random() < 0.3 else rng.choice(list(Leave)[:2])
    return ModelConfig(
        mss=mss,
        window=window,
        wscale=wscale,
        timestamps=rng.random() < 0.5,
        sack=rng.random() < 0.5,
        in_flight=rng.choice((1, 1, 2, 8)),
        delayed_ack_us=rng.choice((0, 0, 40_000, 500_000)),
        read_every_us=rng.choice((0, 0, 1000, 300_000)),
        read_size=rng.choice((500, 5000, 65_535)),
        leave=leave,
    )


class DuelWorld:
    """One simulation. `run()` raises BrokenRule, or returns how long it took (virtual µs)."""

    def __init__(self, duel: Duel, captures: FilePath | None = None) -> None:
        self.duel = duel
        self.now = 0
        self.counters: Counter[str] = Counter()
        near, far, prefix = ADDRESSES[duel.family]
        ports = PORTS if duel.opens != "model" else PORTS[::-1]
        self.local, self.remote = Endpoint(near, ports[0]), Endpoint(far, ports[1])
        self.path = Path(Link(duel.seed, duel.there, duel.back, duel.mtu, 0))
        self.observer = Observer(duel.mtu)
        self.path.on_fragmented = self.observer.delivered
        self.path.a.on_delivery = self.observer.delivered
        wrap = Wrap.find(self.local, self.remote, prefix, duel.seed % 2)
        self._probe = None
        if captures is not None:
            self._probe = CaptureProbe(
                captures / "client.pcapng",
                interface="client",
                now_to_epoch_ns=EPOCH_NS - wrap.clock_us * 1000,
            )
        self.host = Host(
            "client",
            StackConfig(addresses=(f"{near}/{prefix}",), mtu=duel.mtu, tcp=duel.config),
            self.path.a,
            secret=wrap.secret,
            clock_us=wrap.clock_us,
            seed=duel.seed,
            probe=self._probe,
            on_packet=lambda _, frame: self.observer.sent(frame),
        )
        rng = random.Random(f"model {duel.seed}")
        source, target = ip_address(far).packed, ip_address(near).packed
        flow = Flow(source, target, self.remote.port, self.local.port)
        text = text_of(duel.seed, "server", duel.size)
        self.model = Model(duel.model, flow, (1 << 32) - rng.randrange(ISS_ROOM), text)
        self.application = Application("client", duel.plan, Plan(duel.size), duel.seed, self._later)
        self.packets = 0  # of both ends
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._order = 0
        self._progress = (0, 0)  # SND.UNA and since when, host's µs

    def run(self) -> int:
        """The duel, the silence after it, the verdict, the search for leaks."""
        try:
            self._open()
            for incident in self.duel.incidents:
                self._later(incident.at_us, partial(self._happens, incident))
            while not (self.application.ended and self.model.over):
                if not self._step() and not self._users_give_up():
                    raise BrokenRule(f"stuck: {self._state()}")
                if self.now > LIMIT_US:
                    raise BrokenRule(f"not over after a day: {self._state()}")
            duration = self.now
            while self._step():
                if self.now > duration + LIMIT_US:
                    raise BrokenRule("a timer runs on")
            self._judge()
            self._search_for_leaks()
            self.packets += self.host.packets_out
            return duration
        finally:
            if self._probe is not None:
                self._probe.close()

    def _later(self, delay: int, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._agenda, (self.now + delay, self._order, action))

    def _open(self) -> None:
        duel, host = self.duel, self.host
        if duel.opens == "model":
            host.serve(self.local.port, self._accepted)
        else:
            address, port = self.remote.address, self.remote.port
            at = host.time(self.now)
            tcb = host.stack.connect(address, port, at, local_port=self.local.port)
            self._attach(tcb)
        if duel.opens == "ustack":
            self.model.open_passively()
        else:
            self.model.open_actively(self.now)

    def _accepted(self, tcb: Tcb) -> None:
        if self.application.tcb is not None:
            raise BrokenRule("accepted a connection that nobody opened")
        self._attach(tcb)
        self.application.begin()

    def _attach(self, tcb: Tcb) -> None:
        host = self.host
        self.application.start(host.stack, tcb, lambda: host.time(self.now))
        host.on_event(tcb, self.application.on_event)

    def _happens(self, incident: Incident) -> None:
        if incident.kind is Kind.MTU:
            self.path.mtu = incident.value or None
        else:
            self.path.cut = incident.kind is Kind.CUT

    # ------------------------------------------------------------------ time

    def _deadlines(self) -> list[int]:
        times = [self._agenda[0][0]] if self._agenda else []
        port = self.path.b.next_deadline(self.now)
        found = (self.host.next_deadline(self.now), self.model.deadline(), port)
        times += [at for at in found if at is not None]
        times += [self.now] if self.model.out else []
        return times

    def _step(self) -> bool:
        """On to what is next, and all of that microsecond. False: nothing is."""
        times = self._deadlines()
        if not times:
            return False
        self.now = max(self.now, min(times))
        for _ in range(TURNS_PER_INSTANT):
            while self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            self._turn_of_model()
            self.host.turn(self.now)
            self._inspect()
            if min(self._deadlines(), default=self.now + 1) > self.now:
                return True
        raise BrokenRule(f"time stands still: {self._state()}")

    def _turn_of_model(self) -> None:
        model, port = self.model, self.path.b
        for frame in port.read(READ_BUDGET, self.now):
            self.observer.delivered(frame)
            model.arrives(frame[HEADER_LEN:], self.now)
        due = model.deadline()
        if due is not None and due <= self.now:
            model.tick(self.now)
        self.packets += len(model.out)
        for packet in model.out:
            frame = PLAIN + packet
            self.observer.sent(frame)
            port.write((frame,), self.now)
        model.out.clear()

    def _inspect(self) -> None:
        for tcb in self.host.stack.connections():
            check_connection(tcb)
            if tcb.snd.una != self._progress[0]:
                self._progress = (tcb.snd.una, self.host.time(self.now))

    def _users_give_up(self) -> bool:
        """Nothing moves any more: whoever waits, by right, for an end that is gone breaks off."""
        mine, model = self.application, self.model
        tcb = mine.tcb
        if tcb is None and not mine.ended:
            mine.ended = model.over or model.waits_for_ever()
            return mine.ended
        if tcb is not None and model.over and not mine.ended:
            settled = tcb.snd.una == tcb.snd.max and not len(tcb.send_buffer)
            if settled and not self.duel.config.keep_alive and model.reason != "orderly":
                self.counters["forsaken"] += 1
                mine.abort()
                return True
        if mine.ended and model.waits_for_ever():
            self.counters["forsaken"] += 1
            model.drop()
            return True
        return False

    # ------------------------------------------------------------------ the end

    def _state(self) -> str:
        mine, model = self.application, self.model
        state = mine.tcb.state.name if mine.tcb is not None else "no connection"
        return (
            f"ustack {state} wrote {mine.written} of {mine.plan.size}, read {mine.read}; "
            f"model {model.state} {model.reason} wrote {model.written} of {len(model.text)}, "
            f"read {len(model.received)}"
        )

    def _judge(self) -> None:
        mine, model, must = self.application, self.model, self.duel.must_succeed()
        got = bytes(model.received)
        if got != mine.text[: len(got)] or len(got) > mine.written:
            raise BrokenRule("the model received what was not sent")
        if must and (mine.error is not None or model.reason != "orderly"):
            raise BrokenRule(f"{mine.error!r} and {model.reason!r} where nothing can go wrong")
        if model.eof and (len(got) != mine.written or not mine.shut):
            raise BrokenRule(f"the model's EOF after {len(got)} of {mine.written} octets")
        if mine.eof and (mine.read != len(model.text) or not model.fin_sent):
            raise BrokenRule(f"EOF after {mine.read} of {len(model.text)} octets")
        if mine.tcb is None:
            return
        if mine.error is None and mine.connected and len(got) != mine.written:
            raise BrokenRule(f"no error, but {len(got)} of {mine.written} octets were received")
        if mine.error is None and not mine.shut:
            raise BrokenRule("over without an error, but it was never closed")
        if model.reason == "orderly" and not (mine.eof or mine.closed or mine.error):
            raise BrokenRule("the model's FIN was acknowledged, but there was no EOF")
        if mine.error is not None:
            self._judge_error(mine.error)
        self._judge_reason()

    def _judge_error(self, error: Exception) -> None:
        mine, model = self.application, self.model
        if isinstance(error, ConnectionAborted):
            good = mine.aborted or mine.closed
        elif isinstance(error, ConnectionReset | ConnectionRefused):
            good = bool(model.resets_sent) or mine.closed_early
        else:
            stalled = mine.ended_at - self._progress[1]
            quiet = self.duel.config.keep_alive
            good = quiet or stalled >= SLACK * patience(self.duel.config, mine)
        if not good:
            raise BrokenRule(f"{error!r} without a reason: {self._state()}")

    def _judge_reason(self) -> None:
        mine, model = self.application, self.model
        left = mine.aborted or mine.closed or mine.error is not None
        if model.reason in ("reset", "refused") and not left:
            raise BrokenRule(f"the model was {model.reason} without a reason")

    def _search_for_leaks(self) -> None:
        stack = self.host.stack
        if stack.connections() or stack.time_waits() or stack.pending_timers():
            raise BrokenRule(f"left over: {self._state()}, {stack.pending_timers()} timers")
        tcb = self.application.tcb
        if tcb is not None:
            buffer = tcb.receive_buffer
            if buffer.out_of_order or buffer.held or len(tcb.send_buffer):
                raise BrokenRule("memory of a dead connection is held")
