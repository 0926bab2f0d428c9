"""The windows of both ends (RFC 9293 §3.8.6): silly ones, closed ones, ones that shrink."""

from itertools import pairwise

import pytest

from tests.stack.host import MS, SECOND, Host, Peer, both_versions, established
from ustack.config import TcpConfig
from ustack.tcp.tcb import Tcb

KIB = 1024


# The send window, and silly windows (RFC 9293 §3.8.6.2.1)


@both_versions
def test_no_more_is_sent_than_the_window_allows(version: int) -> None:
    host, peer, tcb = established(version, win=2000)
    host.send(tcb, b"x" * 5000)
    assert peer.heard() == [". 1:1001(1000) ack 1", ". 1001:2001(1000) ack 1"]
    assert peer.send(".", 1, 2001, win=1000) == [". 2001:3001(1000) ack 1"]


def test_a_window_that_opens_a_little_is_left_alone() -> None:
    host, peer, tcb = established(win=4000)
    host.send(tcb, b"x" * 10_000)
    peer.heard()
    assert peer.send(".", 1, 4001, win=0) == []
    assert peer.send(".", 1, 4001, win=100) == []
    assert peer.send(".", 1, 4001, win=999) == []
    assert peer.send(".", 1, 4001, win=1000) == [". 4001:5001(1000) ack 1"]


def test_half_of_the_largest_window_is_enough_for_a_small_segment() -> None:
    # rule (3): a peer whose whole buffer is smaller than a segment. Linux: two of it fit in there
    host, peer, tcb = established(win=600)
    host.send(tcb, b"x" * 5000)
    assert [len(reply.payload) for reply in peer.replies()] == [300, 300]
    assert peer.send(".", 1, 601, win=299) == []
    assert peer.send(".", 1, 601, win=300) == [". 601:901(300) ack 1"]


def test_what_fits_leaves_after_the_override_time() -> None:
    # rule (4): 0.1 to 1 s
    host, peer, tcb = established(win=4000)
    host.send(tcb, b"x" * 10_000)
    peer.heard()
    assert peer.send(".", 1, 4001, win=100) == []
    host.advance(250 * MS)
    assert peer.heard() == ["P. 4001:4101(100) ack 1"]  # Linux: with PSH


def test_the_fin_waits_for_room_in_the_window() -> None:
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 1000)
    host.shutdown(tcb)
    assert peer.heard() == [". 1:501(500) ack 1", "P. 501:1001(500) ack 1"]
    assert peer.send(".", 1, 1001, win=1000) == ["F. 1001:1002(0) ack 1"]


# The receive window and its updates (RFC 9293 §3.8.6.2.2)


def fill(peer: Peer, segments: int) -> None:
    """`segments` of 1000 octets, which nobody reads."""
    for at in range(segments):
        peer.send(".", 1 + 1000 * at, 1, b"x" * 1000)


def test_the_right_edge_never_moves_to_the_left() -> None:
    # MUST-34 seen from the other side: §3.8.6 SHLD-14
    host, peer, _ = established(tcp=TcpConfig(receive_buffer=10_000, window_scaling=False))
    edge = 0
    at = 1
    for size in (1000, 300, 999, 1, 2000, 1000):
        peer.put(".", at, 1, b"x" * size)
        host.turn()
        host.advance(41 * MS)
        at += size
        reply = peer.reply()
        assert reply.ack + reply.window >= edge
        edge = reply.ack + reply.window
        assert edge == 10_001


def test_a_reader_that_takes_little_causes_no_update_and_then_one() -> None:
    # SWS avoidance of the receiver, MUST-39
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=4000, mss=1000))
    fill(peer, 4)
    assert host.stack.status(tcb, host.now).rcv_wnd == 0
    for _ in range(9):
        host.read(tcb, 100)
        assert peer.heard() == []
    host.read(tcb, 100)
    reply = peer.reply()
    assert (str(reply), reply.window) == (". 1:1(0) ack 4001", 1000)


def test_of_a_small_buffer_half_is_enough_for_an_update() -> None:
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=600))
    peer.send(".", 1, 1, b"x" * 600)
    host.read(tcb, 299)
    assert peer.heard() == []
    host.read(tcb, 1)
    assert peer.reply().window == 300


def test_a_probe_of_our_window_does_not_open_it_by_a_silly_amount() -> None:
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=4000, mss=1000))
    fill(peer, 4)
    host.read(tcb, 400)
    peer.put(".", 4001, 1, b"y")
    host.turn()
    reply = peer.reply()
    assert (str(reply), reply.window) == (". 1:1(0) ack 4001", 0)


