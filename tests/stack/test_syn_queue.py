"""Half-open connections: compact records, their SYN,ACKs, caps, and what arrives for them."""

import tracemalloc
from itertools import pairwise

import pytest

from tests.stack.host import (
    MS,
    OURS,
    SECOND,
    THEIRS,
    Host,
    Peer,
    both_versions,
    ip_frame,
    tcp_segment,
)
from ustack.config import TcpConfig
from ustack.runtime.snapshot import take_snapshot
from ustack.tcp.tcb import Endpoint
from ustack.wire import ipv4, tcp
from ustack.wire.tcp_options import encode_options

REQUESTS = 2000
OPTIONS = encode_options(mss=1460, wscale=7, sack_permitted=True, tsval=1 << 31)


def syn(host: Host, port: int) -> None:
    theirs, ours = THEIRS[host.version], OURS[host.version]
    segment = tcp_segment(theirs, ours, port, 80, 1 << 31, 0, tcp.SYN, options=OPTIONS)
    host.stack.input(ip_frame(theirs, ours, ipv4.TCP, segment), host.now)


@both_versions
def test_a_half_open_connection_takes_at_most_600_bytes(version: int) -> None:
    host = Host(version)
    host.listen(backlog=2 * REQUESTS)
    for port in range(1000, 1100):  # tables have their first size, caches are warm
        syn(host, port)
    host.turn()
    host.drain()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for port in range(2000, 2000 + REQUESTS):
        syn(host, port)
        host.turn()
        host.drain()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(host.stack.half_open()) == REQUESTS + 100
    assert host.stack.connections() == []
    assert used / REQUESTS <= 600


@both_versions
def test_an_unanswered_syn_ack_is_sent_again_at_doubling_intervals_and_then_forgotten(
    version: int,
) -> None:
    # RFC 6298 §5.5; Linux tcp_synack_retries
    host = Host(version, TcpConfig(syn_ack_retransmissions=3))
    listener = host.listen()
    peer = Peer(host)
    peer.put("S", 0)
    host.turn()
    host.advance(60 * SECOND)
    replies = peer.replies()
    assert [str(reply) for reply in replies] == ["S. 0:1(0) ack 1"] * 4
    gaps = [b.at - a.at for a, b in pairwise(replies)]
    assert [round(gap / SECOND, 2) for gap in gaps] == [1, 2, 4]
    assert host.stack.half_open() == []
    assert (listener.half_open, listener.young) == (0, 0)
    assert host.drops()["half-open-timed-out"] == 1
    assert host.stack.pending_timers() == 0
    assert host.notes.count("SYN retransmission") == 3


def test_an_interval_is_capped_by_the_longest_rto() -> None:
    host = Host(tcp=TcpConfig(max_rto_us=2 * SECOND, syn_ack_retransmissions=4))
    host.listen()
    peer = Peer(host)
    peer.put("S", 0)
    host.turn()
    host.advance(20 * SECOND)
    gaps = [b.at - a.at for a, b in pairwise(peer.replies())]
    assert [round(gap / SECOND, 2) for gap in gaps] == [1, 2, 2, 2]


def test_syns_again_are_answered_now_and_then_only() -> None:
    # Linux tcp_invalid_ratelimit; RFC 4987: no amplification
    host = Host()
    host.listen()
    peer = Peer(host)
    assert peer.send("S", 0) == ["S. 0:1(0) ack 1"]
    answers = 0
    for _ in range(9):
        host.advance(100 * MS)
        answers += len(peer.send("S", 0))
    assert answers == 2
    assert host.drops()["half-open-rate-limited"] == 7


def test_a_syn_again_starts_the_timer_anew() -> None:
    host = Host()
    host.listen()
    peer = Peer(host)
    peer.send("S", 0)
    host.advance(900 * MS)
    assert peer.send("S", 0) == ["S. 0:1(0) ack 1"]
    host.advance(900 * MS)
    assert peer.heard() == []
    host.advance(200 * MS)
    assert peer.heard() == ["S. 0:1(0) ack 1"]


