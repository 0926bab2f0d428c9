"""Right-sizing: the window is twice what the reader takes in a round trip."""

from hypothesis import given
from hypothesis import strategies as st

from ustack.tcp.receive_tuning import ReceiveTuner

MS = 1_000  # µs
MSS = 1000
WINDOW = 64_000


def tuner(rtt_us: int = 100 * MS) -> ReceiveTuner:
    """One that knows the round trip and has seen nothing read; the first octet is 1."""
    made = ReceiveTuner(1, WINDOW, MSS, now=0)
    made.echoed(rtt_us, drained=True)
    return made


def test_nothing_is_decided_before_the_round_trip_is_known() -> None:
    made = ReceiveTuner(1, WINDOW, MSS, now=0)
    assert made.rtt == 0
    assert made.read(1 + WINDOW, 0, 0, 1_000 * MS) == 0


def test_nothing_is_decided_before_a_round_trip_is_over() -> None:
    made = tuner()
    assert made.read(1 + WINDOW, 0, 0, 99 * MS) == 0
    assert made.due_at == 100 * MS
    assert made.read(1 + WINDOW, 0, 0, 100 * MS) > 0


def test_a_faster_reader_gets_twice_what_it_takes_and_more_while_it_accelerates() -> None:
    made = tuner()
    # 20 000 where 10 000 is what ten segments are: twice, and twice that for the doubled rate
    assert made.read(20_001, 0, 0, 100 * MS) == 2 * 20_000 + 2 * 40_000
    # half as much again: twice, and as much again
    assert made.read(50_001, 0, 0, 200 * MS) == 2 * 30_000 + 2 * 30_000


def test_what_was_not_read_counts_against_the_reader() -> None:
    assert tuner().read(20_001, 12_000, 0, 100 * MS) == 0
    assert tuner().read(20_001, 5_000, 0, 100 * MS) > 0


def test_a_steady_or_slower_reader_keeps_its_window() -> None:
    made = tuner()
    made.read(20_001, 0, 0, 100 * MS)
    assert made.read(40_001, 0, 0, 200 * MS) == 0
    assert made.read(50_001, 0, 0, 300 * MS) == 0
    assert made.space == 20_000


def test_text_behind_a_gap_needs_room_of_its_own() -> None:
    there = tuner().read(20_001, 0, 7_000, 100 * MS)
    assert there == tuner().read(20_001, 0, 0, 100 * MS) + 7_000


def test_few_large_segments_in_the_first_window_do_not_hold_it_down() -> None:
    """Six segments of 9000 in a window of 62 000: 54 000 are read in each round trip."""
    made = ReceiveTuner(1, 62_000, 9000, now=0)
    made.echoed(100 * MS, drained=True)
    assert made.read(54_001, 0, 0, 100 * MS) > 62_000


def test_a_smaller_sample_counts_at_once_a_larger_one_by_an_eighth() -> None:
    made = tuner(100 * MS)
    made.echoed(40 * MS, drained=False)
    assert made.rtt == 40 * MS
    made.echoed(120 * MS, drained=True)
    assert made.rtt == 50 * MS


def test_a_larger_sample_is_not_believed_while_text_is_unread() -> None:
    made = tuner(100 * MS)
    made.echoed(900 * MS, drained=False)
    assert made.rtt == 100 * MS


def test_without_timestamps_a_round_trip_is_the_time_for_one_window() -> None:
    made = ReceiveTuner(1, WINDOW, MSS, now=0)
    assert made.mark == 1 + WINDOW
    made.arrived(1 + WINDOW, WINDOW, 80 * MS)
    assert made.rtt == 80 * MS
    assert made.mark == 1 + 2 * WINDOW
    made.arrived(1 + 2 * WINDOW, WINDOW, 300 * MS)  # the sender paused
    assert made.rtt == 80 * MS
    made.arrived(1 + 3 * WINDOW, WINDOW, 350 * MS)
    assert made.rtt == 50 * MS


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=30
    )
)
def test_a_wanted_window_is_at_least_twice_what_was_read_last(
    trips: list[tuple[int, int, int]],
) -> None:
    made, position, now = tuner(10), 1, 0
    for size, unread, pause in trips:
        now += pause
        position += size
        window = made.read(position, unread, 0, now)
        assert window == 0 or window >= 2 * made.space
