"""The stack under test on a virtual clock, and every rule that it must keep whatever arrives.

`Subject.do` executes one `Step` and checks; the first rule that does not hold raises. Both streams
are made of a fixed pattern: the octet at a position has one right value, so a hostile segment may
overlap, repeat and overtake, and what the user reads must still be the beginning of the pattern.
"""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random

from tools.fuzzing.packets import OURS, THEIRS, Sent, packed, wire_packets
from tools.fuzzing.trace import Setup, Step, Trace
from tools.fuzzing.variants import RECONFIGURED, VARIANTS
from tools.simulation.invariants import check_connection
from tools.simulation.observer import BrokenRule
from ustack.config import SECOND
from ustack.errors import UStackError
from ustack.stack.listener import Listener
from ustack.stack.stack import Stack
from ustack.tcp.seq import unwrap
from ustack.tcp.state import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
)
from ustack.tcp.tcb import CLOSED_EVENT, NEVER, Tcb
from ustack.tcp.timeouts import deadline
from ustack.wire import Buffer
from ustack.wire.tcp import ACK, AE, CWR, ECE, RST, SYN

PORT = 80  # we listen here, and connect to this port of the peer
AMPLIFICATION = 3  # bytes out for one byte in, text not counted: a SYN,ACK or a SACK of four blocks
TEXT_ON_SYN = 900  # bytes
LATE_US = 128  # the timer wheel is exact to a tick of 64 µs
ECN_ECHO = ECE | CWR | AE  # also the counter of RFC 9768
SILENCE_US = 3 * 3600 * SECOND  # longer than any row of retransmissions
HALF_OPEN = (SYN_SENT, SYN_RECEIVED)
PEER_FIN_SEEN = frozenset({CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT})
FIN_QUEUED = frozenset({FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK, TIME_WAIT})

_PERIOD = 65_521  # bytes, prime: no window or buffer is a multiple of it
_PATTERNS = [Random(direction).randbytes(_PERIOD) * 3 for direction in (0, 1)]


def pattern(direction: int, start: int, size: int) -> bytes:
    """The octets of a stream from `start` (0: the first). Direction 0 is towards the stack."""
    text = b""
    while len(text) < size:
        at = (start + len(text)) % _PERIOD
        text += _PATTERNS[direction][at : at + size - len(text)]
    return text


def expect(holds: bool, rule: str, subject: object = "") -> None:
    """Raises BrokenRule with `rule` unless it holds."""
    if not holds:
        raise BrokenRule(f"{rule} {subject}" if subject else rule)


def promised(tcb: Tcb) -> int:
    """Bytes that may wait in the receive buffer, for they were offered: a smaller one changes
    nothing of that."""
    buffer, rcv = tcb.receive_buffer, tcb.rcv
    return max(buffer.limit, buffer.ceiling, buffer.readable + rcv.adv - rcv.nxt)


