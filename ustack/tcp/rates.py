"""The rate of a connection, measured and kept: delivery-rate samples from its ACKs, and pacing.

Nothing here exists for a connection that has never sent more than a segment at a time: what the
round trip says of it is all there is to know.
"""

from ustack.config import SECOND
from ustack.tcp.congestion import REGISTRY
from ustack.tcp.congestion.bbr import Bbr
from ustack.tcp.congestion.bbr_states import PROBE_RTT, Ack
from ustack.tcp.delivery_rate import NO_SAMPLE, DeliverySampler, Origin
from ustack.tcp.pacing import PACED_FROM_US, UNLIMITED, Pacer, window_rate
from ustack.tcp.scoreboard import Scoreboard
from ustack.tcp.tcb import NEVER, Tcb


def delivered(tcb: Tcb) -> int:
    """C.delivered: the octets, SYN included, that the peer has reported so far; as Linux counts,
    each segment is a full one."""
    board = tcb.scoreboard
    return tcb.snd.una - tcb.snd.iss + board.padding + board.sacked + board.dup_acked


def begin(tcb: Tcb, now: int) -> DeliverySampler:
    """From now on ACKs are sampled."""
    sampler = tcb.sampler = DeliverySampler(delivered(tcb), now)
    sampler.mark_app_limited(tcb.scoreboard.pipe())  # Linux: there was nothing to send before
    if tcb.pacer is None and is_paced(tcb):
        configure_pacing(tcb, now)
    return sampler


def before_sending(tcb: Tcb, now: int) -> None:
    """Text is about to leave, more than a segment, or not for the first time: what is known now
    goes with it."""
    board, sampler = tcb.scoreboard, tcb.sampler or begin(tcb, now)
    if sampler.stale or not board.in_flight:
        board.origin = sampler.origin(board.in_flight, now)
        if tcb.pacer is not None:
            board.origin.in_flight = board.pipe()


def before_write(tcb: Tcb, sampler: DeliverySampler) -> None:
    """The user gives new text. Did the connection wait for it (Linux tcp_rate_check_app_limited)?

    It did if less than a segment is unsent, the window has room and nothing is to be sent again.
    """
    board, congestion = tcb.scoreboard, tcb.congestion
    if tcb.send_buffer.end - tcb.snd.nxt >= tcb.snd.mss or board.owed or congestion is None:
        return
    pipe = board.pipe()
    if tcb.recovery.window(congestion) - pipe >= tcb.snd.mss:
        sampler.mark_app_limited(pipe)


def after_burst(tcb: Tcb) -> None:
    """A burst has left: what comes next has an origin of its own."""
    board, sampler = tcb.scoreboard, tcb.sampler
    if board.origin is not None:
        board.origin.in_flight = board.pipe()
    if sampler is not None:
        sampler.stale = True


def note_newest(board: Scoreboard, sampler: DeliverySampler) -> None:
    """Of what the scoreboard has just recorded as delivered, what left last is sampled."""
    first, again = board.delivered_first, board.delivered_again
    if again is not None and (first is None or again > first):
        sampler.newest, sampler.newest_sent_at = board.origin_again, again[0]
        sampler.newest_once = False
    elif first is not None:
        sampler.newest, sampler.newest_sent_at = board.origin_first, first[0]
        sampler.newest_once = True


def on_ack(tcb: Tcb, sampler: DeliverySampler, now: int) -> None:  # hot
    """An ACK has been digested: sample it."""
    board = tcb.scoreboard
    if sampler.newest is None:
        note_newest(board, sampler)
    origin = sampler.newest
    sampler.newest = board.delivered_first = board.delivered_again = None
    before = sampler.delivered
    sampler.on_ack(delivered(tcb), origin, sampler.newest_sent_at, tcb.rtt.min_rtt, now)
    if tcb.pacer is not None:
        if type(tcb.congestion) is Bbr:
            _tell_model(tcb, tcb.congestion, sampler, origin, sampler.delivered - before, now)
        set_pacing_rate(tcb, tcb.pacer)
        if tcb.config.pacing is None and not is_paced(tcb):
            configure_pacing(tcb, now)  # slow start is over, or the first round trip looked longer


def _tell_model(
    tcb: Tcb,
    model: Bbr,
    sampler: DeliverySampler,
    origin: Origin | None,
    newly_acked: int,
    now: int,
) -> None:
    """BBR hears of losses first, then of the ACK."""
    board = tcb.scoreboard
    if model.excused:
        sampler.lost -= model.excused
        model.excused = 0
    lost = _note_losses(sampler, board.losses, model)
    rtt = now - sampler.newest_sent_at
    if not sampler.newest_once:
        if rtt < model.min_rtt:  # the first copy has arrived (RFC 8985 §6.2 step 2)
            origin = None
        rtt = 0
    elif board.leapt():
        rtt = 0  # it has overtaken others, who need longer
    if sampler.interval < model.min_rtt:
        sampler.size = 0  # the model's least round trip may be longer: no leap counts there
    ack = Ack(
        sample=sampler.sample(origin) if origin is not None else NO_SAMPLE,
        newly_acked=newly_acked,
        newly_lost=lost,
        rtt=rtt if origin is not None else 0,
        in_flight=board.pipe(),
        delivered=sampler.delivered,
        cwnd_limited=tcb.usage.limited,
        now=now,
    )
    model.on_sample(ack)
    if model.phase is PROBE_RTT:
        sampler.mark_app_limited(ack.in_flight)  # low rates that say nothing of the path


