"""TCP Fast Open (RFC 7413): the server's judgement and limits, the client's memory and pauses."""

import pytest

from tests.stack.host import MS, OURS, SECOND, THEIRS, Host, Peer, both_versions, packed
from ustack.config import TcpConfig
from ustack.tcp.fast_open import CLIENT, SERVER, make_cookie
from ustack.tcp.state import ESTABLISHED, SYN_RECEIVED
from ustack.tcp.tcb import ACCEPTABLE, CONNECTED, Tcb
from ustack.wire.tcp_options import encode_options

KEY = bytes(range(16))
LISTENING = TcpConfig(fast_open_queue=3, pacing=False)


def server(version: int = 4, config: TcpConfig = LISTENING, **stack: object) -> Host:
    host = Host(version, fast_open_key=KEY, **stack)  # type: ignore[arg-type]
    host.listen(config=config)
    return host


def cookie(version: int) -> bytes:
    """Of the peer."""
    return make_cookie(KEY, packed(THEIRS[version]), packed(OURS[version]))


def knock(host: Host, value: bytes | None, text: bytes = b"", port: int = 40000) -> Peer:
    peer = Peer(host, port)
    peer.put("S", 0, 0, text, options=encode_options(mss=1000, fast_open=value))
    host.turn()
    return peer


@both_versions
def test_a_cookie_is_given_to_whom_asks_and_text_with_it_is_read_at_once(version: int) -> None:
    host = server(version)
    peer = knock(host, b"")
    (reply,) = peer.replies()
    assert reply.options.fast_open == cookie(version)
    peer.send("R", 1)
    peer = knock(host, reply.options.fast_open, b"hello")
    (reply,) = peer.replies()
    assert str(reply) == "S. 0:1(0) ack 6"
    assert reply.options.fast_open is None
    (listener,) = host.stack.listeners()
    assert host.events_of(listener) & ACCEPTABLE
    tcb = host.accept()
    assert host.read(tcb) == b"hello"
    assert tcb.state is SYN_RECEIVED
    host.send(tcb, b"world")
    assert peer.heard() == ["P. 1:6(5) ack 6"]
    peer.send(".", 6, 6)
    assert tcb.state is ESTABLISHED
    assert not host.events_of(tcb) & CONNECTED  # it was open all the time
    assert host.stack.status(tcb, host.now).syn_data


@both_versions
def test_a_wrong_cookie_gets_an_ordinary_handshake_and_a_good_cookie(version: int) -> None:
    host = server(version)
    for value in (b"wrong...", cookie(version)[:6], cookie(version) + b"xx"):
        peer = knock(host, value, b"hello")
        (reply,) = peer.replies()
        assert str(reply) == "S. 0:1(0) ack 1"
        assert reply.options.fast_open == cookie(version)
        peer.send("R", 1)
    assert host.drops()["fast-open-passive-failed"] == 3


@pytest.mark.parametrize("config,bits", [(TcpConfig(), CLIENT | SERVER), (LISTENING, CLIENT)])
def test_off_means_that_the_option_is_ignored(config: TcpConfig, bits: int) -> None:
    host = server(4, config, fast_open=bits)
    for value in (b"", cookie(4)):
        (reply,) = knock(host, value, b"hello").replies()
        assert str(reply) == "S. 0:1(0) ack 1"
        assert reply.options.fast_open is None


def test_cookies_of_another_host_do_not_count() -> None:
    host = server()
    peer = Peer(host)
    peer.src = "10.0.0.77"
    peer.put("S", 0, 0, b"x", options=encode_options(mss=1000, fast_open=cookie(4)))
    host.turn()
    assert peer.heard() == ["S. 0:1(0) ack 1"]


def test_pending_connections_are_limited() -> None:
    host = server()
    peers = [knock(host, cookie(4), b"x", port) for port in range(40000, 40004)]
    assert [peer.heard()[0] for peer in peers] == ["S. 0:1(0) ack 2"] * 3 + ["S. 0:1(0) ack 1"]
    assert host.drops()["fast-open-overflow"] == 1
    peers[0].send(".", 2, 1)  # confirmed: there is room again
    assert knock(host, cookie(4), b"x", 40010).heard() == ["S. 0:1(0) ack 2"]


