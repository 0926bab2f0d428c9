import io

import pytest
from rich.console import Console

from tests.ladder.conversation import IPV4, IPV6, Conversation
from ustack.ladder import Connection, Explainer, Ladder, connections, overview, tcp_packets
from ustack.ladder.drawing import Fold, fold, format_delta, format_size


def only(conversation: Conversation) -> Connection:
    (connection,) = connections(tcp_packets(conversation.records))
    return connection


def drawn(
    connection: Connection, *, width: int = 80, encoding: str = "utf-8", full: bool = False
) -> list[str]:
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding=encoding)
    Console(file=file, width=width, highlight=False).print(Ladder(connection, full=full))
    file.flush()
    return buffer.getvalue().decode(encoding).splitlines()


def bulk(segments: int) -> Conversation:
    conversation = Conversation()
    conversation.open()
    for number in range(segments):
        conversation.send(0, "A", 1 + 1000 * number, 1, length=1000)
        conversation.send(1, "A", 1, 1001 + 1000 * number)
    conversation.close(1000 * segments, 0)
    return conversation


def test_a_whole_connection_is_drawn_with_times_numbers_and_states() -> None:
    conversation = Conversation()
    conversation.open()
    conversation.send(0, "PA", 1, 1, length=78, comment="a comment")
    conversation.close(78, 0)
    assert drawn(only(conversation)) == [
        "        10.9.0.1:40112                                            10.9.0.2:80",
        "                CLOSED │                                          │ LISTEN",
        "        0     SYN_SENT │─ SYN seq=0 win=500 mss=1460 wscale=7 ───►│ SYN_RECEIVED",
        "                       │  sackOK                                  │",
        " +1.00 ms  ESTABLISHED │◄─ SYN ACK seq=0 ack=1 win=500 mss=1460 ──│ SYN_RECEIVED",
        "                       │  wscale=7 sackOK                         │",
        " +1.00 ms  ESTABLISHED │─ ACK seq=1 ack=1 ───────────────────────►│ ESTABLISHED",
        " +1.00 ms  ESTABLISHED │─ PSH ACK seq=1 ack=1 len=78 ────────────►│ ESTABLISHED",
        "                       │  a comment                               │",
        " +1.00 ms   FIN_WAIT_1 │─ FIN ACK seq=79 ack=1 ──────────────────►│ CLOSE_WAIT",
        " +1.00 ms   FIN_WAIT_2 │◄─ ACK seq=1 ack=80 ──────────────────────│ CLOSE_WAIT",
        " +1.00 ms    TIME_WAIT │◄─ FIN ACK seq=1 ack=80 ──────────────────│ LAST_ACK",
        " +1.00 ms    TIME_WAIT │─ ACK seq=80 ack=2 ──────────────────────►│ CLOSED",
    ]


@pytest.mark.parametrize("addresses", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_a_mark_of_a_router_is_drawn(addresses: tuple[str, str]) -> None:
    conversation = Conversation(addresses=addresses)
    conversation.open()
    conversation.send(0, "PA", 1, 1, length=78, ecn=2)
    conversation.send(0, "PA", 79, 1, length=78, ecn=3)
    conversation.send(1, "AE", 1, 157)
    lines = drawn(only(conversation))
    assert [line.split("│")[1].strip("─► ◄") for line in lines[-3:]] == [
        "PSH ACK seq=1 ack=1 len=78",
        "PSH ACK seq=79 ack=1 len=78 CE",
        "ACK ECE seq=1 ack=157",
    ]


def test_long_data_is_folded_into_its_sum() -> None:
    lines = drawn(only(bulk(500)))
    assert len(lines) < 20
    # Of 500 segments and their ACKs, segment, ACK, segment and at the end segment, ACK are drawn.
    assert [line for line in lines if "…" in line] == [
        "                       ┊ … 497 segments, 497 kB, 498 ACKs, 995 ms ┊"
    ]


def test_nothing_is_folded_in_full() -> None:
    lines = drawn(only(bulk(500)), full=True)
    assert sum("len=1000" in line for line in lines) == 500


def test_a_notice_is_kept_when_its_neighbours_are_folded() -> None:
    conversation = Conversation()
    conversation.open()
    for number in [*range(20), 10, *range(20, 40)]:
        conversation.send(0, "A", 1 + 1000 * number, 1, length=1000)
    lines = drawn(only(conversation))
    assert sum("seq=10001" in line for line in lines) == 1
    assert sum("retransmission" in line for line in lines) == 1
    assert sum("…" in line for line in lines) == 2


def test_many_notices_are_counted_in_the_fold() -> None:
    conversation = Conversation()
    conversation.open()
    conversation.send(0, "A", 1, 1, length=1000)
    for _ in range(50):
        conversation.send(0, "A", 1, 1, length=1000)
    folds = [item for item in fold(only(conversation).rows) if isinstance(item, Fold)]
    assert [len(item.rows) for item in folds] == [51 - 3 - 8 - 2]
    assert [line.strip() for line in drawn(only(conversation)) if "┊" in line] == [
        "┊ … 38 segments, 38.0 kB                   ┊",
        "┊   38 x retransmission, 38.0 ms           ┊",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 132, 200])
