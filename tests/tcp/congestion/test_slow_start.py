"""HyStart as in Linux and HyStart++ (RFC 9406): numbers in, the end of slow start out."""

import pytest

from ustack.tcp.congestion import REGISTRY, CongestionControl
from ustack.tcp.congestion.slow_start import HyStart, HyStartPlusPlus, SlowStart

MSS = 1000
MS = 1000
CWND = 40 * MSS


def round_of(
    slow_start: SlowStart,
    rtt_us: int,
    at: int,
    *,
    segments: int = 16,
    gap_us: int = 5 * MS,
    cwnd: int = CWND,
) -> list[int]:
    """One flight is acknowledged, the same is sent again. Returns what each ACK lets cwnd grow."""
    flight = segments * MSS
    grown = []
    for number in range(segments):
        if slow_start.over:
            break
        grown.append(slow_start.on_ack(MSS, flight - MSS, cwnd, rtt_us, at + number * gap_us))
    return grown


@pytest.mark.parametrize(
    "base, more, leaves",
    [
        # RttThresh = max(4 ms, min(lastRoundMinRTT / 8, 16 ms)), §4.2
        (8 * MS, 3 * MS, False),
        (8 * MS, 4 * MS, True),
        (80 * MS, 9 * MS, False),
        (80 * MS, 10 * MS, True),
        (400 * MS, 15 * MS, False),
        (400 * MS, 16 * MS, True),
    ],
)
def test_a_longer_round_trip_turns_slow_start_into_the_conservative_one(
    base: int, more: int, leaves: bool
) -> None:
    # §4.2, §4.3: a quarter of the growth
    slow_start = HyStartPlusPlus(MSS)
    assert set(round_of(slow_start, base, 0)) == {MSS}
    second = round_of(slow_start, base + more, 10**6)
    assert second[:8] == [MSS] * 8  # N_RTT_SAMPLE
    assert set(second[8:]) == ({MSS // 4} if leaves else {MSS})


def test_a_round_ends_when_what_was_in_flight_is_acknowledged() -> None:
    # §4.2: the minimum of the first round is compared with, not that of the ACK before
    slow_start = HyStartPlusPlus(MSS)
    round_of(slow_start, 50 * MS, 0)
    for rtt in range(51, 67):  # grows by 1 ms with each ACK; the minimum of the round is 51 ms
        assert slow_start.on_ack(MSS, 16 * MSS, CWND, rtt * MS, 10**6) == MSS
    assert slow_start.on_ack(MSS, 16 * MSS, CWND, 67 * MS, 2 * 10**6) == MSS


def test_fewer_than_eight_samples_decide_nothing() -> None:
    # §4.3: N_RTT_SAMPLE
    slow_start = HyStartPlusPlus(MSS)
    round_of(slow_start, 50 * MS, 0, segments=7)
    for at in range(1, 5):
        assert set(round_of(slow_start, 500 * MS, at * 10**6, segments=7)) == {MSS}


def test_a_false_alarm_is_called_off() -> None:
    # §4.2: below the baseline, slow start resumes
    slow_start = HyStartPlusPlus(MSS)
    round_of(slow_start, 50 * MS, 0)
    assert round_of(slow_start, 60 * MS, 10**6)[-1] == MSS // 4
    third = round_of(slow_start, 50 * MS, 2 * 10**6)
    assert third[0] == MSS // 4 and third[-1] == MSS
    assert not slow_start.over


def test_after_five_conservative_rounds_slow_start_is_over() -> None:
    # §4.2: CSS_ROUNDS; the one in which it began counts
    slow_start = HyStartPlusPlus(MSS)
    round_of(slow_start, 50 * MS, 0)
    for at in range(1, 6):
        round_of(slow_start, 60 * MS, at * 10**6)
        assert not slow_start.over
    round_of(slow_start, 60 * MS, 6 * 10**6)
    assert slow_start.over


def test_one_ack_adds_eight_segments_at_most_to_what_is_not_paced() -> None:
    # §4.3: L
    slow_start = HyStartPlusPlus(MSS)
    assert slow_start.on_ack(40 * MSS, 40 * MSS, CWND, 50 * MS, 0) == 8 * MSS


@pytest.mark.parametrize("name", ["cubic", "newreno"])
def test_ssthresh_becomes_cwnd_when_slow_start_is_over(name: str) -> None:
    # §4.2
    cc = REGISTRY[name](MSS, 20, "hystart++")
    now = 0
    for rtt in (50, 60, 60, 60, 60, 60):
        now = acknowledge_a_window(cc, rtt * MS, now)
    assert cc.ssthresh > 1 << 40
    acknowledge_a_window(cc, 60 * MS, now)
    assert cc.ssthresh < 1 << 30
    assert cc.ssthresh <= cc.cwnd <= cc.ssthresh * 1.1


@pytest.mark.parametrize("name", ["cubic", "newreno"])
def test_a_loss_ends_it_as_it_ends_any_slow_start(name: str) -> None:
    # §4.2: also in the conservative phase
    cc = REGISTRY[name](MSS, 20, "hystart++")
    now = acknowledge_a_window(cc, 50 * MS, 0)
    now = acknowledge_a_window(cc, 60 * MS, now)
    window = cc.cwnd
    cc.on_loss(window, now)
    cc.on_recovered(now)
    assert (
        cc.cwnd == cc.ssthresh == pytest.approx(window * (0.7 if name == "cubic" else 0.5), abs=MSS)
    )


def acknowledge_a_window(cc: CongestionControl, rtt_us: int, now: int) -> int:
    window = cc.cwnd
    for number in range(window // MSS):
        cc.on_ack(MSS, window, rtt_us, False, now + number)
    return now + rtt_us


# --------------------------------------------------------------------- as in Linux


def test_linux_leaves_when_the_round_trip_has_grown_by_an_eighth() -> None:
    slow_start = HyStart(MSS)
    round_of(slow_start, 80 * MS, 0)
    round_of(slow_start, 90 * MS, 10**6)
    assert not slow_start.over  # more than an eighth is asked for
    round_of(slow_start, 91 * MS, 2 * 10**6)
    assert slow_start.over


def test_linux_wants_eight_samples_and_then_one_more() -> None:
    slow_start = HyStart(MSS)
    round_of(slow_start, 50 * MS, 0)
    round_of(slow_start, 200 * MS, 10**6, segments=8)
    assert not slow_start.over
    round_of(slow_start, 200 * MS, 2 * 10**6, segments=9)
    assert slow_start.over


def test_linux_judges_no_window_below_sixteen_segments() -> None:
    slow_start = HyStart(MSS)
    for at in range(4):
        round_of(slow_start, (50 + 50 * at) * MS, at * 10**6, cwnd=15 * MSS)
    assert not slow_start.over


def test_linux_leaves_when_acks_come_in_a_train_longer_than_half_the_round_trip() -> None:
    # 100 ms and the allowance of 1 ms: half of that are 50.5 ms
    slow_start = HyStart(MSS)
    round_of(slow_start, 100 * MS, 0, segments=52, gap_us=1 * MS)
    assert slow_start.over
    slow_start = HyStart(MSS)
    round_of(slow_start, 100 * MS, 0, segments=50, gap_us=1 * MS)
    assert not slow_start.over


@pytest.mark.parametrize("segments, leaves", [(102, False), (103, True)])
def test_where_text_is_paced_the_train_may_last_a_round_trip(segments: int, leaves: bool) -> None:
    # Linux hystart_update(): pacing may have delayed it by half of one
    slow_start = HyStart(MSS)
    slow_start.paced = True
    round_of(slow_start, 100 * MS, 0, segments=segments, gap_us=1 * MS)
    assert slow_start.over == leaves


def test_a_gap_ends_the_train() -> None:
    slow_start = HyStart(MSS)
    round_of(slow_start, 100 * MS, 0, segments=30, gap_us=3 * MS)
    assert not slow_start.over


def test_an_ack_that_measures_nothing_is_no_sign() -> None:
    slow_start = HyStart(MSS)
    for at in range(0, 90 * MS, MS):
        assert slow_start.on_ack(MSS, CWND, CWND, None, at) == MSS
    assert not slow_start.over
