"""IP reassembly (RFC 791 §3.2, RFC 8200 §4.5), bounded in bytes and in time."""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Hashable

from ustack.tcp.tcb import NEVER
from ustack.wire.ecn import CE, NOT_ECT

FRAGMENT_CHARGE = 256  # bytes: rough cost of a piece beside its data
MAX_PAYLOAD = 65535  # bytes


class Datagram:
    """The pieces of one datagram that have arrived."""

    __slots__ = ("due_at", "ecn", "end", "first", "held", "key", "pieces", "quote", "slot")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.pieces: list[tuple[int, bytes]] = []  # (offset, data), ascending and disjoint
        self.end: int | None = None  # payload length, once the last piece is here
        self.first: bytes | None = None  # header of the piece at offset 0
        self.quote = b""  # the frame of that piece, for an ICMP error
        self.held = 0
        self.ecn: set[int] = set()  # the ECN fields of the pieces
        self.due_at = NEVER
        self.slot: object = None


class Reassembler:
    """Datagrams of which some pieces are missing, oldest first; the oldest go when memory is short.

    A piece that overlaps another one ends the datagram: RFC 8200 §4.5 asks for it, for IPv4 it is
    Linux's answer to the same attack. An exact repetition of a piece is ignored.
    """

    __slots__ = ("_datagrams", "_held", "_limit")

    def __init__(self, limit: int) -> None:
        self._datagrams: OrderedDict[Hashable, Datagram] = OrderedDict()
        self._held = 0
        self._limit = limit

    def __len__(self) -> int:
        return len(self._datagrams)

    def add(
        self, key: Hashable, offset: int, more: bool, data: bytes, header: bytes, ecn: int = 0
    ) -> tuple[Datagram | None, str, list[Datagram]]:
        """Add a piece of datagram `key`. `header`: what goes before the payload of the whole;
        `ecn`: the ECN field of the piece.

        Returns the datagram if it is complete now or has just begun (`pieces` tell), a reason if
        the piece was dropped, and the datagrams given up for want of memory.
        """
        datagram = self._datagrams.get(key)
        end = offset + len(data)
        if (more and len(data) % 8) or not data or end > MAX_PAYLOAD:
            return None, "fragment-length", []
        if datagram is None:
            datagram = self._datagrams[key] = Datagram(key)
        pieces = datagram.pieces
        index = bisect_left(pieces, (offset, b""))
        if index < len(pieces) and pieces[index] == (offset, data):
            return None, "fragment-duplicate", []
        reached = pieces[index - 1][0] + len(pieces[index - 1][1]) if index else 0
        overlaps = reached > offset or (index < len(pieces) and pieces[index][0] < end)
        if datagram.end is not None:
            overlaps |= end > datagram.end or not more
        elif not more:
            overlaps |= index < len(pieces)
        if overlaps:
            return None, "fragment-overlap", [self.drop(datagram)]
        pieces.insert(index, (offset, data))
        datagram.ecn.add(ecn)
        charge = len(data) + FRAGMENT_CHARGE
        datagram.held += charge
        self._held += charge
        if not more:
            datagram.end = end
        if offset == 0:
            datagram.first = header
        dropped = []
        while self._held > self._limit and len(self._datagrams) > 1:
            oldest = next(iter(self._datagrams.values()))
            if oldest is datagram:
                self._datagrams.move_to_end(key)
                continue
            dropped.append(self.drop(oldest))
        return datagram, "", dropped

    @staticmethod
    def whole(datagram: Datagram) -> bytes | None:
        """The payload, if no piece is missing."""
        if datagram.end is None or datagram.first is None:
            return None
        reached = 0
        for offset, data in datagram.pieces:
            if offset != reached:
                return None
            reached += len(data)
        return b"".join(data for _, data in datagram.pieces) if reached == datagram.end else None

    @staticmethod
    def ecn_field(datagram: Datagram) -> int | None:
        """The ECN field of the whole (RFC 3168 §5.3): a mark on one piece marks it.

        None: it must be dropped, since pieces say that the transport does not understand marks and
        others that it does. Linux: not only when one of them is CE.
        """
        fields = datagram.ecn
        if NOT_ECT in fields:
            return NOT_ECT if len(fields) == 1 else None
        return CE if CE in fields else min(fields)

    def drop(self, datagram: Datagram) -> Datagram:
        """Forget `datagram` and return it, for its timer to be cancelled."""
        if self._datagrams.pop(datagram.key, None) is not None:
            self._held -= datagram.held
        return datagram
