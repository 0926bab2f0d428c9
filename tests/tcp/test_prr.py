"""Proportional rate reduction as arithmetic (RFC 9937 §6). Segments are 1000 bytes."""

from ustack.tcp.prr import ProportionalRate

MSS = 1000


def leaves(rate: ProportionalRate, delivered: int, pipe: int, ssthresh: int, safe: bool) -> int:
    """How much may leave after an ACK of `delivered`; it is taken to be sent."""
    rate.on_ack(delivered, pipe, ssthresh, MSS, safe=safe)
    size = rate.window - pipe
    rate.sent(size)
    return size


def test_above_the_target_one_segment_leaves_for_two_that_arrive() -> None:
    rate = ProportionalRate(20 * MSS, MSS)
    sent = [leaves(rate, MSS, 18 * MSS, 10 * MSS, safe=False) for _ in range(6)]
    assert sent == [MSS, 0, MSS, 0, MSS, 0]


def test_the_first_segment_leaves_in_any_case() -> None:
    # §6: the fast retransmit; 1 of 3 delivered at a tenth of the rate
    rate = ProportionalRate(30 * MSS, MSS)
    assert leaves(rate, 100, 28 * MSS, 3 * MSS, safe=False) == MSS
    assert leaves(rate, 100, 28 * MSS, 3 * MSS, safe=False) == 0


def test_at_the_target_a_safe_ack_lets_one_more_leave_than_has_arrived() -> None:
    # §6, slow start reduction bound
    rate = ProportionalRate(10 * MSS, MSS)
    assert leaves(rate, MSS, 2 * MSS, 5 * MSS, safe=True) == 2 * MSS
    assert leaves(rate, MSS, 2 * MSS, 5 * MSS, safe=False) == MSS


def test_no_more_leaves_than_the_target_has_room_for() -> None:
    rate = ProportionalRate(10 * MSS, MSS)
    assert leaves(rate, 8 * MSS, 4 * MSS, 5 * MSS, safe=True) == MSS
    assert leaves(rate, 2 * MSS, 5 * MSS, 5 * MSS, safe=True) == 0


def test_an_ack_that_delivers_nothing_changes_nothing() -> None:
    # §6: DeliveredData is zero
    rate = ProportionalRate(10 * MSS, MSS)
    before = rate.window
    rate.on_ack(0, 0, 5 * MSS, MSS, safe=True)
    assert rate.window == before


def test_a_target_between_two_segments_is_rounded_down() -> None:
    # else ten segments delivered would let eight leave for seven
    rate = ProportionalRate(10 * MSS, MSS)
    assert sum(leaves(rate, MSS, 20 * MSS, 7001, safe=False) for _ in range(10)) == 7 * MSS
