"""CUBIC (RFC 9438) and HyStart++ (RFC 9406) on the wire: what the window is after so many ACKs."""

from itertools import pairwise

import pytest

from tests.stack.host import MS, MSS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.tcp.tcb import Tcb

RTT = 100 * MS
C, BETA = 0.4, 0.7


class Transfer:
    """A sender who always has something to send, and a peer who acknowledges each segment."""

    def __init__(
        self,
        version: int = 4,
        *,
        segments: int = 10,
        slow_start: str = "standard",
        pacing: bool = False,
    ):
        config = TcpConfig(
            pacing=pacing,
            slow_start=slow_start,
            slow_start_after_idle=False,
            initial_window_segments=segments,
            send_buffer=1 << 22,
            tail_loss_probe=False,
            frto=False,
        )
        self.host = Host(version, config)
        self.peer = Peer(self.host)
        self.tcb: Tcb = self.peer.establish(sack=True, rtt=RTT, wscale=7)
        self.started_at = self.host.now
        self.fill()

    @property
    def window(self) -> int:
        """Segments."""
        return self.host.stack.status(self.tcb, self.host.now).snd_cwnd // MSS

    @property
    def threshold(self) -> int:
        """Segments."""
        return self.host.stack.status(self.tcb, self.host.now).snd_ssthresh // MSS

    def fill(self) -> None:
        self.host.send(self.tcb, bytes(2 * self.window * MSS))
        self.peer.heard()

    def round_trip(self, rtt: int = RTT) -> None:
        """What is in flight is acknowledged, one segment after the other."""
        self.host.advance(rtt)
        self.fill()
        snd = self.tcb.snd
        una, nxt = snd.una - snd.iss, snd.nxt - snd.iss
        for ack in range(una + MSS, nxt + 1, MSS):
            self.peer.send(".", 1, ack)

    def lose_one(self) -> None:
        """The first segment in flight is lost, and is acknowledged after it was sent again."""
        self.host.advance(RTT)
        snd = self.tcb.snd
        una, nxt = snd.una - snd.iss, snd.nxt - snd.iss
        for right in range(una + 2 * MSS, nxt + 1, MSS):
            self.peer.send(".", 1, una, sack=[(una + MSS, right)])
        self.host.advance(RTT)
        self.peer.send(".", 1, snd.nxt - snd.iss)
        self.fill()


@both_versions
def test_a_loss_and_a_timeout_cut_the_window_to_seven_tenths(version: int) -> None:
    # RFC 9438 §4.6
    transfer = Transfer(version, segments=20)
    transfer.lose_one()
    assert transfer.threshold == 14 and transfer.window in (14, 15)
    transfer.host.advance(SECOND)
    assert transfer.threshold in (9, 10) and transfer.window == 1


@both_versions
def test_the_window_follows_the_curve_below_and_above_what_it_was(version: int) -> None:
    # RFC 9438 §4.2, §4.4, §4.5; K = cbrt(W_max * (1 - beta) / C)
    transfer = Transfer(version, segments=100)
    transfer.lose_one()
    k = (100 * (1 - BETA) / C) ** (1 / 3)
    began = transfer.host.now
    for trips in range(1, 61):
        transfer.round_trip()
        elapsed = (transfer.host.now - began) / SECOND
        curve = C * (elapsed - k) ** 3 + 100
        reno = 70 + 0.53 * trips  # §4.3
        assert transfer.window == pytest.approx(max(curve, reno), rel=0.04)
    assert transfer.window > 101


@both_versions
def test_an_idle_time_is_no_time_on_the_curve(version: int) -> None:
    # RFC 9438 §4.2: no jump of the window after it
    transfer = Transfer(version, segments=100)
    transfer.lose_one()
    for _ in range(10):
        transfer.round_trip()
    snd = transfer.tcb.snd
    transfer.host.advance(RTT)
    while snd.una < transfer.tcb.send_buffer.end:  # until all is acknowledged
        transfer.peer.send(".", 1, snd.nxt - snd.iss)
    before = transfer.window
    transfer.host.advance(600 * SECOND)
    transfer.fill()
    transfer.round_trip()
    assert before <= transfer.window <= before + 6


@both_versions
def test_on_a_short_path_the_window_grows_as_renos_would(version: int) -> None:
    # RFC 9438 §4.3: 0.53 segments per round trip until cwnd_prior is reached, then one
    transfer = Transfer(version, segments=40)
    transfer.lose_one()
    trips = 0
    while transfer.window < 40:
        transfer.round_trip(33 * MS)
        trips += 1
    assert trips == pytest.approx((40 - 28) / 0.53, rel=0.2)
    for _ in range(15):
        transfer.round_trip(33 * MS)
    assert transfer.window == pytest.approx(55, abs=3)


