"""What leaves, and when: segment sizes, Nagle, ACKs, urgent text, a device that is full."""

from itertools import pairwise

import pytest

from tests.stack.host import MS, MSS, SECOND, Host, Peer, both_versions, established
from ustack.config import TcpConfig
from ustack.tcp.tcb import NEVER

KIB = 1024


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
    assert tcb.counters.segments_out == 10


@both_versions
@pytest.mark.parametrize("room", range(4))
@pytest.mark.parametrize("watched", [True, False])
def test_of_super_segments_in_a_row_none_is_lost_or_overtaken_when_the_device_is_full(
    version: int, room: int, watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, peer, tcb = established(version, tsval=1, gso_max=3200, checksum_offload=True)
    if not watched:
        for part in (host.stack, host.stack._output):
            monkeypatch.setattr(part, "_probe", None)
    text = bytes(i % 251 for i in range(3 * tcb.snd.gso_limit))
    host.room = room
    host.stack.send(tcb, text, host.now)
    assert host.turn() == (room == 3)
    assert len(host.super_segments) == room
    host.shutdown(tcb)
    assert len(host.super_segments) == room
    host.room = None
    assert host.turn()
    replies = peer.replies()
    assert [reply.seq for reply in replies] == sorted(reply.seq for reply in replies)
    assert b"".join(reply.payload for reply in replies) == text
    assert "F" in replies[-1].flags
    assert len(host.super_segments) == 3
    assert tcb.counters.segments_out == len(replies)


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
    for end in range(5_001, 40_002, 5_000):
        peer.send(".", 1, end)
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
                expected = [". 1:501(500) ack 1"]
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
