"""All connections of a stack in TIME-WAIT: entered, answered, evicted, expired."""

from ustack.stack.services import Services
from ustack.stack.time_wait import TimeWait, TimeWaitQueue
from ustack.tcp.md5_signature import signed
from ustack.tcp.seq import MASK32
from ustack.tcp.tcb import Tcb
from ustack.wire.tcp import ACK
from ustack.wire.tcp_options import encode_options


class TimeWaits:
    """Owns what the flow table and the timer wheel hold of connections in TIME-WAIT."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._table = services.flows.table
        self._wheel = services.wheel
        self._output = services.output
        self._counters = services.counters
        self._limit = services.reset_limit  # answers share it, so that they feed no loop
        self._queue = TimeWaitQueue()
        self._keys: dict[bytes, bytes] = {}  # of those connections that signed (RFC 2385)

    def enter(self, tcb: Tcb, now: int) -> None:
        """A record takes the place of `tcb` for 2 MSL; beyond the cap the oldest one goes."""
        record = TimeWait(tcb, now)
        self._table[tcb.flow] = record
        if tcb.signature is not None:
            self._keys[tcb.flow] = tcb.signature
        while self._queue.count >= self._config.max_time_waits:
            oldest = self._queue.oldest()
            if oldest is None:
                break
            self.end(oldest)
            self._counters["time-wait-evicted"] += 1
        self.restart(record, now)
        self._queue.add(record)

    def restart(self, record: TimeWait, now: int) -> None:
        """2 MSL begin now."""
        self._wheel.insert(record, now + 2 * self._config.tcp.msl_us, now)

    def end(self, record: TimeWait) -> None:
        """`record` is forgotten before its time, or because it has come."""
        if self._table.get(record.flow) is record:
            del self._table[record.flow]
        if self._keys:
            self._keys.pop(record.flow, None)
        self._wheel.cancel(record)
        self._queue.ended()

    def answer(self, record: TimeWait, now: int) -> None:
        """The last ACK once more."""
        if not self._limit.allow(now):
            self._counters["time-wait-rate-limited"] += 1
            return
        nxt, rcv_nxt, recent, offset, _, window, ts_on = record.unpack()
        options = b""
        if ts_on:
            options = encode_options(tsval=(now // 1000 + offset) & MASK32, tsecr=recent)
        key = self._keys.get(record.flow)
        options = signed(key, record.flow, nxt, rcv_nxt, ACK, window, options, last=True)
        note = "TIME_WAIT re-ACK"
        self._output.segment(record.flow, nxt, rcv_nxt, ACK, window, options, note)
