"""TCP in UDP in scripts of FreeBSD (language §14): ports, sizes, and what does not belong."""

import pytest

from tests.drill.test_player import LISTEN, failure, passes

PORT = "0 `sysctl -w net.inet.tcp.udp_tunneling_port=9811`\n"
SOCKET = "+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n"
TUNNELLED = (
    PORT
    + LISTEN.replace("\n0 ", "\n+0 ")
    + """
+0 < S 0:0(0) win 65535 <mss 1460,sackOK,eol,eol> /udp(1 > 9811)
+0 > S. 0:0(0) ack 1 <mss 1452,nop,nop,sackOK> /udp(9811 > 1)
+.1 < . 1:1(0) ack 1 win 65535 /udp(1 > 9811)
+0 accept(3, ..., ...) = 4
"""
)


@pytest.mark.parametrize("version", ["ipv4", "ipv6"])
def test_a_connection_stays_in_its_tunnel(version: str) -> None:
    assert passes(
        TUNNELLED
        + """
+0 write(4, ..., 2904) = 2904
* > P. 1:2905(2904) ack 1 /udp(9811 > 1)
+.1 < . 1:1(0) ack 2905 win 65535 /udp(1 > 9811)
+0 getsockopt(4, IPPROTO_TCP, TCP_REMOTE_UDP_ENCAPS_PORT, [1], [4]) = 0
+0 close(4) = 0
* > F. 2905:2905(0) ack 1 /udp(9811 > 1)
+0 < F. 1:1(0) ack 2906 win 65535 /udp(1 > 9811)
* > . 2906:2906(0) ack 2 /udp(9811 > 1)
""",
        ip_version=version,
    )


def test_segments_fit_the_link_with_the_udp_header() -> None:
    text = TUNNELLED + "+0 write(4, ..., 1460) = 1460\n"
    assert passes(
        "--strict_segments\n" + text + "* > . 1:1453(1452) ack 1 /udp(9811 > 1)\n"
        "* > P. 1453:1461(8) ack 1 /udp(9811 > 1)\n"
    )


@pytest.mark.parametrize("tunnel", ["", " /udp(2 > 9811)"])
def test_what_comes_by_another_way_is_dropped(tunnel: str) -> None:
    stray = f"+0 < R. 1:1(0) ack 1 win 0{tunnel}\n"
    text = "+0 < P. 1:101(100) ack 1 win 65535 /udp(1 > 9811)\n+0 read(4, ..., 1000) = 100\n"
    assert passes(TUNNELLED + stray + text)


def test_tunnelled_tcp_to_another_port_is_a_datagram() -> None:
    text = PORT + LISTEN.replace("\n0 ", "\n+0 ")
    syn = "+0 < S 0:0(0) win 65535 <mss 1460> /udp(1 > 9812)\n"
    assert passes(text + syn + "+0 > icmp unreachable port_unreachable")
    off = text.replace("=9811", "=0") + syn.replace("9812", "9811")
    assert passes(off + "+0 > icmp unreachable port_unreachable")


def test_a_reset_answers_in_the_tunnel() -> None:
    bound = (PORT + LISTEN.replace("\n0 ", "\n+0 ")).partition("+0 listen")[0]
    syn = "+0 < S 0:0(0) win 65535 <mss 1460> /udp(1 > 9811)\n"
    assert passes(bound + syn + "+0 > R. 0:0(0) ack 1 /udp(9811 > 1)")


def test_an_active_open_goes_to_the_port_of_the_socket_option() -> None:
    option = "setsockopt(3, IPPROTO_TCP, TCP_REMOTE_UDP_ENCAPS_PORT, [9899], 4)"
    assert passes(
        PORT
        + SOCKET
        + f"""
+0 {option} = 0
+0 getsockopt(3, IPPROTO_TCP, TCP_REMOTE_UDP_ENCAPS_PORT, [9899], [4]) = 0
+0...0.1 connect(3, ..., ...) = 0
* > S 0:0(0) <...> /udp(9811 > 9899)
+.1 < S. 0:0(0) ack 1 win 65535 <mss 1460> /udp(9899 > 9811)
* > . 1:1(0) ack 1 /udp(9811 > 9899)
+0 {option} = -1 EINVAL
"""
    )
    assert passes(PORT.replace("9811", "0") + SOCKET + f"+0 {option} = -1 EINVAL")


def test_the_ports_of_the_tunnel_are_compared() -> None:
    wrong = TUNNELLED.replace("/udp(9811 > 1)", "/udp(9811 > 2)")
    said = "UDP encapsulation: expected /udp(9811 > 2), actual /udp(9811 > 1)"
    assert said in failure(wrong)
    assert "actual /udp(9811 > 1)" in failure(TUNNELLED.replace(" /udp(9811 > 1)", ""))
    assert passes(TUNNELLED.replace("/udp(9811 > 1)", "/udp(9811 > 0)"))


def test_without_a_setting_the_first_packet_names_the_port() -> None:
    without = TUNNELLED.removeprefix(PORT).replace("\n+0 s", "\n0 s", 1)
    assert passes("--udp_encapsulation=tcp\n" + without)


def test_there_is_no_sctp_to_tunnel() -> None:
    with pytest.raises(ValueError, match="--udp_encapsulation takes tcp"):
        passes("--udp_encapsulation=sctp\n" + LISTEN)
