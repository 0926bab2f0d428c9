"""How much is sent, and when again (RFC 5681, 6298, 6582, 6675, 6928, 6937, 3042)."""

from itertools import pairwise

import pytest

from tests.stack.host import MS, MSS, SECOND, Host, Peer, both_versions, ip_frame, packed
from ustack.config import TcpConfig
from ustack.tcp.recovery import FAST, OPEN
from ustack.tcp.tcb import Tcb
from ustack.wire import icmp, ipv4, ipv6
from ustack.wire.virtio import HEADER_LEN

RENO = TcpConfig(congestion="newreno")  # for the figures of RFC 5681


def flying(
    version: int = 4,
    segments: int = 10,
    *,
    sack: bool = False,
    waiting: int = 0,
    mss: int = MSS,
    tcp: TcpConfig | None = None,
) -> tuple[Host, Peer, Tcb]:
    """`segments` have left, `waiting` more wait for the congestion window."""
    host = Host(version, tcp or TcpConfig(send_buffer=1 << 20), mtu=9000)
    peer = Peer(host)
    tcb = peer.establish(sack=sack, rtt=50 * MS, mss=mss)
    host.send(tcb, b"x" * (segments + waiting) * mss)
    assert len(peer.heard()) == segments
    host.advance(50 * MS)
    return host, peer, tcb


def cwnd(host: Host, tcb: Tcb) -> int:
    return host.stack.status(tcb, host.now).snd_cwnd


@both_versions
@pytest.mark.parametrize("mss, window", [(536, 5360), (1460, 14600), (2190, 14600), (8900, 17800)])
def test_the_first_flight_is_that_of_rfc_6928(version: int, mss: int, window: int) -> None:
    host = Host(version, mtu=9000)
    peer = Peer(host)
    tcb = peer.establish(mss=mss)
    host.send(tcb, b"x" * 50_000)
    sent = sum(len(reply.payload) for reply in peer.replies())
    assert window - mss < sent <= window


@both_versions
def test_split_acks_open_the_window_no_more_than_one_ack(version: int) -> None:
    # RFC 9293 §7, RFC 3465, RFC 5681 §3.1: bytes count, not ACKs
    whole_host, whole, one = flying(version, waiting=20)
    split_host, split, other = flying(version, waiting=20)
    whole.send(".", 1, 1001)
    for end in range(1, 1002, 100):
        split.send(".", 1, end)
    assert cwnd(split_host, other) == cwnd(whole_host, one)


@both_versions
def test_in_slow_start_the_window_doubles_in_a_round_trip(version: int) -> None:
    # RFC 5681 §3.1, MUST-19
    _, peer, _ = flying(version, waiting=40)
    sent = 0
    for number in range(10):
        sent += len(peer.send(".", 1, 1 + (number + 1) * MSS))
    assert sent == 20


@both_versions
def test_in_congestion_avoidance_the_window_grows_by_one_segment_in_a_round_trip(
    version: int,
) -> None:
    # RFC 5681 §3.1, RFC 2525 §2.6, MUST-19
    host, peer, tcb = flying(version, waiting=100, tcp=RENO)
    for _ in range(3):
        peer.send(".", 1, 1)
    assert host.stack.status(tcb, host.now).snd_ssthresh == 5 * MSS
    peer.send(".", 1, 10_001)
    peer.send(".", 1, tcb.snd.nxt - tcb.snd.iss)
    end = tcb.snd.nxt - tcb.snd.iss
    window = cwnd(host, tcb)
    assert window < 7 * MSS
    for trip in range(1, 6):
        for _ in range(2):  # the ACK of one flight, in two halves
            half = (tcb.snd.una - tcb.snd.iss + end) // 2
            peer.send(".", 1, half)
        peer.send(".", 1, end)
        end = tcb.snd.nxt - tcb.snd.iss
        assert window + (trip - 1) * MSS <= cwnd(host, tcb) <= window + trip * MSS


@both_versions
@pytest.mark.parametrize("sack", [False, True], ids=("duplicate ACKs", "SACK"))
def test_limited_transmit_does_not_count_as_flight(version: int, sack: bool) -> None:
    # RFC 3042 §2, RFC 5681 §3.2: two new segments, cwnd as it was, and half of ten remains
    host, peer, tcb = flying(version, waiting=20, sack=sack, tcp=RENO)
    for number in (1, 2):
        blocks = [(1001, 1001 + number * MSS)] if sack else []
        heard = peer_sack(peer, blocks)
        assert heard == [f". {9001 + number * MSS}:{10001 + number * MSS}(1000) ack 1"]
    assert cwnd(host, tcb) == 10 * MSS
    peer_sack(peer, [(1001, 4001)] if sack else [])
    assert tcb.recovery.phase is FAST
    assert host.stack.status(tcb, host.now).snd_ssthresh == 5 * MSS


