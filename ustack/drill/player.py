"""Plays a script on a host: events in order, times and tolerances (language §5), mismatches.

The same player serves ustack on a virtual clock and a kernel in real time.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from errno import errorcode

from ustack.drill.constants import ERRNO
from ustack.drill.failure import ScriptFailure
from ustack.drill.host import Host, Task
from ustack.drill.mapping import MappingError, SocketsUnderTest
from ustack.drill.matcher import (
    StampCheck,
    Window,
    compare,
    compare_datagram,
    compare_icmp,
    compare_ip,
    compare_live,
    joins,
)
from ustack.drill.notation import packet_text, time_text
from ustack.drill.packets import (
    LivePacket,
    build_icmp,
    build_tcp,
    build_udp,
    ip_of,
    is_signed,
    other_packet,
)
from ustack.drill.positions import Position
from ustack.drill.script import (
    CodeEvent,
    CommandEvent,
    Event,
    IcmpPacket,
    IpInfo,
    Md5,
    Packet,
    PacketEvent,
    Script,
    SyscallEvent,
    TcpOption,
    TcpPacket,
    TimeKind,
    UdpPacket,
)
from ustack.drill.snippets import Snippets
from ustack.drill.syscalls import Syscalls
from ustack.wire import ipv4, ipv6, tcp

LAST_PACKETS = 10  # shown with a failure
GRACE_US = 1_000_000  # language §12.2: how long a blocking call may hold up others, or the end
PATIENCE_US = 2_000_000  # language §5.3: how long a packet is waited for beyond its time


@dataclass(slots=True)
class Report:
    """How a script went. `lines` explain a failure, most important first."""

    passed: bool
    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what had no meaning or no effect
    relaxed: set[str] = field(default_factory=set)  # relaxations without which it fails


@dataclass(slots=True)
class _Blocking:
    """A blocking call in progress. Times are those of the script."""

    event: SyscallEvent
    task: Task
    start_us: int
    end_us: int


@dataclass(slots=True, frozen=True)
class _Seen:
    """A packet for the report; `live` ones are translated when it is written."""

    time_us: int
    inbound: bool
    packet: Packet | LivePacket


class Player:
    """Plays one script once."""

    def __init__(
        self, script: Script, host: Host, *, relaxations: frozenset[str] = frozenset()
    ) -> None:
        self._script = script
        self._settings = script.settings
        self._host = host
        self._relaxations = relaxations
        self._sockets = SocketsUnderTest(script.settings)
        self._snippets = Snippets()
        self._seen: deque[_Seen] = deque(maxlen=LAST_PACKETS)
        self._blocking: _Blocking | None = None
        self._previous_us = 0  # scheduled time of the event before
        self._previous: Event | None = None
        self._report = Report(passed=True, notes=list(script.notes))
        self._syscalls: Syscalls | None = None

    def play(self) -> Report:
        """Plays the script to its end or to the first deviation; the host is closed after it."""
        report = self._report
        prepared = False
        try:
            prepared = True
            self._prepare()
            self._host.start()
            self._syscalls = Syscalls(self._host.api, self._sockets, self._settings)
            for event in self._script.events:
                self._play(event)
            self._await_blocking()
            self._snippets.run()
        except ScriptFailure as failure:
            self._failed(failure)
        if prepared and self._script.cleanup is not None:
            try:
                self._host.prepare(self._script.cleanup.text, self._script.cleanup.position)
            except ScriptFailure as failure:
                if report.passed:
                    self._failed(failure)
        if self._syscalls is not None:
            report.notes += self._syscalls.notes
        report.notes += self._host.notes()
        self._host.close()
        return report

    def _failed(self, failure: ScriptFailure) -> None:
        self._report.passed = False
        self._report.lines = [str(failure), *failure.details]
        if self._seen:
            self._report.lines.append(f"  last {len(self._seen)} packets:")
            self._report.lines += [f"    {self._seen_text(seen)}" for seen in self._seen]

    def _prepare(self) -> None:
        position = Position(self._script.file, 1)
        for command in self._settings.init_scripts:
            self._host.prepare(command, position)
        if self._script.init is not None:
            self._host.prepare(self._script.init.text, self._script.init.position)

    # Time

    def _schedule(self, event: Event) -> tuple[int, int]:
        """When the event is due: both edges (language §5.2)."""
        when = event.when
        now = self._host.now()
        if when.kind is TimeKind.ANY:
            return now, now
        base = 0
        if when.relative:
            burst = (
                isinstance(event, PacketEvent)
                and event.inbound
                and isinstance(self._previous, PacketEvent)
                and self._previous.inbound
            )
            base = self._previous_us if burst else now
        start = base + when.start_us
        return start, base + when.end_us if when.is_window else start

    def _tolerance(self, interval_us: int) -> int:
        share = self._settings.tolerance_percent / 100 * interval_us
        return max(self._settings.tolerance_us, int(share))

    def _play(self, event: Event) -> None:
        start, end = self._schedule(event)
        try:
            if isinstance(event, PacketEvent) and not event.inbound:
                self._outbound(event, start, end)
            else:
                self._host.sleep_until(start)
                self._check_late(event, start)
                self._act(event, start)
        except MappingError as error:
            raise ScriptFailure(event.position, str(error)) from None
        self._check_blocking()
        self._previous_us = start
        self._previous = event

    def _check_late(self, event: Event, scheduled: int) -> None:
        """A host in real time may oversleep; the first event is exempt."""
        late = self._host.now() - scheduled
        if self._previous is not None and late > self._tolerance(scheduled - self._previous_us):
            raise ScriptFailure(
                event.position,
                f"timing error: due at {time_text(scheduled)}, happened {late} µs later",
            )

    def _act(self, event: Event, start: int) -> None:
        match event:
            case PacketEvent():
                self._inject(event)
            case SyscallEvent():
                self._syscall(event, start)
            case CommandEvent():
                self._host.command(event.text, event.position)
            case CodeEvent():
                assert self._syscalls is not None
                live = self._syscalls.live_fd(self._sockets.described_fd())
                snapshot = self._host.snapshot(live)
                self._snippets.add(event.position, event.text, snapshot.values)

    # Inbound packets

    def _inject(self, event: PacketEvent) -> None:
        if event.tunnel:
            raise ScriptFailure(event.position, "packets in tunnels are not supported")
        packet = event.packet
        self._seen.append(_Seen(self._host.now(), True, packet))
        match packet:
            case TcpPacket():
                live, endpoints = self._sockets.inbound(packet)
                data = build_tcp(live, endpoints, self._settings.md5_secret)
            case IcmpPacket():
                message, endpoints, quoted = self._sockets.icmp(packet)
                data = build_icmp(message, endpoints, quoted)
            case UdpPacket():
                data = build_udp(packet, self._sockets.udp_endpoints(packet.ports))
        self._host.inject(data)

    # Outbound packets

    def _outbound(self, event: PacketEvent, start: int, end: int) -> None:
        if event.tunnel:
            raise ScriptFailure(event.position, "packets in tunnels are not supported")
        interval = max(start, end) - self._previous_us
        until: int | None = None
        if event.when.kind is not TimeKind.ANY:
            until = self._host.now() + interval // 1_000_000 * 1_000_000 + PATIENCE_US
        window: Window | None = None
        if event.when.kind is not TimeKind.ANY:
            tolerance = self._tolerance(start - self._previous_us)
            window = Window(start - tolerance, end + tolerance)
        match event.packet:
            case TcpPacket():
                self._outbound_tcp(event, event.packet, window, until)
            case IcmpPacket() | UdpPacket():
                self._outbound_other(event, event.packet, window, until)

    def _outbound_tcp(
        self, event: PacketEvent, packet: TcpPacket, window: Window | None, until: int | None
    ) -> None:
        pieces = [self._next(event, until)]
        socket = self._sockets.current
        assert socket is not None
        first = pieces[0]
        socket.learn(first, packet)
        if not self._settings.strict_segments:
            self._collect(event, packet, pieces, until)
        actual = socket.to_script(pieces[-1], packet)
        if _wants_valid_digest(packet) and all(map(self._is_signed, pieces)):
            actual = replace(actual, options=tuple(map(_as_valid, actual.options or ())))
        if len(pieces) > 1:
            total = sum(len(piece.payload) for piece in pieces)
            opening = socket.to_script(first, packet)
            flags = actual.flags & ~tcp.CWR | opening.flags & tcp.CWR
            actual = replace(actual, seq=opening.seq, length=total, flags=flags)
        differences = [
            difference
            for piece in pieces
            for difference in compare_live(piece, self._settings.ipv6_packets)
        ]
        differences += self._compare(packet, actual)
        late = window.difference(pieces[-1].time_us) if window is not None else None
        if late and "time" in self._relaxations:
            self._report.relaxed.add("time")
        elif late:
            differences.append(late)
        if differences:
            self._mismatch(event, packet, actual, pieces[-1].time_us, differences)

    def _is_signed(self, live: LivePacket) -> bool:
        return is_signed(live, self._settings.md5_secret)

    def _collect(
        self, event: PacketEvent, packet: TcpPacket, pieces: list[LivePacket], until: int | None
    ) -> None:
        """Fetches packets until their payloads make up the line (language §11.3)."""
        total = len(pieces[0].payload)
        while 0 < total < packet.length:
            piece = self._next(event, until)
            last = total + len(piece.payload) >= packet.length
            if not joins(pieces[-1], piece, last, frozenset()):
                if not joins(pieces[-1], piece, last, self._relaxations):
                    raise ScriptFailure(
                        event.position,
                        "the packets do not make up one line: "
                        f"{self._live_text(pieces[-1])} and {self._live_text(piece)}",
                        self._side_by_side(packet, None, piece.time_us),
                    )
                self._report.relaxed.add("segments")
            pieces.append(piece)
            total += len(piece.payload)

    def _compare(self, expected: TcpPacket, actual: TcpPacket) -> list[str]:
        stamps: StampCheck | None = None
        if self._settings.ts_tick_us:
            stamps = StampCheck(self._settings.ts_tick_us, self._tolerance(self._host.now()))
        strict = compare(expected, actual, stamps)
        if not strict or not self._relaxations:
            return strict
        relaxed = compare(expected, actual, stamps, self._relaxations)
        if not relaxed:
            self._report.relaxed |= {
                name
                for name in self._relaxations
                if compare(expected, actual, stamps, self._relaxations - {name})
            }
        return relaxed

    def _outbound_other(
        self,
        event: PacketEvent,
        packet: IcmpPacket | UdpPacket,
        window: Window | None,
        until: int | None,
    ) -> None:
        """Fetches the next ICMP message, or datagram of the socket under test, and compares it."""
        while True:
            live = self._host.next_packet(until)
            if live is None:
                raise self._timed_out(event)
            if self._is_meant(live, packet):
                break
        self._seen.append(_Seen(live.time_us, False, live))
        differences = compare_live(live, self._settings.ipv6_packets)
        compare_ip(packet.ip, self._ip_to_script(live, packet.ip), differences)
        if isinstance(packet, UdpPacket):
            differences += compare_datagram(packet, live)
        else:
            differences += compare_icmp(packet, live)
        late = window.difference(live.time_us) if window is not None else None
        if late and "time" in self._relaxations:
            self._report.relaxed.add("time")
        elif late:
            differences.append(late)
        if differences:
            self._fail_packet(event, differences, self._texts(packet, self._seen[-1]))

    def _ip_to_script(self, live: LivePacket, expected: IpInfo) -> IpInfo:
        socket = self._sockets.current
        if socket is None:
            return ip_of(live, expected)
        socket.learn_label(live, expected)
        return socket.ip_to_script(live, expected)

    def _is_meant(self, live: LivePacket, packet: IcmpPacket | UdpPacket) -> bool:
        if isinstance(packet, UdpPacket):
            return self._sockets.is_current_datagram(live, packet.ports)
        protocol = ipv6.ICMPV6 if self._settings.ipv6_packets else ipv4.ICMP
        return live.protocol == protocol and self._sockets.to_remote(live)

    def _next(self, event: PacketEvent, until: int | None) -> LivePacket:
        """The next packet of the socket under test. Packets of others are skipped."""
        while True:
            live = self._host.next_packet(until)
            if live is None:
                raise self._timed_out(event)
            if self._sockets.is_current(live):
                self._seen.append(_Seen(live.time_us, False, live))
                return live

    def _timed_out(self, event: PacketEvent) -> ScriptFailure:
        return ScriptFailure(
            event.position,
            "no packet was sent",
            self._side_by_side(event.packet, None, self._host.now()),
        )

    def _mismatch(
        self,
        event: PacketEvent,
        expected: TcpPacket,
        actual: TcpPacket,
        sent_us: int,
        differences: list[str],
    ) -> None:
        self._fail_packet(event, differences, self._side_by_side(expected, actual, sent_us))

    def _fail_packet(
        self, event: PacketEvent, differences: list[str], texts: tuple[str, ...]
    ) -> None:
        failure = ScriptFailure(event.position, f"outbound packet: {'; '.join(differences)}", texts)
        if "packet" not in self._settings.non_fatal:
            raise failure
        self._report.notes.append(f"{failure} (not fatal)")

    # System calls

    def _syscall(self, event: SyscallEvent, start: int) -> None:
        self._await_blocking()
        assert self._syscalls is not None
        task = self._host.begin(self._syscalls.call(event))
        if event.end_us is not None:
            end = (
                event.end_us
                if not event.when.relative
                else start + (event.end_us - event.when.start_us)
            )
            self._blocking = _Blocking(event, task, start, end)
            return
        if not task.done:
            self._host.finish(task, None)
        if not task.done:
            raise ScriptFailure(event.position, f"{event.name}() blocks for ever")
        self._check_result(event, task)

    def _await_blocking(self) -> None:
        """A call in progress gets a second to end before another one starts."""
        if self._blocking is None:
            return
        self._host.finish(self._blocking.task, self._host.now() + GRACE_US)
        if not self._blocking.task.done:
            event = self._blocking.event
            raise ScriptFailure(event.position, f"{event.name}() still blocks")
        self._check_blocking()

    def _check_blocking(self) -> None:
        blocking = self._blocking
        if blocking is None or not blocking.task.done:
            return
        self._blocking = None
        self._check_result(blocking.event, blocking.task)
        tolerance = self._tolerance(blocking.end_us - blocking.start_us)
        window = Window(blocking.end_us - tolerance, blocking.end_us + tolerance)
        late = window.difference(blocking.task.finished_us)
        if late and "time" not in self._relaxations:
            raise ScriptFailure(
                blocking.event.position,
                f"{blocking.event.name}() returned at {time_text(blocking.task.finished_us)}, "
                f"expected {time_text(blocking.end_us)}",
            )

    def _check_result(self, event: SyscallEvent, task: Task) -> None:
        try:
            self._check_outcome(event, task)
        except ScriptFailure as failure:
            if "syscall" not in self._settings.non_fatal:
                raise
            self._report.notes.append(f"{failure} (not fatal)")

    def _check_outcome(self, event: SyscallEvent, task: Task) -> None:
        if task.failure is not None:
            raise task.failure
        assert self._syscalls is not None
        expected = self._syscalls.expected_result(event)
        returns_fd = event.name in ("socket", "accept", "epoll_create", "open")
        right = (
            expected is None
            or expected == task.result
            or (returns_fd and expected >= 0 and task.result >= 0)
        )
        written = f"{expected} {event.errno or ''}".strip()
        actual = f"{task.result} {errorcode.get(task.errno, '')}".strip()
        if not right:
            raise ScriptFailure(event.position, f"{event.name}() = {actual}, expected {written}")
        if event.errno is not None and task.result < 0 and ERRNO[event.errno] != task.errno:
            raise ScriptFailure(event.position, f"{event.name}() = {actual}, expected {written}")

    # Reports

    def _side_by_side(
        self, expected: Packet, actual: TcpPacket | None, sent_us: int
    ) -> tuple[str, ...]:
        is_ipv6 = self._settings.ipv6_packets
        shown = "nothing"
        if actual is not None:
            written = isinstance(expected, TcpPacket) and expected.window is not None
            seen = actual if written else replace(actual, window=None)
            shown = f"{time_text(sent_us)} {packet_text(seen, False, is_ipv6)}"
        return (
            f"  expected: {' ' * len(time_text(sent_us))} {packet_text(expected, False, is_ipv6)}",
            f"  actual:   {shown}",
        )

    def _texts(self, expected: Packet, seen: _Seen) -> tuple[str, ...]:
        blank = " " * len(time_text(seen.time_us))
        return (
            f"  expected: {blank} {packet_text(expected, False, self._settings.ipv6_packets)}",
            f"  actual:   {self._seen_text(seen)}",
        )

    def _live_text(self, live: LivePacket) -> str:
        socket = self._sockets.current
        other = other_packet(live)
        if other is not None:
            return packet_text(other, False, self._settings.ipv6_packets)
        if socket is None or live.header is None:
            return f"> IP protocol {live.protocol} ({len(live.data)} bytes)"
        blank = TcpPacket(0, 0, 0)
        return packet_text(socket.to_script(live, blank), False, self._settings.ipv6_packets)

    def _seen_text(self, seen: _Seen) -> str:
        if isinstance(seen.packet, LivePacket):
            text = self._live_text(seen.packet)
        else:
            text = packet_text(seen.packet, seen.inbound, self._settings.ipv6_packets)
        return f"{time_text(seen.time_us)} {text}"


def _wants_valid_digest(packet: TcpPacket) -> bool:
    return any(isinstance(option, Md5) and option.valid for option in packet.options or ())


def _as_valid(option: TcpOption) -> TcpOption:
    """A digest that was found right, as it is written."""
    return Md5(bytes(len(option.digest)), valid=True) if isinstance(option, Md5) else option
