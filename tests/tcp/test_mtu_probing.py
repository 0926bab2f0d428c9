"""Path MTU probing by the text itself (RFC 4821), at the wire."""

import pytest

from tests.stack.host import MS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.tcp.tcb import Tcb

MSS = 1460
PROBE = (1024 + MSS) // 2


def probing(version: int = 4, *, mode: int = 2, sack: bool = True) -> tuple[Host, Peer, Tcb]:
    """A connection in whose window of twenty segments the next write is probed with."""
    config = TcpConfig(mtu_probing=mode, tail_loss_probe=False, send_buffer=1 << 20)
    host = Host(version, config, mtu=1500 if version == 4 else 1520)
    peer = Peer(host)
    tcb = peer.establish(mss=MSS, wscale=7, sack=sack, rtt=20 * MS)
    host.send(tcb, bytes(10 * MSS))
    peer.heard()
    host.advance(20 * MS)
    peer.send(".", 1, 1 + 10 * MSS, win=2000)
    return host, peer, tcb


START = 1 + 10 * MSS


def write(host: Host, peer: Peer, tcb: Tcb, size: int = PROBE + 5 * MSS) -> list[str]:
    host.send(tcb, bytes(size))
    return [str(reply).split(" ack")[0] for reply in peer.heard()]


@both_versions
@pytest.mark.parametrize("gso_max", [0, 65536], ids=("no-offload", "offload"))
def test_a_probe_is_one_packet_that_may_not_be_fragmented(version: int, gso_max: int) -> None:
    # RFC 8899 §3, RFC 4821 §8: DF
    host, peer, tcb = probing(version)
    tcb.gso_max = gso_max
    host.send(tcb, bytes(PROBE + 5 * MSS))
    probe, *others = peer.replies()
    assert len(probe.payload) == PROBE
    assert probe.packet.dont_fragment
    assert max(len(other.payload) for other in others) == MSS
    assert "path MTU probe" in host.notes


def test_too_little_text_is_not_probed_with() -> None:
    # RFC 4821 §7.3: the loss must be seen by what follows it
    host, peer, tcb = probing()
    assert write(host, peer, tcb, PROBE + 4 * MSS - 1)[0] == f". {START}:{START + MSS}({MSS})"


def test_a_small_peer_window_is_not_probed_with() -> None:
    host, peer, tcb = probing()
    peer.send("P.", 1, START, b"x", win=40)
    peer.send("P.", 2, START, b"x", win=40)  # the first is of no later than the handshake
    assert f"({PROBE})" not in write(host, peer, tcb)[0]


def test_a_probe_that_arrived_sets_the_segment_size() -> None:
    host, peer, tcb = probing()
    write(host, peer, tcb)
    cwnd = host.stack.status(tcb, host.now).snd_cwnd
    host.advance(20 * MS)
    peer.send(".", 1, START + PROBE, win=2000)
    assert tcb.snd.mss == PROBE
    # RFC 4821 §4: in octets the window did not grow because of it
    assert host.stack.status(tcb, host.now).snd_cwnd <= cwnd + PROBE


def test_without_sack_three_duplicates_say_that_the_probe_is_lost() -> None:
    host, peer, tcb = probing(sack=False)
    congestion = tcb.congestion
    assert congestion is not None
    cwnd = congestion.cwnd
    write(host, peer, tcb)
    host.advance(20 * MS)
    for _ in range(3):
        peer.send(".", 1, START, win=2000)
    assert congestion.cwnd >= cwnd
    assert tcb.mtu is not None and tcb.mtu.high == PROBE - 1


def test_a_timeout_says_nothing_of_the_size() -> None:
    # RFC 4821 §7.6.3
    host, peer, tcb = probing()
    write(host, peer, tcb)
    host.advance(300 * MS)
    assert tcb.mtu is not None
    assert (tcb.mtu.size, tcb.mtu.high) == (0, MSS)


def test_a_search_that_is_over_begins_again_after_ten_minutes() -> None:
    # RFC 4821 §7.3: not before five
    host, peer, tcb = probing()
    search = tcb.mtu
    assert search is not None
    search.failed()
    search.high = search.low + 7
    write(host, peer, tcb)
    assert search.high == search.low + 7
    peer.send(".", 1, tcb.snd.nxt - tcb.snd.iss, win=2000)
    host.advance(600 * SECOND)
    for _ in range(3):  # idleness has taken the congestion window back
        write(host, peer, tcb, 10 * MSS)
        host.advance(20 * MS)
        peer.send(".", 1, tcb.snd.nxt - tcb.snd.iss, win=2000)
    assert search.high == MSS


def test_black_holes_are_not_suspected_of_small_segments() -> None:
    host, peer, tcb = probing(mode=1)
    write(host, peer, tcb, 200)
    host.advance(10 * SECOND)
    assert tcb.retransmits > 3
    assert tcb.mtu is None
    assert tcb.snd.mss == MSS


@pytest.mark.parametrize("mode, sizes", [(0, {MSS}), (1, {MSS, 1024, 512, 256, 128, 64, 48})])
def test_with_silence_segments_become_smaller_down_to_a_floor(mode: int, sizes: set[int]) -> None:
    # RFC 4821 §7.7
    host, peer, tcb = probing(mode=mode)
    host.send(tcb, bytes(5 * MSS))
    peer.heard()
    host.advance(400 * SECOND)
    assert {len(reply.payload) for reply in peer.replies()} == sizes
