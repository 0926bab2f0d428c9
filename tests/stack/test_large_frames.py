"""Bulk text to a device that takes more than 64 KiB at once: BIG TCP."""

import random

import pytest

from tests.stack.host import MSS, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.tcp.tcb import Tcb
from ustack.wire import ipv4, virtio
from ustack.wire.checksum import ones_sum
from ustack.wire.tcp_options import encode_options

LARGE = 14 * 32_768  # bytes, as of a TUN
TEXT = random.Random(5).randbytes(3 << 20)
ROUNDS = 12  # of slow start from 10 segments: more than enough for all of TEXT


def sender(version: int = 4, *, gso_max: int = LARGE, onlooker: bool = False) -> tuple[Host, Tcb]:
    """A connection with a window of 16 MiB, TEXT waiting in pieces that fit no frame."""
    tcp = TcpConfig(send_buffer=len(TEXT), congestion="newreno")
    host = Host(
        version, tcp, onlooker=onlooker, gso_max=gso_max, checksum_offload=True
    )  # fmt: skip
    host.listen()
    peer = Peer(host)
    peer.send("S", 0, options=encode_options(mss=MSS, wscale=8, sack_permitted=True))
    peer.send(".", 1, 1)
    return host, host.accept()


def carried(host: Host, tcb: Tcb) -> bytes:
    """All of TEXT as the peer gets it, which acknowledges what came once a millisecond."""
    peer, received = Peer(host), b""
    peer.our_isn = tcb.snd.iss & 0xFFFF_FFFF
    for at in range(0, len(TEXT), 300_000):
        host.stack.send(tcb, TEXT[at : at + 300_000], host.now)
    host.turn()
    for _ in range(ROUNDS):
        for sent in host.drain():
            received += sent.payload[20:]
        host.advance(1000)
        peer.put(".", 1, 1 + len(received))
        while not host.turn():
            pass
    return received


def lengths(host: Host) -> list[int]:
    """Of the IP packets that the device got in one piece, and was to cut."""
    return [len(frame) - virtio.HEADER_LEN for frame in host.super_segments]


def test_frames_are_as_large_as_the_device_takes_them() -> None:
    host, tcb = sender()
    assert carried(host, tcb) == TEXT
    assert ipv4.MAX_PACKET * 6 < max(lengths(host)) <= LARGE


def test_a_longer_packet_than_the_field_can_say_has_the_total_length_zero() -> None:
    host, tcb = sender()
    carried(host, tcb)
    for frame in host.super_segments:
        header = frame[virtio.HEADER_LEN : virtio.HEADER_LEN + ipv4.HEADER_LEN]
        total, length = int.from_bytes(header[2:4], "big"), len(frame) - virtio.HEADER_LEN
        assert total == (length if length <= ipv4.MAX_PACKET else 0)
        assert ones_sum(header) == 0xFFFF


def test_identifications_count_the_packets_of_the_wire() -> None:
    host, tcb = sender()
    frames = []
    host.stack.send(tcb, TEXT, host.now)
    peer = Peer(host)
    peer.our_isn = tcb.snd.iss & 0xFFFF_FFFF
    for _ in range(ROUNDS):
        while not host.turn():
            pass
        frames += host.drain()
        host.advance(1000)
        peer.put(".", 1, 1 + sum(len(sent.payload) - 20 for sent in frames))
    assert max(lengths(host)) > ipv4.MAX_PACKET
    idents = [int.from_bytes(sent.frame[14:16], "big") for sent in frames]
    assert idents == [(idents[0] + count) & 0xFFFF for count in range(len(idents))]


@both_versions
@pytest.mark.parametrize("gso_max", [ipv4.MAX_PACKET, LARGE])
def test_nobody_else_sees_more_than_64_kib(version: int, gso_max: int) -> None:
    """IPv6 would need a header of its own for it, and captures are for every reader."""
    if version == 4 and gso_max == LARGE:
        host, tcb = sender(onlooker=True)
    else:
        host, tcb = sender(version, gso_max=gso_max)
    assert carried(host, tcb) == TEXT
    assert ipv4.MAX_PACKET - 2 * MSS < max(lengths(host)) <= ipv4.MAX_PACKET + 40


def test_a_device_that_takes_less_from_now_on_gets_less() -> None:
    host, tcb = sender()
    host.stack.carries(ipv4.MAX_PACKET)
    assert carried(host, tcb) == TEXT
    assert max(lengths(host)) <= ipv4.MAX_PACKET


def test_what_waits_and_is_too_large_now_is_sent_again_in_smaller_frames() -> None:
    host, tcb = sender()
    peer = Peer(host)
    peer.our_isn = tcb.snd.iss & 0xFFFF_FFFF
    host.stack.send(tcb, TEXT, host.now)
    host.turn()
    received = b""
    while host.room is None:
        for sent in host.drain():
            received += sent.payload[20:]
        host.advance(1000)
        if len(received) > 1 << 20:
            host.room = 1  # the first frame of the next burst
        peer.put(".", 1, 1 + len(received))
        while not host.turn() and host.room is None:
            pass
    assert lengths(host)[-1] > ipv4.MAX_PACKET
    before = len(host.super_segments)
    host.stack.carries(ipv4.MAX_PACKET)
    host.room = None
    texts = {1 + len(received): received}
    for _ in range(400):
        host.turn()
        for sent in host.drain():
            seq = int.from_bytes(sent.payload[4:8], "big") - peer.our_isn & 0xFFFF_FFFF
            texts[seq] = sent.payload[20:]
        while 1 + len(received) in texts and len(received) < len(TEXT):
            received += texts[1 + len(received)]
        blocks = [(seq, seq + len(text)) for seq, text in texts.items() if seq > len(received) + 1]
        peer.put(".", 1, 1 + len(received), sack=blocks[:1])
        host.advance(10_000)
    assert received == TEXT
    assert max(lengths(host)[before:]) <= ipv4.MAX_PACKET