def _note_losses(
    sampler: DeliverySampler, losses: list[tuple[int, Origin | None]] | None, model: Bbr
) -> int:
    """What was found lost since the last ACK, range by range. Returns how many bytes it was."""
    lost = sampler.lost
    for size, origin in losses or ():
        sampler.lost += size
        if origin is not None:
            model.on_lost(origin, sampler.lost - origin.lost, size)
    if losses:
        losses.clear()
    return sampler.lost - lost


def is_paced(tcb: Tcb) -> bool:
    """By its configuration, or in the first slow start of a way that has room for bursts.

    HyStart++ wants that (RFC 9406 §4.3). Later ACKs keep time, as they do for the others on the
    way: who is paced loses less in a full queue than who is not, and takes more than his share.
    """
    config = tcb.config
    if config.pacing or config.max_pacing_rate is not None or type(tcb.congestion) is Bbr:
        return True
    rtt, model = tcb.rtt.min_rtt, tcb.congestion  # 0: unknown
    if config.pacing is not None or tcb.sampler is None or model is None:
        return False
    return model.cwnd < model.ssthresh and not 0 < rtt < PACED_FROM_US


def configure_pacing(tcb: Tcb, now: int) -> None:
    """The configuration is new, or the connection about to send: pace it if that is wanted."""
    model = tcb.congestion
    if is_paced(tcb):
        if tcb.pacer is None:
            tcb.pacer = Pacer()
        if tcb.sampler is None:
            begin(tcb, now)
        if type(model) is Bbr and tcb.scoreboard.losses is None:
            tcb.scoreboard.losses = []
            model.begin(tcb.rtt.srtt, now, tcb.rtt.min_rtt)
        set_pacing_rate(tcb, tcb.pacer)
    elif tcb.config.cut_segments and tcb.sampler is None:
        begin(tcb, now)  # as Linux, which samples every ACK
    elif tcb.pacer is not None and not tcb.pacer.lasting:
        tcb.pacer = None
        tcb.timers.pace = NEVER
    if model is not None:
        model.on_pacing(tcb.pacer is not None)


def switch_congestion(tcb: Tcb, now: int) -> None:
    """TCP_CONGESTION of a live connection: `tcb.config` names another controller.

    As Linux's tcp_reinit_congestion_control(): the new one knows nothing but the windows in force,
    a cut made before is not taken back, and what BBR had paced stays paced.
    """
    config, recovery, old = tcb.config, tcb.recovery, tcb.congestion
    assert old is not None
    new = REGISTRY[config.congestion](
        tcb.snd.mss, config.initial_window_segments, config.slow_start
    )
    new.adopt(recovery.window(old), old.ssthresh)
    tcb.congestion = new
    tcb.scoreboard.losses = None
    recovery.forget_controller(new, now)
    if tcb.pacer is not None:
        tcb.pacer.quantum = 0
        tcb.pacer.lasting = type(old) is Bbr or tcb.pacer.lasting


def established(tcb: Tcb, pacer: Pacer, now: int) -> None:
    """The handshake may have measured a round trip: the first rate there is."""
    if type(tcb.congestion) is Bbr:
        tcb.congestion.begin(tcb.rtt.srtt, now, tcb.rtt.min_rtt)
    set_pacing_rate(tcb, pacer)


def set_pacing_rate(tcb: Tcb, pacer: Pacer) -> None:
    """The window or the model has changed."""
    pacer.rate = pacing_rate(tcb)
    if type(tcb.congestion) is Bbr:
        pacer.quantum = tcb.congestion.send_quantum


def pacing_rate(tcb: Tcb) -> int:
    """At what rate text leaves, or would if it were paced, bytes/s."""
    config, congestion, snd = tcb.config, tcb.congestion, tcb.snd
    if congestion is None:
        return UNLIMITED
    if type(congestion) is Bbr:
        rate = congestion.pacing_rate
    else:
        rate = window_rate(
            snd.mss,
            tcb.recovery.window(congestion),
            tcb.scoreboard.in_flight,
            congestion.ssthresh,
            tcb.rtt.srtt,
            (config.pacing_ss_ratio, config.pacing_ca_ratio),
        )
    return rate if config.max_pacing_rate is None else min(rate, config.max_pacing_rate)


def delivery_rate(tcb: Tcb) -> int:
    """TCP_INFO's delivery_rate, bytes/s; 0: unknown."""
    if tcb.sampler is not None:
        return tcb.sampler.rate
    if not tcb.counters.bytes_acked or not tcb.rtt.latest:
        return 0
    return tcb.snd.mss * SECOND // tcb.rtt.latest


def max_pacing_rate(tcb: Tcb) -> int:
    """TCP_INFO's max_pacing_rate, bytes/s."""
    most = tcb.config.max_pacing_rate
    return UNLIMITED if most is None else most
