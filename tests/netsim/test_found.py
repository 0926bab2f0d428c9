"""Faults that the simulation found, each played again by hand in a few segments."""

import pytest

from tests.stack.host import MSS, OURS, THEIRS, Host, Peer, both_versions, ip_frame
from tools.simulation.application import Application, Ending, Plan
from tools.simulation.observer import BrokenRule
from tools.simulation.scenario import Dialogue, Incident, Kind, Scenario
from tools.simulation.verdict import End, judge
from tools.simulation.world import World
from ustack.config import StackConfig, TcpConfig
from ustack.device.link import LinkConfig
from ustack.stack.stack import Stack
from ustack.wire import icmp, ipv6
from ustack.wire.tcp_options import encode_options
from ustack.wire.virtio import HEADER_LEN


def test_a_retransmission_that_acknowledges_more_brings_its_window_along() -> None:
    """Else SND.UNA would move with the old window, and the right edge without the peer's word."""
    host = Host()
    peer = Peer(host)
    tcb = peer.establish(win=3000)
    host.send(tcb, bytes(10_000))
    peer.heard()
    peer.send(".", 101, 1, win=3000)  # SND.WL1 is 101: the text before it was lost
    peer.send(".", 1, 1001, bytes(100), win=2000)  # sent again, later than that ACK
    assert all(not reply.payload for reply in peer.replies())  # 3001 is still the edge
    assert tcb.snd.wnd == 2000


def test_the_window_of_a_syn_ack_is_not_scaled_in_a_simultaneous_open_either() -> None:
    host = Host()
    peer = Peer(host, port=80, our_port=5000)
    tcb = host.stack.connect(peer.src, 80, host.now, local_port=5000)
    host.turn()
    peer.heard()
    syn = encode_options(mss=MSS, wscale=7)
    peer.send("S", 0, win=2000, options=syn)
    peer.send("S.", 0, 1, win=2000, options=syn)
    assert tcb.snd.wnd <= 2000


@both_versions
def test_a_segment_behind_the_one_that_ended_the_connection_finds_it_closed(version: int) -> None:
    """Both in one batch: the connection is over, but no flush has taken it out yet."""
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    peer.send("F.", 1, 1)
    host.close(tcb)
    peer.heard()
    peer.put(".", 2, 2)
    peer.put(".", 2, 2)
    host.turn()
    assert peer.heard() == ["R 2:2(0)"]
    assert host.is_clean()


def test_ipv6_believes_packet_too_big_even_if_ipv4_would_send_without_df() -> None:
    """No router fragments IPv6 (RFC 8200 §4.5): there is no other way to get through."""
    host = Host(6, TcpConfig(path_mtu_discovery=False), mtu=9000)
    peer = Peer(host)
    tcb = peer.establish(mss=8940)
    host.send(tcb, bytes(5000))
    sent = host.frames[-1]
    peer.heard()
    message = icmp.encode_v6(
        sent.dst, sent.src, icmp.V6_PACKET_TOO_BIG, 0, 1280, sent.frame[HEADER_LEN:200]
    )
    host.input(ip_frame(THEIRS[6], OURS[6], ipv6.ICMPV6, message))
    assert tcb.snd.mss == 1220
    assert {reply.packet.ip_length for reply in peer.replies()} <= {1280, 60 + 5000 % 1220}


@pytest.mark.parametrize("timestamps", [False, True], ids=("plain", "timestamps"))
def test_sack_blocks_fit_the_smallest_mtu(timestamps: bool) -> None:
    """68 bytes (RFC 791 §3.2): three blocks, or one beside timestamps."""
    host = Host(mtu=68)
    peer = Peer(host)
    peer.establish(sack=True, tsval=1000 if timestamps else None)
    for gap in range(4):
        peer.send(".", 101 + 20 * gap, 1, bytes(10))
    peer.put(".", 201, 1, bytes(10))
    host.turn()
    reply = peer.reply()
    assert reply.packet.ip_length <= 68
    assert len(reply.options.sack) == (1 if timestamps else 3)


