"""Accurate ECN feedback on the wire (RFC 9768), beside tests/scripts/accecn."""

from itertools import pairwise
from struct import pack

import pytest

from tests.stack.host import MSS, SECOND, Host, Peer, Reply, both_versions
from ustack.config import TcpConfig
from ustack.tcp.recovery import CWR, OPEN
from ustack.tcp.tcb import Tcb
from ustack.wire import tcp
from ustack.wire.ecn import CE, ECT0, ECT1, NOT_ECT
from ustack.wire.tcp_options import decode_options, encode_options
from ustack.wire.virtio import HEADER_LEN

ACCURATE = TcpConfig(ecn=3, nagle=False)
SYN_ANSWERS = [(NOT_ECT, 0b010), (ECT1, 0b011), (ECT0, 0b100), (CE, 0b110)]  # RFC 9768 Table 2


def ace(reply: Reply) -> int:
    flags = tcp.decode(reply.packet.payload, 0, len(reply.packet.payload)).flags
    return bool(flags & tcp.AE) << 2 | bool(flags & tcp.CWR) << 1 | bool(flags & tcp.ECE)


def data_offset(reply: Reply) -> int:
    return tcp.decode(reply.packet.payload, 0, len(reply.packet.payload)).data_offset


def told(reply: Reply) -> list[int] | None:
    """E1B, CEB and E0B of its AccECN option."""
    at = 20
    options = reply.packet.payload[at : data_offset(reply)]
    while options:
        if options[0] in (0, 1):
            options = options[1:]
            continue
        if options[0] == 174:  # RFC 9768 §3.2.3, Figure 4
            body = options[2 : options[1]]
            return [int.from_bytes(body[i : i + 3], "big") for i in range(0, len(body), 3)]
        options = options[options[1] :]
    return None


def counters(e1b: int, ceb: int, e0b: int, kind: int = 174) -> bytes:
    """The option as RFC 9768 §3.2.3 draws it, and a NOP."""
    fields = (e1b, ceb, e0b) if kind == 174 else (e0b, ceb, e1b)
    return pack("!BB", kind, 11) + b"".join(field.to_bytes(3, "big") for field in fields) + b"\1"


def server(
    version: int = 4, config: TcpConfig = ACCURATE, *, option: bool = False, **stack: int
) -> tuple[Host, Peer, Tcb]:
    """A passive open that agrees on AccECN; `option`: the peer has sent the option."""
    host = Host(version, config, **stack)  # type: ignore[arg-type]
    host.listen()
    peer = Peer(host)
    peer.put("S", 0, ace=7, options=peer.syn_options(MSS, None, False, None))
    host.turn()
    assert ace(peer.reply()) == 0b010
    peer.put(".", 1, 1, ace=0b010, options=counters(1, 0, 1) if option else b"")
    host.turn()
    return host, peer, host.accept()


def client(version: int = 4, config: TcpConfig = ACCURATE) -> tuple[Host, Peer, Tcb]:
    """Our SYN has left."""
    host = Host(version)
    peer = Peer(host)
    tcb = peer.connect(config)
    reply = peer.reply()
    assert (reply.flags, ace(reply), reply.packet.ecn) == ("SEW", 7, NOT_ECT)
    return host, peer, tcb


@both_versions
@pytest.mark.parametrize("field, code", SYN_ANSWERS)
def test_the_syn_ack_tells_how_the_syn_came(version: int, field: int, code: int) -> None:
    # RFC 9768 §3.1.1, Table 2
    host = Host(version, ACCURATE)
    host.listen()
    peer = Peer(host)
    peer.put("S", 0, ace=7, ecn=field)
    host.turn()
    reply = peer.reply()
    assert (ace(reply), reply.packet.ecn, told(reply)) == (code, NOT_ECT, [1, 0, 1])


@both_versions
@pytest.mark.parametrize("code", range(8))
def test_every_combination_on_a_syn_has_its_answer(version: int, code: int) -> None:
    # RFC 9768 §3.1.2, §3.1.3: 000 none, 011 classic, all others as 111
    host = Host(version, ACCURATE)
    host.listen()
    peer = Peer(host)
    peer.put("S", 0, ace=code)
    host.turn()
    assert ace(peer.reply()) == {0: 0, 0b011: 0b001}.get(code, 0b010)


@both_versions
@pytest.mark.parametrize("code", range(8))
def test_every_combination_on_a_syn_ack_has_its_meaning(version: int, code: int) -> None:
    # RFC 9768 §3.1.2, Table 2
    host, peer, tcb = client(version)
    peer.put("S.", 0, 1, ace=code)
    host.turn()
    reply = peer.reply()
    name = host.stack.status(tcb, host.now).ecn
    if code in (0, 7):
        assert (name, ace(reply), reply.packet.ecn) == ("", 0, NOT_ECT)
    elif code == 1:
        assert (name, ace(reply), reply.packet.ecn) == ("ecn", 0, NOT_ECT)
    else:
        assert (name, ace(reply), reply.packet.ecn) == ("accecn", 0b010, ECT0)


