"""The way from `transmit` to IP: what is handed over per segment."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ustack.tcp.tcb import Tcb
from ustack.wire import Buffer


class Emit(Protocol):
    """Hands one segment, or super-segment, to IP. False: the device is full and took nothing."""

    def __call__(
        self,
        tcb: Tcb,
        seq: int,
        flags: int,
        window: int,
        options: bytes,
        payload: Sequence[Buffer],
        size: int,
        urgent: int,
        note: str,
        /,
    ) -> bool:
        """`seq` is unwrapped, `window` the 16-bit field, `size` the bytes in `payload`.

        More than SND.GSO_LIMIT, a multiple of it in one piece, leaves as several super-segments; if
        the device takes the first but not all of them, IP keeps the others for it.
        """


class Outgoing(NamedTuple):
    """The arguments of `Emit` after the Tcb, for those who change or watch what leaves."""

    seq: int
    flags: int
    window: int
    options: bytes
    payload: Sequence[Buffer]
    size: int
    urgent: int
    note: str


def unchanged(segment: Outgoing) -> Outgoing:
    """A `before` of `passing` that only lets through."""
    return segment


def passing(
    emit: Emit,
    after: Callable[[Outgoing], None],
    before: Callable[[Outgoing], Outgoing] = unchanged,
) -> Emit:
    """`emit` for one connection: `before` says what is sent instead of each, `after` is
    told what the device has taken."""

    def pass_on(tcb: Tcb, /, *fields: Any) -> bool:
        segment = before(Outgoing(*fields))
        if not emit(tcb, *segment):
            return False
        after(segment)
        return True

    return pass_on
