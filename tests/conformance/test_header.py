"""The TCP header and its options, both ways (RFC 9293 §3.1, §3.2; the IDs of conformance.md)."""

import pytest

from tests.stack.host import (
    ISN,
    MSS,
    OURS,
    SECOND,
    THEIRS,
    Host,
    Peer,
    both_versions,
    ip_frame,
    tcp_segment,
)
from ustack.config import TcpConfig
from ustack.errors import ConnectionReset
from ustack.tcp.state import ESTABLISHED
from ustack.wire import ipv4, tcp
from ustack.wire.tcp_options import encode_options
from ustack.wire.virtio import HEADER_LEN

TCP_AT = {4: HEADER_LEN + 20, 6: HEADER_LEN + 40}  # where the TCP header begins in a frame


def rfc1071(data: bytes) -> int:
    """The ones-complement sum as RFC 1071 §4.1 writes it down, word by word."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def option_kinds(options: bytes) -> list[int]:
    """The kinds of a list that follows RFC 9293 §3.1 to the letter."""
    kinds, at = [], 0
    while at < len(options):
        kinds.append(options[at])
        if options[at] == 0:
            assert not any(options[at:])  # MUST-69
            break
        at += 1 if options[at] == 1 else options[at + 1]
    else:
        assert at == len(options)
    return kinds


@both_versions
def test_a_window_above_32767_is_a_large_one(version: int) -> None:
    # MUST-1: as a signed number 0x8000 would let nothing out
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(win=0x8000)
    host.send(tcb, b"x" * 5 * MSS)
    assert len(peer.heard()) == 5


@both_versions
def test_every_segment_sent_has_a_checksum_over_pseudo_header_options_and_text(
    version: int,
) -> None:
    # MUST-2, RFC 8200 §8.1
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(sack=True, tsval=1)
    host.send(tcb, b"an odd number of octets")
    peer.send("P.", 11, 1, b"behind a gap")
    host.abort(tcb)
    sent = [reply.packet for reply in peer.replies()]
    for packet in sent:
        length = len(packet.payload)
        if version == 4:
            pseudo = packet.src + packet.dst + b"\0\6" + length.to_bytes(2, "big")
        else:
            pseudo = packet.src + packet.dst + length.to_bytes(4, "big") + b"\0\0\0\6"
        assert rfc1071(pseudo + packet.payload) == 0xFFFF


@both_versions
def test_a_segment_with_a_bad_checksum_has_no_effect_and_no_answer(version: int) -> None:
    # MUST-3: on a connection, at a listener and at a closed port
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    stranger, nobody = Peer(host, port=50000), Peer(host, our_port=81)
    for frame in (
        peer.frame("P.", 1, 1, b"text"),
        peer.frame("R", 1),
        stranger.frame("S", 0),
        nobody.frame("S", 0),
    ):
        spoilt = bytearray(frame)
        spoilt[TCP_AT[version] + 15] ^= 1  # in the window field
        host.input(bytes(spoilt))
    assert host.drain() == []
    assert tcb.state is ESTABLISHED and host.stack.connections() == [tcb]
    assert host.read(tcb) == b""
    assert host.drops()["tcp-checksum"] == 4


@both_versions
def test_options_of_any_segment_are_read_at_any_offset(version: int) -> None:
    # MUST-5, MUST-6, MUST-64: an unknown kind first, then the timestamp at an odd offset
    host = Host(version)
    peer = Peer(host)
    peer.establish(tsval=100)
    unknown = bytes((253, 5, 1, 2, 3))
    timestamp = b"\x08\x0a" + (107).to_bytes(4, "big") + bytes(4)
    peer.put("P.", 1, 1, b"text", options=unknown + timestamp + b"\0")
    host.advance(SECOND)
    reply = peer.reply()
    assert (reply.ack, reply.options.tsecr) == (5, 107)


@both_versions
@pytest.mark.parametrize(
    "options", ["02 00", "fd 01", "fd 28 00", "05", "05 fa", "08 0b 00 00 00 00"], ids=str
)
def test_an_absurd_option_length_on_text_is_survived(version: int, options: str) -> None:
    # MUST-7: what stands before it and the text still count
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    peer.send("P.", 1, 1, b"text", options=b"\1\1" + bytes.fromhex(options))
    assert host.read(tcb) == b"text"


@both_versions
def test_only_syns_carry_mss_scale_and_sack_permitted(version: int) -> None:
    # MUST-4, MUST-65, MUST-68, MUST-69, RFC 2018 §2, RFC 7323 §2.2
    host = Host(version)
    peer = Peer(host)
    host.listen()
    peer.put("S", 0, options=peer.syn_options(MSS, 7, True, 1))
    host.turn()
    peer.our_isn = int.from_bytes(host.frames[0].payload[4:8], "big")
    peer.tsval = 1
    host.advance(3 * SECOND)  # SYN,ACK again
    peer.put(".", 1, 1)
    tcb = host.accept()
    peer.put("P.", 11, 1, b"behind a gap")
    host.send(tcb, b"text")
    host.advance(3 * SECOND)
    host.abort(tcb)
    seen = set()
    for sent in host.drain():
        header = tcp.decode(sent.payload, 0, len(sent.payload))
        kinds = set(option_kinds(sent.payload[20 : header.data_offset]))
        seen |= kinds
        if header.flags & tcp.SYN:
            assert {2, 3, 4, 8} <= kinds
        else:
            assert not kinds & {2, 3, 4}
    assert {5, 8} <= seen


@both_versions
def test_such_options_count_for_nothing_on_other_segments(version: int) -> None:
    # RFC 7323 §2.2, RFC 2018 §2
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(win=2000)
    late = encode_options(mss=500, wscale=7, sack_permitted=True)
    peer.send("P.", 1, 1, b"text", options=late, win=2000)
    assert (tcb.snd.wnd, tcb.snd.mss, tcb.sack_on) == (2000, MSS, False)


@both_versions
def test_the_mss_announced_is_the_mtu_less_the_fixed_headers(version: int) -> None:
    # MUST-14, MUST-67, SHLD-5, RFC 1191 §3.1, RFC 8200 §8.3
    host = Host(version, mtu=1500)
    host.listen()
    peer = Peer(host)
    wanted = {4: 1460, 6: 1440}[version]
    peer.put("S", 0, options=peer.syn_options(None, None, False, 1))
    host.turn()
    assert peer.reply().options.mss == wanted
    other = Peer(host, port=7000, our_port=5000)
    other.connect()
    assert other.reply().options.mss == wanted


@both_versions
def test_reserved_bits_are_sent_as_zero_and_ignored(version: int) -> None:
    # RFC 9293 §3.1
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    segment = bytearray(
        tcp_segment(
            THEIRS[version],
            OURS[version],
            peer.port,
            80,
            ISN + 1,
            peer.our_isn + 1,
            tcp.ACK,
            b"yes",
        )
    )
    for bit in (1, 2, 4, 8):
        segment[12] = segment[12] & 0xF0 | bit
        segment[16:18] = b"\0\0"
        frame = ip_frame(THEIRS[version], OURS[version], ipv4.TCP, bytes(segment))
        host.input(bytes([0, 0]) + frame[2:])
        spoilt = bytearray(frame)
        spoilt[0] = 2  # DATA_VALID: the device vouches for the checksum
        host.input(bytes(spoilt))
    assert host.read(tcb) == b"yes"
    for sent in host.drain():
        assert sent.payload[12] & 0x0F == 0


@both_versions
def test_a_reset_that_carries_text_is_a_reset(version: int) -> None:
    # SHLD-2
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    assert peer.send("R.", 1, 1, b"why I reset") == []
    assert isinstance(tcb.error, ConnectionReset)


@both_versions
def test_fast_open_is_off(version: int) -> None:
    # RFC 7413 §2: the option is skipped, text on the SYN is not acknowledged with it
    host = Host(version)
    host.listen()
    peer = Peer(host)
    options = encode_options(mss=MSS, fast_open=bytes(8))
    peer.put("S", 0, 0, b"early", options=options)
    host.turn()
    reply = peer.reply()
    assert (str(reply), reply.options.fast_open) == ("S. 0:1(0) ack 1", None)


@both_versions
def test_urgent_text_of_any_length_arrives_in_line(version: int) -> None:
    # MUST-31, RFC 6093 §2: no octet is taken out of the stream
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    peer.send("PU.", 1, 1, b"a" * 900, urgent=2000)
    peer.send("PU.", 901, 1, b"b" * 900, urgent=1100)
    peer.send("P.", 1801, 1, b"c" * 900)
    assert host.read(tcb) == b"a" * 900 + b"b" * 900 + b"c" * 900


@both_versions
def test_an_absurd_urgent_pointer_does_no_harm(version: int) -> None:
    # RFC 9293 §3.8.5: pointer 0, beyond the text, and going back
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish()
    for seq, urgent in ((1, 0), (5, 65535), (9, 1)):
        peer.send("PU.", seq, 1, b"text", urgent=urgent)
    assert host.read(tcb) == b"text" * 3
    assert tcb.state is ESTABLISHED


@both_versions
def test_urgent_text_is_not_sent_unless_asked_for(version: int) -> None:
    # RFC 6093 §5
    host = Host(version, TcpConfig(nagle=False))
    peer = Peer(host)
    tcb = peer.establish()
    host.send(tcb, b"quiet")
    assert all("U" not in reply.flags and not reply.urgent for reply in peer.replies())
    host.send(tcb, b"loud", urgent=True)
    assert [(reply.flags, reply.urgent) for reply in peer.replies()] == [("PU.", 4)]
