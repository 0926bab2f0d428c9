"""What leaves, and when: segment sizes, Nagle, windows, silly windows, ACKs, probes, resets."""

from itertools import pairwise

import pytest

from tests.stack.host import MS, MSS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.tcp.tcb import NEVER, Tcb

KIB = 1024


def established(
    version: int = 4,
    tcp: TcpConfig | None = None,
    *,
    sack: bool = False,
    tsval: int | None = None,
    win: int = 65535,
    rtt: int = 0,
    gso_max: int = 0,
    checksum_offload: bool = False,
) -> tuple[Host, Peer, Tcb]:
    host = Host(version, tcp, gso_max=gso_max, checksum_offload=checksum_offload)
    peer = Peer(host)
    return host, peer, peer.establish(sack=sack, tsval=tsval, win=win, rtt=rtt)


# Text


@both_versions
def test_text_is_cut_into_full_segments_and_a_rest(version: int) -> None:
    host, peer, tcb = established(version)
    text = bytes(i % 256 for i in range(2500))
    assert host.send(tcb, text) == 2500
    replies = peer.replies()
    assert [str(reply) for reply in replies] == [
        ". 1:1001(1000) ack 1",
        ". 1001:2001(1000) ack 1",
        "P. 2001:2501(500) ack 1",
    ]
    assert b"".join(reply.payload for reply in replies) == text


@both_versions
def test_every_packet_has_the_ttl_and_dscp_asked_for_and_is_not_to_be_fragmented(
    version: int,
) -> None:
    # MUST-48, MUST-49, RFC 1191
    host, peer, tcb = established(version, TcpConfig(ttl=17, dscp=46))
    host.send(tcb, b"x")
    packet = peer.reply().packet
    assert (packet.hop_limit, packet.dscp, packet.dont_fragment) == (17, 46, True)


def test_without_path_mtu_discovery_packets_may_be_fragmented() -> None:
    host, peer, tcb = established(4, TcpConfig(path_mtu_discovery=False))
    host.send(tcb, b"x")
    assert not peer.reply().packet.dont_fragment


def test_the_end_of_each_write_is_pushed() -> None:
    # MUST-61; Linux: at the end of each write
    host, peer, tcb = established(tcp=TcpConfig(nagle=False))
    for _ in range(3):
        host.stack.send(tcb, b"x" * 1500, host.now)
    host.turn()
    replies = peer.replies()
    assert "".join("P" if "P" in reply.flags else "-" for reply in replies)[-1] == "P"
    assert sum(len(reply.payload) for reply in replies) == 4500


@both_versions
def test_a_device_with_offload_gets_super_segments(version: int) -> None:
    host, peer, tcb = established(version, gso_max=65536, checksum_offload=True)
    text = bytes(i % 256 for i in range(9500))
    host.send(tcb, text)
    replies = peer.replies()
    assert len(host.super_segments) == 1
    assert b"".join(reply.payload for reply in replies) == text
    assert [len(reply.payload) for reply in replies] == [1000] * 9 + [500]
    assert tcb.counters.segments_out == 1 + 10


@both_versions
def test_a_device_with_checksums_only_gets_single_segments(version: int) -> None:
    host, peer, tcb = established(version, checksum_offload=True)
    host.send(tcb, b"x" * 2500)
    assert len(peer.heard()) == 3
    assert host.super_segments == []


# The initial window and its growth


def test_ten_segments_leave_before_the_first_ack() -> None:
    # RFC 6928
    host, peer, tcb = established()
    host.send(tcb, b"x" * 50_000)
    assert len(peer.heard()) == 10
    assert len(peer.send(".", 1, 2001)) == 4  # slow start: two acknowledged, two more


def test_a_connection_that_was_idle_starts_anew() -> None:
    # RFC 5681 §4.1
    host, peer, tcb = established()
    host.send(tcb, b"x" * 40_000)
    peer.heard()
    peer.send(".", 1, 10_001)
    peer.send(".", 1, 30_001)
    peer.send(".", 1, 40_001)
    host.advance(3600 * SECOND)
    host.send(tcb, b"x" * 60_000)
    assert len(peer.heard()) == 10


