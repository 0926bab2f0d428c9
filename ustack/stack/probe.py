"""What an onlooker is told: each packet as the stack saw it, with the reason for it."""

from collections.abc import Sequence
from typing import Protocol

from ustack.wire import Buffer


class Probe(Protocol):
    """`note` is "" for ordinary packets, else a state change or the special reason for sending."""

    def received(self, frame: bytes, note: str, now: int) -> None:
        """`frame` has been processed."""

    def sent(self, parts: Sequence[Buffer], note: str, now: int) -> None:
        """The frame that `parts` make up has been taken by the device."""