@both_versions
@pytest.mark.parametrize("field, code", SYN_ANSWERS)
def test_the_first_ack_tells_how_the_syn_ack_came(version: int, field: int, code: int) -> None:
    # RFC 9768 §3.2.2.1, Table 3; CE makes the counter 6
    host, peer, tcb = client(version)
    peer.put("S.", 0, 1, ace=0b010, ecn=field)
    host.turn()
    assert ace(peer.reply()) == code
    host.send(tcb, b"x")
    assert ace(peer.reply()) == (6 if field == CE else 5)


@both_versions
def test_a_syn_asks_twice_and_then_no_more(version: int) -> None:
    # RFC 9768 §3.1.4.1
    host, peer, tcb = client(version)
    host.advance(4 * SECOND)
    again = peer.replies()
    assert [ace(reply) for reply in again] == [7, 0]
    peer.put("S.", 0, 1, ace=0b010)
    host.turn()
    host.send(tcb, b"x")
    assert [reply.packet.ecn for reply in peer.replies()] == [NOT_ECT] * 2  # §3.1.5


@both_versions
def test_a_syn_ack_asks_less_each_time(version: int) -> None:
    # RFC 9768 §3.2.3.2.2
    host = Host(version, ACCURATE)
    host.listen()
    peer = Peer(host)
    peer.put("S", 0, ace=7)
    host.turn()
    host.advance(4 * SECOND)
    answers = [(ace(reply), told(reply) is not None) for reply in peer.replies()]
    assert answers == [(0b010, True), (0b010, False), (0, False)]


@both_versions
@pytest.mark.parametrize("code", [0b000, 0b011, 0b100, 0b110])
def test_an_impossible_first_ack_ends_ect_and_belief(version: int, code: int) -> None:
    # RFC 9768 §3.2.2.3, §3.2.2.4: the field was cleared, or a Not-ECT SYN,ACK came as ECT or CE
    host = Host(version, ACCURATE)
    host.listen()
    peer = Peer(host)
    peer.send("S", 0, ace=7)
    peer.put(".", 1, 1, ace=code)
    host.turn()
    tcb = host.accept()
    host.send(tcb, b"x" * 100)
    assert peer.reply().packet.ecn == NOT_ECT
    peer.put(".", 1, 101, ace=7)
    host.turn()
    assert tcb.recovery.phase is OPEN
    peer.put(".", 1, 101, b"text", ecn=CE, ace=7)
    host.turn()
    assert ace(peer.replies()[-1]) == 6, "feedback goes on"


@both_versions
def test_all_packets_with_ce_are_counted(version: int) -> None:
    # RFC 9768 §3.2: control packets and resends too, if they are acceptable; §3.2.2: low three bits
    host, peer, tcb = server(version)
    peer.put(".", 1, 1, ace=5, ecn=CE)
    peer.put(".", 1, 1, b"x" * 100, ace=5, ecn=CE)
    peer.put(".", 201, 1, b"x" * 100, ace=5, ecn=CE)
    peer.put(".", 1, 1, b"x" * 100, ace=5, ecn=CE)  # again, before our ACK
    peer.put("F.", 301, 1, ace=5, ecn=CE)
    host.turn()
    status = host.stack.status(tcb, host.now)
    assert (status.received_ce, status.received_octets[CE]) == (5, 300)
    assert ace(peer.replies()[-1]) == (5 + 5) & 7


@both_versions
def test_the_counters_of_octets_begin_where_the_rfc_says_and_count_payload(version: int) -> None:
    # RFC 9768 §3.2.1, §3.2.3
    host, peer, tcb = server(version, option=True)
    seq, seen = 1, []
    for field, size in ((ECT0, 1000), (CE, 300), (ECT1, 50), (NOT_ECT, 7)):
        peer.put(".", seq, 1, b"x" * size, ace=5, ecn=field)
        host.turn()
        seen.append(told(peer.replies()[-1]))
        seq += size
    assert seen == [[1, 0, 1001], [1, 300, 1001], [51, 300, 1001], [51, 300, 1001]]
    host.read(tcb)


@both_versions
def test_an_ack_goes_out_before_the_counter_can_wrap(version: int) -> None:
    # RFC 9768 §3.2.2.5.1: in one batch, two marks with text unacknowledged
    host, peer, tcb = server(version)
    for number in range(16):
        peer.put(".", 1 + number * 100, 1, b"x" * 100, ace=5, ecn=CE)
    host.turn()
    steps = [5] + [ace(reply) for reply in peer.replies()]
    moved = [(b - a) & 7 for a, b in pairwise(steps)]
    assert sum(moved) == 16
    assert max(moved) <= 2
    host.read(tcb)