# Nagle (RFC 9293 §3.7.4) in Minshall's variant, as Linux has it


def test_a_small_segment_waits_for_the_ack_of_another_small_one() -> None:
    host, peer, tcb = established()
    host.send(tcb, b"a")
    assert peer.heard() == ["P. 1:2(1) ack 1"]
    host.send(tcb, b"b")
    host.send(tcb, b"c")
    assert peer.heard() == []
    assert peer.send(".", 1, 2) == ["P. 2:4(2) ack 1"]


def test_a_small_segment_does_not_wait_for_full_ones() -> None:
    host, peer, tcb = established()
    host.send(tcb, b"x" * MSS)
    host.send(tcb, b"y")
    assert peer.heard() == ["P. 1:1001(1000) ack 1", "P. 1001:1002(1) ack 1"]


def test_a_full_segment_never_waits() -> None:
    host, peer, tcb = established()
    host.send(tcb, b"a")
    host.send(tcb, b"x" * (MSS + 1))
    assert peer.heard()[1:] == [". 2:1002(1000) ack 1"]


def test_a_fin_takes_the_small_rest_along() -> None:
    host, peer, tcb = established()
    host.send(tcb, b"a")
    host.send(tcb, b"b")
    peer.heard()
    host.shutdown(tcb)
    assert peer.heard() == ["FP. 2:4(1) ack 1"]


def test_nagle_can_be_switched_off() -> None:
    # MUST-17
    host, peer, tcb = established(tcp=TcpConfig(nagle=False))
    for text in (b"a", b"b", b"c"):
        host.send(tcb, text)
    assert peer.heard() == ["P. 1:2(1) ack 1", "P. 2:3(1) ack 1", "P. 3:4(1) ack 1"]


def test_a_corked_connection_sends_whole_segments_only() -> None:
    host, peer, tcb = established()
    tcb.cork = True
    host.send(tcb, b"x" * 2500)
    assert peer.heard() == [". 1:1001(1000) ack 1", ". 1001:2001(1000) ack 1"]


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
    # rule (3): a peer whose whole buffer is smaller than a segment
    host, peer, tcb = established(win=600)
    host.send(tcb, b"x" * 5000)
    assert [len(reply.payload) for reply in peer.replies()] == [600]
    assert peer.send(".", 1, 601, win=299) == []
    assert peer.send(".", 1, 601, win=300) == [". 601:901(300) ack 1"]


def test_what_fits_leaves_after_the_override_time() -> None:
    # rule (4): 0.1 to 1 s
    host, peer, tcb = established(win=4000)
    host.send(tcb, b"x" * 10_000)
    peer.heard()
    assert peer.send(".", 1, 4001, win=100) == []
    host.advance(250 * MS)
    assert peer.heard() == [". 4001:4101(100) ack 1"]


def test_the_fin_waits_for_room_in_the_window() -> None:
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 1000)
    host.shutdown(tcb)
    assert peer.heard() == ["P. 1:1001(1000) ack 1"]
    assert peer.send(".", 1, 1001, win=1000) == ["F. 1001:1002(0) ack 1"]


# The receive window and its updates (RFC 9293 §3.8.6.2.2)


def test_the_right_edge_never_moves_to_the_left() -> None:
    # MUST-34 seen from the other side: §3.8.6 SHLD-14
    host, peer, _ = established(tcp=TcpConfig(receive_buffer=10_000, window_scaling=False))
    edge = 0
    at = 1
    for size in (1000, 300, 999, 1, 2000, 1000):
        peer.put(".", at, 1, b"x" * size)
        host.turn()
        at += size
        reply = peer.reply()
        assert reply.ack + reply.window >= edge
        edge = reply.ack + reply.window
        assert edge == 10_001


