"""TIME-WAIT: what must be remembered of a closed connection for 2 MSL, in a few slots.

The record replaces the Tcb when the state is entered (RFC 9293 §3.10.7.4). Numbers are packed in
one `bytes`, so that 100 000 of them fit where 5 000 connections do.
"""

from collections import deque
from enum import Enum, auto
from struct import Struct

from ustack.tcp.segment import Segment
from ustack.tcp.seq import older32, unwrap
from ustack.tcp.tcb import NEVER, Tcb
from ustack.wire.tcp import ACK, FIN, RST, SYN

# SND.NXT, RCV.NXT, TS.Recent, timestamp offset, entered at (ms), window field, ts_on
_PACKED = Struct("!IIIIQHB")
_ANSWERED = Struct("!I")  # behind it, once a bare ACK was answered: when, in ms after the entry
ISN_STEP = 65535 + 2  # Linux: how far above the old SND.NXT a reincarnation's ISN lies


class Verdict(Enum):
    """What a segment means to a connection in TIME-WAIT."""

    DROP = auto()
    ACK_AGAIN = auto()  # answer with the last ACK
    RESTART = auto()  # a FIN again: answer and restart 2 MSL (RFC 9293 §3.10.7.4, eighth)
    KILL = auto()  # RST
    REOPEN = auto()  # a newer SYN: give the pair to a listener (RFC 6191)


class TimeWait:
    """One connection in TIME-WAIT."""

    __slots__ = ("_packed", "due_at", "flow", "slot")

    def __init__(self, tcb: Tcb, now: int) -> None:
        self.flow = tcb.flow
        self._packed = _PACKED.pack(
            tcb.snd.nxt & 0xFFFF_FFFF,
            tcb.rcv.nxt & 0xFFFF_FFFF,
            tcb.ts_recent,
            tcb.ts_offset,
            now // 1000,
            min((tcb.rcv.adv - tcb.rcv.nxt) >> tcb.rcv.wscale, 0xFFFF),
            tcb.ts_on,
        )  # and _ANSWERED, see may_answer
        self.due_at = NEVER
        self.slot: object = None

    def unpack(self) -> tuple[int, int, int, int, int, int, bool]:
        """SND.NXT, RCV.NXT, TS.Recent, timestamp offset, entered at (µs), window field, ts_on."""
        nxt, rcv, recent, offset, entered_ms, window, ts_on = _PACKED.unpack_from(self._packed)
        return nxt, rcv, recent, offset, entered_ms * 1000, window, bool(ts_on)

    def may_answer(self, now: int, interval_us: int) -> bool:
        """A bare ACK may be answered now: once in `interval_us` (Linux tw_last_oow_ack_time).

        Otherwise two ends that disagree on the numbers would answer each other for ever.
        """
        elapsed = (now - self.unpack()[4]) // 1000
        fixed, last = self._packed[: _PACKED.size], self._packed[_PACKED.size :]
        if last and (elapsed - _ANSWERED.unpack(last)[0]) * 1000 < interval_us:
            return False
        self._packed = fixed + _ANSWERED.pack(elapsed & 0xFFFF_FFFF)
        return True

    def judge(self, seg: Segment, rfc1337: bool) -> Verdict:
        """Decide on `seg`, whose SEG.SEQ and SEG.ACK are raw 32-bit numbers.

        1. A SYN that is provably newer reopens the pair: by timestamp, or without timestamps by a
           sequence number beyond the old RCV.NXT (RFC 6191 §2, RFC 9293 MAY-2).
        2. A RST at exactly RCV.NXT ends it (Linux), unless `rfc1337` says to ignore it.
        3. A FIN at the place of the old one is acknowledged again, and 2 MSL starts anew.
        4. Anything else that carries text or lies outside the window is acknowledged, except a
           SYN that is not newer, which is dropped (RFC 6191), and a bare ACK in order.
        """
        _, rcv_nxt, recent, _, _, _, ts_on = self.unpack()
        seq = unwrap(seg.seq, rcv_nxt)
        flags = seg.flags
        older = ts_on and seg.tsval is not None and older32(seg.tsval, recent)
        if flags & RST:
            return Verdict.KILL if seq == rcv_nxt and not rfc1337 else Verdict.DROP
        if flags & SYN:
            if flags & ACK:
                return Verdict.ACK_AGAIN
            if ts_on and seg.tsval is not None:
                newer = seg.tsval != recent and not older
                if seg.tsval == recent:
                    newer = seq > rcv_nxt
            else:
                newer = seq > rcv_nxt
            return Verdict.REOPEN if newer else Verdict.DROP
        if not flags & ACK:
            return Verdict.DROP
        if flags & FIN and not older and seq + seg.len == rcv_nxt:
            return Verdict.RESTART
        if seg.len or older or seq != rcv_nxt:
            return Verdict.ACK_AGAIN
        return Verdict.DROP

    def reincarnation_isn(self) -> int:
        """An ISN above everything the old connection sent (Linux, RFC 6191 §2)."""
        return (self.unpack()[0] + ISN_STEP) & 0xFFFF_FFFF

    def reusable(self, now: int, after_us: int) -> bool:
        """A new outgoing connection may take the pair over: Linux tcp_tw_reuse. PAWS at the peer
        then tells the old connection's segments from the new one's."""
        *_, entered_at, _, ts_on = self.unpack()
        return ts_on and now - entered_at >= after_us


class TimeWaitQueue:
    """All TimeWaits of a stack in the order of their entry, to find the oldest when the cap is
    reached. Those that ended meanwhile are skipped: their `slot` is None."""

    __slots__ = ("_queue", "count")

    def __init__(self) -> None:
        self._queue: deque[TimeWait] = deque()
        self.count = 0

    def add(self, record: TimeWait) -> None:
        """`record` has entered TIME-WAIT and is in the timer wheel."""
        self._queue.append(record)
        self.count += 1

    def ended(self) -> None:
        """One of them has left TIME-WAIT and the timer wheel."""
        self.count -= 1
        queue = self._queue
        while queue and queue[0].slot is None:
            queue.popleft()
        if len(queue) > 2 * self.count + 64:  # many ended in the middle
            self._queue = deque(record for record in queue if record.slot is not None)

    def oldest(self) -> TimeWait | None:
        """The one to be evicted first."""
        queue = self._queue
        while queue and queue[0].slot is None:
            queue.popleft()
        return queue[0] if queue else None
