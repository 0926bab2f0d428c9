"""When text is acknowledged: at once, along with the next text of ours, or after a while.

RFC 9293 §3.8.6.3 and RFC 5681 §4.2 ask for an ACK of every second full-sized segment and for none
to wait 500 ms. Within that, as Linux does it: a connection begins with quick ACKs, so that the
peer's slow start is not held up, and gets some again after a pause or when something was wrong. A
dialogue (`tcb.dialogue`, Linux's pingpong mode) waits for the answer, on which the ACK can ride.
Else an ACK waits for `tcb.ato`, which follows the time from one segment to the next.
"""

from ustack.tcp.state import CLOSE_WAIT, ESTABLISHED
from ustack.tcp.tcb import NEVER, Tcb, option_bytes
from ustack.wire.tcp import FIN, PSH, URG

ATO_US = 40_000  # Linux TCP_ATO_MIN: the delay while text comes in quick succession
STEADY_US = ATO_US // 2  # arrivals no further apart than this leave it there
TICK_US = 1000  # a FIN that no text went before: this is time enough for the user to close, too
RTO_MARGIN_US = 1000  # the ACK is to arrive before the least timeout of a peer that is like us
DEFAULT_MSS = 536  # bytes; RFC 9293 §3.7.1
LEAST_MSS = 88  # bytes; Linux TCP_MIN_MSS
TINY = LEAST_MSS - 40  # bytes: smaller than any MSS, whatever options go with it
MOST_DIALOGUE = 255  # Linux: the count of answers ends there


