"""Fewer ACKs of text behind a gap, once the peer knows of the loss (Linux tcp_comp_sack_*).

The first three for one RCV.NXT go at once, for fast retransmit needs them (RFC 5681 §3.2). Those
after them wait for each other, a twentieth of the round trip and no more than a millisecond: the
SACK blocks of the last one say all that those before it would have said. Without SACK none waits.
"""

from ustack.tcp import ack_policy
from ustack.tcp.tcb import Tcb

EAGER = 3  # ACKs; Linux TCP_FASTRETRANS_THRESH
EAGER_BLOCKS = 2  # a later one may not be in the next ACK any more; Linux TCP_SACK_BLOCKS_EXPECTED
SHARE = 20  # of the round trip


class SackCompression:
    """What one connection holds back."""

    __slots__ = ("duplicates", "held", "nxt", "saved")

    def __init__(self) -> None:
        self.nxt = 0  # the RCV.NXT that this is about
        self.duplicates = 0  # ACKs that went at once
        self.held = 0  # ACKs that wait
        self.saved = 0  # ACKs that were never sent, ever

    def acknowledged(self) -> None:
        """An ACK has left, and has said what others waited to say."""
        self.saved += self.held
        self.held = 0

    def expired(self) -> bool:
        """The timer of delayed ACKs has expired. True: it was for these; one of them goes now."""
        if not self.held:
            return False
        self.held -= 1
        return True


def crowds_out(tcb: Tcb, start: int, end: int) -> bool:
    """[start, end) has come behind a gap, and is not stored yet. True: once it is, there may be no
    room for the SACK blocks that ACKs wait to report."""
    rest = tcb.compression
    if rest is None or not rest.held:
        return False
    return tcb.receive_buffer.recency(start, end) >= EAGER_BLOCKS


def may_wait(tcb: Tcb, crowded: bool, now: int) -> bool:
    """The ACK of what has come behind a gap waits for a timer. `crowded`: see `crowds_out`.

    Linux __tcp_ack_snd_check(): quick ACKs are no duplicates, and are used up by them.
    """
    if tcb.sack_on and tcb.config.compressed_acks and _is_late(tcb, crowded, now):
        return True
    if tcb.quick_acks and not tcb.ack_owed:
        ack_policy.acknowledged(tcb)
    return False


def part_filled(tcb: Tcb, nxt: int) -> None:
    """Text up to `nxt` has filled a part of the gap. Its ACK goes at once, and if it is of no more
    than a segment and no quick one, it is the first of the three for this RCV.NXT."""
    rest = tcb.compression
    if rest is not None:
        quick = tcb.quick_acks and not ack_policy.is_dialogue(tcb)
        rest.nxt = nxt
        rest.duplicates = not (quick or nxt - tcb.last_ack_sent > tcb.rcv.mss_seen)


def _is_late(tcb: Tcb, crowded: bool, now: int) -> bool:
    if tcb.quick_acks and not ack_policy.is_dialogue(tcb):
        return False
    rest = tcb.compression
    if rest is None:
        rest = tcb.compression = SackCompression()
    if rest.held >= tcb.config.compressed_acks or tcb.ack_now:
        return False
    if rest.nxt != tcb.rcv.nxt:
        rest.nxt = tcb.rcv.nxt
        rest.duplicates = 0
    if rest.duplicates < EAGER:
        rest.duplicates += 1
        return False
    if crowded:
        rest.held -= 1  # this ACK is one of them
        return False
    if not rest.held:
        tcb.timers.delayed_ack = min(tcb.timers.delayed_ack, now + _delay(tcb))
    rest.held += 1
    return True


def _delay(tcb: Tcb) -> int:
    """How long an ACK waits, µs: by the receiver's round trip, or the sender's if that is less."""
    config, round_trip = tcb.config, tcb.tuner.rtt if tcb.tuner is not None else 0
    if 0 < tcb.rtt.srtt < round_trip:
        round_trip = tcb.rtt.srtt
    return min(round_trip // SHARE, config.compressed_ack_us) + config.compressed_ack_slack_us
