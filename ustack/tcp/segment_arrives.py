"""SEGMENT ARRIVES, in the order RFC 9293 §3.10.7 gives. It changes the Tcb and never sends.

LISTEN and CLOSED have no Tcb: stack/arrivals.py answers for them.
"""

from collections.abc import Sequence

from ustack.errors import ConnectionRefused, ConnectionReset
from ustack.tcp import (
    ack_policy,
    buffer_sizes,
    dubious_ack,
    ecn_handshake,
    mtu_probing,
    rates,
    tail_loss,
)
from ustack.tcp.ack_policy import ATO_US, STEADY_US
from ustack.tcp.buffer_sizes import first_window, syn_window
from ustack.tcp.chronograph import SEND_BUFFER
from ustack.tcp.establish import (
    established,
    open_passively,
    queue_syn_text,
    syn_in_syn_received,
)
from ustack.tcp.fast_open import DATA_NOT_ACKED, SYN_RETRANSMITTED, FastOpen
from ustack.tcp.handshake import agree_options, resize_segments, start_sending, window_grew
from ustack.tcp.recovery import OPEN
from ustack.tcp.segment import Reset, Segment
from ustack.tcp.seq import MASK32, older32
from ustack.tcp.state import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_2,
    LAST_ACK,
    OUR_FIN_ACKED,
    RECEIVING,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    set_state,
)
from ustack.tcp.tcb import (
    DRAINED,
    FIN_ACKED,
    NEVER,
    READABLE,
    REPORTED,
    WRITABLE,
    Tcb,
    finish,
)
from ustack.tcp.text_arrives import (
    old_text,
    receive_text,
    take_fin,
    text_after_fin,
    urgent_arrives,
)
from ustack.tcp.timestamp_echo import measure_for_window, measure_round_trip
from ustack.wire import Buffer
from ustack.wire.tcp import ACK, FIN, PSH, RST, SYN, URG

PREDICTABLE = frozenset({ACK, ACK | PSH, ACK | FIN, ACK | PSH | FIN})  # flags; see `predicted`
SYN_AGAIN_US = 2_000  # Linux TCP_TIMEOUT_MIN at 1000 Hz
PAWS_IDLE_US = 24 * 24 * 3600 * 1_000_000  # RFC 7323 §5.5: TS.Recent is stale after 24 days


