"""The user's calls of RFC 9293 §3.10.1 to 3.10.6: OPEN, SEND, RECEIVE, CLOSE, ABORT, STATUS.

They change the Tcb and return at once; `transmit` sends what they made due. Where a call would
have to wait, the return value says so and an event tells when to try again.
"""

from dataclasses import dataclass

from ustack.config import TcpConfig
from ustack.errors import BrokenPipe, ConnectionAborted
from ustack.tcp import ack_policy, ecn_handshake, rates
from ustack.tcp.accurate_ecn import AccurateEcn
from ustack.tcp.buffer_sizes import advertised_mss, measured_space, text_was_read
from ustack.tcp.chronograph import BUSY, Chronograph
from ustack.tcp.handshake import resize_segments
from ustack.tcp.md5_signature import key_of
from ustack.tcp.recovery import OPEN, Phase
from ustack.tcp.state import (
    CLOSE_WAIT,
    ESTABLISHED,
    FIN_WAIT_2,
    SYN_RECEIVED,
    SYN_SENT,
    USER_CLOSE,
    State,
    set_state,
)
from ustack.tcp.tcb import NEVER, Tcb, finish
from ustack.wire import Buffer


def open_active(tcb: Tcb, now: int) -> None:
    """OPEN, active: a SYN becomes due (§3.10.1)."""
    set_state(tcb, SYN_SENT)
    tcb.syn_due = True
    ecn_handshake.offer(tcb)
    tcb.stalled_since = now
    if tcb.config.user_timeout_us is not None:
        tcb.timers.user = now + tcb.config.user_timeout_us


def send(
    tcb: Tcb,
    data: Buffer,
    now: int,
    *,
    urgent: bool = False,
    more: bool = False,
    room: int | None = None,
) -> int:
    """SEND: queue `data`, as much as the buffer takes, and return how much that was (§3.10.2).

    0 means: wait for WRITABLE. `bytes` are kept, not copied; anything mutable is copied. `urgent`
    marks the last byte taken as the end of urgent data (RFC 6093); `more` says that the rest of
    the message follows, so its end is not pushed (MAY-15); `room`, if given, is how many bytes are
    taken, whatever the buffer's limit says. Raises the terminal error of
    a connection that is over, BrokenPipe after the sending side was closed.
    """
    if tcb.closed:
        raise tcb.error or BrokenPipe()
    if tcb.fin_queued:
        raise BrokenPipe
    buffer = tcb.send_buffer
    if tcb.sampler is not None:
        rates.before_write(tcb, tcb.sampler)
    taken = buffer.append(data, push=not more, room=room)
    if taken < len(data):
        tcb.send_full = True
    chronograph = tcb.chronograph
    if chronograph is None:
        chronograph = tcb.chronograph = Chronograph()
    if not chronograph.running and taken:
        chronograph.start(BUSY, now)
    if urgent and taken:
        tcb.snd.up = buffer.end
    return taken


def cork(tcb: Tcb, kind: int) -> None:
    """CORK, MORE or UNCORKED: what becomes of a last partial segment from now on."""
    tcb.cork = kind
    tcb.more_at = tcb.counters.segments_in