def test_a_reader_that_takes_little_causes_no_update_and_then_one() -> None:
    # SWS avoidance of the receiver, MUST-39
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=4000, mss=1000))
    for at in range(1, 4001, 1000):
        peer.send(".", at, 1, b"x" * 1000)
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
    for at in range(1, 4001, 1000):
        peer.send(".", at, 1, b"x" * 1000)
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
    for at in range(1, 9001, 1000):
        peer.send(".", at, 1, b"x" * 1000)
    host.read(tcb, 999)
    assert peer.heard() == []
    host.read(tcb)
    reply = peer.reply()
    assert (str(reply), reply.window) == (". 1:1(0) ack 9001", 10_000)


def test_a_closed_window_is_reopened_at_once_when_the_reader_takes_everything() -> None:
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=4000))
    for at in range(1, 4001, 1000):
        peer.send(".", at, 1, b"x" * 1000)
    host.read(tcb)
    replies = peer.replies()
    assert [(str(reply), reply.window) for reply in replies] == [(". 1:1(0) ack 4001", 4000)]


# ACKs (RFC 9293 §3.8.6.3, RFC 5681 §4.2)


def test_every_second_full_segment_is_acknowledged() -> None:
    host, peer, _ = established(tcp=TcpConfig(quick_acks=0))
    assert peer.send(".", 1, 1, b"x" * MSS) == []
    assert peer.send(".", 1001, 1, b"x" * MSS) == [". 1:1(0) ack 2001"]
    assert peer.send(".", 2001, 1, b"x" * MSS) == []
    assert host.stack.connections()[0].ack_owed == MSS


def test_a_single_segment_is_acknowledged_after_the_delay() -> None:
    host, peer, _ = established(tcp=TcpConfig(quick_acks=0, delayed_ack_us=40 * MS))
    assert peer.send("P.", 1, 1, b"x") == []
    host.advance(39 * MS)
    assert peer.heard() == []
    host.advance(2 * MS)
    assert peer.heard() == [". 1:1(0) ack 2"]
    host.advance(SECOND)
    assert peer.heard() == []


def test_a_young_connection_acknowledges_at_once() -> None:
    _, peer, _ = established(tcp=TcpConfig(quick_acks=3))
    answers = [peer.send("P.", 1 + i, 1, b"x") for i in range(5)]
    assert [len(answer) for answer in answers] == [1, 1, 1, 0, 0]


def test_a_batch_is_acknowledged_once() -> None:
    host, peer, _ = established()
    for at in range(1, 8001, 1000):
        peer.put(".", at, 1, b"x" * MSS)
    host.turn()
    assert peer.heard() == [". 1:1(0) ack 8001"]


def test_in_a_batch_every_second_segment_is_acknowledged_if_so_configured() -> None:
    # SHLD-19
    host, peer, _ = established(tcp=TcpConfig(quick_acks=0, ack_every_second_segment=True))
    for at in range(1, 5001, 1000):
        peer.put(".", at, 1, b"x" * MSS)
    host.turn()
    assert peer.heard() == [". 1:1(0) ack 2001", ". 1:1(0) ack 4001"]


