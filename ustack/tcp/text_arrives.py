"""The last steps of SEGMENT ARRIVES: the URG bit, the text and the FIN (RFC 9293 §3.10.7.4)."""

from ustack.errors import ConnectionReset
from ustack.tcp import ack_policy, buffer_sizes, memory_pressure, sack_compression
from ustack.tcp.segment import Reset, Segment
from ustack.tcp.state import CLOSE_WAIT, FIN_WAIT_1, FIN_WAIT_2, PEER_FIN, RECEIVING, set_state
from ustack.tcp.tcb import NEVER, READABLE, URGENT, Tcb, finish
from ustack.tcp.timestamp_echo import measure_for_window
from ustack.wire import Buffer
from ustack.wire.tcp import FIN


def urgent_arrives(tcb: Tcb, seg: Segment) -> None:
    """RFC 9293 §3.10.7.4: the pointer names the octet after the last urgent one (MUST-62)."""
    up = seg.seq + seg.urgent
    rcv = tcb.rcv
    if tcb.state in RECEIVING and up > rcv.nxt and (rcv.up is None or up > rcv.up):
        rcv.up = up
        tcb.events |= URGENT


def receive_text(tcb: Tcb, seg: Segment, now: int) -> Reset | None:  # hot
    """Take the text and the FIN of an acceptable segment that lie inside the window."""
    rcv, receive_buffer = tcb.rcv, tcb.receive_buffer
    start, payload = seg.seq, seg.payload
    nxt, edge = rcv.nxt, rcv.adv
    end = start + len(payload)
    fin = seg.flags & FIN
    # SHLD-3: nobody will ever read this. Linux: nor what comes after both SHUT_RD and SHUT_WR
    if (tcb.detached or (tcb.deaf and tcb.state in (FIN_WAIT_1, FIN_WAIT_2))) and end > nxt:
        finish(tcb, ConnectionReset())
        return Reset(seg.ack)
    if rcv.fin is not None and end > rcv.fin:  # nothing can follow a FIN
        end = rcv.fin
    if end >= edge and not tcb.config.linux_windows:
        end = edge
        if fin:
            fin = 0  # outside the window: not consumed, ACKed, taken when it is sent again
            tcb.ack_now = True
    if fin and not _note_fin(tcb, start, end):
        fin = 0
    if start < nxt:
        if start + seg.len <= nxt:
            old_text(tcb, start, start + seg.len)
            tcb.ack_now = True
        elif tcb.sack_on and payload:  # told when the rest of it is acknowledged
            receive_buffer.duplicate = (start, min(end, nxt))
            tcb.sack_due = True
        payload = payload[nxt - start :]
        start = nxt
    if end - start < len(payload):
        tcb.ack_now = True
        payload = payload[: max(end - start, 0)]
    if 2 * len(payload) < len(seg.payload):
        payload = bytes(payload)  # a view of the rest would keep the whole frame in memory

    if start > nxt:
        _wait_behind_a_gap(tcb, start, payload, now)
        return None
    if payload:
        if tcb.memory.full and not memory_pressure.may_take(tcb, len(payload)):
            tcb.ack_now = True
            return None
        _take_in_order(tcb, seg, payload, now)
    elif seg.len and not fin:
        tcb.ack_now = True  # nothing of it was inside the window
    if rcv.fin == rcv.nxt:
        take_fin(tcb)
        tcb.ack_now = tcb.ack_now or not fin  # it waited behind a gap that was filled
    return None


def old_text(tcb: Tcb, start: int, end: int) -> None:
    """[start, end), a FIN included, has come again: report it (RFC 2883 §4), and answer at once for
    a while, since an ACK of ours may have been lost."""
    ack_policy.hurry(tcb, tcb.config.quick_acks)
    if tcb.sack_on:
        tcb.receive_buffer.duplicate = (start, min(end, tcb.rcv.nxt))
        tcb.sack_due = True