def segment_arrives(tcb: Tcb, seg: Segment, now: int) -> Reset | None:  # hot
    """Digest `seg`. A returned Reset is the one thing the caller must send. `now`: µs."""
    state = tcb.state
    if state is SYN_SENT:
        return _arrives_in_syn_sent(tcb, seg, now)
    snd, rcv = tcb.snd, tcb.rcv
    flags = seg.flags
    tcb.counters.segments_in += 1
    tcb.counters.data_segments_in += bool(seg.payload)
    if state is SYN_RECEIVED and flags & (SYN | RST) == SYN and not syn_in_syn_received(tcb, seg):
        return None

    # First, check the sequence number (Table 6), after PAWS (RFC 7323 §5.3)
    seq, length = seg.seq, seg.len
    tsval = seg.tsval
    if (
        tcb.ts_on
        and (tsval is None or older32(tsval, tcb.ts_recent))
        and not _timestamp_acceptable(tcb, seg, now)
    ):
        _unacceptable(tcb, seg, now)
        return None
    # Linux: a segment that begins at RCV.NXT is taken up even if the window is zero, for its ACK
    # (the RFC's "special allowance"); an empty one may stand at the very edge of the window; and
    # what ends no earlier than our last ACK may be old text, but its ACK is not.
    if seq + length < tcb.last_ack_sent or not (
        seq < rcv.adv or seq == rcv.nxt if length else seq <= rcv.adv
    ):
        _unacceptable(tcb, seg, now)
        return None
    if seq + length > rcv.adv and not _may_exceed(tcb, seg):
        _unacceptable(tcb, seg, now)
        return None
    # Second, the RST bit; fourth, the SYN bit
    if seg.flags & (RST | SYN):
        _reset_or_challenge(tcb, seg, now)
        return None
    # Fifth, check the ACK field
    if not flags & ACK:
        return None
    if state is SYN_RECEIVED and not open_passively(tcb, seg, now):
        return Reset(seg.ack)
    # RFC 5961 §5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT
    if not snd.una - snd.max_wnd <= seg.ack <= snd.max:
        if length:
            tcb.ack_now = True
        else:
            _challenge(tcb, now)
        return None
    if tsval is not None and seq <= tcb.last_ack_sent and tcb.ts_on:  # RFC 7323 §4.3
        tcb.ts_recent = tsval
        tcb.ts_recent_at = now
    tcb.last_received_at = now
    if tcb.ecn is not None and tcb.ecn.arrives(tcb, seg):
        resize_segments(tcb)
    fin_acked = _acknowledge(tcb, seg, now)
    tcb.keep_alive_probes = 0  # the peer is there
    if seg.ack >= snd.una:
        tcb.probes = 0  # Linux: an ACK of the past is no answer to a window probe
    if fin_acked:
        set_state(tcb, OUR_FIN_ACKED[tcb.state])
        tcb.events |= FIN_ACKED
        if tcb.state is FIN_WAIT_2 and tcb.detached:
            if tcb.config.fin_wait_2_timeout_us < 0:
                finish(tcb, None)
                return Reset(seg.ack)
            tcb.timers.fin_wait_2 = now + tcb.config.fin_wait_2_timeout_us
        elif tcb.state is CLOSED:  # LAST-ACK is over
            finish(tcb, None)
            return None
    # Sixth, check the URG bit
    if flags & URG:
        urgent_arrives(tcb, seg)
    # Seventh, process the segment text; eighth, check the FIN bit
    if length and tcb.state in RECEIVING:
        return receive_text(tcb, seg, now)
    return text_after_fin(tcb, seg) if length else None


