"""The figures of RFC 9293 §3.5 and §3.6, seen from outside: numbers relative to the ISNs."""

from ustack.ladder.observer import Sighting, infer
from ustack.tcp.state import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    LISTEN,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
)
from ustack.wire.tcp import ACK, FIN, RST, SYN

A, B = 0, 1

OPENED = [
    Sighting(A, SYN, 0, 1, None),
    Sighting(B, SYN | ACK, 0, 1, 1),
    Sighting(A, ACK, 1, 1, 1),
]


def test_a_basic_open_takes_three_steps() -> None:  # Figure 6
    assert infer(OPENED) == [
        (CLOSED, LISTEN),
        (SYN_SENT, SYN_RECEIVED),
        (ESTABLISHED, SYN_RECEIVED),
        (ESTABLISHED, ESTABLISHED),
    ]


def test_a_simultaneous_open_passes_syn_received_at_both_ends() -> None:  # Figure 7
    states = infer(
        [
            Sighting(A, SYN, 0, 1, None),
            Sighting(B, SYN, 0, 1, None),
            Sighting(A, SYN | ACK, 0, 1, 1),
            Sighting(B, SYN | ACK, 0, 1, 1),
        ]
    )
    assert states == [
        (CLOSED, CLOSED),
        (SYN_SENT, CLOSED),
        (SYN_RECEIVED, SYN_RECEIVED),
        (SYN_RECEIVED, ESTABLISHED),
        (ESTABLISHED, ESTABLISHED),
    ]


def test_an_old_duplicate_syn_is_answered_by_a_reset_that_returns_the_listener() -> None:
    # Figure 8, lines 3 to 5: the sender of the RST goes on with the SYN that it really meant.
    states = infer(
        [
            Sighting(A, SYN, 0, 1, None),
            Sighting(B, SYN | ACK, 0, 1, 1),
            Sighting(A, RST, 1, 1, None),
        ]
    )
    assert states[1:] == [
        (SYN_SENT, SYN_RECEIVED),
        (SYN_SENT, SYN_RECEIVED),
        (SYN_SENT, LISTEN),
    ]


def test_a_half_open_connection_is_found_and_reset() -> None:  # Figure 9
    # B still holds an older connection: its ACK makes no sense to A, whose RST ends it.
    states = infer(
        [
            Sighting(A, SYN, 0, 1, None),
            Sighting(B, ACK, 201, 201, -300),
            Sighting(A, RST, -300, -300, None),
            Sighting(A, SYN, 0, 1, None),
        ]
    )
    assert states[:4] == [
        (CLOSED, ESTABLISHED),
        (SYN_SENT, ESTABLISHED),
        (SYN_SENT, ESTABLISHED),
        (SYN_SENT, CLOSED),
    ]


def test_a_normal_close_takes_four_steps() -> None:  # Figure 12
    states = infer(
        [
            *OPENED,
            Sighting(A, FIN | ACK, 1, 2, 1),
            Sighting(B, ACK, 1, 1, 2),
            Sighting(B, FIN | ACK, 1, 2, 2),
            Sighting(A, ACK, 2, 2, 2),
        ]
    )
    assert states[4:] == [
        (FIN_WAIT_1, CLOSE_WAIT),
        (FIN_WAIT_2, CLOSE_WAIT),
        (TIME_WAIT, LAST_ACK),
        (TIME_WAIT, CLOSED),
    ]


def test_a_close_whose_ack_and_fin_are_merged_takes_three_steps() -> None:
    states = infer(
        [
            *OPENED,
            Sighting(B, FIN | ACK, 1, 2, 1),
            Sighting(A, FIN | ACK, 1, 2, 2),
            Sighting(B, ACK, 2, 2, 2),
        ]
    )
    assert states[4:] == [
        (CLOSE_WAIT, FIN_WAIT_1),
        (LAST_ACK, TIME_WAIT),
        (CLOSED, TIME_WAIT),
    ]


def test_a_simultaneous_close_passes_closing_at_both_ends() -> None:  # Figure 13
    states = infer(
        [
            *OPENED,
            Sighting(A, FIN | ACK, 1, 2, 1),
            Sighting(B, FIN | ACK, 1, 2, 1),
            Sighting(A, ACK, 2, 2, 2),
            Sighting(B, ACK, 2, 2, 2),
        ]
    )
    assert states[4:] == [
        (FIN_WAIT_1, ESTABLISHED),
        (CLOSING, CLOSING),
        (CLOSING, TIME_WAIT),
        (TIME_WAIT, TIME_WAIT),
    ]


def test_a_half_closed_end_goes_on_receiving() -> None:
    states = infer(
        [
            *OPENED,
            Sighting(A, FIN | ACK, 1, 2, 1),
            Sighting(B, ACK, 1, 1001, 2),
            Sighting(A, ACK, 2, 2, 1001),
            Sighting(B, FIN | ACK, 1001, 1002, 2),
            Sighting(A, ACK, 2, 2, 1002),
        ]
    )
    assert states[5:] == [
        (FIN_WAIT_2, CLOSE_WAIT),
        (FIN_WAIT_2, CLOSE_WAIT),
        (TIME_WAIT, LAST_ACK),
        (TIME_WAIT, CLOSED),
    ]


