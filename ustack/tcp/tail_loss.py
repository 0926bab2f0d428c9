"""Tail loss probe (RFC 8985 §7): when the last segments of a flight are lost, nothing that follows
can tell. So after two round trips of silence one segment is sent that will be answered by SACK.
"""

from ustack.tcp.recovery import FAST, LOSS
from ustack.tcp.tcb import NEVER, Tcb

MAX_ACK_DELAY_US = 200_000  # Linux TCP_RTO_MIN: a lone segment may wait for a delayed ACK
INITIAL_PTO_US = 1_000_000  # RFC 8985 §7.2: without a sample of the round trip
TIMER_SLACK_US = 2_000  # Linux TCP_TIMEOUT_MIN at 1000 Hz
TICK_US = 1_000  # what is due within a tick is due now


def schedule(tcb: Tcb, now: int) -> None:  # hot
    """Set or stop the probe timer after text was acknowledged (§7.2)."""
    timers, board = tcb.timers, tcb.scoreboard
    srtt = tcb.rtt.srtt
    if (
        not tcb.probing_tail
        or not board.in_flight
        or board.sacked
        or board.lost
        or tcb.tail_probe_end is not None
        or tcb.recovery.phase is FAST
        or tcb.recovery.phase is LOSS
        or not tcb.snd.wnd
    ):
        timers.pto = NEVER
        return
    wait = INITIAL_PTO_US
    if srtt:
        alone = board.in_flight + board.slack <= tcb.snd.mss
        wait = 2 * srtt + (MAX_ACK_DELAY_US if alone else TIMER_SLACK_US)
    pto = now + wait
    timers.pto = pto if pto < timers.rto else timers.rto


def after_sending(tcb: Tcb, now: int) -> None:  # hot
    """New text has left: the probe follows the last of it (§7.2).

    Linux: but no later than an RTO after the oldest segment in flight was sent, unless that has
    come already: then the probe takes the place of the RTO, too.
    """
    schedule(tcb, now)
    timers = tcb.timers
    if timers.pto != NEVER:
        rto = tcb.scoreboard.head_sent_at() + tcb.rtt.rto
        if rto <= now + TICK_US:
            timers.rto = NEVER
            schedule(tcb, now)
            timers.rto = timers.pto
        else:
            timers.rto = rto
            if timers.pto > rto:
                timers.pto = rto


def after_lone_segment(tcb: Tcb, now: int) -> None:  # hot
    """`after_sending` in a dialogue: one segment is all that is in flight, and nothing is lost."""
    timers, rtt = tcb.timers, tcb.rtt
    rto = now + rtt.rto
    if not tcb.probing_tail or tcb.tail_probe_end is not None:
        timers.pto = NEVER
        if timers.rto == NEVER:
            timers.rto = rto  # RFC 6298 §5.1
        return
    timers.rto = rto
    pto = now + 2 * rtt.srtt + MAX_ACK_DELAY_US if rtt.srtt else now + INITIAL_PTO_US
    timers.pto = pto if pto < rto else rto


def give_up(tcb: Tcb) -> None:
    """The window is cut for another reason, so the probe that is out tells nothing any more."""
    if tcb.tail_probe_end is None:
        return
    tcb.tail_probe_end = None
    if tcb.tail_probe_resent and tcb.recovery.undo is not None:
        tcb.recovery.undo.on_tail_probe(tcb.tail_probe_resent)


def on_ack(tcb: Tcb, ack: int, duplicate: bool, now: int) -> None:
    """An ACK has come while a probe was out (§7.4) that is no D-SACK for it.

    If it covers more than the probe, the probe has repaired a loss, and the congestion window
    answers for it. `duplicate`: it brings no news at all, so the original had arrived too.
    """
    end = tcb.tail_probe_end
    if end is None or ack < end:
        return
    if not tcb.tail_probe_resent or duplicate:
        tcb.tail_probe_end = None
    elif ack > end:
        tcb.tail_probe_end = None
        assert tcb.congestion is not None
        tcb.recovery.on_tail_loss(tcb.congestion, now)