def predicted(
    tcb: Tcb,
    seq: int,
    ack: int,
    window: int,
    tsval: int | None,
    tsecr: int,
    flags: int,
    payload: Buffer,
    now: int,
) -> bool:  # hot
    """Header prediction (V. Jacobson, 1990): digest the segment that a transfer expects next.

    A connection that is established and has nothing unusual going on gets, nearly always, the next
    text in order, or an ACK of what it has sent, or both. Those need a third of the questions that
    `segment_arrives` asks, and the effect is the same; tests/netsim compares the two byte by byte.
    `seq` and `ack` are as on the wire; `flags` are PREDICTABLE: a FIN may be there, too.
    False: it is not that segment, and nothing was done.
    """
    rcv, snd, board, receive_buffer = tcb.rcv, tcb.snd, tcb.scoreboard, tcb.receive_buffer
    nxt = rcv.nxt
    size = len(payload)
    acked = (ack - snd.una) & MASK32
    flight = board.in_flight
    if (
        tcb.state is not ESTABLISHED
        or seq != nxt & MASK32
        or nxt + size + (flags & FIN) > rcv.adv
        or acked > flight
        or receive_buffer.held
        or rcv.fin is not None
        or not snd.wnd
        or tcb.ecn is not None
        or tcb.signature is not None
        or (tcb.ts_on and (tsval is None or (tsval - tcb.ts_recent) & MASK32 >= 0x8000_0000))
    ):
        return False
    if acked:
        if (
            tcb.recovery.phase is not OPEN
            or board.sacked
            or board.lost
            or board.dup_acked
            or tcb.tail_probe_end is not None
            or board.highest_sacked > snd.una
        ):
            return False
    elif not (size or flags & FIN):  # a duplicate ACK, or a new window
        return False
    tcb.counters.segments_in += 1
    if tsval is not None and nxt == tcb.last_ack_sent and tcb.ts_on:  # RFC 7323 §4.3
        tcb.ts_recent = tsval
        tcb.ts_recent_at = now
    tcb.last_received_at = now
    tcb.keep_alive_probes = tcb.probes = 0
    if acked:
        snd.una = una = snd.una + acked
        slack = board.slack
        sent_at = board.ack_lone() if acked == flight and tcb.sampler is None else None
        if sent_at is None:
            sent_at = board.ack(una)
        _advance(tcb, una, acked, sent_at, tsval, tsecr, now)
        if slack:  # a small segment counts as a full one
            acked += slack - board.slack
        tcb.counters.delivered += acked // snd.mss
        tcb.recovery.dup_acks = 0
        _grow(tcb, acked, sent_at, now)
        if tcb.sampler is not None:
            rates.on_ack(tcb, tcb.sampler, now)
        if not board.in_flight:
            tcb.timers.pto = NEVER
        elif sent_at is not None or board.part_acked != una:
            tail_loss.schedule(tcb, now)
    else:
        una = snd.una
    if (
        acked
        or snd.wl1 < nxt
        or (snd.wl1 == nxt and (not window or window << snd.wscale > snd.wnd))
    ):
        snd.wnd = window = window << snd.wscale
        if window > snd.max_wnd:
            window_grew(tcb, window)
        snd.wl1, snd.wl2 = nxt, una
    if size:
        if (
            size < (seen := rcv.mss_seen)
            or (size > seen and seen < rcv.mss)
            or (size == seen and flags & PSH)
            or tcb.ato != ATO_US
            or now - tcb.text_received_at > STEADY_US
        ):
            if ack_policy.text_arrived(tcb, size, flags, now):
                buffer_sizes.segment_size_known(tcb, rcv.mss_seen)
        receive_buffer.append(payload)
        tcb.counters.bytes_received += size
        tcb.counters.data_segments_in += 1
        tcb.text_received_at = now
        tcb.ack_owed += size
        rcv.nxt = nxt + size
        tcb.events |= READABLE
        if tsecr != tcb.ts_echoed:
            measure_for_window(tcb, tsecr, size, now)
        if tcb.config.ack_every_second_segment and tcb.ack_owed >= 2 * rcv.mss_seen:
            tcb.flush_now = True
    if flags & FIN:
        rcv.fin = rcv.nxt
        take_fin(tcb)
    return True


def continued(tcb: Tcb, texts: Sequence[Buffer], now: int) -> bool:  # hot
    """Digest more text, in large pieces, behind a segment which has just been `predicted`.

    The segments that bring it say nothing else that is new. False: they have to be taken one by
    one, and nothing was done.
    """
    rcv, receive_buffer, counters = tcb.rcv, tcb.receive_buffer, tcb.counters
    size = sum(map(len, texts))
    nxt = rcv.nxt + size
    if nxt > rcv.adv or tcb.closed or rcv.fin is not None:
        return False
    if rcv.mss_seen < rcv.mss or tcb.config.ack_every_second_segment:
        return False
    if tcb.ato != ATO_US:
        for text in texts:
            ack_policy.text_arrived(tcb, len(text), ACK, now)  # none is larger than those before
    receive_buffer.extend(texts, size)
    rcv.nxt = nxt
    tcb.snd.wl1 = nxt - len(texts[-1])
    counters.segments_in += len(texts)
    counters.data_segments_in += len(texts)
    counters.bytes_received += size
    tcb.ack_owed += size
    return True


def _timestamp_acceptable(tcb: Tcb, seg: Segment, now: int) -> bool:
    """PAWS (RFC 7323 §5.3 R1) for a segment whose timestamp is missing or older than TS.Recent.

    It judges arrivals only, never what waits in our own queue.
    """
    if seg.flags & RST:
        return True
    if seg.tsval is None:
        return not tcb.config.require_timestamps
    return now - tcb.ts_recent_at > PAWS_IDLE_US