def text_arrived(tcb: Tcb, size: int, flags: int, now: int) -> bool:  # hot
    """`size` bytes of text in order: called before `tcb.text_received_at` is set to `now`.

    True: the peer's segments are larger than was known (RCV.MSS_SEEN).
    Not called for what changes nothing: a full-sized segment without PSH, or several in one, no
    more than STEADY_US after the last one.
    """
    if size < TINY and size < tcb.rcv.mss_seen:
        tcb.rcv.last_size = 0
        tcb.pushed = 2 if tcb.pushed else 1
        larger = False
    else:
        larger = _measure_segment(tcb, size, flags)
    ato = tcb.ato
    least = tcb.config.delayed_ack_us
    if not ato:
        add_quick_acks(tcb, tcb.config.quick_acks)
        tcb.ato = least
        return larger
    gap = now - tcb.text_received_at
    if gap <= least // 2:
        tcb.ato = ato // 2 + least // 2
    elif gap < ato:
        tcb.ato = min(ato // 2 + gap, tcb.rtt.rto)
    elif gap > tcb.rtt.rto:  # the sender may begin with a small window again
        add_quick_acks(tcb, tcb.config.quick_acks)
    return larger


def _measure_segment(tcb: Tcb, size: int, flags: int) -> bool:
    """What "full-sized" means for the peer, and whether this was the end of what it had to say.

    Linux tcp_measure_rcv_mss(): a segment larger than all before, or two small ones of the same
    size, if they are larger than any path demands or are not the end of a write. True: it is more.
    """
    rcv = tcb.rcv
    largest = rcv.mss_seen
    previous, rcv.last_size = rcv.last_size, 0
    if size >= largest:
        rcv.mss_seen = min(size, rcv.mss)
        if flags & PSH:
            tcb.pushed |= 1
        return rcv.mss_seen > largest
    whole = size + option_bytes(tcb)
    if whole >= DEFAULT_MSS or (whole >= LEAST_MSS and not flags & (FIN | PSH | URG)):
        rcv.last_size = size
        if size == previous:
            rcv.mss_seen = size
            return False
    tcb.pushed = 2 if tcb.pushed else 1
    return False


def guess_segment_size(tcb: Tcb) -> None:
    """The connection is established: the peer's segments may be as large as this, or larger."""
    window = tcb.rcv.adv - tcb.rcv.nxt
    guess = min(DEFAULT_MSS, tcb.rcv.mss, tcb.snd.mss, window // 2)
    tcb.rcv.mss_seen = max(guess, LEAST_MSS)


def acknowledge_syn(tcb: Tcb, now: int) -> None:
    """Complete the handshake. Linux: the ACK waits for the first text after TCP_QUICKACK 0, with
    TCP_DEFER_ACCEPT, or while a call waits to send."""
    if is_dialogue(tcb) or tcb.config.defer_accept:
        tcb.dialogue = 0  # the first text of the peer's is acknowledged at once
        tcb.ato = tcb.config.delayed_ack_us
        add_quick_acks(tcb, tcb.config.quick_acks)
        tcb.timers.delayed_ack = now + tcb.config.delayed_ack_max_us
    else:
        tcb.ack_now = True


def add_quick_acks(tcb: Tcb, most: int) -> None:
    """The next ACKs go at once: as many as the window has room for pairs of segments."""
    window = tcb.rcv.adv - tcb.rcv.nxt + tcb.ack_owed
    count = min(window // (2 * tcb.rcv.mss_seen) or 2, most)
    if count > tcb.quick_acks:
        tcb.quick_acks = count


def hurry(tcb: Tcb, most: int) -> None:
    """Something was wrong, so the peer is to hear of what comes at once: no dialogue any more."""
    add_quick_acks(tcb, most)
    tcb.dialogue = 0
    tcb.ato = tcb.ato and tcb.config.delayed_ack_us  # 0: the first text does more


def is_dialogue(tcb: Tcb) -> bool:
    """ACKs wait for text of ours."""
    return tcb.dialogue >= tcb.config.dialogue_threshold


def begin_dialogue(tcb: Tcb) -> None:
    """ACKs are to wait for text of ours (TCP_QUICKACK 0, or the peer's FIN)."""
    tcb.dialogue = tcb.config.dialogue_threshold


def answered(tcb: Tcb) -> None:
    """Text of ours leaves soon after text of the peer's: an answer."""
    if tcb.dialogue < MOST_DIALOGUE:
        tcb.dialogue += 1


def due(tcb: Tcb, owed: int, now: int) -> bool:  # hot
    """`owed` octets are not acknowledged. True: that is to be done at once; else a timer runs.

    More than one full-sized segment is (SHLD-19); Linux, with `acks_await_reader`: if the window
    does not shrink by it, else when the user reads. Linux __tcp_ack_snd_check(),
    tcp_send_delayed_ack().
    """
    if owed > tcb.rcv.mss_seen and (
        not tcb.config.acks_await_reader or _reader_keeps_pace(tcb, owed)
    ):
        return True
    if tcb.quick_acks and tcb.dialogue < tcb.config.dialogue_threshold:
        return True
    timers = tcb.timers
    at = timers.delayed_ack
    if at == NEVER or (tcb.text_received_at == now and tcb.counters.bytes_received):
        wait = delay(tcb)
        if at <= now + wait // 4:  # it would expire soon anyway
            return True
        if now + wait < at:
            timers.delayed_ack = now + wait
    return False


def _reader_keeps_pace(tcb: Tcb, owed: int) -> bool:
    """The window that an ACK now would offer is as large as the last one."""
    rcv, buffer = tcb.rcv, tcb.receive_buffer
    room = buffer.ceiling - buffer.readable
    if 2 * room < buffer.ceiling:
        tcb.quick_acks = 0  # Linux: a peer that is ahead of the reader need not be hurried on
    window = min(buffer.limit, room) + rcv.rounding  # rounded up, as the field is
    return window >= rcv.adv - rcv.nxt + owed


def delay(tcb: Tcb) -> int:
    """How long an ACK waits, µs."""
    config, wait = tcb.config, tcb.ato
    if not wait:
        return min(TICK_US, config.delayed_ack_us)
    least, srtt = config.delayed_ack_us, tcb.rtt.srtt
    if wait > least and srtt:
        wait = min(wait, max(srtt, least))
    return min(wait, longest(tcb))


def longest(tcb: Tcb) -> int:
    """The longest time that an ACK may ever wait, µs."""
    return min(tcb.config.delayed_ack_max_us, max(tcb.config.min_rto_us - RTO_MARGIN_US, TICK_US))


def waited_in_vain(tcb: Tcb) -> None:
    """The timer has expired and nothing came on which the ACK could ride."""
    if is_dialogue(tcb):
        tcb.dialogue = 0
        tcb.ato = tcb.config.delayed_ack_us
    else:
        tcb.ato = min(2 * tcb.ato, tcb.rtt.rto)


def acknowledged(tcb: Tcb) -> None:
    """An ACK of new text is on its way while there are quick ACKs left."""
    tcb.quick_acks -= 1
    if not tcb.quick_acks:
        tcb.ato = tcb.config.delayed_ack_us


def was_read(tcb: Tcb) -> bool:
    """The user has read. True: the ACK goes now (Linux tcp_cleanup_rbuf()).

    More than one full-sized segment; or everything was read, and the last of it was the end of
    what the peer has to say for now, so that nothing more is to be expected.
    """
    if tcb.ack_owed > tcb.rcv.mss_seen:
        return True
    if tcb.receive_buffer.readable:
        return False
    return tcb.pushed > 1 or (tcb.pushed == 1 and not is_dialogue(tcb))


def quick_ack_option(tcb: Tcb, value: int) -> bool:
    """TCP_QUICKACK (tcp(7)) was set to `value`; True: an ACK that waits goes now."""
    if not value:
        begin_dialogue(tcb)
        return False
    tcb.dialogue = 0
    if not tcb.ack_owed:
        return False
    tcb.pushed |= 1
    now = was_read(tcb)
    if not value & 1:
        begin_dialogue(tcb)
    return now


def only_acks(tcb: Tcb) -> bool:  # hot
    """All that `tcb` could send now is an ACK that is not urgent."""
    return (
        tcb.send_buffer.end == tcb.snd.una
        and (tcb.state is ESTABLISHED or tcb.state is CLOSE_WAIT)
        and tcb.listener is None
        and not (tcb.ack_now or tcb.probe_due)
    )
