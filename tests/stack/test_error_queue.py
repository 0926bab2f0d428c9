"""The error queue: order, merging of notices, the cap."""

from ustack.stack import socket_constants as c
from ustack.stack.error_queue import (
    MAX_ID,
    MAX_MESSAGES,
    ErrorQueue,
    ExtendedError,
    QueuedError,
    received_error,
)

OTHER = QueuedError((received_error(ExtendedError(1, c.SO_EE_ORIGIN_TIMESTAMPING), False),))


def spans(queue: ErrorQueue) -> list[tuple[int, int]]:
    found = []
    while (entry := queue.take()) is not None:
        error = entry.control[-1].data
        assert isinstance(error, ExtendedError)
        found.append((error.info, error.data))
    return found


def test_neighbouring_notices_become_one() -> None:
    queue = ErrorQueue()
    for number in (0, 1, 2, 4, 5):
        queue.copied(number, number, False)
    assert spans(queue) == [(0, 2), (4, 5)]


def test_numbers_wrap() -> None:
    queue = ErrorQueue()
    queue.copied(MAX_ID, MAX_ID, False)
    queue.copied(0, 0, False)
    assert spans(queue) == [(MAX_ID, 0)]


def test_other_messages_stay_apart() -> None:
    queue = ErrorQueue()
    queue.copied(0, 0, True)
    queue.add(OTHER)
    queue.copied(1, 1, True)
    first = queue.take()
    assert first is not None
    assert (first.control[0].level, first.control[0].kind) == (c.IPPROTO_IPV6, c.IPV6_RECVERR)
    assert queue.take() is OTHER
    assert spans(queue) == [(1, 1)]


def test_a_queue_that_nobody_reads_does_not_grow() -> None:
    queue = ErrorQueue()
    for _ in range(MAX_MESSAGES + 3):
        queue.add(OTHER)
    assert (len(queue), queue.dropped) == (MAX_MESSAGES, 3)