def _may_exceed(tcb: Tcb, seg: Segment) -> bool:
    """The segment may be looked at although it ends behind the window; what lies there is cut off.

    Linux (tcp_sequence, since 6.18) cuts nothing off: it refuses such text while some is unread. A
    FIN alone may stand there.
    """
    fin = seg.flags & FIN != 0
    return (
        not tcb.config.linux_windows
        or not tcb.receive_buffer.readable
        or seg.seq + seg.len - fin <= tcb.rcv.adv
    )


def _unacceptable(tcb: Tcb, seg: Segment, now: int) -> None:
    """Answer a segment outside the window with an ACK, unless it is a RST.

    Linux: text is always answered, since its sender waits for that; empty segments and SYNs only
    at the rate of challenge ACKs, so that two confused ends cannot keep an ACK loop going.
    """
    tcb.counters.out_of_window += 1
    if seg.seq + seg.len > tcb.rcv.adv:
        tcb.counters.beyond_window += 1
    if seg.flags & RST:
        if _names_fin(tcb, seg):
            _reset_or_challenge(tcb, seg, now)
    elif seg.len and not seg.flags & SYN:
        tcb.ack_now = True
        if seg.seq < tcb.rcv.nxt:
            old_text(tcb, seg.seq, seg.seq + seg.len)
    else:
        _challenge(tcb, now)


def _challenge(tcb: Tcb, now: int) -> None:
    """Owe a challenge ACK (RFC 5961 §3, §4), within the rate limits of §7."""
    if now - tcb.challenge_at < tcb.config.challenge_ack_interval_us:
        return
    if tcb.challenge_limit.allow(now):
        tcb.challenge_at = now
        tcb.counters.challenge_acks += 1
        tcb.ack_now = True
        tcb.probe_due = "challenge ACK"


def _reset_or_challenge(tcb: Tcb, seg: Segment, now: int) -> None:
    """RST and SYN in a synchronized state (RFC 9293 §3.10.7.4, RFC 5961 §3.2 and §4.2)."""
    if not seg.flags & RST:
        _challenge(tcb, now)
        return
    if seg.seq != tcb.rcv.nxt and not _names_fin(tcb, seg):
        if seg.seq < tcb.rcv.adv:
            _challenge(tcb, now)
        return
    state = tcb.state
    if state is SYN_RECEIVED:
        finish(tcb, ConnectionReset() if tcb.passive else ConnectionRefused())
    elif state in (CLOSING, LAST_ACK, TIME_WAIT) and tcb.snd.una >= tcb.send_buffer.end:
        finish(tcb, None)  # all text was acknowledged: only the FIN's ACK is missing
    else:
        finish(tcb, ConnectionReset())


def _names_fin(tcb: Tcb, seg: Segment) -> bool:
    """A RST may stand where the FIN stood that its sender sent before (Linux: macOS does that)."""
    return seg.seq == tcb.rcv.nxt - 1 and tcb.state in (CLOSE_WAIT, LAST_ACK, CLOSING)


