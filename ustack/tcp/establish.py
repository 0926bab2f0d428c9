"""The handshake is completed: what an ACK of our SYN, or a SYN of the peer's, changes in a Tcb.

Used by SEGMENT ARRIVES (RFC 9293 §3.10.7.3 and §3.10.7.4) in SYN-SENT and SYN-RECEIVED.
"""

from ustack.tcp import ack_policy, buffer_sizes, rates
from ustack.tcp.buffer_sizes import MAX_UNSCALED_WINDOW
from ustack.tcp.handshake import bound_segments
from ustack.tcp.segment import Segment
from ustack.tcp.state import ESTABLISHED, FIN_WAIT_1, set_state
from ustack.tcp.tcb import CONNECTED, NEVER, READABLE, Tcb
from ustack.tcp.timestamp_echo import measure_round_trip
from ustack.wire.tcp import ACK, SYN


def syn_in_syn_received(tcb: Tcb, seg: Segment) -> bool:
    """True: go on with `seg` as if its SYN were not there, or let the SYN be challenged.

    The peer's own SYN again means that our SYN,ACK was lost: it is sent again. A SYN,ACK is the
    second half of a simultaneous open (RFC 9293 Figure 7); it stands one left of RCV.NXT.
    """
    if seg.seq != tcb.rcv.irs:
        return True
    if not seg.flags & ACK:
        tcb.syn_due = True
        return False
    seg.flags &= ~SYN
    seg.seq += 1
    seg.len -= 1
    seg.wnd >>= tcb.snd.wscale  # a SYN's window is not scaled (RFC 7323 §2.2), but will be below
    tcb.ack_now = True
    return True


def queue_syn_text(tcb: Tcb, seg: Segment) -> None:
    """Keep text that came on the SYN until the handshake is complete (RFC 9293 §3.10.7.2).

    Linux: it is not acknowledged with the SYN; the peer resends it if it must.
    """
    if seg.payload:
        size = min(tcb.receive_buffer.limit, MAX_UNSCALED_WINDOW)
        tcb.receive_buffer.insert(seg.seq + 1, bytes(seg.payload[:size]))


def open_passively(tcb: Tcb, seg: Segment, now: int) -> bool:
    """The ACK that completes the handshake in SYN-RECEIVED; False if it is a wrong one."""
    if not tcb.snd.una < seg.ack <= tcb.snd.max:
        return False
    set_state(tcb, ESTABLISHED)
    if tcb.fin_queued:
        set_state(tcb, FIN_WAIT_1)
    resent = tcb.retransmits
    established(tcb, seg, now, sent_twice=not tcb.passive)
    if tcb.fast_open is None:
        tcb.last_data_sent_at = now  # Linux: a connection is idle since it is there
    if tcb.fast_open is not None:
        _confirmed(tcb, resent, now)
    receive_buffer, rcv = tcb.receive_buffer, tcb.rcv
    if receive_buffer.out_of_order:  # text that came with the SYN
        rcv.nxt = receive_buffer.collect(rcv.nxt)
        rcv.adv = max(rcv.adv, rcv.nxt)
        tcb.ack_now = True
        tcb.events |= READABLE
    return True


def _confirmed(tcb: Tcb, resent: int, now: int) -> None:
    """The handshake of a Fast Open is complete: what was sent before counts from here on."""
    if tcb.passive:
        tcb.events &= ~CONNECTED  # the user has had it since the SYN
    tcb.probing_tail = tcb.sack_on and tcb.config.tail_loss_probe
    board = tcb.scoreboard
    if board.in_flight:
        if resent > 1:
            board.mark_all_lost()  # Linux: the second timeout of the SYN,ACK speaks for all of it
        tcb.timers.rto = now + tcb.rtt.rto


def established(tcb: Tcb, seg: Segment, now: int, *, sent_twice: bool = False) -> None:
    """Our SYN is acknowledged: take over the window and measure the first round trip.

    `sent_twice`: in a simultaneous open, first alone and then with an ACK. Nobody knows which of
    them is acknowledged (Karn's rule, RFC 6298 §3), but none was lost.
    """
    snd = tcb.snd
    if tcb.retransmits or sent_twice:
        if tcb.ts_on and seg.tsval is not None and seg.tsecr:
            measure_round_trip(tcb, seg.tsecr, now)
    if tcb.retransmits:
        if not tcb.rtt.srtt:
            tcb.rtt.distrust_initial()
        if tcb.retransmits > 1 and tcb.congestion is not None:
            tcb.congestion.on_rto(0, 0, now, repeated=True)  # RFC 6928 §2: begin with one segment
    elif not sent_twice and tcb.timers.rto is not NEVER:
        fast = tcb.fast_open
        if fast is None:
            tcb.rtt.sample(now - tcb.last_data_sent_at, snd.una, snd.nxt)
        elif not tcb.passive or seg.ack == snd.iss + 1:  # else text that left later tells it
            tcb.rtt.sample(now - fast.syn_at, snd.una, snd.nxt)
    elif not sent_twice:  # nobody remembers our SYN
        if tcb.ts_on and seg.tsval is not None and seg.tsecr:
            measure_round_trip(tcb, seg.tsecr, now)
        else:
            tcb.rtt.distrust_initial()
    tcb.retransmits = 0
    tcb.rtt.reset_backoff()
    tcb.stalled_since = NEVER
    tcb.timers.rto = tcb.timers.user = NEVER
    snd.una = snd.iss + 1
    snd.nxt = max(snd.nxt, snd.una)
    snd.wnd = seg.wnd if seg.flags & SYN else seg.wnd << snd.wscale
    if not tcb.passive or tcb.fast_open is not None:  # Linux: also what the peer's SYN said
        snd.max_wnd = max(snd.max_wnd, snd.wnd)
    else:
        snd.max_wnd = snd.wnd
    bound_segments(tcb)
    snd.wl1, snd.wl2 = seg.seq, seg.ack
    tcb.events |= CONNECTED
    tcb.counters.delivered += 1
    tcb.text_received_at = now
    ack_policy.guess_segment_size(tcb)
    buffer_sizes.established(tcb)
    if tcb.pacer is not None:
        rates.established(tcb, tcb.pacer, now)
    if tcb.config.keep_alive:
        tcb.timers.keep_alive = now + tcb.config.keep_alive_idle_us
