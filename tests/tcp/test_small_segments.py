"""Linux counts segments, and so does the scoreboard if it knows how large a full one is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.tcp.scoreboard import Scoreboard

UNA = 0xFFFF_FF01  # just below the wrap of the wire's numbers
MSS = 100


def board_of(*sizes: int, fin: bool = False) -> Scoreboard:
    """Writes of these sizes have left, each in segments of its own; the last with a FIN."""
    board = Scoreboard(MSS)
    at = UNA
    for now, size in enumerate(sizes):
        with_fin = fin and now == len(sizes) - 1
        slack = -size % MSS - with_fin if size else MSS - 1
        board.sent(at, at + size + with_fin, now, slack)
        at += size + with_fin
    return board


def counts(board: Scoreboard) -> tuple[int, int, int, int, int]:
    """Segments in flight, SACKed, lost, sent again, and believed to be in the network."""
    totals = (board.flight(), board.sacked, board.lost, board.resent, board.pipe())
    assert not any(total % MSS for total in totals)
    unacked, sacked, lost, resent, pipe = (total // MSS for total in totals)
    return unacked, sacked, lost, resent, pipe


def sack(board: Scoreboard, left: int, right: int) -> int:
    return board.sack(((UNA + left, UNA + right),), UNA, UNA + 10_000)[0]


def test_a_small_segment_weighs_as_much_as_a_full_one() -> None:
    board = board_of(10, 100, 250, 1)
    assert counts(board) == (6, 0, 0, 0, 6)
    assert board.in_flight == 361
    board.ack(UNA + 10)
    assert counts(board) == (5, 0, 0, 0, 5)
    board.ack(UNA + 361)
    assert counts(board) == (0, 0, 0, 0, 0)
    assert (board.in_flight, board.padding) == (0, 6 * MSS - 361)


@pytest.mark.parametrize("step", [7, 70, MSS, 3 * MSS])
@pytest.mark.parametrize("size", [50, 60, 150, 400])
def test_a_part_of_what_left_in_segments_of_another_size_is_never_less_than_nothing(
    size: int, step: int
) -> None:
    board = Scoreboard(MSS)
    board.sent(UNA, UNA + 10 * MSS, 7)
    board.resize(size)
    assert board.flight() == 10 * size
    before = 0
    for end in range(step, 10 * MSS, step):
        board.ack(UNA + end)
        delivered = end + board.padding
        assert before <= delivered
        assert step % MSS or delivered == end // MSS * size
        assert board.flight() == 10 * size - delivered
        before = delivered
    board.ack(UNA + 10 * MSS)
    assert 10 * MSS + board.padding == 10 * size
    assert board.flight() == 0


def test_small_segments_of_one_moment_stay_apart() -> None:
    board = Scoreboard(MSS)
    for at in range(0, 30, 10):
        board.sent(UNA + at, UNA + at + 10, 7, 90)
    assert [repr(one) for one in board.ranges()] == [
        f"[{UNA + at},{UNA + at + 10})" for at in (0, 10, 20)
    ]


def test_a_small_segment_ends_a_range_and_begins_none() -> None:
    board = Scoreboard(MSS)
    board.sent(UNA, UNA + 200, 7)
    board.sent(UNA + 200, UNA + 250, 7, 50)
    board.sent(UNA + 250, UNA + 350, 7)
    assert [repr(one) for one in board.ranges()] == [
        f"[{UNA},{UNA + 250})",
        f"[{UNA + 250},{UNA + 350})",
    ]


def test_a_fin_takes_no_room_in_a_segment_with_text() -> None:
    assert counts(board_of(100, fin=True)) == (1, 0, 0, 0, 1)
    assert counts(board_of(250, fin=True)) == (3, 0, 0, 0, 3)
    assert counts(board_of(100, 0, fin=True)) == (2, 0, 0, 0, 2)
    board = board_of(300, fin=True)
    board.ack(UNA + 100)
    assert counts(board) == (2, 0, 0, 0, 2)
    board.ack(UNA + 300)
    assert counts(board) == (1, 0, 0, 0, 1)  # Linux: the FIN is still owed


def test_a_lone_fin_is_a_segment_of_its_own() -> None:
    board = Scoreboard(MSS)
    board.sent(UNA, UNA + 200, 7)
    board.sent(UNA + 200, UNA + 201, 7, MSS - 1)
    assert len(board) == 2
    assert board.last(MSS, 0, UNA + 200) == (UNA + 200, UNA + 201)


def test_a_part_of_a_segment_is_none() -> None:
    # Linux tcp_tso_acked(), tcp_match_skb_to_sack()
    board = board_of(100, 50, 300)
    board.begin_ack()
    assert board.ack(UNA + 60) is None
    assert counts(board) == (5, 0, 0, 0, 5)
    assert board.padding == -60  # nothing was delivered
    assert sack(board, 110, 140) == 0
    assert sack(board, 160, 240) == 0
    assert sack(board, 160, 360) == MSS  # one of them is in it whole
    assert counts(board) == (5, 1, 0, 0, 4)
    board.ack(UNA + 100)
    assert counts(board) == (4, 1, 0, 0, 3)


def test_the_first_lost_segment_is_small() -> None:
    board = board_of(10, 10, 10)
    assert board.mark_first_lost(MSS) == MSS
    assert counts(board) == (3, 0, 1, 0, 2)


def test_small_segments_are_sent_again_in_one() -> None:
    # Linux tcp_retrans_try_collapse()
    board = board_of(30, 30, 30, 30, 100)
    board.mark_all_lost()
    assert counts(board) == (5, 0, 5, 0, 0)
    end = board.collapsible(UNA, UNA + 1000, MSS)
    assert end == UNA + 90
    assert board.resend(UNA, end, 50) == MSS
    assert counts(board) == (3, 0, 3, 1, 1)
    assert (board.owed, board.bytes_resent, board.retransmissions) == (2 * MSS, 90, 1)
    board.ack(UNA + 90)
    assert counts(board) == (2, 0, 2, 0, 0)


def test_what_is_sacked_or_beyond_the_window_or_no_small_one_is_left_apart() -> None:
    board = board_of(10, 10, 10, 10, 100)
    sack(board, 20, 30)
    assert board.collapsible(UNA, UNA + 1000, MSS) == UNA + 20
    assert board.collapsible(UNA, UNA + 15, MSS) == UNA + 10
    assert board.collapsible(UNA + 30, UNA + 1000, MSS) == UNA + 40
    assert board_of(20, 100).collapsible(UNA, UNA + 1000, MSS) == UNA + 20


def test_one_that_was_sent_again_may_be_swallowed() -> None:
    board = board_of(10, 10, 10)
    board.mark_all_lost()
    board.resend(UNA, UNA + 10, 50)
    board.resend(UNA + 10, UNA + 20, 51)
    board.mark_all_lost()
    board.resend(UNA + 10, UNA + 20, 52)
    assert counts(board) == (3, 0, 3, 1, 1)
    board.resend(UNA, UNA + 30, 60)
    assert counts(board) == (1, 0, 1, 1, 1)
    assert board.next_lost() is None


def test_duplicate_acks_of_swallowed_segments_count_no_more() -> None:
    # Linux tcp_adjust_pcount(): without SACK
    board = board_of(10, 10, 10, 10)
    board.dup_acked = 3 * MSS
    board.mark_first_lost(MSS)
    board.resend(UNA, UNA + 30, 50)
    assert counts(board) == (2, 0, 1, 1, 1)
    assert board.dup_acked == MSS


def test_another_segment_size_changes_no_count() -> None:
    board = board_of(100, 250, 10)
    board.mark_first_lost(MSS)
    sack(board, 100, 350)
    board.resize(60)
    assert (board.flight(), board.sacked, board.lost, board.owed) == (300, 180, 60, 60)
    before = board.padding + board.sacked
    board.ack(UNA + 350)
    assert (board.flight(), board.sacked, board.lost) == (60, 0, 0)
    assert board.padding + 350 == before + 60  # four segments were delivered, three before


def test_what_was_sacked_together_and_forgotten_is_sent_again_in_one() -> None:
    # RFC 2018 §8: the peer has dropped it
    board = board_of(10, 10, 10, 10, 10)
    sack(board, 10, 30)
    board.mark_all_lost(forget_sacks=True)
    assert counts(board) == (5, 0, 5, 0, 0)
    board.resend(UNA + 10, UNA + 30, 50)
    assert counts(board) == (4, 0, 4, 1, 1)
    board.mark_all_lost()
    board.resend(UNA, UNA + 50, 60)
    assert counts(board) == (1, 0, 1, 1, 1)
    assert board.owed == 0


def test_what_was_sent_in_larger_segments_is_sent_again_in_smaller_ones() -> None:
    board = board_of(100, 100)
    board.resize(60)
    board.mark_all_lost()
    assert counts_of(board, 60) == (2, 2, 0)
    board.resend(UNA, UNA + 100, 50)
    assert counts_of(board, 60) == (3, 3, 2)


def counts_of(board: Scoreboard, mss: int) -> tuple[int, int, int]:
    """Segments of `mss` in flight, lost and sent again."""
    return board.flight() // mss, board.lost // mss, board.resent // mss


def test_two_segments_may_be_shorter_than_one_has_become() -> None:
    board = Scoreboard(MSS)
    board.sent(UNA, UNA + 150, 0, 50)
    board.resize(200)
    assert board.flight() == 400
    assert board.mark_first_lost(200) == 400


class Segment:
    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self.sacked = self.lost = self.resent = False


STEP = st.tuples(
    st.sampled_from(["send", "send", "ack", "sack", "lose", "all", "resend"]),
    st.integers(1, 400),
    st.integers(1, 400),
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_the_scoreboard_agrees_with_a_list_of_segments(steps: list[tuple[str, int, int]]) -> None:
    board, model = Scoreboard(MSS), list[Segment]()
    una = nxt = UNA
    for now, (kind, first, second) in enumerate(steps):
        if kind == "send":
            board.sent(nxt, nxt + first, now // 3, -first % MSS)
            ends = [*range(nxt + MSS, nxt + first, MSS), nxt + first]
            model += [Segment(at, end) for at, end in zip([nxt, *ends], ends, strict=False)]
            nxt += first
        elif kind == "ack" and model:
            una = model[first % len(model)].end
            board.ack(una)
            model = [one for one in model if one.end > una]
        elif kind == "sack":
            left, right = una + first, min(una + first + second, nxt)
            board.sack(((left, right),), una, nxt)
            for one in model:
                if left <= one.start and one.end <= right:
                    one.sacked, one.lost, one.resent = True, False, False
        elif kind == "lose":
            board.mark_first_lost(MSS)
            if model and not model[0].sacked and not model[0].lost:
                model[0].lost, model[0].resent = True, False
        elif kind == "all":
            board.mark_all_lost()
            for one in model:
                one.lost, one.resent = not one.sacked, False
        elif kind == "resend" and (entry := board.next_lost()) is not None:
            due = [one for one in model if entry.start <= one.start and one.end <= entry.end]
            assert due[0].start == entry.start and due[-1].end == entry.end
            some = due[: 1 + first % len(due)]
            assert board.resend(entry.start, some[-1].end, now) == len(some) * MSS
            for one in some:
                assert one.lost and not one.resent
                one.resent = True
        assert counts(board)[:4] == (
            len(model),
            sum(one.sacked for one in model),
            sum(one.lost for one in model),
            sum(one.resent for one in model),
        )
        assert board.owed == MSS * sum(one.lost and not one.resent for one in model)
        assert una - UNA + board.padding + board.sacked == MSS * (
            sum(1 for one in model if one.sacked) + len(acked_before(steps, now))
        )


def acked_before(steps: list[tuple[str, int, int]], now: int) -> list[int]:
    """The segments that were sent and are acknowledged after step `now`."""
    sizes, acked = list[int](), list[int]()
    for kind, first, _ in steps[: now + 1]:
        if kind == "send":
            sizes += [1] * -(-first // MSS)
        elif kind == "ack" and sizes:
            count = first % len(sizes) + 1
            acked += sizes[:count]
            del sizes[:count]
    return acked