def _arrives_in_syn_sent(tcb: Tcb, seg: Segment, now: int) -> Reset | None:
    """RFC 9293 §3.10.7.3."""
    snd, rcv, flags = tcb.snd, tcb.rcv, seg.flags
    # First, the ACK bit. Of text on our SYN (RFC 7413) any part may be acknowledged.
    if flags & ACK and not snd.iss < seg.ack <= snd.max:
        if not tcb.retransmits:  # Linux: what was left of an old connection is gone then
            tcb.timers.rto = now + SYN_AGAIN_US
        return None if flags & RST else Reset(seg.ack)
    # Second, the RST bit
    if flags & RST:
        if flags & ACK:
            finish(tcb, ConnectionRefused())
        return None
    # Fourth, the SYN bit
    if not flags & SYN:
        return None
    tcb.counters.segments_in += 1
    tcb.last_received_at = now
    rcv.irs = seg.seq
    rcv.nxt = seg.seq + 1
    rcv.adv = rcv.nxt + syn_window(tcb.config, rcv.mss, tcb.ts_on)  # as our SYN said
    tcb.receive_buffer.limit = first_window(tcb.config, rcv.mss, tcb.ts_on)
    tcb.last_ack_sent = rcv.nxt
    agree_options(tcb, seg.options, now)
    if tcb.ecn is not None:
        ecn_handshake.answered(tcb, seg)
    start_sending(tcb)
    if flags & ACK:
        set_state(tcb, ESTABLISHED)
        resent = tcb.retransmits > 0
        established(tcb, seg, now)
        ack_policy.acknowledge_syn(tcb, now)
        if tcb.fast_open is not None:
            _text_on_syn_answered(tcb, tcb.fast_open, seg.ack, resent, now)
    else:  # simultaneous open
        set_state(tcb, SYN_RECEIVED)
        tcb.syn_due = True
        tcb.retransmits = 0
        tcb.timers.rto = NEVER
        snd.wnd = snd.max_wnd = seg.wnd
        snd.wl1, snd.wl2 = seg.seq, snd.una
    if not flags & ACK:
        queue_syn_text(tcb, seg)
    elif (seg.payload or flags & FIN) and _takes_text_on_syn_ack(tcb):
        seg.seq += 1
        return receive_text(tcb, seg, now)
    return None


def _takes_text_on_syn_ack(tcb: Tcb) -> bool:
    """Linux: only with Fast Open, and not while text of our SYN has to be sent again."""
    fast = tcb.fast_open
    return tcb.config.text_on_syn_ack or (fast is not None and not tcb.scoreboard.in_flight)


def _text_on_syn_answered(tcb: Tcb, fast: FastOpen, ack: int, resent: bool, now: int) -> None:
    """The SYN,ACK says what became of the text on our SYN: what it does not acknowledge rides on
    our ACK (RFC 7413 §4.2.2)."""
    snd, board = tcb.snd, tcb.scoreboard
    fast.resent = resent
    if not fast.size:
        return
    if ack > snd.una:
        board.begin_ack()
        board.ack(ack)
        tcb.counters.bytes_acked += ack - snd.una
        snd.una = ack
        tcb.send_buffer.release(ack)
        if not len(tcb.send_buffer):
            tcb.events |= DRAINED
        if tcb.send_full:
            _tell_writer(tcb, now)
    fast.text_acked = not board.in_flight
    if not fast.text_acked:
        fast.client_fail = SYN_RETRANSMITTED if resent else DATA_NOT_ACKED
        tcb.recovery.resend_all(board, snd.nxt)
        tcb.timers.rto = now + tcb.rtt.rto


def _acknowledge(tcb: Tcb, seg: Segment, now: int) -> bool:  # hot
    """Process SEG.ACK and SEG.WND. True: our FIN has just been acknowledged."""
    snd = tcb.snd
    ack, una, fin = seg.ack, snd.una, snd.fin
    if fin is not None and ack > fin and tcb.state is LAST_ACK and tcb.detached:
        return True  # all is over, and nobody will ask what the path was like
    window = seg.wnd << snd.wscale
    if ack != una or tcb.scoreboard.in_flight or seg.sack or tcb.tail_probe_end is not None:
        _digest_ack(tcb, seg, window, now)
    # SND.WND, unless an older segment brings it (RFC 9293 §3.10.7.4). Linux: a segment that
    # acknowledges more was sent later, even if its text is older (a retransmission). The window
    # must come along with SND.UNA, or the right edge would move without the peer's word. And a
    # smaller window that comes with no news at all was overtaken by the larger one.
    if ack > una or (ack == una and snd.wl2 <= ack and _moves_window(tcb, seg, window)):
        if not snd.wnd and window:
            _window_opened(tcb, now)
        snd.wnd = window
        if window > snd.max_wnd:
            window_grew(tcb, window)
        snd.wl1, snd.wl2 = seg.seq, ack
        if tcb.rcv.fin is not None and seg.seq > tcb.rcv.fin:
            snd.wl1 = tcb.rcv.nxt  # see _moves_window
    return fin is not None and una <= fin < ack


