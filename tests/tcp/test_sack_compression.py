"""ACKs behind a gap that wait for each other, as Linux has it."""

from tests.stack.host import MS, Host, Peer, established
from ustack.config import TcpConfig
from ustack.tcp.tcb import NEVER, Tcb


def compressing(acks: int = 44) -> tuple[Host, Peer, Tcb]:
    """Three ACKs of text behind a gap have gone: [101, 131) is there."""
    tcp = TcpConfig(quick_acks=0, compressed_acks=acks, compressed_ack_slack_us=0)
    host, peer, tcb = established(tcp=tcp, sack=True, tsval=100)
    for start in (101, 111, 121):
        peer.put(".", start, 1, b"x" * 10)
        host.turn()
        assert peer.relative_sack(peer.reply().options) == [(101, start + 10)]
    return host, peer, tcb


def test_the_fourth_ack_waits_for_those_after_it() -> None:
    _, peer, tcb = compressing()
    peer.put(".", 131, 1, b"x" * 10)
    peer.put(".", 141, 1, b"x" * 10)
    assert tcb.timers.delayed_ack != NEVER
    peer.host.turn()
    assert not peer.replies()
    peer.host.advance(1 * MS)
    assert peer.relative_sack(peer.reply().options) == [(101, 151)]
    assert tcb.compression is not None
    assert (tcb.compression.held, tcb.compression.saved) == (0, 1)
    assert tcb.timers.delayed_ack == NEVER


def test_a_block_that_would_be_crowded_out_is_reported_at_once() -> None:
    # Linux TCP_SACK_BLOCKS_EXPECTED: beside timestamps there is room for three
    _, peer, tcb = compressing()
    for start in (131, 201):
        peer.put(".", start, 1, b"x" * 10)
    peer.host.turn()
    assert not peer.replies()
    peer.put(".", 301, 1, b"x" * 10)
    peer.host.turn()
    assert peer.relative_sack(peer.reply().options) == [(301, 311), (201, 211), (101, 141)]
    assert tcb.compression is not None
    assert (tcb.compression.held, tcb.compression.saved) == (0, 1)


def test_the_timer_of_delayed_acks_is_not_theirs_when_none_waits() -> None:
    host, peer, tcb = compressing()
    peer.put(".", 1, 1, b"x" * 100)
    host.turn()
    assert peer.reply().ack == 131
    peer.put(".", 131, 1, b"x" * 10)
    host.turn()
    assert not peer.replies()
    host.advance(200 * MS)
    assert peer.reply().ack == 141
    assert tcb.compression is not None
    assert tcb.compression.saved == 0


def test_none_waits_where_that_is_not_wanted() -> None:
    host, peer, _ = compressing(acks=0)
    for start in (131, 141, 151):
        peer.put(".", start, 1, b"x" * 10)
        host.turn()
        assert peer.reply().options.sack
