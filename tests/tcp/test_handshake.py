"""What SYNs offer and agree on, and how initial sequence numbers are chosen."""

import pytest

from tests.stack.host import ISN, MS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.tcp.handshake import (
    clamp_receive_mss,
    initial_sequence_number,
    timestamp_offset,
    wanted_wscale,
)
from ustack.tcp.tcb import Tcb
from ustack.wire.tcp_options import encode_options

MIB = 1 << 20


def answer_to(host: Host, options: bytes) -> Peer:
    """A peer whose SYN had `options` and that has not heard the SYN,ACK yet."""
    peer = Peer(host)
    host.listen()
    peer.put("S", 0, options=options)
    host.turn()
    return peer


def opened(peer: Peer, options: bytes = b"") -> Tcb:
    """The connection, once that peer has sent its ACK."""
    peer.send(".", 1, 1, options=options)
    return peer.host.accept()


# Initial sequence numbers (RFC 6528, RFC 9293 §3.4.1)


def test_initial_numbers_follow_a_clock_of_four_microseconds() -> None:
    at = [initial_sequence_number(b"flow", b"secret", now) for now in (0, 4, 4 * SECOND)]
    assert (at[1] - at[0]) & 0xFFFF_FFFF == 1
    assert (at[2] - at[0]) & 0xFFFF_FFFF == SECOND


def test_initial_numbers_depend_on_the_flow_and_the_secret() -> None:
    numbers = {
        initial_sequence_number(flow, secret, 0)
        for flow in (b"a" * 12, b"b" * 12, b"a" * 36)
        for secret in (b"one", b"two")
    }
    assert len(numbers) == 6
    assert all(0 <= number <= 0xFFFF_FFFF for number in numbers)


@both_versions
def test_the_tests_begin_just_below_the_wrap(version: int) -> None:
    peer = Peer(Host(version))
    peer.establish()
    assert peer.isn == peer.our_isn == ISN


def test_timestamps_of_two_hosts_have_one_offset_for_all_ports() -> None:
    # RFC 6191 rests on timestamps that grow from connection to connection
    assert timestamp_offset(b"pair", b"secret") == timestamp_offset(b"pair", b"secret")
    assert timestamp_offset(b"pair", b"secret") != timestamp_offset(b"other", b"secret")
    host = Host()
    first, second = Peer(host, 40000), Peer(host, 40001)
    a, b = first.connected(tsval=1), second.connected(tsval=1)
    assert a.ts_offset == b.ts_offset


# What we offer