@both_versions
def test_marked_acks_are_answered_by_one_in_three(version: int) -> None:
    # RFC 9768 §3.2.2.5.1: "n" is 3 or more without text, so that two ends come to rest
    host, peer, _ = server(version)
    for number in range(9):
        peer.put(".", 1, 1, ace=5, ecn=CE)
        host.turn()
        assert [ace(reply) for reply in peer.replies()] == (
            [(5 + number + 1) & 7] if number % 3 == 2 else []
        )


@both_versions
def test_a_change_of_marks_is_told_at_once(version: int) -> None:
    # RFC 9768 §3.2.2.5.1, change-triggered ACKs: no delay
    host, peer, tcb = server(version)
    peer.put(".", 1, 1, b"x" * 10, ace=5, ecn=ECT0)
    host.turn()
    tcb.quick_acks = 0
    peer.heard()
    peer.put(".", 11, 1, b"x" * 10, ace=5, ecn=ECT0)
    host.turn()
    assert peer.heard() == []
    peer.put(".", 21, 1, b"x" * 10, ace=5, ecn=CE)
    host.turn()
    assert [ace(reply) for reply in peer.replies()] == [6]


@both_versions
def test_the_window_is_cut_for_counted_marks_and_cwr_says_nothing(version: int) -> None:
    # RFC 9768 §3.1.5: neither is ECE an echo nor CWR its answer
    host, peer, tcb = server(version)
    host.send(tcb, b"x" * 20 * MSS)
    peer.put(".", 1, 1 + MSS, ace=5)
    host.turn()
    assert tcb.recovery.phase is OPEN
    peer.put(".", 1, 1 + 2 * MSS, ace=7)
    host.turn()
    assert tcb.recovery.phase is CWR
    assert host.stack.status(tcb, host.now).delivered_ce == 2
    assert {ace(reply) for reply in peer.replies()} == {5}


@both_versions
def test_a_late_ack_does_not_turn_the_counter_back(version: int) -> None:
    host, peer, tcb = server(version)
    host.send(tcb, b"x" * 10 * MSS)
    peer.put(".", 1, 1 + 2 * MSS, ace=7)
    peer.put(".", 1, 1 + MSS, ace=6)
    host.turn()
    assert host.stack.status(tcb, host.now).delivered_ce == 2


@both_versions
@pytest.mark.parametrize(
    "marked, marks",
    [
        (None, 9),  # nothing known: as often round as there is room for
        (0, 1),  # the option says that no octet was marked
        (9 * MSS, 9),
        (1 * MSS, 1),
    ],
)
def test_many_packets_at_once_may_have_wrapped_the_counter(
    version: int, marked: int | None, marks: int
) -> None:
    # RFC 9768 §3.2.2.5.2: 10 packets, ACE one higher: one mark or nine
    host, peer, tcb = server(version, option=marked is not None)
    host.send(tcb, b"x" * 10 * tcb.snd.mss)
    size = tcb.snd.mss
    if marked is not None:
        peer.put(".", 1, 1 + size, ace=5, options=counters(1, 0, 1 + size))
        host.turn()
        host.send(tcb, b"x" * size)
        octets = marked // MSS * size
        options = counters(1, octets, 1 + size + 10 * size - octets)
        if octets:  # both counters move: certain only once the estimate is on CE
            tcb.ecn._estimated = CE  # type: ignore[union-attr]
            options = counters(1, octets, 1 + size)
    else:
        options = b""
    peer.put(".", 1, tcb.snd.nxt - tcb.snd.iss, ace=6, options=options)
    host.turn()
    assert host.stack.status(tcb, host.now).delivered_ce == marks


@both_versions
def test_options_of_either_order_and_odd_length_are_understood(version: int) -> None:
    # RFC 9768 §3.2.3: 172 has EE0B first; of other lengths the whole fields count
    host, peer, tcb = server(version, option=True)
    size = tcb.snd.mss
    host.send(tcb, b"x" * 4 * size)
    peer.put(".", 1, 1 + size, ace=5, options=counters(1, 0, 1 + size, kind=172))
    host.turn()
    assert host.stack.status(tcb, host.now).delivered_octets == (0, 0, size, 0)
    odd = pack("!BB", 174, 9) + (1).to_bytes(3, "big") + size.to_bytes(3, "big") + b"\x09\1\1\1"
    peer.put(".", 1, 1 + 2 * size, ace=6, options=odd)
    host.turn()
    assert host.stack.status(tcb, host.now).delivered_octets == (0, 0, size, size)


