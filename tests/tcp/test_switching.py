"""TCP_CONGESTION on a live connection: every controller takes over from every other, with nothing
in flight, with a flight, in fast recovery and after a timeout."""

from dataclasses import replace
from itertools import permutations

import pytest

from tests.stack.host import MS, MSS, SECOND, Host, Peer
from ustack.config import TcpConfig
from ustack.errors import UsageError
from ustack.tcp.congestion import INFINITE_SSTHRESH
from ustack.tcp.recovery import FAST, LOSS, OPEN
from ustack.tcp.tcb import Tcb

PAIRS = list(permutations(("reno", "cubic", "bbr"), 2))
RTT = 50 * MS
FLIGHT = 10 * MSS


def established(congestion: str) -> tuple[Host, Peer, Tcb]:
    host = Host(4, TcpConfig(congestion=congestion, frto=False, slow_start="hystart++"))
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=RTT)
    host.now += 1
    return host, peer, tcb


def switch(host: Host, tcb: Tcb, congestion: str) -> tuple[int, int]:
    """The congestion window and ssthresh that the new controller has."""
    host.stack.configure(tcb, replace(tcb.config, congestion=congestion), host.now)
    host.turn()
    assert tcb.congestion is not None
    return host.stack.status(tcb, host.now).snd_cwnd, tcb.congestion.ssthresh


def deliver(host: Host, peer: Peer, tcb: Tcb) -> None:
    """The peer acknowledges what it gets until there is nothing more."""
    for _ in range(40):
        host.advance(RTT)
        peer.heard()
        if tcb.snd.una < tcb.snd.nxt:
            peer.put(".", 1, tcb.snd.nxt - tcb.snd.iss)
            host.turn()
    assert tcb.snd.una == tcb.send_buffer.end
    assert tcb.recovery.phase is OPEN


@pytest.mark.parametrize("old, new", PAIRS)
def test_the_window_stays(old: str, new: str) -> None:
    host, peer, tcb = established(old)
    host.send(tcb, bytes(FLIGHT))
    peer.heard()
    host.now += RTT
    peer.send(".", 1, 1 + FLIGHT)
    before = host.stack.status(tcb, host.now).snd_cwnd
    assert switch(host, tcb, new) == (before, INFINITE_SSTHRESH)  # no loss has set one
    assert host.stack.status(tcb, host.now).congestion == new
    host.send(tcb, bytes(3 * FLIGHT))
    deliver(host, peer, tcb)


@pytest.mark.parametrize("old, new", PAIRS)
def test_a_flight_is_taken_over(old: str, new: str) -> None:
    host, peer, tcb = established(old)
    host.send(tcb, bytes(3 * FLIGHT))
    peer.heard()
    before = host.stack.status(tcb, host.now).snd_cwnd
    assert switch(host, tcb, new)[0] == before
    assert peer.heard() == []  # there is no room for more
    deliver(host, peer, tcb)


@pytest.mark.parametrize("old, new", PAIRS)
def test_a_recovery_is_taken_over(old: str, new: str) -> None:
    host, peer, tcb = established(old)
    host.send(tcb, bytes(FLIGHT))
    peer.heard()
    host.now += RTT
    peer.send(".", 1, 1, sack=((1001, 6001),))
    assert tcb.recovery.phase is FAST and tcb.congestion is not None
    ssthresh = tcb.congestion.ssthresh
    before = host.stack.status(tcb, host.now).snd_cwnd
    assert switch(host, tcb, new) == (before, INFINITE_SSTHRESH if new == "bbr" else ssthresh)
    host.now += RTT
    peer.send(".", 1, 1 + FLIGHT)
    assert tcb.recovery.phase is OPEN
    after = host.stack.status(tcb, host.now).snd_cwnd
    if "bbr" in (old, new):  # BBR knows no ssthresh: what there was in recovery goes on
        assert before <= after <= 3 * FLIGHT
    else:
        assert after == ssthresh
    host.send(tcb, bytes(2 * FLIGHT))
    deliver(host, peer, tcb)


@pytest.mark.parametrize("old, new", PAIRS)
def test_a_timeout_is_taken_over(old: str, new: str) -> None:
    host, peer, tcb = established(old)
    host.send(tcb, bytes(FLIGHT))
    peer.heard()
    host.advance(SECOND)
    assert tcb.recovery.phase is LOSS
    before = host.stack.status(tcb, host.now).snd_cwnd
    assert switch(host, tcb, new)[0] == before == MSS
    deliver(host, peer, tcb)
    assert host.stack.status(tcb, host.now).snd_cwnd <= 2 * FLIGHT


@pytest.mark.parametrize("old, new", PAIRS)
def test_the_cut_of_another_is_not_taken_back(old: str, new: str) -> None:
    # Linux tcp_init_congestion_control() forgets prior_ssthresh
    host, peer, tcb = established(old)
    host.send(tcb, bytes(FLIGHT))
    peer.heard()
    host.now += RTT
    peer.send(".", 1, 1, sack=((1001, 10_001),))
    switch(host, tcb, new)
    host.now += RTT
    peer.send(".", 1, 10_001)
    before = host.stack.status(tcb, host.now).snd_cwnd
    peer.send(".", 1, 10_001, sack=((1, 1001),))  # the copy was needless
    assert host.stack.status(tcb, host.now).snd_cwnd == before


def test_bbr_goes_on_from_the_window_and_the_least_round_trip() -> None:
    host, peer, tcb = established("cubic")
    host.send(tcb, bytes(2 * FLIGHT))
    for acked in (10_001, 20_001):
        peer.heard()
        host.now += RTT
        peer.send(".", 1, acked)
    cwnd, _ = switch(host, tcb, "bbr")
    assert cwnd > FLIGHT
    rate = host.stack.status(tcb, host.now).pacing_rate
    assert rate == pytest.approx(2.77 * cwnd * SECOND / RTT, rel=0.01)


def test_the_same_name_changes_nothing() -> None:
    host, _, tcb = established("cubic")
    before = tcb.congestion
    switch(host, tcb, "cubic")
    assert tcb.congestion is before


def test_an_unknown_name_is_refused() -> None:
    host, _, tcb = established("cubic")
    with pytest.raises(UsageError):
        switch(host, tcb, "vegas")
    assert tcb.config.congestion == "cubic"
