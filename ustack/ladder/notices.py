"""What an observer notices in a packet by comparing it with those before it.

Owns the list of notices and the rules for each. Must not know states, files or how it is drawn.
The words are Wireshark's where it has one for the same thing.
"""

from bisect import insort
from enum import StrEnum

from ustack.ladder.observer import Sighting
from ustack.wire.tcp import FIN, RST, SYN


class Notice(StrEnum):
    """What an observer notices in one packet, beyond its header."""

    RETRANSMISSION = "retransmission"
    NEEDLESS_RETRANSMISSION = "needless retransmission"  # of what had been acknowledged
    PARTLY_NEW = "retransmission with new data"
    AFTER_GAP = "after a gap"  # what came before is late, lost, or was not captured
    FILLS_GAP = "fills a gap"
    DUPLICATE_ACK = "duplicate ACK"
    ZERO_WINDOW = "zero window"
    ZERO_WINDOW_PROBE = "zero-window probe"
    PROBE_ANSWER = "answer to the probe"
    WINDOW_UPDATE = "window update"
    KEEP_ALIVE = "keep-alive"


class SenderView:
    """What has been seen of one side. `notice` alone writes it."""

    __slots__ = ("next", "started", "finished", "gaps", "ack", "window", "probed")

    def __init__(self) -> None:
        self.next = 0  # behind everything it has sent
        self.started = False
        self.finished = False  # its FIN has been seen
        self.gaps: list[tuple[int, int]] = []  # numbers below `next` that were never seen
        self.ack: int | None = None
        self.window: int | None = None  # of its last packet that was no SYN
        self.probed = False  # its last packet was a probe


def notice(
    own: SenderView, other: SenderView, seen: Sighting, length: int, window: int
) -> tuple[Notice, ...]:
    """The notices of a packet; then `own`, its sender, has been brought up to date."""
    if seen.flags & RST:
        return ()
    notices = []
    occupies = seen.end - seen.seq
    other_closed_window = other.window == 0
    control = seen.flags & (SYN | FIN)
    below = own.started and not own.finished and not control and seen.seq == own.next - 1
    probed = False
    if below and length <= 1 and seen.ack is not None:
        notices.append(Notice.ZERO_WINDOW_PROBE if other_closed_window else Notice.KEEP_ALIVE)
        probed = True
    elif occupies and not control and other_closed_window and seen.seq == other.ack:
        notices.append(Notice.ZERO_WINDOW_PROBE)
        probed = True
    elif occupies and own.started:
        notices += _notice_position(own, other, seen)
    if not occupies and not probed:
        notices += _notice_acknowledgment(own, other, seen, window)
    if window == 0 and not seen.flags & SYN:
        notices.append(Notice.ZERO_WINDOW)

    if occupies or not own.started:
        own.next = max(own.next, seen.end) if own.started else seen.end
    own.started = True
    own.finished |= bool(seen.flags & FIN)
    own.probed = probed
    own.ack = seen.ack
    if not seen.flags & SYN:
        own.window = window
    return tuple(notices)


def _notice_position(own: SenderView, other: SenderView, seen: Sighting) -> list[Notice]:
    """Where the sequence numbers of a packet lie among those seen before."""
    if seen.seq > own.next:
        insort(own.gaps, (own.next, seen.seq))
        return [Notice.AFTER_GAP]
    if seen.seq == own.next:
        return []
    if seen.flags & SYN and seen.ack is not None and own.ack is None:
        return []  # simultaneous open: the SYN again, now with its ACK (RFC 9293 Figure 7)
    gaps = [gap for gap in own.gaps if gap[0] < seen.end and seen.seq < gap[1]]
    for left, right in gaps:
        own.gaps.remove((left, right))
        for rest in ((left, seen.seq), (seen.end, right)):
            if rest[0] < rest[1]:
                insort(own.gaps, rest)
    if gaps:
        return [Notice.FILLS_GAP]
    if seen.end > own.next:
        return [Notice.PARTLY_NEW]
    acknowledged = other.ack is not None and seen.end <= other.ack
    return [Notice.NEEDLESS_RETRANSMISSION if acknowledged else Notice.RETRANSMISSION]


def _notice_acknowledgment(
    own: SenderView, other: SenderView, seen: Sighting, window: int
) -> list[Notice]:
    """What a pure acknowledgment is for that acknowledges nothing new."""
    if seen.ack is None or seen.ack != own.ack or own.window is None:
        return []
    if window > own.window:
        return [Notice.WINDOW_UPDATE]
    if other.probed:
        return [Notice.PROBE_ANSWER]
    if window == own.window and seen.ack < other.next:
        return [Notice.DUPLICATE_ACK]
    return []
