"""Two hosts on a road in virtual time: runs a `Scenario` and checks everything on the way.

Time jumps from deadline to deadline, so an hour of silence costs nothing and the same scenario
gives the same packets at the same microsecond.
"""

import errno
import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path as FilePath

from tools.simulation.application import Application
from tools.simulation.host import Host, Wrap
from tools.simulation.invariants import check_connection
from tools.simulation.observer import BrokenRule, Direction, Observer
from tools.simulation.path import Path, Port
from tools.simulation.scenario import GSO_MAX, Dialogue, Incident, Kind, Scenario
from tools.simulation.socket_user import SocketApplication
from tools.simulation.strangers import STRANGERS_ANSWER_US, strangers
from tools.simulation.totals import check_conservation, check_counters
from tools.simulation.verdict import End, judge, waits_for_ever
from ustack.config import SECOND, StackConfig, TcpConfig
from ustack.device.capture import CaptureProbe
from ustack.device.link import Link
from ustack.errors import UStackError
from ustack.stack.fast_open import RESET_MEMORY_US
from ustack.stack.sockets import Socket
from ustack.stack.stack import Stack
from ustack.tcp.tcb import Endpoint, Tcb

CLIENT_PORT = 40_000  # of the first dialogue; the others count up
SERVER_PORT = 80
SIMULTANEOUS_PORT = 50_000
LONGEST_PORT_WAIT_US = 2048 * SECOND
PORT_WAIT_US = SECOND  # until a port that is taken is tried again; twice as long each time
MAX_CONNECTIONS = 32  # a small cap, so that a leak of one shows at the end
WRAPS = 2  # different secrets and clocks; each costs a search
TURNS_PER_INSTANT = 100_000  # more at one microsecond is an endless loop
AFTERMATH_US = 300 * SECOND  # 2 MSL, FIN-WAIT-2 and IP reassembly are over after this
EPOCH_NS = 1_600_000_000 * 10**9  # what captures call the start

ADDRESSES = {4: ("10.0.0.1", "10.0.0.2", 24), 6: ("fd00::1", "fd00::2", 64)}


@dataclass(slots=True)
class Result:
    """Figures of a simulation in which no rule was broken."""

    duration_us: int  # until the last end was over
    packets: int  # frames handed to the devices
    text: int  # octets of payload sent, again included
    resent: int
    counters: Counter[str]
    outcomes: list[tuple[UStackError | None, UStackError | None]] = field(default_factory=list)
    applications: list[tuple[Application, Application | None]] = field(default_factory=list)


@dataclass(slots=True)
class _Ends:
    """The ends of one dialogue, as they come to be."""

    dialogue: Dialogue
    client: Application
    server: Application
    accepted: bool = False


