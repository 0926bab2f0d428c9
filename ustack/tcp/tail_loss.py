"""Tail loss probe (RFC 8985 §7): when the last segments of a flight are lost, nothing that follows
can tell. So after two round trips of silence one segment is sent that will be answered by SACK.
"""

from ustack.tcp.recovery import FAST, LOSS, OPEN
from ustack.tcp.tcb import NEVER, Tcb

MAX_ACK_DELAY_US = 200_000  # Linux TCP_RTO_MIN: a lone segment may wait for a delayed ACK
TIMER_SLACK_US = 2_000  # Linux TCP_TIMEOUT_MIN at 1000 Hz


def schedule(tcb: Tcb, now: int) -> None:  # hot
    """Set or stop the probe timer after new text was sent or acknowledged (§7.2)."""
    timers, board = tcb.timers, tcb.scoreboard
    srtt = tcb.rtt.srtt
    if (
        not tcb.probing_tail
        or not board.in_flight
        or board.sacked
        or board.lost
        or tcb.tail_probe_end is not None
        or not srtt
        or tcb.recovery.phase is FAST
        or tcb.recovery.phase is LOSS
        or not tcb.snd.wnd
    ):
        timers.pto = NEVER
        return
    wait = 2 * srtt + (TIMER_SLACK_US if board.in_flight > tcb.snd.mss else MAX_ACK_DELAY_US)
    timers.pto = min(now + wait, timers.rto)


def on_ack(tcb: Tcb, ack: int, dsack: bool, now: int) -> None:
    """An ACK has come while a probe was out (§7.4).

    If it covers the probe, and the peer does not say that it got the probed text twice, the probe
    has repaired a loss, and the congestion window answers for it.
    """
    end = tcb.tail_probe_end
    if end is None or (ack < end and not dsack):
        return
    tcb.tail_probe_end = None
    if tcb.tail_probe_resent and not dsack and tcb.recovery.phase is OPEN:
        assert tcb.congestion is not None
        tcb.congestion.on_loss(max(tcb.scoreboard.in_flight, tcb.snd.mss), now)
        tcb.congestion.on_recovered(now)