def test_every_line_fits_the_width(width: int) -> None:
    conversation = bulk(3)
    conversation.addresses = ("fd00:1234:5678:9abc:def0:1234:5678:9abc", IPV6[1])
    conversation.send(1, "R", 2, comment="a comment that is much longer than any narrow ladder")
    for connection in connections(tcp_packets(conversation.records)):
        assert max(len(line) for line in drawn(connection, width=width)) <= max(width, 63)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    lines = drawn(only(bulk(10)), encoding="ascii")
    assert lines[4].startswith(" +1.00 ms  ESTABLISHED |<- SYN ACK")
    assert any(" ... 7 segments" in line for line in lines)


def test_the_overview_names_ends_bytes_and_last_states() -> None:
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as capture:
        console.print(overview([only(bulk(500))]))
    assert capture.get().splitlines()[1].split() == (
        "1 10.9.0.1:40112 10.9.0.2:80 1007 500 kB 0 B 1.01 s TIME_WAIT / CLOSED".split()
    )


def test_ipv6_endpoints_keep_their_brackets() -> None:
    conversation = Conversation(addresses=IPV6)
    conversation.open()
    console = Console(file=io.StringIO(), width=120)
    with console.capture() as capture:
        console.print(overview([only(conversation)]))
        console.print(Ladder(only(conversation)))
    assert capture.get().count("[fd00:9::1]:40112") == 2


def test_every_step_of_an_ordinary_life_is_explained_once() -> None:
    explain = Explainer()
    connection = only(bulk(2))
    told = [sentence for row in connection.rows if (sentence := explain(row))]
    beginnings = [
        "Step 1: the left end opens",
        "Step 2: the right end acknowledges",
        "Step 3: why three?",
        "Data: seq=1 is the number of its first byte",
        "ack=1001: everything before byte 1001 has arrived",
        "The left end closes first",
        "One direction is closed; the right end, now in CLOSE_WAIT",
        "Now the right end has sent everything",
        "Nobody acknowledges this last ACK",
    ]
    assert len(told) == len(beginnings)
    assert all(text.startswith(start) for text, start in zip(told, beginnings, strict=True))


def test_who_pays_for_the_close_is_who_closed_first() -> None:
    conversation = Conversation()
    conversation.open()
    conversation.send(1, "FA", 1, 1)
    conversation.send(0, "FA", 1, 2)
    conversation.send(1, "A", 2, 2)
    explain = Explainer()
    told = [explain(row) for row in only(conversation).rows]
    assert "its ACK and its FIN share a packet" in str(told[-2])
    assert "The right end closed first, so it is the one who pays" in str(told[-1])


@pytest.mark.parametrize(
    "nanoseconds, text",
    [
        (0, "0"),
        (85_000, "+85 µs"),
        (1_200_000, "+1.20 ms"),
        (31_500_000, "+31.5 ms"),
        (3_000_000_000, "+3.00 s"),
        (-1_500, "+-2 µs"),
    ],
)
def test_times_have_three_digits(nanoseconds: int, text: str) -> None:
    assert format_delta(nanoseconds) == text


@pytest.mark.parametrize("size, text", [(78, "78 B"), (1_000, "1.00 kB"), (1_234_567, "1.23 MB")])
def test_sizes_have_three_digits(size: int, text: str) -> None:
    assert format_size(size) == text
