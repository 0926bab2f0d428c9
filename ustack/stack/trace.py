"""What happened to each connection and why, as events in qlog's shape.

Owns the difference between what a connection was and what it is: the tracer looks at a Tcb when a
segment came or left or a timer expired, and reports what has changed. The TCP modules know nothing
of it. Names and units follow qlog (draft-ietf-quic-qlog-main-schema, and its events for loss
recovery): times in ms, sizes in bytes, an event named by category and verb. Positions are relative
to ISS and IRS and do not wrap.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from ustack.tcp.recovery import FAST, LOSS
from ustack.tcp.state import CLOSED, State
from ustack.tcp.tcb import NEVER, Tcb
from ustack.wire.tcp import ACK, SYN, flags_text
from ustack.wire.tcp_options import decode_options

MAX_CONNECTIONS = 1 << 16  # remembered; beyond, the oldest is forgotten and begins anew

Event: TypeAlias = dict[str, Any]
Span: TypeAlias = tuple[int, int]

# The timers of a Tcb by qlog's and RFC 8985's names; the others are named as they are
TIMER_NAMES = {"pto": "tail_loss_probe", "rto": "retransmission_timeout"}


class Tracer(Protocol):
    """An onlooker of connections. It must change nothing."""

    def received(
        self,
        tcb: Tcb,
        flags: int,
        seq: int,
        ack: int,
        length: int,
        window: int,
        sack: Sequence[Span],
        now: int,
    ) -> None:
        """A segment has arrived and was digested; the arguments are its SEG variables, `window` the
        16-bit field."""

    def sent(
        self,
        tcb: Tcb,
        seq: int,
        flags: int,
        window: int,
        options: bytes,
        size: int,
        note: str,
        now: int,
    ) -> None:
        """The device has taken a segment; the arguments are those of `tcp.emit.Emit`."""

    def timers_expire(self, tcb: Tcb, now: int) -> None:
        """Timers of `tcb` are due by `now`; what they cause has not been done yet."""

    def settle(self) -> None:
        """A flush is over: the connections that have sent are as they will be for a while."""


class _Known:
    """What was last reported of a connection."""

    __slots__ = ("congestion", "lost", "metrics", "name", "reported", "trigger")

    def __init__(self, name: str) -> None:
        self.name = name
        self.reported: State = CLOSED
        self.congestion = ""
        self.metrics: dict[str, float] = {}
        self.lost: list[Span] = []
        self.trigger = ""  # what may have caused the changes that are still to be reported


class EventTracer:
    """A `Tracer` that hands each event to `sink` as a dict of plain values, in order of time."""

    def __init__(self, sink: Callable[[Event], None]) -> None:
        self.forgotten = 0  # connections, for MAX_CONNECTIONS
        self._sink = sink
        self._known: dict[Tcb, _Known] = {}
        self._unsettled: dict[Tcb, int] = {}  # since when its changes are to be reported

    def received(
        self,
        tcb: Tcb,
        flags: int,
        seq: int,
        ack: int,
        length: int,
        window: int,
        sack: Sequence[Span],
        now: int,
    ) -> None:
        self.settle()
        known = self._of(tcb, now)
        iss, irs = tcb.snd.iss, tcb.rcv.irs
        data: Event = {"flags": flags_text(flags), "seq": seq - irs, "length": length}
        if flags & ACK:
            data["ack"] = ack - iss
        data["window"] = window if flags & SYN else window << tcb.snd.wscale
        if sack:
            data["sack"] = [[left - iss, right - iss] for left, right in sack]
        self._emit(known, now, "tcp:segment_received", data)
        known.trigger = "segment_received"
        self._unsettled[tcb] = now
        self.settle()

    def sent(
        self,
        tcb: Tcb,
        seq: int,
        flags: int,
        window: int,
        options: bytes,
        size: int,
        note: str,
        now: int,
    ) -> None:
        if tcb not in self._unsettled:
            self.settle()
        known = self._of(tcb, now)
        if note:
            self._losses(tcb, known, now)  # before it counts as sent again
        iss, irs = tcb.snd.iss, tcb.rcv.irs
        data: Event = {"flags": flags_text(flags), "seq": seq - iss, "length": size}
        if flags & ACK:
            data["ack"] = tcb.rcv.nxt - irs
        data["window"] = window if flags & SYN else window << tcb.rcv.wscale
        sack = decode_options(options, 0, len(options)).sack if options else ()
        if sack:
            low = irs & 0xFFFF_FFFF
            data["sack"] = [[_past(left, low), _past(right, low)] for left, right in sack]
        if note:
            data["trigger"] = note.replace(" ", "_")
        self._emit(known, now, "tcp:segment_sent", data)
        known.trigger = "segment_sent"
        self._unsettled[tcb] = now

    def timers_expire(self, tcb: Tcb, now: int) -> None:
        self.settle()
        known = self._of(tcb, now)
        for name in tcb.timers.__slots__:
            if getattr(tcb.timers, name) <= now:
                known.trigger = TIMER_NAMES.get(name, name)
                data = {"event_type": "expired", "timer_type": known.trigger}
                self._emit(known, now, "recovery:timer_updated", data)
        self._unsettled[tcb] = now

    def settle(self) -> None:
        """Report what has changed about the connections that something happened to."""
        for tcb, at in self._unsettled.items():
            known = self._known.get(tcb)
            if known is None:
                continue
            self._state(tcb, known, at)
            self._losses(tcb, known, at)
            self._congestion_state(tcb, known, at)
            self._metrics(tcb, known, at)
            if tcb.closed:
                error = None if tcb.error is None else str(tcb.error)
                self._emit(known, at, "tcp:connection_closed", {"error": error})
                del self._known[tcb]
        self._unsettled.clear()

    # ------------------------------------------------------------------

    def _of(self, tcb: Tcb, now: int) -> _Known:
        known = self._known.get(tcb)
        if known is None:
            if len(self._known) >= MAX_CONNECTIONS:
                del self._known[next(iter(self._known))]
                self.forgotten += 1
            name = f"{_shown(*tcb.local)}-{_shown(*tcb.remote)}"
            known = self._known[tcb] = _Known(name)
            data = {
                "local": list(tcb.local),
                "remote": list(tcb.remote),
                "passive": tcb.passive,
                "iss": tcb.snd.iss,
                "congestion": tcb.config.congestion,
            }
            self._emit(known, now, "tcp:connection_started", data)
        return known

    def _state(self, tcb: Tcb, known: _Known, at: int) -> None:
        if tcb.state is not known.reported:
            data = {"old": known.reported.name.lower(), "new": tcb.state.name.lower()}
            self._emit(known, at, "tcp:connection_state_updated", data)
            known.reported = tcb.state

    def _losses(self, tcb: Tcb, known: _Known, at: int) -> None:
        """The ranges that are newly deemed lost, and are to be sent again."""
        board = tcb.scoreboard
        if board.lost <= board.resent and not known.lost:
            return
        lost = [(one.start, one.end) for one in board.ranges() if one.lost and not one.resent]
        for start, end in without(lost, known.lost):
            data = {"seq": start - tcb.snd.iss, "length": end - start, "trigger": known.trigger}
            self._emit(known, at, "recovery:segment_lost", data)
        known.lost = lost

    def _congestion_state(self, tcb: Tcb, known: _Known, at: int) -> None:
        state = _congestion_state(tcb)
        if state != known.congestion:
            data = {"old": known.congestion, "new": state, "trigger": known.trigger}
            self._emit(known, at, "recovery:congestion_state_updated", data)
            known.congestion = state

    def _metrics(self, tcb: Tcb, known: _Known, at: int) -> None:
        metrics = _metrics(tcb)
        changed = {
            name: value for name, value in metrics.items() if known.metrics.get(name) != value
        }
        if changed:
            self._emit(known, at, "recovery:metrics_updated", changed)
            known.metrics = metrics

    def _emit(self, known: _Known, at: int, name: str, data: Event) -> None:
        self._sink({"time": at / 1000, "name": name, "group_id": known.name, "data": data})


def _congestion_state(tcb: Tcb) -> str:
    """qlog's names for Reno (slow_start and so on), and loss after a timeout."""
    congestion, phase = tcb.congestion, tcb.recovery.phase
    if congestion is None:
        return ""
    if phase is FAST:
        return "recovery"
    if phase is LOSS:
        return "loss"
    return "slow_start" if congestion.cwnd < congestion.ssthresh else "congestion_avoidance"


