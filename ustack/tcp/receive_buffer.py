"""Received text: what is in order and unread, and what waits behind a gap (RFC 9293 §3.10.7.4).

Reassembly keeps disjoint blocks in ascending order. The first copy of an octet wins. Blocks are
charged with their bookkeeping too, so that a peer that sends every other byte cannot make us hold
a hundred times the window.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

from ustack.wire import Buffer

COPY_BELOW = 1024  # bytes: a bytes object and a view of it cost more than 200 bytes of their own
BLOCK_CHARGE = 512  # bytes: rough cost of one out-of-order block beside its data


class Block:
    """A contiguous run of out-of-order bytes [start, end)."""

    __slots__ = ("chunks", "end", "start")

    def __init__(self, start: int, payload: Buffer) -> None:
        self.start = start
        self.end = start + len(payload)
        self.chunks: list[Buffer] = []
        _push(self.chunks, payload)


def _push(chunks: "list[Buffer] | deque[Buffer]", payload: Buffer) -> None:
    """Append; small pieces are copied together into one bytearray that nobody else holds."""
    if len(payload) >= COPY_BELOW:
        chunks.append(payload)
        return
    last = chunks[-1] if chunks else None
    if type(last) is bytearray and len(last) < COPY_BELOW:
        last += payload
    else:
        chunks.append(bytearray(payload))


def _part(view: memoryview, start: int, end: int) -> Buffer:
    """view[start:end], copied if keeping it would keep a frame of twice the size in memory."""
    part = view[start:end]
    return bytes(part) if 2 * len(part) < len(view) else part


class ReceiveBuffer:
    """In-order chunks, out-of-order blocks and the SACK blocks to report.

    `limit` bounds the window, `ceiling` the window with the unread bytes: what `limit` may open to
    while text arrives. `readable` counts unread in-order bytes.
    """

    __slots__ = (
        "_blocks",
        "_chunks",
        "_recent",
        "_starts",
        "ceiling",
        "duplicate",
        "held",
        "limit",
        "readable",
    )

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.ceiling = limit
        self.readable = 0
        self.held = 0  # bytes charged to out-of-order blocks
        self.duplicate: tuple[int, int] | None = None  # DSACK to report (RFC 2883)
        self._chunks: deque[Buffer] = deque()
        self._blocks: list[Block] = []
        self._starts: list[int] = []  # the blocks' starts, for bisect
        self._recent: list[int] = []  # starts of blocks, the most recently changed first

    def append(self, payload: Buffer) -> None:
        """Take text that begins exactly at RCV.NXT."""
        self.readable += len(payload)
        chunks = self._chunks
        if len(payload) >= COPY_BELOW:
            chunks.append(payload)
        elif not chunks:  # a dialogue: nearly always it is read before the next one comes
            chunks.append(bytes(payload))
        else:
            _push(chunks, payload)

    def extend(self, payloads: Sequence[Buffer], size: int) -> None:
        """`append` for texts of COPY_BELOW bytes or more each, `size` together."""
        self.readable += size
        self._chunks.extend(payloads)

    def read(self, limit: int) -> Buffer:
        """Hand out up to `limit` bytes, at most one chunk; b"" if nothing is there."""
        chunks = self._chunks
        if not chunks or limit <= 0:
            return b""
        chunk = chunks.popleft()
        size = len(chunk)
        if type(chunk) is bytearray:
            chunk = bytes(chunk)
        if size > limit:
            rest = memoryview(chunk)[limit:]
            chunks.appendleft(rest)
            chunk = memoryview(chunk)[:limit]
            size = limit
        self.readable -= size
        return chunk

    def peek(self, limit: int) -> bytes:
        """Up to `limit` unread bytes, which stay unread."""
        out = bytearray()
        for chunk in self._chunks:
            out += chunk[: limit - len(out)]
            if len(out) >= limit:
                break
        return bytes(out)

    def clear(self) -> None:
        """Drop everything: the connection has ended."""
        self.drop_unread()
        self.drop_out_of_order()

    def drop_unread(self) -> None:
        """Drop what is in order: nobody will read it. The rest is still to be reported (SACK)."""
        self._chunks.clear()
        self.readable = 0

    def drop_out_of_order(self) -> None:
        """Forget the blocks behind gaps. The peer keeps them until they are acknowledged."""
        self._blocks.clear()
        self._starts.clear()
        self._recent.clear()
        self.held = 0

    @property
    def last_start(self) -> int:
        """Where the last block behind a gap begins, 0: there is none."""
        return self._starts[-1] if self._starts else 0

    def drop_last(self) -> None:
        """Forget the last block behind a gap: the memory is needed elsewhere."""
        block = self._blocks.pop()
        self._starts.pop()
        self.held -= block.end - block.start + BLOCK_CHARGE
        if block.start in self._recent:
            self._recent.remove(block.start)

    @property
    def out_of_order(self) -> int:
        """Number of blocks waiting behind a gap."""
        return len(self._blocks)

    @property
    def end(self) -> int:
        """Position after the last octet behind a gap, 0: there is none."""
        return self._blocks[-1].end if self._blocks else 0

    def insert(self, start: int, payload: Buffer, *, in_order: bool = False) -> bool:
        """Keep text that begins beyond RCV.NXT. False: refused, the memory for it is used up.

        `in_order`: it begins at RCV.NXT, and `collect` follows at once. Such text is never refused,
        or the gap before the blocks that use up the memory could not be filled.
        Octets already held are kept and not overwritten. An arrival that brings nothing new is
        remembered as a duplicate to be reported by DSACK (RFC 2883 §4).
        """
        end = start + len(payload)
        blocks, starts = self._blocks, self._starts
        first = bisect_left(starts, start)
        if first and blocks[first - 1].end >= start:
            first -= 1
        last = first  # blocks[first:last] touch or overlap [start, end)
        while last < len(blocks) and blocks[last].start <= end:
            last += 1
        touched = blocks[first:last]
        if not touched:
            if not in_order and self.held + len(payload) + BLOCK_CHARGE > 2 * self.limit:
                return False
            blocks.insert(first, Block(start, payload))
            starts.insert(first, start)
            self._note_recent(start)
            self.held += len(payload) + BLOCK_CHARGE
            return True
        if touched[0].start <= start and touched[0].end >= end:
            self.duplicate = (start, end)
            self._note_recent(touched[0].start)
            return True
        known = [(max(b.start, start), min(b.end, end)) for b in touched]
        known = [(left, right) for left, right in known if left < right]
        new_bytes = len(payload) - sum(right - left for left, right in known)
        if not in_order and self.held + new_bytes > 2 * self.limit:
            return False
        if known and self.duplicate is None:
            self.duplicate = known[0]  # RFC 2883 §4: of several runs only the first
        merged = self._merge(start, payload, touched)
        for block in touched:
            if block.start in self._recent:
                self._recent.remove(block.start)
        blocks[first:last] = [merged]
        starts[first:last] = [merged.start]
        self._note_recent(merged.start)
        self.held += new_bytes - BLOCK_CHARGE * (len(touched) - 1)
        return True

    @staticmethod
    def _merge(start: int, payload: Buffer, touched: list[Block]) -> Block:
        """One block out of `touched` and the parts of `payload` that lie between them."""
        merged = touched[0]
        position = start
        view = memoryview(payload)
        end = start + len(payload)
        if start < merged.start:
            head = Block(start, _part(view, 0, merged.start - start))
            head.chunks.extend(merged.chunks)
            head.end = merged.end
            merged = head
        position = max(position, merged.end)
        for block in touched[1:]:
            _push(merged.chunks, _part(view, position - start, block.start - start))
            merged.chunks.extend(block.chunks)
            merged.end = block.end
            position = max(position, block.end)
        if position < end:
            _push(merged.chunks, _part(view, position - start, len(view)))
            merged.end = end
        return merged

    def _note_recent(self, start: int) -> None:
        if start in self._recent:
            self._recent.remove(start)
        self._recent.insert(0, start)
        del self._recent[4:]

    def recency(self, start: int, end: int) -> int:
        """How many blocks have changed since the one did that [start, end) touches, or all."""
        for index, at in enumerate(self._recent):
            block = self._blocks[bisect_left(self._starts, at)]
            if block.start <= end and start <= block.end:
                return index
        return len(self._recent)

    def collect(self, nxt: int) -> int:
        """Move what is now in order to the reader and return the new RCV.NXT."""
        blocks = self._blocks
        taken = 0
        for block in blocks:
            if block.start > nxt:
                break
            taken += 1
            skip = nxt - block.start
            if block.end > nxt:
                for chunk in block.chunks:
                    if skip >= len(chunk):
                        skip -= len(chunk)
                        continue
                    self.append(memoryview(chunk)[skip:] if skip else chunk)
                    skip = 0
                nxt = block.end
            self.held -= block.end - block.start + BLOCK_CHARGE
            if block.start in self._recent:
                self._recent.remove(block.start)
        if taken:
            del blocks[:taken]
            del self._starts[:taken]
            if not blocks:
                self.held = 0
        return nxt

    def sack_blocks(self) -> list[tuple[int, int]]:
        """The blocks to report, at most four: a duplicate first (RFC 2883 §4), then the block
        changed last, then others by recency (RFC 2018 §4)."""
        report: list[tuple[int, int]] = []
        if self.duplicate is not None:
            report.append(self.duplicate)
            self.duplicate = None
        starts, blocks = self._starts, self._blocks
        for start in self._recent:
            block = blocks[bisect_left(starts, start)]
            report.append((block.start, block.end))
        if len(report) < 4:
            for block in blocks:
                edge = (block.start, block.end)
                if edge not in report:
                    report.append(edge)
                    if len(report) == 4:
                        break
        return report[:4]