@both_versions
def test_a_window_that_had_not_recovered_gives_way(version: int) -> None:
    # RFC 9438 §4.7: W_max = 140 * (1 + 0.7) / 2 = 119; to 140 the window would be by then, else
    transfer = Transfer(version, segments=200)
    transfer.lose_one()
    transfer.lose_one()
    assert transfer.window == pytest.approx(98, abs=1)
    k = ((119 - 98) / C) ** (1 / 3)
    for _ in range(int(k * 10)):
        transfer.round_trip()
    assert transfer.window == pytest.approx(119, abs=4)


@both_versions
def test_after_a_timeout_the_curve_begins_at_its_plateau(version: int) -> None:
    # RFC 9438 §4.8: K = 0, W_max = cwnd: convex from the start
    transfer = Transfer(version, segments=40)
    transfer.host.advance(350 * MS)
    assert (transfer.window, transfer.threshold) == (1, 28)
    snd = transfer.tcb.snd
    transfer.peer.send(".", 1, snd.nxt - snd.iss)
    while transfer.window < 28:
        transfer.round_trip()
    began = transfer.host.now
    for _ in range(30):
        transfer.round_trip()
    elapsed = (transfer.host.now - began) / SECOND
    curve = 28 + C * elapsed**3
    reno = 28 + 0.53 * 30
    twentieth = 28 * 1.05**30  # Linux, as long as no loss was seen
    assert max(curve, reno) - 2 <= transfer.window <= twentieth * 1.05


@both_versions
def test_a_longer_round_trip_slows_the_first_slow_start_down(version: int) -> None:
    # RFC 9406 §4.2: a quarter of the growth, and after five rounds the end
    transfer = Transfer(version, slow_start="hystart++")
    transfer.round_trip()
    assert transfer.window == 20
    transfer.round_trip(115 * MS)  # more than an eighth
    assert 30 <= transfer.window <= 36
    windows = []
    for _ in range(5):
        windows.append(transfer.window)
        assert transfer.threshold > 1 << 30
        transfer.round_trip(115 * MS)
    for before, after in pairwise(windows):
        assert after == pytest.approx(1.25 * before, rel=0.06)
    transfer.round_trip(115 * MS)
    assert transfer.threshold <= transfer.window < 1 << 20


@both_versions
def test_a_short_round_trip_takes_slow_start_up_again(version: int) -> None:
    # RFC 9406 §4.2
    transfer = Transfer(version, slow_start="hystart++")
    transfer.round_trip()
    transfer.round_trip(115 * MS)
    transfer.round_trip()
    before = transfer.window
    transfer.round_trip()
    assert transfer.window == pytest.approx(2 * before, rel=0.1)
    assert transfer.threshold > 1 << 30


@both_versions
def test_one_ack_adds_eight_segments_at_most(version: int) -> None:
    # RFC 9406 §4.3: L, where nothing paces
    transfer = Transfer(version, segments=40, slow_start="hystart++")
    transfer.host.advance(RTT)
    transfer.peer.send(".", 1, 1 + 40 * MSS)
    assert transfer.window == 48


@both_versions
def test_where_text_is_paced_one_ack_may_add_more(version: int) -> None:
    # RFC 9406 §4.3: "L = infinity if paced"
    transfer = Transfer(version, segments=40, slow_start="hystart++", pacing=True)
    transfer.host.advance(RTT)
    transfer.peer.send(".", 1, 1 + 40 * MSS)
    assert transfer.window == 80


@both_versions
def test_a_loss_ends_slow_start_and_later_ones_go_without_the_watch(version: int) -> None:
    # RFC 9406 §4.2, §4.3
    transfer = Transfer(version, slow_start="hystart++")
    transfer.round_trip()
    transfer.lose_one()
    assert transfer.threshold == transfer.window == 14
    transfer.host.advance(SECOND)
    assert transfer.window == 1
    snd = transfer.tcb.snd
    transfer.peer.send(".", 1, snd.nxt - snd.iss)
    assert transfer.window >= transfer.threshold  # all fourteen and more with one ACK


@both_versions
@pytest.mark.parametrize("lost", [False, True])
def test_after_a_loss_in_the_first_flight_later_restarts_are_smaller(
    version: int, lost: bool
) -> None:
    # RFC 6928 §2: then the restart window is that of RFC 3390, here four segments
    host = Host(version, TcpConfig(send_buffer=1 << 22))
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=RTT, wscale=7)
    for trip in range(4):
        host.send(tcb, bytes(50 * MSS))
        host.advance(RTT)
        if lost and not trip:
            peer.send(".", 1, 1, sack=[(1001, 1 + 10 * MSS)])
            host.advance(RTT)
        peer.send(".", 1, tcb.snd.nxt - tcb.snd.iss)
    while tcb.snd.una < tcb.send_buffer.end:
        peer.send(".", 1, tcb.snd.nxt - tcb.snd.iss)
    peer.heard()
    host.advance(600 * SECOND)
    host.send(tcb, bytes(50 * MSS))
    assert len(peer.heard()) == (4 if lost else 10)