class Subject:
    """The stack, its device and its user."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.now = setup.start
        self.config = VARIANTS[setup.variant]
        self._promised: dict[Tcb, int] = {}  # windows from before the receive buffer was changed
        self.stack = Stack(self.config, secret=bytes(range(16)), randrange=Random(1).randrange)
        self.steps: list[Step] = []
        self.tcbs: list[Tcb] = []  # those the user got, in this order
        self.listener: Listener | None = None
        self.sent: list[Sent] = []  # since the last look of the generator
        self.flows: dict[bytes, Tcb] = {}  # the last connection seen of each flow
        self.aimed: Counter[str] = Counter()  # hostile segments by the state they met
        self.packets_in = 0
        self.packets_out = 0
        self._room: int | None = None  # frames the device takes, None: any number
        self._delivered: dict[Tcb, int] = {}
        self._told: set[Tcb] = set()  # of CLOSED_EVENT
        self._wild = False  # text outside the pattern may have got in
        self._unasked = False  # since the last turn there was nothing but packets
        self._resets_only = False  # ... and all of them were RSTs
        self._bytes_in = 0
        self._out: list[Sent] = []

    # ------------------------------------------------------------------ steps

    def do(self, step: Step) -> None:
        """Execute `step` and check everything. Raises BrokenRule, or what the stack raised."""
        self.steps.append(step)
        self.now = max(self.now, step.at)
        what = step.what
        if what in ("packet", "wild"):
            self._packet(step.frame, wild=what == "wild")
            return
        if what == "turn":
            self._turn()
        elif what == "time":
            self._unasked = False
            self.stack.handle_timeouts(self.now)
            self._turn()
            self._check_timers()
        elif what == "wait":
            self.advance(step.size)
        elif what == "room":
            self._room = step.size if step.size >= 0 else None
            self._turn()
        else:
            self._unasked = False
            with suppress(UStackError):  # the connection is over, the port is taken: not our rule
                self._call(step)
            self._turn()

    def _packet(self, frame: bytes, *, wild: bool) -> None:
        self.packets_in += 1
        self._wild = self._wild or wild
        size = max(len(frame) - 10, 40)
        self._bytes_in += size
        if self._resets_only and not (is_reset(frame) and not wild):
            self._resets_only = False
        self.stack.input(frame, self.now)

    def _call(self, step: Step) -> None:
        stack, now, what = self.stack, self.now, step.what
        if what == "listen":
            if self.listener is None or self.listener.closed:
                self.listener = stack.listen(PORT, now, backlog=step.size)
        elif what == "accept":
            if self.listener is not None:
                tcb = stack.accept(self.listener)
                if tcb is not None:
                    self.tcbs.append(tcb)
        elif what == "close-listener":
            if self.listener is not None:
                stack.close_listener(self.listener, now)
        elif what in ("connect", "connect-fast"):
            remote = THEIRS[self.setup.version]
            text = pattern(1, 0, TEXT_ON_SYN) if what == "connect-fast" else None
            self.tcbs.append(stack.connect(remote, PORT, now, local_port=step.size, fast_open=text))
        elif step.who < len(self.tcbs):
            self._call_on(self.tcbs[step.who], step)

    def _call_on(self, tcb: Tcb, step: Step) -> None:
        stack, now, what = self.stack, self.now, step.what
        if what in ("send", "urgent"):
            start = tcb.send_buffer.end - tcb.snd.iss - 1
            stack.send(tcb, pattern(1, start, step.size), now, urgent=what == "urgent")
        elif what == "receive":
            self._read(tcb, step.size)
        elif what == "shutdown":
            stack.shutdown(tcb, now)
        elif what == "close":
            stack.close(tcb, now)
        elif what == "abort":
            stack.abort(tcb, now)
        elif what == "status":
            stack.status(tcb, now)
        elif what == "configure":
            changes = RECONFIGURED[step.size % len(RECONFIGURED)]
            self._promised[tcb] = max(self._promised.get(tcb, 0), promised(tcb))
            stack.configure(tcb, replace(tcb.config, **changes), now)  # type: ignore[arg-type]
        else:
            raise ValueError(f"unknown step {what!r}")

    def _read(self, tcb: Tcb, size: int) -> None:
        """What the user reads is the beginning of what a correct peer sends, in order."""
        had = self._delivered.get(tcb, 0)
        data = self.stack.receive(tcb, size, self.now)
        expect(len(data) <= size, "more was read than asked for")
        if not self._wild:
            expect(bytes(data) == pattern(0, had, len(data)), "wrong text read at", had)
        self._delivered[tcb] = had + len(data)
        if tcb.eof:
            expect(not tcb.receive_buffer.readable, "end of file before the end of the text")

    # ------------------------------------------------------------------ turns and time

    def _turn(self) -> None:
        for tcb in self.stack.connections():
            self.flows[tcb.flow] = tcb
        for _ in range(1000):
            self.stack.flush(self.now, self._write)
            for subject, event in self.stack.take_events():
                if type(subject) is Tcb and event & CLOSED_EVENT:
                    expect(subject not in self._told, "told twice of the end of a connection")
                    self._told.add(subject)
            if self.stack.next_deadline() != 0:
                break
        else:
            raise BrokenRule("flush never comes to an end")
        self._check_answers()
        self._check()
        self.sent += self._out
        self._out = []
        self._unasked = self._resets_only = self._room is None
        self._bytes_in = 0

    def advance(self, us: int) -> None:
        """Let time pass, waking the stack whenever it asked for it."""
        end = self.now + us
        for _ in range(20_000):
            at = self.stack.next_deadline()
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            self._unasked = False
            self.stack.handle_timeouts(self.now)
            self._turn()
            self._check_timers()
        else:
            raise BrokenRule("the stack wakes up again and again")
        self.now = end

    def finish(self) -> None:
        """The network falls silent and the user leaves: nothing may be left, and no timer."""
        self.do(Step(self.now, "room", 0, -1))
        while self.listener is not None and self.listener.queue:
            self.do(Step(self.now, "accept"))
        self.do(Step(self.now, "wait", 0, SILENCE_US))
        for tcb in self.stack.connections():
            idle = tcb.state not in (*HALF_OPEN, FIN_WAIT_1, CLOSING, LAST_ACK)
            idle = idle and not len(tcb.send_buffer)
            expect(idle, "after hours of silence there is still", describe(tcb))
        for who in range(len(self.tcbs)):
            self.do(Step(self.now, "abort" if who % 2 else "close", who))
        self.do(Step(self.now, "close-listener"))
        self.do(Step(self.now, "wait", 0, SILENCE_US))
        stack = self.stack
        left = [describe(tcb) for tcb in stack.connections()]
        expect(not left and not stack.time_waits(), "never forgotten:", left)
        expect(not stack.pending_timers(), "timers left without a connection")
        for tcb in self.tcbs:
            expect(tcb.closed and tcb in self._told, "the user was never told of the end of", tcb)

    # ------------------------------------------------------------------ what leaves

    def _write(self, parts: Sequence[Buffer], now: int) -> bool:
        """The device."""
        expect(now == self.now, "a frame with a time of its own")
        if self._room is not None:
            if not self._room:
                return False
            self._room -= 1
        for sent in wire_packets(parts):
            self.packets_out += 1
            expect(sent.length <= self.config.mtu, "a packet beyond the MTU:", sent)
            if sent.header is not None:
                self._check_segment(sent)
            self._out.append(sent)
        return True

    def _check_segment(self, sent: Sent) -> None:
        header, options = sent.header, sent.options
        assert header is not None and options is not None
        size = len(sent.payload)
        for index, (left, right) in enumerate(options.sack):
            expect(0 < (right - left) & 0xFFFF_FFFF < 1 << 31, "an empty SACK block in", sent)
            beyond = 0 < (left - header.ack) & 0xFFFF_FFFF < 1 << 31
            expect(beyond or not index, "SACK of what is acknowledged in", sent)
        tcb = self.flows.get(sent.flow)
        if tcb is None or not size:
            return
        snd = tcb.snd
        expect(not header.flags & RST, "text on a RST:", sent)
        start = unwrap(header.seq, snd.una) - snd.iss - 1
        if header.flags & SYN:
            opened = tcb.fast_open is not None and not header.flags & ACK
            expect(opened, "text on a SYN without Fast Open:", sent)
            start += 1
        expect(sent.payload == pattern(1, start, size), "text sent is not the user's:", sent)
        # one octet beyond the edge is a probe
        edge = snd.una + snd.max_wnd - snd.iss - 1
        fits = start + size <= edge + 1 or header.flags & SYN  # a SYN may bring a segment unasked
        expect(bool(fits), "text beyond every window offered:", sent)

    def _check_answers(self) -> None:
        """Nothing but a challenge ACK answers a RST, and answers are not much larger."""
        if not self._unasked:
            return
        answers = [sent for sent in self._out if sent.header is not None and not sent.payload]
        if self._resets_only:
            for sent in self._out:
                header = sent.header
                plain = header is not None and header.flags & ~ECN_ECHO == ACK and not sent.payload
                expect(plain, "an answer to a RST:", sent)
        out = sum(sent.length for sent in answers)
        expect(
            out <= AMPLIFICATION * self._bytes_in,
            f"{out} bytes answer {self._bytes_in}:",
            answers[:5],
        )

    # ------------------------------------------------------------------ what must hold inside

    def _check(self) -> None:
        stack = self.stack
        connections = stack.connections()
        half_open = len(stack.half_open())
        for tcb in connections:
            check_connection(tcb, promised=self._promised.get(tcb, 0))
            check_state(tcb)
            if tcb.dirty:
                continue
            expect(not tcb.closed, "over, but still in the table:", tcb.state)
            at = deadline(tcb)
            filed = tcb.slot is not None and tcb.due_at <= at
            expect(at == NEVER or filed, "a timer that nobody waits for:", describe(tcb))
        listener = self.listener
        if listener is not None and not listener.closed:
            expect(listener.half_open == half_open, "half-open connections are miscounted")
            expect(len(listener.queue) <= listener.backlog + 1, "the accept queue overflows")
        config = self.config
        expect(len(connections) <= config.max_connections, "too many connections")
        expect(len(stack.time_waits()) <= config.max_time_waits, "too many TIME-WAITs")

    def _check_timers(self) -> None:
        """What was due has been dealt with, so a driver is not sent round in circles."""
        at = self.stack.next_deadline()
        expect(at is None or at > self.now or self._room is not None, "a deadline in the past")
        for tcb in self.stack.connections():
            late = deadline(tcb) + LATE_US <= self.now and not tcb.dirty
            expect(not late, "a timer is due and does not fire:", describe(tcb))


def check_state(tcb: Tcb) -> None:
    """The state of `tcb` is what its sequence variables say."""
    if tcb.closed or tcb.state is CLOSED or tcb.state in HALF_OPEN:
        return
    snd, rcv, state, buffer = tcb.snd, tcb.rcv, tcb.state, tcb.send_buffer
    who = describe(tcb)
    taken = rcv.fin is not None and rcv.nxt > rcv.fin
    expect(taken == (state in PEER_FIN_SEEN), "the state contradicts the peer's FIN:", who)
    expect(not taken or rcv.nxt - 1 == rcv.fin, "text was taken behind the FIN:", who)
    expect(taken or not tcb.eof, "end of file without a FIN:", who)
    expect(tcb.fin_queued == (state in FIN_QUEUED), "the state contradicts our FIN:", who)
    expect(snd.fin is None or snd.fin == buffer.end, "text behind our FIN:", who)
    expect(len(buffer) <= buffer.limit, "the send buffer overflows:", who)
    expect(buffer.start == min(snd.una, buffer.end), "the send buffer is not at SND.UNA:", who)
    expect(snd.una > snd.iss, "our SYN is not acknowledged:", who)
    expect(snd.mss > 0 and snd.gso_limit % snd.mss == 0, "segments of no size:", who)
    expect(tcb.congestion is not None and tcb.congestion.cwnd >= snd.mss, "no cwnd:", who)
    expect(state is not ESTABLISHED or not tcb.detached, "detached in ESTABLISHED:", who)
    expect(len(tcb.note) < 500, "notes pile up:", who)


def describe(tcb: Tcb) -> str:
    """The connection in one line, numbers relative."""
    snd, rcv = tcb.snd, tcb.rcv
    fin = None if rcv.fin is None else rcv.fin - rcv.irs
    return (
        f"{tcb.state.name} {tcb.local.port}-{tcb.remote.port} snd.una {snd.una - snd.iss} "
        f"nxt {snd.nxt - snd.iss} max {snd.max - snd.iss} wnd {snd.wnd} rcv.nxt "
        f"{rcv.nxt - rcv.irs} adv {rcv.adv - rcv.irs} fin {fin} queue {len(tcb.send_buffer)} "
        f"readable {tcb.receive_buffer.readable} held {tcb.receive_buffer.held} "
        f"{tcb.recovery.phase.name} retransmits {tcb.retransmits} probes {tcb.probes}"
    )


def is_reset(frame: bytes) -> bool:
    """A plain TCP segment with RST."""
    if len(frame) >= 50 and frame[10] == 0x45 and frame[19] == 6:
        return bool(frame[43] & RST)
    return len(frame) >= 70 and frame[10] >> 4 == 6 and frame[16] == 6 and bool(frame[63] & RST)


def play(trace: Trace) -> Subject:
    """Do it all again. Raises what a step raises."""
    subject = Subject(trace.setup)
    for step in trace.steps:
        subject.do(step)
    subject.finish()
    return subject


def fails(trace: Trace) -> str:
    """Why `trace` breaks a rule, "" if it does not."""
    try:
        play(trace)
    except Exception as error:  # noqa: BLE001 - whatever comes out of the stack is a finding
        return f"{type(error).__name__}: {error}"
    return ""


def addresses(version: int) -> tuple[bytes, bytes]:
    """The peer's and ours."""
    return packed(THEIRS[version]), packed(OURS[version])
