"""Positions in the send stream that the user wants kept apart, or to be told about.

Made for a connection when the first one is asked for; most have none. What there is to tell is
collected in `reports` until the socket takes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Kinds of reports. The first three are Linux's SCM_TSTAMP_*.
SENT, QUEUED, ACKED, RELEASED = 0, 1, 2, 3
MAX_REPORTS = 1024  # not taken by the user; further ones are counted
MAX_MARKS = 4096  # of each kind, while unacknowledged; further ones are counted


@dataclass(slots=True, frozen=True)
class Report:
    """`kind` happened at `at` (µs) to the octets that end with number `key`.

    RELEASED: nothing refers to the buffers of send `key` any more. `quoted`: size of the packet.
    """

    kind: int
    key: int
    at: int = 0
    quoted: int = 0
    stats: Mapping[str, int] | None = None  # what `SendMarks.describe` said then


@dataclass(slots=True)
class Stamp:
    """The octet before `end` was written with a wish to know when it is sent and acknowledged."""

    end: int
    key: int  # what the user calls it
    kinds: frozenset[int]


class SendMarks:
    """The marks of one connection, in the order of the stream."""

    __slots__ = ("describe", "dropped", "lent", "records", "reports", "stamps")

    def __init__(self) -> None:
        self.records: list[int] = []  # no segment reaches over these (MSG_EOR)
        self.stamps: list[Stamp] = []
        self.lent: list[tuple[int, int]] = []  # (end, number of the send): MSG_ZEROCOPY
        self.reports: list[Report] = []
        self.dropped = 0
        # The connection at that time (µs), when all before that position has left: with reports
        self.describe: Callable[[int, int], Mapping[str, int]] | None = None

    def end_record(self, end: int) -> None:
        """What follows `end` is never sent in one segment with what lies before it."""
        if len(self.records) >= MAX_MARKS:
            self.dropped += 1
        elif not self.records or self.records[-1] < end:
            self.records.append(end)

    def record_end(self, start: int, end: int) -> int:
        """The first end of a record between `start` and `end`, else `end`."""
        return next((at for at in self.records if start < at < end), end)

    def stamp(self, end: int, key: int, kinds: frozenset[int]) -> None:
        """Report `kinds` of the octet before `end`.

        Linux keeps one mark for what waits in one buffer: a later one that has not been sent
        takes the place of an earlier one (timestamping.rst), which `sent` sees to.
        """
        if len(self.stamps) >= MAX_MARKS:
            self.dropped += 1
        else:
            self.stamps.append(Stamp(end, key, kinds))

    def lend(self, end: int, number: int) -> None:
        """The octets up to `end` belong to send `number` until they are acknowledged."""
        if len(self.lent) >= MAX_MARKS:
            self.dropped += 1
        else:
            self.lent.append((end, number))

    def sent(self, start: int, end: int, now: int) -> bool:
        """[start, end) has left, for the first time or again. True: there is something to tell."""
        inside = [stamp for stamp in self.stamps if start < stamp.end <= end]
        if not inside:
            return False
        for stamp in inside[:-1]:
            self.stamps.remove(stamp)
        last = inside[-1]
        for kind in (QUEUED, SENT):
            if kind in last.kinds:
                self._report(self._described(kind, last.key, end, now, end - start))
        return True

    def acknowledged(self, una: int, now: int) -> bool:
        """All before `una` has arrived. True: there is something to tell."""
        before = len(self.reports)
        if self.records and self.records[0] <= una:
            self.records = [at for at in self.records if at > una]
        while self.stamps and self.stamps[0].end <= una:
            stamp = self.stamps.pop(0)
            if ACKED in stamp.kinds:
                self._report(self._described(ACKED, stamp.key, stamp.end, now, 1))
        self._release(una)
        return len(self.reports) > before

    def abandon(self) -> bool:
        """Nothing more will be sent: what was lent is given back, the rest is forgotten."""
        self.records.clear()
        self.stamps.clear()
        if not self.lent:
            return False
        self._release(self.lent[-1][0])
        return True

    def take(self) -> list[Report]:
        """What there is to tell, oldest first."""
        taken, self.reports = self.reports, []
        return taken

    def _described(self, kind: int, key: int, end: int, now: int, quoted: int) -> Report:
        stats = self.describe(now, end) if self.describe is not None else None
        return Report(kind, key, now, quoted, stats)

    def _release(self, upto: int) -> None:
        while self.lent and self.lent[0][0] <= upto:
            self._report(Report(RELEASED, self.lent.pop(0)[1]))

    def _report(self, report: Report) -> None:
        if len(self.reports) >= MAX_REPORTS:
            self.dropped += 1
        else:
            self.reports.append(report)
