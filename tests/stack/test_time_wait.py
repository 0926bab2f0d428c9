"""TIME-WAIT: RFC 9293 §3.10.7.4, RFC 6191, RFC 1337; the cap and the memory of it."""

import gc
import tracemalloc

import pytest

from tests.stack.host import MS, OUR_PORT, PEER_PORT, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.errors import AddressInUse, AddressNotAvailable
from ustack.stack.time_wait import TimeWait, TimeWaitQueue
from ustack.stack.timer_wheel import TimerWheel
from ustack.tcp.state import ESTABLISHED

MINUTE = 60 * SECOND


def waiting(
    version: int = 4,
    tcp: TcpConfig | None = None,
    *,
    tsval: int | None = None,
    host: Host | None = None,
    port: int = PEER_PORT,
) -> tuple[Host, Peer]:
    """A connection that we closed first. The peer's FIN was 1, ours 1; both next numbers are 2."""
    host = host or Host(version, tcp)
    peer = Peer(host, port)
    tcb = peer.establish(tsval=tsval)
    host.close(tcb)
    peer.send(".", 1, 2)
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]
    return host, peer


def count(host: Host) -> int:
    return len(host.stack.time_waits())


@both_versions
def test_a_repeated_fin_is_acknowledged_again_and_restarts_the_time(version: int) -> None:
    host, peer = waiting(version)
    host.advance(50 * SECOND)
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]
    assert "TIME_WAIT re-ACK" in host.notes
    host.advance(50 * SECOND)
    assert count(host) == 1
    host.advance(11 * SECOND)
    assert count(host) == 0
    assert host.is_clean()


@both_versions
def test_the_time_is_twice_the_lifetime_of_a_segment(version: int) -> None:
    host, _ = waiting(version, TcpConfig(msl_us=2 * MINUTE))
    host.advance(4 * MINUTE - SECOND)
    assert count(host) == 1
    host.advance(2 * SECOND)
    assert count(host) == 0


@both_versions
def test_stray_text_is_acknowledged_and_does_not_restart_the_time(version: int) -> None:
    host, peer = waiting(version)
    host.advance(50 * SECOND)
    assert peer.send("P.", 1, 2, b"stray") == [". 2:2(0) ack 2"]
    assert peer.send(".", 500, 2) == [". 2:2(0) ack 2"]
    host.advance(11 * SECOND)
    assert count(host) == 0


@both_versions
def test_a_bare_ack_in_order_is_not_answered(version: int) -> None:
    host, peer = waiting(version)
    assert peer.send(".", 2, 2) == []
    assert peer.send("", 2) == []
    assert count(host) == 1


def test_the_answer_carries_window_and_timestamps_as_before() -> None:
    host, peer = waiting(tsval=1000)
    host.advance(SECOND)
    peer.tsval = 1001
    peer.put("F.", 1, 2)
    host.turn()
    reply = peer.reply()
    assert reply.window > 0
    assert reply.options.tsval is not None
    assert reply.options.tsecr == 1000


def test_an_old_timestamp_is_only_acknowledged() -> None:
    # PAWS: it does not restart the time
    host, peer = waiting(tsval=1000)
    host.advance(50 * SECOND)
    peer.tsval = 900
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]
    host.advance(11 * SECOND)
    assert count(host) == 0


def test_two_stacks_in_time_wait_do_not_war() -> None:
    host, peer = waiting()
    answers = [peer.send("P.", 1, 2, b"x") for _ in range(2000)]
    assert sum(map(len, answers)) <= 1000
    assert host.drops()["time-wait-rate-limited"] >= 1000


# RST


@both_versions
def test_an_exact_reset_ends_time_wait_as_in_linux(version: int) -> None:
    host, peer = waiting(version)
    assert peer.send("R", 3) == []
    assert peer.send("R", 1) == []
    assert count(host) == 1
    assert peer.send("R", 2) == []
    assert count(host) == 0
    assert host.is_clean()
    assert "TIME_WAIT -> CLOSED" in host.notes


@both_versions
def test_a_reset_is_ignored_if_so_configured(version: int) -> None:
    # RFC 1337
    host, peer = waiting(version, TcpConfig(rfc1337=True))
    assert peer.send("R", 2) == []
    assert count(host) == 1


