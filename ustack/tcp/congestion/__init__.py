"""Congestion control: numbers in, `cwnd` out. A controller never sees the Tcb.

A controller is chosen by name, per connection (`TcpConfig.congestion`).
"""

from collections.abc import Callable
from typing import Protocol

from ustack.tcp.congestion.newreno import NewReno


class CongestionControl(Protocol):
    """What the sender tells a congestion controller. Bytes and µs."""

    cwnd: int
    ssthresh: int

    def on_ack(
        self, acked: int, in_flight: int, rtt_us: int | None, app_limited: bool, now: int
    ) -> None:
        """`acked` bytes were newly acknowledged outside of loss recovery."""

    def on_loss(self, in_flight: int, now: int) -> None:
        """A recovery episode begins (RFC 5681 §3.2): set ssthresh."""

    def on_rto(self, in_flight: int, pipe: int, now: int, repeated: bool) -> None:
        """The retransmission timer expired (RFC 5681 §3.1): cwnd lets one segment out.

        `pipe`: what of `in_flight` was sent too recently to be lost (RFC 8985 §6.3, "RACK_mark_
        losses_on_RTO"). `repeated`: the flight had timed out before, so ssthresh stays.
        """

    def on_undo(self, cwnd: int, ssthresh: int, now: int) -> None:
        """The last reduction was needless: what it took is given back (RFC 4015, RFC 3708).

        `cwnd` and `ssthresh` are what they were before; both are at least that afterwards.
        """

    def on_recovered(self, now: int) -> None:
        """SND.UNA passed the recovery point."""

    def on_idle(self, idle_us: int, rto_us: int) -> None:
        """Sending resumes after `idle_us` without any (RFC 5681 §4.1)."""

    def on_mss(self, mss: int) -> None:
        """The sender's MSS changed (path MTU)."""


REGISTRY: dict[str, Callable[[int, int], CongestionControl]] = {"newreno": NewReno, "reno": NewReno}
