"""What is needed to take a cut of the congestion window back, should it turn out to be needless.

Two witnesses: every octet that was sent again is reported as a duplicate (D-SACK, RFC 3708), or the
ACK of what was thought lost echoes a timestamp older than the first retransmission (Eifel
detection, RFC 3522; response RFC 4015). Owned by `Recovery`; allocated when a cut is made.
"""


class Undo:
    """The window before a cut, and what has been sent again since. Positions, µs and bytes, of each
    segment as many as of a full one."""

    __slots__ = ("cwnd", "marker", "resent", "resent_at", "ssthresh")

    def __init__(self, cwnd: int, ssthresh: int, marker: int, on_their_way: int) -> None:
        """`marker`: SND.UNA now; `on_their_way`: copies sent before, whose D-SACKs will come."""
        self.cwnd = cwnd
        # Linux tcp_current_ssthresh: a window in use is worth three quarters of itself
        self.ssthresh = max(ssthresh, cwnd * 3 // 4)
        self.marker = marker
        # Copies not yet reported as duplicates; None: none was sent, so none can be reported
        self.resent: int | None = on_their_way or None
        self.resent_at: int | None = None  # when the first of them was sent

    def on_resend(self, size: int, now: int) -> None:
        """`size` bytes were sent again."""
        self.resent = (self.resent or 0) + size
        if self.resent_at is None:
            self.resent_at = now

    def forbid(self) -> None:
        """There was congestion besides (RFC 3168): the cut stays even if nothing was lost."""
        self.cwnd = self.ssthresh = 0

    def on_tail_probe(self, size: int) -> None:
        """A tail loss probe of `size` bytes of old text was out at the cut."""
        self.resent = (self.resent or 0) + size

    def on_dsack(self, size: int, end: int) -> None:
        """The peer got `size` bytes up to `end` twice."""
        if self.resent and end > self.marker:
            self.resent = max(0, self.resent - size)

    def all_duplicates(self) -> bool:
        """All that was sent again had arrived before (RFC 3708 §2)."""
        return self.resent == 0
