"""The states as such, and every walk through them on the wire."""

from itertools import product

import pytest

from tests.stack.host import MS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.errors import ConnectionAborted, ConnectionRefused, ConnectionReset
from ustack.tcp.state import (
    CLOSE_WAIT,
    CLOSED,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    TRANSITIONS,
    State,
    set_state,
)
from ustack.tcp.tcb import CLOSED_EVENT, CONNECTED, FIN_ACKED, READABLE, Tcb

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


def pair(version: int) -> tuple[Host, Peer]:
    host = Host(version)
    return host, Peer(host)


@both_versions
def test_a_passive_open_passes_through_syn_received(version: int) -> None:
    host, peer = pair(version)
    host.listen()
    assert peer.send("S", 0) == ["S. 0:1(0) ack 1"]
    assert len(host.stack.half_open()) == 1
    assert peer.send(".", 1, 1) == []
    tcb = host.accept()
    assert host.stack.half_open() == []
    assert tcb.state is ESTABLISHED
    assert host.notes == ["LISTEN -> SYN_RECEIVED", "SYN_RECEIVED -> ESTABLISHED"]


@both_versions
def test_an_active_open_passes_through_syn_sent(version: int) -> None:
    host, peer = pair(version)
    tcb = peer.connect()
    assert tcb.state is SYN_SENT
    assert peer.heard() == ["S 0:1(0)"]
    assert peer.send("S.", 0, 1) == [". 1:1(0) ack 1"]
    assert tcb.state is ESTABLISHED
    assert host.events_of(tcb) & CONNECTED


@both_versions
def test_a_simultaneous_open_is_one_connection(version: int) -> None:
    # RFC 9293 Figure 7
    host, peer = pair(version)
    tcb = peer.connect()
    assert peer.heard() == ["S 0:1(0)"]
    assert peer.send("S", 0) == ["S. 0:1(0) ack 1"]
    assert tcb.state is SYN_RECEIVED
    answers = peer.send("S.", 0, 1)
    assert answers in ([], [". 1:1(0) ack 1"])
    assert tcb.state is ESTABLISHED
    assert host.events_of(tcb) & CONNECTED
    assert peer.send(".", 1, 1) == []  # no ACK war
    host.send(tcb, b"ours")
    assert peer.heard() == ["P. 1:5(4) ack 1"]
    assert peer.send("P.", 1, 5, b"theirs") == [". 5:5(0) ack 7"]
    assert host.read(tcb) == b"theirs"


@both_versions
def test_a_simultaneous_open_ends_with_a_plain_ack_too(version: int) -> None:
    _, peer = pair(version)
    tcb = peer.connect()
    peer.heard()
    peer.send("S", 0)
    assert peer.send(".", 1, 1) == []
    assert tcb.state is ESTABLISHED


@both_versions
def test_an_active_close_ends_in_time_wait_and_then_in_nothing(version: int) -> None:
    host, peer = pair(version)
    tcb = peer.establish()
    host.close(tcb)
    assert tcb.state is FIN_WAIT_1
    assert peer.heard() == ["F. 1:2(0) ack 1"]
    assert peer.send(".", 1, 2) == []
    assert tcb.state is FIN_WAIT_2
    assert host.events_of(tcb) & FIN_ACKED
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]
    assert tcb.state is TIME_WAIT
    assert tcb.closed
    assert host.events_of(tcb) & CLOSED_EVENT
    assert tcb.error is None
    assert len(host.stack.time_waits()) == 1
    host.advance(60 * SECOND - 1)
    assert len(host.stack.time_waits()) == 1
    host.advance(SECOND)
    assert host.stack.time_waits() == []
    assert host.is_clean()


@both_versions
def test_a_passive_close_ends_at_the_ack_of_our_fin(version: int) -> None:
    host, peer = pair(version)
    tcb = peer.establish()
    assert peer.send("F.", 1, 1) == []  # the user may close at once
    assert tcb.state is CLOSE_WAIT
    assert host.events_of(tcb) & READABLE
    host.advance(2 * MS)
    assert peer.heard() == [". 1:1(0) ack 2"]
    assert tcb.eof
    host.close(tcb)
    assert tcb.state is LAST_ACK
    assert peer.heard() == ["F. 1:2(0) ack 2"]
    assert peer.send(".", 2, 2) == []
    assert tcb.state is CLOSED
    assert host.events_of(tcb) & (FIN_ACKED | CLOSED_EVENT) == FIN_ACKED | CLOSED_EVENT
    assert tcb.error is None
    assert host.is_clean()


@both_versions
def test_a_fin_that_acknowledges_ours_leads_to_time_wait_at_once(version: int) -> None:
    host, peer = pair(version)
    tcb = peer.establish()
    host.close(tcb)
    peer.heard()
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]
    assert tcb.state is TIME_WAIT
    assert "FIN_WAIT_1 -> FIN_WAIT_2, FIN_WAIT_2 -> TIME_WAIT" in host.notes


