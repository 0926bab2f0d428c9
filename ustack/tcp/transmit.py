"""The one decision "what leaves now" (BSD tcp_output), and nothing else.

`transmit` reads what the three event modules made due and calls `emit` once per packet. The
packet may be a super-segment: `emit`'s owner knows how the device cuts it.
"""

from collections.abc import Sequence

from ustack.tcp import ack_policy, mtu_probing, rates, tail_loss
from ustack.tcp.buffer_sizes import syn_window, widen_window
from ustack.tcp.chronograph import PEER_WINDOW, SEND_BUFFER
from ustack.tcp.congestion import CongestionControl
from ustack.tcp.emit import Emit
from ustack.tcp.handshake import syn_options, timestamps
from ustack.tcp.md5_signature import signing
from ustack.tcp.outgoing import (
    acceptable_seq,
    acknowledged,
    options_due,
    send_segment,
    smaller_by_blocks,
    text_left,
    window_field,
)
from ustack.tcp.pacing import Pacer, burst_size
from ustack.tcp.pieces import remembering
from ustack.tcp.probes import arm_persist, send_probe
from ustack.tcp.recovery import CWR, FAST, LOSS, OPEN
from ustack.tcp.state import CLOSED, SYN_RECEIVED, SYN_SENT, TIME_WAIT
from ustack.tcp.tcb import MORE, NEVER, READABLE, UNCORKED, SendSequence, Tcb
from ustack.wire import Buffer
from ustack.wire.tcp import ACK, FIN, PSH, RST, SYN

RESEND_NOTES = {
    FAST: "fast retransmit",
    LOSS: "retransmission after RTO",
    OPEN: "retransmission",
    CWR: "retransmission",
}
# Bytes one connection may send before the others have their turn. Super-segments cost little: 16
# of them in one go instead of 4 are 5 to 10 % of a bulk transfer; 21 are three frames of BIG TCP.
QUANTUM = 4 * 65536
SUPER_QUANTUM = 21 * 65536
NOTHING_NEW = -1


def transmit(tcb: Tcb, now: int, emit: Emit, hold_acks: bool = False) -> bool:  # hot
    """Send what `tcb` owes and what the windows allow, and set its timers.

    `hold_acks`: the user is being told of new text and may answer it, so an ACK that is not urgent
    waits for that: `tcb.ack_soon` stays set, and transmit must be called again.
    False: the device is full or the quantum is used up; call again. Nothing counts as sent that
    `emit` has not taken.
    """
    if tcb.signature is not None:
        emit = signing(tcb, tcb.signature, emit)
    if tcb.ecn is not None:
        emit = tcb.ecn.emitter(tcb, emit, now)
    state = tcb.state
    if state is SYN_SENT or state is SYN_RECEIVED:
        if tcb.syn_due and not _send_syn(tcb, now, emit):
            return False
        if state is SYN_SENT or tcb.fast_open is None or not tcb.passive:
            return state is SYN_SENT or not tcb.ack_now or _send_early_ack(tcb, now, emit)
        # Fast Open: text may leave before the ACK arrives (RFC 7413 §4.2.2)
    if state is CLOSED:
        return not tcb.reset_due or _send_reset(tcb, now, emit)

    snd, board = tcb.snd, tcb.scoreboard
    done = True
    if (
        snd.nxt < tcb.send_buffer.end
        or (tcb.fin_queued and (snd.fin is None or snd.nxt <= snd.fin))
        or board.owed
    ):
        if tcb.sack_due:
            with smaller_by_blocks(tcb):
                done = _send_due(tcb, now, emit)
        elif not board.in_flight and tcb.pacer is None and _is_lone(tcb, snd):
            done = _send_lone(tcb, now, emit)
        else:
            done = _send_due(tcb, now, emit)
    if tcb.probe_due and not send_probe(tcb, now, emit):
        return False
    owed = tcb.ack_owed
    if not (owed or tcb.ack_now or tcb.ack_soon):
        return done
    if owed and tcb.receive_buffer.limit < tcb.receive_buffer.ceiling:
        widen_window(tcb, owed)
    if owed and not (tcb.ack_now or tcb.ack_soon) and state is not TIME_WAIT:
        tcb.ack_soon = ack_policy.due(tcb, owed, now)
    hold = hold_acks and (tcb.events & READABLE or owed <= tcb.rcv.mss_seen)
    if tcb.ack_now or (tcb.ack_soon and not (hold and tcb.listener is None)):
        seq = acceptable_seq(tcb)
        if not emit(tcb, seq, ACK, window_field(tcb), options_due(tcb, now), (), 0, 0, ""):
            return False
        acknowledged(tcb)
    return done


