"""Buffers that follow the traffic, at the wire: SYN windows, growth, caps; SO_*BUF fix them."""

import pytest

from tests.stack.host import MS, Host, Peer
from ustack.config import TcpConfig
from ustack.tcp.tcb import Tcb

MIB = 1 << 20
MSS = 1460


def receiving(**config: object) -> tuple[Host, Peer, Tcb]:
    """A connection with scaled windows, no timestamps and a round trip of 50 ms."""
    host = Host(tcp=TcpConfig(**config))  # type: ignore[arg-type]
    peer = Peer(host)
    tcb = peer.establish(mss=MSS, wscale=7, rtt=50 * MS)
    return host, peer, tcb


def bulk(host: Host, peer: Peer, tcb: Tcb, trips: int, *, read: bool = True) -> list[int]:
    """The peer fills the window, once in 50 ms; the windows offered, in bytes."""
    windows = []
    position = tcb.rcv.nxt - tcb.rcv.irs
    for _ in range(trips):
        host.advance(50 * MS)
        left = tcb.rcv.adv - tcb.rcv.nxt
        while left > 0:
            size = min(MSS, left)
            peer.send(".", position, 1, bytes(size))
            position += size
            left -= size
            if read:
                host.read(tcb)
        windows.append(tcb.rcv.adv - tcb.rcv.nxt)
    return windows


def test_a_reader_that_keeps_pace_is_offered_more_up_to_the_cap() -> None:
    host, peer, tcb = receiving(receive_buffer_max=1 * MIB)
    windows = bulk(host, peer, tcb, 8)
    assert windows[-1] > 900_000
    assert tcb.receive_buffer.ceiling == 1 * MIB
    assert max(windows) <= 1 * MIB


def test_nobody_reads_so_the_window_closes_and_no_more_than_the_first_buffer_is_held() -> None:
    host, peer, tcb = receiving()
    assert bulk(host, peer, tcb, 5, read=False)[-1] == 0
    assert tcb.receive_buffer.readable <= 2 * 65_536


def test_a_slow_reader_keeps_a_small_window() -> None:
    host, peer, tcb = receiving()
    position = 1
    for _ in range(60):
        host.advance(50 * MS)
        size = min(MSS, tcb.rcv.adv - tcb.rcv.nxt)
        peer.send(".", position, 1, bytes(size))
        position += size
        host.read(tcb, 1000)
    assert tcb.receive_buffer.ceiling <= 2 * 65_536
    assert tcb.rcv.adv - tcb.rcv.nxt <= 2 * 65_536


@pytest.mark.parametrize(
    "config", [{"moderate_receive_buffer": False}, {"receive_buffer": 65_536}], ids=str
)
def test_a_fixed_window_does_not_follow(config: dict[str, int]) -> None:
    host, peer, tcb = receiving(**config)
    assert max(bulk(host, peer, tcb, 8)) <= 2 * 65_536


def test_a_buffer_fixed_later_is_the_bound_from_then_on() -> None:
    host, peer, tcb = receiving()
    host.stack.configure(tcb, TcpConfig(receive_buffer=100_000), host.now)
    host.turn()
    # rounded up to what the window field can say
    assert max(bulk(host, peer, tcb, 8)) < 100_000 + (1 << tcb.rcv.wscale)
    assert tcb.receive_buffer.ceiling == 100_000


def test_the_right_edge_never_moves_left_while_the_reader_changes_its_pace() -> None:
    # RFC 9293 §3.8.6, SHLD-14
    host, peer, tcb = receiving()
    edge, position = tcb.rcv.adv, 1
    for step in range(400):
        size = min(MSS, tcb.rcv.adv - tcb.rcv.nxt)
        peer.send(".", position, 1, bytes(size))
        position += size
        if step // 50 % 2:
            host.read(tcb)
        host.advance(1 * MS)
        assert tcb.rcv.adv >= edge
        edge = tcb.rcv.adv


def test_the_send_buffer_begins_small_and_holds_two_initial_windows_once_open() -> None:
    # Linux: 16384, then twice ten segments of 4352 bytes of memory each
    host, _, tcb = receiving()
    assert TcpConfig().send_buffer_initial == 16_384
    assert tcb.send_buffer.limit == 87_040
    assert host.send(tcb, bytes(MIB)) == 87_040


def test_the_send_buffer_grows_with_the_congestion_window_up_to_its_cap() -> None:
    host, peer, tcb = receiving(send_buffer_max=200_000, slow_start="standard")
    sent = host.send(tcb, bytes(MIB))
    for _ in range(6):
        host.advance(50 * MS)
        peer.send(".", 1, tcb.snd.nxt - tcb.snd.iss, win=65535)
        sent += host.send(tcb, bytes(MIB))
    assert tcb.send_buffer.limit == 200_000
    assert len(tcb.send_buffer) <= 200_000


def test_a_writer_that_leaves_the_buffer_empty_gets_no_larger_one() -> None:
    host, peer, tcb = receiving()
    for number in range(30):
        host.send(tcb, bytes(10_000))
        host.advance(50 * MS)
        peer.send(".", 1, 1 + 10_000 * (number + 1), win=65535)
    assert tcb.send_buffer.limit == 87_040


def test_a_fixed_send_buffer_stays() -> None:
    host, peer, tcb = receiving(send_buffer=30_000)
    for _ in range(5):
        host.send(tcb, bytes(MIB))
        host.advance(50 * MS)
        peer.send(".", 1, tcb.snd.nxt - tcb.snd.iss, win=65535)
    assert tcb.send_buffer.limit == 30_000


def test_a_larger_segment_takes_nothing_from_a_buffer_that_has_grown() -> None:
    """Else the window that was promised before, once filled, would be more than the buffer."""
    host, peer, tcb = receiving(receive_buffer_initial=1000)
    for trip in range(2):  # the reader keeps pace
        host.advance(50 * MS)
        peer.send(".", 1 + 1000 * trip, 1, bytes(1000))
        host.advance(50 * MS)
        host.read(tcb)
    grown = tcb.receive_buffer.ceiling
    assert grown > 4 * 1000
    peer.send(".", 2001, 1, bytes(1024))
    assert tcb.receive_buffer.ceiling == grown


def test_a_window_that_was_full_before_the_first_read_is_no_round_trip_sample() -> None:
    """Its clock begins with the first read: else the trip would be 1 µs, the buffer the largest."""
    host, peer, tcb = receiving(receive_buffer_initial=1000)
    peer.send(".", 1, 1, bytes(1000))
    host.advance(50 * MS)
    host.read(tcb)
    assert tcb.tuner is not None
    assert tcb.tuner.rtt == 0
    for start in (1001, 2001):
        host.advance(50 * MS)
        peer.send(".", start, 1, bytes(1000))
        host.read(tcb)
    assert tcb.tuner.rtt >= 50 * MS
    assert tcb.receive_buffer.ceiling < 100_000
