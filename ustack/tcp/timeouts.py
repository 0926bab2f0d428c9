"""Timeouts of RFC 9293 §3.10.8 and the other timers of a connection.

TIME-WAIT has no timer here: stack/time_wait.py holds it.
"""

from ustack.errors import ConnectionTimedOut, UStackError
from ustack.tcp import ack_policy, dubious_ack, mtu_probing, tail_loss
from ustack.tcp.memory_pressure import is_dispensable
from ustack.tcp.state import FIN_WAIT_2, SYN_RECEIVED, SYN_SENT
from ustack.tcp.tcb import NEVER, Tcb, finish, report


def deadline(tcb: Tcb) -> int:  # hot
    """When the earliest timer of `tcb` expires (µs), or NEVER."""
    timers = tcb.timers
    return min(
        timers.rto,
        timers.pto,
        timers.pace,
        timers.reorder,
        timers.delayed_ack,
        timers.persist,
        timers.keep_alive,
        timers.user,
        timers.fin_wait_2,
    )


def timeout(tcb: Tcb, now: int) -> None:
    """Do what the timers that are due by `now` ask for. Sends nothing: it marks what is owed.

    Each timer that fires is stopped or set anew here, so none can be due twice.
    """
    timers = tcb.timers
    if now >= timers.user:
        finish(tcb, tcb.soft_error or ConnectionTimedOut("user timeout"))
        return
    if now >= timers.fin_wait_2:
        timers.fin_wait_2 = NEVER
        if tcb.state is FIN_WAIT_2:
            # Linux: after a full close nobody reads, so a peer that never closes is forgotten
            finish(tcb, None)
            return
    if now >= timers.delayed_ack:
        timers.delayed_ack = NEVER
        if tcb.compression is None or not tcb.compression.expired():
            ack_policy.waited_in_vain(tcb)
        tcb.ack_now = True
    if now >= timers.pace:
        timers.pace = NEVER  # what waits for it leaves with the next transmit
    if now >= timers.reorder:
        timers.reorder = NEVER
        dubious_ack.on_reorder_timeout(tcb, now)
    if now >= timers.pto:
        timers.pto = NEVER
        if tcb.scoreboard.in_flight:
            tcb.probe_due = "tail loss probe"
            timers.rto = now + tcb.rtt.rto  # RFC 8985 §7.3: the probe takes the place of the RTO
    if now >= timers.rto:
        timers.rto = NEVER
        if tcb.state is SYN_SENT or tcb.state is SYN_RECEIVED:
            _syn_timeout(tcb, now)
        else:
            _retransmission_timeout(tcb, now)
        if tcb.closed:
            return
    if now >= timers.persist:
        timers.persist = NEVER
        _persist_timeout(tcb, now)
        if tcb.closed:
            return
    if now >= timers.keep_alive:
        timers.keep_alive = NEVER
        _keep_alive_timeout(tcb, now)


def finish_and_reset(tcb: Tcb, error: UStackError) -> None:
    """Give up and tell the peer so, if it should be there after all (RFC 9293 §3.10.8, USER)."""
    tcb.reset_due = True
    finish(tcb, error)


def _syn_timeout(tcb: Tcb, now: int) -> None:
    """Our SYN or SYN,ACK was not answered in time (RFC 6298 §5.5 to 5.7, MUST-22)."""
    config = tcb.config
    linear = 0
    if tcb.passive:
        limit = config.syn_ack_retransmissions + 1  # Linux: Fast Open does not give up so soon
    else:
        linear = config.syn_linear_timeouts if tcb.state is SYN_SENT else 0
        limit = config.syn_retransmissions + linear
    if tcb.retransmits >= limit:
        finish(tcb, tcb.soft_error or ConnectionTimedOut("no answer to SYN"))
        return
    tcb.retransmits += 1
    if tcb.retransmits > linear:
        tcb.rtt.back_off()
    tcb.syn_due = True
    _advise(tcb)


def _retransmission_timeout(tcb: Tcb, now: int) -> None:
    """RFC 6298 §5.4 to 5.6; R1 and R2 of RFC 9293 §3.8.3."""
    if not (tcb.snd.wnd or tcb.config.probe_with_text or tcb.detached):
        _shut_window_timeout(tcb, now)
        return
    board = tcb.scoreboard
    tcb.retransmits += 1
    if _give_up(tcb, now, tcb.retransmits if tcb.snd.wnd else tcb.probes + 1):
        finish(tcb, tcb.soft_error or ConnectionTimedOut())
        return
    _advise(tcb)
    tcb.rtt.back_off()
    tcb.timers.rto = now + tcb.rtt.rto
    if not tcb.snd.wnd and tcb.config.probe_with_text:
        # The window was pulled back over what is in flight: probe it (MUST-35), and do not let
        # silence about text beyond the edge end the connection while probes are answered.
        tcb.retransmits -= 1
        tcb.probes += 1
        tcb.probe_due = "zero-window probe"
        tcb.recovery.resend_all(board, tcb.snd.nxt)  # once the window lets it; no congestion
        return
    mtu_probing.timed_out(tcb, now)
    _lose_all(tcb, now, repeated=tcb.retransmits > 1)


