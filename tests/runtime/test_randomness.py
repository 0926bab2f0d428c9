"""Random numbers from the system, many at once."""

import os
from collections import Counter

import pytest

from ustack.runtime.randomness import RandomBelow


def test_numbers_lie_below_the_limit_and_are_spread_evenly() -> None:
    below = RandomBelow()
    counts = Counter(below(16) for _ in range(16_000))
    assert set(counts) == set(range(16))
    assert all(800 < count < 1200 for count in counts.values())  # 6 standard deviations


def test_two_sources_have_numbers_of_their_own() -> None:
    one, two = RandomBelow(), RandomBelow()
    assert [one(1 << 32) for _ in range(8)] != [two(1 << 32) for _ in range(8)]


def test_the_system_is_asked_once_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def urandom(size: int) -> bytes:
        asked.append(size)
        return bytes(range(256)) * (size // 256)

    monkeypatch.setattr(os, "urandom", urandom)
    below = RandomBelow()
    numbers = [below(1 << 16) for _ in range(512)]
    assert len(asked) == 1
    assert len(set(numbers)) == 32  # of eight octets each: none was used twice
    below(1 << 16)
    assert len(asked) == 2
