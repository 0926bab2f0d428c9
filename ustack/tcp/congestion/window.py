"""What controllers share that set a window by loss: where it starts, and what idling does to it.

RFC 5681 §3.1 and §4.1, RFC 6928, RFC 2861 as Linux has it. How it grows is the controllers' own.
"""

from abc import ABC, abstractmethod

INFINITE_SSTHRESH = 1 << 60  # RFC 5681 §3.1: arbitrarily high at first
MIN_SSTHRESH_SEGMENTS = 2  # RFC 5681 equation 4


def restart_window(mss: int) -> int:
    """RFC 3390: what a sending that begins anew may use if the ten segments were too many."""
    return min(4 * mss, max(2 * mss, 4380))


class LossBasedWindow(ABC):
    """`cwnd` and `ssthresh`, bytes. A subclass says how to grow (`on_ack`) and cut (`on_loss`)."""

    __slots__ = ("_cautious", "_initial", "_initial_segments", "_mss", "_paced", "cwnd", "ssthresh")

    own_recovery = False  # proportional rate reduction sets the window during fast recovery

    def __init__(self, mss: int, initial_segments: int) -> None:
        self._mss = mss
        self._initial_segments = initial_segments
        self._paced = False
        self._cautious = False  # the first flight has met a loss
        self._initial = self._initial_window()
        self.cwnd = self._initial
        self.ssthresh = INFINITE_SSTHRESH

    def adopt(self, cwnd: int, ssthresh: int) -> None:
        """Another controller has led the connection so far."""
        self.cwnd = max(cwnd, self._mss)
        self.ssthresh = ssthresh

    def on_pacing(self, paced: bool) -> None:
        """Who watches slow start must know it."""
        self._paced = paced

    def _initial_window(self) -> int:
        """RFC 6928 §2: min(10 MSS, max(2 MSS, 14600)), scaled for other counts of segments."""
        mss, segments = self._mss, self._initial_segments
        window = min(segments * mss, max(2 * mss, segments * 1460))
        return min(window, restart_window(mss)) if self._cautious else window

    @abstractmethod
    def on_loss(self, in_flight: int, now: int) -> None:
        """A recovery episode begins: set ssthresh."""

    def on_rto(self, in_flight: int, pipe: int, now: int, repeated: bool) -> None:
        """RFC 5681 §3.1: the loss window is one segment, beside what is not lost."""
        if not repeated:
            self.on_loss(in_flight, now)
        self.cwnd = pipe + self._mss

    def on_undo(self, cwnd: int, ssthresh: int, now: int) -> None:
        """Both windows are as if the loss had not been thought of."""
        self.cwnd = max(self.cwnd, cwnd)
        self.ssthresh = max(self.ssthresh, ssthresh)

    def on_recovered(self, now: int) -> None:
        """RFC 6582 §3.2 step 3, first option without its burst: PRR already limited the flight."""
        if self.ssthresh < INFINITE_SSTHRESH:  # else the recovery began under another controller
            self.cwnd = max(self.ssthresh, self._mss)

    @abstractmethod
    def on_resume(self, idle_us: int, now: int) -> None:
        """Nothing was in flight for `idle_us`."""

    def on_idle(self, idle_us: int, rto_us: int) -> None:
        """RFC 5681 §4.1: back to the initial window after an idle RTO. Linux halves per RTO.

        Three quarters of a window that proved right can be had back at once (RFC 2861 §2).
        """
        self.ssthresh = max(self.ssthresh, 3 * self.cwnd // 4)
        while idle_us > rto_us and self.cwnd > self._initial:
            self.cwnd = max(self.cwnd // 2, self._initial)
            idle_us -= rto_us

    def on_mss(self, mss: int) -> None:
        """A smaller segment: the window in segments stays as it was (RFC 5681 §3.1), at least one.

        A larger one: the window in bytes stays (RFC 4821 §4).
        """
        if mss < self._mss:
            self.cwnd = self.cwnd * mss // self._mss
        self.cwnd = max(self.cwnd, mss)
        self._mss = mss
        self._initial = self._initial_window()

    def _note_loss(self) -> None:
        """If the loss met the first flight, ten segments were too many (RFC 6928 §2).

        As long as nothing has cut the window and it has not doubled, that flight is not over.
        """
        if self.ssthresh == INFINITE_SSTHRESH and self.cwnd < 2 * self._initial:
            self._cautious = True
            self._initial = self._initial_window()