def _send_due(tcb: Tcb, now: int, emit: Emit) -> bool:  # hot
    """Text leaves: in bursts, in pieces, or as much as the device takes at once."""
    if tcb.pacer is not None:
        return _send_paced(tcb, tcb.pacer, now, emit)
    if tcb.config.cut_segments:
        return _send_cut(tcb, now, emit)
    quantum = SUPER_QUANTUM if tcb.snd.gso_limit > tcb.snd.mss else QUANTUM
    return _send_text(tcb, now, emit, quantum)


def _send_syn(tcb: Tcb, now: int, emit: Emit) -> bool:
    """SYN, or SYN,ACK in SYN-RECEIVED. Its window is never scaled (RFC 7323 §2.2)."""
    flags = SYN if tcb.state is SYN_SENT else SYN | ACK
    window = syn_window(tcb.config, tcb.rcv.mss, tcb.ts_on)
    note = "SYN retransmission" if tcb.retransmits else ""
    text, size = _text_on_syn(tcb)
    if not emit(tcb, tcb.snd.iss, flags, window, syn_options(tcb, now), text, size, 0, note):
        return False
    if flags & ACK:
        tcb.rcv.adv = max(tcb.rcv.adv, tcb.rcv.nxt + window)
        acknowledged(tcb)
    tcb.syn_due = False
    tcb.scoreboard.retransmissions += bool(note)
    snd = tcb.snd
    if size:
        slack = max(snd.mss - size, 0)
        tcb.scoreboard.sent(snd.iss + 1, snd.iss + 1 + size, now, slack)
        tcb.counters.data_segments_out += 1
    snd.nxt = max(snd.nxt, snd.iss + 1 + size)
    snd.max = max(snd.max, snd.nxt)
    if tcb.fast_open is not None:
        tcb.fast_open.syn_at = now
        tcb.fast_open.cookie = None  # RFC 7413 §4.2.2: not on a SYN that is sent again
    tcb.last_data_sent_at = now
    tcb.timers.rto = now + tcb.rtt.rto
    return True


def _text_on_syn(tcb: Tcb) -> tuple[Sequence[Buffer], int]:
    """What our first SYN carries (RFC 7413 §4.2.2): never one that is sent again, nor the SYN,ACK
    for a peer whose SYN came while the device was still full (as Linux)."""
    snd = tcb.snd
    if tcb.fast_open is None or not tcb.fast_open.size or snd.max > snd.iss:
        return (), 0
    if tcb.state is not SYN_SENT:
        tcb.fast_open.size = 0
        return (), 0
    size = tcb.fast_open.size
    return tcb.send_buffer.views(snd.iss + 1, snd.iss + 1 + size), size


def _send_early_ack(tcb: Tcb, now: int, emit: Emit) -> bool:
    """Answer what was not acceptable in SYN-RECEIVED (RFC 9293 §3.10.7.4, first)."""
    note = tcb.probe_due
    options = timestamps(tcb, now)  # no SACK: text that came with the SYN is behind no gap
    if not emit(tcb, tcb.snd.nxt, ACK, window_field(tcb), options, (), 0, 0, note):
        return False
    tcb.probe_due = ""
    acknowledged(tcb)
    return True


def _send_reset(tcb: Tcb, now: int, emit: Emit) -> bool:
    """RST of ABORT (RFC 9293 §3.10.5), with timestamps (RFC 7323 §3.2). Linux: and with an ACK."""
    options = timestamps(tcb, now)
    if not emit(tcb, acceptable_seq(tcb), RST | ACK, window_field(tcb), options, (), 0, 0, "abort"):
        return False
    tcb.reset_due = False
    return True