def test_one_that_was_reset_counts_for_a_minute() -> None:
    host = server(4, TcpConfig(fast_open_queue=1))
    knock(host, cookie(4), b"x", 40000).send("R", 2)
    assert knock(host, cookie(4), b"x", 40001).heard() == ["S. 0:1(0) ack 1"]
    host.advance(61 * SECOND)
    assert knock(host, cookie(4), b"x", 40002).heard() == ["S. 0:1(0) ack 2"]


def test_a_full_accept_queue_takes_no_text_either() -> None:
    host = Host(fast_open_key=KEY)
    host.listen(backlog=0, config=LISTENING)
    assert knock(host, cookie(4), b"x", 40000).heard() == ["S. 0:1(0) ack 2"]
    assert knock(host, cookie(4), b"x", 40001).heard() == []


def test_before_the_ack_no_more_than_the_initial_window_leaves() -> None:
    # RFC 7413 §4.2.2
    host = server()
    peer = knock(host, cookie(4), b"x")
    tcb = host.accept()
    host.send(tcb, b"x" * 20_000)
    assert sum(len(reply.payload) for reply in peer.replies()) == 10_000
    host.advance(900 * MS)
    assert peer.replies() == []
    peer.put(".", 2, 10_001)
    host.turn()
    assert sum(len(reply.payload) for reply in peer.replies()) == 10_000


def test_a_client_that_vanishes_is_given_up() -> None:
    host = server(4, TcpConfig(fast_open_queue=1, syn_ack_retransmissions=2))
    peer = knock(host, cookie(4), b"x")
    tcb = host.accept()
    host.send(tcb, b"answer")
    host.advance(60 * SECOND)
    assert [str(r) for r in peer.replies()].count("S. 0:1(0) ack 2") == 1 + 2 + 1
    assert tcb.closed and tcb.error is not None
    assert host.stack.pending_timers() == 0


# The client


def dial(host: Host, text: bytes = b"", port: int = 5000, **config: object) -> tuple[Peer, Tcb]:
    peer = Peer(host, 80, port)
    tcb = host.stack.connect(
        THEIRS[host.version],
        80,
        host.now,
        local_port=port,
        fast_open=text,
        config=TcpConfig(**config),  # type: ignore[arg-type]
    )
    host.turn()
    return peer, tcb


def answer(peer: Peer, ack: int, value: bytes | None = None) -> None:
    peer.put("S.", 0, ack, options=encode_options(mss=1000, fast_open=value))
    peer.host.turn()


def introduced(host: Host, value: bytes = b"COOKIE42") -> None:
    """The peer has given its cookie and announced an MSS of 1000."""
    peer, tcb = dial(host)
    (reply,) = peer.replies()
    assert (reply.options.fast_open, reply.payload) == (b"", b"")
    answer(peer, 1, value)
    peer.replies()
    host.abort(tcb)
    host.drain()


@both_versions
def test_a_client_asks_first_and_then_sends_text_on_its_syn(version: int) -> None:
    host = Host(version)
    introduced(host)
    peer, tcb = dial(host, b"x" * 2000, 5001)
    (reply,) = peer.replies()
    assert (reply.options.fast_open, len(reply.payload)) == (b"COOKIE42", 1000 - 40)
    assert len(tcb.send_buffer) == 960
    answer(peer, 961)
    assert tcb.state is ESTABLISHED
    assert peer.heard() == [". 961:961(0) ack 1"]
    assert host.stack.status(tcb, host.now).syn_data
    assert host.drops()["fast-open-active"] == 1


@both_versions
def test_what_is_not_acknowledged_rides_on_the_ack(version: int) -> None:
    host = Host(version)
    introduced(host)
    peer, tcb = dial(host, b"x" * 100, 5001)
    peer.replies()
    answer(peer, 41)
    assert peer.heard() == ["P. 41:101(60) ack 1"]
    assert host.stack.status(tcb, host.now).fastopen_client_fail == 2
    peer.send(".", 1, 101)
    assert not len(tcb.send_buffer)


def test_a_cookie_that_was_not_asked_for_is_ignored() -> None:
    host = Host()
    peer = Peer(host)
    peer.connect()
    peer.heard()
    answer(peer, 1, b"COOKIE42")
    peer, _ = dial(host, b"x", 5001)
    assert peer.reply().options.fast_open == b""


