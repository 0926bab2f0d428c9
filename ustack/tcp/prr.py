"""Proportional Rate Reduction (RFC 9937): while a window is cut, data leaves as data arrives.

Linux: the congestion window at the start stands for RecoverFS, and the quota is rounded up to whole
segments, so that the first of two segments delivered lets one out and not the second.
"""


class ProportionalRate:
    """One episode. All sizes are bytes; `window` is what may be in the network now."""

    __slots__ = ("_delivered", "_flight", "_out", "window")

    def __init__(self, cwnd: int, mss: int) -> None:
        self._flight = max(cwnd // mss, 1)  # RecoverFS, in segments
        self._delivered = 0  # prr_delivered
        self._out = 0  # prr_out
        self.window = cwnd

    def on_ack(self, delivered: int, pipe: int, ssthresh: int, mss: int, *, safe: bool) -> None:
        """`delivered` bytes have newly arrived; `safe`: SND.UNA moved and no loss was found (§6).

        Until something has left, one segment may: the fast retransmit (§6, "force").
        """
        if delivered <= 0:
            return
        self._delivered += delivered
        target = max(ssthresh // mss, 1) * mss
        if pipe > target:
            budget = -(-self._delivered * target // (self._flight * mss * mss)) * mss - self._out
        else:  # slow start reduction bound
            budget = max(self._delivered - self._out, delivered)
            if safe:
                budget += mss
            budget = min(budget, target - pipe)
        if not self._out and budget < mss:
            budget = mss
        self.window = pipe + max(budget, 0)

    def sent(self, size: int) -> None:
        """`size` bytes left, new or again."""
        self._out += size