def _digest_ack(tcb: Tcb, seg: Segment, window: int, now: int) -> None:  # hot
    """Process SEG.ACK where something is in flight, or was: what arrived, what is lost, and what
    that says of the path. `window`: SEG.WND, bytes."""
    snd, board, congestion = tcb.snd, tcb.scoreboard, tcb.congestion
    ack, una = seg.ack, snd.una
    assert congestion is not None
    flight = board.in_flight
    padding = board.padding
    sent_at: int | None = None
    sacked, sacked_at = 0, None
    twice = 0  # bytes of a D-SACK
    sacked_before = board.sacked
    board.begin_ack()
    if seg.sack and tcb.sack_on:
        twice = dubious_ack.note_dsack(tcb, seg)
        if flight:
            sacked, sacked_at = board.sack(seg.sack, max(ack, una), snd.nxt)
    acked = ack - una
    duplicate = False
    if acked > 0:
        snd.una = ack
        if ack > snd.nxt:  # a window probe was taken
            snd.nxt = ack
        sent_at = board.ack(ack)
        if sent_at is None:
            sent_at = sacked_at
        _advance(tcb, ack, acked, sent_at, seg.tsval, seg.tsecr, now)
    elif acked == 0 and not (seg.len or twice or sacked) and not _moves_window(tcb, seg, window):
        duplicate = True  # RFC 5681 §2
    if acked == 0 and sacked_at is not None:  # sent once and arrived: valid by Karn's rule
        _measure(tcb, sacked_at, now)
    if tcb.tail_probe_end is not None:
        tail_loss.on_ack(tcb, ack, duplicate, now)
    if tcb.ecn is not None and acked >= 0 and flight and tcb.ecn.congested(tcb, seg):
        tcb.recovery.on_congestion(congestion, ack, snd.nxt, snd.mss, now)
    if (flight and (acked > 0 or sacked or duplicate)) or twice:
        sampler = tcb.sampler
        if sampler is not None:
            rates.note_newest(board, sampler)
        # A small segment counts as a full one
        arrived = max(acked, 0) + board.padding - padding + board.sacked - sacked_before + twice
        tcb.counters.delivered += arrived // snd.mss
        if (
            tcb.recovery.phase is OPEN
            and not (sacked or duplicate or twice or board.sacked or board.lost)
            and not (board.original < board.highest_sacked or board.dup_acked)
        ):
            tcb.recovery.dup_acks = 0
            grow = arrived
        else:
            acked = max(acked, 0)
            grow = dubious_ack.digest(tcb, seg, acked, sacked, arrived, duplicate, sacked_at, now)
        if grow:
            _grow(tcb, grow, sent_at, now)
        if sampler is not None:
            rates.on_ack(tcb, sampler, now)
        if acked > 0 and board.part_acked != ack:
            tail_loss.schedule(tcb, now)


def _advance(
    tcb: Tcb, ack: int, acked: int, sent_at: int | None, tsval: int | None, tsecr: int, now: int
) -> None:  # hot
    """SND.UNA has moved to `ack`: measure, free the text, and set the timers anew."""
    board, timers, buffer = tcb.scoreboard, tcb.timers, tcb.send_buffer
    whole = board.part_acked != ack
    if sent_at is not None:
        _measure(tcb, sent_at, now)
    elif whole and tcb.ts_on and tsval is not None and tsecr:
        measure_round_trip(tcb, tsecr, now)
    buffer.release(ack)
    empty = buffer.end == buffer.start
    if tcb.marks is not None and tcb.marks.acknowledged(ack, now):
        tcb.events |= REPORTED
    tcb.counters.bytes_acked += acked
    tcb.retransmits = 0
    tcb.soft_error = None  # Linux: what was wrong is over
    user_timeout = tcb.config.user_timeout_us
    if board.in_flight:
        # Linux: a segment's timer goes on until all of it is acknowledged
        if whole or timers.rto == NEVER:
            timers.rto = now + tcb.rtt.rto  # RFC 6298 §5.2 and §5.3
        tcb.stalled_since = now
    else:
        timers.rto = NEVER
        tcb.stalled_since = NEVER if empty else now
        if empty and tcb.chronograph is not None:
            tcb.chronograph.idle(now)
    if user_timeout is not None:
        timers.user = now + user_timeout if tcb.stalled_since != NEVER else NEVER
    elif timers.user != NEVER:
        timers.user = NEVER
    if tcb.mtu is not None and tcb.mtu.size and ack >= tcb.mtu.end:
        mtu_probing.acknowledged(tcb)
    if empty:
        tcb.events |= DRAINED
    if tcb.send_full:
        _tell_writer(tcb, now)


