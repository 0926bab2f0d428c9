"""RACK: loss told by time (RFC 8985). What was sent before something that has been delivered, and
longer ago than a round trip and some tolerance for reordering, is lost.

It finds lost retransmissions and losses behind reordering, which counting SACKed bytes cannot.
"""

MAX_MULTIPLIER = 255  # of min_rtt / 4, Linux; srtt caps the tolerance anyway
PERSIST_RECOVERIES = 16  # RFC 8985 §6.2 step 4: a widened tolerance is kept for so many


class Rack:
    """RACK's variables of one connection (RFC 8985 §5.2). Times in µs."""

    __slots__ = (
        "_multiplier",
        "_persist",
        "_widened_until",
        "end",
        "reordering_seen",
        "rtt",
        "sent_at",
    )

    def __init__(self) -> None:
        self.sent_at = -1  # RACK.xmit_ts: when the newest delivered segment was sent
        self.end = 0  # RACK.end_seq: its end
        self.rtt = 0  # RACK.rtt: how long the one took that was delivered last
        self.reordering_seen = 0  # how often something sent once came after something sent later
        self._multiplier = 1  # RACK.reo_wnd_mult
        self._persist = 0  # RACK.reo_wnd_persist
        self._widened_until = -1  # RACK.dsack_round: SND.NXT at the last widening, -1: never

    def delivered(self, sent_at: int, end: int, now: int) -> None:
        """A segment sent at `sent_at` has arrived (§6.2 step 2)."""
        if (sent_at, end) > (self.sent_at, self.end):
            self.sent_at = sent_at
            self.end = end
            self.rtt = now - sent_at

    def tolerance(self, min_rtt: int, srtt: int, many_sacked: bool, recovering: bool) -> int:
        """RACK.reo_wnd: how much later than its successors a segment may come (§6.2 step 4)."""
        if not self.reordering_seen and (many_sacked or recovering):
            return 0
        return min(self._multiplier * min_rtt // 4, srtt)

    def on_dsack(self, una: int, nxt: int) -> None:
        """The peer got something twice: the tolerance was too small. At most once per round trip.

        Linux: only where reordering was seen; else it was not RACK that was too hasty.
        """
        if not self.reordering_seen or una < self._widened_until:
            return
        self._widened_until = nxt
        self._multiplier = min(self._multiplier + 1, MAX_MULTIPLIER)
        self._persist = PERSIST_RECOVERIES

    def on_recovered(self) -> None:
        """A recovery has ended: after enough of them without a DSACK the tolerance shrinks."""
        if self._persist:
            self._persist -= 1
            if not self._persist:
                self._multiplier = 1

    def on_needless_recovery(self) -> None:
        """DSACKs have undone a recovery, so it does not count as one (Linux)."""
        if self._persist:
            self._persist = min(self._persist + 1, PERSIST_RECOVERIES)