def test_no_round_trip_is_measured_on_a_syn_ack_that_was_resent() -> None:
    # RFC 6298 §3 (Karn)
    host = Host()
    host.listen()
    peer = Peer(host)
    peer.send("S", 0)
    host.advance(300 * MS)
    peer.send("S", 0)
    host.advance(10 * MS)
    peer.send(".", 1, 1)
    assert host.stack.status(host.accept(), host.now).rtt == 0


def test_the_handshake_is_the_first_round_trip() -> None:
    host = Host()
    host.listen()
    peer = Peer(host)
    peer.send("S", 0)
    host.advance(300 * MS)
    peer.send(".", 1, 1)
    assert host.stack.status(host.accept(), host.now).rtt == 300 * MS


@both_versions
def test_a_lost_syn_ack_makes_the_window_begin_as_it_would(version: int) -> None:
    # RFC 6928 §2: after more than one loss, one segment
    for resent, segments in ((1, 10), (2, 1)):
        host = Host(version)
        host.listen()
        peer = Peer(host)
        peer.send("S", 0)
        host.advance((2**resent - 1) * SECOND + 100 * MS)
        assert peer.heard() == ["S. 0:1(0) ack 1"] * resent
        peer.send(".", 1, 1)
        tcb = host.accept()
        assert host.stack.status(tcb, host.now).snd_cwnd == segments * tcb.snd.mss


def test_old_handshakes_leave_room_for_new_ones() -> None:
    # RFC 4987 §3.4. Linux: as long as they fill more than half of the queue
    host = Host()
    listener = host.listen(backlog=10)
    for port in range(40000, 40010):
        syn(host, port)
    host.advance(8 * SECOND)  # after 2 instead of 5 resends: 1 + 2 + 4 s
    assert listener.half_open == 5
    host.advance(50 * SECOND)
    assert listener.half_open == 5


def test_a_syn_queue_that_is_full_takes_no_more() -> None:
    # Linux: one more than the backlog
    host = Host(syn_cookies=0)
    listener = host.listen(backlog=3)
    answered = [bool(Peer(host, 40000 + i).send("S", 0)) for i in range(6)]
    assert answered == [True] * 4 + [False] * 2
    assert listener.half_open == 4
    assert host.drops()["syn-queue-full"] == 2


def test_a_handshake_that_cannot_become_a_connection_waits() -> None:
    host = Host(max_connections=1)
    host.listen()
    first, second = Peer(host, 40000), Peer(host, 40001)
    for peer in (first, second):
        peer.send("S", 0)
    first.send(".", 1, 1)
    second.send(".", 1, 1)
    assert host.drops()["connections-full"] == 1
    host.abort(host.accept())
    second.send(".", 1, 1)
    assert host.accept().remote.port == 40001


@both_versions
def test_every_answer_has_the_dscp_and_ttl_of_the_listener(version: int) -> None:
    host = Host(version)
    host.listen(config=TcpConfig(ttl=9, dscp=46))
    peer = Peer(host)
    peer.put("S", 0)
    peer.put(".", 70_000, 1, b"beyond the window")
    host.turn()
    seen = [(reply.flags, reply.packet.hop_limit, reply.packet.dscp) for reply in peer.replies()]
    assert seen == [("S.", 9, 46), (".", 9, 46)]


def test_the_flow_label_of_the_handshake_is_that_of_the_connection() -> None:
    # RFC 6437 §3
    host = Host(6)
    host.listen()
    peer = Peer(host)
    peer.put("S", 0)
    host.turn()
    first = peer.reply().packet.frame
    peer.put("P.", 1, 1, b"x")
    host.turn()
    second = peer.reply().packet.frame
    assert first[10:14] == second[10:14] and first[11:14] != b"\0\0\0"


