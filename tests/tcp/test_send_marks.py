"""Marks on the send stream: records, stamps, lent buffers, and their caps."""

from ustack.tcp.send_marks import (
    ACKED,
    MAX_MARKS,
    MAX_REPORTS,
    QUEUED,
    RELEASED,
    SENT,
    Report,
    SendMarks,
)

ALL = frozenset((QUEUED, SENT, ACKED))


def test_a_segment_ends_at_the_first_record() -> None:
    marks = SendMarks()
    marks.end_record(100)
    marks.end_record(250)
    assert marks.record_end(0, 1000) == 100
    assert marks.record_end(100, 1000) == 250
    assert marks.record_end(100, 200) == 200
    marks.acknowledged(250, 0)
    assert marks.record_end(0, 1000) == 1000


def test_a_stamp_is_reported_when_sent_and_when_acknowledged() -> None:
    marks = SendMarks()
    marks.stamp(100, 99, ALL)
    assert not marks.sent(0, 50, 1)
    assert marks.sent(50, 100, 2)
    assert not marks.acknowledged(99, 3)
    assert marks.acknowledged(100, 4)
    assert marks.take() == [
        Report(QUEUED, 99, 2, 50),
        Report(SENT, 99, 2, 50),
        Report(ACKED, 99, 4, 1),
    ]
    assert marks.take() == []


def test_of_stamps_that_leave_together_the_last_one_stays() -> None:
    marks = SendMarks()
    marks.stamp(10, 9, frozenset((SENT,)))
    marks.stamp(20, 19, frozenset((SENT,)))
    marks.sent(0, 20, 5)
    assert [report.key for report in marks.take()] == [19]


def test_an_abandoned_stream_gives_back_what_was_lent_and_no_more() -> None:
    marks = SendMarks()
    marks.stamp(20, 19, ALL)
    marks.lend(10, 0)
    marks.lend(20, 1)
    assert marks.abandon()
    assert [(report.kind, report.key) for report in marks.take()] == [(RELEASED, 0), (RELEASED, 1)]
    assert not marks.abandon()


def test_nothing_grows_without_bound() -> None:
    marks = SendMarks()
    for number in range(MAX_MARKS + 5):
        marks.end_record(number)
        marks.stamp(number, number, ALL)
        marks.lend(number, number)
    assert marks.dropped == 15
    marks.acknowledged(MAX_MARKS, 0)
    assert len(marks.take()) == MAX_REPORTS
    assert marks.dropped == 15 + 2 * MAX_MARKS - MAX_REPORTS
