"""What the receiver reports in SACK blocks, and what the sender believes (RFC 2018, RFC 2883)."""

from tests.stack.host import MS, MSS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.tcp.recovery import OPEN
from ustack.tcp.tcb import Tcb
from ustack.wire.tcp_options import SACK


def receiving(version: int) -> tuple[Host, Peer, Tcb]:
    host = Host(version, TcpConfig(compressed_acks=0))
    peer = Peer(host)
    return host, peer, peer.establish(sack=True)


def blocks(peer: Peer, seq: int, size: int) -> list[tuple[int, int]]:
    """What the one ACK of a segment reports."""
    peer.put("P.", seq, 1, b"x" * size)
    peer.host.turn()
    return peer.relative_sack(peer.reply().options)


@both_versions
def test_blocks_are_maximal_and_the_newest_comes_first(version: int) -> None:
    # RFC 2018 §3, §4: the run with the segment that came, then those reported last
    _, peer, _ = receiving(version)
    assert blocks(peer, 101, 10) == [(101, 111)]
    assert blocks(peer, 201, 10) == [(201, 211), (101, 111)]
    assert blocks(peer, 111, 10) == [(101, 121), (201, 211)]
    assert blocks(peer, 301, 10) == [(301, 311), (101, 121), (201, 211)]
    assert blocks(peer, 121, 80) == [(101, 211), (301, 311)]
    assert blocks(peer, 401, 10)[:3] == [(401, 411), (101, 211), (301, 311)]
    for start in (501, 601, 701):
        assert len(blocks(peer, start, 10)) <= 4


@both_versions
def test_every_ack_reports_what_is_held_also_while_we_send(version: int) -> None:
    # RFC 2018 §4: text of ours carries no block, so an ACK of its own follows
    host, peer, tcb = receiving(version)
    blocks(peer, 101, 10)
    host.send(tcb, b"text")
    peer.put("P.", 121, 1, b"x")
    host.turn()
    reported = [peer.relative_sack(reply.options) for reply in peer.replies()]
    assert [(121, 122), (101, 111)] in reported
    host.advance(SECOND)


@both_versions
def test_no_block_is_reported_of_text_that_was_thrown_away(version: int) -> None:
    # RFC 2018 §8
    host = Host(version, TcpConfig(receive_buffer=4000))
    peer = Peer(host)
    peer.establish(sack=True)
    reported: set[int] = set()
    for start in range(3, 3000, 2):  # far more than the memory for it
        peer.put("P.", start, 1, b"x")
        host.turn()
        for reply in peer.replies():
            for left, right in peer.relative_sack(reply.options):
                reported |= set(range(left, right))
    last = max(reported)
    for at in range(1, last + 1):
        if at not in reported:
            peer.put("P.", at, 1, b"x")
            host.turn()
    assert peer.replies()[-1].ack == last + 1


@both_versions
def test_a_duplicate_is_reported_once_and_exactly(version: int) -> None:
    # RFC 2883 §4
    _, peer, _ = receiving(version)
    peer.send("P.", 1, 1, b"x" * 100)
    assert blocks(peer, 1, 100) == [(1, 101)]  # all of it old
    assert blocks(peer, 51, 100) == [(51, 101)]  # the first half
    assert blocks(peer, 301, 50) == [(301, 351)]
    assert blocks(peer, 311, 20) == [(311, 331), (301, 351)]  # held behind a gap
    assert blocks(peer, 401, 10) == [(401, 411), (301, 351)]  # not repeated


@both_versions
def test_of_a_partial_overlap_only_the_octets_held_are_reported(version: int) -> None:
    # RFC 2883 §4: and of two runs only the first
    _, peer, _ = receiving(version)
    assert blocks(peer, 101, 50) == [(101, 151)]
    assert blocks(peer, 141, 50) == [(141, 151), (101, 191)]
    assert blocks(peer, 91, 20) == [(101, 111), (91, 191)]
    assert blocks(peer, 301, 50) == [(301, 351), (91, 191)]
    assert blocks(peer, 181, 130) == [(181, 191), (91, 351)]


@both_versions
def test_sack_is_not_used_unless_the_peer_permits_it(version: int) -> None:
    # RFC 2018 §4
    host = Host(version)
    peer = Peer(host)
    peer.establish(sack=False)
    peer.put("P.", 101, 1, b"text")
    host.turn()
    reply = peer.reply()
    assert reply.options.sack == ()
    assert bytes([SACK]) not in reply.packet.payload[20 : reply.packet.payload[12] >> 2]


@both_versions
def test_sacked_text_is_kept_until_it_is_acknowledged(version: int) -> None:
    # RFC 2018 §5, §8: a peer may take back what it has SACKed
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=50 * MS)
    host.send(tcb, bytes(range(250)) * 12)
    peer.heard()
    host.advance(50 * MS)
    peer.put(".", 1, 1, sack=[(1001, 3001)])
    assert len(tcb.send_buffer) == 3000
    peer.put(".", 1, 1001)  # and nothing SACKed any more
    host.advance(30 * SECOND)
    assert (". 1001:2001(1000) ack 1") in peer.heard()


@both_versions
def test_nonsense_in_sack_blocks_is_ignored_and_the_ack_counts(version: int) -> None:
    # RFC 2018: reversed edges, beyond SND.NXT, below SND.UNA
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=50 * MS)
    host.send(tcb, b"x" * 5 * MSS)
    peer.heard()
    host.advance(50 * MS)
    peer.send(".", 1, 1001, sack=[(4001, 3001), (9001, 10001), (1, 501)])
    assert tcb.scoreboard.sacked == 0
    assert tcb.snd.una - tcb.snd.iss == 1001
    odd = bytes((1, 1, SACK, 9)) + bytes(7)
    peer.send(".", 1, 2001, options=odd + b"\0")
    assert tcb.snd.una - tcb.snd.iss == 2001
    assert tcb.recovery.phase is OPEN


@both_versions
def test_a_dsack_is_told_by_the_ack_of_its_own_segment(version: int) -> None:
    # RFC 2883 §5: it lies above the old SND.UNA and below the ACK that brings it
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=50 * MS)
    host.send(tcb, b"x" * 3 * MSS)
    peer.heard()
    host.advance(50 * MS)
    peer.send(".", 1, 2001, sack=[(1001, 2001)])
    assert tcb.counters.dsacks_received == 1
    assert tcb.scoreboard.sacked == 0
