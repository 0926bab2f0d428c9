"""The scoreboard against a model with one record for each octet."""

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.tcp.scoreboard import MERGE_LIMIT, Scoreboard

UNA = 0xFFFF_FF01  # just below the wrap of the wire's numbers
MSS = 100


def board_of(segments: int, size: int = MSS) -> Scoreboard:
    """`segments` were sent, each at another time: 0, 1, 2, ..."""
    board = Scoreboard()
    for i in range(segments):
        board.sent(UNA + i * size, UNA + (i + 1) * size, i)
    return board


def sack(board: Scoreboard, *blocks: tuple[int, int], una: int = 0, segments: int = 10) -> int:
    edges = tuple((UNA + a * MSS, UNA + b * MSS) for a, b in blocks)
    return board.sack(edges, UNA + una * MSS, UNA + segments * MSS)[0]


def lost(board: Scoreboard) -> list[tuple[float, float]]:
    return [((one.start - UNA) / MSS, (one.end - UNA) / MSS) for one in board.ranges() if one.lost]


def test_what_is_sent_is_in_flight_until_it_is_acknowledged() -> None:
    board = board_of(3)
    assert (board.in_flight, board.pipe(), len(board)) == (300, 300, 3)
    assert board.ack(UNA + 150) == 1  # the newest of the octets acknowledged was sent at 1
    assert (board.in_flight, board.pipe()) == (150, 150)
    assert board.ack(UNA + 300) == 2
    assert (board.in_flight, len(board)) == (0, 0)


def test_ranges_sent_at_one_moment_are_one_entry() -> None:
    board = Scoreboard()
    for i in range(50):
        board.sent(UNA + i, UNA + i + 1, 7)
    assert [repr(one) for one in board.ranges()] == [f"[{UNA},{UNA + 50})"]


def test_an_entry_does_not_grow_without_limit() -> None:
    board = Scoreboard()
    board.sent(UNA, UNA + MERGE_LIMIT, 7)
    board.sent(UNA + MERGE_LIMIT, UNA + MERGE_LIMIT + 1, 7)
    assert len(board) == 2


def test_sacked_octets_leave_the_pipe() -> None:
    board = board_of(10)
    assert sack(board, (2, 4)) == 200
    assert (board.sacked, board.pipe()) == (200, 800)
    assert sack(board, (2, 4)) == 0
    assert sack(board, (2, 5)) == 100


def test_a_block_outside_of_the_flight_is_ignored() -> None:
    board = board_of(10)
    board.ack(UNA + 100)
    assert sack(board, (0, 1), una=1) == 0  # a duplicate, RFC 2883
    assert sack(board, (9, 11), una=1) == 0  # never sent
    assert sack(board, (4, 4), una=1) == 0
    assert sack(board, (6, 4), una=1) == 0
    assert board.sacked == 0


def test_a_block_may_cut_ranges_anywhere() -> None:
    board = board_of(3)
    edges = ((UNA + 50, UNA + 250),)
    assert board.sack(edges, UNA, UNA + 300) == (200, 2)
    assert [repr(one) for one in board.ranges()] == [
        f"[{UNA},{UNA + 50})",
        f"[{UNA + 50},{UNA + 250})S",
        f"[{UNA + 250},{UNA + 300})",
    ]


def test_a_block_behind_a_new_gap_leaps() -> None:
    board = board_of(10)

    def leaps(left: int, right: int, una: int = 0) -> bool:
        board.begin_ack()
        sack(board, (left, right), una=una)
        board.ack(UNA + una * MSS)
        return board.leapt()

    assert leaps(2, 3)  # behind two that are missing
    assert not leaps(2, 4)  # in order since then
    assert not leaps(2, 4)  # nothing new
    assert leaps(6, 7)
    assert not leaps(4, 5)  # late
    assert not leaps(6, 8, una=5)
    assert leaps(9, 10, una=5)
    assert not leaps(10, 10, una=10)


def test_three_sacked_ranges_above_make_a_range_lost() -> None:
    # RFC 6675 §4 IsLost: DupThresh discontiguous SACKed sequences
    board = board_of(10)
    edges = tuple((UNA + at, UNA + at + 10) for at in (150, 250, 350))
    board.sack(edges, UNA, UNA + 1000)
    assert board.detect_losses(MSS) == 150
    assert lost(board) == [(0, 1), (1, 1.5)]
    assert board.detect_losses(MSS) == 0


def test_more_than_two_segments_sacked_above_make_a_range_lost() -> None:
    # RFC 6675 §4 IsLost: more than (DupThresh - 1) * SMSS bytes
    board = board_of(10)
    sack(board, (1, 3))
    assert board.detect_losses(MSS) == 0
    board.sack(((UNA + 300, UNA + 301),), UNA, UNA + 1000)
    assert board.detect_losses(MSS) == 100
    assert lost(board) == [(0, 1)]