def _send_cut(tcb: Tcb, now: int, emit: Emit) -> bool:
    """What `_send_text` does, in pieces of the size that Linux makes (tcp_tso_autosize()).

    They are not paced, but each ends with PSH and is sent again as it was sent.
    """
    snd, recovery = tcb.snd, tcb.recovery
    assert tcb.congestion is not None
    limit, mss = snd.gso_limit, snd.mss
    emit = remembering(tcb, emit)
    if recovery.held and recovery.frto and snd.nxt >= tcb.send_buffer.end and not tcb.fin_queued:
        recovery.nothing_new()
    piece = burst_size(rates.pacing_rate(tcb), mss, tcb.rtt.min_rtt, tcb.config.cut_segments)
    budget = QUANTUM
    if tcb.scoreboard.owed and not recovery.held:
        snd.gso_limit = min(limit, piece)  # Linux tcp_xmit_retransmit_queue()
        if tcb.sampler is not None:
            rates.before_sending(tcb, now)
        budget = _send_lost(tcb, now, emit, budget)
        snd.gso_limit = limit
        if budget <= 0:
            return budget == NOTHING_NEW
    half = max(recovery.window(tcb.congestion) // mss // 2, 1)  # Linux tcp_cwnd_test()
    snd.gso_limit = min(limit, piece, half * mss)
    done = _send_text(tcb, now, emit, budget)
    snd.gso_limit = limit
    return done


def _send_paced(tcb: Tcb, pacer: Pacer, now: int, emit: Emit) -> bool:
    """What `_send_text` does, burst by burst, each when `pacer` lets it go.

    The first segment after a retransmission timeout does not wait (Linux tcp_retransmit_timer).
    """
    snd, board = tcb.snd, tcb.scoreboard
    limit = snd.gso_limit
    spent = 0
    tcb.timers.pace = NEVER
    while pacer.due(now) or tcb.recovery.force:
        if spent >= QUANTUM:
            return False
        before = snd.nxt + board.bytes_resent
        burst = pacer.quantum or burst_size(pacer.rate, snd.mss, tcb.rtt.min_rtt)
        burst = max(burst, snd.mss)  # it may have been chosen for smaller segments
        snd.gso_limit = min(limit, burst)
        done = _send_text(tcb, now, emit, burst)
        snd.gso_limit = limit
        size = snd.nxt + board.bytes_resent - before
        if size:
            pacer.sent(size, tcb.counters.data_segments_out, now)
            rates.after_burst(tcb)
        if done or not size:
            pacer.waiting = False
            return done
        spent += size
    pacer.waiting = True
    tcb.timers.pace = pacer.at
    congestion = tcb.congestion
    assert congestion is not None
    if spent:  # Linux tcp_cwnd_validate: what stopped it was not the window, or not alone
        full = tcb.recovery.window(congestion) - board.pipe() < snd.mss
        tcb.usage.sent(snd.una, snd.nxt, board.flight(), full)
    return True


def _send_text(tcb: Tcb, now: int, emit: Emit, budget: int) -> bool:  # hot
    """Lost text first, then new text and the FIN. False: device full or quantum used up."""
    assert tcb.congestion is not None
    snd, board, recovery, buffer = tcb.snd, tcb.scoreboard, tcb.recovery, tcb.send_buffer
    if not board.in_flight:
        _resume(tcb, tcb.congestion, now)
    if tcb.sampler is not None or buffer.end - buffer.start > snd.mss:
        rates.before_sending(tcb, now)
    if board.owed and not recovery.held:
        budget = _send_lost(tcb, now, emit, budget)
        if budget <= 0:
            return budget == NOTHING_NEW
    sent_new = False
    mss = snd.mss
    # Linux: so many segments, whatever their size; SACK blocks may have made them smaller
    quota = (recovery.window(tcb.congestion) - board.pipe()) // board.mss * mss
    if tcb.mtu is not None:
        quota = _probe_path(tcb, quota, now, emit)
    if buffer.end - snd.nxt >= 2 * snd.gso_limit > 2 * mss:
        taken = _send_burst(tcb, min(quota, budget), now, emit)
        quota -= taken
        budget -= taken
        if budget <= 0:
            tail_loss.after_sending(tcb, now)
            return False
        sent_new = taken > 0
    while True:
        seq = snd.nxt
        size = _new_text_size(tcb, quota)
        end = seq + size
        fin = tcb.fin_queued and end == buffer.end and _fin_fits(tcb, end)
        if not size and not (fin and (quota > 0 or not board.in_flight)):
            break
        # MUST-61. Linux: also at the end of each write, and on what is cut into several segments
        # and on what silly-window avoidance let go at last
        let_go = size < mss and end < buffer.end and tcb.marks is None
        flags = ACK | PSH if buffer.push_at(end) or size > mss or let_go else ACK
        if fin:
            flags = flags | FIN if size else ACK | FIN
        if not send_segment(tcb, seq, end, flags, now, emit, ""):
            if sent_new:
                tail_loss.after_sending(tcb, now)
            return False
        slack = -size % mss
        if fin:
            slack = slack - 1 if size else mss - 1  # with text, it takes no room
            snd.fin = end
            end += 1
        if slack > 0:
            snd.small_end = end
        _now_in_flight(tcb, seq, end, slack, now)
        sent_new = True
        quota -= size + slack
        if end >= buffer.end and (fin or not tcb.fin_queued):
            break
        budget -= size
        if budget <= 0:
            tail_loss.after_sending(tcb, now)
            return False
    if recovery.held and recovery.frto and snd.nxt <= recovery.point:
        recovery.nothing_new()
        return _send_text(tcb, now, emit, budget)
    if sent_new or quota < mss:
        _after_sending(tcb, sent_new, quota < mss, now)
    chronograph = tcb.chronograph
    if chronograph is not None and (
        snd.nxt < buffer.end or tcb.send_full or chronograph.running == PEER_WINDOW
    ):
        _note_limit(tcb, quota, now)
    arm_persist(tcb, now)
    return True


def _is_lone(tcb: Tcb, snd: SendSequence) -> bool:  # hot
    """With nothing in flight: all that is queued, with the FIN, fits one segment, and nothing holds
    it back."""
    size = tcb.send_buffer.end - snd.nxt
    return (
        size <= snd.mss
        and size + tcb.fin_queued <= snd.wnd
        and tcb.recovery.phase is OPEN
        and not (tcb.cork or tcb.send_full)
        and snd.up is None
        and tcb.marks is None
        and tcb.mtu is None
        and tcb.sampler is None
        and (tcb.chronograph is None or tcb.chronograph.running != PEER_WINDOW)
    )


def _send_lone(tcb: Tcb, now: int, emit: Emit) -> bool:  # hot
    """What `_send_text` does in a dialogue: each message is one segment, and so is the FIN if it
    does not go with the last. False: device full."""
    assert tcb.congestion is not None
    snd, buffer, fin = tcb.snd, tcb.send_buffer, tcb.fin_queued
    start, end = snd.nxt, buffer.end
    size = end - start
    _resume(tcb, tcb.congestion, now)
    tcb.override = False
    flags = ACK | FIN if fin else ACK
    text: Sequence[Buffer] = ()
    if size:
        text = buffer.views(start, end)
        if buffer.push_at(end):
            flags |= PSH
    options = timestamps(tcb, now)
    if not emit(tcb, start, flags, window_field(tcb), options, text, size, 0, ""):
        return False
    text_left(tcb, start, end, now)
    if fin:
        snd.fin = end
        end += 1
    mss = snd.mss
    slack = mss - (end - start)
    if slack > 0:
        snd.small_end = end
    snd.nxt = end
    if end > snd.max:
        snd.max = end
    tcb.scoreboard.sent(start, end, now, slack)
    tcb.usage.sent(start, end, mss, False)
    tail_loss.after_lone_segment(tcb, now)
    tcb.timers.persist = NEVER
    return True


def _after_sending(tcb: Tcb, sent_new: bool, limited: bool, now: int) -> None:  # hot
    """`limited`: the congestion window has no room for another segment."""
    snd, board = tcb.snd, tcb.scoreboard
    tcb.usage.sent(snd.una, snd.nxt, board.in_flight + board.slack, limited)
    if sent_new:
        tail_loss.after_sending(tcb, now)


def _send_burst(tcb: Tcb, limit: int, now: int, emit: Emit) -> int:  # hot
    """Send whole super-segments of new text, `limit` bytes at most, if two or more may go.

    The same as one at a time, but what they have in common is found out once. Returns the bytes
    sent; what could not go, or needs a closer look, is left to the rules for single segments.
    """
    snd = tcb.snd
    start, step = snd.nxt, snd.gso_limit
    count = min(limit, tcb.send_buffer.end - start, snd.una + snd.wnd - start) // step
    if count < 2 or snd.up is not None or tcb.marks is not None or tcb.ecn is not None:
        return 0
    if tcb.sack_due:
        return 0
    options, window, views = timestamps(tcb, now), window_field(tcb), tcb.send_buffer.views
    flags = ACK | PSH  # Linux: PSH on what is cut into several segments
    size = step if tcb.config.cut_segments else count * step  # IP cuts it
    at = start
    for end in range(start + size, start + count * step + 1, size):
        if not emit(tcb, at, flags, window, options, views(at, end), size, 0, ""):
            break
        at = end
    if at > start:
        text_left(tcb, start, at, now)
        piece = step if tcb.config.cut_segments else at - start
        for begin in range(start, at, piece):
            _now_in_flight(tcb, begin, begin + piece, 0, now)
    return at - start


def _now_in_flight(tcb: Tcb, start: int, end: int, slack: int, now: int) -> None:  # hot
    """New text [start, end) has left; its segments lack `slack` bytes to be full ones."""
    snd, board = tcb.snd, tcb.scoreboard
    snd.nxt = end
    if end > snd.max:
        snd.max = end
    if board.mss != snd.mss:  # SACK blocks beside it make them smaller, but no fewer
        slack += (end - start + slack) // snd.mss * (board.mss - snd.mss)
    board.sent(start, end, now, slack)
    tcb.recovery.sent(end - start + slack)
    if tcb.timers.rto == NEVER:
        tcb.timers.rto = now + tcb.rtt.rto  # RFC 6298 §5.1


def _send_lost(tcb: Tcb, now: int, emit: Emit, budget: int) -> int:
    """Send again what was lost, as much as the windows allow, and at most `budget` bytes.

    Returns what is left of it, 0: the device is full or the quantum is used up, NOTHING_NEW: all
    is done, for after a timeout what was lost goes first.
    """
    while budget > 0 and tcb.scoreboard.owed and not tcb.recovery.held:
        size = _resend(tcb, now, emit)
        if size < 0:
            return 0
        if not size:
            break
        budget -= size
    if budget > 0 and tcb.scoreboard.owed and tcb.recovery.phase is LOSS:
        tcb.usage.sent(tcb.snd.una, tcb.snd.nxt, tcb.scoreboard.flight(), True)
        arm_persist(tcb, now)
        return NOTHING_NEW
    return max(budget, 0)


def _note_limit(tcb: Tcb, quota: int, now: int) -> None:
    """For STATUS: is it the peer's window that stops us, or a send buffer that is too small?

    Linux: tcp_write_xmit() and tcp_cwnd_validate().
    """
    chronograph, snd = tcb.chronograph, tcb.snd
    assert chronograph is not None
    unsent = tcb.send_buffer.end - snd.nxt
    if unsent and quota > 0 and snd.una + snd.wnd - snd.nxt < min(unsent, snd.mss):
        chronograph.start(PEER_WINDOW, now)
    else:
        chronograph.stop(PEER_WINDOW, now)
        if not unsent and tcb.send_full and not tcb.usage.limited:
            chronograph.start(SEND_BUFFER, now)


def _probe_path(tcb: Tcb, quota: int, now: int, emit: Emit) -> int:
    """If it is time for that, new text has left in one packet of another size than the others
    (RFC 4821 §7.3). Returns what the congestion window leaves for others: `quota`, less the probe,
    or nothing while a probe waits. A device that is full will refuse them too."""
    snd = tcb.snd
    size = mtu_probing.next_probe(tcb, quota, now)
    if size <= 0:
        return 0 if size == mtu_probing.WAIT else quota
    start, end, mss = snd.nxt, snd.nxt + size, snd.mss
    flags = ACK | PSH if tcb.send_buffer.push_at(end) else ACK
    snd.mss = size  # or a device with segmentation offload would cut it
    taken = send_segment(tcb, start, end, flags, now, emit, "path MTU probe")
    snd.mss = mss
    if not taken:
        return quota
    _now_in_flight(tcb, start, end, mss - size, now)  # Linux: one segment
    mtu_probing.sent(tcb, start, end)
    return quota - 2 * mss


def _resume(tcb: Tcb, congestion: CongestionControl, now: int) -> None:
    """Nothing is in flight: the congestion window hears for how long."""
    idle_us = now - tcb.last_data_sent_at
    congestion.on_resume(idle_us, now)
    if idle_us > tcb.rtt.rto and tcb.config.slow_start_after_idle:
        congestion.on_idle(idle_us, tcb.rtt.rto)


def _fin_fits(tcb: Tcb, end: int) -> bool:
    """Our FIN has not been sent yet, and its octet lies inside the window."""
    snd = tcb.snd
    return (snd.fin is None or snd.nxt <= snd.fin) and end < snd.una + snd.wnd


def _new_text_size(tcb: Tcb, quota: int) -> int:  # hot
    """How many bytes of new text go into the next segment, 0: none now.

    `quota`: what the congestion window leaves, whole segments. Rules, in this order:
    1. as much as is queued, the send window and the congestion window allow and the device takes;
    2. if more is waiting than that, whole segments only, unless the window is so small that no
       whole segment will ever fit: then half the largest window seen (§3.8.6.2.1 (3)), or after
       the override timer (4) whatever fits;
    3. a last partial segment waits while another one is unacknowledged (Nagle, §3.7.4, in
       Minshall's variant as Linux has it), unless a FIN goes with it or urgent text waits;
    4. what the user keeps apart (`tcb.marks`) is sent apart.
    """
    snd = tcb.snd
    end = tcb.send_buffer.end
    if tcb.marks is not None:
        end = tcb.marks.record_end(snd.nxt, end)
    unsent = end - snd.nxt
    if not unsent:
        return 0
    mss = snd.mss
    room = snd.una + snd.wnd - snd.nxt
    if 0 < unsent <= mss and unsent <= room and quota > 0 and snd.small_end <= snd.una:
        if not tcb.cork:
            tcb.override = False
            return unsent  # a dialogue: all there is, and nothing that could hold it back
    size = min(unsent, room)
    if size > snd.gso_limit:
        size = snd.gso_limit
    if snd.up is not None and size > mss:
        size = mss  # each wire segment needs an urgent pointer of its own
    if size > quota:
        if not tcb.scoreboard.in_flight:
            quota = mss  # the first segment always may go
        if size > quota:
            size = quota
    if size <= 0:
        return 0
    if size < unsent:
        if size >= mss:
            return size - size % mss
        if size == room and (tcb.override or 2 * size >= snd.max_wnd):
            tcb.override = False
            return size
        return 0
    partial = size % mss
    if partial and not tcb.fin_queued and not tcb.override and end == tcb.send_buffer.end:
        if (_is_corked(tcb) or (tcb.nagle and snd.small_end > snd.una)) and snd.up is None:
            return size - partial  # Linux: urgent text does not wait
    tcb.override = False
    return size


def _is_corked(tcb: Tcb) -> bool:
    """A last partial segment is held back. Linux: an ACK lets go of what MSG_MORE has held."""
    if tcb.cork == MORE and tcb.more_at != tcb.counters.segments_in:
        tcb.cork = UNCORKED
    return tcb.cork != UNCORKED


def _resend(tcb: Tcb, now: int, emit: Emit) -> int:
    """Send the first lost range again, as much as the windows allow.

    Returns its size in octets, 0 if it must wait, -1 if the device is full.
    """
    assert tcb.congestion is not None
    snd, board, recovery, buffer = tcb.snd, tcb.scoreboard, tcb.recovery, tcb.send_buffer
    entry = board.next_lost()
    assert entry is not None
    start, mss = entry.start, snd.mss
    edge = snd.una + snd.wnd  # SHLD-16: inside the window only
    if edge <= start == snd.una and not tcb.config.probe_with_text:
        edge = start + mss  # Linux: it is the window probe
    quota = (recovery.window(tcb.congestion) - board.pipe()) // board.mss * mss
    if quota < mss:
        if not recovery.force:
            return 0
        quota = mss
    end = min(entry.end, start + snd.gso_limit, edge)
    if end < buffer.end or end > start + mss:
        end = buffer.resend_end(start, end, mss)
    if end == entry.end < start + mss:
        end = board.collapsible(start, edge, mss)
    if tcb.marks is not None:
        end = tcb.marks.record_end(start, end)
    text_end = min(end, buffer.end)
    if text_end - start > quota:
        end = text_end = start + quota - quota % mss
    if end <= start:
        return 0
    flags = ACK | FIN if end > text_end else ACK
    # for the path: it is cut now
    too_large = recovery.phase is LOSS and recovery.undo is None
    cut = (too_large or tcb.config.cut_segments) and text_end - start > snd.mss
    if start < text_end and (cut or buffer.pushed_at(text_end)):
        flags |= PSH
    note = RESEND_NOTES[recovery.phase]
    if not send_segment(tcb, start, text_end, flags, now, emit, note):
        return -1
    weight = board.resend(start, end, now)
    board.bytes_resent -= end - text_end  # the FIN is no text
    if start == snd.una or tcb.timers.rto == NEVER:
        tcb.timers.rto = now + tcb.rtt.rto
    recovery.resent(weight, now)
    return end - start
