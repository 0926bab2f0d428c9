"""Segments that only ask for an answer: window probes, keep-alives and tail loss probes."""

from ustack.config import SECOND
from ustack.tcp import rates
from ustack.tcp.emit import Emit
from ustack.tcp.outgoing import (
    acceptable_seq,
    acknowledged,
    options_due,
    send_segment,
    smaller_by_blocks,
    window_field,
)
from ustack.tcp.tcb import NEVER, Tcb
from ustack.wire.tcp import ACK, FIN, PSH


def send_probe(tcb: Tcb, now: int, emit: Emit) -> bool:
    """A zero-window probe, a keep-alive, or an ACK with a reason of its own."""
    snd, note = tcb.snd, tcb.probe_due
    if note == "tail loss probe":
        full = tcb.snd.mss
        with smaller_by_blocks(tcb):
            sent = _send_tail_probe(tcb, full, now, emit)
    elif note == "zero-window probe":
        sent = _send_window_probe(tcb, now, emit)
    elif note == "keep-alive":
        # SHLD-12: no data, and a sequence number that the peer has acknowledged
        sent = emit(tcb, snd.una - 1, ACK, window_field(tcb), options_due(tcb, now), (), 0, 0, note)
    else:
        seq = acceptable_seq(tcb)
        sent = emit(tcb, seq, ACK, window_field(tcb), options_due(tcb, now), (), 0, 0, note)
        if sent:
            acknowledged(tcb)
    if sent:
        tcb.probe_due = ""
    return sent


def _send_tail_probe(tcb: Tcb, full: int, now: int, emit: Emit) -> bool:
    """One segment that makes the peer say what it has: new text if there is any, whatever the
    congestion window says, else the last segment again (RFC 8985 §7.3).

    `full`: bytes in a segment without SACK blocks. Linux: what they leave no room for waits.
    """
    snd, board, buffer = tcb.snd, tcb.scoreboard, tcb.send_buffer
    if not board.in_flight or tcb.tail_probe_end is not None:
        return True
    if tcb.sampler is not None:
        rates.before_sending(tcb, now)
    edge = snd.una + snd.wnd
    end = min(snd.nxt + snd.mss, buffer.end, edge)
    fin = tcb.fin_queued and end == buffer.end < edge and (snd.fin is None or snd.nxt <= snd.fin)
    tcb.tail_probe_resent = 0
    if end > snd.nxt or fin:
        if tcb.pacer is not None and not tcb.pacer.due(now):
            return True  # Linux: the next burst will be the probe
        if not _send_new_probe(tcb, end, fin, now, emit):
            return False
    else:
        span = board.last(full, buffer.last_mark(snd.nxt), buffer.end)
        assert span is not None
        start, end = span[0], min(span[1], span[0] + snd.mss)
        edge = snd.una + snd.wnd
        if start < edge:
            end = min(end, edge)
        elif start > snd.una:  # the window was taken back (SHLD-16): the oldest is next
            tcb.timers.rto = max(board.head_sent_at() + tcb.rtt.rto, now + 1)
            return True
        text_end = min(end, buffer.end)
        flags = ACK | PSH if text_end > start and end == span[1] else ACK
        if end > text_end:
            flags |= FIN
        if not send_segment(tcb, start, text_end, flags, now, emit, tcb.probe_due):
            return False
        tcb.tail_probe_resent = board.probed(start, end, now)
        board.bytes_resent -= end - text_end  # the FIN is no text
    tcb.tail_probe_end = snd.nxt
    return True


def _send_new_probe(tcb: Tcb, end: int, fin: bool, now: int, emit: Emit) -> bool:
    """New text up to `end`, or the FIN, or both, is the tail loss probe. False: device full."""
    snd, start = tcb.snd, tcb.snd.nxt
    flags = ACK | PSH if end > start and tcb.send_buffer.push_at(end) else ACK
    if fin:
        flags |= FIN
    if not send_segment(tcb, start, end, flags, now, emit, tcb.probe_due):
        return False
    slack = start + tcb.scoreboard.mss - end
    if fin:
        snd.fin = end
        end += 1
        slack -= 1
    if slack > 0:
        snd.small_end = end
    snd.nxt = end
    snd.max = max(snd.max, end)
    tcb.scoreboard.sent(start, end, now, slack)
    return True


def _send_window_probe(tcb: Tcb, now: int, emit: Emit) -> bool:
    """One octet beyond the edge of a zero window (RFC 9293 §3.8.6.1), or the FIN.

    It is not entered in the scoreboard and SND.NXT stays: if the peer takes it, its ACK moves
    SND.NXT; if not, it was never sent as far as the rest is concerned.
    """
    snd, buffer = tcb.snd, tcb.send_buffer
    start = snd.una
    if snd.wnd:
        return True  # the window has opened meanwhile
    if not tcb.config.probe_with_text:
        seq = snd.una - 1
        return emit(
            tcb, seq, ACK, window_field(tcb), options_due(tcb, now), (), 0, 0, tcb.probe_due
        )
    if start < buffer.end:
        end, flags = start + 1, ACK
        if end == buffer.end:
            flags |= PSH
        sent = send_segment(tcb, start, end, flags, now, emit, tcb.probe_due)
    elif tcb.fin_queued and start == buffer.end:  # else it has been acknowledged meanwhile
        end = start + 1
        sent = send_segment(tcb, start, start, ACK | FIN, now, emit, tcb.probe_due)
        if sent:
            snd.fin = start
    else:
        return True
    if sent:
        snd.max = max(snd.max, end)
        if tcb.timers.rto == NEVER:
            arm_persist(tcb, now)
    return sent


def arm_persist(tcb: Tcb, now: int) -> None:
    """Something waits although nothing is in flight: only a timer can move it on.

    A zero window is probed after one RTO, then at doubling intervals (SHLD-29, SHLD-30); a window
    too small for a segment is used after the override time of silly-window avoidance.
    """
    snd, timers = tcb.snd, tcb.timers
    if tcb.scoreboard.in_flight:
        timers.persist = NEVER
        return
    waiting = snd.nxt < tcb.send_buffer.end or (
        tcb.fin_queued and (snd.fin is None or snd.nxt <= snd.fin)
    )
    if not waiting:
        timers.persist = NEVER
    elif timers.persist == NEVER:
        config = tcb.config
        if snd.wnd:
            # Linux: an RTO, as for a closed one; RFC 9293 §3.8.6.2.1: but at most a second
            patience = max(tcb.rtt.base, config.sws_override_us)
            if not tcb.cork:
                patience = min(patience, SECOND)
            timers.persist = now + patience
        else:
            interval = max(tcb.rtt.base, config.persist_min_us) << min(tcb.persist_shift, 32)
            timers.persist = now + min(interval, config.persist_max_us)