def peer_sack(peer: Peer, blocks: list[tuple[int, int]], ack: int = 1) -> list[str]:
    return peer.send(".", 1, ack, sack=blocks)


@both_versions
def test_with_sack_a_duplicate_ack_without_news_releases_nothing(version: int) -> None:
    # RFC 3042 §2, RFC 6675 §2
    _, peer, tcb = flying(version, waiting=20, sack=True)
    assert len(peer_sack(peer, [(1001, 2001)])) == 1
    for _ in range(5):
        assert peer_sack(peer, [(1001, 2001)]) == []
    assert tcb.recovery.phase is OPEN


@both_versions
def test_reordering_of_two_segments_resends_nothing(version: int) -> None:
    # RFC 2018 §5.1, RFC 5681 §3.2
    _, peer, tcb = flying(version, sack=True)
    peer_sack(peer, [(1001, 2001)])
    peer_sack(peer, [(1001, 3001)])
    peer.send(".", 1, 3001)
    assert tcb.recovery.phase is OPEN and tcb.scoreboard.retransmissions == 0


@both_versions
def test_the_third_duplicate_ack_with_news_begins_recovery_of_small_segments_too(
    version: int,
) -> None:
    # RFC 6675 §5 step 1, RFC 8985 §6.2 step 4: fewer than 2 * SMSS octets are SACKed
    host = Host(version, TcpConfig(nagle=False))
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=50 * MS)
    for _ in range(6):
        host.send(tcb, b"0123456789")
    assert len(peer.heard()) == 6
    host.advance(50 * MS)
    assert peer_sack(peer, [(11, 21)]) == []
    assert peer_sack(peer, [(11, 31)]) == []
    assert peer_sack(peer, [(11, 41)]) == ["P. 1:11(10) ack 1"]
    assert peer_sack(peer, [(11, 51)]) == []


@both_versions
def test_an_ack_of_new_text_begins_the_count_of_duplicates_anew(version: int) -> None:
    # RFC 6675 §5, RFC 5681 §2: two before it and two after it are not three
    host = Host(version, TcpConfig(nagle=False, rack=False))
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=50 * MS)
    for _ in range(8):
        host.send(tcb, b"0123456789")
    assert len(peer.heard()) == 8
    host.advance(50 * MS)
    assert peer_sack(peer, [(21, 31)]) == []
    assert peer_sack(peer, [(21, 41)]) == []
    assert peer_sack(peer, [(21, 41)], ack=11) == []
    assert peer_sack(peer, [(21, 51)], ack=11) == []
    assert peer_sack(peer, [(21, 61)], ack=11) == []
    assert peer_sack(peer, [(21, 71)], ack=11) == ["P. 11:21(10) ack 1"]


@both_versions
def test_what_is_sacked_beyond_the_recovery_point_is_known_after_it(version: int) -> None:
    # RFC 6675 §5: the ACK that ends a recovery forgets nothing above it
    host, peer, tcb = flying(version, sack=True, waiting=20)
    for right in range(2001, 10_002, 1000):  # two by limited transmit, the others in recovery
        peer_sack(peer, [(1001, right)])
    point, end = tcb.recovery.point - tcb.snd.iss, tcb.snd.nxt - tcb.snd.iss
    assert tcb.recovery.phase is FAST and end >= point + 3 * MSS
    host.advance(50 * MS)
    peer_sack(peer, [(point + MSS, point + 2 * MSS)], ack=point)
    assert tcb.recovery.phase is OPEN
    again = peer_sack(peer, [(point + MSS, point + 2 * MSS), (end, end + 2 * MSS)], ack=point)
    resent = [text for text in again if text.startswith(f". {point}:")]
    assert resent == [f". {point}:{point + MSS}(1000) ack 1"]
    assert not any(text.startswith(f". {point + MSS}:") for text in again)


@both_versions
def test_acks_in_pieces_gain_nothing_in_recovery(version: int) -> None:
    # RFC 9937 §6: octets are counted; a partial ACK of a segment, in ten pieces or whole
    sent = []
    for step in (1000, 100):
        _, peer, tcb = flying(version, waiting=30, tcp=RENO)
        for _ in range(3):
            peer.send(".", 1, 1)
        assert tcb.recovery.phase is FAST
        for end in range(1 + step, 3002, step):
            peer.send(".", 1, end)
        sent.append(tcb.snd.nxt - tcb.snd.iss + tcb.scoreboard.bytes_resent)
    whole, pieces = sent
    assert pieces <= whole


@both_versions
def test_in_recovery_text_leaves_at_half_the_rate_at_which_it_arrives(version: int) -> None:
    # RFC 6937 §3: proportional rate reduction: no silence, no burst
    _, peer, tcb = flying(version, segments=10, sack=True, waiting=30)
    sent = []
    for number in range(1, 10):
        sent.append(len(peer_sack(peer, [(1001, 1001 + number * MSS)])))
    assert sent[:3] == [1, 1, 1]  # limited transmit twice, then the resend
    assert sum(sent) <= 3 + 4
    after = len(peer.send(".", 1, 10_001))
    assert after <= 3  # cwnd is ssthresh: no burst
    assert tcb.recovery.phase is OPEN or tcb.snd.nxt > 0


