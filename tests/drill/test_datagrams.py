"""Datagrams and ICMP messages in scripts: which are meant, what is compared (language §9, §11)."""

import pytest

from tests.drill.test_player import failure, passes, play

CONNECTED = """
0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3
+0 connect(3, ..., ...) = 0
"""
BOUND = """
0 socket(..., SOCK_DGRAM, IPPROTO_UDP) = 3
+0 bind(3, ..., ...) = 0
"""


@pytest.mark.parametrize("version", ["ipv4", "ipv6", "ipv4-mapped-ipv6"])
def test_datagrams_play_in_all_three_families(version: str) -> None:
    text = "+0 write(3, ..., 9) = 9\n+0 > udp (9)\n+0 < udp (8)\n+0 read(3, ..., 99) = 8"
    assert passes(CONNECTED + text, ip_version=version)


def test_a_datagram_of_another_length_or_header_is_a_mismatch() -> None:
    write = CONNECTED + "+0 write(3, ..., 9) = 9\n"
    assert "payload length: expected 8, actual 9" in failure(write + "+0 > udp (8)")
    assert "IP header: expected ttl 9, actual ttl 64" in failure(write + "+0 > [ttl 9] udp (9)")
    assert "time: sent at 0.000000" in failure(write + "+.1 > udp (9)")
    report = play(write + "+0 > udp (8)")
    assert report.lines[1].split() == ["expected:", ">", "udp", "(8)"]
    assert report.lines[2].endswith("> 8080 (9)")


def test_a_packet_that_need_not_match_is_a_note() -> None:
    report = play(CONNECTED + "+0 write(3, ..., 9) = 9\n+0 > udp (8)", line={"non_fatal": "packet"})
    assert report.passed
    assert any("payload length" in note for note in report.notes)


def test_packets_of_other_ports_are_skipped_unless_they_are_written() -> None:
    two = (
        BOUND + "+0 sendto(3, ..., 9, 0, {sa_family=AF_INET, sin_port=htons(5000),"
        ' sin_addr=inet_addr("192.0.2.1")}, ...) = 9\n'
        "+0 sendto(3, ..., 8, 0, ..., ...) = 8\n"
    )
    assert passes(two + "+0 > udp (8)")
    assert passes(two + "+0 > udp 8080 > 5000 (9)\n+0 > udp 0 > 8080 (8)")
    assert "no packet was sent" in failure(two + "+0 > udp 8080 > 5001 (9)")


def test_a_connection_can_be_opened_to_a_written_address() -> None:
    assert passes(
        "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"
        "+0...0.1 connect(3, {sa_family=AF_INET, sin_port=htons(99),"
        ' sin_addr=inet_addr("192.0.2.77")}, ...) = 0\n'
        "+0 > S 0:0(0) <...>\n"
        "+.1 < S. 0:0(0) ack 1 win 9 <mss 1000>\n"
        "+0 > . 1:1(0) ack 1\n"
    )


def test_the_length_of_an_icmp_message_is_that_of_its_quotation() -> None:
    said = BOUND + "+0 < udp 5000 > 6000 (20)\n"
    for right in ("", " [udp (20)]", " [raw (56)]"):
        assert passes(f"{said}+0 > icmp unreachable port_unreachable{right}")
    for wrong in ("[udp (21)]", "[raw (55)]"):
        line = f"{said}+0 > icmp unreachable port_unreachable {wrong}"
        assert "ICMP length: expected" in failure(line)
    line = f"{said}+0 > icmp unreachable host_unreachable [udp (20)]"
    assert "expected unreachable host_unreachable, actual unreachable port" in failure(line)


def test_a_stream_socket_does_not_care_for_the_address_of_sendto() -> None:
    text = "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"
    assert passes(text + "+0 sendto(3, ..., 9, MSG_NOSIGNAL, ..., ...) = -1 EPIPE")


def test_timeouts_are_structures() -> None:
    for value in ("{tv_sec=0, tv_usec=50000}", "{0, 50000}"):
        setting = f"+0 setsockopt(3, SOL_SOCKET, SO_RCVTIMEO, {value}, 16) = 0\n"
        asking = f"+0 getsockopt(3, SOL_SOCKET, SO_RCVTIMEO, {value}, [16]) = 0\n"
        assert passes(f"{BOUND}{setting}{asking}+0...0.05 read(3, ..., 9) = -1 EAGAIN")
    bad = "+0 setsockopt(3, SOL_SOCKET, SO_RCVTIMEO, {tv_sec=0, tv_usec=1000000}, 16) = -1 EDOM"
    assert passes(BOUND + bad)


def test_fionbio_takes_its_argument() -> None:
    assert passes(BOUND + "+0 ioctl(3, FIONBIO, [1]) = 0\n+0 read(3, ..., 9) = -1 EAGAIN")
    blocking = "+0 fcntl(3, F_SETFL, O_NONBLOCK) = 0\n+0 ioctl(3, FIONBIO, [0]) = 0\n"
    assert passes(f"{BOUND}{blocking}+0...0.1 read(3, ..., 9) = 5\n+.1 < udp (5)")


@pytest.mark.parametrize(
    "version, said", [("ipv4", "EOPNOTSUPP"), ("ipv6", "ENOPROTOOPT")], ids=["ipv4", "ipv6"]
)
def test_options_of_tcp_are_refused_in_the_words_of_the_family(version: str, said: str) -> None:
    asked = f"+0 getsockopt(3, SOL_TCP, TCP_NODELAY, [1], [4]) = -1 {said}"
    assert passes(BOUND + asked, ip_version=version)
