from random import Random

from ustack.tcp.rate_limit import RateLimit

SECOND = 1_000_000  # µs


def test_so_many_are_allowed_in_a_second_and_no_more() -> None:
    limit = RateLimit(3)
    assert [limit.allow(5 * SECOND + i) for i in range(5)] == [True, True, True, False, False]


def test_the_next_second_allows_as_many_again() -> None:
    limit = RateLimit(2)
    for _ in range(5):
        limit.allow(SECOND)
    assert [limit.allow(2 * SECOND) for _ in range(3)] == [True, True, False]


def test_what_was_not_used_is_not_saved_up() -> None:
    limit = RateLimit(2)
    limit.allow(0)
    assert [limit.allow(100 * SECOND) for _ in range(3)] == [True, True, False]


def test_a_limit_of_none_allows_nothing() -> None:
    assert not RateLimit(0).allow(0)


def test_a_limit_that_strangers_share_cannot_be_counted_out() -> None:
    limit = RateLimit(10, Random(1).randrange)
    allowed = [sum(limit.allow(second * 1_000_000) for _ in range(50)) for second in range(100)]
    assert set(allowed) == set(range(5, 15))