@both_versions
@pytest.mark.parametrize("sack", [False, True], ids=("duplicate ACKs", "SACK"))
def test_a_smaller_path_mtu_keeps_the_window_in_segments(version: int, sack: bool) -> None:
    # RFC 5681 §3.1, RFC 4821 §4: no burst of small segments, and no halving
    host = Host(version, mtu=9000)
    peer = Peer(host)
    tcb = peer.establish(mss=4000, sack=sack)
    host.send(tcb, b"x" * 40_000)
    sent = peer.replies()[0].packet
    headers = {4: 40, 6: 60}[version]
    mtu = 2000 + headers
    quote = sent.frame[HEADER_LEN:][:600]
    if version == 4:
        message = icmp.encode_v4(3, 4, mtu, quote)
        frame = ip_frame("10.0.0.9", "10.0.0.1", ipv4.ICMP, message)
    else:
        message = icmp.encode_v6(packed("fd00::9"), packed("fd00::1"), 2, 0, mtu, quote)
        frame = ip_frame("fd00::9", "fd00::1", ipv6.ICMPV6, message)
    before = cwnd(host, tcb)
    host.input(frame)
    assert tcb.snd.mss == 2000
    assert cwnd(host, tcb) == before // 2
    assert host.stack.status(tcb, host.now).snd_ssthresh > 1 << 40  # no congestion was seen


@both_versions
def test_rtos_follow_the_formula_of_rfc_6298(version: int) -> None:
    # §2.2, §2.3: R = 400 ms, then 480 ms; 4 * RTTVAR is above any floor. Linux takes its largest
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(rtt=400 * MS)
    status = host.stack.status(tcb, host.now)
    assert (status.rtt, status.rttvar, status.rto) == (400 * MS, 200 * MS, 1200 * MS)
    host.send(tcb, b"x")
    host.advance(480 * MS)
    peer.send(".", 1, 2)
    status = host.stack.status(tcb, host.now)
    # RTTVAR = 3/4 * 200 + 1/4 * |400 - 480|, SRTT = 7/8 * 400 + 1/8 * 480
    assert (status.rtt, status.rttvar) == (410 * MS, 170 * MS)
    assert status.rto == 410 * MS + 4 * 200 * MS  # the largest RTTVAR of the last round trip


@both_versions
def test_before_any_sample_the_rto_is_one_second_and_a_resend_doubles_it(version: int) -> None:
    # RFC 6298 §2.1, §5.5
    host = Host(version)
    peer = Peer(host)
    peer.connect()
    host.advance(40 * SECOND)
    at = [reply.at for reply in peer.replies()]
    assert [round((b - a) / SECOND, 2) for a, b in pairwise(at)] == [1, 2, 4, 8, 16]


@both_versions
def test_every_copy_of_an_octet_is_the_same(version: int) -> None:
    # RFC 2525 §2.4: also when it is packed anew
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(win=10_000)
    data = bytes(n * 7 & 0xFF for n in range(5000))
    for at in range(0, 5000, 500):
        host.send(tcb, data[at : at + 500])
    host.advance(SECOND)
    peer.put(".", 1, 701, win=10_000)
    host.advance(20 * SECOND)
    replies = peer.replies()
    assert tcb.scoreboard.retransmissions > 3
    for reply in replies:
        assert reply.payload == data[reply.seq - 1 : reply.seq - 1 + len(reply.payload)]


@both_versions
def test_the_fin_leaves_at_once_behind_the_last_text(version: int) -> None:
    # RFC 2525 §2.15: not only when earlier text is acknowledged
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    host.send(tcb, b"x" * 2500)
    host.close(tcb)
    assert peer.heard()[-1] in ("FP. 2001:2502(500) ack 1", "F. 2501:2502(0) ack 1")


@both_versions
def test_a_sack_of_text_sent_once_ends_the_back_off(version: int) -> None:
    # RFC 6298 §3, §5: it is a valid sample, even if SND.UNA stays
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(sack=True, rtt=50 * MS)
    host.send(tcb, b"x" * MSS)
    host.advance(3 * SECOND)
    peer.send(".", 1, 1001)
    host.send(tcb, b"x" * 2 * MSS)
    backed_off = host.stack.status(tcb, host.now)
    assert backed_off.backoff > 1
    host.advance(50 * MS)
    peer_sack(peer, [(2001, 3001)], ack=1001)
    status = host.stack.status(tcb, host.now)
    assert (status.backoff, status.rtt) == (0, 50 * MS)
    assert status.rto < backed_off.rto