def test_a_reader_that_keeps_pace_causes_no_acks() -> None:
    host, peer, tcb = established(tcp=TcpConfig(quick_acks=0, receive_buffer=1 << 20))
    at = 1
    for _ in range(10):
        peer.put(".", at, 1, b"x" * 1000)
        peer.put(".", at + 1000, 1, b"x" * 1000)
        host.turn()
        at += 2000
        assert peer.heard() == [f". 1:1(0) ack {at}"]
        assert len(host.read(tcb)) == 2000
        assert peer.heard() == []


def test_a_window_that_has_become_small_is_at_least_doubled() -> None:
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=10_000, mss=1000))
    fill(peer, 9)
    host.read(tcb, 999)
    assert peer.heard() == []
    host.read(tcb)
    reply = peer.reply()
    assert (str(reply), reply.window) == (". 1:1(0) ack 9001", 10_000)


def test_a_closed_window_is_reopened_at_once_when_the_reader_takes_everything() -> None:
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=4000))
    fill(peer, 4)
    host.read(tcb)
    replies = peer.replies()
    assert [(str(reply), reply.window) for reply in replies] == [(". 1:1(0) ack 4001", 4000)]


# Zero windows (RFC 9293 §3.8.6.1)


def at_zero_window(
    *texts: bytes, version: int = 4, tcp: TcpConfig | None = None
) -> tuple[Host, Peer, Tcb]:
    """`texts` are written; the peer has taken the first 1000 octets and closed its window."""
    host, peer, tcb = established(version, tcp or TcpConfig(), win=1000)
    for text in texts:
        host.send(tcb, text)
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    return host, peer, tcb


