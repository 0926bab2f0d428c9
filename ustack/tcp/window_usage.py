"""Congestion window validation: is cwnd in use, or is it larger than anybody needs?

A window that is not filled says nothing about the path, so it must not grow (RFC 7661 §4.3). What
counts as "in use" is Linux's is_cwnd_limited. Bytes and µs; knows no Tcb.
"""

from ustack.tcp.congestion import CongestionControl


class WindowUsage:
    """How much of the congestion window one connection uses."""

    __slots__ = ("_until", "limited", "most")

    def __init__(self) -> None:
        self.limited = False  # in the last window of data cwnd was filled
        self.most = 0  # or else so much was in flight at most
        self._until = 0  # SND.NXT when that was noted

    def in_use(self, congestion: CongestionControl) -> bool:  # hot
        """cwnd may grow. In slow start it may grow to twice the flight (Linux)."""
        if self.limited:
            return True
        cwnd = congestion.cwnd
        return cwnd < congestion.ssthresh and cwnd < 2 * self.most

    def sent(self, una: int, nxt: int, flight: int, limited: bool) -> None:  # hot
        """Something was sent, or kept back by cwnd (`limited`). `flight`: full segments' bytes."""
        if limited or una >= self._until or (not self.limited and flight > self.most):
            self.limited = limited
            self.most = flight
            self._until = nxt
