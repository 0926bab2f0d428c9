from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.tcp.rtt import RttEstimator

MS = 1_000  # µs
SECOND = 1_000_000  # µs


def estimator(
    initial: int = SECOND, floor: int = 200 * MS, top: int = 120 * SECOND
) -> RttEstimator:
    return RttEstimator(initial, floor, top)


def taken(rtt: RttEstimator, *samples: int) -> RttEstimator:
    """`rtt` after these samples (µs), each from an ACK of all that was sent."""
    for nxt, sample in enumerate(samples, 1):
        rtt.sample(sample, nxt, nxt)
    return rtt


def test_before_any_sample_the_rto_is_the_initial_one() -> None:
    # RFC 6298 §2.1
    assert estimator().rto == SECOND


def test_the_first_sample_sets_srtt_and_half_of_it_as_variance() -> None:
    # RFC 6298 §2.2: SRTT <- R, RTTVAR <- R/2, RTO <- SRTT + 4*RTTVAR
    rtt = taken(estimator(), 400 * MS)
    assert (rtt.srtt, rtt.rttvar) == (400 * MS, 200 * MS)
    assert rtt.rto == 1200 * MS


def test_later_samples_enter_with_an_eighth_and_a_quarter() -> None:
    # RFC 6298 §2.3: RTTVAR first, with the old SRTT
    rtt = taken(estimator(), 400 * MS, 800 * MS)
    assert rtt.rttvar == 3 * 200 * MS // 4 + 400 * MS // 4
    assert rtt.srtt == 7 * 400 * MS // 8 + 800 * MS // 8
    assert rtt.rto == rtt.srtt + 4 * rtt.rttvar


def test_a_shorter_sample_widens_the_variance_by_an_eighth_of_that() -> None:
    # Linux tcp_rtt_estimator(): a path that became faster is no reason for a longer timeout
    rtt = taken(estimator(), 800 * MS, 200 * MS)
    assert rtt.rttvar == 400 * MS + (600 - 400) * MS // 4 // 8
    assert rtt.srtt == 7 * 800 * MS // 8 + 200 * MS // 8


def test_the_rto_comes_down_from_its_variance_by_a_quarter_per_round_trip() -> None:
    # Linux tcp_rtt_estimator(): from 2 R, as after the first sample, to the floor of 200 ms
    rtt = taken(estimator(), 400 * MS, 400 * MS)
    assert rtt.rttvar == 150 * MS
    assert rtt.rto == 1200 * MS  # the largest of the round trip that began with the first sample
    rtt.sample(400 * MS, 3, 5)  # 4 RTTVAR is 450 ms now
    assert rtt.rto == 400 * MS + 800 * MS - (800 - 450) * MS // 4
    before = rtt.rto
    rtt.sample(400 * MS, 5, 9)  # still the same round trip
    assert rtt.rto == before


def test_the_floor_lies_under_the_variance_as_in_linux() -> None:
    rtt = taken(estimator(), *[50 * MS] * 200)
    assert 250 * MS <= rtt.rto <= 251 * MS


def test_a_floor_of_one_second_is_kept() -> None:
    # RFC 6298 §2.4
    rtt = taken(estimator(floor=SECOND), MS)
    assert rtt.rto >= SECOND


def test_the_rto_never_exceeds_the_ceiling() -> None:
    # RFC 6298 §2.5
    rtt = taken(estimator(top=60 * SECOND), 50 * SECOND)
    assert rtt.rto == 60 * SECOND
    for _ in range(100):
        rtt.back_off()
    assert rtt.rto == 60 * SECOND


def test_each_expiry_doubles_the_rto() -> None:
    # RFC 6298 §5.5
    rtt = estimator()
    seen = []
    for _ in range(8):
        seen.append(rtt.rto // SECOND)
        rtt.back_off()
    assert seen == [1, 2, 4, 8, 16, 32, 64, 120]


def test_a_valid_sample_ends_the_back_off() -> None:
    rtt = estimator()
    rtt.back_off()
    rtt.back_off()
    taken(rtt, 400 * MS)
    assert rtt.rto == 1200 * MS


def test_the_smallest_sample_is_remembered() -> None:
    rtt = estimator()
    taken(rtt, 30 * MS, 20 * MS, 40 * MS)
    assert (rtt.min_rtt, rtt.latest) == (20 * MS, 40 * MS)


def test_the_newest_segment_of_an_ack_tells_the_shortest_round_trip() -> None:
    rtt = taken(estimator(), 30 * MS)
    rtt.sample_newest(10 * MS)
    assert (rtt.srtt, rtt.min_rtt, rtt.latest) == (30 * MS, 10 * MS, 10 * MS)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.integers(-5, 300 * SECOND), min_size=1, max_size=50))
def test_whatever_is_measured_the_rto_stays_within_its_bounds(samples: list[int]) -> None:
    rtt = estimator()
    for nxt, sample in enumerate(samples):
        rtt.sample(sample, nxt, nxt)
        assert 200 * MS < rtt.rto <= 120 * SECOND
        assert rtt.srtt >= 1
        assert rtt.rttvar >= 0
        assert rtt.srtt <= max(1, *samples)


def test_progress_without_a_sample_can_end_the_back_off_too() -> None:
    rtt = taken(estimator(), 400 * MS)
    rtt.back_off()
    assert rtt.rto == 2400 * MS
    rtt.reset_backoff()
    assert (rtt.rto, rtt.backoff) == (1200 * MS, 0)
