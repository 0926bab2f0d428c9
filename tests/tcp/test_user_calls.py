"""The user's calls of RFC 9293 §3.10.1 to §3.10.6 and what comes back from them."""

import errno
from dataclasses import replace

import pytest

from tests.stack.host import MS, SECOND, Host, Peer, both_versions, established
from ustack.config import TcpConfig
from ustack.errors import BrokenPipe, ConnectionAborted, ConnectionReset
from ustack.tcp.state import CLOSED, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, TIME_WAIT
from ustack.tcp.tcb import NEVER, Tcb
from ustack.tcp.user_calls import urgent_pending

# SEND


@both_versions
def test_text_queued_before_the_handshake_is_complete_follows_it(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    assert host.send(tcb, b"early") == 5
    assert peer.heard() == ["S 0:1(0)"]
    assert peer.send("S.", 0, 1)[-1] == "P. 1:6(5) ack 1"


def test_the_send_buffer_takes_no_more_than_its_limit() -> None:
    host, _, tcb = established(tcp=TcpConfig(send_buffer=1500))
    assert host.send(tcb, b"x" * 2000) == 1500
    assert host.send(tcb, b"x" * 2000) == 0


def test_after_the_sending_side_is_closed_send_says_so() -> None:
    # "connection closing", §3.10.2
    host, _, tcb = established()
    host.shutdown(tcb)
    with pytest.raises(BrokenPipe) as caught:
        host.send(tcb, b"x")
    assert caught.value.errno == errno.EPIPE


def test_send_on_a_broken_connection_tells_why() -> None:
    host, peer, tcb = established()
    peer.send("R", 1)
    with pytest.raises(ConnectionReset):
        host.send(tcb, b"x")


def test_send_on_a_connection_that_ended_in_order_is_a_broken_pipe() -> None:
    host, peer, tcb = established()
    peer.send("F.", 1, 1)
    host.close(tcb)
    peer.send(".", 2, 2)
    with pytest.raises(BrokenPipe):
        host.send(tcb, b"x")


# RECEIVE


def test_receive_gives_nothing_while_nothing_is_there() -> None:
    host, _, tcb = established()
    assert host.read(tcb) == b""
    assert not tcb.eof


def test_the_end_is_told_after_the_text() -> None:
    host, peer, tcb = established()
    peer.send("FP.", 1, 1, b"x" * 10)
    assert not tcb.eof
    assert host.read(tcb, 9) == b"x" * 9
    assert not tcb.eof
    assert host.read(tcb) == b"x"
    assert tcb.eof


def test_text_can_be_read_after_time_wait_was_entered() -> None:
    host, peer, tcb = established()
    host.shutdown(tcb)
    peer.heard()
    peer.send("F.", 1, 2, b"rest")
    assert tcb.state is TIME_WAIT
    assert host.read(tcb) == b"rest"
    assert tcb.eof


def test_urgent_octets_before_the_mark_are_counted() -> None:
    # MUST-33
    host, peer, tcb = established()
    assert urgent_pending(tcb) == 0
    peer.send("U.", 1, 1, b"abcdef", urgent=4)
    assert urgent_pending(tcb) == 4
    host.read(tcb, 3)
    assert urgent_pending(tcb) == 1
    host.read(tcb)
    assert urgent_pending(tcb) == 0


# CLOSE


@both_versions
def test_close_sends_what_is_queued_and_then_the_fin(version: int) -> None:
    host, peer, tcb = established(version)
    host.send(tcb, b"x" * 25_000)
    host.close(tcb)
    assert tcb.state is FIN_WAIT_1
    text, last = b"", ""
    while replies := peer.replies():
        text += b"".join(reply.payload for reply in replies)
        last = replies[-1].flags
        peer.put(".", 1, 1 + len(text) + ("F" in last))
        host.turn()
    assert text == b"x" * 25_000
    assert last == "FP."
    assert tcb.state is FIN_WAIT_2


@both_versions
def test_close_with_unread_text_resets(version: int) -> None:
    # SHLD-3
    host, peer, tcb = established(version)
    peer.send(".", 1, 1, b"unread")
    host.close(tcb)
    assert peer.heard() == ["R. 1:1(0) ack 7"]
    assert tcb.state is CLOSED
    assert host.is_clean()


def test_close_after_everything_was_read_does_not() -> None:
    host, peer, tcb = established()
    peer.send(".", 1, 1, b"text")
    host.read(tcb)
    host.close(tcb)
    assert peer.heard() == ["F. 1:2(0) ack 5"]


@both_versions
def test_linger_of_zero_makes_close_an_abort(version: int) -> None:
    host, peer, tcb = established(version, TcpConfig(linger_us=0), win=100)
    host.send(tcb, b"x" * 500)
    peer.heard()
    host.close(tcb)
    assert peer.heard() == ["R. 101:101(0) ack 1"]
    assert host.is_clean()


def test_closing_twice_is_closing_once() -> None:
    host, peer, tcb = established()
    host.shutdown(tcb)
    host.shutdown(tcb)
    host.close(tcb)
    host.close(tcb)
    assert peer.heard() == ["F. 1:2(0) ack 1"]


def test_closing_a_connection_that_is_over_drops_its_text() -> None:
    host, peer, tcb = established()
    peer.send(".", 1, 1, b"text")
    peer.send("R", 5)
    host.close(tcb)
    host.shutdown(tcb)
    host.abort(tcb)
    assert peer.heard() == []
    assert tcb.receive_buffer.readable == 0
    assert isinstance(tcb.error, ConnectionReset)


# ABORT


@both_versions
def test_abort_sends_one_reset_and_nothing_later(version: int) -> None:
    host, peer, tcb = established(version)
    host.send(tcb, b"x" * 20_000)
    peer.heard()
    host.abort(tcb)
    assert peer.heard() == ["R. 10001:10001(0) ack 1"]
    assert isinstance(tcb.error, ConnectionAborted)
    host.advance(600 * SECOND)
    assert peer.heard() == []
    assert host.is_clean()


def test_abort_while_text_of_a_close_is_unacknowledged_resets() -> None:
    host, peer, tcb = established()
    host.send(tcb, b"x")
    peer.send("F.", 1, 1)
    host.close(tcb)
    peer.heard()
    host.abort(tcb)
    assert peer.heard() == ["R. 3:3(0) ack 2"]


# STATUS


def test_status_tells_what_the_connection_does() -> None:
    host, peer, tcb = established(win=3000)
    host.advance(SECOND)
    peer.send(".", 101, 1, b"x" * 50, win=3000)
    peer.send(".", 1, 1, b"x" * 20, win=3000)
    host.send(tcb, b"y" * 5000)
    info = host.stack.status(tcb, host.now)
    assert info.state is ESTABLISHED
    assert info.remote == ("10.0.0.2", 40000)
    assert (info.unacked, info.send_queue, info.snd_wnd) == (3000, 5000, 3000)
    assert (info.receive_queue, info.out_of_order, info.bytes_received) == (20, 1, 20)
    assert (info.snd_mss, info.advmss) == (1000, 1460)
    assert (info.congestion, info.ca_state, info.snd_cwnd) == ("cubic", "open", 10_000)
    assert info.timer is not None and info.timer[0] == "rto"
    assert 0 < info.timer[1] <= SECOND


def test_status_of_a_quiet_or_young_connection_has_no_numbers() -> None:
    host, _, tcb = established()
    assert host.stack.status(tcb, host.now).timer is None
    young = Peer(host, 40001, 81).connect()
    info = host.stack.status(young, host.now)
    assert (info.snd_cwnd, info.snd_ssthresh) == (0, 0)


# Options of a live connection


def reconfigure(host: Host, tcb: Tcb, **changes: object) -> None:
    host.stack.configure(tcb, replace(tcb.config, **changes), host.now)  # type: ignore[arg-type]
    host.turn()


def test_switching_nagle_off_sends_what_waits() -> None:
    host, peer, tcb = established()
    host.send(tcb, b"a")
    host.send(tcb, b"b")
    assert peer.heard() == ["P. 1:2(1) ack 1"]
    reconfigure(host, tcb, nagle=False)
    assert peer.heard() == ["P. 2:3(1) ack 1"]


def test_keep_alive_can_be_switched_on_and_off() -> None:
    host, peer, tcb = established()
    reconfigure(host, tcb, keep_alive=True, keep_alive_idle_us=10 * SECOND)
    host.advance(11 * SECOND)
    assert peer.heard() == [". 0:0(0) ack 1"]
    peer.send(".", 1, 1)
    reconfigure(host, tcb, keep_alive=False)
    host.advance(1000 * SECOND)
    assert peer.heard() == []


def test_a_user_timeout_set_later_counts_from_the_last_progress() -> None:
    host, _, tcb = established()
    host.send(tcb, b"x")
    host.advance(5 * SECOND)
    reconfigure(host, tcb, user_timeout_us=8 * SECOND)
    host.advance(2 * SECOND)
    assert tcb.state is ESTABLISHED
    host.advance(2 * SECOND)
    assert tcb.state is CLOSED


def test_a_user_timeout_can_be_taken_back() -> None:
    host, _, tcb = established(tcp=TcpConfig(user_timeout_us=8 * SECOND))
    host.send(tcb, b"x")
    reconfigure(host, tcb, user_timeout_us=None)
    host.advance(20 * SECOND)
    assert tcb.state is ESTABLISHED
    assert tcb.timers.user == NEVER


def test_a_user_timeout_of_an_idle_connection_waits_for_text() -> None:
    host, _, tcb = established()
    reconfigure(host, tcb, user_timeout_us=8 * SECOND)
    host.advance(100 * SECOND)
    assert tcb.state is ESTABLISHED


def test_buffers_can_grow() -> None:
    host, _, tcb = established(tcp=TcpConfig(send_buffer=10, receive_buffer=10_000))
    reconfigure(host, tcb, send_buffer=100, receive_buffer=20_000)
    assert host.send(tcb, b"x" * 1000) == 100
    assert tcb.receive_buffer.limit == 20_000


def test_a_live_window_is_not_pulled_back() -> None:
    # RFC 9293 §3.8.6, SHLD-14
    host, _, tcb = established(tcp=TcpConfig(receive_buffer=10_000))
    reconfigure(host, tcb, receive_buffer=1000)
    assert tcb.receive_buffer.limit == 10_000


def test_the_buffer_of_a_connection_not_yet_agreed_on_can_be_any() -> None:
    host = Host(tcp=TcpConfig(receive_buffer=10_000, keep_alive=True))
    tcb = Peer(host).connect()
    reconfigure(host, tcb, receive_buffer=1000)
    assert tcb.receive_buffer.limit == 1000


@both_versions
def test_ttl_and_dscp_can_change(version: int) -> None:
    # MUST-48, SHLD-21, MUST-49
    host, peer, tcb = established(version)
    reconfigure(host, tcb, ttl=9, dscp=10)
    host.send(tcb, b"x")
    packet = peer.reply().packet
    assert (packet.hop_limit, packet.dscp) == (9, 10)


def test_the_delay_of_acks_can_change() -> None:
    host, peer, tcb = established(tcp=TcpConfig(quick_acks=0))
    reconfigure(host, tcb, delayed_ack_us=5 * MS)
    assert peer.send(".", 1, 1, b"x") == []
    host.advance(6 * MS)
    assert peer.heard() == [". 1:1(0) ack 2"]


def test_text_behind_a_gap_goes_when_the_connection_is_forgotten() -> None:
    # after a full close in FIN-WAIT-2 nobody will fill the gap
    host, peer, tcb = established()
    peer.send(".", 101, 1, b"behind a gap")
    assert tcb.receive_buffer.held
    host.close(tcb)
    peer.send(".", 1, 2)
    host.advance(61 * SECOND)
    assert tcb.closed
    assert not tcb.receive_buffer.held
