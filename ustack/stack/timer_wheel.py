"""All deadlines of a stack: connections, TIME-WAITs, half-reassembled datagrams.

A hierarchical wheel (Varghese and Lauck, 1987): four levels of 256 slots. Insert and cancel touch
one dict; an entry moves down at most three times before it expires. So the cost of each does not
depend on how many entries there are.
"""

from typing import Protocol

TICK_SHIFT = 6  # a tick is 64 µs: fine enough for pacing, coarse enough for four levels
TICK_MASK = (1 << TICK_SHIFT) - 1
SLOT_BITS = 8
SLOTS = 1 << SLOT_BITS
SLOT_MASK = SLOTS - 1
RING = (1 << SLOTS) - 1
LEVELS = 4  # 76 hours; later deadlines wait in the last slot and are filed again from there
HORIZON = (1 << (SLOT_BITS * LEVELS)) - SLOTS

NOTHING = 1 << 62  # a tick above all others: nothing is to be done

Slot = dict["Timed", None]


class Timed(Protocol):
    """What the wheel holds. Both attributes belong to the wheel while the entry is in it."""

    due_at: int  # µs
    slot: object  # the Slot it is in, None: not in the wheel

    def __hash__(self) -> int: ...


class TimerWheel:
    """Deadlines in µs. An entry never expires early, and at most one tick late.

    Slots are dicts and not sets: they keep their order, so a run can be repeated exactly.
    """

    __slots__ = ("_count", "_levels", "_next", "_occupied", "_tick")

    def __init__(self, now: int = 0) -> None:
        self._tick = now >> TICK_SHIFT  # everything up to here has been handled
        self._levels: list[list[Slot | None]] = [[None] * SLOTS for _ in range(LEVELS)]
        self._occupied = [0] * LEVELS  # bit i: slot i is not empty
        self._count = 0
        self._next: int | None = (
            None  # first tick with something to do, maybe too early; None: unknown
        )

    def __len__(self) -> int:
        return self._count

    def insert(self, entry: Timed, at: int, now: int) -> None:
        """File `entry` under `at`; if it is in the wheel already, it moves."""
        if entry.slot is not None:
            self.cancel(entry)
        tick = now >> TICK_SHIFT
        if not self._count:
            self._clear(max(tick, self._tick))
        elif tick > self._tick:
            self._skip_to(tick)
        entry.due_at = at
        self._count += 1
        self._file(entry)

    def _skip_to(self, tick: int) -> None:
        """Move on to `tick` if nothing is due before, so that near deadlines are filed as such."""
        if self._next is None:
            self._next = self._find_next()
        if self._next is not None and self._next > tick:
            self._tick = tick

    def cancel(self, entry: Timed) -> None:
        """Take `entry` out; nothing happens if it is not in."""
        slot = entry.slot
        if slot is None:
            return
        del slot[entry]  # type: ignore[attr-defined]
        entry.slot = None
        self._count -= 1  # an empty slot keeps its bit until its time comes: harmless

    def _file(self, entry: Timed) -> None:
        tick = (entry.due_at + TICK_MASK) >> TICK_SHIFT
        delta = tick - self._tick
        if delta <= 0:
            tick = self._tick + 1
            delta = 1
        elif delta > HORIZON:
            tick = self._tick + HORIZON
            delta = HORIZON
        level = (delta.bit_length() - 1) // SLOT_BITS
        shift = SLOT_BITS * level
        unit = tick >> shift
        index = unit & SLOT_MASK
        ring = self._levels[level]
        slot = ring[index]
        if slot is None:
            slot = ring[index] = {}
        slot[entry] = None
        entry.slot = slot
        self._occupied[level] |= 1 << index
        begins = unit << shift
        if self._next is not None and begins < self._next:
            self._next = begins

    def next_deadline(self) -> int | None:
        """When `expired` should be called next (µs), None: never. It may find nothing to do."""
        if not self._count:
            return None
        if self._next is None:
            self._next = self._find_next()
        return None if self._next is None else self._next << TICK_SHIFT

    def _find_next(self) -> int | None:
        best: int | None = None
        for level in range(LEVELS):
            occupied = self._occupied[level]
            if not occupied:
                continue
            unit = self._tick >> (SLOT_BITS * level)
            index = unit & SLOT_MASK
            # rotate so that bit 0 is the slot after the current one; the current one comes last
            ring = ((occupied >> (index + 1)) | (occupied << (SLOTS - 1 - index))) & RING
            begins = (unit + (ring & -ring).bit_length()) << (SLOT_BITS * level)
            if best is None or begins < best:
                best = begins
        return best

    def expired(self, now: int) -> list[Timed]:
        """Move on to `now` and take out the entries that are due, in the order of their ticks."""
        target = now >> TICK_SHIFT
        due: list[Timed] = []
        while self._tick < target:
            if not self._count:
                self._clear(target)
                break
            if self._next is None:
                self._next = self._find_next()
            if self._next is None or self._next > target:
                self._tick = target
                break
            tick = self._tick = self._next
            self._next = None
            for level in range(LEVELS - 1, 0, -1):
                if tick & ((1 << (SLOT_BITS * level)) - 1) == 0:
                    for entry in self._take(level, (tick >> (SLOT_BITS * level)) & SLOT_MASK):
                        if entry.due_at <= tick << TICK_SHIFT:
                            due.append(entry)
                            entry.slot = None
                            self._count -= 1
                        else:
                            self._file(entry)
            for entry in self._take(0, tick & SLOT_MASK):
                due.append(entry)
                entry.slot = None
                self._count -= 1
        return due

    def _take(self, level: int, index: int) -> Slot:
        bit = 1 << index
        if not self._occupied[level] & bit:
            return {}
        self._occupied[level] ^= bit
        slot = self._levels[level][index]
        self._levels[level][index] = None
        return slot if slot is not None else {}

    def _clear(self, tick: int) -> None:
        """There are no entries: go on from `tick`. What cancelled ones have left is forgotten."""
        self._tick = tick
        if self._next == NOTHING:  # none was filed since the last time
            return
        for level, occupied in enumerate(self._occupied):
            if occupied:
                self._occupied[level] = 0
                if occupied & (occupied - 1):  # a single slot, empty now, may serve again
                    self._levels[level] = [None] * SLOTS
        self._next = NOTHING