# SYN


def reopened(host: Host, peer: Peer) -> None:
    (request,) = host.stack.half_open()
    # Above all that the old connection sent (RFC 6191 §2); ours had got to 2
    assert 2 < (request.numbers().iss - peer.our_isn) & 0xFFFF_FFFF < 0x8000_0000


@both_versions
def test_a_syn_above_the_old_fin_opens_the_pair_again(version: int) -> None:
    # MAY-2 of RFC 9293 §3.6.1
    host, peer = waiting(version)
    again = Peer(host)
    again.isn += 1000
    assert again.send("S", 0) == ["S. 0:1(0) ack 1"]
    reopened(host, peer)
    assert again.send(".", 1, 1) == []
    assert host.accept().state is ESTABLISHED
    assert count(host) == 0


@both_versions
@pytest.mark.parametrize("seq", [2, 1, 0, -5000])
def test_a_syn_that_is_not_newer_is_not_answered(version: int, seq: int) -> None:
    # RFC 6191 §2
    host, peer = waiting(version)
    assert peer.send("S", seq) == []
    assert count(host) == 1


@both_versions
def test_a_syn_with_a_newer_timestamp_opens_the_pair_whatever_its_number(version: int) -> None:
    # RFC 6191 §2
    host, peer = waiting(version, tsval=1000)
    again = Peer(host)
    again.isn -= 50_000
    options = again.syn_options(1000, None, False, 1001)
    assert again.send("S", 0, options=options) == ["S. 0:1(0) ack 1"]
    reopened(host, peer)


def test_a_syn_with_the_same_timestamp_needs_a_newer_number() -> None:
    # RFC 6191 §2
    host, peer = waiting(tsval=1000)
    options = peer.syn_options(1000, None, False, 1000)
    assert peer.send("S", 1, options=options) == []
    again = Peer(host)
    again.isn += 1000
    assert again.send("S", 0, options=options) == ["S. 0:1(0) ack 1"]


def test_a_syn_with_an_older_timestamp_is_not_answered() -> None:
    host, peer = waiting(tsval=1000)
    options = peer.syn_options(1000, None, False, 999)
    assert peer.send("S", 5000, options=options) == []
    assert count(host) == 1


def test_a_newer_syn_is_not_answered_when_nobody_listens() -> None:
    host, peer = waiting()
    host.stack.close_listener(host.stack.listeners()[0], host.now)
    assert peer.send("S", 1000) == []
    assert count(host) == 1


def test_a_syn_ack_is_acknowledged() -> None:
    _, peer = waiting()
    assert peer.send("S.", 1000, 2) == [". 2:2(0) ack 2"]


# The cap


def test_beyond_the_cap_the_oldest_goes() -> None:
    host = Host(max_time_waits=3)
    for port in range(40000, 40005):
        waiting(host=host, port=port)
        host.advance(MS)
    assert count(host) == 3
    assert host.drops()["time-wait-evicted"] == 2
    remote_ports = [int.from_bytes(record.flow[-4:-2], "big") for record in host.stack.time_waits()]
    assert remote_ports == [40002, 40003, 40004]
    host.advance(2 * MINUTE)
    assert host.is_clean()


def test_a_cap_of_none_keeps_none_but_the_last() -> None:
    host = Host(max_time_waits=0)
    waiting(host=host, port=40000)
    waiting(host=host, port=40001)
    assert count(host) == 1


def test_records_that_ended_early_do_not_count_against_the_cap() -> None:
    host = Host(max_time_waits=100)
    peers = [waiting(host=host, port=port)[1] for port in range(40000, 40100)]
    for peer in peers[1:]:
        peer.send("R", 2)
    for port in range(41000, 41099):
        waiting(host=host, port=port)
    assert count(host) == 100
    assert "time-wait-evicted" not in host.drops()
    waiting(host=host, port=42000)
    assert host.drops()["time-wait-evicted"] == 1
    assert not any(record.flow[-4:-2] == (40000).to_bytes(2, "big")
                   for record in host.stack.time_waits())  # fmt: skip


def test_the_oldest_of_an_empty_queue_is_nobody() -> None:
    assert TimeWaitQueue().oldest() is None