def test_an_option_on_a_syn_is_ignored() -> None:
    # RFC 9768 §3.2.3.2.1
    host = Host(4, ACCURATE)
    host.listen()
    peer = Peer(host)
    peer.put("S", 0, ace=7, options=counters(77, 77, 77))
    host.turn()
    assert ace(peer.reply()) == 0b010
    peer.put(".", 1, 1, ace=0b010)
    host.turn()
    status = host.stack.status(host.accept(), host.now)
    assert status.delivered_octets == (0, 0, 0, 0)


@both_versions
def test_segments_leave_room_for_the_option(version: int) -> None:
    _, peer, tcb = server(version, option=True)
    assert tcb.snd.mss == MSS - 12
    peer.host.send(tcb, b"x" * MSS)
    replies = peer.replies()
    assert [len(reply.payload) for reply in replies] == [MSS - 12, 12]
    assert all(told(reply) == [1, 0, 1] for reply in replies)


@pytest.mark.parametrize("tsval", [None, 1])
def test_two_sack_blocks_go_before_counters(tsval: int | None) -> None:
    # RFC 9768 §3.2.3.3
    host = Host(4, ACCURATE)
    host.listen()
    peer = Peer(host)
    peer.put("S", 0, ace=7, options=peer.syn_options(MSS, None, True, tsval))
    host.turn()
    peer.replies()
    peer.tsval = tsval
    first = encode_options(tsval=tsval, tsecr=peer.tsecr) if tsval else b""
    peer.put(".", 1, 1, ace=0b010, options=first + counters(1, 0, 1))
    host.turn()
    host.accept()
    for number in range(1, 5):
        peer.put(".", 1 + 2000 * number, 1, b"x" * 1000, ace=5, ecn=CE)
        host.turn()
        reply = peer.replies()[-1]
        length = data_offset(reply)
        assert length <= 60
        blocks = decode_options(reply.packet.payload, 20, length).sack
        assert len(blocks) >= min(number, 2)
        heard = told(reply)
        assert heard is not None
        assert heard[1] == 1000 * number, "the counter that has changed is there"


@both_versions
def test_super_segments_never_carry_the_bit_that_a_device_would_clear(version: int) -> None:
    # The device cuts as RFC 3168 §6.1.2 wants it: CWR on the first piece only
    host, peer, tcb = server(version, gso_max=65535, checksum_offload=True)
    peer.put(".", 1, 1, b"x", ace=5, ecn=CE)  # the counter is 110 now
    host.turn()
    peer.replies()
    host.send(tcb, b"y" * 5 * MSS)
    assert {ace(reply) for reply in peer.replies()} == {6}
    assert tcb.snd.gso_limit == tcb.snd.mss
    for number in range(2):
        peer.put(".", 2 + number, 1 + 5 * MSS, b"x", ace=5, ecn=CE)
    host.turn()
    host.send(tcb, b"y" * 5 * MSS)
    assert tcb.snd.gso_limit > tcb.snd.mss
    assert {ace(reply) for reply in peer.replies()} == {0}


def test_a_super_segment_with_ce_counts_for_its_packets() -> None:
    host, peer, tcb = server()
    frame = bytearray(peer.frame(".", 1, 1, b"x" * 2500, ace=5, ecn=CE))
    frame[0] = 2  # virtio: the checksum is known to be good
    frame[4:6] = (1000).to_bytes(2, "little")
    frame[1] = 1
    assert frame[HEADER_LEN] == 0x45
    host.input(bytes(frame))
    assert host.stack.status(tcb, host.now).received_ce == 3


@both_versions
def test_without_the_knob_only_new_text_is_ect(version: int) -> None:
    # RFC 8311 §4.3: elsewhere ECT waits for an experimental RFC
    config = TcpConfig(ecn=3, nagle=False, ect_on_control=False)
    host, peer, tcb = server(version, config)
    peer.put(".", 1, 1, b"x", ace=5, ecn=ECT0)
    host.turn()
    assert {reply.packet.ecn for reply in peer.replies()} == {NOT_ECT}
    host.send(tcb, b"x")
    assert peer.reply().packet.ecn == ECT0
    host.advance(3 * SECOND)
    assert {reply.packet.ecn for reply in peer.replies()} == {NOT_ECT}


@both_versions
def test_a_simultaneous_open_answers_as_a_server_would(version: int) -> None:
    # RFC 9768 §3.1.2
    host, peer, tcb = client(version)
    peer.put("S", 0, ace=7, ecn=ECT0)
    host.turn()
    reply = peer.reply()
    assert (reply.flags[0], ace(reply)) == ("S", 0b100)
    peer.put("S.", 0, 1, ace=0b010)
    host.turn()
    peer.replies()
    host.send(tcb, b"x")
    assert ace(peer.reply()) == 5