@both_versions
def test_a_simultaneous_close_resends_the_fin_until_it_is_acknowledged(version: int) -> None:
    host, peer = pair(version)
    tcb = peer.establish()
    host.close(tcb)
    assert peer.heard() == ["F. 1:2(0) ack 1"]
    assert peer.send("F.", 1, 1) == [". 2:2(0) ack 2"]
    assert tcb.state is CLOSING
    host.advance(SECOND // 2)
    assert peer.heard() == ["F. 1:2(0) ack 2"]
    assert peer.send(".", 2, 2) == []
    assert tcb.state is TIME_WAIT
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]


@both_versions
def test_half_closed_by_us_the_peer_goes_on_sending(version: int) -> None:
    host, peer = pair(version)
    tcb = peer.establish()
    host.shutdown(tcb)
    peer.heard()
    peer.send(".", 1, 2)
    assert tcb.state is FIN_WAIT_2
    host.advance(3600 * SECOND)  # no time limit: the user still reads
    at = 1
    for _ in range(3):
        assert peer.send("P.", at, 2, b"x" * 500) == [f". 2:2(0) ack {at + 500}"]
        at += 500
    assert host.read(tcb) == b"x" * 1500
    assert peer.send("F.", at, 2) == [f". 2:2(0) ack {at + 1}"]
    assert tcb.state is TIME_WAIT
    assert tcb.eof


@both_versions
def test_half_closed_by_the_peer_we_go_on_sending(version: int) -> None:
    host, peer = pair(version)
    tcb = peer.establish()
    peer.send("F.", 1, 1)
    host.advance(3600 * SECOND)
    assert peer.heard() == [". 1:1(0) ack 2"]
    for at in (1, 501, 1001):
        assert host.send(tcb, b"y" * 500) == 500
        assert peer.heard() == [f"P. {at}:{at + 500}(500) ack 2"]
        peer.send(".", 2, at + 500)
    host.shutdown(tcb)
    assert tcb.state is LAST_ACK
    assert peer.heard() == ["F. 1501:1502(0) ack 2"]
    peer.send(".", 2, 1502)
    assert host.is_clean()


@both_versions
def test_half_closed_by_us_lost_text_of_the_peer_is_put_in_order(version: int) -> None:
    host, peer = pair(version)
    tcb = peer.establish()
    host.shutdown(tcb)
    peer.heard()
    assert peer.send("P.", 101, 2, b"b" * 100) == [". 2:2(0) ack 1"]
    assert peer.send("F.", 201, 2) == [". 2:2(0) ack 1"]
    assert tcb.state is FIN_WAIT_2
    assert peer.send("P.", 1, 2, b"a" * 100) == [". 2:2(0) ack 202"]
    assert host.read(tcb) == b"a" * 100 + b"b" * 100
    assert tcb.state is TIME_WAIT