def _shut_window_timeout(tcb: Tcb, now: int) -> None:
    """The peer has taken its window back over what is in flight. Linux: the oldest segment, sent
    again whole, is the window probe (MUST-35), and only a silent peer is given up (MUST-37)."""
    if now - tcb.last_received_at > 2 * tcb.config.max_rto_us:
        finish(tcb, tcb.soft_error or ConnectionTimedOut("window probes unanswered"))
        return
    tcb.rtt.back_off()
    tcb.timers.rto = now + tcb.rtt.rto
    _lose_all(tcb, now, repeated=False)


def _lose_all(tcb: Tcb, now: int, *, repeated: bool) -> None:
    """What is in flight counts as lost, and the oldest segment of it goes again at once."""
    assert tcb.congestion is not None
    tcb.timers.pto = tcb.timers.reorder = NEVER
    tcb.recovery.on_rto(
        tcb.scoreboard,
        tcb.congestion,
        una=tcb.snd.una,
        nxt=tcb.snd.nxt,
        repeated=repeated,
        frto=tcb.config.frto,
        # Linux: the handshake tells nothing of how long text is on its way
        patience_us=tcb.rtt.latest if tcb.snd.una > tcb.snd.iss + 1 else 0,
        mss=tcb.snd.mss,
        now=now,
    )
    tail_loss.give_up(tcb)


def _persist_timeout(tcb: Tcb, now: int) -> None:
    """Probe a zero window (§3.8.6.1), or override silly-window avoidance (§3.8.6.2.1)."""
    if tcb.snd.wnd:
        tcb.override = True
        tcb.send_buffer.push_end()  # Linux tcp_write_wakeup()
        return
    if _give_up(tcb, now, tcb.probes):
        finish(tcb, tcb.soft_error or ConnectionTimedOut("window probes unanswered"))
        return
    user_timeout = tcb.config.user_timeout_us
    if user_timeout is not None and tcb.timers.user == NEVER:
        # Linux: the user's patience ends while the window is shut, whether probes are answered
        # or not (RFC 5482 §3: text is not delivered)
        tcb.timers.user = now + user_timeout
    tcb.probes += 1
    tcb.persist_shift += 1
    tcb.probe_due = "zero-window probe"


def _give_up(tcb: Tcb, now: int, tries: int) -> bool:
    """R2 (RFC 9293 §3.8.3) has been reached after `tries` without an answer."""
    config = tcb.config
    if tcb.detached and (tries > config.orphan_retransmissions or is_dispensable(tcb)):
        return True
    if config.r2_timeout_us is not None:
        since = tcb.stalled_since
        if not tcb.snd.wnd:  # MUST-37: a peer that answers probes is never given up
            since = max(since, tcb.last_received_at)
        return now - since >= config.r2_timeout_us
    return tries > config.r2_retransmissions


def _advise(tcb: Tcb) -> None:
    """Past R1: the user hears of the delivery problem (SHLD-9, MUST-47)."""
    if tcb.retransmits == tcb.config.r1_retransmissions:
        report(tcb, tcb.soft_error or ConnectionTimedOut("retransmitting"))


def _keep_alive_timeout(tcb: Tcb, now: int) -> None:
    """RFC 9293 §3.8.4: probe only when nothing is outstanding and nothing has arrived."""
    config = tcb.config
    if tcb.scoreboard.in_flight or len(tcb.send_buffer):
        tcb.timers.keep_alive = now + config.keep_alive_idle_us  # the data itself is the probe
        return
    quiet_since = tcb.last_received_at
    if now - quiet_since < config.keep_alive_idle_us:
        tcb.timers.keep_alive = quiet_since + config.keep_alive_idle_us
        return
    if config.user_timeout_us is None:
        over = tcb.keep_alive_probes >= config.keep_alive_probes
    else:  # tcp(7): it takes the place of the number of probes
        over = tcb.keep_alive_probes > 0 and now - quiet_since >= config.user_timeout_us
    if over:
        finish_and_reset(tcb, tcb.soft_error or ConnectionTimedOut("keep-alive probes unanswered"))
        return
    tcb.keep_alive_probes += 1
    tcb.probe_due = "keep-alive"
    tcb.timers.keep_alive = now + config.keep_alive_interval_us
