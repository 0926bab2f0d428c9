"""Script space and live space (language §10)."""

from dataclasses import replace

import pytest

from ustack.drill.mapping import MappingError, SocketsUnderTest, Stage
from ustack.drill.packets import Endpoints, LivePacket, build_tcp, decode
from ustack.drill.parser import parse_script
from ustack.drill.script import IcmpPacket, PacketEvent, Sack, Settings, TcpPacket, Timestamp

LIVE_ISN = 0xFFFF_FF00


def script(line: str) -> TcpPacket:
    event = parse_script(f"0 {line}", "t.pkt").events[0]
    assert isinstance(event, PacketEvent) and isinstance(event.packet, TcpPacket)
    return event.packet


def live(line: str, way: Endpoints) -> LivePacket:
    return decode(build_tcp(script(line), way), 0)


def passive(settings: Settings | None = None) -> tuple[SocketsUnderTest, Endpoints]:
    """A listener that got SYN 1000 and answered with a SYN,ACK written as 500."""
    sockets = SocketsUnderTest(settings or Settings())
    sockets.created(3)
    sockets.listening(3)
    syn, endpoints = sockets.inbound(script("< S 1000:1000(0) win 9 <TS val 7 ecr 3,nop,nop>"))
    assert syn.seq == 1000
    assert syn.options is not None and syn.options[0] == Timestamp(7, 3)
    assert sockets.current is not None
    sent = live(
        f"> S. {LIVE_ISN}:{LIVE_ISN}(0) ack 1001 <TS val 90 ecr 7,nop,nop>", endpoints.reverse
    )
    assert sockets.is_current(sent)
    expected = script("> S. 500:500(0) ack 1001 <TS val 40 ecr 7,nop,nop>")
    sockets.current.learn(sent, expected)
    shown = sockets.current.to_script(sent, expected)
    assert (shown.seq, shown.ack) == (500, 1001)
    return sockets, endpoints


def test_a_packet_to_a_listener_makes_a_child_with_a_port_of_its_own() -> None:
    sockets, first = passive()
    sockets.listening(3)
    assert sockets.current is not None and sockets.current.stage is Stage.SYNACK_SENT
    sockets.created(5)
    sockets.listening(5)
    _, second = sockets.inbound(script("< S 0:0(0) win 9"))
    assert first.source_port != second.source_port
    assert first.destination_port == second.destination_port == 8080


def test_numbers_are_relative_to_the_isns_once_the_handshake_is_over() -> None:
    sockets, endpoints = passive()
    data, _ = sockets.inbound(script("< P. 1:11(10) ack 1 win 9 <nop,nop,sack 1:11>"))
    assert (data.seq, data.ack) == (1001, LIVE_ISN + 1)
    assert data.options is not None
    assert data.options[2] == Sack(((LIVE_ISN + 1, LIVE_ISN + 11),))
    assert sockets.current is not None and sockets.current.stage is Stage.SYNACK_ACKED
    sent = live(f"> P. {LIVE_ISN + 1}:{LIVE_ISN + 11}(10) ack 1011", endpoints.reverse)
    shown = sockets.current.to_script(sent, script("> P. 1:11(10) ack 11"))
    assert (shown.seq, shown.ack, shown.length) == (1, 11, 10)


def test_live_numbers_wrap_at_32_bits() -> None:
    sockets, _ = passive()
    data, _ = sockets.inbound(script("< . 1:1(0) ack 257 win 9"))
    assert data.ack == 1


def test_a_number_with_an_exclamation_mark_is_not_mapped() -> None:
    sockets, _ = passive()
    data, _ = sockets.inbound(script("< R 77:77(0)! win 9"))
    assert data.seq == 77


def test_an_echoed_timestamp_is_the_live_one_that_was_sent_for_it() -> None:
    sockets, _ = passive()
    data, _ = sockets.inbound(script("< . 1:1(0) ack 1 win 9 <nop,nop,TS val 8 ecr 40>"))
    assert data.options is not None and data.options[2] == Timestamp(8, 90)


def test_an_echo_that_was_never_written_fails_unless_echoes_are_scaled() -> None:
    line = "< . 1:1(0) ack 1 win 9 <nop,nop,TS val 8 ecr 45>"
    sockets, _ = passive()
    with pytest.raises(MappingError, match="unable to infer live TS ecr"):
        sockets.inbound(script(line))
    sockets, _ = passive(replace(Settings(), ts_ecr_scaled=True))
    data, _ = sockets.inbound(script(line))
    assert data.options is not None and data.options[2] == Timestamp(8, 95)


def test_an_active_open_learns_its_address_and_isn_from_the_syn() -> None:
    sockets = SocketsUnderTest(Settings())
    sockets.created(3)
    sockets.connecting(3)
    assert sockets.current is not None
    local, remote = b"\xc0\xa8\0\1", b"\xc0\0\2\1"
    to_other_port = live("> S 5:5(0)", Endpoints(local, remote, 33000, 80))
    assert not sockets.is_current(to_other_port)
    way = Endpoints(local, remote, 33000, 8080)
    syn = live(f"> S {LIVE_ISN}:{LIVE_ISN}(0)", way)
    assert sockets.is_current(syn)
    sockets.current.learn(syn, script("> S 0:0(0)"))
    assert sockets.current.to_script(syn, script("> S 0:0(0)")).seq == 0
    answer, endpoints = sockets.inbound(script("< S. 300:300(0) ack 1 win 9"))
    assert (answer.seq, answer.ack) == (300, LIVE_ISN + 1)
    assert endpoints == way.reverse
    assert sockets.current.remote_isn == 300


def test_a_bare_syn_of_a_simultaneous_open_teaches_no_remote_isn() -> None:
    sockets = SocketsUnderTest(Settings())
    sockets.created(3)
    sockets.connecting(3)
    assert sockets.current is not None
    way = Endpoints(b"\xc0\xa8\0\1", b"\xc0\0\2\1", 33000, 8080)
    sockets.current.learn(live("> S 5:5(0)", way), script("> S 0:0(0)"))
    sockets.inbound(script("< S 300:300(0) win 9"))
    assert sockets.current.remote_isn == 0
    sockets.inbound(script("< S. 300:300(0) ack 1 win 9"))
    assert sockets.current.remote_isn == 300


def test_accept_names_the_newest_child_from_that_port() -> None:
    sockets, endpoints = passive()
    sockets.accepted(4, endpoints.source_port)
    assert sockets.by_fd(4) is sockets.current
    sockets.closed(4)
    assert sockets.by_fd(4) is None
    assert sockets.is_current(live("> . 1:1(0) ack 1", endpoints.reverse))


def test_a_packet_to_a_socket_that_is_only_bound_goes_to_its_port() -> None:
    sockets = SocketsUnderTest(Settings())
    sockets.created(3)
    packet, endpoints = sockets.inbound(script("< S 9:9(0) win 5"))
    assert (packet.seq, endpoints.destination_port) == (9, 8080)


def test_an_icmp_message_quotes_the_live_sequence_number() -> None:
    sockets, endpoints = passive()
    message, way, quoted = sockets.icmp(IcmpPacket(3, 4, mtu=1200, seq=1, length=10))
    assert message.seq == LIVE_ISN + 1
    assert (way.source, quoted) == (endpoints.source, endpoints.reverse)


def test_an_explicit_port_replaces_that_of_the_socket() -> None:
    sockets, _ = passive()
    _, endpoints = sockets.inbound(script("< 1234 > 0 . 1:1(0) win 5"))
    assert (endpoints.source_port, endpoints.destination_port) == (1234, 8080)