def test_an_ack_of_more_than_the_syn_carried_is_reset() -> None:
    host = Host()
    introduced(host)
    peer, tcb = dial(host, b"x" * 100, 5001)
    peer.replies()
    answer(peer, 102)
    assert peer.heard() == ["R 102:102(0)"]
    assert tcb.state is not ESTABLISHED


def test_a_host_that_loses_syns_with_text_is_left_alone_for_a_while() -> None:
    # RFC 7413 §4.1.3.1
    host = Host()
    introduced(host)
    for port in (5001, 5002):
        peer, tcb = dial(host, b"x", port)
        peer.replies()
        host.advance(SECOND + 100 * MS)
        (again,) = peer.replies()
        assert (again.options.fast_open, again.payload) == (None, b"")
        answer(peer, 1)
        assert peer.heard() == ["P. 1:2(1) ack 1"]
        assert host.stack.status(tcb, host.now).fastopen_client_fail == 3
    peer, _ = dial(host, b"x", 5003)
    (reply,) = peer.replies()
    assert (reply.options.fast_open, reply.payload) == (None, b"")
    host.advance(241 * SECOND)
    peer, _ = dial(host, b"x", 5004)
    assert len(peer.replies()[-1].payload) == 1


def test_three_timeouts_pause_fast_open_everywhere_and_longer_each_time() -> None:
    # Linux tcp_fastopen_blackhole_timeout_sec
    host = Host(fast_open_blackhole_us=10 * SECOND)
    introduced(host)
    for port, pause in ((5001, 10), (5010, 20)):
        peer, tcb = dial(host, b"x", port)
        host.advance(7 * SECOND + 100 * MS)  # 1 + 2 + 4 s
        host.abort(tcb)
        host.drain()
        for later, offered in ((pause - 1, None), (2, b"COOKIE42")):
            host.advance(later * SECOND)
            port += 1
            peer, tcb = dial(host, b"x", port)
            assert peer.reply().options.fast_open == offered
            host.abort(tcb)
            host.drain()


def test_the_memory_of_cookies_is_bounded() -> None:
    host = Host()
    introduced(host)
    client = host.stack.fast_open_client
    for number in range(1100):
        peer = Peer(host, 80, 6000)
        peer.src = f"10.1.{number >> 8}.{number & 255}"
        tcb = host.stack.connect(peer.src, 80, host.now, local_port=6000, fast_open=b"")
        host.turn()
        peer.replies()
        answer(peer, 1, b"COOKIE43")
        host.abort(tcb)
        host.drain()
    theirs, ours = packed(THEIRS[4]), packed(OURS[4])
    assert not client.offer(theirs, ours, TcpConfig(), host.now).text  # the oldest one is gone
    assert client.offer(packed("10.1.4.75"), ours, TcpConfig(), host.now).text
    client.forget()
    assert not client.offer(packed("10.1.4.75"), ours, TcpConfig(), host.now).text


def test_without_the_clients_bit_connect_is_as_ever() -> None:
    host = Host(fast_open=SERVER)
    peer, tcb = dial(host, b"x")
    (reply,) = peer.replies()
    assert (reply.options.fast_open, reply.payload) == (None, b"")
    assert tcb.fast_open is None


def test_the_text_of_a_syn_is_what_the_send_buffer_has_taken() -> None:
    host = Host(4)
    peer, tcb = dial(host, b"hello", fast_open_no_cookie=True, send_buffer=1)
    (syn,) = peer.replies()
    assert syn.payload == b"h"
    assert host.stack.status(tcb, host.now).data_segs_out == 1  # as on Linux
    answer(peer, 2)
    assert tcb.snd.una == tcb.snd.nxt


def test_a_cookie_that_does_not_fit_into_the_mtu_is_left_out() -> None:
    """RFC 791: 68 bytes pass everywhere; MSS, timestamps, SACK and window scale leave four."""
    options = encode_options(mss=28, wscale=7, sack_permitted=True, tsval=1, fast_open=b"")
    host = server(mtu=68)
    peer = Peer(host, 40000)
    peer.put("S", 0, 0, options=options)
    host.turn()
    (reply,) = peer.replies()
    assert reply.options.fast_open is None and reply.options.wscale is not None
    client = Host(4, mtu=68)
    introduced(client)
    peer, _ = dial(client, b"x", 5001)
    (reply,) = peer.replies()
    assert (reply.options.fast_open, reply.payload) == (None, b"")
