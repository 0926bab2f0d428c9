"""Congestion control: numbers in, `cwnd` out. A controller never sees the Tcb.

A controller is chosen by name, per connection (`TcpConfig.congestion`).
"""

from collections.abc import Callable
from typing import Protocol

from ustack.tcp.congestion.bbr import Bbr
from ustack.tcp.congestion.cubic import Cubic
from ustack.tcp.congestion.newreno import NewReno
from ustack.tcp.congestion.slow_start import SLOW_STARTS
from ustack.tcp.congestion.window import INFINITE_SSTHRESH

__all__ = ["INFINITE_SSTHRESH", "REGISTRY", "CongestionControl"]


class CongestionControl(Protocol):
    """What the sender tells a congestion controller. Bytes and µs."""

    cwnd: int
    ssthresh: int
    own_recovery: bool  # `cwnd` holds in fast recovery too; else the rate reduction's window does

    def adopt(self, cwnd: int, ssthresh: int) -> None:
        """Take over a connection that is under way, with these windows."""

    def on_pacing(self, paced: bool) -> None:
        """Text is paced from now on, or no longer."""

    def on_ack(
        self, acked: int, in_flight: int, rtt_us: int | None, app_limited: bool, now: int
    ) -> None:
        """`acked` bytes were newly delivered outside of loss recovery.

        `in_flight` are still unacknowledged. `rtt_us`: what this ACK tells of the round trip, None
        if nothing. `app_limited`: the window was not in use.
        """

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

    def on_resume(self, idle_us: int, now: int) -> None:
        """Sending begins after `idle_us` with nothing in flight, however short."""

    def on_idle(self, idle_us: int, rto_us: int) -> None:
        """Sending resumes after `idle_us`, more than an RTO, without any (RFC 5681 §4.1)."""

    def on_mss(self, mss: int) -> None:
        """The sender's MSS changed (path MTU)."""


def _newreno(mss: int, initial_segments: int, slow_start: str | None) -> CongestionControl:
    make = SLOW_STARTS[slow_start or "standard"]
    return NewReno(mss, initial_segments, make(mss) if make is not None else None)


def _cubic(mss: int, initial_segments: int, slow_start: str | None) -> CongestionControl:
    return Cubic(mss, initial_segments, SLOW_STARTS[slow_start or "hystart++"])


def _bbr(mss: int, initial_segments: int, slow_start: str | None) -> CongestionControl:
    return Bbr(mss, initial_segments)


# (MSS, segments of the initial window, TcpConfig.slow_start) -> a controller
REGISTRY: dict[str, Callable[[int, int, str | None], CongestionControl]] = {
    "bbr": _bbr,
    "cubic": _cubic,
    "newreno": _newreno,
    "reno": _newreno,
}