class World:
    """One simulation. `run()` returns a Result or raises BrokenRule."""

    def __init__(self, scenario: Scenario, captures: FilePath | None = None) -> None:
        """`captures`: the folder for client.pcapng and server.pcapng."""
        self.scenario = scenario
        self.now = 0
        self.counters: Counter[str] = Counter()
        self._cap = MAX_CONNECTIONS + 2 * len(scenario.dialogues)
        self._order = 0
        self._hosts_due: int | None = None  # when a host has to do something next
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        gso_max = GSO_MAX if scenario.gso else 0
        link = Link(scenario.seed, scenario.there, scenario.back, scenario.mtu, gso_max)
        self.path = Path(link)
        self.observer = Observer(scenario.mtu, scenario.may_send_cookies())
        self.path.on_fragmented = self.observer.delivered  # early: fragments are hard to follow
        near, far, prefix = ADDRESSES[scenario.family]
        first = scenario.dialogues[0]
        local = Endpoint(near, first.port or CLIENT_PORT)
        remote = Endpoint(far, SIMULTANEOUS_PORT if first.simultaneous else SERVER_PORT)
        self._probes: list[CaptureProbe] = []
        self.client = self._host(
            "client", local, remote, prefix, self.path.a, scenario.client, captures
        )
        self.server = self._host(
            "server", remote, local, prefix, self.path.b, scenario.server, captures
        )
        self.hosts = (self.client, self.server)
        self._ends: list[_Ends] = []
        self._by_tcb: dict[Tcb, Application] = {}
        self._waiting: dict[tuple[int, int], _Ends] = {}
        self._haunted: set[int] = set()  # ports of clients whose server has had a ghost
        self._heard: dict[Tcb, tuple[int, int, int]] = {}  # SND.UNA, since when, last heard

    def _host(
        self,
        name: str,
        local: Endpoint,
        remote: Endpoint,
        prefix: int,
        port: Port,
        config: TcpConfig,
        captures: FilePath | None,
    ) -> Host:
        scenario = self.scenario
        wrap = Wrap.find(local, remote, prefix, scenario.seed % WRAPS)
        addresses = [f"{local.address}/{prefix}"]
        if scenario.has_both_families():
            other = ADDRESSES[10 - scenario.family]
            addresses.append(f"{other[name == 'server']}/{other[2]}")
        mtu = scenario.mtu_of(name)
        probe = None
        if captures is not None:
            probe = CaptureProbe(
                captures / f"{name}.pcapng",
                interface=name,
                now_to_epoch_ns=EPOCH_NS - wrap.clock_us * 1000,
            )
            self._probes.append(probe)
        port.on_delivery = self.observer.delivered
        return Host(
            name,
            StackConfig(
                addresses=tuple(addresses),
                mtu=mtu,
                gso_max=GSO_MAX if scenario.gso else 0,
                checksum_offload=scenario.gso,
                tcp=config,
                max_connections=self._cap,
                syn_cookies=scenario.syn_cookies,
                memory_limit=scenario.memory_limit,
            ),
            port,
            secret=wrap.secret,
            clock_us=wrap.clock_us,
            seed=scenario.seed,
            probe=probe,
            on_packet=lambda _, frame: self.observer.sent(frame, mtu),
        )

    # ------------------------------------------------------------------ running

    def run(self) -> Result:
        """The whole scenario, then silence, then the search for leaks."""
        try:
            return self._run()
        finally:
            for probe in self._probes:
                probe.close()

    def _run(self) -> Result:
        scenario = self.scenario
        self._serve()
        for incident in scenario.incidents:
            self.at(incident.at_us, partial(self._incident, incident))
        for index, dialogue in enumerate(scenario.dialogues):
            self.at(dialogue.start_us, partial(self._begin, index, dialogue))
        while self._unfinished() or self.now < self._last_planned():
            self._step("work remains")
            if self.now > scenario.limit_us:
                raise BrokenRule(f"not over after {scenario.limit_us // SECOND} s: {self._state()}")
        duration = self.now
        self._settle()
        self._judge()
        check_conservation(self.path, self.client, self.server)
        result = self._result(duration)
        self._search_for_leaks()
        return result

    def at(self, when: int, action: Callable[[], None]) -> None:
        """Do `action` at world time `when`."""
        self._order += 1
        heapq.heappush(self._agenda, (when, self._order, action))

    def later(self, delay: int, action: Callable[[], None]) -> None:
        """Do `action` after `delay` µs."""
        self.at(self.now + delay, action)

    def _last_planned(self) -> int:
        scenario = self.scenario
        return max(
            (one.at_us for one in (*scenario.incidents,)),
            default=0,
        )

    def _unfinished(self) -> bool:
        if len(self._ends) < len(self.scenario.dialogues):
            return True
        return any(
            not ends.client.is_over() or (ends.accepted and not ends.server.is_over())
            for ends in self._ends
        )

    def _next_deadline(self) -> int | None:
        due = self._agenda[0][0] if self._agenda else None
        if self._hosts_due is not None and (due is None or self._hosts_due < due):
            due = self._hosts_due
        return due

    def _step(self, why: str) -> None:
        """On to the next deadline, and everything that happens at that microsecond."""
        due = self._next_deadline()
        if due is None:
            if not self._users_give_up():
                raise BrokenRule(f"stuck: {why} and no timer is set: {self._state()}")
            due = self.now
        self.now = max(self.now, due)
        for _ in range(TURNS_PER_INSTANT):
            busy, self._hosts_due = False, None
            while self._agenda and self._agenda[0][0] <= self.now:
                busy = True
                heapq.heappop(self._agenda)[2]()
            for host in self.hosts:
                due = host.next_deadline(self.now)
                if due is None:
                    continue
                if due <= self.now:
                    busy = True
                    host.turn(self.now)
                    self._inspect(host)
                elif self._hosts_due is None or due < self._hosts_due:
                    self._hosts_due = due
            if not busy:
                return
        raise BrokenRule(f"time stands still: {self._state()}")

    def _users_give_up(self) -> bool:
        """Whoever waits for a peer that is gone for good breaks off. Whether there was one."""
        forsaken = [
            mine
            for pair in map(self._both, self._ends)
            for mine, other in (pair, pair[::-1])
            if mine is not None and waits_for_ever(mine, other)
        ]
        for end in forsaken:
            self.counters["forsaken"] += 1
            end.application.abort()
        return bool(forsaken)

    def _inspect(self, host: Host) -> None:
        at = host.time(self.now)
        for tcb in host.stack.connections():
            check_connection(tcb)
            una, since, _ = self._heard.get(tcb, (-1, 0, 0))
            heard = tcb.last_received_at
            self._heard[tcb] = (tcb.snd.una, since if una == tcb.snd.una else at, heard)

    def _state(self) -> str:
        return "; ".join(
            f"{application.name} {tcb.state.name} wrote {application.written} of "
            f"{application.plan.size}, read {application.read} of {len(application.expected)}"
            for tcb, application in self._by_tcb.items()
            if not application.ended and not application.lost
        )

    # ------------------------------------------------------------------ dialogues and incidents

    def _begin(self, index: int, dialogue: Dialogue, wait_us: int = PORT_WAIT_US) -> None:
        port = dialogue.port or CLIENT_PORT + (index if dialogue.port is None else 0)
        seed = self.scenario.seed * 10 + index
        client = self._application("client", dialogue, seed)
        server = self._application("server", dialogue, seed)
        far_port = SIMULTANEOUS_PORT + index if dialogue.simultaneous else SERVER_PORT
        try:
            tcb = self._connect(self.client, self.server, port, far_port, client, dialogue)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            self.counters["port taken"] += 1  # by the dialogue before: wait until that is over
            if wait_us >= LONGEST_PORT_WAIT_US:
                self._users_give_up()  # or the port is never free again
            wait_us = min(wait_us, LONGEST_PORT_WAIT_US)
            self.later(wait_us, partial(self._begin, index, dialogue, 2 * wait_us))
            return
        ends = _Ends(dialogue, client, server)
        self._ends.append(ends)
        self._waiting[port, tcb.snd.iss & 0xFFFF_FFFF] = ends
        if dialogue.simultaneous:
            ends.accepted = True
            self._connect(self.server, self.client, far_port, port, server, dialogue)

    def _application(self, name: str, dialogue: Dialogue, seed: int) -> Application:
        plans = (dialogue.client, dialogue.server)
        mine, peers = plans if name == "client" else plans[::-1]
        scenario = self.scenario
        sockets = scenario.client_sockets if name == "client" else scenario.server_sockets
        make = SocketApplication if sockets else Application
        return make(name, mine, peers, seed, self.later)

    def _connect(
        self,
        host: Host,
        to: Host,
        port: int,
        far_port: int,
        application: Application,
        dialogue: Dialogue,
    ) -> Tcb:
        near, far, _ = ADDRESSES[dialogue.family or self.scenario.family]
        address = far if to is self.server else near
        at = host.time(self.now)
        text: bytes | None = None
        if dialogue.fast_open:
            text = application.text[: application.plan.writes[1]]
        if isinstance(application, SocketApplication):
            tcb = application.connect(host.socket(), address, (port, far_port), text, at)
        else:
            tcb = host.stack.connect(address, far_port, at, local_port=port, fast_open=text)
            application.written = len(tcb.send_buffer)
        self._attach(host, tcb, application)
        return tcb

    def _attach(self, host: Host, tcb: Tcb, application: Application) -> None:
        application.start(host.stack, tcb, lambda: host.time(self.now))
        self._by_tcb[tcb] = application
        self._heard[tcb] = (tcb.snd.una, host.time(self.now), host.time(self.now))
        host.on_event(tcb, application.on_event)

    def _accepted(self, tcb: Tcb, socket: Socket | None = None) -> None:
        ends = self._waiting.get((tcb.remote.port, tcb.rcv.irs & 0xFFFF_FFFF))
        known = ends is not None and not ends.accepted
        if not known and (self.scenario.may_send_cookies() or self.scenario.opens_fast()):
            # A late ACK of a connection that is gone. A cookie is good for two minutes, and for all
            # segments whose SEQ and ACK are equally far from the SYN's. Or a late SYN with a Fast
            # Open cookie (RFC 7413 §2.1: text may come twice).
            self.counters["ghosts"] += 1
            self._haunted.add(tcb.remote.port)
            at = self.server.time(self.now)
            self.server.stack.abort(tcb, at)
            if socket is not None:
                next(socket.close(at), None)
            return
        if ends is None or not known:
            raise BrokenRule(f"accepted a connection that nobody opened, from {tcb.remote}")
        ends.accepted = True
        if isinstance(ends.server, SocketApplication) and socket is not None:
            ends.server.use(socket)
        self._attach(self.server, tcb, ends.server)
        ends.server.begin()

    def _incident(self, incident: Incident) -> None:
        self.counters[incident.kind.name.lower()] += 1
        if incident.kind is Kind.CUT:
            self.path.cut = True
        elif incident.kind is Kind.HEAL:
            self.path.cut = False
        elif incident.kind is Kind.MTU:
            self.path.mtu = incident.value or None
        elif incident.kind is Kind.BLACK_HOLE:
            self.path.hole = incident.value or None
        elif incident.kind is Kind.EAT_TEXT_ON_SYN:
            self.path.eats_text_on_syn = incident.value > 0
        elif incident.kind is Kind.NEW_COOKIE_KEY:
            key = incident.value.to_bytes(16, "big")
            for listener in self.server.stack.listeners():
                listener.config = replace(listener.config, fast_open_key=key)
        elif incident.kind is Kind.FLOOD:
            self._flood(incident.value)
        else:
            self._restart(self.client if incident.kind is Kind.RESTART_CLIENT else self.server)

    def _flood(self, count: int) -> None:
        """SYNs of strangers, of whom some send a RST or a wrong ACK later."""
        family = self.scenario.family
        for frames in strangers(family, ADDRESSES[family][1], SERVER_PORT, count, self.now):
            self.observer.sent(frames[0])
            for number, frame in enumerate(frames):
                self.later(number * STRANGERS_ANSWER_US, partial(self.path.b.inject, frame))

    def _serve(self) -> None:
        scenario = self.scenario
        if scenario.server_sockets:
            self.server.serve_socket(SERVER_PORT, self.now, self._accepted, scenario.backlog)
        else:
            self.server.serve(SERVER_PORT, self._accepted, scenario.backlog)

    def _restart(self, host: Host) -> None:
        self._count(host.stack)
        for tcb, application in self._by_tcb.items():
            if application.stack is host.stack and not application.ended:
                application.lost = True
            if application.stack is host.stack:
                self._heard.pop(tcb, None)
        host.restart()
        if host is self.server:
            self._serve()

    # ------------------------------------------------------------------ the end

    def _settle(self) -> None:
        """Run until both hosts and the road are silent."""
        until = (
            self.now
            + AFTERMATH_US
            + 2 * self.scenario.server.keep_alive_idle_us * (self.scenario.server.keep_alive)
        )
        while (due := self._next_deadline()) is not None:
            if due > until:
                if self._hosts_due is None:
                    return  # only users whose connections are long over have plans
                raise BrokenRule(f"a timer runs on: {self._leftovers()}")
            self._step("")

    def _direction(self, tcb: Tcb) -> Direction | None:
        size = (len(tcb.flow) - 4) // 2
        remote, local = tcb.flow[:size], tcb.flow[size : 2 * size]
        flow = (local, tcb.local.port, remote, tcb.remote.port)
        return self.observer.incarnations.get((flow, tcb.snd.iss & 0xFFFF_FFFF))

    def _end(self, application: Application, config: TcpConfig) -> End:
        tcb = application.tcb
        direction = self._direction(tcb) if tcb is not None else None
        _, progress, heard = self._heard.get(tcb, (0, 0, 0)) if tcb is not None else (0, 0, 0)
        haunted = tcb is not None and tcb.local.port in self._haunted
        return End(application, config, direction, progress, heard, haunted)

    def _both(self, ends: _Ends) -> tuple[End, End | None]:
        client = self._end(ends.client, self.scenario.client)
        return client, self._end(ends.server, self.scenario.server) if ends.accepted else None

    def end_of(self, application: Application) -> End:
        """`application` with what is known of it."""
        mine = any(application is ends.client for ends in self._ends)
        return self._end(application, self.scenario.client if mine else self.scenario.server)

    def _judge(self) -> None:
        must_succeed = self.scenario.must_succeed()
        for ends in self._ends:
            client, server = self._both(ends)
            judge(client, server, must_succeed)
            for end in (client, server):
                if end is not None:
                    check_counters(end)
            if server is not None:
                judge(server, client, must_succeed)

    def _result(self, duration: int) -> Result:
        for host in self.hosts:
            self._count(host.stack)
        for direction in (self.path.link.ab, self.path.link.ba):
            self.counters.update({f"link {key}": n for key, n in direction.counters.items()})
        self.counters.update(self.path.counters)
        resent = self.observer.resent
        if self.scenario.loses_nothing():
            for tcb in self._by_tcb:
                recovery = tcb.recovery
                if tcb.fast_open is not None:
                    continue  # text of a SYN that is not taken is sent again
                if recovery.timeouts or recovery.episodes:
                    raise BrokenRule(f"{tcb.local.address}: recovery on a road that loses nothing")
        return Result(
            duration,
            sum(host.packets_out for host in self.hosts),
            self.observer.text,
            resent,
            self.counters,
            [(ends.client.error, ends.server.error) for ends in self._ends],
            [(ends.client, ends.server if ends.accepted else None) for ends in self._ends],
        )

    def _count(self, stack: Stack) -> None:
        self.counters.update(stack.counters)

    def _leftovers(self) -> str:
        return "; ".join(
            f"{host.name}: {[tcb.state.name for tcb in host.stack.connections()]}, "
            f"{len(host.stack.time_waits())} in TIME-WAIT, {host.stack.pending_timers()} timers"
            for host in self.hosts
        )

    def _search_for_leaks(self) -> None:
        """2 MSL after the last close nothing may be left."""
        for host in self.hosts:
            stack = host.stack
            if stack.connections() or stack.time_waits() or stack.pending_timers():
                raise BrokenRule(f"left over: {self._leftovers()}")
            if stack.take_events():
                raise BrokenRule(f"{host.name}: events were not told")
            for listener in stack.listeners():
                if listener.half_open or listener.queue:
                    raise BrokenRule(f"{host.name}: the listener still counts a child")
                if listener.pending is not None and listener.pending.count(
                    host.time(self.now) + RESET_MEMORY_US
                ):
                    raise BrokenRule(f"{host.name}: a Fast Open is still pending")
            if stack.half_open():
                raise BrokenRule(f"{host.name}: a handshake is left in the SYN queue")
            left = [socket for socket in host.sockets.sockets if socket.listener is None]
            if left:
                raise BrokenRule(f"{host.name}: {len(left)} sockets are left")
        for tcb, application in self._by_tcb.items():
            if application.lost:
                continue
            buffer = tcb.receive_buffer
            if buffer.out_of_order or buffer.held or len(tcb.send_buffer):
                raise BrokenRule(f"{application.name}: memory of a dead connection is held")
        for host in self.hosts:
            at = host.time(self.now)
            target = next(one for one in self.hosts if one is not host)
            address = target.config.addresses[0].split("/")[0]
            for _ in range(self._cap):  # NoBufferSpace: one is still counted
                host.stack.connect(address, 9, at)
