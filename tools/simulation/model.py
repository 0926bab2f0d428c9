"""A TCP of its own, from RFC 9293 §3.10 step by step: slow, simple, to be held against ustack.

It shares no code with ustack. It knows one connection; sequence numbers stay modulo 2^32; the
sender goes back to SND.UNA when its timer fires (stop and wait with `in_flight` 1) and has no
congestion control; the receiver keeps single octets by their place in the stream.
"""

from dataclasses import dataclass
from enum import Enum, auto

from tools.simulation.model_wire import ACK, FIN, PSH, RST, SYN, Flow, Segment, pack, unpack

WRAP = 1 << 32
SECOND = 1_000_000  # µs
LONGEST_RTO_US = 60 * SECOND
STAMP_ROOM_MS = 20_000  # its timestamps wrap so long after the start
MSL_US = 30 * SECOND
DEFAULT_MSS = {4: 536, 16: 1220}  # RFC 9293 §3.7.1, by octets of an address
SACK_BLOCKS = 3
SYNCHRONIZED = ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "CLOSING", "LAST-ACK")


class Leave(Enum):
    """How the model ends its part."""

    FIN_FIRST = auto()  # FIN behind its text
    FIN_LAST = auto()  # FIN when the peer's has been read
    RESET = auto()  # RST after so many octets
    VANISH = auto()  # not a word after so many octets


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What the model offers and does. Times are µs."""

    mss: int | None = 1220
    window: int = 65_535  # octets of receive buffer
    wscale: int | None = None
    timestamps: bool = False
    sack: bool = False
    in_flight: int = 1  # segments before an ACK
    delayed_ack_us: int = 0
    read_every_us: int = 0  # 0: at once
    read_size: int = 65_535
    rto_us: int = SECOND
    tries: int = 14
    leave: Leave = Leave.FIN_FIRST
    leave_at: int = 0  # octets written and read, for RESET and VANISH


def before(a: int, b: int) -> bool:
    """`a` < `b` on the circle (RFC 9293 §3.4)."""
    return 0 < (b - a) % WRAP < WRAP // 2


def not_after(a: int, b: int) -> bool:
    """`a` <= `b` on the circle."""
    return (b - a) % WRAP < WRAP // 2


class Model:
    """One end of one connection. `out` holds packets to be sent; times are µs."""

    def __init__(self, config: ModelConfig, flow: Flow, iss: int, text: bytes) -> None:
        self.config = config
        self.flow = flow  # of what it sends
        self.text = text
        self.received = bytearray()
        self.out: list[bytes] = []
        self.state = "CLOSED"
        self.reason = ""  # why it is over: orderly, reset, refused, timed out, aborted, vanished
        self.eof = False
        self.resets_sent = 0
        self.vanished = False
        self._passive = False
        # send sequence variables
        self._iss = self._una = self._nxt = self._max = iss
        self._wnd = self._wl1 = self._wl2 = 0
        self._fin: int | None = None  # sequence number of our FIN
        self._send_mss = DEFAULT_MSS[len(flow.source)]
        self._send_scale = 0
        # receive sequence variables
        self._rcv_nxt = self._edge = 0
        self._octets: dict[int, int] = {}  # by place in the stream, ahead of `received`
        self._newest = 0  # place of the segment that arrived last
        self._fin_place: int | None = None  # of the peer's FIN
        self._unread = 0
        self._scaled = self._stamped = self._sacks = False
        self._ts_recent = 0
        self._last_ack = 0  # Last.ACK.sent of RFC 7323 §4.3
        self._ident = 0
        # timers, µs
        self._resend_at: int | None = None
        self._rto = config.rto_us
        self._tried = 0
        self._ack_at: int | None = None
        self._read_at: int | None = None
        self._forget_at: int | None = None

    # ------------------------------------------------------------------ the user and the clock

    def open_actively(self, now: int) -> None:
        """Send a SYN."""
        self.state = "SYN-SENT"
        self._nxt = self._max = (self._iss + 1) % WRAP
        self._syn(SYN, now)
        self._start_timer(now)

    def open_passively(self) -> None:
        """Wait for a SYN."""
        self._passive = True
        self.state = "LISTEN"

    @property
    def over(self) -> bool:
        """It has nothing left to do."""
        return self.state == "CLOSED"

    def waits_for_ever(self) -> bool:
        """Nothing is outstanding: without a word from the peer it stays as it is."""
        return self.state in ("ESTABLISHED", "FIN-WAIT-2", "LISTEN") and self.deadline() is None

    def drop(self) -> None:
        """The user loses patience."""
        self._end("aborted")

    def deadline(self) -> int | None:
        """When `tick` has something to do."""
        timers = (self._resend_at, self._ack_at, self._read_at, self._forget_at)
        return min((at for at in timers if at is not None), default=None)

    def tick(self, now: int) -> None:
        """Timers that are due."""
        if self._read_at is not None and self._read_at <= now:
            self._read_at = None
            self._read(now)
        if self._ack_at is not None and self._ack_at <= now:
            self._acknowledge(now)
        if self._forget_at is not None and self._forget_at <= now:
            self._end("orderly")
        if self._resend_at is not None and self._resend_at <= now:
            self._go_back(now)

    def _go_back(self, now: int) -> None:
        """The retransmission timer: all from SND.UNA again, or one octet into a closed window."""
        self._tried += 1
        if self._tried > self.config.tries:
            self._end("timed out")
            return
        self._rto = min(2 * self._rto, LONGEST_RTO_US)
        self._resend_at = None
        if self.state == "SYN-SENT":
            self._syn(SYN, now)
        elif self.state == "SYN-RECEIVED":
            self._syn(SYN | ACK, now)
        else:
            self._nxt = self._una
            self._push(now, probe=True)
        self._start_timer(now)

    # ------------------------------------------------------------------ SEGMENT ARRIVES

    def arrives(self, packet: bytes, now: int) -> None:
        """RFC 9293 §3.10.7."""
        segment = unpack(packet, self.flow.back())
        if segment is None or self.vanished:
            return
        if self.state == "CLOSED":
            self._refuse(segment)
        elif self.state == "LISTEN":
            self._in_listen(segment, now)
        elif self.state == "SYN-SENT":
            self._in_syn_sent(segment, now)
        else:
            self._otherwise(segment, now)

    def _in_listen(self, segment: Segment, now: int) -> None:
        """§3.10.7.2"""
        if segment.flags & RST:
            return
        if segment.flags & ACK:
            self._refuse(segment)
        elif segment.flags & SYN:
            self._take_syn(segment)
            self.state = "SYN-RECEIVED"
            self._una = self._iss
            self._nxt = self._max = (self._iss + 1) % WRAP
            self._syn(SYN | ACK, now)
            self._start_timer(now)

    def _in_syn_sent(self, segment: Segment, now: int) -> None:
        """§3.10.7.3"""
        acceptable = bool(segment.flags & ACK) and segment.ack == self._max
        if segment.flags & ACK and not acceptable:
            self._refuse(segment)
            return
        if segment.flags & RST:
            if acceptable:
                self._end("refused")
            return
        if not segment.flags & SYN:
            return
        self._take_syn(segment)
        if acceptable:
            self._una = segment.ack
            self._established(segment, now)
            self._acknowledge(now)
            self._push(now)
        else:
            self.state = "SYN-RECEIVED"
            self._syn(SYN | ACK, now)

    def _otherwise(self, segment: Segment, now: int) -> None:
        """§3.10.7.4"""
        if self._stamped and not self._stamp_is_fresh(segment):
            if segment.timestamps is not None:
                self._acknowledge(now)
            return
        if not self._acceptable(segment):
            if not segment.flags & RST:
                self._acknowledge(now)
                if segment.seq == self._rcv_nxt and segment.flags & ACK:
                    self._take_ack(segment, now)  # a closed window is open for ACKs
            return
        if segment.flags & RST:
            if segment.seq != self._rcv_nxt:
                self._acknowledge(now)  # RFC 5961 §3
            elif self.state == "SYN-RECEIVED" and self._passive:
                self.state, self._resend_at = "LISTEN", None
            else:
                self._end("orderly" if self.state == "TIME-WAIT" else "reset")
            return
        if segment.flags & SYN:
            self._acknowledge(now)  # RFC 5961 §4
            return
        if not segment.flags & ACK:
            return
        if self._stamped and segment.timestamps and not_after(segment.seq, self._last_ack):
            self._ts_recent = segment.timestamps[0]
        if self.state == "SYN-RECEIVED":
            if not (before(self._una, segment.ack) and not_after(segment.ack, self._max)):
                self._refuse(segment)
                return
            self._una = segment.ack
            self._established(segment, now)
        if not self._take_ack(segment, now):
            return
        self._take_text(segment, now)
        if not self.over:
            self._push(now)

    def _stamp_is_fresh(self, segment: Segment) -> bool:
        """PAWS (RFC 7323 §5); a RST needs no timestamp."""
        if segment.flags & RST:
            return True
        return segment.timestamps is not None and not before(segment.timestamps[0], self._ts_recent)

    def _acceptable(self, segment: Segment) -> bool:
        """The four cases of §3.4, table 6."""
        window = (self._edge - self._rcv_nxt) % WRAP
        first = (segment.seq - self._rcv_nxt) % WRAP
        last = (segment.seq + segment.length - 1 - self._rcv_nxt) % WRAP
        if not segment.length:
            return first < window or first == 0
        return bool(window) and (first < window or last < window)

    def _take_ack(self, segment: Segment, now: int) -> bool:
        """Fifth, the ACK field. Whether the segment is to be processed further."""
        if before(self._max, segment.ack):
            self._acknowledge(now)
            return False
        moved = before(self._una, segment.ack)
        if moved:
            self._una = segment.ack
            if before(self._nxt, self._una):
                self._nxt = self._una
            self._rto, self._tried, self._resend_at = self.config.rto_us, 0, None
        if not before(segment.ack, self._una):
            # By §3.10.7.4 alone the edge would move with SND.UNA when old text is sent again.
            newer = moved or before(self._wl1, segment.seq)
            if newer or (self._wl1 == segment.seq and not_after(self._wl2, segment.ack)):
                if not self._wnd and segment.window:
                    self._nxt = self._una  # what was a probe was not taken
                self._wnd = segment.window << self._send_scale
                self._wl1, self._wl2 = segment.seq, segment.ack
            if self._wnd == 0:
                self._tried = 0  # it lives
        if self._fin is not None and self._una == (self._fin + 1) % WRAP:
            self._fin_is_acknowledged(now)
        self._start_timer(now)
        return not self.over

    def _fin_is_acknowledged(self, now: int) -> None:
        if self.state == "FIN-WAIT-1":
            self.state = "FIN-WAIT-2"
        elif self.state == "CLOSING":
            self._time_wait(now)
        elif self.state == "LAST-ACK":
            self._end("orderly")

    def _take_text(self, segment: Segment, now: int) -> None:
        """Seventh and eighth: the text, the FIN."""
        if not segment.text and not segment.flags & FIN:
            return
        if self.state == "TIME-WAIT":
            self._time_wait(now)
        had = len(self.received)
        place = had + (segment.seq - self._rcv_nxt + WRAP // 2) % WRAP - WRAP // 2
        room = had + (self._edge - self._rcv_nxt) % WRAP
        if self.state in ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2"):
            self._newest = place
            for at, octet in enumerate(segment.text, place):
                if had <= at < room:
                    self._octets.setdefault(at, octet)
            if segment.flags & FIN and place + len(segment.text) <= room:
                self._fin_place = place + len(segment.text)
        while len(self.received) in self._octets:
            self.received.append(self._octets.pop(len(self.received)))
        new = len(self.received) - had
        self._rcv_nxt = (self._rcv_nxt + new) % WRAP
        self._unread += new
        in_order = new == len(segment.text) and not self._octets and not segment.flags & FIN
        if self._fin_place == len(self.received):
            self._fin_place = None
            self._rcv_nxt = (self._rcv_nxt + 1) % WRAP
            if before(self._edge, self._rcv_nxt):
                self._edge = self._rcv_nxt
            self._fin_arrives(now)
        if in_order and self.config.delayed_ack_us and self._ack_at is None:
            self._ack_at = now + self.config.delayed_ack_us
        else:
            self._acknowledge(now)
        if self.config.read_every_us:
            self._read_at = self._read_at or now + self.config.read_every_us
        else:
            self._read(now)

    def _fin_arrives(self, now: int) -> None:
        if self.state == "ESTABLISHED":
            self.state = "CLOSE-WAIT"
        elif self.state == "FIN-WAIT-1":
            self.state = "CLOSING"
        elif self.state == "FIN-WAIT-2":
            self._time_wait(now)

    # ------------------------------------------------------------------ what it sends

    def _push(self, now: int, *, probe: bool = False) -> None:
        """Text that the window allows, then the FIN; `probe`: one octet at least."""
        self._leave_early()
        if self.state not in SYNCHRONIZED or self.vanished:
            return
        end = (self._iss + 1 + len(self.text)) % WRAP
        edge = (self._una + self._wnd) % WRAP
        most = self._send_mss * self.config.in_flight
        while before(self._nxt, end):
            allowed = (edge - self._nxt) % WRAP if not_after(self._nxt, edge) else 0
            left = (end - self._nxt) % WRAP
            size = min(self._send_mss, left, allowed, most - (self._nxt - self._una) % WRAP)
            if size <= 0 and probe and self._nxt == self._una:
                size = 1
            if size <= 0:
                break
            at = (self._nxt - self._iss - 1) % WRAP
            self._send(self._nxt, ACK | PSH, now, self.text[at : at + size])
            self._advance(size)
        if self._nxt == end and self._may_send_fin():
            self._fin = end
            self._send(self._nxt, ACK | FIN, now)
            self._advance(1)
            if self.state in ("ESTABLISHED", "CLOSE-WAIT"):
                self.state = "FIN-WAIT-1" if self.state == "ESTABLISHED" else "LAST-ACK"
        self._start_timer(now)

    def _may_send_fin(self) -> bool:
        return self.config.leave is Leave.FIN_FIRST or self._fin is not None or self.eof

    def _advance(self, size: int) -> None:
        self._nxt = (self._nxt + size) % WRAP
        if before(self._max, self._nxt):
            self._max = self._nxt

    @property
    def written(self) -> int:
        """Octets of text sent at least once."""
        return (
            min((self._max - self._iss - 1) % WRAP, len(self.text)) if self._max != self._iss else 0
        )

    @property
    def fin_sent(self) -> bool:
        return self._fin is not None

    def _leave_early(self) -> None:
        config = self.config
        if self.state not in SYNCHRONIZED or config.leave not in (Leave.RESET, Leave.VANISH):
            return
        if self.written + len(self.received) < config.leave_at:
            return
        if config.leave is Leave.VANISH:
            self.vanished = True
            self._end("vanished")
        else:
            self._reset(Segment(self._max, self._rcv_nxt, RST | ACK))
            self._end("aborted")

    def _send(self, seq: int, flags: int, now: int, text: bytes = b"") -> None:
        segment = Segment(seq, self._rcv_nxt, flags, self._window(), text)
        if self._stamped:
            segment.timestamps = self._stamps(now)
        if self._sacks and not text:
            segment.sack = self._sack_blocks()
        self._ack_at = None
        self._out(segment)

    def _acknowledge(self, now: int) -> None:
        self._send(self._max, ACK, now)

    def _syn(self, flags: int, now: int) -> None:
        """SYN or SYN-ACK. What the peer did not offer is not answered (RFC 7323 §2.5, §3.2)."""
        config, answer = self.config, bool(flags & ACK)
        segment = Segment(self._iss, self._rcv_nxt if answer else 0, flags)
        segment.window = min(config.window, 65_535)
        segment.mss = config.mss
        segment.wscale = config.wscale if self._scaled or not answer else None
        segment.sack_permitted = self._sacks if answer else config.sack
        if self._stamped or (config.timestamps and not answer):
            segment.timestamps = self._stamps(now)
        if answer:
            self._edge = (self._rcv_nxt + segment.window) % WRAP
        self._out(segment)

    def _refuse(self, segment: Segment) -> None:
        """§3.10.7.1: a RST for a segment that belongs to nothing."""
        if segment.flags & RST:
            return
        if segment.flags & ACK:
            self._reset(Segment(segment.ack, 0, RST))
        else:
            self._reset(Segment(0, (segment.seq + segment.length) % WRAP, RST | ACK))

    def _reset(self, segment: Segment) -> None:
        self.resets_sent += 1
        self._out(segment)

    def _out(self, segment: Segment) -> None:
        if segment.flags & ACK and not segment.flags & RST:
            self._last_ack = segment.ack
        self._ident = (self._ident + 1) % (1 << 16)
        self.out.append(pack(self.flow, segment, self._ident))

    def _window(self) -> int:
        """Never moves its right edge back, nor forward in small steps (§3.8.6.2.2)."""
        edge = (self._rcv_nxt + self.config.window - self._unread) % WRAP
        step = min(self.config.mss or DEFAULT_MSS[len(self.flow.source)], self.config.window // 2)
        if before(self._edge, edge) and (edge - self._edge) % WRAP >= max(step, 1):
            self._edge = edge
        scale = (self.config.wscale or 0) if self._scaled else 0
        return min((self._edge - self._rcv_nxt) % WRAP >> scale, 65_535)

    def _stamps(self, now: int) -> tuple[int, int]:
        """TSval, a clock of 1 ms that wraps soon, and TSecr."""
        return (now // 1000 - STAMP_ROOM_MS) % WRAP, self._ts_recent

    def _sack_blocks(self) -> list[tuple[int, int]]:
        """Runs of octets ahead of a gap, the newest first (RFC 2018 §4)."""
        runs: list[list[int]] = []
        for place in sorted(self._octets):
            if runs and runs[-1][1] == place:
                runs[-1][1] += 1
            else:
                runs.append([place, place + 1])
        runs.sort(key=lambda run: not run[0] <= self._newest < run[1])
        base = self._rcv_nxt - len(self.received)
        return [((base + a) % WRAP, (base + b) % WRAP) for a, b in runs[:SACK_BLOCKS]]

    # ------------------------------------------------------------------ the rest

    def _take_syn(self, segment: Segment) -> None:
        config = self.config
        self._rcv_nxt = (segment.seq + 1) % WRAP
        self._edge = (self._rcv_nxt + min(config.window, 65_535)) % WRAP
        if segment.mss is not None:
            self._send_mss = segment.mss
        self._scaled = config.wscale is not None and segment.wscale is not None
        self._stamped = config.timestamps and segment.timestamps is not None
        self._sacks = config.sack and segment.sack_permitted
        self._send_scale = (segment.wscale or 0) if self._scaled else 0
        if self._stamped:
            assert segment.timestamps is not None
            self._ts_recent = segment.timestamps[0]
            self._send_mss -= 12  # RFC 9293 §3.7.1: options come out of the MSS
        self._send_mss = min(self._send_mss, 1220 - 12)

    def _established(self, segment: Segment, now: int) -> None:
        self.state = "ESTABLISHED"
        self._wnd = segment.window << (0 if segment.flags & SYN else self._send_scale)
        self._wl1, self._wl2 = segment.seq, segment.ack
        self._rto, self._tried, self._resend_at = self.config.rto_us, 0, None

    def _read(self, now: int) -> None:
        """The application reads."""
        self._unread -= min(self._unread, self.config.read_size)
        if self._unread:
            self._read_at = now + self.config.read_every_us
        if not self._unread and self.state in ("CLOSE-WAIT", "CLOSING", "LAST-ACK", "TIME-WAIT"):
            self.eof = True
        if self.state in ("ESTABLISHED", "FIN-WAIT-1", "FIN-WAIT-2"):
            old = self._edge
            self._window()
            if old != self._edge:
                self._acknowledge(now)
        self._push(now)

    def _start_timer(self, now: int) -> None:
        """It runs while something is unacknowledged, or waits for a window."""
        waits = self._una != self._max or (self.state in SYNCHRONIZED and self._has_more())
        if not waits or self.over:
            self._resend_at = None
        elif self._resend_at is None:
            self._resend_at = now + self._rto

    def _has_more(self) -> bool:
        return before(self._max, (self._iss + 1 + len(self.text)) % WRAP)

    def _time_wait(self, now: int) -> None:
        self.state = "TIME-WAIT"
        self._resend_at = None
        self._forget_at = now + 2 * MSL_US

    def _end(self, reason: str) -> None:
        self.state, self.reason = "CLOSED", reason
        self._resend_at = self._ack_at = self._read_at = self._forget_at = None
