"""Bytes accepted from the user and not yet acknowledged."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from ustack.wire import Buffer

SMALL_WRITE = 4096  # bytes: smaller writes are gathered, so that the number of chunks stays small
MAX_PUSH_MARKS = 64  # ends of writes remembered; with more waiting, the middle ones are forgotten
MAX_SENT_MARKS = 256  # ends of writes remembered while they are in flight; then the newest win
MAX_VIEWS = 512  # pieces of one burst: it is of some 300 that are no SMALL_WRITE


class SendBuffer:
    """A queue of immutable chunks addressed by sequence position, with a limit in bytes.

    `bytes` are kept without a copy and handed out as views, so a 64 KiB segment is never joined.
    Small or mutable writes are gathered in a bytearray that is sealed before anything of it is
    sent: a bytearray with exported views could not grow.
    """

    __slots__ = (
        "_chunks",
        "_cuts",
        "_marks",
        "_sent_marks",
        "_starts",
        "_tail",
        "end",
        "limit",
        "start",
    )

    def __init__(self, start: int, limit: int) -> None:
        self.start = start  # position of the first byte held
        self.end = start  # position after the last byte held
        self.limit = limit
        self._starts: list[int] = []
        self._chunks: list[bytes | memoryview] = []
        self._tail: bytearray | None = None
        self._marks: list[int] = []  # at most MAX_PUSH_MARKS; an empty deque has 600 bytes
        # Those at which a segment in flight ended; a lone one is in a list, which is smaller
        self._sent_marks: deque[int] | list[int] | None = None
        self._cuts: deque[int] | None = None  # ends of pieces in flight, see `cut_at`

    def __len__(self) -> int:
        return self.end - self.start

    def writes_in_flight(self) -> int:
        """How many messages have left, and are not acknowledged in full."""
        return len(self._sent_marks) if self._sent_marks else 0

    def append(self, data: Buffer, *, push: bool = True, room: int | None = None) -> int:
        """Take as much of `data` as the limit allows and return how many bytes that was.

        `push`: the end of `data` is the end of a message. `room`: takes the place of the limit.
        """
        size = len(data)
        end = self.end
        if room is None:
            room = self.limit - (end - self.start)
        if size > room:
            size = room
            if size <= 0:
                return 0
            data = memoryview(data)[:size]
        if size < SMALL_WRITE and self.start == end and type(data) is bytes:
            self._starts.append(end)  # a dialogue: it leaves before the next one comes
            self._chunks.append(data)
        elif size < SMALL_WRITE:
            if self._tail is None:
                self._tail = bytearray(data)
            else:
                self._tail += data
        else:
            self._seal()
            self._starts.append(end)
            owner = data.obj if type(data) is memoryview else data
            self._chunks.append(data if type(owner) is bytes else bytes(data))  # type: ignore[arg-type]
        self.end = end = end + size
        if push:
            marks = self._marks
            if len(marks) == MAX_PUSH_MARKS:
                marks[-1] = end
            else:
                marks.append(end)
        return size

    def push_inside(self, ends: Sequence[int]) -> None:
        """The write queued last is to be pushed at these positions too, ascending."""
        last = self._marks.pop() if self._marks else self.end
        for at in ends:
            if len(self._marks) < MAX_PUSH_MARKS - 1:
                self._marks.append(at)
        self._marks.append(last)

    def push_end(self) -> None:
        """What was queued last is to be pushed, though no message ends there."""
        marks = self._marks
        if not marks or marks[-1] != self.end:
            if len(marks) == MAX_PUSH_MARKS:
                marks.pop()
            marks.append(self.end)

    def push_at(self, end: int) -> bool:
        """`end` is where a message ended. Called with ascending positions, each once."""
        marks = self._marks
        while marks and marks[0] < end:
            marks.pop(0)
        if not marks or marks[0] != end:
            return False
        sent_marks = self._sent_marks
        if sent_marks is None:
            self._sent_marks = [end]
            return True
        if type(sent_marks) is list:
            sent_marks = self._sent_marks = deque(sent_marks, MAX_SENT_MARKS)
        sent_marks.append(end)
        return True

    def cut_at(self, end: int) -> None:
        """What was sent in one piece, of several segments, ended at `end`."""
        if self._cuts is None:
            self._cuts = deque(maxlen=MAX_SENT_MARKS)
        if not self._cuts or self._cuts[-1] < end:
            self._cuts.append(end)

    def pushed_at(self, end: int) -> bool:
        """`end` is where a message in flight ended."""
        return end == self.end or (self._sent_marks is not None and end in self._sent_marks)

    def last_mark(self, nxt: int) -> int:
        """Where the last message ended that is in flight and not the end of the queue, or the last
        piece below `nxt`; 0: none."""
        marks, cuts = self._sent_marks or (), self._cuts or ()
        mark = next((mark for mark in reversed(marks) if mark < self.end), 0)
        return max(mark, next((cut for cut in reversed(cuts) if cut < nxt), 0))

    def resend_end(self, start: int, end: int, mss: int) -> int:
        """Where a segment that sends [start, end) again ends: with the write that it belonged to.

        Linux: what was sent in one piece is sent again in one piece; small pieces are put together
        as long as they fit in one segment.
        """
        if self._cuts is not None:
            end = min(end, next((cut for cut in self._cuts if cut > start), end))
        found = end
        for mark in self._sent_marks or ():
            if mark <= start:
                continue
            if mark >= end:
                return end if end <= start + mss else found
            if mark > start + mss:
                return mark if found == end else found
            found = mark
        return end if end <= start + mss else found

    def _seal(self) -> None:
        tail = self._tail
        if tail:
            self._starts.append(self.end - len(tail))
            self._chunks.append(bytes(tail))
        self._tail = None

    def views(self, start: int, end: int) -> list[Buffer]:
        """The bytes [start, end) as pieces, in order. The pieces stay valid after `release`."""
        if self._tail is not None and end > self.end - len(self._tail):
            self._seal()
        starts, chunks = self._starts, self._chunks
        if end == self.end and len(chunks) == 1 and start == starts[0]:
            return [chunks[0]]  # a dialogue: one write, sent as a whole
        index = bisect_right(starts, start) - 1
        chunk, offset = chunks[index], start - starts[index]
        if offset + end - start <= len(chunk):  # the common case: all in one chunk
            whole = end - start == len(chunk)
            return [chunk if whole else memoryview(chunk)[offset : offset + end - start]]
        pieces: list[Buffer] = []
        while start < end:
            chunk = chunks[index]
            offset = start - starts[index]
            size = len(chunk) - offset
            if size > end - start:
                size = end - start
            if size == len(chunk):
                pieces.append(chunk)
            else:
                pieces.append(memoryview(chunk)[offset : offset + size])
            start += size
            index += 1
        if len(pieces) > MAX_VIEWS:
            return [b"".join(pieces)]
        return pieces

    def release(self, upto: int) -> None:
        """Forget everything before position `upto`: it has been acknowledged."""
        if upto <= self.start:
            return
        starts = self._starts
        if upto >= self.end:
            self.start = self.end
            starts.clear()
            self._chunks.clear()
            self._marks.clear()  # now, while there are few: `push_at` need not skip them
            self._tail = None
            self._sent_marks = self._cuts = None
            return
        self.start = upto
        marks = self._sent_marks
        if type(marks) is list:
            if marks[0] <= upto:
                self._sent_marks = None
        elif type(marks) is deque:
            while marks and marks[0] <= upto:
                marks.popleft()
        cuts = self._cuts
        while cuts and cuts[0] <= upto:
            cuts.popleft()
        keep = bisect_right(starts, upto) - 1  # the chunk that holds `upto`, if any
        if keep >= 0 and starts[keep] + len(self._chunks[keep]) <= upto:
            keep += 1
        if keep > 0:
            del starts[:keep]
            del self._chunks[:keep]
