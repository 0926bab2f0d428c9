"""Explicit congestion notification on the wire (RFC 3168, RFC 8311), beside tests/scripts/ecn."""

import pytest

from tests.stack.host import MSS, SECOND, Host, Peer, both_versions
from tests.stack.test_ip import fragments
from ustack.config import TcpConfig
from ustack.tcp.recovery import CWR, FAST, OPEN
from ustack.tcp.tcb import Tcb
from ustack.wire import tcp
from ustack.wire.ecn import CE, ECT0, ECT1, NOT_ECT, ecn_field
from ustack.wire.gso import split
from ustack.wire.virtio import GSO_ECN, HEADER_LEN

TCP = 6


def connection(
    version: int = 4, config: TcpConfig | None = None, *, sack: bool = False, **stack: int
) -> tuple[Host, Peer, Tcb]:
    """A passive open that agrees on ECN."""
    host = Host(version, config or TcpConfig(nagle=False), **stack)  # type: ignore[arg-type]
    host.listen()
    peer = Peer(host)
    options = peer.syn_options(MSS, None, sack, None)
    assert peer.send("SEW", 0, options=options) == ["SE. 0:1(0) ack 1"]
    assert peer.send(".", 1, 1) == []
    return host, peer, host.accept()


def fields(peer: Peer) -> list[tuple[str, int]]:
    """Flags and ECN field of what was heard."""
    return [(reply.flags, reply.packet.ecn) for reply in peer.replies()]


@both_versions
def test_an_offer_of_ecn_is_declined_when_it_is_off(version: int) -> None:
    # RFC 3168 §6.1.1: neither ECE nor CWR nor ECT
    host = Host(version, TcpConfig(ecn=0))
    host.listen()
    peer = Peer(host)
    assert peer.send("SEW", 0) == ["S. 0:1(0) ack 1"]
    peer.put(".", 1, 1)
    tcb = host.accept()
    assert tcb.ecn is None
    host.send(tcb, b"text")
    peer.send("E.", 1, 1)
    peer.send(".", 1, 1, b"text", ecn=CE)
    host.advance(SECOND)
    heard = fields(peer)
    assert len(heard) == 2
    assert all(not set(flags) & set("EW") and not field for flags, field in heard)


@both_versions
@pytest.mark.parametrize("flags", ["SE", "SW"])
def test_a_syn_without_both_bits_is_no_offer(version: int, flags: str) -> None:
    # RFC 3168 §6.1.1
    host = Host(version, TcpConfig(ecn=1))
    host.listen()
    assert Peer(host).send(flags, 0) == ["S. 0:1(0) ack 1"]


@both_versions
def test_after_a_plain_syn_no_text_is_ect(version: int) -> None:
    # RFC 3168 §6.1.1: "and has sent no non-ECN-setup SYN or non-ECN-setup SYN-ACK packets"
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect(TcpConfig(ecn=1))
    host.advance(2 * SECOND)
    assert fields(peer) == [("SEW", NOT_ECT), ("S", NOT_ECT)]
    assert peer.send("SE.", 0, 1) == [". 1:1(0) ack 1"]
    host.send(tcb, b"text")
    assert peer.reply().packet.ecn == NOT_ECT
    assert peer.send(".", 1, 5, b"text", ecn=CE) == ["E. 5:5(0) ack 5"]


@both_versions
def test_only_new_text_is_ect(version: int) -> None:
    # RFC 3168 §6.1.1, §6.1.2, §6.1.4, §6.1.5; RFC 8311 §4.2: ECT(0), not ECT(1)
    host, peer, tcb = connection(version)
    peer.put(".", 1, 1, b"text", ecn=ECT0)
    host.turn()
    assert fields(peer) == [(".", NOT_ECT)]
    host.send(tcb, b"x" * 100)
    assert fields(peer) == [("P.", ECT0)]
    host.advance(3 * SECOND)
    again = fields(peer)
    assert again
    assert set(again) == {("P.", NOT_ECT)}


@both_versions
def test_the_users_dscp_and_the_ecn_field_share_the_octet(version: int) -> None:
    host, peer, tcb = connection(version, TcpConfig(dscp=46))
    host.send(tcb, b"x")
    reply = peer.reply()
    assert (reply.packet.dscp, reply.packet.ecn) == (46, ECT0)