def test_a_record_needs_at_most_400_bytes() -> None:
    # All of it, with its entries in the tables: measured over many
    gc.collect()
    host = Host(6)
    (flow_size, records) = (36, 2000)
    peer = Peer(host)
    tcb = peer.establish()
    queue, wheel = TimeWaitQueue(), TimerWheel()
    table: dict[bytes, TimeWait] = {}
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(records):
        tcb.flow = number.to_bytes(flow_size, "big")
        record = TimeWait(tcb, host.now)
        table[record.flow] = record
        wheel.insert(record, host.now + number * 100 * MS, host.now)
        queue.add(record)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(table) == queue.count == len(wheel) == records
    assert used / records <= 400


# Outgoing connections (Linux tcp_tw_reuse)


def closed_by_us(host: Host, *, tsval: int | None) -> Peer:
    peer = Peer(host)
    tcb = peer.connected(tsval=tsval)
    host.close(tcb)
    peer.send(".", 1, 2)
    peer.send("F.", 1, 2)
    peer.heard()
    return peer


@both_versions
def test_with_timestamps_a_pair_is_used_again_after_a_second(version: int) -> None:
    host = Host(version)
    old = closed_by_us(host, tsval=1000)
    with pytest.raises(AddressInUse):
        Peer(host).connect()
    host.advance(SECOND + MS)
    again = Peer(host)
    again.connect()
    assert again.heard() == ["S 0:1(0)"]
    assert 2 < (again.our_isn - old.our_isn) & 0xFFFF_FFFF < 0x8000_0000
    assert count(host) == 0


@both_versions
def test_without_timestamps_a_pair_is_not_used_again(version: int) -> None:
    host = Host(version)
    closed_by_us(host, tsval=None)
    host.advance(30 * SECOND)
    with pytest.raises(AddressInUse):
        Peer(host).connect()


def test_when_every_ephemeral_port_is_held_the_address_is_not_available() -> None:
    host = Host(ephemeral_ports=(50_000, 50_003))
    for _ in range(4):
        tcb = host.stack.connect("10.0.0.2", PEER_PORT, host.now)
        host.turn()
        peer = Peer(host, our_port=tcb.local.port)
        peer.heard()
        peer.send("S.", 0, 1, options=peer.syn_options(1000, None, False, 5, peer.tsecr))
        peer.tsval = 6
        host.close(tcb)
        peer.send(".", 1, 2)
        peer.send("F.", 1, 2)
    assert count(host) == 4
    with pytest.raises(AddressNotAvailable):
        host.stack.connect("10.0.0.2", PEER_PORT, host.now)
    host.stack.connect("10.0.0.2", PEER_PORT + 1, host.now)  # another peer is no problem
    host.advance(SECOND + MS)
    host.stack.connect("10.0.0.2", PEER_PORT, host.now)
    assert count(host) == 3


def test_the_reply_to_a_new_syn_meets_no_stranger() -> None:
    # The port of the tests is that of a listener too: both live side by side
    host, peer = waiting()
    assert peer.our_port == OUR_PORT
    other = Peer(host, PEER_PORT + 1)
    assert other.send("S", 0) == ["S. 0:1(0) ack 1"]
    assert count(host) == 1


def test_bare_acks_out_of_order_are_answered_twice_a_second_at_most() -> None:
    # Linux tw_last_oow_ack_time: two ends that disagree must not answer each other for ever
    host, peer = waiting()
    assert peer.send(".", 500, 2) == [". 2:2(0) ack 2"]
    assert peer.send(".", 500, 2) == []
    host.advance(501 * MS)
    assert peer.send(".", 500, 2) == [". 2:2(0) ack 2"]
    assert peer.send("P.", 1, 2, b"text is always answered") == [". 2:2(0) ack 2"]


@both_versions
def test_a_newer_syn_that_the_listener_drops_leaves_the_record(version: int) -> None:
    host, peer = waiting(version)
    (listener,) = host.stack.listeners()
    for port in range(50_000, 50_000 + listener.backlog + 1):
        other = Peer(host, port)
        other.send("S", 0)
        other.send(".", 1, 1)
    assert listener.full()
    assert peer.send("S", 1000) == []
    assert count(host) == 1
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]
