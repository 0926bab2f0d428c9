"""`ustack ladder` on captures made with scapy."""

from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.utils import PcapNgWriter, PcapWriter

from tests.ladder.conversation import IPV6, Conversation
from ustack.cli.main import run


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A pcap file with one whole connection, written by scapy."""
    conversation = Conversation()
    conversation.open()
    conversation.send(0, "PA", 1, 1, length=10)
    conversation.close(10, 0)
    path = tmp_path / "one.pcap"
    write_pcap(path, conversation)
    return path


def write_pcap(path: Path, *conversations: Conversation) -> None:
    with PcapWriter(str(path), linktype=101) as writer:
        for conversation in conversations:
            for record in conversation.records:
                writer.write(IP(record.packet))


def test_a_pcap_file_is_drawn(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ladder", str(capture), "--width", "80"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "Connection 1 of 1"
    assert out[-1].endswith("│─ ACK seq=12 ack=2 ──────────────────────►│ CLOSED")


def test_a_pcapng_file_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conversation = Conversation()
    conversation.open()
    path = tmp_path / "one.pcapng"
    with PcapNgWriter(str(path)) as writer:
        for record in conversation.records:
            writer.write(IP(record.packet))
    assert run(["ladder", str(path), "--width", "80"]) == 0
    assert capsys.readouterr().out.count("ESTABLISHED") == 3


def test_one_connection_of_several_can_be_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = Conversation(), Conversation(addresses=("10.9.0.7", "10.9.0.2"))
    first.open()
    second.open()
    path = tmp_path / "two.pcap"
    write_pcap(path, first, second)
    assert run(["ladder", str(path), "--connection", "2"]) == 0
    out = capsys.readouterr().out
    assert "Connection 2 of 2" in out
    assert "10.9.0.1" not in out


def test_the_list_has_a_line_per_connection(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ladder", str(capture), "--list", "--width", "120"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_reasons_are_given_on_request(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ladder", str(capture), "--explain", "--width", "120"]) == 0
    assert "Step 3: why three?" in capsys.readouterr().out


def test_many_connections_are_not_all_drawn_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = [Conversation(addresses=(f"10.9.0.{host}", "10.9.1.1")) for host in range(1, 31)]
    for conversation in many:
        conversation.open()
    path = tmp_path / "many.pcap"
    write_pcap(path, *many)
    assert run(["ladder", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.count("Connection ") == 10
    assert "20 more connections" in out


def check_one_line(err: str, text: str) -> None:
    assert err.count("\n") == 1
    assert text in err
    assert "Traceback" not in err


def test_a_missing_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ladder", "/nowhere.pcap"]) == 1
    check_one_line(capsys.readouterr().err, "/nowhere.pcap: No such file or directory")


def test_a_file_that_is_no_capture_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("this is no capture\n" * 10)
    assert run(["ladder", str(path)]) == 1
    check_one_line(capsys.readouterr().err, "neither a pcapng nor a pcap file")


def test_a_capture_without_tcp_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.pcap"
    write_pcap(path, Conversation(addresses=IPV6))
    assert run(["ladder", str(path)]) == 1
    check_one_line(capsys.readouterr().err, "no TCP connection in 0 packets")


def test_a_connection_that_is_not_there_is_wrong_usage(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ladder", str(capture), "--connection", "2"]) == 2
    assert "has 1 connection" in capsys.readouterr().err


def test_a_damaged_file_is_drawn_up_to_the_damage(
    capture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture.write_bytes(capture.read_bytes()[:-10])
    assert run(["ladder", str(capture), "--width", "80"]) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].endswith("LAST_ACK")
    check_one_line(captured.err, "the file ends inside this block (drawn up to there)")