def test_a_fin_that_is_not_acknowledged_has_not_arrived() -> None:
    states = infer(
        [
            *OPENED,
            Sighting(A, FIN | ACK, 1, 2, 1),
            Sighting(B, ACK, 1, 101, 1),  # sent without knowledge of the FIN
            Sighting(A, FIN | ACK, 1, 2, 101),  # so it is sent again
            Sighting(B, ACK, 101, 101, 2),
        ]
    )
    assert states[4:] == [
        (FIN_WAIT_1, ESTABLISHED),
        (FIN_WAIT_1, ESTABLISHED),
        (FIN_WAIT_1, CLOSE_WAIT),
        (FIN_WAIT_2, CLOSE_WAIT),
    ]


def test_an_ack_has_not_arrived_when_the_fin_comes_again() -> None:
    states = infer(
        [
            *OPENED,
            Sighting(A, FIN | ACK, 1, 2, 1),
            Sighting(B, FIN | ACK, 1, 2, 2),
            Sighting(A, ACK, 2, 2, 2),  # lost
            Sighting(B, FIN | ACK, 1, 2, 2),
            Sighting(A, ACK, 2, 2, 2),  # TIME_WAIT answers once more
        ]
    )
    assert states[4:] == [
        (FIN_WAIT_1, CLOSE_WAIT),
        (TIME_WAIT, LAST_ACK),
        (TIME_WAIT, LAST_ACK),
        (TIME_WAIT, LAST_ACK),
        (TIME_WAIT, CLOSED),
    ]


def test_a_syn_ack_that_comes_again_had_not_been_acknowledged() -> None:
    states = infer(
        [
            Sighting(A, SYN, 0, 1, None),
            Sighting(B, SYN | ACK, 0, 1, 1),
            Sighting(A, ACK, 1, 1, 1),  # lost
            Sighting(B, SYN | ACK, 0, 1, 1),
            Sighting(A, ACK, 1, 1, 1),
        ]
    )
    assert [b for _, b in states] == [
        LISTEN,
        SYN_RECEIVED,
        SYN_RECEIVED,
        SYN_RECEIVED,
        SYN_RECEIVED,
        ESTABLISHED,
    ]


def test_a_listener_leaves_listen_with_the_syn_that_it_answers() -> None:
    states = infer(
        [
            Sighting(A, SYN, 0, 1, None),  # lost
            Sighting(A, SYN, 0, 1, None),
            Sighting(B, SYN | ACK, 0, 1, 1),
        ]
    )
    assert [b for _, b in states] == [LISTEN, LISTEN, SYN_RECEIVED, SYN_RECEIVED]


def test_a_syn_that_nobody_answers_reaches_nobody() -> None:
    states = infer([Sighting(A, SYN, 0, 1, None), Sighting(A, SYN, 0, 1, None)])
    assert states == [(CLOSED, CLOSED), (SYN_SENT, CLOSED), (SYN_SENT, CLOSED)]


def test_a_refused_open_ends_in_closed() -> None:  # RFC 9293 §3.5.2, group 1
    states = infer([Sighting(A, SYN, 0, 1, None), Sighting(B, RST | ACK, 0, 0, 1)])
    assert states == [(CLOSED, CLOSED), (SYN_SENT, CLOSED), (CLOSED, CLOSED)]


def test_a_reset_that_does_not_acknowledge_the_syn_is_not_believed() -> None:
    # RFC 9293 §3.10.7.3, second step
    states = infer([Sighting(A, SYN, 0, 1, None), Sighting(B, RST | ACK, 0, 0, 50)])
    assert states[-1] == (SYN_SENT, CLOSED)


def test_a_reset_in_the_established_state_closes_both_ends() -> None:
    states = infer([*OPENED, Sighting(A, ACK, 1, 101, 1), Sighting(A, RST, 101, 101, None)])
    assert states[-1] == (CLOSED, CLOSED)


def test_a_reset_outside_the_receivers_window_closes_only_its_sender() -> None:  # RFC 5961 §3.2
    states = infer([*OPENED, Sighting(A, RST, 5000, 5000, None)])
    assert states[-1] == (CLOSED, ESTABLISHED)


def test_a_reset_without_ack_means_nothing_to_syn_sent() -> None:
    # Without an ACK from A the SYN+ACK has not arrived; RFC 9293 §3.10.7.3, second step.
    states = infer([*OPENED[:2], Sighting(B, RST, 1, 1, None)])
    assert states[-1] == (SYN_SENT, CLOSED)


def test_a_capture_that_begins_late_shows_established_ends() -> None:
    states = infer([Sighting(A, ACK, 1, 101, 1), Sighting(B, ACK, 1, 1, 101)])
    assert states == [(ESTABLISHED, ESTABLISHED)] * 3


def test_a_capture_that_begins_with_the_answer_shows_who_had_asked() -> None:
    states = infer([Sighting(B, SYN | ACK, 0, 1, 1), Sighting(A, ACK, 1, 1, 1)])
    assert states == [
        (SYN_SENT, LISTEN),
        (ESTABLISHED, SYN_RECEIVED),
        (ESTABLISHED, ESTABLISHED),
    ]