@both_versions
def test_a_zero_window_is_probed_for_ever_while_it_is_answered(version: int) -> None:
    config = TcpConfig(persist_max_us=60 * SECOND)
    host, peer, tcb = at_zero_window(b"x" * 3000, version=version, tcp=config)
    start, times = host.now, []
    while host.now < start + 600 * SECOND:
        host.advance(SECOND // 100)
        for reply in peer.replies():
            assert (reply.seq, reply.payload) == (1001, b"x")
            times.append(reply.at)
            peer.send(".", 1, 1001, win=0)
    gaps = [b - a for a, b in pairwise([start, *times])]
    assert 200 * MS <= gaps[0] <= 400 * MS  # about one RTO
    for shorter, longer in pairwise(gaps):
        assert longer == pytest.approx(min(2 * shorter, 60 * SECOND), rel=0.1)
    assert gaps[-1] == pytest.approx(60 * SECOND, rel=0.01)
    assert tcb.error is None
    assert peer.send(".", 1, 1001, win=5000) == [
        ". 1001:2001(1000) ack 1",
        "P. 2001:3001(1000) ack 1",
    ]


def test_a_window_that_never_was_open_is_probed_too() -> None:
    host, peer, tcb = established(win=0)
    host.send(tcb, b"hello")
    assert peer.heard() == []
    host.advance(SECOND)
    assert peer.heard()[0] == ". 1:2(1) ack 1"
    assert tcb.error is None


def test_an_octet_that_a_probe_delivered_is_not_sent_again() -> None:
    host, peer, _ = at_zero_window(b"x" * 1000, b"abc")
    host.advance(SECOND // 2)
    assert peer.heard() == [". 1001:1002(1) ack 1"]
    assert peer.send(".", 1, 1002, win=0) == []
    assert peer.send(".", 1, 1002, win=1000) == ["P. 1002:1004(2) ack 1"]


def test_the_last_octet_probed_is_pushed() -> None:
    host, peer, _ = at_zero_window(b"x" * 1000, b"a")
    host.advance(SECOND // 2)
    assert peer.heard() == ["P. 1001:1002(1) ack 1"]


@both_versions
def test_a_close_at_a_zero_window_sends_the_fin_after_the_text(version: int) -> None:
    host, peer, tcb = at_zero_window(b"x" * 1500, version=version)
    host.close(tcb)
    assert peer.heard() == []
    host.advance(SECOND // 2)
    assert peer.heard() == [". 1001:1002(1) ack 1"]
    assert peer.send(".", 1, 1001, win=1000) == ["FP. 1001:1502(500) ack 1"]


def test_with_nothing_but_a_fin_left_the_fin_is_the_probe() -> None:
    host, peer, tcb = at_zero_window(b"x" * 1000)
    host.shutdown(tcb)
    host.advance(SECOND // 2)
    assert peer.heard() == ["F. 1001:1002(0) ack 1"]
    peer.send(".", 1, 1002, win=0)
    assert host.stack.status(tcb, host.now).state.name == "FIN_WAIT_2"


def test_an_abort_at_a_zero_window_resets() -> None:
    host, peer, tcb = at_zero_window(b"x" * 1500)
    host.abort(tcb)
    assert peer.heard() == ["R. 1001:1001(0) ack 1"]
    assert host.is_clean()


def test_two_zero_windows_do_not_make_an_ack_war() -> None:
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=1000), win=1000)
    peer.send(".", 1, 1, b"x" * 1000, win=1000)
    host.send(tcb, b"y" * 2000)
    peer.heard()
    peer.send(".", 1001, 1001, win=0)
    host.advance(SECOND // 2)
    assert [reply.window for reply in peer.replies()] == [0]
    for _ in range(5):
        assert peer.send(".", 1001, 1001, win=0) == []
    assert len(peer.send(".", 1001, 1001, b"z", win=0)) == 1


def until_the_probe_is_due(host: Host) -> None:
    """Its timer has expired, the flush has not come yet."""
    at = host.stack.next_deadline()
    while at is not None and not any(tcb.probe_due for tcb in host.stack.connections()):
        host.now = max(at, host.now)
        host.stack.handle_timeouts(host.now)
        at = host.stack.next_deadline()


def test_a_window_that_opens_just_before_the_probe_makes_it_needless() -> None:
    host, peer, _ = at_zero_window(b"x" * 2000)
    until_the_probe_is_due(host)
    answer = [". 1001:1501(500) ack 1", "P. 1501:2001(500) ack 1"]
    assert peer.send(".", 1, 1001, win=1000) == answer


def test_an_ack_that_comes_just_before_the_probe_leaves_nothing_to_probe_with() -> None:
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 1000)
    host.send(tcb, b"y")
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    host.advance(SECOND // 2)
    assert peer.heard() == ["P. 1001:1002(1) ack 1"]
    until_the_probe_is_due(host)
    assert peer.send(".", 1, 1002, win=0) == []


def test_a_single_octet_that_was_probed_in_vain_is_sent_when_the_window_opens() -> None:
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 1000)
    host.send(tcb, b"y")
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    host.advance(SECOND // 2)
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    assert peer.send(".", 1, 1001, win=1000) == ["P. 1001:1002(1) ack 1"]
    peer.send(".", 1, 1002)
    assert len(tcb.send_buffer) == 0


# A window that shrinks (MUST-34, MUST-35, SHLD-15 to SHLD-18)


@both_versions
def test_a_window_that_shrinks_over_the_flight_does_not_end_the_connection(version: int) -> None:
    host, peer, tcb = established(version, win=4000)
    text = bytes(i % 251 for i in range(6000))
    host.send(tcb, text)
    got = bytearray(b"".join(reply.payload for reply in peer.replies()))
    assert len(got) == 4000
    assert peer.send(".", 1, 1001, win=1000) == []  # SHLD-15: no new data
    host.advance(SECOND // 2)
    resent = peer.replies()
    assert [str(reply)[2:] for reply in resent] == ["1001:2001(1000) ack 1"]  # SHLD-16
    assert resent[0].payload == text[1000:2000]
    seen = dict(enumerate(text[:2000]))
    at = 2001
    while at < 6001:
        peer.put(".", 1, at, win=4000)
        host.turn()
        host.advance(3 * SECOND)
        for reply in peer.replies():
            for offset, octet in enumerate(reply.payload):
                assert seen.setdefault(reply.seq - 1 + offset, octet) == octet
        while at - 1 in seen:
            at += 1
    assert bytes(seen[i] for i in range(6000)) == text
    assert tcb.error is None


def test_a_window_that_shrinks_to_nothing_is_probed() -> None:
    # MUST-35
    host, peer, tcb = established(win=4000)
    host.send(tcb, b"x" * 4000)
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    for _ in range(50):
        host.advance(200 * SECOND)
        assert {str(reply) for reply in peer.replies()} == {". 1001:1002(1) ack 1"}
        peer.send(".", 1, 1001, win=0)
    assert tcb.error is None
    assert peer.send(".", 1, 1001, win=4000)[0] == ". 1001:2001(1000) ack 1"


def test_a_forged_segment_behind_the_fin_says_nothing_of_the_window() -> None:
    """Else SND.WL1 would lie behind all that the peer can still send (RFC 9293 §3.10.7.4)."""
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 3000)
    peer.send("F.", 1, 1001, win=1000)
    peer.heard()
    peer.send(".", 500, 1001, b"forged", win=0)
    peer.heard()
    assert tcb.snd.wnd == 1000
    peer.put(".", 2, 2001, win=5000)
    host.turn()
    assert tcb.snd.wnd == 5000
