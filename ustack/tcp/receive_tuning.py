"""Receive-buffer autotuning (dynamic right-sizing): how large a window the reader can make use of.

The reader takes at most one window per round trip. So the window is to be at least twice what was
read during the last one: then it is the sender's congestion window, and not ours, that limits, and
a slow reader keeps a small window. Linux: tcp_rcv_space_adjust(). Knows numbers, no Tcb.

The round trip is measured without any text of ours: by echoed timestamps, or by how long the
sender takes to use up the window that it was offered.
"""

NEVER = 1 << 62  # µs
INITIAL_SEGMENTS = 10  # RFC 6928: what a sender may deliver in the first round trip anyway


class ReceiveTuner:
    """Right-sizing of one connection that receives. Positions are unwrapped, times µs."""

    __slots__ = ("_marked_at", "_since", "_smoothed", "_start", "due_at", "mark", "space")

    def __init__(self, position: int, window: int, mss: int, now: int) -> None:
        """`position`: the first octet not read yet; `window`: what the peer was offered."""
        # Bytes read in the best round trip so far. To begin with half of a window of few segments,
        # since whole ones may never use up all of it.
        self.space = max(min(window // 2, INITIAL_SEGMENTS * mss), 1)
        self.mark = position + window  # when RCV.NXT reaches this, a window was used up
        self.due_at = NEVER  # when `read` is worth calling: not before a round trip is known
        self._marked_at = now
        self._smoothed = 0  # eight times the round trip
        self._start = position  # the first octet that was not read when this round trip began
        self._since = now

    @property
    def rtt(self) -> int:
        """The receiver's estimate of the round trip, µs; 0: none yet."""
        return self._smoothed >> 3

    def echoed(self, rtt_us: int, *, drained: bool) -> None:
        """A timestamp of ours came back. `drained`: the reader had read everything before.

        If not, the sample may measure the reader, and only a smaller one is believed.
        """
        if not self._smoothed:
            self.due_at = 0
        if not self._smoothed or rtt_us << 3 < self._smoothed:
            self._smoothed = rtt_us << 3
        elif drained:
            self._smoothed += rtt_us - (self._smoothed >> 3)

    def arrived(self, nxt: int, window: int, now: int) -> None:
        """RCV.NXT has reached `mark`: the sender took so long for one window, or less."""
        sample = max(now - self._marked_at, 1) << 3
        if not self._smoothed:
            self.due_at = 0
        if not self._smoothed or sample < self._smoothed:  # a sender may also have paused
            self._smoothed = sample
        self.mark = nxt + window
        self._marked_at = now

    def read(self, position: int, unread: int, held_span: int, now: int) -> int:
        """The window that would do, 0: as it is.

        `position`: the first octet not read; `unread`: bytes in order behind it; `held_span`: how
        far text behind a gap reaches beyond RCV.NXT.
        """
        if not self._smoothed:
            return 0
        rtt = max(self._smoothed >> 3, 1)
        if now - self._since < rtt:
            self.due_at = self._since + rtt
            return 0
        taken = position - self._start - unread
        self._start = position
        self._since = now
        self.due_at = now + rtt
        previous = self.space
        if taken <= previous:
            return 0
        self.space = taken
        # Twice, since a sender in slow start doubles; more, the faster the rate has been growing.
        window = 2 * taken
        window += 2 * (window * (taken - previous) // previous)
        return window + held_span