@both_versions
def test_a_syn_asks_and_its_repetition_does_not(version: int) -> None:
    # RFC 3168 §6.1.1, §6.1.1.1
    host = Host(version)
    peer = Peer(host)
    peer.connect(TcpConfig(ecn=1))
    assert fields(peer) == [("SEW", NOT_ECT)]
    host.advance(2 * SECOND)
    assert fields(peer) == [("S", NOT_ECT)]


@both_versions
def test_without_fallback_the_repeated_syn_asks_again(version: int) -> None:
    host = Host(version)
    peer = Peer(host)
    peer.connect(TcpConfig(ecn=1, ecn_fallback=False))
    host.advance(2 * SECOND)
    assert fields(peer) == [("SEW", NOT_ECT)] * 2


@both_versions
def test_the_marks_of_a_batch_are_not_lost_to_a_cwr_in_it(version: int) -> None:
    # RFC 3168 §6.1.3: the CWR belongs to an earlier echo
    host, peer, tcb = connection(version)
    peer.put(".", 1, 1, b"a" * MSS, ecn=CE)
    peer.put("W.", 1 + MSS, 1, b"b" * MSS, ecn=ECT0)
    host.turn()
    assert [flags for flags, _ in fields(peer)] == ["E.", "."]
    host.read(tcb)


@both_versions
def test_every_ack_echoes_until_cwr(version: int) -> None:
    # RFC 3168 §6.1.3
    host, peer, tcb = connection(version)
    for number, (flags, field, answer) in enumerate(
        [(".", ECT0, "."), (".", CE, "E."), (".", ECT0, "E."), ("W.", CE, "E."), ("W.", ECT1, ".")]
    ):
        peer.put(flags, 1 + number * MSS, 1, b"x" * MSS, ecn=field)
        host.turn()
        assert fields(peer) == [(answer, NOT_ECT)]
        host.read(tcb)
    status = host.stack.status(tcb, host.now)
    assert (status.ecn, status.ecn_seen) == ("ecn", True)


@both_versions
@pytest.mark.parametrize("seq", [1, 200_000_000])
def test_marks_on_text_out_of_the_window_are_ignored(version: int, seq: int) -> None:
    # RFC 3168 §6.1.5
    _, peer, tcb = connection(version)
    peer.send(".", 1, 1, b"x" * MSS, ecn=ECT0)
    peer.send(".", seq, 1, b"x" * MSS, ecn=CE)
    assert tcb.ecn is not None
    assert not tcb.ecn.echo


@both_versions
def test_an_echo_halves_the_window_once_for_a_flight(version: int) -> None:
    # RFC 3168 §6.1.2: "should react at most once per window of data"
    host, peer, tcb = connection(version, TcpConfig(nagle=False, congestion="newreno"))
    host.send(tcb, b"x" * 30 * MSS)
    assert tcb.congestion is not None
    before = tcb.congestion.cwnd
    peer.heard()
    first = peer.send("E.", 1, 1 + MSS)
    assert first[0].startswith("W. ")
    assert tcb.recovery.phase is CWR
    assert tcb.congestion.ssthresh == before // 2
    for segments in range(2, 11):
        assert not any("W" in text.split()[0] for text in peer.send("E.", 1, 1 + segments * MSS))
    assert tcb.congestion.ssthresh == before // 2
    peer.send(".", 1, 1 + 11 * MSS)
    assert tcb.recovery.phase is OPEN
    assert tcb.recovery.congestion_marks == 1
    assert host.stack.status(tcb, host.now).delivered_ce == 10


@both_versions
def test_a_new_flight_is_cut_again(version: int) -> None:
    host, peer, tcb = connection(version)
    host.send(tcb, b"x" * 30 * MSS)
    peer.send("E.", 1, 1 + MSS)
    peer.send(".", 1, 1 + 11 * MSS)
    peer.send("E.", 1, tcb.snd.nxt - tcb.snd.iss)
    assert tcb.recovery.congestion_marks == 2


@both_versions
def test_an_ack_with_echo_does_not_open_the_window(version: int) -> None:
    # RFC 3168 §6.1.2
    host, peer, tcb = connection(version)
    host.send(tcb, b"x" * 10 * MSS)
    assert tcb.congestion is not None
    before = tcb.congestion.cwnd
    peer.send("E.", 1, 1 + 5 * MSS)
    assert tcb.congestion.cwnd <= before
    assert host.stack.status(tcb, host.now).snd_cwnd <= before