def test_without_sacks_nothing_is_deemed_lost() -> None:
    assert board_of(10).detect_losses(MSS) == 0


def test_lost_octets_leave_the_pipe_until_they_are_resent() -> None:
    board = board_of(10)
    sack(board, (1, 5))
    board.detect_losses(MSS)
    assert board.pipe() == 500
    entry = board.next_lost()
    assert entry is not None and (entry.start, entry.end) == (UNA, UNA + 100)
    board.resend(UNA, UNA + 60, 50)
    assert (board.resent, board.pipe()) == (60, 560)
    entry = board.next_lost()
    assert entry is not None and (entry.start, entry.end) == (UNA + 60, UNA + 100)
    board.resend(UNA + 60, UNA + 100, 51)
    assert board.next_lost() is None


def test_a_resent_octet_gives_no_round_trip() -> None:
    # Karn's rule, RFC 6298 §3
    board = board_of(3)
    board.mark_first_lost(MSS)
    board.resend(UNA, UNA + 100, 50)
    assert board.ack(UNA + 300) is None


def test_a_part_of_a_resent_range_gives_no_round_trip_either() -> None:
    board = board_of(3)
    board.mark_first_lost(MSS)
    board.resend(UNA, UNA + 100, 50)
    assert board.ack(UNA + 50) is None
    assert (board.lost, board.resent, board.in_flight) == (50, 50, 250)


def test_what_was_sacked_before_gives_no_round_trip() -> None:
    board = board_of(2)
    sack(board, (0, 2), segments=2)
    assert board.ack(UNA + 150) is None
    assert (board.sacked, board.in_flight) == (50, 50)
    assert board.ack(UNA + 200) is None


def test_a_sack_of_a_resent_range_gives_no_round_trip() -> None:
    board = board_of(4)
    board.mark_first_lost(MSS)
    board.resend(UNA, UNA + 100, 50)
    assert board.sack(((UNA, UNA + 100),), UNA, UNA + 400) == (100, None)
    assert (board.lost, board.resent, board.sacked) == (0, 0, 100)


def test_a_lost_range_that_was_not_resent_is_taken_back_by_a_sack() -> None:
    board = board_of(4)
    board.mark_first_lost(MSS)
    sack(board, (0, 1), segments=4)
    assert (board.lost, board.resent, board.sacked) == (0, 0, 100)
    assert board.next_lost() is None


def test_only_the_first_segment_is_marked_by_duplicate_acks() -> None:
    board = Scoreboard()
    assert board.mark_first_lost(MSS) == 0
    board.sent(UNA, UNA + 1000, 0)
    assert board.mark_first_lost(MSS) == 100
    assert lost(board) == [(0, 1)]
    assert board.mark_first_lost(MSS) == 0


def test_after_a_timeout_everything_not_sacked_is_lost() -> None:
    board = board_of(5)
    sack(board, (2, 3), segments=5)
    board.mark_all_lost()
    assert lost(board) == [(0, 1), (1, 2), (3, 4), (4, 5)]
    assert (board.lost, board.pipe()) == (400, 0)


def test_a_peer_that_takes_back_its_sacks_gets_everything_again() -> None:
    # RFC 2018 §8
    board = board_of(5)
    sack(board, (0, 3), segments=5)
    assert board.first_is_sacked()
    board.mark_all_lost(forget_sacks=True)
    assert lost(board) == [(0, 3), (3, 4), (4, 5)]
    assert (board.sacked, board.highest_sacked) == (0, 0)
    assert not board.first_is_sacked()


def test_an_empty_board_is_not_sacked() -> None:
    assert not Scoreboard().first_is_sacked()


def test_marks_are_shown() -> None:
    board = board_of(3)
    sack(board, (1, 2), segments=3)
    board.mark_first_lost(MSS)
    board.resend(UNA, UNA + 100, 9)
    assert [repr(one)[-3:].lstrip("0123456789") for one in board.ranges()] == [")LR", ")S", ")"]


@dataclass
class Octet:
    sent_at: int
    sacked: bool = False
    lost: bool = False
    resent: bool = False
    copied: bool = False  # ever


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 25), st.integers(0, 2)),
        st.tuples(st.just("ack"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("sack"), st.integers(-2, 80), st.integers(0, 20)),
        st.tuples(st.just("detect"), st.integers(1, 10), st.just(0)),
        st.tuples(st.just("late"), st.integers(0, 6), st.integers(0, 6)),
        st.tuples(st.just("undo"), st.just(0), st.just(0)),
        st.tuples(st.just("first"), st.integers(1, 10), st.just(0)),
        st.tuples(st.just("all"), st.integers(0, 1), st.just(0)),
        st.tuples(st.just("resend"), st.integers(1, 12), st.just(0)),
    ),
    max_size=60,
)


