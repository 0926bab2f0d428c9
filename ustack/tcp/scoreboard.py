"""What is in flight, and what became of it (RFC 6675 §3 and §4).

The unit is a range of sequence space, not a packet: one entry per super-segment or per burst,
split when a SACK block or a retransmission names a part of it. A SYN is never in here, a FIN is one
octet.

Linux counts segments, whatever their size, where the RFCs count bytes. Both are had by letting a
small segment weigh as much as a full one: a range holds full segments, of which at most the last is
small, and `slack` is what that one lacks. All counts but `in_flight` are such weights, multiples of
the segment size; where all segments are full they are bytes.
"""

from bisect import bisect_left, bisect_right, insort
from operator import itemgetter

from ustack.tcp.delivery_rate import Origin
from ustack.tcp.sent_range import SentRange

DUP_THRESH = 3  # RFC 5681 §3.2, RFC 6675 §2
NOWHERE = 1 << 62  # a position above all others
MERGE_LIMIT = 1 << 20  # bytes: ranges sent at the same moment grow up to this
_time = itemgetter(0)  # of a copy


class Scoreboard:
    """The ranges between SND.UNA and SND.NXT in ascending order, and their totals (see above).

    pipe (RFC 6675 §4) is what was sent, less SACKed, less lost, plus resent. Without SACK the
    duplicate ACKs stand in for SACKed bytes, as each says that one segment has left the network.
    What is lost and not resent is `owed`; what is resent and not lost was thought lost by mistake.
    """

    __slots__ = (
        "_copies",
        "_owed_from",
        "_ranges",
        "_settled_below",
        "_starts",
        "bytes_resent",
        "delivered_again",
        "delivered_first",
        "dup_acked",
        "highest_sacked",
        "in_flight",
        "last_at",
        "last_copies",
        "losses",
        "lost",
        "merge_limit",
        "mss",
        "oldest_at",
        "origin",
        "origin_again",
        "origin_first",
        "original",
        "owed",
        "padding",
        "part_acked",
        "resent",
        "retransmissions",
        "sacked",
        "sacked_before",
        "slack",
    )

    def __init__(self, mss: int = 1) -> None:
        """`mss`: what a segment weighs. 1: as many octets as it has, so all counts are bytes."""
        self._ranges: list[SentRange] = []
        self._starts: list[int] = []
        # Where to begin: below, no range is owed; below, every range is SACKed, lost or resent
        self._owed_from = 0
        self._settled_below = 0
        self._copies: list[tuple[int, SentRange]] = []  # `resent`, by time sent; some are stale
        self.mss = mss
        self.merge_limit = MERGE_LIMIT  # 0: what leaves in one piece is one range
        self.in_flight = 0  # SND.NXT - SND.UNA
        self.slack = 0  # of all ranges
        self.padding = 0  # slack of what has ever been acknowledged
        self.sacked = 0
        self.lost = 0
        self.resent = 0  # copies on their way
        self.owed = 0  # lost and not resent since
        self.part_acked = 0  # SND.UNA after an ACK of less than a segment, the last there was
        self.dup_acked = 0  # bytes inferred from duplicate ACKs, only without SACK
        self.highest_sacked = 0  # position after the highest octet SACKed, 0: none
        # For RACK, since `begin_ack`: when the newest segment newly delivered was sent and where it
        # ended, apart for those sent once and those sent again
        self.delivered_first: tuple[int, int] | None = None
        self.delivered_again: tuple[int, int] | None = None
        self.last_at: int | None = None  # when the segment delivered last was sent
        self.last_copies = 0  # and how often again
        self.origin_first: Origin | None = None  # of these two
        self.origin_again: Origin | None = None
        self.origin: Origin | None = None  # of what leaves now
        self.losses: list[tuple[int, Origin | None]] | None = None  # (bytes, ...) if wanted
        # Where the lowest range begins that was sent once and newly delivered, since `begin_ack`
        self.original = NOWHERE
        # When the oldest text left that gives the newest ACK a round trip: see `ack` and `sack`
        self.oldest_at: int | None = None
        self.sacked_before = 0  # `highest_sacked` at `begin_ack`
        self.retransmissions = 0  # segments sent again, for STATUS
        self.bytes_resent = 0

    def __len__(self) -> int:
        return len(self._ranges)

    def is_clean(self) -> bool:
        """Nothing is in flight, nothing was ever lost or resent, and nobody samples rates."""
        return not (
            self._ranges or self.highest_sacked or self.retransmissions or self.dup_acked
        ) and (self.origin is None and self.losses is None)

    def ranges(self) -> list[SentRange]:
        """A copy for display and tests."""
        return list(self._ranges)

    def pipe(self) -> int:
        """What is believed to be in the network."""
        flight = self.in_flight + self.slack
        return max(0, flight - self.sacked - self.lost + self.resent - self.dup_acked)

    def flight(self) -> int:
        """What is not acknowledged, each segment as a full one."""
        return self.in_flight + self.slack

    def resize(self, mss: int) -> None:
        """A full segment has another size now: there are as many of them as before."""
        old, self.mss = self.mss, mss
        if old == mss or not self._ranges:
            return
        sacked, self.slack = self.sacked, 0
        for entry in self._ranges:
            size = entry.end - entry.start
            count = (size + entry.slack) // old if old > 1 else -(-size // mss)
            entry.slack = count * mss - size
            self.slack += entry.slack
        self._weigh()
        self.dup_acked = self.dup_acked // old * mss
        self.padding += sacked - self.sacked  # what has been delivered does not change

    def _weigh(self) -> None:
        """Add up what each mark weighs."""
        self.sacked = self.lost = self.resent = self.owed = 0
        for entry in self._ranges:
            weight = entry.end - entry.start + entry.slack
            self.sacked += weight * entry.sacked
            self.lost += weight * entry.lost
            self.resent += weight * entry.resent
            self.owed += weight * (entry.lost and not entry.resent)

    def sent(self, start: int, end: int, now: int, slack: int = 0) -> None:
        """New data [start, end) left; its segments lack `slack` bytes to be full ones."""
        self.in_flight += end - start
        if slack:
            self.slack += slack
        ranges = self._ranges
        if ranges:
            last = ranges[-1]
            if (
                last.sent_at == now
                and last.end == start
                and last.origin is self.origin
                and not (last.sacked or last.lost or last.slack)
                and (not slack or slack + 1 != self.mss)  # nor a FIN that goes alone
                and end - last.start <= self.merge_limit
            ):
                last.end = end
                last.slack = slack
                return
        ranges.append(SentRange(start, end, slack, now, self.origin))
        self._starts.append(start)

    def _split(self, index: int, at: int) -> None:
        """Make a boundary inside range `index` at position `at`, which may make one segment two."""
        head = self._ranges[index]
        mss, size, before = self.mss, at - head.start, head.slack
        if -1 <= before < mss:
            first = -size % mss
            # A FIN on a full segment is no segment of its own
            slack = size % mss - 1 if before == -1 and at + 1 < head.end else (before + size) % mss
        else:
            count, whole = self._segments(head, size)
            whole = min(max(whole, 1), max(count - 1, 1))
            first = whole * mss - size
            slack = max(count - whole, 1) * mss - (head.end - at)
        tail = SentRange(at, head.end, slack, head.sent_at, head.origin)
        tail.sacked, tail.lost, tail.resent = head.sacked, head.lost, head.resent
        tail.copies = head.copies
        head.end = at
        head.slack = first
        self._gained(head, head.slack + slack - before)
        self._ranges.insert(index + 1, tail)
        self._starts.insert(index + 1, at)
        if tail.resent:
            insort(self._copies, (tail.sent_at, tail), key=_time)

    def _segments(self, entry: SentRange, size: int) -> tuple[int, int]:
        """How many there are in `entry`, sent when a full one had another size, and how many are
        whole in its first `size` bytes: all of them are taken for equally large."""
        whole = entry.end - entry.start
        count = (whole + entry.slack) // self.mss
        return count, size * count // whole

    def _gained(self, entry: SentRange, weight: int) -> None:
        """`entry` weighs so much more than before."""
        if not weight:
            return
        self.slack += weight
        if entry.sacked:
            self.sacked += weight
        if entry.lost:
            self.lost += weight
            if not entry.resent:
                self.owed += weight
        if entry.resent:
            self.resent += weight

    def begin_ack(self) -> None:
        """An ACK is about to be recorded by `sack` and `ack`: nothing is newly delivered yet."""
        self.delivered_first = self.delivered_again = self.oldest_at = self.last_at = None
        self.original = NOWHERE
        self.sacked_before = self.highest_sacked

    def _delivered(self, entry: SentRange, end: int) -> None:  # hot
        """The octets of `entry` up to `end` have just been reported as received."""
        self.last_at = entry.sent_at
        self.last_copies = entry.copies
        mark = (entry.sent_at, end)
        if entry.copies:
            if self.delivered_again is None or mark > self.delivered_again:
                self.delivered_again = mark
                self.origin_again = entry.origin
        else:
            if self.delivered_first is None or mark > self.delivered_first:
                self.delivered_first = mark
                self.origin_first = entry.origin
            if entry.start < self.original:
                self.original = entry.start

    def _settle(self, entry: SentRange, size: int) -> None:
        """`size` of the weight of `entry`, not SACKed before, needs no repair any more."""
        if entry.lost:
            self.lost -= size
            if not entry.resent:
                self.owed -= size
        if entry.resent:
            self.resent -= size

    def ack(self, una: int) -> int | None:
        """Drop what lies below `una`.

        Returns when the newest range among the dropped ones was sent, or None if that says nothing
        of the round trip: all were SACKed before, or one of them was sent again (Karn). If it says
        something, `oldest_at` is of these, too.
        """
        ranges = self._ranges
        sent_at: int | None = None
        oldest_at = self.oldest_at
        ambiguous = False
        count = 0
        for entry in ranges:
            if entry.end > una:
                break
            count += 1
            size = entry.end - entry.start
            self.in_flight -= size
            if entry.slack:
                size += entry.slack
                self.slack -= entry.slack
                self.padding += entry.slack
            if entry.sacked:
                self.sacked -= size
                continue
            self._delivered(entry, entry.end)
            if entry.lost or entry.copies:
                self._settle(entry, size)
                entry.resent = False
            if entry.copies:
                ambiguous = True
            else:
                if sent_at is None:
                    oldest_at = entry.sent_at
                sent_at = entry.sent_at
        if count:
            del ranges[:count]
            del self._starts[:count]
        if ranges and ranges[0].start < una:
            entry = ranges[0]
            size = self._shorten(entry, una)
            if entry.sacked:
                self.sacked -= size
            elif size:  # a part of a segment says nothing
                self._delivered(entry, una)
                if entry.lost or entry.copies:
                    self._settle(entry, size)
                if entry.copies:
                    ambiguous = True
                else:
                    if sent_at is None:
                        oldest_at = entry.sent_at
                    sent_at = entry.sent_at
            if not (size or count):
                self.part_acked = una
            entry.start = self._starts[0] = una
        if ambiguous:
            return None
        self.oldest_at = oldest_at
        return sent_at

    def _shorten(self, entry: SentRange, una: int) -> int:
        """`entry` begins at `una` now. Returns what it weighs less: whole segments."""
        size, mss = una - entry.start, self.mss
        self.in_flight -= size
        if mss == 1 or (not entry.slack and not size % mss):
            return size
        slack = (entry.slack + size) % mss
        if not -1 <= entry.slack < mss:
            slack = entry.slack + size - mss * self._segments(entry, size)[1]
        elif entry.slack == -1 and una + 1 < entry.end:  # a FIN on a full segment
            slack = size % mss - 1
        gained = slack - entry.slack
        entry.slack = slack
        self.slack += gained
        self.padding -= gained
        return size - gained

    def ack_lone(self) -> int | None:  # hot
        """`ack` of all that is in flight, in a dialogue: one range that was never sent again.

        Returns when it was sent, None: there is more to know, and nothing was done. Nothing of it
        is SACKed or lost, and nobody asks what was delivered, as RACK and rate samples do.
        """
        ranges = self._ranges
        if len(ranges) != 1 or ranges[0].copies:
            return None
        self._starts.pop()
        self.in_flight = self.slack = 0
        self.oldest_at = sent_at = ranges.pop().sent_at
        return sent_at

    def sack(
        self, blocks: tuple[tuple[int, int], ...], una: int, nxt: int
    ) -> tuple[int, int | None]:
        """Record SACK blocks; blocks outside (una, nxt] are ignored (a duplicate or nonsense).

        Linux: of a segment that is only partly in a block nothing is SACKed.
        Returns what is newly SACKed and when the newest of them was sent (None if resent);
        `oldest_at` is of these.
        """
        gained = 0
        sent_at: int | None = None
        ranges, starts = self._ranges, self._starts
        for left, right in blocks:
            if left < una or right > nxt or left >= right:
                continue
            index = bisect_right(starts, left) - 1
            if index < 0:
                index = 0
            gained_before = gained
            while index < len(ranges):
                entry = ranges[index]
                if entry.start >= right:
                    break
                if entry.sacked or entry.end <= left:
                    index += 1
                    continue
                if entry.start < left:
                    at = left + (entry.start - left) % self.mss
                    if at < entry.end and at < right:
                        self._split(index, at)
                    index += 1
                    continue
                if entry.end > right:
                    at = right - (right - entry.start) % self.mss
                    if at <= entry.start or entry.end + entry.slack <= entry.start + self.mss:
                        break
                    self._split(index, at)
                size = entry.end - entry.start + entry.slack
                gained += size
                self.sacked += size
                entry.sacked = True
                self._delivered(entry, entry.end)
                if not entry.copies:
                    if sent_at is None or entry.sent_at > sent_at:
                        sent_at = entry.sent_at
                    if self.oldest_at is None or entry.sent_at < self.oldest_at:
                        self.oldest_at = entry.sent_at
                self._settle(entry, size)
                entry.lost = entry.resent = False
                index += 1
            if right > self.highest_sacked:
                self.highest_sacked = right
            if gained > gained_before:
                self._join_sacked(left, index)
        return gained, sent_at

    def _join_sacked(self, left: int, behind: int) -> None:
        """[left, start of range `behind`) is SACKed: one range, with the SACKed ones beside it.

        So their number follows the holes, and an ACK costs what it reports, not what is in flight.
        """
        ranges, starts = self._ranges, self._starts
        first = bisect_left(starts, left)
        while first and ranges[first - 1].sacked:
            first -= 1
        while behind < len(ranges) and ranges[behind].sacked:
            behind += 1
        if behind - first < 2:
            return
        joined = ranges[first]
        for entry in ranges[first + 1 : behind]:
            joined.sent_at = max(joined.sent_at, entry.sent_at)
            joined.copies = max(joined.copies, entry.copies)
            joined.slack += entry.slack
        joined.end = ranges[behind - 1].end
        del ranges[first + 1 : behind], starts[first + 1 : behind]

    def detect_losses(self, mss: int) -> int:
        """Mark lost what RFC 6675 §4 IsLost() calls lost, and return how many bytes that was.

        A range is lost when DupThresh discontiguous SACKed ranges lie above it, or more than
        (DupThresh - 1) * SMSS SACKed bytes.
        """
        if not self.sacked:
            return 0
        above_bytes = 0
        above_ranges = 0
        marked = 0
        previous_sacked = False
        limit = (DUP_THRESH - 1) * mss
        for entry in reversed(self._ranges):
            if entry.sacked:
                above_bytes += entry.end - entry.start
                if not previous_sacked:
                    above_ranges += 1
                previous_sacked = True
                continue
            previous_sacked = False
            if (above_ranges >= DUP_THRESH or above_bytes > limit) and not entry.lost:
                marked += self._lose(entry)
        return marked

    def _lose(self, entry: SentRange) -> int:
        """`entry`, its copy if there is one, is lost. Returns its weight."""
        size = entry.end - entry.start + entry.slack
        if not entry.lost:
            entry.lost = True
            self.lost += size
        if self.losses is not None:
            self.losses.append((size, entry.origin))
        if entry.start < self._owed_from:
            self._owed_from = entry.start
        if entry.resent:
            entry.resent = False
            self.resent -= size
        self.owed += size
        return size

    def detect_losses_by_time(
        self, newest: tuple[int, int], patience_us: int, now: int
    ) -> tuple[int, int]:
        """Mark lost what was sent before `newest`, which has arrived, and `patience_us` ago or more
        (RFC 8985 §6.2 step 5). A lost retransmission is found in the same way.

        `newest`: when it was sent and where it ended. Returns the bytes newly lost, and how long to
        wait for those that still may come, 0: there are none.
        """
        marked, wait = self._lose_originals(newest, now - patience_us)
        if self.resent:
            again, longer = self._lose_copies(newest, now - patience_us)
            marked += again
            wait = max(wait, longer)
        return marked, wait

    def _lose_originals(self, newest: tuple[int, int], before: int) -> tuple[int, int]:
        """Of what was sent once, mark what was sent at `before` or earlier. It lies in the order of
        sequence numbers and of time, so the walk begins behind what was settled before and ends at
        what was sent after `newest`. Returns bytes marked and how long to wait (µs)."""
        marked = wait = 0
        ranges = self._ranges
        index = bisect_left(self._starts, self._settled_below)
        settled = True
        while index < len(ranges):
            entry = ranges[index]
            index += 1
            if not (entry.sacked or entry.lost or entry.resent):
                if (entry.sent_at, entry.end) >= newest:
                    break
                if entry.sent_at > before:
                    wait = max(wait, entry.sent_at - before)
                    settled = False
                    continue
                marked += self._lose(entry)
            if settled:
                self._settled_below = entry.end
        return marked, wait

    def _lose_copies(self, newest: tuple[int, int], before: int) -> tuple[int, int]:
        """The same for copies, which lie in the order of their sending in `_copies`."""
        marked = wait = stale = 0
        copies = self._copies
        fresh_seen = False
        for sent_at, entry in copies:
            if not entry.resent or entry.sent_at != sent_at:  # arrived, lost, or sent once more
                stale += not fresh_seen
                continue
            if (sent_at, entry.end) >= newest:
                break
            if sent_at > before:
                fresh_seen = True
                wait = max(wait, sent_at - before)
                continue
            marked += self._lose(entry)
            stale += not fresh_seen
        del copies[:stale]
        return marked, wait

    def mark_first_lost(self, size: int) -> int:
        """Mark the first `size` bytes in flight lost (fast retransmit without SACK).

        Returns the bytes newly marked; 0 if they are already lost or nothing is in flight.
        """
        if not self._ranges:
            return 0
        first = self._ranges[0]
        if first.lost or first.sacked:
            return 0
        length = first.end - first.start
        if length > size and length + first.slack > size:  # else it is one, maybe with a FIN
            self._split(0, first.start + size)
        return self._lose(first)

    def mark_lost(self, end: int) -> None:
        """What lies below `end` and was not SACKed is to be sent again, in segments of any size."""
        for index, entry in enumerate(self._ranges):
            if entry.start >= end:
                break
            if entry.end > end:
                self._split(index, end)
            if not (entry.sacked or entry.lost):
                self._lose(entry)

    def mark_large_lost(self, size: int) -> None:
        """Segments of more than `size` bytes did not fit through the path (RFC 1191 §6.4)."""
        for entry in self._ranges:
            if entry.end - entry.start > size and not entry.sacked:
                if not (entry.lost and not entry.resent):
                    self._lose(entry)

    def mark_all_lost(self, *, forget_sacks: bool = False, sent_until: int | None = None) -> None:
        """The retransmission timer expired: everything not SACKed is to be sent again.

        `forget_sacks`: the peer reneged (RFC 2018 §8), so its reports count no longer. What was
        sent after `sent_until` (µs) may still arrive and is left alone, but not what SND.UNA names.
        """
        self.dup_acked = 0
        if forget_sacks:
            self.sacked = self.highest_sacked = 0
        for index, entry in enumerate(self._ranges):
            if forget_sacks:
                entry.sacked = False
            elif index and sent_until is not None and entry.sent_at > sent_until:
                continue
            if not entry.sacked and not (entry.lost and not entry.resent):
                self._lose(entry)

    def unmark_lost(self) -> None:
        """Nothing was lost after all; copies that are on their way still count."""
        self.lost = self.owed = 0
        self._settled_below = 0
        for entry in self._ranges:
            entry.lost = False

    def first_is_sacked(self) -> bool:
        """The range at SND.UNA was SACKed: a peer that still has it would have ACKed it."""
        return bool(self._ranges) and self._ranges[0].sacked

    def next_lost(self) -> SentRange | None:
        """The first range that is lost and was not resent since (RFC 6675 NextSeg rule 1)."""
        if not self.owed:
            return None
        ranges = self._ranges
        for index in range(max(bisect_right(self._starts, self._owed_from) - 1, 0), len(ranges)):
            entry = ranges[index]
            if entry.lost and not entry.resent:
                self._owed_from = entry.start
                return entry
        raise AssertionError("what is owed is in no range")

    def collapsible(self, start: int, edge: int, mss: int) -> int:
        """Where the small segment at `start` may end when it is sent again: with as many of the
        small ones behind it, none beyond `edge`, as fit in one of `mss` bytes (Linux
        tcp_retrans_try_collapse)."""
        ranges = self._ranges
        first = bisect_left(self._starts, start)
        end = ranges[first].end
        for index in range(first + 1, len(ranges)):
            entry = ranges[index]
            if entry.sacked or entry.end - start > mss or entry.end > edge or not entry.slack:
                break
            end = entry.end
        return end

    def _collapse(self, index: int, end: int) -> None:
        """Range `index` and those behind it up to `end` are one small segment."""
        ranges = self._ranges
        head = ranges[index]
        last = index + 1
        while last < len(ranges) and ranges[last].start < end:
            entry = ranges[last]
            weight = entry.end - entry.start + entry.slack
            self._settle(entry, weight)
            self.dup_acked = max(self.dup_acked - weight, 0)  # Linux: "Reno case is special. Sigh."
            head.copies = max(head.copies, entry.copies)
            entry.lost = entry.resent = False
            head.end = entry.end
            head.slack += entry.slack - weight  # it takes room, but weighs nothing any more
            self.slack -= weight
            last += 1
        del ranges[index + 1 : last], self._starts[index + 1 : last]

    def _recount(self, entry: SentRange) -> None:
        """If `entry` was cut for another segment size, or SACKed with others: it is cut for this
        one now. Linux: all of the piece, even if only a part of it is sent again."""
        if not -1 <= entry.slack < self.mss:
            slack = -(entry.end - entry.start) % self.mss
            change, entry.slack = slack - entry.slack, slack
            self._gained(entry, change)

    def resend(self, start: int, end: int, now: int) -> int:
        """[start, end), the beginning of a range from `next_lost`, and perhaps more segments that
        are `collapsible`, has been sent again. Returns its weight."""
        index = bisect_left(self._starts, start)
        entry = self._ranges[index]
        self._recount(entry)
        if entry.end > end:
            self._split(index, end)
        elif entry.end < end:
            self._collapse(index, end)
            self._recount(entry)
        entry.resent = True
        entry.sent_at = now
        entry.origin = self.origin
        entry.copies += 1
        self._copies.append((now, entry))
        weight = end - start + entry.slack
        self.resent += weight
        self.owed -= weight
        self.bytes_resent += end - start
        self.retransmissions += weight // self.mss
        return weight

    def leapt(self) -> bool:
        """Since `begin_ack` a range was SACKed, above all others, that does not adjoin them: what
        is between was lost, or overtaken."""
        before, after = self.sacked_before, self.highest_sacked
        if after <= before or not self._ranges or after <= self._starts[0]:
            return False
        return self._starts[max(bisect_left(self._starts, after) - 1, 0)] > before

    def was_resent(self, start: int, end: int) -> bool:
        """Something of [start, end) that is still in flight was sent more than once."""
        ranges = self._ranges
        index = max(bisect_right(self._starts, start) - 1, 0)
        while index < len(ranges) and ranges[index].start < end:
            if ranges[index].copies and ranges[index].end > start:
                return True
            index += 1
        return False

    def head_sent_at(self) -> int:
        """When what SND.UNA names was sent last (µs). Something must be in flight."""
        return self._ranges[0].sent_at

    def last(self, mss: int, mark: int, text_end: int) -> tuple[int, int] | None:
        """The last segment in flight, of at most `mss` octets; None: nothing is in flight.

        `mark`: where a message ended before it; what lies behind `text_end` is a FIN.
        """
        if not self._ranges:
            return None
        entry = self._ranges[-1]
        begin = mark if entry.start < mark < entry.end else entry.start
        end = min(entry.end, text_end)
        return max(end - ((end - begin) % mss or mss), begin), entry.end

    def probed(self, start: int, end: int, now: int) -> int:
        """[start, end), from `last`, was sent again although it is not deemed lost. Its weight."""
        entry = self._ranges[-1]
        if entry.start < start:
            self._split(len(self._ranges) - 1, start)
            entry = self._ranges[-1]
        entry.sent_at = now
        entry.origin = self.origin
        entry.copies += 1
        if entry.resent:
            self._copies.append((now, entry))
        self.bytes_resent += end - start
        self.retransmissions += 1
        return end - start + entry.slack
