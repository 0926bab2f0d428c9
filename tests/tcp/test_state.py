"""The states as such. The walks through them are in test_segment_arrives.py."""

from itertools import product

import pytest

from ustack.tcp.state import TRANSITIONS, State, set_state

# RFC 9293 Figure 5, row by row; "LISTEN" edges belong to the listener, whose child starts CLOSED.
FIGURE_5 = {
    ("CLOSED", "SYN_SENT"),
    ("CLOSED", "SYN_RECEIVED"),
    ("SYN_SENT", "SYN_RECEIVED"),
    ("SYN_SENT", "ESTABLISHED"),
    ("SYN_RECEIVED", "ESTABLISHED"),
    ("SYN_RECEIVED", "FIN_WAIT_1"),
    ("ESTABLISHED", "FIN_WAIT_1"),
    ("ESTABLISHED", "CLOSE_WAIT"),
    ("FIN_WAIT_1", "FIN_WAIT_2"),
    ("FIN_WAIT_1", "CLOSING"),
    ("FIN_WAIT_2", "TIME_WAIT"),
    ("CLOSE_WAIT", "LAST_ACK"),
    ("CLOSING", "TIME_WAIT"),
    ("LAST_ACK", "CLOSED"),
}
# §3.10.7.4, eighth: a FIN in SYN-RECEIVED, once its ACK has been processed
BY_THE_TEXT = {("SYN_RECEIVED", "CLOSE_WAIT")}


class Holder:
    def __init__(self, state: State) -> None:
        self.state = state
        self.note = ""


def test_there_are_the_eleven_states_of_the_rfc() -> None:
    assert [state.name for state in State] == (
        "CLOSED LISTEN SYN_SENT SYN_RECEIVED ESTABLISHED FIN_WAIT_1 FIN_WAIT_2 CLOSE_WAIT "
        "CLOSING LAST_ACK TIME_WAIT"
    ).split()


def test_the_transitions_are_those_of_figure_5_and_the_end_of_every_state() -> None:
    names = {(old.name, new.name) for old, new in TRANSITIONS}
    ends = {(state.name, "CLOSED") for state in State if state.name not in ("CLOSED", "LISTEN")}
    assert names == FIGURE_5 | BY_THE_TEXT | ends


def test_a_state_change_leaves_a_note() -> None:
    holder = Holder(State.FIN_WAIT_1)
    set_state(holder, State.FIN_WAIT_2)
    assert (holder.state, holder.note) == (State.FIN_WAIT_2, "FIN_WAIT_1 -> FIN_WAIT_2")
    set_state(holder, State.TIME_WAIT)
    assert holder.note == "FIN_WAIT_1 -> FIN_WAIT_2, FIN_WAIT_2 -> TIME_WAIT"


def test_no_other_change_is_possible() -> None:
    for old, new in product(State, State):
        if (old, new) not in TRANSITIONS:
            holder = Holder(old)
            with pytest.raises(AssertionError):
                set_state(holder, new)
            assert holder.state is old
