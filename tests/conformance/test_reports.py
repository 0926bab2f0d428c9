"""What the user hears of a connection (RFC 9293 §3.8.3, §3.8.5, §3.9.1.8) and of its end."""

from tests.stack.host import MSS, SECOND, Host, Peer, Sent, both_versions, ip_frame, packed
from ustack.config import TcpConfig
from ustack.errors import ConnectionReset, ConnectionTimedOut, HostUnreachable
from ustack.tcp.state import CLOSE_WAIT, ESTABLISHED
from ustack.tcp.tcb import CLOSED_EVENT, SOFT_ERROR, URGENT
from ustack.tcp.user_calls import urgent_pending
from ustack.wire import icmp, ipv4, ipv6
from ustack.wire.virtio import HEADER_LEN

ROUTER = {4: "192.0.2.1", 6: "2001:db8::1"}


def error_about(sent: Sent, version: int, kind: int, code: int, rest: int = 0) -> bytes:
    """An ICMP error of a router that quotes what we sent."""
    ours, quote = sent.src, sent.frame[HEADER_LEN:]
    to = {4: "10.0.0.1", 6: "fd00::1"}[version]
    assert ours == packed(to)
    if version == 4:
        return ip_frame(ROUTER[4], to, ipv4.ICMP, icmp.encode_v4(kind, code, rest, quote))
    message = icmp.encode_v6(packed(ROUTER[6]), ours, kind, code, rest, quote)
    return ip_frame(ROUTER[6], to, ipv6.ICMPV6, message)


UNREACHABLE = {4: (3, 1), 6: (1, 3)}  # host, address


@both_versions
def test_an_orderly_end_and_an_abort_are_told_apart(version: int) -> None:
    # MUST-12
    host = Host(version)
    orderly, broken = Peer(host), Peer(host, port=40001)
    one, other = orderly.establish(), broken.establish()
    orderly.send("F.", 1, 1)
    broken.send("R.", 1, 1)
    assert (one.eof, one.error, one.state) == (True, None, CLOSE_WAIT)
    assert not other.eof and isinstance(other.error, ConnectionReset)


@both_versions
def test_soft_errors_reach_the_user(version: int) -> None:
    # MUST-47, SHLD-25: ICMP errors and excessive retransmission; MUST-56: nothing ends
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    host.send(tcb, b"text")
    (sent,) = (reply.packet for reply in peer.replies())
    host.events_of(tcb)
    host.input(error_about(sent, version, *UNREACHABLE[version]))
    assert host.events_of(tcb) & SOFT_ERROR
    assert isinstance(tcb.soft_error, HostUnreachable)
    host.advance(20 * SECOND)  # R1 has passed
    assert host.events_of(tcb) & SOFT_ERROR
    assert tcb.state is ESTABLISHED


@both_versions
def test_soft_errors_can_be_muted(version: int) -> None:
    # SHLD-20; the last one can still be looked at
    host = Host(version, TcpConfig(report_soft_errors=False))
    peer = Peer(host)
    tcb = peer.establish()
    host.send(tcb, b"text")
    (sent,) = (reply.packet for reply in peer.replies())
    host.events_of(tcb)
    host.input(error_about(sent, version, *UNREACHABLE[version]))
    host.advance(20 * SECOND)
    assert not host.events_of(tcb) & SOFT_ERROR
    assert isinstance(tcb.soft_error, HostUnreachable)


@both_versions
def test_an_error_when_nothing_is_in_flight_is_ignored(version: int) -> None:
    # RFC 5927 §4.1
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    peer.put("P.", 1, 1, b"text")
    host.advance(SECOND)
    (ack,) = (reply.packet for reply in peer.replies())
    host.input(error_about(ack, version, *UNREACHABLE[version]))
    assert tcb.soft_error is None


@both_versions
def test_r2_may_be_infinite(version: int) -> None:
    # MUST-21
    forever = 1 << 62
    host = Host(version, TcpConfig(r2_retransmissions=forever))
    peer = Peer(host)
    tcb = peer.establish()
    host.send(tcb, b"text")
    host.advance(24 * 3600 * SECOND)
    assert tcb.state is ESTABLISHED
    assert len(peer.heard()) > 700  # every two minutes


@both_versions
def test_r2_is_chosen_for_one_connection(version: int) -> None:
    # MUST-21
    host = Host(version)
    patient = Peer(host, port=7000, our_port=5000)
    hasty = Peer(host, port=7000, our_port=5001)
    one = patient.connected()
    other = hasty.connected(config=TcpConfig(r2_timeout_us=10 * SECOND))
    for tcb in (one, other):
        host.send(tcb, b"text")
    host.advance(30 * SECOND)
    assert isinstance(other.error, ConnectionTimedOut)
    assert host.events_of(other) & CLOSED_EVENT
    assert one.state is ESTABLISHED


@both_versions
def test_urgent_text_is_told_when_it_begins_and_each_time_its_end_moves(version: int) -> None:
    # MUST-32, MUST-33: also when the text itself is still to come
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    host.events_of(tcb)
    peer.send("PU.", 1, 1, b"12345", urgent=20)
    assert host.events_of(tcb) & URGENT
    assert urgent_pending(tcb) == 20
    peer.send("PU.", 6, 1, b"67890", urgent=15)  # the same end
    assert not host.events_of(tcb) & URGENT
    peer.send("PU.", 11, 1, b"abcde", urgent=30)
    assert host.events_of(tcb) & URGENT
    assert urgent_pending(tcb) == 40
    host.read(tcb)
    assert urgent_pending(tcb) == 25


@both_versions
def test_urgent_text_is_told_at_a_window_of_zero_too(version: int) -> None:
    # MUST-66
    host = Host(version, TcpConfig(receive_buffer=2 * MSS))
    peer = Peer(host)
    tcb = peer.establish()
    peer.put("P.", 1, 1, b"x" * 2 * MSS)
    host.turn()
    assert peer.replies()[-1].window == 0
    host.events_of(tcb)
    peer.send("U.", 2001, 1, urgent=9)
    assert host.events_of(tcb) & URGENT
    assert urgent_pending(tcb) == 2 * MSS + 9


@both_versions
def test_dscp_and_ttl_belong_to_one_connection_and_can_change(version: int) -> None:
    # MUST-48, MUST-49, SHLD-21, SHLD-22
    host = Host(version)
    plain, marked = Peer(host), Peer(host, port=7000, our_port=5000)
    one, other = plain.establish(), marked.connected(config=TcpConfig(dscp=46, ttl=255))
    host.send(one, b"text")
    host.send(other, b"text")
    assert {(r.packet.dscp, r.packet.hop_limit) for r in plain.replies()} == {(0, 64)}
    assert {(r.packet.dscp, r.packet.hop_limit) for r in marked.replies()} == {(46, 255)}
    marked.send(".", 1, 5)
    host.stack.configure(other, TcpConfig(dscp=10, ttl=3), host.now)
    host.send(other, b"text")
    assert {(r.packet.dscp, r.packet.hop_limit) for r in marked.replies()} == {(10, 3)}
