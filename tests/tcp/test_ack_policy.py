"""When text is acknowledged, as far as scripts/delayed-ack does not show it."""

import pytest

from tests.stack.host import MS, SECOND, Host, Peer
from ustack.config import TcpConfig
from ustack.stack import socket_constants as c
from ustack.stack.socket_options import SocketOptions
from ustack.tcp import ack_policy
from ustack.tcp.tcb import NEVER, Tcb


def established(**tcp: int) -> tuple[Host, Peer, Tcb]:
    host = Host(4, tcp=TcpConfig(**tcp))  # type: ignore[arg-type]
    peer = Peer(host)
    return host, peer, peer.establish(mss=1000)


def ack_after(host: Host, peer: Peer, at: int) -> int:
    """How long the ACK of one more octet takes, µs."""
    began = host.now
    peer.send("P.", at, 1, b"x")
    while not peer.heard():
        host.advance(MS)
        assert host.now - began < SECOND
    return host.now - began


@pytest.mark.parametrize("gap", [1, 15, 25, 60, 150, 400, 900])
def test_no_ack_waits_half_a_second(gap: int) -> None:
    # RFC 9293 §3.8.6.3 (MUST-40); Linux: 200 ms, less than the least RTO
    host, peer, tcb = established(quick_acks=0)
    for at in range(1, 30):
        assert ack_after(host, peer, at) <= 201 * MS
        host.advance(gap * MS)
        host.read(tcb)


def test_a_delay_in_vain_doubles_the_next_one() -> None:
    host, peer, tcb = established(quick_acks=0)
    for _ in range(100):
        tcb.rtt.sample(150 * MS, tcb.snd.una, tcb.snd.nxt)
    assert 40 * MS <= ack_after(host, peer, 1) <= 42 * MS
    assert tcb.ato == 80 * MS
    assert 81 * MS <= ack_after(host, peer, 2) <= 83 * MS
    # it was 80 / 2 + 41 ms since the last one, and is doubled again
    assert 160 * MS <= tcb.ato <= 166 * MS


def test_the_delay_may_be_bounded() -> None:
    host, peer, tcb = established(quick_acks=0, delayed_ack_max_us=10 * MS)
    assert 10 * MS <= ack_after(host, peer, 1) <= 12 * MS
    assert host.stack.status(tcb, host.now).ato == 10 * MS


def test_without_a_delay_every_segment_is_acknowledged_at_once() -> None:
    host, peer, _ = established(quick_acks=0, delayed_ack_us=0)
    for at in range(1, 5):
        assert ack_after(host, peer, at) <= MS


def test_the_option_bounds_the_delay() -> None:
    # Linux TCP_DELACK_MAX_US
    options = SocketOptions(TcpConfig())
    options.set(c.IPPROTO_TCP, c.TCP_DELACK_MAX_US, 5000)
    assert options.config.delayed_ack_max_us == 5000


def test_quick_acks_are_no_more_than_the_window_has_room_for() -> None:
    _, peer, tcb = established(receive_buffer=8000)
    peer.send("P.", 1, 1, b"x" * 1000)
    assert tcb.quick_acks == 3  # 8000 / (2 * 1000), less one


def test_half_of_the_gap_and_half_of_the_delay_make_the_next_delay() -> None:
    _, _, tcb = established()
    now = tcb.text_received_at
    for gap, ato in ((0, 40), (30, 50), (10, 45), (20, 42.5), (42, 63.25), (64, 63.25)):
        now += gap * MS
        ack_policy.text_arrived(tcb, 10, 0, now)
        tcb.text_received_at = now
        assert tcb.ato == ato * MS


def test_a_reader_behind_has_its_ack_when_it_reads() -> None:
    host, peer, tcb = established(quick_acks=0, receive_buffer=4000, acks_await_reader=True)
    peer.send(".", 1, 1, b"x" * 1000)
    assert peer.send(".", 1001, 1, b"x" * 1000) == []
    assert tcb.timers.delayed_ack != NEVER
    host.read(tcb, 10)
    assert peer.heard() == [". 1:1(0) ack 2001"]