@both_versions
def test_a_loss_in_a_flight_that_was_cut_is_not_paid_for_twice(version: int) -> None:
    host, peer, tcb = connection(version, sack=True)
    host.send(tcb, b"x" * 10 * MSS)
    peer.send("E.", 1, 1)  # a window update with an echo
    peer.send("E.", 1, 1 + MSS)
    assert tcb.congestion is not None
    halved = tcb.congestion.ssthresh
    peer.send("E.", 1, 1 + MSS, sack=[(1 + 2 * MSS, 1 + 6 * MSS)])
    assert tcb.recovery.phase is FAST
    assert tcb.congestion.ssthresh == halved


@both_versions
def test_a_window_probe_is_not_ect(version: int) -> None:
    # RFC 3168 §6.1.6
    host, peer, tcb = connection(version)
    peer.send(".", 1, 1, win=0)
    host.send(tcb, b"x" * 10)
    host.advance(SECOND)
    probes = fields(peer)
    assert probes
    assert {field for _, field in probes} == {NOT_ECT}


@both_versions
def test_of_a_super_segment_with_cwr_the_first_piece_has_it(version: int) -> None:
    # RFC 3168 §6.1.2; virtio 1.2 §5.1.6.2
    host, peer, tcb = connection(version, gso_max=65535, checksum_offload=True)
    host.send(tcb, b"x" * 10 * MSS)
    peer.send("E.", 1, 1 + 10 * MSS)
    raw: list[bytes] = []

    def write(parts: object, now: int) -> bool:
        raw.append(b"".join(parts))  # type: ignore[arg-type]
        return True

    assert tcb.recovery.rate is not None
    tcb.recovery.rate.window = 8 * MSS
    host.stack.send(tcb, b"y" * 4 * MSS, host.now)
    host.stack.flush(host.now, write)
    (frame,) = raw
    assert frame[1] & GSO_ECN
    pieces = split(frame)
    at = HEADER_LEN + (20 if version == 4 else 40)
    flags = [tcp.decode(piece, at, len(piece)).flags & tcp.CWR for piece in pieces]
    assert flags == [tcp.CWR, 0, 0, 0]
    assert [ecn_field(piece, HEADER_LEN) for piece in pieces] == [ECT0] * 4


def in_pieces(host: Host, peer: Peer, marks: list[int]) -> None:
    """Text for the host in as many fragments as there are marks."""
    start = HEADER_LEN + (20 if host.version == 4 else 40)
    segment = peer.frame(".", 1, 1, b"x" * 400)[start:]
    size = -(-len(segment) // len(marks) // 8) * 8
    for frame, mark in zip(fragments(host, TCP, segment, size), marks, strict=True):
        changed = bytearray(frame)
        if host.version == 4:
            changed[HEADER_LEN + 1] |= mark
            changed[HEADER_LEN + 10 : HEADER_LEN + 12] = b"\0\0"
            words = [int.from_bytes(changed[i : i + 2], "big") for i in range(HEADER_LEN, start, 2)]
            total = sum(words)
            total = (total & 0xFFFF) + (total >> 16)
            total = (total & 0xFFFF) + (total >> 16)
            changed[HEADER_LEN + 10 : HEADER_LEN + 12] = (~total & 0xFFFF).to_bytes(2, "big")
        else:
            changed[HEADER_LEN + 1] |= mark << 4
        host.input(bytes(changed))


@both_versions
@pytest.mark.parametrize(
    "marks, echo",
    [
        ([ECT0, CE, ECT0], True),
        ([CE, CE, CE], True),
        ([ECT1, ECT0, CE], True),
        ([ECT0, ECT0, ECT0], False),
        ([NOT_ECT, NOT_ECT, NOT_ECT], False),
    ],
)
def test_a_mark_on_one_fragment_marks_the_whole(version: int, marks: list[int], echo: bool) -> None:
    # RFC 3168 §5.3
    host, peer, _ = connection(version)
    in_pieces(host, peer, marks)
    assert peer.heard() == [f"{'E.' if echo else '.'} 1:1(0) ack 401"]


@both_versions
@pytest.mark.parametrize("marks", [[NOT_ECT, CE, CE], [CE, NOT_ECT, CE], [ECT0, ECT0, NOT_ECT]])
def test_fragments_that_disagree_on_ect_are_dropped(version: int, marks: list[int]) -> None:
    # RFC 3168 §5.3; Linux: ECT beside Not-ECT as well
    host, peer, _ = connection(version)
    in_pieces(host, peer, marks)
    assert peer.heard() == []
    assert host.drops()["fragment-ecn"] == 1
