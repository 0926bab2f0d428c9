"""An ACK that tells of loss, reordering or duplicates, or comes while loss recovery is under way.

What `Recovery` decides from numbers is put together here from the Tcb and the segment, and the
timers follow from it.
"""

from ustack.tcp import mtu_probing, tail_loss
from ustack.tcp.handshake import timestamp
from ustack.tcp.recovery import FAST, LOSS, OPEN, AckNews
from ustack.tcp.segment import Segment
from ustack.tcp.seq import older32
from ustack.tcp.tcb import NEVER, Tcb

MIN_RENEGED_US = 10_000  # Linux tcp_check_sack_reneging


def note_dsack(tcb: Tcb, seg: Segment) -> int:
    """If the first SACK block of `seg` is a D-SACK (RFC 2883 §4), take it in.

    Returns how much the peer says that it got twice; 0: nothing, or nothing that is believable.
    """
    blocks = seg.sack
    start, end = blocks[0]
    if start >= seg.ack and (
        len(blocks) < 2 or start < blocks[1][0] or end > blocks[1][1] or start >= end
    ):
        return 0
    tcb.counters.dsacks_received += 1
    board, recovery = tcb.scoreboard, tcb.recovery
    size = end - start
    if not 0 < size <= tcb.snd.max_wnd:
        return 0
    size += -size % tcb.snd.mss  # Linux: in segments
    tcb.counters.dsack_bytes += size
    if tcb.counters.dsack_bytes > board.retransmissions * tcb.snd.mss:
        return 0  # Linux: it was not us who sent so much twice
    below = end <= tcb.snd.una
    if below or board.was_resent(start, end):
        if recovery.undo is not None:
            recovery.undo.on_dsack(size, end)
        if not below and start < board.highest_sacked:
            recovery.reordered(board.highest_sacked - start, tcb.snd.mss)
    if size > tcb.snd.mss or tcb.tail_probe_end != end:
        recovery.rack.on_dsack(tcb.snd.una, tcb.snd.nxt)
    elif seg.ack >= end:  # a tail loss probe was not needed; no timer of RACK was too hasty
        tcb.tail_probe_end = None
    return size


def digest(
    tcb: Tcb,
    seg: Segment,
    acked: int,
    sacked: int,
    delivered: int,
    duplicate: bool,
    sacked_at: int | None,
    now: int,
) -> int:
    """Let loss recovery digest an ACK that the scoreboard has recorded, and set the timers.

    `acked`, `sacked`: newly; `delivered` by either, and by D-SACK; `sacked_at`: when the newest of
    the text newly SACKed was sent, if only once. Returns by how much cwnd may grow, 0: not at all.
    """
    snd, board, recovery, timers = tcb.snd, tcb.scoreboard, tcb.recovery, tcb.timers
    assert tcb.congestion is not None
    news = AckNews(
        una=snd.una,
        nxt=snd.nxt,
        acked=acked,
        sacked=sacked,
        delivered=delivered,
        duplicate=duplicate,
        early_echo=_early_echo(tcb, seg),
        mss=snd.mss,
        now=now,
    )
    if acked and board.first_is_sacked():
        # RFC 2018 §8: what the peer had reported it has no longer. Linux: the timer confirms it
        timers.rto = now + max(tcb.rtt.srtt >> 1, MIN_RENEGED_US)
        return recovery.growth(board, tcb.congestion, news, 0)
    waiting = timers.pto != NEVER or timers.reorder != NEVER
    episodes = recovery.episodes
    before = mtu_probing.before_recovery(tcb)
    grow = recovery.on_ack(board, tcb.congestion, tcb.rtt, news)
    tcb.counters.delivered += (news.delivered - delivered) // snd.mss  # duplicate ACKs count, too
    mtu_probing.after_recovery(tcb, before, now)
    if recovery.episodes != episodes:
        tail_loss.give_up(tcb)
    wait = recovery.reorder_wait
    timers.reorder = now + wait if wait and board.in_flight else NEVER
    if wait or recovery.phase is FAST or recovery.phase is LOSS:
        timers.pto = NEVER  # something else will tell
    if not board.in_flight:
        return grow
    head_sent_at = board.head_sent_at()
    whole = acked and board.part_acked != snd.una
    if whole and (waiting or wait) and (recovery.phase is not OPEN or board.sacked or board.lost):
        # Linux tcp_rearm_rto, RFC 7765: what has passed since the segment left counts
        timers.rto = max(head_sent_at + tcb.rtt.rto, now + 1)
    elif not whole and sacked_at is not None and sacked_at < head_sent_at:
        timers.rto = now + tcb.rtt.rto  # Linux: the SACK is of something sent before the head was
    return grow


def _early_echo(tcb: Tcb, seg: Segment) -> bool:
    """`seg` echoes a timestamp from before the first retransmission of this cut."""
    undo = tcb.recovery.undo
    if undo is None or undo.resent_at is None or not tcb.ts_on:
        return False
    if seg.tsval is None or not seg.tsecr:
        return False
    return older32(seg.tsecr, timestamp(tcb, undo.resent_at))


def on_reorder_timeout(tcb: Tcb, now: int) -> None:
    """What was given time to arrive late has not arrived (RFC 8985 §6.3)."""
    assert tcb.congestion is not None
    snd, board, recovery = tcb.snd, tcb.scoreboard, tcb.recovery
    if not board.in_flight:
        return
    episodes = recovery.episodes
    before = mtu_probing.before_recovery(tcb)
    recovery.on_reorder_timeout(
        board, tcb.congestion, tcb.rtt, una=snd.una, nxt=snd.nxt, mss=snd.mss, now=now
    )
    mtu_probing.after_recovery(tcb, before, now)
    if recovery.episodes != episodes:
        tail_loss.give_up(tcb)
    if recovery.reorder_wait:
        tcb.timers.reorder = now + recovery.reorder_wait
    tcb.timers.rto = max(board.head_sent_at() + tcb.rtt.rto, now + 1)