@both_versions
def test_half_closed_by_the_peer_our_lost_text_is_resent_and_then_the_fin(version: int) -> None:
    host, peer = pair(version)
    tcb = peer.establish()
    peer.send("F.", 1, 1)
    host.send(tcb, b"y" * 500)
    host.shutdown(tcb)
    assert peer.heard() == ["P. 1:501(500) ack 2", "F. 501:502(0) ack 2"]
    host.advance(SECOND // 2)
    resent = peer.heard()
    assert resent in (["FP. 1:502(500) ack 2"], ["P. 1:501(500) ack 2"])
    peer.send(".", 2, 502)
    assert host.is_clean()


@both_versions
def test_a_close_before_the_handshake_is_complete_waits_for_it(version: int) -> None:
    # §3.10.4, SYN-RECEIVED
    host, peer = pair(version)
    tcb = peer.connect()
    peer.heard()
    peer.send("S", 0)
    host.shutdown(tcb)
    assert tcb.state is SYN_RECEIVED
    assert peer.heard() == []
    assert peer.send(".", 1, 1) == ["F. 1:2(0) ack 1"]
    assert tcb.state is FIN_WAIT_1


@both_versions
def test_a_close_in_syn_sent_forgets_the_connection(version: int) -> None:
    # §3.10.4, SYN-SENT
    host, peer = pair(version)
    tcb = peer.connect()
    peer.heard()
    host.close(tcb)
    assert tcb.state is CLOSED
    assert host.is_clean()
    assert peer.send("S.", 0, 1) == ["R 1:1(0)"]


@both_versions
def test_a_fin_with_the_ack_of_the_handshake_leads_to_close_wait(version: int) -> None:
    host, peer = pair(version)
    host.listen()
    peer.send("S", 0)
    assert peer.send("F.", 1, 1, b"bye") == []
    host.advance(41 * MS)
    assert peer.heard() == [". 1:1(0) ack 5"]
    tcb = host.accept()
    assert tcb.state is CLOSE_WAIT
    assert host.read(tcb) == b"bye"
    assert tcb.eof


def walk_to(state: State) -> tuple[Host, Peer, Tcb]:
    """A connection in `state`; the numbers expected next are peer 1 or 2, ours 1 or 2."""
    host, peer = pair(4)
    if state is SYN_SENT:
        tcb = peer.connect()
    elif state is SYN_RECEIVED:
        host.listen()
        peer.send("S", 0)
        (tcb,) = host.stack.connections()
    else:
        tcb = peer.establish()
        if state in (CLOSE_WAIT, LAST_ACK):
            peer.send("F.", 1, 1)
        if state in (FIN_WAIT_1, FIN_WAIT_2, CLOSING, LAST_ACK):
            host.shutdown(tcb)
        if state is CLOSING:
            peer.send("F.", 1, 1)
        if state is FIN_WAIT_2:
            peer.send(".", 1, 2)
    peer.heard()
    assert tcb.state is state
    return host, peer, tcb


SYNCHRONIZED = [ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, CLOSE_WAIT, CLOSING, LAST_ACK]


@pytest.mark.parametrize("state", SYNCHRONIZED, ids=lambda state: state.name)
def test_a_reset_ends_every_synchronized_state(state: State) -> None:
    host, peer, tcb = walk_to(state)
    seq = 2 if state in (CLOSE_WAIT, CLOSING, LAST_ACK) else 1
    assert peer.send("R", seq) == []
    assert tcb.state is CLOSED
    assert host.is_clean()
    if state in (CLOSING, LAST_ACK):  # §3.10.7.4: the user had closed, nothing is lost
        assert tcb.error is None
    else:
        assert isinstance(tcb.error, ConnectionReset)


@pytest.mark.parametrize("state", SYNCHRONIZED, ids=lambda state: state.name)
def test_an_abort_ends_every_synchronized_state(state: State) -> None:
    # §3.10.5: RST in ESTABLISHED, FIN-WAIT-1, FIN-WAIT-2 and CLOSE-WAIT
    host, peer, tcb = walk_to(state)
    ours = 1 if state in (ESTABLISHED, CLOSE_WAIT) else 2
    theirs = 2 if state in (CLOSE_WAIT, CLOSING, LAST_ACK) else 1
    host.abort(tcb)
    if state in (CLOSING, LAST_ACK):
        assert peer.heard() == []
    else:
        assert peer.heard() == [f"R. {ours}:{ours}(0) ack {theirs}"]
    assert tcb.state is CLOSED
    assert isinstance(tcb.error, ConnectionAborted)
    assert host.is_clean()


def test_a_reset_in_syn_sent_refuses_the_connection() -> None:
    host, peer, tcb = walk_to(SYN_SENT)
    assert peer.send("R.", 0, 1) == []
    assert isinstance(tcb.error, ConnectionRefused)
    assert host.events_of(tcb) & CLOSED_EVENT
    assert host.is_clean()


def test_a_reset_of_a_simultaneous_open_refuses_the_connection() -> None:
    # §3.10.7.4, SYN-RECEIVED: of an active OPEN
    host, peer, tcb = walk_to(SYN_SENT)
    peer.send("S", 0)
    assert tcb.state is SYN_RECEIVED
    assert peer.send("R", 1) == []
    assert isinstance(tcb.error, ConnectionRefused)
    assert host.is_clean()


def test_an_abort_in_syn_sent_sends_nothing() -> None:
    # §3.10.5
    host, peer, tcb = walk_to(SYN_SENT)
    host.abort(tcb)
    assert peer.heard() == []
    assert host.is_clean()


def test_an_abort_in_syn_received_resets() -> None:
    # §3.10.5
    host, peer, tcb = walk_to(SYN_SENT)
    peer.send("S", 0)
    host.abort(tcb)
    assert peer.heard() == ["R. 1:1(0) ack 1"]
    assert host.is_clean()


def test_an_orphan_in_fin_wait_2_is_forgotten_after_its_time() -> None:
    # Linux tcp_fin_timeout
    host = Host(tcp=TcpConfig(fin_wait_2_timeout_us=10 * SECOND))
    peer = Peer(host)
    tcb = peer.establish()
    host.close(tcb)
    peer.heard()
    peer.send(".", 1, 2)
    host.advance(10 * SECOND - 1)
    assert tcb.state is FIN_WAIT_2
    host.advance(1000)
    assert tcb.state is CLOSED
    assert tcb.error is None
    assert host.is_clean()


def test_closing_after_a_half_close_starts_that_time_too() -> None:
    host, _, tcb = walk_to(FIN_WAIT_2)
    host.advance(1000 * SECOND)
    assert tcb.state is FIN_WAIT_2
    host.close(tcb)
    host.advance(61 * SECOND)
    assert tcb.state is CLOSED