def receive(tcb: Tcb, limit: int, now: int) -> Buffer:
    """RECEIVE: up to `limit` bytes that are in order, one chunk at most (§3.10.3).

    b"" means that nothing is there, and for good if `tcb.eof`. Raises the terminal error once
    everything that arrived before it has been read.
    """
    receive_buffer, rcv = tcb.receive_buffer, tcb.rcv
    if not receive_buffer.readable:
        if tcb.error is not None:
            raise tcb.error
        return b""
    data = receive_buffer.read(limit)
    if receive_buffer.readable:
        pass
    elif rcv.fin is not None and rcv.nxt > rcv.fin:
        tcb.eof = True
    tuner = tcb.tuner
    if tuner is None or now >= tuner.due_at or rcv.nxt >= tuner.mark:
        text_was_read(tcb, now)
    if tcb.ack_owed and ack_policy.was_read(tcb):
        tcb.ack_now = True
        return data
    # Window update, decided as Linux does: only when the peer may be running out of window and
    # the update at least doubles it, so a reader that keeps pace causes no ACK of its own.
    window = rcv.adv - rcv.nxt
    if receive_buffer.limit > receive_buffer.ceiling >= window:
        receive_buffer.limit = receive_buffer.ceiling  # SO_RCVBUF is smaller than what was promised
    if 2 * window > receive_buffer.limit:
        return data
    if not tcb.ack_now and not tcb.closed and tcb.state in (ESTABLISHED, *_HALF_OPEN):
        free = receive_buffer.ceiling - receive_buffer.readable
        free = min(free, receive_buffer.limit, 0xFFFF << rcv.wscale)  # what the field can say
        if 2 * window <= free and free - window >= min(receive_buffer.limit // 2, rcv.mss):
            tcb.ack_now = True
            if not window:
                tcb.probe_due = tcb.probe_due or "window update"
    return data


_HALF_OPEN = (State.FIN_WAIT_1, FIN_WAIT_2)


def urgent_pending(tcb: Tcb) -> int:
    """How many unread octets lie before the end of urgent data (MUST-33)."""
    rcv = tcb.rcv
    if rcv.up is None:
        return 0
    return max(0, rcv.up - (rcv.nxt - tcb.receive_buffer.readable))


def configure(tcb: Tcb, previous: TcpConfig, now: int) -> None:
    """Take over what `tcb.config` has changed against `previous` while the connection lives."""
    config, timers = tcb.config, tcb.timers
    if config.md5_keys is not previous.md5_keys:
        tcb.signature = key_of(config, tcb.flow)
        if tcb.congestion is not None:
            resize_segments(tcb)
    tcb.nagle = config.nagle
    tcb.rtt.bound(config.min_rto_us, config.max_rto_us)
    if tcb.congestion is not None:
        if config.congestion != previous.congestion:
            rates.switch_congestion(tcb, now)
        rates.configure_pacing(tcb, now)
    if config.send_buffer is not None:
        tcb.send_buffer.limit = config.send_buffer
    fixed, buffer = config.receive_buffer, tcb.receive_buffer
    if fixed is not None and fixed != previous.receive_buffer:
        buffer.ceiling = fixed
        if fixed > buffer.limit or not tcb.options_agreed:
            buffer.limit = fixed  # a live window is not pulled back
    if config.window_clamp is not None and config.window_clamp != previous.window_clamp:
        buffer.limit = min(buffer.limit, config.window_clamp)
    if not config.keep_alive:
        timers.keep_alive = NEVER
    elif tcb.options_agreed and not tcb.closed:
        idle_us = config.keep_alive_idle_us
        if not previous.keep_alive:
            timers.keep_alive = now + idle_us
        elif idle_us != previous.keep_alive_idle_us:
            timers.keep_alive = max(tcb.last_received_at + idle_us, now)
    if config.user_timeout_us is None:
        timers.user = NEVER
    elif tcb.stalled_since != NEVER:
        timers.user = tcb.stalled_since + config.user_timeout_us


def shutdown(tcb: Tcb, now: int) -> None:
    """CLOSE for sending only: a FIN follows the text queued so far; receiving goes on (§3.6.1)."""
    if tcb.closed or tcb.fin_queued:
        return
    if tcb.state is SYN_SENT:
        finish(tcb, None)  # §3.10.4: delete the TCB
        return
    tcb.fin_queued = True
    if tcb.state is not SYN_RECEIVED:  # there the FIN waits for ESTABLISHED
        set_state(tcb, USER_CLOSE[tcb.state])


def close(tcb: Tcb, now: int) -> None:
    """CLOSE both ways (§3.10.4): text queued is still sent, then FIN.

    SHLD-3: unread text, or text that still arrives, is answered with RST, since the peer must not
    think that it was delivered. `linger_us` 0 makes it an abort (Linux SO_LINGER).
    """
    if tcb.closed:
        tcb.receive_buffer.clear()
        return
    tcb.detached = True
    unread = tcb.receive_buffer.readable > 0 and tcb.config.reset_unread
    if unread or tcb.config.linger_us == 0:
        abort(tcb, now)
        return
    if tcb.state is FIN_WAIT_2 and tcb.config.fin_wait_2_timeout_us < 0:
        abort(tcb, now)
        return
    if tcb.receive_buffer.readable:
        tcb.receive_buffer.drop_unread()
    shutdown(tcb, now)
    if tcb.state is FIN_WAIT_2:
        tcb.timers.fin_wait_2 = now + tcb.config.fin_wait_2_timeout_us


def abort(tcb: Tcb, now: int) -> None:
    """ABORT: a RST becomes due, everything queued is dropped (§3.10.5)."""
    if tcb.closed:
        return
    # §3.10.5: no RST from SYN-SENT, and none once both sides have closed
    tcb.reset_due = tcb.state in (SYN_RECEIVED, ESTABLISHED, CLOSE_WAIT, *_HALF_OPEN) or bool(
        len(tcb.send_buffer)
    )
    if tcb.state is SYN_SENT:
        tcb.reset_due = False
    tcb.receive_buffer.clear()
    finish(tcb, ConnectionAborted())


@dataclass(slots=True, frozen=True)
class TcpInfo:
    """STATUS (§3.10.6), with the names of Linux's struct tcp_info. Times µs, sizes bytes.

    `unacked`, `sacked`, `lost` and `retrans` count each segment as a full one, as the windows do.
    """

    state: State
    local: tuple[str, int]
    remote: tuple[str, int]
    rto: int
    rtt: int
    rttvar: int
    min_rtt: int
    snd_mss: int
    signed: bool  # RFC 2385
    rcv_mss: int
    advmss: int
    snd_cwnd: int
    snd_ssthresh: int
    snd_wnd: int
    rcv_wnd: int
    rcv_rtt: int
    rcv_space: int
    rcv_ssthresh: int
    snd_wscale: int
    rcv_wscale: int
    timestamps: bool
    sack: bool
    congestion: str
    ca_state: str
    unacked: int
    sacked: int
    lost: int
    retrans: int
    total_retrans: int
    bytes_retrans: int
    reordering: int
    reord_seen: int
    dsack_bytes: int
    retransmits: int
    backoff: int
    probes: int
    send_queue: int
    receive_queue: int
    out_of_order: int
    bytes_acked: int
    bytes_received: int
    segs_in: int
    segs_out: int
    notsent: int
    pacing_rate: int  # bytes/s at which text leaves, or would; pacing.UNLIMITED: none known yet
    max_pacing_rate: int  # bytes/s; pacing.UNLIMITED: none
    delivery_rate: int  # bytes/s, the last good sample; 0: none
    app_limited: bool  # of that sample: it was the user who did not give more
    ato: int
    pmtu: int
    last_data_sent: int
    last_data_recv: int
    last_ack_recv: int
    busy_time: int
    rwnd_limited: int
    sndbuf_limited: int
    bytes_sent: int
    data_segs_in: int
    data_segs_out: int
    delivered: int
    rcv_ooopack: int
    ecn: str  # "": none, "ecn": RFC 3168, "accecn": RFC 9768
    ecn_seen: bool  # the peer's packets have carried ECT or CE
    delivered_ce: int  # packets of ours that arrived with CE, as far as the peer has told
    received_ce: int  # packets that arrived here with CE; counted with AccECN only
    received_octets: tuple[int, ...]  # payload by ECN field; the same
    delivered_octets: tuple[int, ...]
    timer: tuple[str, int] | None
    fast_open_child: bool = False  # a SYN with a cookie, or without a need for one, has opened it
    syn_data: bool = False  # text on a SYN was acknowledged with it (RFC 7413)
    fastopen_client_fail: int = 0  # Linux: 1 no cookie, 2 text not acknowledged, 3 SYN resent


NO_OCTETS = ((0, 0, 0, 0),) * 2


def _ca_state(tcb: Tcb) -> str:
    """Linux's names: "disorder" is an open phase with something SACKed or lost."""
    board, phase = tcb.scoreboard, tcb.recovery.phase
    if phase is OPEN and (board.sacked or board.lost or board.dup_acked or board.resent):
        return "disorder"
    return Phase(phase).name.lower()


def _bytes_sent(tcb: Tcb) -> int:
    """Octets of text that have left, those sent again counted again."""
    snd = tcb.snd
    fin_sent = snd.fin is not None and snd.nxt > snd.fin
    return max(0, snd.nxt - (snd.iss + 1) - fin_sent) + tcb.scoreboard.bytes_resent


def status(tcb: Tcb, now: int) -> TcpInfo:
    """STATUS: a snapshot of the connection (§3.10.6)."""
    snd, rcv, board, counters = tcb.snd, tcb.rcv, tcb.scoreboard, tcb.counters
    congestion = tcb.congestion
    timers = {name: getattr(tcb.timers, name) for name in tcb.timers.__slots__}
    running = min(timers, key=lambda name: timers[name])
    left = timers[running] - now
    chronograph = tcb.chronograph or Chronograph()
    busy, held_by_peer, held_by_buffer = chronograph.totals(now)
    octets = tcb.ecn.octets if type(tcb.ecn) is AccurateEcn else NO_OCTETS
    return TcpInfo(
        state=tcb.state,
        local=tcb.local,
        remote=tcb.remote,
        rto=tcb.rtt.rto,
        rtt=tcb.rtt.srtt,
        rttvar=tcb.rtt.rttvar,
        min_rtt=tcb.rtt.min_rtt,
        snd_mss=snd.mss,
        signed=tcb.signature is not None,
        rcv_mss=rcv.mss_seen,
        advmss=advertised_mss(tcb),
        snd_cwnd=tcb.recovery.window(congestion) if congestion else 0,
        snd_ssthresh=congestion.ssthresh if congestion else 0,
        snd_wnd=snd.wnd,
        rcv_wnd=rcv.adv - rcv.nxt,
        rcv_rtt=tcb.tuner.rtt if tcb.tuner is not None else 0,
        rcv_space=measured_space(tcb),
        rcv_ssthresh=tcb.receive_buffer.limit,
        snd_wscale=snd.wscale,
        rcv_wscale=rcv.wscale,
        timestamps=tcb.ts_on,
        sack=tcb.sack_on,
        congestion=tcb.config.congestion,
        ca_state=_ca_state(tcb),
        unacked=board.flight(),
        sacked=board.sacked + board.dup_acked,  # Linux: what duplicate ACKs stand for, too
        lost=board.lost,
        retrans=board.resent,
        total_retrans=board.retransmissions,
        bytes_retrans=board.bytes_resent,
        reordering=tcb.recovery.reordering,
        reord_seen=tcb.recovery.rack.reordering_seen,
        dsack_bytes=counters.dsack_bytes,
        retransmits=tcb.retransmits,
        backoff=tcb.rtt.backoff or tcb.persist_shift,
        probes=tcb.probes,
        send_queue=len(tcb.send_buffer),
        receive_queue=tcb.receive_buffer.readable,
        out_of_order=tcb.receive_buffer.out_of_order,
        # Linux: our SYN is acknowledged, and the FIN received, like an octet
        bytes_acked=counters.bytes_acked + (snd.una > snd.iss and not tcb.passive),
        bytes_received=counters.bytes_received + (rcv.fin is not None and rcv.nxt > rcv.fin),
        segs_in=counters.segments_in,
        segs_out=counters.segments_out,
        # Linux: with the FIN
        notsent=max(tcb.send_buffer.end + tcb.fin_queued - snd.nxt, 0),
        pacing_rate=tcb.pacer.rate if tcb.pacer is not None else rates.pacing_rate(tcb),
        max_pacing_rate=rates.max_pacing_rate(tcb),
        delivery_rate=rates.delivery_rate(tcb),
        app_limited=tcb.sampler is None or tcb.sampler.rate_app_limited,
        ato=min(tcb.ato, ack_policy.longest(tcb)),
        pmtu=tcb.path_mtu_payload + tcb.fixed_headers,
        last_data_sent=now - tcb.last_data_sent_at,
        last_data_recv=now - tcb.text_received_at,
        last_ack_recv=now - tcb.last_received_at,
        busy_time=busy,
        rwnd_limited=held_by_peer,
        sndbuf_limited=held_by_buffer,
        bytes_sent=_bytes_sent(tcb),
        data_segs_in=counters.data_segments_in,
        data_segs_out=counters.data_segments_out,
        delivered=counters.delivered,
        rcv_ooopack=counters.out_of_order,
        ecn=tcb.ecn.name if tcb.ecn else "",
        ecn_seen=tcb.ecn is not None and tcb.ecn.seen,
        delivered_ce=tcb.ecn.delivered_ce if tcb.ecn else 0,
        received_ce=tcb.ecn.received_ce if type(tcb.ecn) is AccurateEcn else 0,
        received_octets=octets[0],
        delivered_octets=octets[1],
        timer=(running, left) if timers[running] != NEVER else None,
        syn_data=tcb.fast_open is not None and tcb.fast_open.text_acked,
        fast_open_child=tcb.fast_open is not None and tcb.passive,
        fastopen_client_fail=tcb.fast_open.client_fail if tcb.fast_open is not None else 0,
    )
