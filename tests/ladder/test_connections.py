import pytest

from tests.ladder.conversation import IPV6, Conversation
from ustack.ladder import Connection, connections, tcp_packets
from ustack.pcapng import LINK_ETHERNET, Record
from ustack.tcp.state import CLOSED, ESTABLISHED, TIME_WAIT

ETHERNET_IPV4 = bytes(12) + b"\x08\x00"


def only(conversation: Conversation) -> Connection:
    (connection,) = connections(tcp_packets(conversation.records))
    return connection


def test_numbers_are_relative_to_the_syns_across_the_wrap() -> None:
    conversation = Conversation()
    conversation.open()
    conversation.send(0, "PA", 1, 1, length=1000)
    conversation.send(1, "A", 1, 1001)
    rows = only(conversation).rows
    assert [(row.seq, row.ack) for row in rows] == [(0, None), (0, 1), (1, 1), (1, 1), (1, 1001)]


def test_numbers_go_on_growing_beyond_four_gigabytes() -> None:
    conversation = Conversation()
    conversation.open()
    half = 2**31 - 1000
    for seq in (1, 1 + half, 1 + 2 * half, 1 + 3 * half):
        conversation.send(0, "A", seq, 1, length=100)
    assert [row.seq for row in only(conversation).rows[3:]] == [
        1,
        1 + half,
        1 + 2 * half,
        1 + 3 * half,
    ]


def test_without_a_syn_the_first_byte_seen_is_number_one() -> None:
    conversation = Conversation()
    conversation.send(1, "A", 5000, 7000, length=10)
    conversation.send(0, "A", 7000, 5010)
    rows = only(conversation).rows
    assert [(row.seq, row.ack) for row in rows] == [(1, 1), (1, 11)]


def test_the_opener_stands_on_the_left_even_if_only_the_answer_was_captured() -> None:
    conversation = Conversation()
    conversation.send(1, "SA", 0, 1)
    assert [end.port for end in only(conversation).ends] == [40112, 80]


def test_windows_are_scaled_when_both_syns_offer_it() -> None:  # RFC 7323 §2.2
    conversation = Conversation()
    conversation.open()
    assert [row.window for row in only(conversation).rows] == [500, 500, 500 << 7]


def test_windows_are_not_scaled_when_one_syn_does_not_offer_it() -> None:
    conversation = Conversation()
    conversation.send(0, "S", 0, options=[("WScale", 7)])
    conversation.send(1, "SA", 0, 1)
    conversation.send(0, "A", 1, 1)
    assert [row.window for row in only(conversation).rows] == [500, 500, 500]


def test_sack_edges_are_relative_to_the_numbers_they_are_about() -> None:
    conversation = Conversation()
    conversation.open()
    left, right = ((conversation.isn[0] + position) % 2**32 for position in (1001, 2001))
    conversation.send(1, "A", 1, 1, options=[("SAck", (left, right))])
    assert only(conversation).rows[-1].sack == ((1001, 2001),)


def test_bytes_are_counted_once_however_often_they_are_sent() -> None:
    conversation = Conversation()
    conversation.open()
    for seq in (1, 1001, 1001):
        conversation.send(0, "A", seq, 1, length=1000)
    connection = only(conversation)
    assert (connection.bytes_from(0), connection.bytes_from(1)) == (2000, 0)


def test_a_repeated_syn_belongs_to_the_same_connection() -> None:
    conversation = Conversation()
    conversation.send(0, "S", 0)
    conversation.send(0, "S", 0)
    assert len(only(conversation).rows) == 2


def test_a_syn_with_another_number_begins_a_new_connection() -> None:
    first = Conversation()
    first.open()
    first.close(0, 0)
    second = Conversation(isn=(1000, 2000), time_ns=first.time_ns)
    second.open()
    found = connections(tcp_packets(first.records + second.records))
    assert [connection.rows[-1].after for connection in found] == [
        (TIME_WAIT, CLOSED),
        (ESTABLISHED, ESTABLISHED),
    ]


def test_the_two_syns_of_a_simultaneous_open_are_one_connection() -> None:
    conversation = Conversation()
    conversation.send(0, "S", 0)
    conversation.send(1, "S", 0)
    conversation.send(0, "SA", 0, 1)
    conversation.send(1, "SA", 0, 1)
    connection = only(conversation)
    assert connection.rows[-1].after == (ESTABLISHED, ESTABLISHED)
    assert [row.notices for row in connection.rows] == [(), (), (), ()]


def test_the_same_ports_of_other_addresses_are_another_connection() -> None:
    first, second = Conversation(), Conversation(addresses=IPV6)
    first.open()
    second.open()
    found = connections(tcp_packets(first.records + second.records))
    assert [str(connection.ends[0]) for connection in found] == [
        "10.9.0.1:40112",
        "[fd00:9::1]:40112",
    ]


def test_a_packet_cut_by_the_snap_length_keeps_its_length() -> None:
    conversation = Conversation()
    conversation.send(0, "A", 1, 1, length=1000)
    (record,) = conversation.records
    cut = Record(0, record.packet[:60], record.link_type, original_length=record.original_length)
    assert [packet.length for packet in tcp_packets([cut])] == [1000]


@pytest.mark.parametrize("size", [0, 1, 19, 39])
def test_a_packet_cut_inside_its_headers_is_left_out(size: int) -> None:
    conversation = Conversation()
    conversation.send(0, "A", 1, 1)
    (record,) = conversation.records
    cut = Record(0, record.packet[:size], record.link_type, original_length=record.original_length)
    assert list(tcp_packets([cut])) == []


def test_a_packet_behind_an_ethernet_header_is_found() -> None:
    conversation = Conversation()
    conversation.send(0, "A", 1, 1, length=7)
    (record,) = conversation.records
    padded = Record(0, ETHERNET_IPV4 + record.packet + b"fcs!", LINK_ETHERNET)
    assert [packet.length for packet in tcp_packets([padded])] == [7]


def test_packets_are_numbered_over_all_records() -> None:
    conversation = Conversation()
    conversation.send(0, "S", 0)
    records = [Record(0, b"junk", LINK_ETHERNET), *conversation.records]
    assert [packet.number for packet in tcp_packets(records)] == [2]