@both_versions
def test_our_syn_offers_everything_as_configured(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    peer.connect(TcpConfig(receive_buffer=4 * MIB))
    reply = peer.reply()
    assert str(reply) == "S 0:1(0)"
    assert reply.window == 65535
    options = reply.options
    assert options.mss == (1460 if version == 4 else 1440)  # MTU 1500, MUST-67
    assert options.wscale == 7  # 65535 << 6 is less than 4 MiB
    assert options.sack_permitted
    assert options.tsval is not None
    assert options.tsecr == 0


@both_versions
def test_our_syn_offers_nothing_that_is_switched_off(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    peer.connect(TcpConfig(window_scaling=False, timestamps=False, sack=False, mss=700))
    options = peer.reply().options
    assert (options.mss, options.wscale, options.sack_permitted, options.tsval) == (
        700, None, False, None,
    )  # fmt: skip


@both_versions
def test_our_syn_ack_answers_only_what_was_offered(version: int) -> None:
    host = Host(version)
    peer = answer_to(host, encode_options(mss=1000))
    options = peer.reply().options
    assert options.mss == (1460 if version == 4 else 1440)
    assert (options.wscale, options.sack_permitted, options.tsval) == (None, False, None)


@both_versions
def test_our_syn_ack_agrees_to_everything(version: int) -> None:
    host = Host(version)
    peer = answer_to(host, encode_options(mss=1000, wscale=3, sack_permitted=True, tsval=77))
    options = peer.reply().options
    assert (options.wscale, options.sack_permitted, options.tsecr) == (7, True, 77)
    tcb = opened(peer, encode_options(tsval=77, tsecr=options.tsval or 0))
    info = host.stack.status(tcb, host.now)
    assert (info.snd_wscale, info.rcv_wscale, info.sack, info.timestamps) == (3, 7, True, True)


def test_what_is_switched_off_is_not_agreed_to() -> None:
    host = Host(tcp=TcpConfig(window_scaling=False, timestamps=False, sack=False))
    peer = answer_to(host, encode_options(mss=1000, wscale=3, sack_permitted=True, tsval=77))
    options = peer.reply().options
    assert (options.wscale, options.sack_permitted, options.tsval) == (None, False, None)


def test_a_resent_syn_ack_says_the_same() -> None:
    host = Host()
    peer = answer_to(host, encode_options(mss=1000, wscale=3, sack_permitted=True, tsval=77))
    first = peer.reply().options
    host.advance(SECOND + MS)
    second = peer.reply().options
    assert (second.mss, second.wscale, second.sack_permitted) == (
        first.mss, first.wscale, first.sack_permitted,
    )  # fmt: skip
    assert first.tsval is not None and second.tsval is not None
    assert second.tsval - first.tsval in (1000, 1001)


@pytest.mark.parametrize(
    "buffer,shift",
    [(1, 0), (65535, 0), (65536, 1), (131071, 1), (131072, 2), (4 * MIB, 7), (1 << 30, 14)],
)
def test_the_scale_is_the_smallest_that_can_say_the_whole_buffer(buffer: int, shift: int) -> None:
    assert wanted_wscale(TcpConfig(receive_buffer=buffer)) == shift
    assert wanted_wscale(TcpConfig(receive_buffer_initial=1, receive_buffer_max=buffer)) == shift


def test_the_mss_announced_is_what_the_mtu_carries_or_less() -> None:
    assert clamp_receive_mss(TcpConfig(), 1500, 40) == 1460
    assert clamp_receive_mss(TcpConfig(), 1 << 20, 60) == 65535 - 60
    assert clamp_receive_mss(TcpConfig(mss=2000), 1500, 40) == 1460
    assert clamp_receive_mss(TcpConfig(mss=500), 1500, 40) == 500


# What we take from the peer


def sizes(host: Host, tcb: Tcb, peer: Peer, size: int = 20_000) -> list[int]:
    host.send(tcb, b"x" * size)
    return [len(reply.payload) for reply in peer.replies()]


@pytest.mark.parametrize("version,default", [(4, 536), (6, 1220)])
def test_without_an_mss_option_the_default_is_used(version: int, default: int) -> None:
    # MUST-15
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(mss=None)
    assert sizes(host, tcb, peer)[0] == default


@both_versions
def test_segments_are_no_larger_than_the_mtu_allows(version: int) -> None:
    # MUST-16
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(mss=9000)
    assert sizes(host, tcb, peer)[0] == (1460 if version == 4 else 1440)


@both_versions
def test_options_are_taken_off_the_segment_size(version: int) -> None:
    # MUST-16, RFC 6691 §2
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(mss=1000, tsval=5)
    assert sizes(host, tcb, peer)[0] == 988


@pytest.mark.parametrize("mss", [0, 1, 8])
def test_an_absurd_mss_is_not_believed(mss: int) -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.establish(mss=mss)
    assert sizes(host, tcb, peer)[0] >= 48


@both_versions
@pytest.mark.parametrize(
    "options,mss",
    [
        ("02 00 03e8", None),  # MSS of length 0
        ("02 01 03e8", None),
        ("02 03 03e8", None),
        ("02 fa 03e8", None),
        ("01 02 04 03e8 000000", 1000),  # unaligned
        ("fd 04 0000 02 04 03e8", 1000),  # an unknown kind before it
        ("02 04 03e8 00 ffffff", 1000),  # garbage behind the end of the list
        ("02 04 03e8 05 ff 0101", 1000),
        ("ff", None),
    ],
)
def test_odd_options_on_a_syn_are_survived(version: int, options: str, mss: int | None) -> None:
    host = Host(version)
    peer = answer_to(host, bytes.fromhex(options))
    assert peer.heard() == ["S. 0:1(0) ack 1"]
    tcb = opened(peer)
    default = 536 if version == 4 else 1220
    assert sizes(host, tcb, peer)[0] == (mss or default)


def test_a_scale_of_15_works_as_14() -> None:
    # RFC 7323 §2.3
    host = Host()
    peer = answer_to(host, bytes.fromhex("02 04 03e8 03 03 0f 00"))
    peer.heard()
    tcb = opened(peer)
    assert host.stack.status(tcb, host.now).snd_wscale == 14


def test_windows_are_scaled_once_both_have_agreed() -> None:
    host = Host(tcp=TcpConfig(receive_buffer=1 * MIB))
    peer = Peer(host)
    tcb = peer.establish(wscale=4, win=1000)
    assert host.stack.status(tcb, host.now).snd_wnd == 16_000
    peer.put(".", 1, 1, b"x")
    host.turn()
    reply = peer.reply()
    # 1 MiB needs a shift of 5; the field is rounded up as Linux does
    assert MIB - 64 <= reply.window << 5 <= MIB + 32


def test_a_syn_ack_with_nothing_but_timestamps_agrees_to_them() -> None:
    # The layout is that of any later segment (RFC 7323 appendix A)
    host = Host()
    peer = Peer(host)
    tcb = peer.connect()
    peer.heard()
    peer.put("S.", 0, 1, options=encode_options(tsval=500, tsecr=peer.tsecr))
    host.turn()
    reply = peer.reply()
    assert tcb.ts_on
    assert reply.options.tsecr == 500


def test_a_syn_with_nothing_but_timestamps_agrees_to_them() -> None:
    host = Host()
    peer = answer_to(host, encode_options(tsval=500))
    assert peer.reply().options.tsecr == 500
    assert opened(peer, encode_options(tsval=501, tsecr=peer.tsecr)).ts_on


# Text on a SYN (RFC 9293 §3.10.7.2: queued, not delivered before ESTABLISHED)


@both_versions
def test_text_on_a_syn_is_the_peers_to_send_again(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    host.listen()
    assert peer.send("S", 0, 0, b"0123456789") == ["S. 0:1(0) ack 1"]
    assert host.stack.connections() == []
    assert peer.send(".", 1, 1) == []
    tcb = host.accept()
    assert host.read(tcb) == b""
    assert peer.send("P.", 1, 1, b"0123456789") == [". 1:1(0) ack 11"]
    assert host.read(tcb) == b"0123456789"


@both_versions
def test_text_on_a_syn_may_be_resent_after_it(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    host.listen()
    peer.send("S", 0, 0, b"0123456789")
    assert peer.send("P.", 1, 1, b"0123456789abc") == [". 1:1(0) ack 14"]
    assert host.read(host.accept()) == b"0123456789abc"


@both_versions
def test_text_on_the_third_segment_is_delivered(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    host.listen()
    peer.send("S", 0)
    assert peer.send("P.", 1, 1, b"hello") == [". 1:1(0) ack 6"]
    assert host.read(host.accept()) == b"hello"


# The first round trip


def test_the_handshake_gives_the_first_round_trip() -> None:
    host = Host()
    passive, active = Peer(host, 40000), Peer(host, 40001, 81)
    assert passive.establish(rtt=50 * MS).rtt.srtt == 50 * MS
    assert active.connected(rtt=80 * MS).rtt.srtt == 80 * MS


@both_versions
def test_after_a_resent_syn_the_rto_begins_at_three_seconds(version: int) -> None:
    # RFC 6298 §5.7; Karn: the handshake gives no sample
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect(TcpConfig(timestamps=False))
    host.advance(1500 * MS)
    peer.heard()
    peer.send("S.", 0, 1, options=b"\2\4\3\xe8")
    assert tcb.rtt.srtt == 0
    host.send(tcb, b"x")
    peer.heard()
    host.advance(2900 * MS)
    assert peer.heard() == []
    host.advance(200 * MS)
    assert peer.heard() == ["P. 1:2(1) ack 1"]


def test_the_echo_of_a_resent_syn_gives_a_round_trip_all_the_same() -> None:
    # RFC 7323 §4.1: the echo tells which SYN was answered
    host = Host()
    peer = Peer(host)
    tcb = peer.connect()
    host.advance(1500 * MS)
    peer.heard()
    host.advance(100 * MS)
    peer.send("S.", 0, 1, options=encode_options(mss=1000, tsval=7, tsecr=peer.tsecr))
    assert 500 * MS <= tcb.rtt.srtt <= 601 * MS


@both_versions
def test_the_users_cap_on_the_mss_holds_for_what_is_sent_too(version: int) -> None:
    # Linux: TCP_MAXSEG
    host = Host(version, TcpConfig(mss=600))
    peer = Peer(host)
    tcb = peer.establish(mss=1000)
    host.send(tcb, b"x" * 1200)
    assert peer.heard() == [". 1:601(600) ack 1", "P. 601:1201(600) ack 1"]
