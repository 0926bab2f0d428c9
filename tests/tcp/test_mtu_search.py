"""The search for the path MTU: a range that every answer makes smaller."""

from hypothesis import given
from hypothesis import strategies as st

from ustack.tcp.mtu_search import MtuSearch

SIZES = st.integers(48, 65_515)


@given(low=SIZES, high=SIZES, path=SIZES)
def test_a_probe_lies_above_what_arrives_and_not_above_what_is_possible(
    low: int, high: int, path: int
) -> None:
    # RFC 4821 §7.1: probe_size in (search_low, search_high]; every path is found
    low, path, high = sorted((low, path, high))
    search = MtuSearch(low, high, now=0)
    for _ in range(20):
        if search.high - search.low < 2:
            break
        size = search.middle()
        assert search.low < size <= search.high
        search.sent(size, 1, 2, 0)
        if size <= path:
            search.succeeded()
        else:
            search.failed()
    assert search.low <= path <= search.high + 1
    assert search.high - search.low < 2


def test_a_probe_without_an_answer_changes_nothing() -> None:
    search = MtuSearch(1024, 1460, now=0)
    search.sent(1242, 1, 1243, 1024)
    search.inconclusive()
    assert (search.low, search.high, search.size) == (1024, 1460, 0)


def test_the_range_begins_with_what_is_possible() -> None:
    search = MtuSearch(1024, 500, now=0)
    assert (search.low, search.high) == (500, 500)


def test_a_router_s_word_bounds_the_range_and_ends_a_larger_probe() -> None:
    search = MtuSearch(1024, 1460, now=0)
    search.sent(1242, 1, 1243, 1024)
    search.bound(1300)
    assert (search.high, search.size) == (1300, 1242)
    search.bound(1200)
    assert (search.high, search.size) == (1200, 0)
    search.bound(900)
    assert (search.low, search.high) == (900, 900)


def test_a_lower_start_leaves_the_top() -> None:
    search = MtuSearch(1024, 1460, now=0)
    search.lower(512)
    assert (search.low, search.high) == (512, 1460)
