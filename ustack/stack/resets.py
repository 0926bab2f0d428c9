"""RST, and when it answers a segment that belongs to no connection (RFC 9293 §3.5.2)."""

from ustack.stack.services import Services
from ustack.tcp.md5_signature import signed
from ustack.tcp.segment import Segment
from ustack.tcp.seq import MASK32
from ustack.wire.tcp import ACK, RST


class Resets:
    """Sends the RSTs of a stack that no Tcb sends itself."""

    def __init__(self, services: Services) -> None:
        self._output = services.output
        self._counters = services.counters
        self._limit = services.reset_limit

    def refuse(
        self, flow: bytes, seg: Segment, listening: bool, now: int, key: bytes | None = None
    ) -> None:
        """Answer a segment that belongs to no connection (RFC 9293 §3.10.7.1 and §3.5.2)."""
        flags = seg.flags
        if flags & RST:
            return
        self._counters["no-connection"] += 1
        if flags & ACK:
            self.send(flow, seg.ack, None, now, key=key)
        elif not listening:
            self.send(flow, 0, seg.seq + seg.len, now, key=key)

    def send(
        self,
        flow: bytes,
        seq: int,
        ack: int | None,
        now: int,
        options: bytes = b"",
        *,
        key: bytes | None = None,
    ) -> None:
        """RST as RFC 9293 §3.5.2 says, within the rate limit; signed with `key` (RFC 2385)."""
        if not self._limit.allow(now):
            self._counters["resets-limited"] += 1
            return
        flags = RST if ack is None else RST | ACK
        seq, ack = seq & MASK32, (ack or 0) & MASK32
        options = signed(key, flow, seq, ack, flags, 0, options)
        self._output.segment(flow, seq, ack, flags, 0, options, "reset")
