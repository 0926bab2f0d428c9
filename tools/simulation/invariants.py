"""What holds for every connection after every turn, whatever has happened (RFC 9293 §3.4)."""

from tools.simulation.observer import BrokenRule
from ustack.tcp.buffer_sizes import MAX_UNSCALED_WINDOW
from ustack.tcp.scoreboard import Scoreboard
from ustack.tcp.state import CLOSED, SYN_RECEIVED, SYN_SENT, TIME_WAIT
from ustack.tcp.tcb import NEVER, Tcb


def check_connection(tcb: Tcb, *, promised: int = 0) -> None:
    """Raises BrokenRule if `tcb` contradicts itself, or waits for what no timer will bring.

    `promised`: what was there or could still come when the user made the receive buffer smaller,
    bytes.
    """
    if tcb.closed or tcb.state in (CLOSED, TIME_WAIT):
        return
    snd, rcv, timers = tcb.snd, tcb.rcv, tcb.timers
    who = f"{tcb.local.address} {tcb.state.name}"
    if not snd.iss <= snd.una <= snd.nxt <= snd.max:
        raise BrokenRule(f"{who}: SND.UNA {snd.una}, SND.NXT {snd.nxt}, highest {snd.max}")
    if tcb.state in (SYN_SENT, SYN_RECEIVED):
        if timers.rto == NEVER and not tcb.syn_due:
            raise BrokenRule(f"{who}: the SYN has no timer")
        return
    if not rcv.nxt <= rcv.adv:
        raise BrokenRule(f"{who}: RCV.NXT {rcv.nxt} beyond the window's edge {rcv.adv}")
    check_sending(tcb, who)
    buffer = tcb.receive_buffer
    # the limit is the window: with autotuning, it is less than the ceiling
    size = max(buffer.limit, buffer.ceiling, promised)
    if tcb.fast_open is not None and tcb.passive:
        size += min(size, MAX_UNSCALED_WINDOW)  # text of the SYN; the SYN,ACK offers a whole window
    if buffer.readable > size + (1 << rcv.wscale):
        raise BrokenRule(f"{who}: {buffer.readable} bytes wait in a buffer of {size}")
    if buffer.held > 2 * size:
        raise BrokenRule(f"{who}: {buffer.held} bytes are held for reassembly")
    if tcb.ack_owed and timers.delayed_ack == NEVER and not tcb.ack_now and not tcb.dirty:
        raise BrokenRule(f"{who}: an ACK is owed and no timer runs for it")


def check_sending(tcb: Tcb, who: str) -> None:
    """The scoreboard adds up, and something moves on what waits to be sent."""
    snd, timers, board = tcb.snd, tcb.timers, tcb.scoreboard
    if board.in_flight != snd.nxt - snd.una:
        raise BrokenRule(f"{who}: {board.in_flight} in flight, SND.NXT - SND.UNA is another number")
    check_scoreboard(board, snd.una, who)
    if tcb.dirty:
        return
    waiting = snd.nxt < tcb.send_buffer.end or (
        tcb.fin_queued and (snd.fin is None or snd.nxt <= snd.fin)
    )
    if board.in_flight and timers.rto == NEVER:
        raise BrokenRule(f"{who}: text is in flight and no retransmission timer runs")
    running = min(timers.persist, timers.rto, timers.pace) != NEVER
    if waiting and not board.in_flight and not running:
        raise BrokenRule(f"{who}: text waits and no timer runs")


def check_scoreboard(board: Scoreboard, start: int, who: str) -> None:
    """Its ranges follow each other from `start`, and its sums are theirs, in whole segments."""
    ranges = board.ranges()
    position = start
    slack = sacked = lost = resent = owed = 0
    for entry in ranges:
        if entry.start != position or entry.end <= entry.start:
            raise BrokenRule(f"{who}: the scoreboard has a gap at {position}: {ranges}")
        position = entry.end
        size = entry.end - entry.start + entry.slack
        if size % board.mss:
            raise BrokenRule(f"{who}: {entry} holds no whole segments of {board.mss}")
        slack += entry.slack
        sacked += size * entry.sacked
        lost += size * entry.lost
        resent += size * entry.resent
        owed += size * (entry.lost and not entry.resent)
    sums = board.slack, board.sacked, board.lost, board.resent, board.owed
    if sums != (slack, sacked, lost, resent, owed):
        raise BrokenRule(f"{who}: slack, sacked, lost, resent, owed are {sums}, but {ranges}")