def test_an_ack_rides_on_text() -> None:
    host, peer, tcb = established(tcp=TcpConfig(quick_acks=0))
    peer.send("P.", 1, 1, b"question")
    host.send(tcb, b"answer")
    assert peer.heard() == ["P. 1:7(6) ack 9"]
    host.advance(SECOND // 10)
    assert peer.heard() == []


def test_every_segment_after_the_first_carries_the_timestamp_agreed_on() -> None:
    # RFC 7323 §3.2: all but RST must, RST should
    host, peer, tcb = established(tsval=100, tcp=TcpConfig(keep_alive=True))
    host.send(tcb, b"x")
    peer.put(".", 11, 1, b"y")
    host.turn()
    peer.put("R", 5, 0)
    host.turn()
    host.advance(SECOND // 2)
    peer.put(".", 1, 2)
    host.turn()
    host.advance(7300 * SECOND)
    host.abort(tcb)
    replies = peer.replies()
    assert len(replies) >= 5
    assert {reply.options.tsval is not None for reply in replies} == {True}
    assert replies[-1].flags == "R."
    assert replies[-1].options.tsecr == 100


def test_the_reset_that_answers_late_text_carries_a_timestamp() -> None:
    host, peer, tcb = established(tsval=100)
    host.close(tcb)
    peer.heard()
    peer.send(".", 1, 2)
    peer.put(".", 1, 2, b"late")
    host.turn()
    reply = peer.reply()
    assert reply.flags == "R"
    assert reply.options.tsval is not None


# Zero windows (RFC 9293 §3.8.6.1)


@both_versions
def test_a_zero_window_is_probed_for_ever_while_it_is_answered(version: int) -> None:
    host, peer, tcb = established(version, TcpConfig(persist_max_us=60 * SECOND), win=1000)
    host.send(tcb, b"x" * 3000)
    peer.heard()
    peer.send(".", 1, 1001, win=0)
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
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 1000)
    host.send(tcb, b"abc")
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    host.advance(SECOND // 2)
    assert peer.heard() == [". 1001:1002(1) ack 1"]
    assert peer.send(".", 1, 1002, win=0) == []
    assert peer.send(".", 1, 1002, win=1000) == ["P. 1002:1004(2) ack 1"]


def test_the_last_octet_probed_is_pushed() -> None:
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 1000)
    host.send(tcb, b"a")
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    host.advance(SECOND // 2)
    assert peer.heard() == ["P. 1001:1002(1) ack 1"]


@both_versions
def test_a_close_at_a_zero_window_sends_the_fin_after_the_text(version: int) -> None:
    host, peer, tcb = established(version, win=1000)
    host.send(tcb, b"x" * 1500)
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    host.close(tcb)
    assert peer.heard() == []
    host.advance(SECOND // 2)
    assert peer.heard() == [". 1001:1002(1) ack 1"]
    assert peer.send(".", 1, 1001, win=1000) == ["FP. 1001:1502(500) ack 1"]


def test_with_nothing_but_a_fin_left_the_fin_is_the_probe() -> None:
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 1000)
    host.shutdown(tcb)
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    host.advance(SECOND // 2)
    assert peer.heard() == ["F. 1001:1002(0) ack 1"]
    peer.send(".", 1, 1002, win=0)
    assert host.stack.status(tcb, host.now).state.name == "FIN_WAIT_2"


def test_an_abort_at_a_zero_window_resets() -> None:
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 1500)
    peer.heard()
    peer.send(".", 1, 1001, win=0)
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
    host, peer, tcb = established(win=1000)
    host.send(tcb, b"x" * 2000)
    peer.heard()
    peer.send(".", 1, 1001, win=0)
    until_the_probe_is_due(host)
    assert peer.send(".", 1, 1001, win=1000) == ["P. 1001:2001(1000) ack 1"]


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


# Urgent data (RFC 6093; MUST-30, MUST-31)


@both_versions
def test_the_urgent_pointer_names_the_octet_after_the_last_urgent_one(version: int) -> None:
    host, peer, tcb = established(version)
    host.send(tcb, b"x" * 1500 + b"!", urgent=True)
    host.send(tcb, b"y" * 500)
    replies = peer.replies()
    for reply in replies:
        if reply.seq < 1502:
            assert "U" in reply.flags
            assert reply.seq + reply.urgent == 1502
        else:
            assert "U" not in reply.flags
    peer.send(".", 1, 1502)
    peer.heard()
    host.send(tcb, b"z")
    peer.send(".", 1, 2002)
    assert all("U" not in reply.flags for reply in peer.replies())
    assert tcb.snd.up is None


def test_text_behind_the_urgent_octet_is_not_urgent() -> None:
    host, peer, tcb = established(tcp=TcpConfig(nagle=False))
    host.send(tcb, b"!", urgent=True)
    host.send(tcb, b"calm")
    assert peer.heard() == ["PU. 1:2(1) ack 1", "P. 2:6(4) ack 1"]


def test_urgent_text_is_not_sent_as_a_super_segment() -> None:
    host, peer, tcb = established(gso_max=65536, checksum_offload=True)
    host.send(tcb, b"x" * 5000, urgent=True)
    replies = peer.replies()
    assert host.super_segments == []
    assert {reply.seq + reply.urgent for reply in replies} == {5001}


# A device that is full


@both_versions
def test_nothing_is_lost_when_the_device_is_full(version: int) -> None:
    host, peer, tcb = established(version)
    text = bytes(i % 256 for i in range(5000))
    host.room = 2
    host.send(tcb, text)
    assert len(peer.heard()) == 2
    assert tcb.snd.nxt - tcb.snd.una == 2000
    assert host.stack.next_deadline() != 0  # nothing to do until the device is writable
    host.room = 0
    assert not host.turn()
    host.room = None
    assert host.turn()
    assert peer.heard() == [
        ". 2001:3001(1000) ack 1",
        ". 3001:4001(1000) ack 1",
        "P. 4001:5001(1000) ack 1",
    ]


@pytest.mark.parametrize("what", ["SYN", "SYN,ACK", "ACK", "FIN", "RST", "probe", "resend", "ping"])
def test_each_kind_of_segment_waits_for_the_device(what: str) -> None:
    host = Host(tcp=TcpConfig(keep_alive=True))
    peer = Peer(host)
    if what == "SYN":
        host.room = 0
        peer.connect()
        expected = ["S 0:1(0)"]
    elif what == "SYN,ACK":
        host.listen()
        host.room = 0
        peer.send("S", 0)
        expected = ["S. 0:1(0) ack 1"]
    else:
        tcb = peer.establish(win=1000)
        if what == "ACK":
            host.room = 0
            peer.send(".", 1, 1, b"x")
            expected = [". 1:1(0) ack 2"]
        elif what == "FIN":
            host.room = 0
            host.shutdown(tcb)
            expected = ["F. 1:2(0) ack 1"]
        elif what == "RST":
            host.room = 0
            host.abort(tcb)
            expected = ["R. 1:1(0) ack 1"]
        elif what == "ping":
            host.room = 0
            host.advance(7201 * SECOND)
            expected = [". 0:0(0) ack 1"]
        else:
            host.send(tcb, b"x" * 1001)
            peer.heard()
            if what == "probe":
                peer.send(".", 1, 1001, win=0)
                expected = ["P. 1001:1002(1) ack 1"]
            else:
                expected = [". 1:1001(1000) ack 1"]
            host.room = 0
            host.advance(SECOND // 2)
    assert peer.heard() == []
    host.room = None
    host.turn()
    assert peer.heard()[:1] == expected


def test_a_connection_gives_way_after_its_quantum() -> None:
    tcp = TcpConfig(initial_window_segments=1000)
    host = Host(tcp=tcp)
    first, second = Peer(host, 40000), Peer(host, 40001)
    a = first.establish(wscale=14, mss=1400)
    b = second.establish(wscale=14, mss=1400)
    host.stack.send(a, b"x" * 400_000, host.now)
    host.stack.send(b, b"y" * 400_000, host.now)
    host.turn()
    order = [sent.payload[2:4] for sent in host.drain()]
    turns = sum(x != y for x, y in pairwise(order))
    assert turns >= 3


def test_an_idle_connection_has_no_timer() -> None:
    host, peer, tcb = established()
    host.send(tcb, b"x")
    peer.heard()
    peer.send(".", 1, 2)
    host.advance(SECOND)
    assert host.stack.next_deadline() is None
    timers = tcb.timers
    assert {getattr(timers, name) for name in timers.__slots__} == {NEVER}