@pytest.mark.parametrize("flags", ["S", "S."])
def test_a_syn_in_the_window_ends_the_handshake(flags: str) -> None:
    # RFC 9293 §3.10.7.4, fourth; Linux: with a RST
    host = Host()
    host.listen()
    peer = Peer(host)
    peer.send("S", 0)
    (reply,) = peer.send(flags, 100, 1)
    assert reply.startswith("R")
    assert not host.stack.half_open()


@pytest.mark.parametrize("flags", ["R", "R."])
def test_a_reset_in_the_window_but_not_at_its_edge_means_a_challenge(flags: str) -> None:
    # RFC 5961 §3.2
    host = Host()
    host.listen()
    peer = Peer(host)
    peer.send("S", 0)
    assert peer.send(flags, 100, 1) == [". 1:1(0) ack 1"]
    assert peer.send(flags, 100, 1) == []
    assert len(host.stack.half_open()) == 1
    peer.send(".", 1, 1)
    host.accept()


def test_a_segment_from_before_the_syn_is_answered_by_paws() -> None:
    # RFC 7323 §5.3 R1
    host = Host()
    host.listen()
    peer = Peer(host)
    peer.tsval = 1000
    peer.send("S", 0, options=encode_options(mss=1000, tsval=1000))
    peer.tsval = 999
    assert peer.send(".", 1, 1, b"x") == [". 1:1(0) ack 1"]
    assert len(host.stack.half_open()) == 1
    peer.tsval = 1001
    peer.send(".", 1, 1)
    host.accept()


