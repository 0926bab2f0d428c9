"""Windows and timestamps as the receiver has them (RFC 9293 §3.8.6, RFC 7323)."""

from tests.stack.host import MS, MSS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig


@both_versions
def test_text_inside_any_window_ever_announced_is_taken(version: int) -> None:
    # RFC 7323 §2.4: rounding may make a later window smaller than an earlier one
    host = Host(version, TcpConfig(receive_buffer=256 << 10))
    peer = Peer(host)
    host.listen()
    peer.put("S", 0, options=peer.syn_options(MSS, 0, False, None))
    host.turn()
    shift = peer.reply().options.wscale
    assert shift == 3
    peer.send(".", 1, 1)
    tcb = host.accept()
    nxt, edge = 1, 2  # what was announced, at its widest
    while nxt < edge:
        size = min(MSS - nxt % 7, edge - nxt)
        peer.put("P.", nxt, 1, b"x" * size)
        host.advance(50 * MS)  # a delayed ACK
        reply = peer.replies()[-1]
        assert reply.ack == nxt + size
        nxt = reply.ack
        edge = max(edge, reply.ack + (reply.window << shift))
    assert len(host.read(tcb)) == edge - 1


@both_versions
def test_a_scale_of_zero_is_offered_too(version: int) -> None:
    # RFC 7323 §2.2: it lets the peer scale its own window
    host = Host(version, TcpConfig(receive_buffer=60_000))
    opening = Peer(host, port=7000, our_port=5000)
    opening.connect()
    assert opening.reply().options.wscale == 0
    host.listen()
    peer = Peer(host)
    peer.put("S", 0, options=peer.syn_options(MSS, 7, False, None))
    host.turn()
    assert peer.reply().options.wscale == 0


@both_versions
def test_our_timestamps_count_milliseconds_from_a_point_of_their_own(version: int) -> None:
    # RFC 7323 §3.2, §5.4: TSecr of the SYN is 0; the offset tells nothing of the clock
    host = Host(version)
    peer = Peer(host, port=7000, our_port=5000)
    tcb = peer.connect()
    syn = peer.reply().options
    assert syn.tsecr == 0 and syn.tsval is not None
    assert syn.tsval != host.now // MS & 0xFFFF_FFFF
    peer.send("S.", 0, 1, options=peer.syn_options(MSS, None, False, 9, syn.tsval))
    peer.tsval = 9
    host.advance(7 * SECOND)
    host.send(tcb, b"text")
    later = peer.reply().options.tsval
    assert later is not None and (later - syn.tsval) & 0xFFFF_FFFF == 7000


@both_versions
def test_a_timeout_halves_the_window_once(version: int) -> None:
    # RFC 5681 §3.1: ssthresh is not lowered by the next timeout. Linux: it comes from cwnd, which
    # is kept near the flight (tests/scripts/undo/dsack-after-timeout.pkt: 5 of 10, with 4 flying)
    host = Host(version, TcpConfig(congestion="newreno"))
    peer = Peer(host)
    tcb = peer.establish(rtt=50 * MS)
    host.send(tcb, b"x" * 8 * MSS)
    host.advance(400 * MS)
    assert host.stack.status(tcb, host.now).snd_ssthresh == 5 * MSS
    host.advance(4 * SECOND)
    status = host.stack.status(tcb, host.now)
    assert status.retransmits > 2
    assert (status.snd_ssthresh, status.snd_cwnd) == (5 * MSS, MSS)


@both_versions
def test_probes_of_a_window_and_answers_to_nonsense_carry_timestamps_too(version: int) -> None:
    # RFC 7323 §3.2: once agreed on, every segment but a RST does
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(tsval=7, win=0)
    host.send(tcb, b"x" * 10)
    host.advance(3 * SECOND)
    probes = peer.replies()
    assert len(probes) >= 2
    peer.put(".", 1_000_000, 1, b"far outside")
    host.turn()
    answers = peer.replies()
    assert len(answers) == 1
    assert all(reply.options.tsval is not None for reply in (*probes, *answers))
    assert all(reply.options.tsecr == 7 for reply in (*probes, *answers))


@both_versions
def test_text_outside_of_the_window_leaves_no_timestamp_behind(version: int) -> None:
    # RFC 7323 §4.3 (2), §5.3: SEG.SEQ must be at the left edge at most
    host = Host(version)
    peer = Peer(host)
    peer.establish(tsval=10)
    for number, seq in enumerate((1_000_000, 500_000, -5000)):
        peer.tsval = 20 + number
        peer.put(".", seq, 1, b"far outside")
        host.advance(SECOND)
    peer.tsval = 10
    peer.put(".", 101, 1, b"behind a gap")
    host.turn()
    assert [reply.options.tsecr for reply in peer.replies()] == [10] * 4
