"""Delivery-rate samples against the arithmetic of draft-cheng-iccrg-delivery-rate-estimation §3."""

from tests.stack.host import MS, SECOND, Host, Peer
from ustack.config import TcpConfig
from ustack.tcp.delivery_rate import DeliverySampler
from ustack.tcp.tcb import Tcb

RTT = 100 * MS
SEGMENT = 1000  # bytes


def established(rtt: int = RTT) -> tuple[Host, Peer, Tcb]:
    host = Host(4, TcpConfig(congestion="reno"))
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=rtt)
    host.now += 1
    return host, peer, tcb


def test_a_sample_is_what_was_delivered_over_the_longer_of_the_two_intervals() -> None:
    # §3.3: the ACKs of a flight that took 240 ms to send come at once, compressed
    sampler = DeliverySampler(0, 0)
    first = sampler.origin(0, 0)
    early, late = sampler.origin(1, 100 * MS), sampler.origin(1, 140 * MS)
    sampler.on_ack(2 * SEGMENT, first, 0, RTT, 230 * MS)
    assert sampler.sample(first).interval == 230 * MS
    sampler.on_ack(3 * SEGMENT, early, 100 * MS, 0, 230 * MS)
    assert sampler.sample(early).interval == 230 * MS  # by the ACKs
    sampler.on_ack(10 * SEGMENT, late, 240 * MS, 0, 231 * MS)
    taken = sampler.sample(late)
    assert taken.interval == 240 * MS  # by the sending: from 0 on, when its flight began
    assert taken.delivered == 10 * SEGMENT
    assert taken.rate == 10 * SEGMENT * SECOND // (240 * MS)


def test_an_interval_below_the_least_round_trip_is_no_sample() -> None:
    sampler = DeliverySampler(0, 0)
    origin = sampler.origin(0, 0)
    sampler.on_ack(SEGMENT, origin, 0, RTT, RTT - 1)
    assert sampler.sample(origin).rate == 0
    assert sampler.rate == 0


def test_until_the_bubble_is_delivered_samples_are_app_limited() -> None:
    # §3.4: C.app_limited is C.delivered + C.pipe, and ends when more than that is delivered
    sampler = DeliverySampler(1, 0)
    sampler.mark_app_limited(2 * SEGMENT)
    one = sampler.origin(2 * SEGMENT, 0)
    assert one.app_limited
    sampler.on_ack(1 + 2 * SEGMENT, one, 0, 0, RTT)
    assert sampler.origin(1, RTT).app_limited  # all of it, but no more
    sampler.on_ack(2 + 2 * SEGMENT, one, 0, 0, 2 * RTT)
    assert not sampler.origin(1, 2 * RTT).app_limited


def test_an_app_limited_sample_counts_only_if_it_is_better() -> None:
    sampler = DeliverySampler(0, 0)
    sampler.on_ack(10 * SEGMENT, sampler.origin(0, 0), 0, 0, RTT)
    assert sampler.rate == 100_000 and not sampler.rate_app_limited
    for size, rate in ((5, 100_000), (20, 200_000), (3, 200_000)):
        sampler.mark_app_limited(1 << 60)
        idle = sampler.origin(0, sampler.delivered_at)
        now = sampler.delivered_at + RTT
        sampler.on_ack(sampler.delivered + size * SEGMENT, idle, now - RTT, 0, now)
        assert sampler.rate == rate
    assert sampler.rate_app_limited


def test_a_dialogue_needs_no_sampler() -> None:
    host, peer, tcb = established()
    for turn in range(5):
        host.send(tcb, b"x" * 100)
        peer.heard()
        host.now += 50 * MS
        peer.send(".", 1, 101 + 100 * turn)
    assert tcb.sampler is None
    status = host.stack.status(tcb, host.now)
    # one segment in a round trip, as Linux counts: in segments
    assert status.delivery_rate == SEGMENT * SECOND // (50 * MS)
    assert status.app_limited


def test_a_flight_that_comes_back_in_two_pieces_gives_two_samples() -> None:
    host, peer, tcb = established()
    host.send(tcb, bytes(10 * SEGMENT))
    peer.heard()
    host.now += RTT
    peer.send(".", 1, 1 + 4 * SEGMENT)
    assert host.stack.status(tcb, host.now).delivery_rate == 4 * SEGMENT * 10
    host.now += RTT // 10
    peer.send(".", 1, 1 + 10 * SEGMENT)
    rate = host.stack.status(tcb, host.now).delivery_rate
    assert rate == 10 * SEGMENT * SECOND // (RTT + RTT // 10)


def test_octets_that_are_sacked_count_once() -> None:
    host, peer, tcb = established()
    host.send(tcb, bytes(10 * SEGMENT))
    peer.heard()
    host.now += RTT
    peer.send(".", 1, 1, sack=((2001, 4001),))
    assert host.stack.status(tcb, host.now).delivery_rate == 2 * SEGMENT * 10
    peer.send(".", 1, 4001)
    assert host.stack.status(tcb, host.now).delivery_rate == 4 * SEGMENT * 10