def test_a_snapshot_shows_who_knocks() -> None:
    host = Host()
    host.listen()
    Peer(host, 40000).send("S", 0)
    host.advance(SECOND + SECOND // 2)
    (row,) = (each for each in take_snapshot(host.stack, host.now)["sockets"][1:])
    assert (row["state"], row["remote"]) == ("SYN_RECEIVED", (THEIRS[4], 40000))
    assert Endpoint(*row["local"]) == (OURS[4], 80)
    name, left, expired = row["timer"] or ("", 0, 0)
    assert (name, expired) == ("rto", 1) and SECOND < left < 2 * SECOND


# SYN cookies (RFC 4987 §3.6)


def knock(host: Host, port: int, options: bytes = b"") -> Peer:
    """A peer whose SYN was answered."""
    peer = Peer(host, port)
    peer.put("S", 0, options=options)
    host.turn()
    return peer


@both_versions
def test_a_new_client_gets_in_while_a_flood_fills_the_queue(version: int) -> None:
    host = Host(version)
    listener = host.listen(backlog=8)
    for port in range(10_000, 10_200):
        syn(host, port)
    host.turn()
    host.drain()
    assert len(host.stack.half_open()) == listener.half_open == 9
    mss = encode_options(mss=1460)
    peer = knock(host, 40000, mss)
    (reply,) = peer.replies()
    assert str(reply) == "S. 0:1(0) ack 1"
    assert len(host.stack.half_open()) == 9  # no state for it
    assert "SYN cookie" in host.notes
    assert peer.send(".", 1, 1, b"hello") == [". 1:1(0) ack 6"]
    tcb = host.accept()
    assert host.read(tcb) == b"hello"
    assert tcb.snd.adv_mss == (1460 if version == 4 else 1440)
    assert host.drops()["syn-cookies-received"] == 1
    assert host.drops()["syn-cookies-sent"] == 192


def test_what_the_syn_offered_comes_back_in_the_timestamp() -> None:
    host = Host(syn_cookies=2)
    host.listen()
    peer = knock(host, 40000, encode_options(mss=1460, wscale=5, sack_permitted=True, tsval=77))
    (reply,) = peer.replies()
    assert (reply.options.wscale, reply.options.sack_permitted) == (7, True)
    host.advance(70 * MS)
    ack = encode_options(tsval=147, tsecr=reply.options.tsval or 0)
    peer.put(".", 1, 1, win=1000, options=ack)
    host.turn()
    tcb = host.accept()
    info = host.stack.status(tcb, host.now)
    assert (info.snd_wscale, info.rcv_wscale, info.sack, info.timestamps) == (5, 7, True, True)
    assert info.snd_wnd == 1000 << 5
    assert tcb.ts_recent == 147


@both_versions
def test_without_timestamps_nothing_is_agreed_that_could_not_be_kept(version: int) -> None:
    host = Host(version, syn_cookies=2)
    host.listen()
    peer = knock(host, 40000, encode_options(mss=1460, wscale=5, sack_permitted=True))
    (reply,) = peer.replies()
    assert (reply.options.wscale, reply.options.sack_permitted) == (None, False)
    peer.send(".", 1, 1)
    info = host.stack.status(host.accept(), host.now)
    assert (info.snd_wscale, info.sack, info.timestamps) == (0, False, False)


@both_versions
def test_forged_and_stale_cookies_are_reset(version: int) -> None:
    host = Host(version, syn_cookies=2)
    host.listen()
    peer = knock(host, 40000)
    peer.heard()
    assert peer.send(".", 1, 77) == ["R 77:77(0)"]
    assert host.drops()["syn-cookies-failed"] == 1
    host.advance(121 * SECOND)
    knock(host, 40001)  # cookies are in use
    host.drain()
    assert peer.send(".", 1, 1) == ["R 1:1(0)"]
    assert host.stack.connections() == []


def test_a_cookie_counts_only_while_cookies_are_sent() -> None:
    host = Host(syn_cookies=1)
    host.listen(backlog=0)
    knock(host, 40000)
    late = knock(host, 40001)
    late.heard()
    host.advance(121 * SECOND)
    assert late.send(".", 1, 1) == ["R 1:1(0)"]
    assert "syn-cookies-failed" not in host.drops()


def test_a_cookie_is_answered_once_only_and_not_resent() -> None:
    # RFC 4987: no amplification
    host = Host(syn_cookies=2)
    host.listen()
    peer = knock(host, 40000)
    host.advance(60 * SECOND)
    assert len(peer.replies()) == 1
    assert host.stack.pending_timers() == 0


def test_a_full_accept_queue_drops_the_ack_of_a_cookie_too() -> None:
    host = Host(syn_cookies=2)
    listener = host.listen(backlog=0)
    first, second = knock(host, 40000), knock(host, 40001)
    for peer in (first, second):
        peer.heard()
        assert peer.send(".", 1, 1) == []
    assert len(listener.queue) == 1
    assert host.drops()["listen-overflow"] == 1
    host.accept()
    second.send(".", 1, 1)
    assert host.accept().remote.port == 40001


@both_versions
def test_a_time_wait_makes_room_for_a_syn_beyond_the_backlog(version: int) -> None:
    host = Host(version)
    host.listen(backlog=0)
    peer = Peer(host)
    tcb = peer.establish(mss=1000)
    host.close(tcb)
    peer.send("F.", 1, 2)
    knock(host, 41000)
    again = Peer(host)
    again.isn += 1000
    assert again.send("S", 0) == ["S. 0:1(0) ack 1"]
    assert len(host.stack.half_open()) == 2


# A full accept queue


def test_abort_on_overflow_resets_whom_there_is_no_place_for() -> None:
    # Linux tcp_abort_on_overflow
    host = Host(abort_on_overflow=True)
    listener = host.listen(backlog=0)
    first, second = knock(host, 40000), Peer(host, 40001)
    first.heard()
    listener.backlog = 1
    second.send("S", 0)
    listener.backlog = 0
    assert first.send(".", 1, 1) == []
    assert second.send(".", 1, 1) == ["R 1:1(0)"]
    assert host.stack.half_open() == []
    assert host.drops()["listen-overflow"] == 1
    assert host.notes[-2:] == ["accept queue full", "reset"]
