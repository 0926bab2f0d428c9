"""What every segment that leaves carries, and what is settled once it has left.

`transmit` and `probes` decide which one that is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from ustack.tcp import ack_policy
from ustack.tcp.emit import Emit
from ustack.tcp.handshake import timestamp, timestamps
from ustack.tcp.md5_signature import signature_size
from ustack.tcp.seq import MASK32
from ustack.tcp.tcb import NEVER, REPORTED, Tcb, option_bytes
from ustack.wire.tcp import MAX_OPTIONS_LEN, URG
from ustack.wire.tcp_options import encode_options

SACK_HEADER = 4  # bytes: NOP, NOP, kind, length (RFC 2018 §3)
SACK_BLOCK = 8  # bytes
LEAST_TEXT = 4  # bytes beside SACK blocks


def acceptable_seq(tcb: Tcb) -> int:  # hot
    """SEQ of a segment without text: SND.NXT, unless the peer has taken its window back.

    Linux does that when its memory is full, and then drops what lies beyond the new edge, ACKs
    included: with SND.NXT, two full peers would never hear each other again.
    """
    snd = tcb.snd
    edge = snd.una + snd.wnd
    return snd.nxt if snd.nxt < edge else edge


def window_field(tcb: Tcb) -> int:  # hot
    """The window field: RCV.WND, with silly-window avoidance (RFC 9293 §3.8.6.2.2).

    The right edge moves only by min(half the buffer, one MSS) or more, and never to the left. The
    field has a granularity of 2^wscale. It is rounded up, as Linux does, unless that would promise
    more than the buffer holds (Linux minds that not, nor do we with `linux_windows`). Where it is
    rounded down, the peer sees a smaller edge than before, but may have filled the larger one, so
    that one still counts (RFC 7323 §2.4): without this, a kernel that has sent those last bytes is
    never heard again, for its ACKs lie beyond the edge.
    """
    rcv, receive_buffer = tcb.rcv, tcb.receive_buffer
    nxt, adv, limit = rcv.nxt, rcv.adv, receive_buffer.limit
    room = receive_buffer.ceiling - receive_buffer.readable
    edge = nxt + (limit if limit < room else room)
    if edge - adv >= rcv.mss or edge - adv >= limit >> 1:
        adv = edge
    shift = rcv.wscale
    field = adv - nxt
    if adv <= edge or tcb.config.linux_windows:
        field += rcv.rounding
    field >>= shift
    if field > 0xFFFF:
        field = 0xFFFF
    promised = nxt + (field << shift)
    if promised > rcv.adv:  # rounded down or not, what was ever promised is in window
        rcv.adv = promised  # (RFC 7323 §2.4)
    return field


def options_due(tcb: Tcb, now: int) -> bytes:  # hot
    """Timestamps, and SACK blocks while there is something to report."""
    return sack_options(tcb, now) if tcb.sack_due else timestamps(tcb, now)


def sack_options(tcb: Tcb, now: int, text: int = 0) -> bytes:
    """Timestamps and SACK blocks, beside `text` bytes at least. A duplicate is reported once
    (RFC 2883 §4)."""
    room = _most_blocks(tcb, text)
    blocks = tcb.receive_buffer.sack_blocks()
    if _fin_waits(tcb):
        _report_fin(blocks, tcb.rcv.fin)
    del blocks[room:]
    if not blocks:
        tcb.sack_due = False
        return timestamps(tcb, now)
    return encode_options(
        tsval=timestamp(tcb, now) if tcb.ts_on else None,
        tsecr=tcb.ts_recent,
        sack=tuple((a & MASK32, b & MASK32) for a, b in blocks),
    )


def _most_blocks(tcb: Tcb, text: int) -> int:
    """How many blocks there is room for beside `text` bytes, though the path MTU be 68 bytes."""
    room = min(tcb.path_mtu_payload - text, MAX_OPTIONS_LEN)
    room -= SACK_HEADER + option_bytes(tcb) + signature_size(tcb)
    return max(room // SACK_BLOCK, 0)


def _fin_waits(tcb: Tcb) -> bool:
    """The peer's FIN has come, behind a gap."""
    rcv = tcb.rcv
    return rcv.fin is not None and rcv.fin >= rcv.nxt


@contextmanager
def smaller_by_blocks(tcb: Tcb) -> Iterator[None]:
    """While something is to be reported, text has SACK blocks beside it, and the less of it fits
    into a segment (Linux tcp_current_mss())."""
    snd, buffer = tcb.snd, tcb.receive_buffer
    count = buffer.out_of_order + (buffer.duplicate is not None)
    if _fin_waits(tcb) and tcb.rcv.fin != buffer.end:
        count += 1
    count = min(count, _most_blocks(tcb, LEAST_TEXT))
    mss, limit = snd.mss, snd.gso_limit
    if count:
        snd.mss = max(mss - SACK_HEADER - count * SACK_BLOCK, min(mss, LEAST_TEXT))
        snd.gso_limit = limit // mss * snd.mss
    try:
        yield
    finally:
        snd.mss, snd.gso_limit = mss, limit


def _report_fin(blocks: list[tuple[int, int]], fin: int | None) -> None:
    """A FIN behind a gap has a sequence number and is reported with the rest (RFC 2018 §3)."""
    assert fin is not None
    for index, (left, right) in enumerate(blocks):
        if right == fin:
            blocks[index] = (left, right + 1)
            return
    blocks.append((fin, fin + 1))


def acknowledged(tcb: Tcb) -> None:
    """A segment with ACK = RCV.NXT has left: no ACK is owed."""
    if tcb.quick_acks and tcb.ack_owed:
        ack_policy.acknowledged(tcb)
    if tcb.compression is not None:
        tcb.compression.acknowledged()
    tcb.ack_now = tcb.ack_soon = tcb.flush_now = False
    tcb.ack_owed = tcb.pushed = 0
    tcb.timers.delayed_ack = NEVER
    tcb.last_ack_sent = tcb.rcv.nxt


def send_segment(
    tcb: Tcb, start: int, end: int, flags: int, now: int, emit: Emit, note: str
) -> bool:  # hot
    """Emit [start, end) of the send buffer; it acknowledges too."""
    urgent = 0
    up = tcb.snd.up
    if up is not None:
        if start < up:
            flags |= URG
            urgent = min(up - start, 0xFFFF)  # MUST-62
        elif tcb.snd.una >= up:
            tcb.snd.up = None
    options = sack_options(tcb, now, LEAST_TEXT) if tcb.sack_due else timestamps(tcb, now)
    payload = tcb.send_buffer.views(start, end) if end > start else ()
    if not emit(tcb, start, flags, window_field(tcb), options, payload, end - start, urgent, note):
        return False
    text_left(tcb, start, end, now)
    return True


def text_left(tcb: Tcb, start: int, end: int, now: int) -> None:  # hot
    """[start, end) was emitted, for the first time or again; its segments acknowledge too."""
    if now - tcb.text_received_at < tcb.ato:
        ack_policy.answered(tcb)
    acknowledged(tcb)
    tcb.last_data_sent_at = now
    size, mss = end - start, tcb.snd.mss
    if size > mss:
        tcb.counters.data_segments_out += -(-size // mss)
    elif size:
        tcb.counters.data_segments_out += 1
    if tcb.marks is not None and tcb.marks.sent(start, end, now):
        tcb.events |= REPORTED
    if tcb.stalled_since == NEVER:
        tcb.stalled_since = now
    if tcb.config.user_timeout_us is not None and tcb.timers.user == NEVER:
        tcb.timers.user = now + tcb.config.user_timeout_us
