"""Packetization-layer path MTU discovery (RFC 4821, RFC 8899): text itself tries larger packets.

It needs no ICMP. `mtu_probing` 1 begins it when a connection seems to have met a black hole, which
swallows packets above a size without a word; 2 at once, from `base_mss` upwards. The rules are
Linux's (tcp_mtu_probe()). Decides; `transmit` sends the probe.
"""

from ustack.tcp.handshake import resize_segments, segment_room
from ustack.tcp.mtu_search import MtuSearch
from ustack.tcp.recovery import FAST, OPEN
from ustack.tcp.scoreboard import DUP_THRESH
from ustack.tcp.tcb import Tcb, option_bytes

MIN_CWND_SEGMENTS = 11  # Linux: with less a lost probe could not be told from the end of the flight
WAIT = -1  # `next_probe`: send nothing until the window lets a probe and its followers out


def next_probe(tcb: Tcb, quota: int, now: int) -> int:
    """Bytes of new text that should leave as one packet larger than the others; 0: no probe, WAIT.

    `quota`: what the congestion window leaves. A probe is followed by enough segments for its loss
    to be seen at once (RFC 4821 §7.3).
    """
    search, snd, board = tcb.mtu, tcb.snd, tcb.scoreboard
    assert search is not None and tcb.congestion is not None
    mss = snd.mss
    if (
        search.size
        or tcb.recovery.phase is not OPEN
        or board.sacked + board.lost + board.dup_acked
        or tcb.congestion.cwnd < MIN_CWND_SEGMENTS * mss
        or tcb.receive_buffer.held
    ):
        return 0
    if search.high - search.low < max(tcb.config.mtu_probe_threshold, 1):
        if now - search.since >= tcb.config.mtu_probe_interval_us:
            search.restart(segment_room(tcb), now)
        return 0
    payload = search.middle() - option_bytes(tcb)
    needed = payload + (DUP_THRESH + 1) * mss
    if tcb.send_buffer.end - snd.nxt < needed or snd.wnd < needed:
        return 0
    if snd.nxt + needed > snd.una + snd.wnd:
        return WAIT
    if quota < 2 * mss:
        return WAIT if board.in_flight else 0
    return payload


def sent(tcb: Tcb, start: int, end: int) -> None:
    """The probe [start, end) has left. It counts as two segments, so the window shrinks by one."""
    search, congestion, mss = tcb.mtu, tcb.congestion, tcb.snd.mss
    assert search is not None and congestion is not None
    reserved = min(mss, congestion.cwnd - mss)
    congestion.cwnd -= reserved
    search.sent(end - start + option_bytes(tcb), start, end, reserved)


def acknowledged(tcb: Tcb) -> None:
    """The probe's text is acknowledged: its size is the segment size now."""
    search = tcb.mtu
    assert search is not None
    search.succeeded()
    resize_segments(tcb)


def before_recovery(tcb: Tcb) -> tuple[int, int] | None:
    """Recovery may begin, and it would be for the probe: the windows as they are. Else None."""
    search, congestion = tcb.mtu, tcb.congestion
    assert congestion is not None
    if (
        search is None
        or not search.size
        or tcb.recovery.phase is not OPEN
        or tcb.snd.una != search.start
    ):
        return None
    return congestion.cwnd, congestion.ssthresh


def after_recovery(tcb: Tcb, before: tuple[int, int] | None, now: int) -> None:
    """If it has begun: the probe is lost and its followers are not. That is no congestion, so the
    windows return to what they were (RFC 4821 §7.6.2)."""
    search, congestion = tcb.mtu, tcb.congestion
    if before is None or tcb.recovery.phase is not FAST:
        return
    assert search is not None and congestion is not None
    cwnd, ssthresh = before
    tcb.scoreboard.mark_lost(search.end)
    tcb.recovery.excuse(tcb.snd.nxt)
    congestion.on_undo(cwnd + search.reserved, ssthresh, now)
    search.failed()


def timed_out(tcb: Tcb, now: int) -> None:
    """The retransmission timer has expired. After R1 (RFC 9293 §3.8.3) without progress the size
    may be the reason (RFC 4821 §7.7, RFC 2923 §2.1): the segments become smaller."""
    search, config = tcb.mtu, tcb.config
    if search is not None:
        search.inconclusive()
    if not (config.mtu_probing and config.path_mtu_discovery):
        return
    if tcb.retransmits < config.r1_retransmissions:
        return
    mss = config.base_mss
    if search is not None:
        mss = min(mss, (search.low - option_bytes(tcb)) // 2)
    mss = max(mss, config.mtu_probe_floor)
    if min(tcb.snd.mss, tcb.scoreboard.in_flight) <= mss:
        return  # what is lost is no larger than that
    size = mss + option_bytes(tcb)
    if search is None:
        tcb.mtu = MtuSearch(size, segment_room(tcb), now)
    else:
        search.lower(size)
    resize_segments(tcb)
