"""SEGMENT ARRIVES, RFC 9293 §3.10.7, on the wire: what is acceptable, and what is answered.

S is our SND.NXT and R the peer's next octet; W is the window (65535 without scaling).
"""

import pytest

from tests.stack.host import MS, SECOND, Host, Peer, both_versions, established
from ustack.config import TcpConfig
from ustack.errors import ConnectionRefused, ConnectionReset
from ustack.tcp.state import CLOSED, ESTABLISHED, SYN_SENT
from ustack.tcp.tcb import DRAINED, READABLE, URGENT, WRITABLE

W = 65535


# SYN-SENT (§3.10.7.3)


@both_versions
def test_a_wrong_ack_in_syn_sent_is_reset_and_the_syn_goes_on(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    assert peer.send("S.", 0, 0) == ["R 0:0(0)"]
    assert peer.send("S.", 0, 2) == ["R 2:2(0)"]
    assert peer.send(".", 0, 7) == ["R 7:7(0)"]
    host.advance(SECOND + MS)
    assert peer.heard() == ["S 0:1(0)"]
    assert tcb.state is SYN_SENT


@both_versions
def test_a_reset_in_syn_sent_counts_only_with_the_right_ack(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    assert peer.send("R", 0) == []
    assert peer.send("R.", 0, 0) == []
    assert peer.send("R.", 0, 2) == []
    assert tcb.state is SYN_SENT
    assert peer.send("R.", 0, 1) == []
    assert tcb.state is CLOSED
    assert isinstance(tcb.error, ConnectionRefused)


@both_versions
def test_an_ack_alone_in_syn_sent_changes_nothing(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    assert peer.send(".", 0, 1) == []
    assert peer.send("F", 0) == []
    assert tcb.state is SYN_SENT


@both_versions
def test_text_and_fin_on_the_syn_ack_are_taken(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    assert peer.send("SF.", 0, 1, b"hello") == [". 1:1(0) ack 7"]
    assert host.read(tcb) == b"hello"
    assert tcb.eof


@both_versions
def test_text_on_the_syn_of_a_simultaneous_open_waits_for_established(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    assert peer.send("S", 0, 0, b"early") == ["S. 0:1(0) ack 1"]
    assert host.read(tcb) == b""
    assert peer.send(".", 6, 1) == [". 1:1(0) ack 6"]
    assert host.read(tcb) == b"early"


def test_the_window_of_a_syn_is_never_scaled() -> None:
    # RFC 7323 §2.2, also for the SYN,ACK that ends a simultaneous open
    host = Host()
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    options = peer.syn_options(1000, 7, False, None)
    peer.send("S", 0, options=options, win=2048)
    peer.send("S.", 0, 1, options=options, win=1024)
    assert tcb.state is ESTABLISHED
    assert host.stack.status(tcb, host.now).snd_wnd == 1024


# SYN-RECEIVED


@both_versions
def test_a_wrong_ack_in_syn_received_is_reset_and_the_entry_kept(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    host.listen()
    peer.send("S", 0)
    assert peer.send(".", 1, 0) == ["R 0:0(0)"]
    assert peer.send(".", 1, 2) == ["R 2:2(0)"]
    assert peer.send(".", 1, 1) == []
    assert host.accept().state is ESTABLISHED


@both_versions
def test_a_repeated_syn_gets_the_same_syn_ack(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    host.listen()
    assert peer.send("S", 0) == ["S. 0:1(0) ack 1"]
    host.advance(MS)
    assert peer.send("S", 0) == ["S. 0:1(0) ack 1"]
    assert len(host.stack.half_open()) == 1


@both_versions
def test_a_reset_in_syn_received_returns_to_listen(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    listener = host.listen()
    peer.send("S", 0)
    assert peer.send("R", 1) == []
    assert host.stack.half_open() == []
    assert listener.half_open == 0
    assert Peer(host).send("S", 0) == ["S. 0:1(0) ack 1"]


@both_versions
def test_a_reset_outside_of_the_window_of_syn_received_is_ignored(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    host.listen()
    peer.send("S", 0)
    assert peer.send("R", 0) == []
    assert peer.send("R", 1 + W) == []
    assert len(host.stack.half_open()) == 1


@both_versions
def test_text_that_replaces_a_lost_ack_of_the_handshake_is_delivered(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    host.listen()
    peer.send("S", 0)
    assert peer.send("P.", 1, 1, b"x" * 300) == [". 1:1(0) ack 301"]
    assert host.read(host.accept()) == b"x" * 300


@both_versions
def test_a_syn_elsewhere_in_the_window_of_syn_received_ends_it(version: int) -> None:
    # RFC 9293 §3.10.7.4, fourth: back to LISTEN; Linux: with a RST
    host = Host(version)
    peer = Peer(host)
    host.listen()
    peer.send("S", 0)
    (reply,) = peer.send("S", 100)
    assert reply.startswith("R.") and reply.endswith("ack 101")
    assert not host.stack.half_open()


def test_that_answer_waits_for_the_device() -> None:
    host = Host()
    peer = Peer(host)
    host.listen()
    peer.send("S", 0)
    host.room = 0
    assert peer.send("F.", 70_000, 1) == []
    host.room = None
    host.turn()
    assert peer.heard() == [". 1:1(0) ack 1"]


# RST (RFC 5961 §3)


@both_versions
def test_a_reset_counts_at_exactly_rcv_nxt(version: int) -> None:
    host, peer, tcb = established(version)
    assert peer.send("R", 1) == []
    assert tcb.state is CLOSED
    assert isinstance(tcb.error, ConnectionReset)
    assert host.is_clean()


@both_versions
@pytest.mark.parametrize("offset", [1, W - 1])
def test_a_reset_elsewhere_in_the_window_is_challenged(version: int, offset: int) -> None:
    _, peer, tcb = established(version, TcpConfig(receive_buffer=W))
    assert peer.send("R", 1 + offset) == [". 1:1(0) ack 1"]
    assert tcb.state is ESTABLISHED


@both_versions
@pytest.mark.parametrize("offset", [-1, W])
def test_a_reset_outside_of_the_window_is_ignored(version: int, offset: int) -> None:
    _, peer, tcb = established(version, TcpConfig(receive_buffer=W))
    assert peer.send("R", 1 + offset) == []
    assert tcb.state is ESTABLISHED


def test_challenges_are_limited_for_each_connection() -> None:
    # RFC 5961 §7
    host, peer, tcb = established()
    answers = [peer.send("R", 2) for _ in range(100)]
    assert answers == [[". 1:1(0) ack 1"]] + [[]] * 99
    host.advance(500 * MS)
    assert peer.send("R", 2) == [". 1:1(0) ack 1"]
    assert tcb.counters.challenge_acks == 2


def test_challenges_are_limited_for_the_whole_stack() -> None:
    host = Host(challenge_acks_per_second=3)
    peers = [Peer(host, port) for port in range(40000, 40010)]
    for peer in peers:
        peer.establish()
    answered = []
    for _ in range(20):
        answered.append(sum(bool(peer.send("R", 2)) for peer in peers))
        host.advance(SECOND)
    assert set(answered) == {2, 3, 4}  # nobody can tell how many others have used up


def test_a_reset_with_an_old_timestamp_counts() -> None:
    # RFC 7323 §5.2: PAWS does not apply to RST
    _, peer, tcb = established(tsval=1000)
    peer.tsval = 1
    assert peer.send("R", 1) == []
    assert tcb.state is CLOSED


def test_a_reset_counts_at_a_window_of_zero() -> None:
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=1000))
    peer.send(".", 1, 1, b"x" * 1000)
    assert host.stack.status(tcb, host.now).rcv_wnd == 0
    assert peer.send("R", 1001) == []
    assert tcb.state is CLOSED


def test_what_arrived_before_the_reset_can_still_be_read() -> None:
    host, peer, tcb = established()
    peer.send(".", 1, 1, b"last words")
    peer.send("R", 11)
    assert host.read(tcb, 10) == b"last words"
    with pytest.raises(ConnectionReset):
        host.read(tcb)


# SYN (RFC 5961 §4)


@both_versions
@pytest.mark.parametrize("seq", [0, 1, 500, W + 10, -100_000])
@pytest.mark.parametrize("payload", [b"", b"data"])
def test_a_syn_in_established_is_challenged(version: int, seq: int, payload: bytes) -> None:
    host, peer, tcb = established(version)
    assert peer.send("S", seq, 0, payload) == [". 1:1(0) ack 1"]
    assert tcb.state is ESTABLISHED
    assert host.read(tcb) == b""


@both_versions
def test_the_answer_to_a_challenge_clears_the_way_for_the_new_connection(version: int) -> None:
    # RFC 9293 §3.5.1, Figure 9: the peer has crashed and opens again
    _, peer, tcb = established(version)
    assert peer.send("S", 5000) == [". 1:1(0) ack 1"]
    assert peer.send("R", 1) == []
    assert tcb.state is CLOSED
    again = Peer(peer.host)
    again.isn += 5000
    assert again.send("S", 0) == ["S. 0:1(0) ack 1"]


# ACK (RFC 5961 §5)


@both_versions
def test_an_ack_of_what_was_never_sent_is_answered_and_its_text_dropped(version: int) -> None:
    host, peer, tcb = established(version)
    assert peer.send("P.", 1, 2, b"evil") == [". 1:1(0) ack 1"]
    assert host.read(tcb) == b""


@both_versions
def test_an_old_ack_brings_its_text_all_the_same(version: int) -> None:
    host, peer, tcb = established(version)
    host.send(tcb, b"x" * 100)
    peer.heard()
    peer.send(".", 1, 101)
    assert peer.send("P.", 1, 100, b"text") == [". 101:101(0) ack 5"]
    assert host.read(tcb) == b"text"


@both_versions
def test_an_ack_older_than_the_largest_window_is_answered_and_dropped(version: int) -> None:
    host, peer, tcb = established(version, win=1000)
    for end in range(1001, 4001, 1000):
        host.send(tcb, b"x" * 1000)
        peer.heard()
        peer.send(".", 1, end, win=1000)
    assert peer.send("P.", 1, 2000, b"evil", win=1000) == [". 3001:3001(0) ack 1"]
    assert host.read(tcb) == b""
    assert peer.send("P.", 1, 2001, b"good", win=1000) == [". 3001:3001(0) ack 5"]
    assert host.read(tcb) == b"good"


def test_an_empty_segment_with_such_an_ack_is_challenged_at_the_limited_rate() -> None:
    _, peer, _ = established()
    assert peer.send(".", 1, 2) == [". 1:1(0) ack 1"]
    assert peer.send(".", 1, 2) == []


@both_versions
@pytest.mark.parametrize("flags", ["", "P", "F", "U"])
def test_a_segment_without_ack_is_dropped(version: int, flags: str) -> None:
    host, peer, tcb = established(version)
    assert peer.send(flags, 1, 0, b"text") == []
    assert host.read(tcb) == b""
    assert not tcb.eof


def test_a_full_send_buffer_reports_its_room_once_a_third_is_free() -> None:
    host, peer, tcb = established(tcp=TcpConfig(send_buffer=3000))
    assert host.send(tcb, b"x" * 5000) == 3000
    assert host.send(tcb, b"x") == 0
    host.events_of(tcb)
    peer.send(".", 1, 901)
    assert not host.events_of(tcb) & WRITABLE
    peer.send(".", 1, 1001)
    assert host.events_of(tcb) & WRITABLE
    peer.send(".", 1, 3001)
    assert host.events_of(tcb) == DRAINED


def test_an_older_segment_does_not_bring_its_window() -> None:
    # SND.WL1 and SND.WL2, §3.10.7.4
    host, peer, tcb = established()
    peer.send("P.", 1, 1, b"x" * 10)
    peer.send("P.", 11, 1, b"x" * 10, win=5000)
    peer.send("P.", 11, 1, b"x" * 10, win=100)  # a repetition
    peer.send("P.", 1, 1, b"x" * 10, win=6000)  # older than the last
    assert host.stack.status(tcb, host.now).snd_wnd == 5000
    peer.send(".", 21, 1, win=7000)
    assert host.stack.status(tcb, host.now).snd_wnd == 7000


def test_a_smaller_window_without_any_news_was_overtaken() -> None:
    # Linux tcp_may_update_window()
    host, peer, tcb = established()
    peer.send("P.", 1, 1, b"x" * 10, win=5000)
    for window, taken in ((7000, 7000), (6000, 7000), (0, 0), (6000, 6000)):
        peer.send(".", 11, 1, win=window)
        assert host.stack.status(tcb, host.now).snd_wnd == taken


# Text


@both_versions
def test_the_first_copy_of_an_octet_is_delivered(version: int) -> None:
    host, peer, tcb = established(version)
    assert peer.send(".", 11, 1, b"A" * 10) == [". 1:1(0) ack 1"]
    assert peer.send(".", 1, 1, b"B" * 30) == [". 1:1(0) ack 31"]
    assert host.read(tcb) == b"B" * 10 + b"A" * 10 + b"B" * 10


@both_versions
def test_of_a_segment_half_old_the_new_half_is_taken(version: int) -> None:
    host, peer, tcb = established(version)
    peer.send(".", 1, 1, b"01234")
    assert peer.send(".", 1, 1, b"xxxxx56789") == [". 1:1(0) ack 11"]
    assert host.read(tcb) == b"0123456789"


@both_versions
def test_what_passes_the_window_is_cut_off_and_its_fin_is_not_taken(version: int) -> None:
    host, peer, tcb = established(version, TcpConfig(receive_buffer=1000))
    assert peer.send("FP.", 1, 1, b"x" * 1300) == [". 1:1(0) ack 1001"]
    assert host.read(tcb) == b"x" * 1000
    assert not tcb.eof
    assert tcb.state is ESTABLISHED
    peer.heard()
    assert peer.send("FP.", 1001, 1, b"y" * 300) == []
    host.advance(41 * MS)
    assert peer.heard() == [". 1:1(0) ack 1302"]
    assert host.read(tcb) == b"y" * 300
    assert tcb.eof


@both_versions
def test_text_beyond_the_window_is_only_acknowledged(version: int) -> None:
    host, peer, tcb = established(version, TcpConfig(receive_buffer=1000))
    assert peer.send(".", 1001, 1, b"x" * 10) == [". 1:1(0) ack 1"]
    assert peer.send(".", 1, 1, b"y" * 1000) == [". 1:1(0) ack 1001"]
    assert host.read(tcb) == b"y" * 1000


@both_versions
def test_text_across_the_wrap_of_sequence_numbers_is_put_in_order(version: int) -> None:
    host, peer, tcb = established(version)
    text = bytes(i % 251 for i in range(2000))
    for start in (1500, 1000, 250, 0, 750, 500, 100, 1250, 1750):
        peer.send(".", 1 + start, 1, text[start : start + 300])
    assert host.read(tcb) == text


@both_versions
def test_a_fin_behind_a_gap_waits_for_it_to_be_filled(version: int) -> None:
    host, peer, tcb = established(version, sack=True)
    peer.put("F.", 101, 1)
    host.turn()
    assert str(peer.reply()) == ". 1:1(0) ack 1"
    assert tcb.state is ESTABLISHED
    assert peer.send(".", 1, 1, b"x" * 100) == [". 1:1(0) ack 102"]
    assert host.read(tcb) == b"x" * 100
    assert tcb.eof
    assert peer.send("F.", 101, 1) == [". 1:1(0) ack 102"]


def test_nothing_can_follow_a_fin() -> None:
    host, peer, tcb = established()
    peer.send("F.", 101, 1)
    peer.send(".", 51, 1, b"y" * 200)
    assert peer.send(".", 1, 1, b"x" * 50) == [". 1:1(0) ack 102"]
    assert host.read(tcb) == b"x" * 50 + b"y" * 50


@both_versions
def test_each_segment_behind_a_gap_is_answered_at_once(version: int) -> None:
    # RFC 5681 §4.2: duplicate ACKs tell of the loss, also within one batch
    host, peer, _ = established(version)
    for start in (101, 201, 301):
        peer.put(".", start, 1, b"x" * 100)
    host.turn()
    assert peer.heard() == [". 1:1(0) ack 1"] * 3
    assert peer.send(".", 1, 1, b"x" * 100) == [". 1:1(0) ack 401"]


def test_filling_a_part_of_a_gap_is_answered_at_once() -> None:
    host, peer, _ = established(tcp=TcpConfig(quick_acks=0))
    peer.send(".", 201, 1, b"x" * 100)
    assert peer.send(".", 1, 1, b"x" * 100) == [". 1:1(0) ack 101"]
    assert host.stack.connections()[0].receive_buffer.out_of_order == 1


def test_memory_behind_gaps_is_bounded() -> None:
    _, peer, tcb = established(tcp=TcpConfig(receive_buffer=10_000))
    for start in range(3, 10_000, 2):
        peer.send(".", start, 1, b"x")
    assert tcb.receive_buffer.held <= 2 * 10_000
    assert tcb.counters.out_of_window > 1000


# SACK (RFC 2018, RFC 2883)


def test_what_waits_behind_gaps_is_reported_by_sack() -> None:
    host, peer, _ = established(sack=True)
    peer.send(".", 101, 1, b"x" * 100)
    peer.send(".", 301, 1, b"x" * 100)
    peer.put(".", 201, 1, b"x" * 50)
    host.turn()
    reply = peer.reply()
    assert reply.ack == 1
    assert peer.relative_sack(reply.options) == [(101, 251), (301, 401)]


def test_a_duplicate_below_rcv_nxt_is_reported() -> None:
    host, peer, _ = established(sack=True)
    peer.send(".", 1, 1, b"x" * 100)
    peer.put(".", 1, 1, b"x" * 100)
    host.turn()
    reply = peer.reply()
    assert reply.ack == 101
    assert peer.relative_sack(reply.options) == [(1, 101)]


def test_a_duplicate_part_of_a_segment_is_reported() -> None:
    host, peer, _ = established(sack=True)
    peer.send(".", 1, 1, b"x" * 100)
    peer.put(".", 51, 1, b"x" * 100)
    host.turn()
    reply = peer.reply()
    assert reply.ack == 151
    assert peer.relative_sack(reply.options) == [(51, 101)]


def test_a_duplicate_behind_a_gap_is_reported_before_its_block() -> None:
    host, peer, _ = established(sack=True)
    peer.send(".", 101, 1, b"x" * 100)
    peer.put(".", 121, 1, b"x" * 30)
    host.turn()
    assert peer.relative_sack(peer.reply().options) == [(121, 151), (101, 201)]


def test_without_agreement_nothing_is_reported() -> None:
    host, peer, _ = established()
    peer.put(".", 101, 1, b"x" * 100)
    host.turn()
    assert peer.reply().options.sack == ()


def test_beside_timestamps_three_blocks_fit() -> None:
    host, peer, _ = established(tcp=TcpConfig(compressed_acks=0), sack=True, tsval=100)
    for start in range(101, 1101, 200):
        peer.send(".", start, 1, b"x" * 100)
    peer.put(".", 1101, 1, b"x" * 100)
    host.turn()
    assert len(peer.reply().options.sack) == 3


def test_duplicate_reports_of_the_peer_are_counted() -> None:
    host, peer, tcb = established(sack=True)
    host.send(tcb, b"x" * 100)
    peer.heard()
    peer.send(".", 1, 101)
    peer.send(".", 1, 101, sack=[(1, 101)])
    assert tcb.counters.dsacks_received == 1


# Timestamps (RFC 7323)


def test_a_delayed_ack_echoes_the_oldest_timestamp() -> None:
    # §4.3 (A)
    host, peer, _ = established(tsval=5)
    peer.tsval = 10
    peer.put(".", 1, 1, b"x" * 100)
    peer.tsval = 11
    peer.put(".", 101, 1, b"x" * 100)
    host.turn()
    reply = peer.reply()
    assert (reply.ack, reply.options.tsecr) == (201, 10)


def test_behind_a_gap_the_last_timestamp_in_order_is_echoed() -> None:
    # §4.3 (B) and (C)
    host, peer, _ = established(tsval=10)
    peer.tsval = 11
    peer.put(".", 1, 1, b"x" * 100)
    host.turn()
    assert peer.reply().options.tsecr == 11
    peer.tsval = 12
    peer.put(".", 201, 1, b"x" * 100)
    host.turn()
    assert peer.reply().options.tsecr == 11
    peer.tsval = 13
    peer.put(".", 101, 1, b"x" * 100)
    host.turn()
    reply = peer.reply()
    assert (reply.ack, reply.options.tsecr) == (301, 13)


@both_versions
def test_an_older_timestamp_is_acknowledged_and_its_text_dropped(version: int) -> None:
    # PAWS, §5.3 R1
    host, peer, tcb = established(version, tsval=1000)
    peer.send(".", 1, 1, b"new")
    peer.tsval = 999
    assert peer.send(".", 4, 1, b"old") == [". 1:1(0) ack 4"]
    assert host.read(tcb) == b"new"
    peer.tsval = 1000
    assert peer.send(".", 4, 1, b"new") == [". 1:1(0) ack 7"]


def test_the_timestamp_clock_of_the_peer_may_wrap() -> None:
    host, peer, tcb = established(tsval=0xFFFF_FFFF)
    peer.send(".", 1, 1, b"a")
    peer.tsval = 0
    peer.send(".", 2, 1, b"b")
    assert host.read(tcb) == b"ab"


def test_after_24_days_of_silence_any_timestamp_is_taken() -> None:
    # §5.5
    host, peer, tcb = established(tsval=1000)
    peer.send(".", 1, 1, b"a")
    host.now += 25 * 24 * 3600 * SECOND
    peer.tsval = 1000 - 5
    peer.send(".", 2, 1, b"b")
    assert host.read(tcb) == b"ab"


def test_paws_never_judges_what_waits_behind_a_gap() -> None:
    host, peer, tcb = established(tsval=1000)
    peer.tsval = 1001
    peer.send(".", 4, 1, b"def")
    peer.tsval = 2000
    peer.send(".", 1, 1, b"abc")
    assert host.read(tcb) == b"abcdef"


def test_a_segment_without_the_timestamp_agreed_on_is_taken_as_linux_does() -> None:
    host, peer, tcb = established(tsval=1000)
    peer.send(".", 1, 1, b"text", options=b"")
    assert host.read(tcb) == b"text"


def test_a_segment_without_the_timestamp_agreed_on_is_dropped_if_so_configured() -> None:
    # §3.2
    host, peer, tcb = established(tcp=TcpConfig(require_timestamps=True), tsval=1000)
    peer.send(".", 1, 1, b"text", options=b"")
    assert host.read(tcb) == b""
    assert tcb.state is ESTABLISHED
    assert peer.send("R", 1, options=b"") == []
    assert tcb.state is CLOSED


# Windows


@both_versions
def test_a_window_of_zero_is_probed_as_long_as_the_prober_likes(version: int) -> None:
    host, peer, tcb = established(version, TcpConfig(receive_buffer=1000))
    peer.send(".", 1, 1, b"x" * 1000)
    for _ in range(5):
        peer.put(".", 1001, 1, b"y")
        host.turn()
        reply = peer.reply()
        assert (str(reply), reply.window) == (". 1:1(0) ack 1001", 0)
    assert len(tcb.receive_buffer.peek(2000)) == 1000


def test_at_a_window_of_zero_an_ack_is_still_taken() -> None:
    # §3.10.7.4, the special allowance
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=1000))
    peer.send(".", 1, 1, b"x" * 1000)
    host.send(tcb, b"ours")
    peer.heard()
    peer.send(".", 1001, 5, b"y")
    assert len(tcb.send_buffer) == 0


def test_a_fin_at_a_window_of_zero_is_taken_when_it_is_sent_again() -> None:
    host, peer, tcb = established(tcp=TcpConfig(receive_buffer=1000))
    peer.send(".", 1, 1, b"x" * 1000)
    assert peer.send("F.", 1001, 1) == [". 1:1(0) ack 1001"]
    assert not tcb.eof
    host.read(tcb)
    peer.heard()
    assert peer.send("F.", 1001, 1) == []
    assert tcb.eof
    host.advance(41 * MS)
    assert peer.heard() == [". 1:1(0) ack 1002"]


# URG (§3.10.7.4, sixth; MUST-30 to MUST-33, MUST-62)


def test_urgent_data_is_announced_once_and_again_when_its_end_moves() -> None:
    host, peer, tcb = established()
    host.events_of(tcb)
    peer.send("U.", 1, 1, b"abc", urgent=3)
    assert host.events_of(tcb) == URGENT | READABLE
    assert tcb.rcv.up is not None
    peer.send("U.", 4, 1, b"def", urgent=0)
    assert not host.events_of(tcb) & URGENT
    peer.send("U.", 7, 1, b"ghi", urgent=500)
    assert host.events_of(tcb) & URGENT
    assert host.read(tcb) == b"abcdefghi"


# After the user has closed


@both_versions
def test_text_that_nobody_will_read_is_reset(version: int) -> None:
    # SHLD-3
    host, peer, tcb = established(version)
    host.close(tcb)
    peer.heard()
    peer.send(".", 1, 2)
    assert peer.send("P.", 1, 2, b"late") == ["R 2:2(0)"]
    assert tcb.state is CLOSED
    assert host.is_clean()


@both_versions
def test_text_after_the_peers_fin_is_ignored(version: int) -> None:
    host, peer, tcb = established(version)
    peer.send("F.", 1, 1)
    assert peer.send("P.", 2, 1, b"late") == []
    assert host.read(tcb) == b""
    assert tcb.eof
