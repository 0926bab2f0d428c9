"""SEGMENT ARRIVES where there is no Tcb: LISTEN, CLOSED, SYN-RECEIVED and TIME-WAIT.

RFC 9293 §3.10.7.1, §3.10.7.2 and, for what compact records hold, §3.10.7.4. It is here that a
passive OPEN gets its Tcb.
"""

from collections.abc import Callable

from ustack.errors import MalformedPacket
from ustack.stack.connections import Connections
from ustack.stack.fast_open import FastOpenServer
from ustack.stack.flows import split_key
from ustack.stack.listener import Listener
from ustack.stack.resets import Resets
from ustack.stack.segments import Checked
from ustack.stack.services import Services
from ustack.stack.syn_queue import Judgement, SynQueue
from ustack.stack.syn_request import SynRequest
from ustack.stack.time_wait import TimeWait, Verdict
from ustack.stack.time_waits import TimeWaits
from ustack.tcp.fast_open import Cookie
from ustack.tcp.handshake import Opening, open_fast, receive_syn
from ustack.tcp.md5_signature import for_peer, key_of
from ustack.tcp.segment import Segment
from ustack.tcp.tcb import Tcb
from ustack.wire.tcp import ACK, FIN, RST, SYN


class Arrivals:
    """Decides what becomes of such a segment."""

    def __init__(
        self,
        services: Services,
        connections: Connections,
        syn_queue: SynQueue,
        time_waits: TimeWaits,
        resets: Resets,
        *,
        arrives: Callable[[Tcb, Segment, int], None],
        waits: Callable[[Tcb, Listener], None],
    ) -> None:
        """`arrives`: SEGMENT ARRIVES for a Tcb. `waits`: a Tcb is ready for accept."""
        self._config = services.config
        self._counters = services.counters
        self._flows = services.flows
        self._probe = services.probe
        self._connections = connections
        self._syn_queue = syn_queue
        self._time_waits = time_waits
        self._resets = resets
        self._fast_open = FastOpenServer(services)
        self._arrives = arrives
        self._waits = waits

    def checked(self, flow: bytes, holder: object, flags: int) -> Checked | None:
        """With whose key a segment must be signed; `holder` has its place in the flow table.

        Linux: nobody minds the signature of what comes for a connection in TIME-WAIT, unless it
        may reopen it.
        """
        if type(holder) is SynRequest:
            return Checked(flow, key_of(holder.listener.config, flow))
        if type(holder) is TimeWait and not flags & SYN:
            return None
        _, local, _, local_port = split_key(flow)
        listener = self._flows.listener(local, local_port)
        return Checked(flow, None if listener is None else key_of(listener.config, flow))

    # LISTEN and CLOSED

    def at_listener(self, flow: bytes, seg: Segment, now: int, isn: int | None) -> None:
        """SEGMENT ARRIVES in LISTEN and in CLOSED (RFC 9293 §3.10.7.1 and §3.10.7.2).

        `isn`: what our SYN must begin with, where `seg` ends a TIME-WAIT.
        """
        _, local, remote_port, local_port = split_key(flow)
        if not (remote_port and local_port):
            raise MalformedPacket("tcp-port-zero")
        listener = self._flows.listener(local, local_port)
        flags = seg.flags
        if listener is None or flags & RST or flags & ACK or not flags & SYN:
            if listener is not None and flags & (ACK | SYN | RST) == ACK:
                opening = self._syn_queue.read_cookie(listener, flow, seg, now)
                if opening is not None:
                    self._check_room(listener)
                    self._open_child(flow, listener, opening, seg, now)
                    return
            self._seen(seg, "", now)
            key = key_of(listener.config, flow) if listener is not None else None
            self._resets.refuse(flow, seg, listener is not None, now, key)
            return
        if flags & FIN:
            raise MalformedPacket("syn-fin")  # Linux: drops it; no honest host sends it
        self._check_room(listener)
        full = self._syn_queue.full(listener, isn is not None)
        cookie: Cookie | None = None
        if not full and isn is None and self._fast_open.limit(listener):
            verdict = self._fast_open.judge(listener, flow, seg, now)
            if verdict.accept:
                self._open_fast(flow, listener, seg, verdict.cookie, now)
                return
            cookie = verdict.cookie
        note = "LISTEN -> SYN_RECEIVED"
        if full and not self._config.syn_cookies:
            raise MalformedPacket(full)
        if full or (self._config.syn_cookies == 2 and isn is None):
            self._syn_queue.send_cookie(listener, flow, seg, now)
            note = "SYN cookie"
        else:
            if isn is None:
                isn = self._connections.isn(flow, now)
            self._syn_queue.add(listener, flow, seg, isn, cookie, now)
        self._seen(seg, note, now)

    def _check_room(self, listener: Listener) -> None:
        """One more connection can wait for accept. MalformedPacket: the segment is dropped."""
        if listener.full():
            raise MalformedPacket("listen-overflow")
        if self._connections.full():
            raise MalformedPacket("connections-full")

    def _open_child(
        self, flow: bytes, listener: Listener, opening: Opening, seg: Segment, now: int
    ) -> None:
        """`seg` completes the handshake that `opening` tells of, and is taken up by a new Tcb."""
        tcb = self._connections.make(flow, for_peer(listener.config, flow), opening.iss, now)
        receive_syn(tcb, opening, now)
        tcb.listener = listener
        self._arrives(tcb, seg, now)

    def _open_fast(
        self, flow: bytes, listener: Listener, seg: Segment, cookie: Cookie | None, now: int
    ) -> None:
        """A SYN with a valid cookie: its connection waits for accept already, and its text can be
        read (RFC 7413 §4.2.2)."""
        iss = self._connections.isn(flow, now)
        tcb = self._connections.make(flow, for_peer(listener.config, flow), iss, now)
        opening = SynRequest(flow, listener, seg, iss, 0, now, tcb.rcv.mss).opening()
        receive_syn(tcb, opening, now)
        open_fast(tcb, seg.payload, cookie)
        tcb.listener = listener
        assert listener.pending is not None
        listener.pending.add(tcb)
        self._seen(seg, tcb.note, now)
        tcb.note = ""
        self._waits(tcb, listener)

    # SYN-RECEIVED after a passive OPEN, and TIME-WAIT

    def at_record(self, record: SynRequest | TimeWait, seg: Segment, now: int) -> None:
        """SEGMENT ARRIVES where a compact record stands for a connection."""
        if type(record) is TimeWait:
            self._in_time_wait(record, seg, now)
            return
        assert type(record) is SynRequest
        judgement = self._syn_queue.judge(record, seg, now)
        if judgement is Judgement.COMPLETE:
            self._complete(record, seg, now)
            return
        self._seen(seg, "", now)
        if judgement is Judgement.RESET:
            self._resets.send(record.flow, seg.ack, None, now, key=_key(record))
        elif judgement is Judgement.REFUSE:
            self._resets.refuse(record.flow, seg, False, now, _key(record))

    def _complete(self, request: SynRequest, seg: Segment, now: int) -> None:
        """`seg` has the ACK of our SYN: a Tcb takes the record's place, and takes `seg` up.

        Linux: with the accept queue full, it is as if the ACK had been lost: the SYN,ACK is sent
        again, the peer answers it, and by then there may be room.
        """
        listener = request.listener
        if listener.full() and self._config.abort_on_overflow:
            self._counters["listen-overflow"] += 1
            self._syn_queue.remove(request)
            self._seen(seg, "accept queue full", now)
            self._resets.send(request.flow, seg.ack, None, now, key=_key(request))
            return
        self._check_room(listener)
        opening = request.opening()
        self._syn_queue.remove(request)
        self._open_child(request.flow, listener, opening, seg, now)

    def _in_time_wait(self, record: TimeWait, seg: Segment, now: int) -> None:
        """RFC 9293 §3.10.7.4 for TIME-WAIT, and RFC 6191."""
        verdict = record.judge(seg, self._config.tcp.rfc1337)
        self._counters[f"time-wait-{verdict.name.lower().replace('_', '-')}"] += 1
        note = ""
        if verdict is Verdict.KILL:
            self._time_waits.end(record)
            note = "TIME_WAIT -> CLOSED"
        elif verdict is Verdict.REOPEN:
            _, local, _, local_port = split_key(record.flow)
            if self._flows.listener(local, local_port) is not None:
                # the listener may drop the SYN; only a child takes the record's place
                self.at_listener(record.flow, seg, now, record.reincarnation_isn())
                self._time_waits.end(record)
                return
            verdict = Verdict.DROP
        self._seen(seg, note, now)
        if verdict is Verdict.RESTART:
            self._time_waits.restart(record, now)
            self._time_waits.answer(record, now)
        elif verdict is Verdict.ACK_AGAIN:
            if seg.len or record.may_answer(now, self._config.tcp.challenge_ack_interval_us):
                self._time_waits.answer(record, now)
            else:
                self._counters["time-wait-rate-limited"] += 1

    def _seen(self, seg: Segment, note: str, now: int) -> None:
        if self._probe is not None:
            self._probe.received(seg.frame, note, now)


def _key(request: SynRequest) -> bytes | None:
    """What the segments of that handshake are signed with."""
    return key_of(request.listener.config, request.flow)