def late_by(octets: dict[int, Octet], board: Scoreboard, now: int, ago: int, patience: int) -> None:
    """What was sent before a delivery `ago` and has used up its patience is lost, in both."""
    marked = wait = 0
    for one in octets.values() if board.sacked or board.lost else ():
        if one.sacked or (one.lost and not one.resent) or one.sent_at >= now - ago:
            continue
        remaining = one.sent_at + patience - now
        if remaining > 0:
            wait = max(wait, remaining)
        else:
            marked += 1
            one.lost, one.resent = True, False
    assert board.detect_losses_by_time((now - ago, 0), patience, now) == (marked, wait)


def compare(octets: dict[int, Octet], board: Scoreboard, una: int, nxt: int) -> None:
    # The ranges cover the flight without gap or overlap, and the totals are those of the model
    edge = una
    for entry in board.ranges():
        assert entry.start == edge < entry.end
        edge = entry.end
        for at in range(entry.start, entry.end):
            one = octets[at]
            assert (entry.sacked, entry.lost) == (one.sacked, one.lost)
            assert entry.resent == one.resent
    assert edge == nxt
    values = octets.values()
    assert board.in_flight == nxt - una
    assert board.sacked == sum(one.sacked for one in values)
    assert board.lost == sum(one.lost for one in values)
    assert board.resent == sum(one.resent for one in values)
    assert board.first_is_sacked() == (una in octets and octets[una].sacked)
    assert board.owed == sum(one.lost and not one.resent for one in values)
    in_network = sum((not one.lost) + one.resent for one in values if not one.sacked)
    assert board.pipe() == in_network


@settings(derandomize=True, max_examples=300, deadline=None)
@given(STEPS)
def test_the_scoreboard_agrees_with_a_model_of_octets(steps: list[tuple[str, int, int]]) -> None:
    board = Scoreboard()
    octets: dict[int, Octet] = {}
    una = nxt = UNA
    now = 0
    for kind, first, second in steps:
        if kind == "send":
            now += second
            board.sent(nxt, nxt + first, now)
            octets |= {at: Octet(now) for at in range(nxt, nxt + first)}
            nxt += first
        elif kind == "ack":
            ack = min(una + first, nxt)
            gone = [octets.pop(at) for at in range(una, ack)]
            una = ack
            fresh = [one.sent_at for one in gone if not one.sacked]
            ambiguous = any(one.copied for one in gone if not one.sacked)
            assert board.ack(una) == (None if ambiguous or not fresh else fresh[-1])
        elif kind == "sack":
            left, right = una + first, una + first + second
            gained = 0
            if una <= left < right <= nxt:
                new = [octets[at] for at in range(left, right) if not octets[at].sacked]
                gained = len(new)
                times = [one.sent_at for one in new if not (one.lost or one.copied)]
                for one in new:
                    one.sacked, one.lost, one.resent = True, False, False
                assert board.sack(((left, right),), una, nxt) == (gained, max(times, default=None))
            else:
                assert board.sack(((left, right),), una, nxt) == (0, None)
        elif kind == "detect":
            marked = 0
            for at, one in octets.items():
                above = [octets[p].sacked for p in range(at, nxt)]
                runs = sum(b and not a for a, b in pairwise(above))
                if not one.sacked and not one.lost and (runs >= 3 or sum(above) > 2 * first):
                    marked += 1
                    one.lost = True
            assert board.detect_losses(first) == marked
        elif kind == "late":  # RFC 8985 §6.2 step 5, with a delivery `first` µs ago
            late_by(octets, board, now, first, second)
        elif kind == "undo":
            board.unmark_lost()
            for one in octets.values():
                one.lost = False
        elif kind == "first":
            assert board.mark_first_lost(first) <= first
            for entry in board.ranges()[:1]:
                for at in range(entry.start, entry.end):
                    octets[at].lost, octets[at].resent = entry.lost, entry.resent
        elif kind == "all":
            board.mark_all_lost(forget_sacks=bool(first))
            for one in octets.values():
                one.resent = False
                one.sacked = one.sacked and not first
                one.lost = not one.sacked
        else:
            entry_to_send = board.next_lost()
            due = [at for at, one in octets.items() if one.lost and not one.resent]
            assert (entry_to_send is None) == (not due)
            if entry_to_send is not None:
                assert entry_to_send.start == due[0]
                end = min(entry_to_send.start + first, entry_to_send.end)
                now += 1
                board.resend(entry_to_send.start, end, now)
                for at in range(due[0], end):
                    octets[at].resent = octets[at].copied = True
                    octets[at].sent_at = now
        compare(octets, board, una, nxt)