def _metrics(tcb: Tcb) -> dict[str, float]:
    """The state of recovery and flow control. What is not known yet is left out."""
    congestion, board, rtt = tcb.congestion, tcb.scoreboard, tcb.rtt
    metrics: dict[str, float] = {
        "bytes_in_flight": board.pipe(),
        "outstanding": board.in_flight,
        "sacked": board.sacked,
        "lost": board.lost - board.resent,
        "send_window": tcb.snd.wnd,
        "receive_window": max(tcb.rcv.adv - tcb.rcv.nxt, 0),
        "retransmission_timeout": rtt.rto / 1000,
    }
    if congestion is not None:
        metrics["congestion_window"] = tcb.recovery.window(congestion)
        if congestion.ssthresh < NEVER >> 4:
            metrics["ssthresh"] = congestion.ssthresh
    if rtt.srtt:
        metrics["smoothed_rtt"] = rtt.srtt / 1000
        metrics["rtt_variance"] = rtt.rttvar / 1000
        metrics["latest_rtt"] = rtt.latest / 1000
        metrics["min_rtt"] = rtt.min_rtt / 1000
    return metrics


def without(spans: list[Span], others: list[Span]) -> list[Span]:
    """The parts of `spans` that no one of `others` covers; both are in ascending order."""
    rest: list[Span] = []
    index = 0
    for start, end in spans:
        while index < len(others) and others[index][1] <= start:
            index += 1
        at = index
        while start < end and at < len(others) and others[at][0] < end:
            left, right = others[at]
            if start < left:
                rest.append((start, left))
            start = max(start, right)
            at += 1
        if start < end:
            rest.append((start, end))
    return rest


def _past(low32: int, irs_low32: int) -> int:
    return (low32 - irs_low32) & 0xFFFF_FFFF


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