def _measure(tcb: Tcb, newest_at: int, now: int) -> None:  # hot
    """What was sent once has arrived, the newest of it sent at `newest_at`.

    Linux: the RTO needs the whole time that the oldest waited for its ACK (RFC 6298 §3: at least
    one per round trip), and only the path's own round trip is what the newest says.
    """
    oldest_at = tcb.scoreboard.oldest_at
    assert oldest_at is not None
    tcb.rtt.sample(now - oldest_at, tcb.snd.una, tcb.snd.nxt)
    if oldest_at != newest_at:
        tcb.rtt.sample_newest(now - newest_at)


def _tell_writer(tcb: Tcb, now: int) -> None:  # hot
    """The send buffer was full, and some of it was acknowledged: the user may write again once a
    third is free."""
    buffer = tcb.send_buffer
    if not tcb.usage.limited:  # else a larger buffer would only wait longer
        buffer_sizes.expand_send_buffer(tcb)
    if len(buffer) <= buffer.limit * 2 // 3:
        tcb.send_full = False
        tcb.events |= WRITABLE
        if tcb.chronograph is not None:
            tcb.chronograph.stop(SEND_BUFFER, now)


def _grow(tcb: Tcb, acked: int, sent_at: int | None, now: int) -> None:  # hot
    """The congestion window may grow by `acked`, newly delivered, if it was in use.

    `sent_at`: when the newest of it left, None if that says nothing of the round trip.
    """
    congestion = tcb.congestion
    assert congestion is not None
    rtt = now - sent_at if sent_at is not None else None
    usage = tcb.usage
    limited = usage.limited
    if not limited and (cwnd := congestion.cwnd) < congestion.ssthresh:
        limited = cwnd < 2 * usage.most
    congestion.on_ack(acked, tcb.scoreboard.in_flight, rtt, not limited, now)


def _moves_window(tcb: Tcb, seg: Segment, window: int) -> bool:
    """An ACK that takes SND.WND along is no duplicate (RFC 5681 §2 (e)).

    Linux: newer text before it, or a window that grows or closes; one that shrinks is no reason.
    """
    snd, fin = tcb.snd, tcb.rcv.fin
    if fin is not None and seg.seq > fin + 1:
        return False  # not the peer's, whose FIN was its last: its true windows would be old
    return seg.seq > snd.wl1 or (seg.seq == snd.wl1 and (window > snd.wnd or not window))


def _window_opened(tcb: Tcb, now: int) -> None:
    """The peer's window was zero. What was in flight may have been thrown away: send it again."""
    tcb.timers.persist = NEVER
    tcb.persist_shift = 0
    if tcb.stalled_since == NEVER:
        tcb.timers.user = NEVER  # the first probe had started it
    if tcb.scoreboard.in_flight and not tcb.config.probe_with_text:
        return  # Linux: the retransmission timer goes on
    tcb.rtt.reset_backoff()
    if tcb.retransmits or tcb.probes:
        tcb.retransmits = tcb.probes = 0
        tcb.recovery.resend_all(tcb.scoreboard, tcb.snd.nxt)
    if tcb.scoreboard.in_flight:
        tcb.timers.rto = now + tcb.rtt.rto