def test_a_gap_is_filled_though_the_memory_for_reassembly_is_used_up() -> None:
    """Small pieces are charged with their bookkeeping: a few of them use up a small buffer."""
    host = Host(tcp=TcpConfig(receive_buffer=2000))
    peer = Peer(host)
    tcb = peer.establish()
    for start in range(101, 1901, 20):
        peer.send(".", start, 1, bytes(10))
    assert tcb.receive_buffer.held > 3000
    assert peer.send(".", 1, 1, bytes(10)) == [". 1:1(0) ack 11"]  # touches no block
    assert peer.send(".", 11, 1, bytes(95)) == [". 1:1(0) ack 111"]  # reaches into the first one
    assert len(host.read(tcb)) == 110


def test_the_two_syns_of_a_simultaneous_open_are_no_round_trip_sample() -> None:
    """Karn's rule (RFC 6298 §3): the ACK that follows may be one for the first of them."""
    host = Host()
    peer = Peer(host, port=80, our_port=5000)
    tcb = host.stack.connect(peer.src, 80, host.now, local_port=5000)
    host.turn()
    host.advance(250_000)
    peer.heard()
    syn = encode_options(mss=MSS)
    peer.send("S", 0, options=syn)  # and our SYN,ACK leaves
    host.advance(100)
    peer.send("S.", 0, 1, options=syn)  # for the SYN that left 250 ms ago
    host.send(tcb, bytes(100))
    peer.heard()
    host.advance(900_000)  # the RTO is 1 s as long as nothing was measured
    assert peer.heard() == []
    host.advance(200_000)
    assert len(peer.heard()) == 1


def test_the_accurate_ecn_option_is_left_out_of_a_syn_ack_that_has_no_room_for_it() -> None:
    """Beside all the others, at the smallest MTU (RFC 791 §3.2)."""
    for mtu, expected in ((68, 60), (72, 72)):
        host = Host(tcp=TcpConfig(ecn=3), mtu=mtu)
        host.listen()
        peer = Peer(host)
        options = encode_options(mss=MSS, wscale=7, sack_permitted=True, tsval=1)
        peer.put("S", 0, ace=7, options=options)
        host.turn()
        assert host.frames[-1].ip_length == expected


def test_accurate_ecn_keeps_to_the_smallest_mtu() -> None:
    """Timestamps, an AccECN option and the least text would be 72 bytes (RFC 791 §3.2: 68)."""
    config = TcpConfig(ecn=3, sack=False, window_scaling=False)  # the SYN,ACK has room for it
    plan = Plan(200, writes=(200, 200))
    scenario = Scenario(
        seed=1, dialogues=(Dialogue(plan, plan),), mtu=68, client=config, server=config
    )
    assert World(scenario).run().outcomes == [(None, None)]  # the onlooker measures each packet


@pytest.mark.parametrize("seed", [2, 9, 33])
def test_two_handshakes_by_cookie_at_once_are_told_apart(seed: int) -> None:
    """A client restarts and connects anew: two SYNs are answered, in either order, and any of the
    server's two connections may be reset, or speak, after the other one has begun."""
    hasty, calm = Plan(20_000, Ending.ABORT, abort_at=10), Plan(0, Ending.CLOSE)
    road = LinkConfig(reorder=0.3)
    scenario = Scenario(
        seed=seed,
        dialogues=(Dialogue(hasty, calm), Dialogue(hasty, calm, start_us=1000, port=0)),
        there=road,
        back=road,
        syn_cookies=2,
        incidents=(Incident(1000, Kind.RESTART_CLIENT),),
    )
    result = World(scenario).run()
    assert result.counters["syn-cookies-sent"] >= 2


def test_what_a_ghost_has_acknowledged_is_not_missed() -> None:
    """The server had closed, its RST was lost, and a cookie took what was sent again."""
    ends = []
    for name, mine, peers in (("client", Plan(1), Plan(0)), ("server", Plan(0), Plan(1))):
        end = Application(name, mine, peers, 1, lambda _after, _what: None)
        end.written = mine.size
        end.connected = end.shut = end.closed = end.ended = True
        ends.append(end)
    client, server = ends
    stack = Stack(StackConfig(("10.0.0.1/24",)), secret=bytes(16), randrange=lambda _: 0)
    server.tcb = stack.connect("10.0.0.2", 80, 0)  # has received nothing
    config = TcpConfig()
    other = End(server, config, None)
    judge(End(client, config, None, haunted=True), other, False)
    with pytest.raises(BrokenRule, match="only 0 of 1 bytes"):
        judge(End(client, config, None), other, False)