def text_after_fin(tcb: Tcb, seg: Segment) -> Reset | None:
    """After the peer's FIN its text is ignored (RFC 9293 §3.10.7.4, seventh).

    Linux: but text that begins before the FIN's end and goes on behind it is answered with RST.
    """
    nxt, fin = tcb.rcv.nxt, bool(seg.flags & FIN)
    if seg.seq >= nxt:
        return None
    tcb.ack_now = True
    if seg.seq + seg.len - fin > nxt:
        finish(tcb, ConnectionReset())
        return Reset(seg.ack)
    old_text(tcb, seg.seq, seg.seq + seg.len)
    return None


def _wait_behind_a_gap(tcb: Tcb, start: int, payload: Buffer, now: int) -> None:
    """`payload` does not begin at RCV.NXT. Its ACK is a duplicate (RFC 5681 §4.2)."""
    tcb.counters.out_of_order += 1
    tcb.sack_due = tcb.sack_on
    crowded = sack_compression.crowds_out(tcb, start, start + len(payload))
    if payload:
        memory_pressure.insert(tcb, start, payload)
    size = min(len(payload), tcb.rcv.mss)
    if size > tcb.rcv.mss_seen:
        tcb.rcv.mss_seen = size
        buffer_sizes.segment_size_known(tcb, size)
    if tcb.sack_on:  # Linux: else every duplicate ACK must look the same
        buffer_sizes.widen_window(tcb, len(payload), in_order=False)
    if not sack_compression.may_wait(tcb, crowded, now):
        tcb.ack_now = tcb.flush_now = True


def _take_in_order(tcb: Tcb, seg: Segment, payload: Buffer, now: int) -> None:  # hot
    """`payload`, of `seg`, begins at RCV.NXT."""
    rcv, receive_buffer = tcb.rcv, tcb.receive_buffer
    nxt = rcv.nxt
    if receive_buffer.held:
        receive_buffer.insert(nxt, payload, in_order=True)
        nxt = receive_buffer.collect(nxt)
        if receive_buffer.held:
            sack_compression.part_filled(tcb, nxt)
        tcb.ack_now = True  # RFC 5681 §4.2: a gap was filled, in whole or in part
    else:
        receive_buffer.append(payload)
        nxt += len(payload)
    tcb.counters.bytes_received += nxt - rcv.nxt
    if ack_policy.text_arrived(tcb, len(seg.payload), seg.flags, now):
        buffer_sizes.segment_size_known(tcb, rcv.mss_seen)
    tcb.text_received_at = now
    tcb.ack_owed += nxt - rcv.nxt
    rcv.nxt = nxt
    if nxt > rcv.adv:
        rcv.adv = nxt
    tcb.events |= READABLE
    if seg.tsecr != tcb.ts_echoed:
        measure_for_window(tcb, seg.tsecr, len(payload), now)
    if tcb.config.ack_every_second_segment and tcb.ack_owed >= 2 * rcv.mss_seen:
        tcb.flush_now = True


def _note_fin(tcb: Tcb, start: int, end: int) -> bool:
    """The FIN of a segment with text [start, end) stands at `end`; False: it is not believed.

    Where text, or a FIN, behind it has arrived before, one of them is a lie of a third party: what
    comes in order is believed, and what waits behind a gap is not.
    """
    rcv, receive_buffer = tcb.rcv, tcb.receive_buffer
    if start <= rcv.nxt <= end:
        rcv.fin = end
        if end < receive_buffer.end:
            receive_buffer.drop_out_of_order()
    elif end < max(rcv.nxt, receive_buffer.end):
        return False
    elif rcv.fin is None:
        rcv.fin = end
    return True


def take_fin(tcb: Tcb) -> None:
    """RCV.NXT goes over the FIN: the peer has no more to send (RFC 9293 §3.10.7.4, eighth)."""
    rcv = tcb.rcv
    room = rcv.adv - rcv.nxt
    rcv.nxt += 1
    rcv.adv = max(rcv.adv, rcv.nxt)
    tcb.eof = not tcb.receive_buffer.readable
    tcb.events |= READABLE
    set_state(tcb, PEER_FIN[tcb.state])
    if tcb.state is CLOSE_WAIT:
        ack_policy.begin_dialogue(tcb)  # the user may close at once: one segment is ACK and FIN
        tcb.ack_owed += 1
        tcb.ack_now = tcb.ack_now or not room  # Linux: short of memory
        return
    tcb.ack_now = True
    tcb.timers.fin_wait_2 = NEVER
