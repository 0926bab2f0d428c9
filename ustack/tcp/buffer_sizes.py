"""How large the buffers of a connection are: fixed by the user, or following its traffic.

The window offered (`ReceiveBuffer.limit`) opens by twice what arrives, up to `ceiling`; the ceiling
follows the reader (receive_tuning). The send buffer follows the congestion window. Linux:
tcp_grow_window(), tcp_rcv_space_adjust(), tcp_sndbuf_expand().
"""

from ustack.config import TcpConfig
from ustack.tcp.receive_tuning import ReceiveTuner
from ustack.tcp.tcb import WRITABLE, Tcb

INITIAL_SEGMENTS = 10  # Linux TCP_INIT_CWND: what the send buffer holds at least, twice
MAX_UNSCALED_WINDOW = 0xFFFF  # RFC 7323 §2.2
TIMESTAMP_OPTION = 12  # bytes on every segment, once agreed (RFC 7323 appendix A)
OVERHEAD_HEADERS = 640  # bytes; Linux: headers and book-keeping of a segment to be sent ...
OVERHEAD_RECEIVED = 424  # bytes; ... or received ...
PRESSED_SEGMENTS = 4  # what a slow reader is offered while memory is short
GROWING_BYTES = 128  # Linux: smaller segments do not count
OVERHEAD_RECORD = 256  # bytes; ... and the record that describes it


def largest_window(config: TcpConfig) -> int:
    """What the receive buffer may ever grow to: the window scale is chosen for it."""
    largest = config.receive_buffer
    if largest is None:
        largest = max(config.receive_buffer_initial, config.receive_buffer_max)
    return min(largest, config.window_clamp) if config.window_clamp else largest


def first_window(config: TcpConfig, mss: int, timestamps: bool) -> int:
    """The window to begin with. Linux: whole segments, as large as our MSS and the agreed options
    make them; without `linux_windows` only where autotuning begins."""
    window = config.receive_buffer or config.receive_buffer_initial
    if config.window_clamp:
        window = min(window, config.window_clamp)
    if config.receive_buffer is not None and not config.linux_windows:
        return window
    size = mss - TIMESTAMP_OPTION if timestamps else mss
    return window - window % size if window > size > 0 else window


def round_up(tcb: Tcb) -> None:
    """The buffer holds whole segments, as on FreeBSD, and all of it is offered from now on."""
    buffer, rcv = tcb.receive_buffer, tcb.rcv
    size = min(rcv.mss, tcb.snd.adv_mss)
    if buffer.limit > size:
        buffer.limit += -buffer.limit % size
        buffer.ceiling = max(buffer.ceiling, buffer.limit)
        rcv.adv = max(rcv.adv, rcv.nxt + buffer.limit)


def syn_window(config: TcpConfig, mss: int, timestamps: bool) -> int:
    """As much of it as our SYN can say: its window is never scaled (RFC 7323 §2.2)."""
    return min(first_window(config, mss, timestamps), MAX_UNSCALED_WINDOW)


def established(tcb: Tcb) -> None:
    """The congestion window exists: the send buffer gets its first real size."""
    if expand_send_buffer(tcb) and tcb.send_full:
        tcb.send_full = False
        tcb.events |= WRITABLE


def expand_send_buffer(tcb: Tcb) -> bool:
    """The send buffer holds two congestion windows, so that text never lacks; True: it has grown.

    Counted as Linux counts them, with the overhead of each segment.
    """
    config = tcb.config
    if config.send_buffer is not None or tcb.congestion is None or tcb.memory.pressure:
        return False
    segments = max(INITIAL_SEGMENTS, tcb.congestion.cwnd // tcb.snd.mss)
    wanted = 2 * segments * memory_of(tcb.snd.mss + OVERHEAD_HEADERS)
    wanted = min(wanted, config.send_buffer_max)
    if wanted <= tcb.send_buffer.limit:
        return False
    tcb.send_buffer.limit = wanted
    return True


def memory_of(size: int) -> int:
    """What Linux charges a buffer for a segment of `size` bytes, overhead included."""
    return (1 << (size - 1).bit_length()) + OVERHEAD_RECORD


def segment_size_known(tcb: Tcb, size: int) -> None:
    """The peer's segments carry `size` bytes. So much of the first buffer is window, as text has
    to its memory; until then it was one half (Linux: scaling_ratio)."""
    config, buffer = tcb.config, tcb.receive_buffer
    if config.receive_buffer is None:
        memory = 2 * config.receive_buffer_initial
        ceiling = memory * size // memory_of(size + OVERHEAD_RECEIVED)
        buffer.ceiling = max(buffer.limit, buffer.ceiling, ceiling)  # it may have grown


def widen_window(tcb: Tcb, arrived: int, *, in_order: bool = True) -> None:
    """`arrived` bytes came: the window opens by twice as much, if there was room before.

    Linux: the peer hears of a window that grows at once.
    """
    buffer, clamp = tcb.receive_buffer, tcb.config.window_clamp
    if tcb.memory.pressure:
        if 2 * buffer.readable > buffer.ceiling:  # Linux tcp_adjust_rcv_ssthresh()
            buffer.limit = min(buffer.limit, PRESSED_SEGMENTS * tcb.rcv.mss)
        return
    room = buffer.ceiling - buffer.readable
    if in_order and tcb.config.receive_buffer is None:
        room += min(arrived, buffer.readable)
    room = (room if clamp is None else min(room, clamp)) - buffer.limit
    if room > 0:
        buffer.limit += min(room, 2 * max(arrived, tcb.rcv.mss))
        if arrived >= GROWING_BYTES and tcb.config.quick_acks:
            tcb.quick_acks |= 1


def tuner_of(tcb: Tcb, now: int) -> ReceiveTuner:
    """The right-sizing of `tcb`, which begins when the first text is read or measured."""
    tuner = tcb.tuner
    if tuner is None:
        rcv = tcb.rcv
        window = tcb.receive_buffer.limit
        position = min(rcv.nxt - tcb.receive_buffer.readable, rcv.irs + 1)
        tuner = tcb.tuner = ReceiveTuner(position, window, advertised_mss(tcb), now)
        tuner.mark = rcv.nxt + window  # what was used up before says nothing of the round trip
    return tuner


def advertised_mss(tcb: Tcb) -> int:
    """What the peer's segments carry at most, agreed options deducted (Linux advmss)."""
    return tcb.rcv.mss - (TIMESTAMP_OPTION if tcb.ts_on else 0)


def measured_space(tcb: Tcb) -> int:
    """Bytes that the reader takes in a round trip (Linux rcvq_space), as far as is known."""
    if tcb.tuner is not None:
        return tcb.tuner.space
    return min(tcb.receive_buffer.limit, INITIAL_SEGMENTS * advertised_mss(tcb))


def text_was_read(tcb: Tcb, now: int) -> None:
    """The user took text: see whether the window is as large as the reader is fast."""
    config = tcb.config
    tuner, rcv, buffer = tuner_of(tcb, now), tcb.rcv, tcb.receive_buffer
    if rcv.nxt >= tuner.mark:
        tuner.arrived(rcv.nxt, rcv.adv - rcv.nxt, now)
    if now < tuner.due_at:
        return
    unread = buffer.readable
    window = tuner.read(rcv.nxt - unread, unread, max(buffer.end - rcv.nxt, 0), now)
    if window <= buffer.ceiling or tcb.memory.pressure:
        return
    if config.receive_buffer is None and config.moderate_receive_buffer:
        buffer.ceiling = max(min(window, config.receive_buffer_max), buffer.ceiling)
