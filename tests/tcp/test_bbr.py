"""What BBR hears of the ACKs on the wire, and what it does to what leaves."""

from tests.stack.host import MS, SECOND, Host, Peer
from ustack.config import TcpConfig
from ustack.tcp.congestion.bbr import Bbr
from ustack.tcp.recovery import LOSS, OPEN
from ustack.tcp.tcb import Tcb

RTT = 100 * MS
SEGMENT = 1000  # bytes


def established(**config: bool) -> tuple[Host, Peer, Tcb, Bbr]:
    host = Host(4, TcpConfig(congestion="bbr", **config))  # type: ignore[arg-type]
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=RTT)
    host.now += 1
    assert isinstance(tcb.congestion, Bbr)
    return host, peer, tcb, tcb.congestion


def test_what_has_overtaken_others_does_not_shorten_the_path() -> None:
    host, peer, tcb, model = established()
    host.send(tcb, bytes(10 * SEGMENT))
    peer.heard()
    host.now += RTT // 2
    peer.send(".", 1, 1, sack=((5001, 6001),))
    assert tcb.rtt.min_rtt == RTT // 2  # Linux's RTT estimator believes it
    assert model.min_rtt == RTT
    host.now += RTT // 4
    peer.send(".", 1, 1, sack=((5001, 7001),))  # but what comes in order behind it does
    assert model.min_rtt == RTT * 3 // 4


def test_the_ack_of_a_first_copy_is_no_sample_of_the_second() -> None:
    # RFC 8985 §6.2 step 2: a copy that was sent less than a round trip ago has not arrived yet
    host, peer, tcb, model = established()
    host.send(tcb, bytes(10 * SEGMENT))
    peer.heard()
    host.now += RTT
    assert peer.send(".", 1, 1, sack=((1001, 9001),)) == [". 1:1001(1000) ack 1"]
    rounds = model.round_count
    host.now += 5 * MS
    peer.send(".", 1, 9001)
    assert model.round_count == rounds and model.max_bw <= 10 * SEGMENT * 10


def test_after_a_timeout_is_repaired_the_window_is_what_it_was() -> None:
    # §5.6.4.4: BBRRestoreCwnd on leaving any recovery
    host, peer, tcb, model = established(frto=False)
    host.send(tcb, bytes(10 * SEGMENT))
    peer.heard()
    before = model.cwnd = 50 * SEGMENT  # more than the ACKs of this flight would give
    host.advance(2 * SECOND)
    assert tcb.recovery.phase is LOSS and model.cwnd < before
    peer.send(".", 1, 1001)
    assert tcb.recovery.phase is LOSS and model.cwnd < before
    peer.send(".", 1, 3001)
    peer.send(".", 1, 10_001)
    assert tcb.recovery.undone == 0
    assert tcb.recovery.phase is OPEN and model.cwnd >= before
