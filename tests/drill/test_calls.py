"""System calls in all the forms that scripts have for them (language §12.3, §13.2, §15)."""

from pathlib import Path

import pytest

from tests.drill.test_player import ESTABLISHED, LISTEN, failure, passes
from ustack.drill.constants import value_of
from ustack.drill.parser import parse_script
from ustack.drill.player import Player
from ustack.drill.virtual import VirtualHost
from ustack.errors import MalformedFile


def test_a_file_is_made_written_and_read_in_memory_only(tmp_path: Path) -> None:
    text = (
        ESTABLISHED
        + """
+0 open("new", O_RDONLY) = -1 ENOENT
+0 open("new", O_RDWR|O_CREAT|O_EXCL, 0644) = 5
+0 write(5, ..., 1000) = 1000
+0 read(5, ..., 1000) = 0
+0 sendfile(4, 5, [400], 5000) = 600
+0 > P. 1:601(600) ack 1
+.1 < . 1:1(0) ack 601 win 257
+0 open("new", O_RDWR|O_CREAT|O_EXCL) = -1 EEXIST
+0 open("new", O_WRONLY|O_APPEND) = 6
+0 write(6, ..., 1) = 1
+0 read(6, ..., 1) = -1 EBADF
+0 pipe([7, 8]) = 0
+0 write(8, ..., 10) = 10
+0 splice(7, NULL, 6, NULL, 100, 0) = 10
+0 open("new", O_RDONLY) = 9
+0 write(9, ..., 1) = -1 EBADF
+0 splice(9, NULL, 8, NULL, 100000, 0) = 1011
+0 read(7, ..., 2000) = 1011
+0 open("new", O_RDWR|O_TRUNC) = 10
+0 read(10, ..., 1) = 0
+0 open("/", O_RDWR) = -1 EISDIR
"""
    )
    script = parse_script(text, str(tmp_path / "t.pkt"))
    report = Player(script, VirtualHost(script.settings)).play()
    assert report.passed, "\n".join(report.lines)
    assert list(tmp_path.iterdir()) == []


def test_a_null_pointer_is_a_fault() -> None:
    assert passes(
        ESTABLISHED
        + """
+0 < P. 1:11(10) ack 1 win 257
+0 > . 1:1(0) ack 11
+0 readv(4, NULL, 1) = -1 EFAULT
+0 readv(4, [{NULL, 100}], 1) = -1 EFAULT
+0 writev(4, [{..., 10}, {NULL, 10}], 2) = -1 EFAULT
+0 write(4, NULL, 10) = -1 EFAULT
+0 write(4, ..., -1) = -1 EFAULT
+0 sendto(4, ..., -1, MSG_FASTOPEN, ..., ...) = -1 EFAULT
+0 readv(4, [{..., 3}, {..., 100}], 2) = 10
"""
    )


def test_snippets_see_what_bbr_knows() -> None:
    bbr = '+0 setsockopt(3, SOL_TCP, TCP_CONGESTION, "bbr", 3) = 0\n'
    assert passes(
        ESTABLISHED.replace("+0 bind", bbr + "+0 bind")
        + """
+0 write(4, ..., 10000) = 10000
+0 > P. 1:10001(10000) ack 1
+.1 < . 1:1(0) ack 10001 win 257
+0 write(4, ..., 10000) = 10000
* > P. 10001:20001(10000) ack 1
+.1 < . 1:1(0) ack 20001 win 257
+0 %{
assert 100000 <= bbr_min_rtt <= 100100
assert 30000 < bbr_bw <= 110000, bbr_bw  # some ten segments in a round trip, in bytes/s
assert bbr_pacing_gain == 277 * 256 // 100, bbr_pacing_gain
assert bbr_cwnd_gain == 2 * 256, bbr_cwnd_gain
assert SK_MEMINFO_RMEM_ALLOC == 0
}%
"""
    )


def test_a_socket_without_a_connection_has_a_state() -> None:
    bound = LISTEN.partition("+0 listen")[0]
    assert passes(bound + "+0 %{ assert tcpi_state == TCP_CLOSE == TCPI_CLOSED }%")
    assert passes(LISTEN + "+0 %{ assert tcpi_state == TCP_LISTEN }%")
    stray = "+0 < R 1:1(0) win 0\n"
    assert passes(LISTEN + stray + "+0 %{ assert tcpi_state == TCP_LISTEN }%")


def test_an_acknowledgment_may_be_absolute() -> None:
    bound = LISTEN.partition("+0 listen")[0]
    syn = "+0 < S 4294967295:4294967295(0)! win 65535 <mss 1460>\n"
    assert passes(bound + syn + "+0 > R. 0:0(0) ack 0!")
    said = failure(bound + syn + "+0 > R. 0:0(0) ack 1!")
    assert "ack: expected 1, actual 0" in said


def test_the_length_of_an_option_is_compared() -> None:
    asked = LISTEN + "+0 getsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], [8]) = 0"
    assert "option length: expected 8, actual 4" in failure(asked)
    assert passes(LISTEN + "+0 getsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=0, linger=0}, [8]) = 0")


@pytest.mark.parametrize("name", ["O_CREAT", "O_APPEND", "O_TRUNC", "O_EXCL", "FIONBIO"])
def test_a_constant_has_the_number_of_linux(name: str) -> None:
    numbers = {"O_CREAT": 0o100, "O_EXCL": 0o200, "O_TRUNC": 0o1000, "O_APPEND": 0o2000}
    assert value_of(name) == (numbers | {"FIONBIO": 0x5421})[name]


def test_poll_ignores_negative_descriptors_and_names_unknown_ones() -> None:
    entries = "{fd=-1, events=POLLIN}, {fd=9, events=POLLIN, revents=POLLNVAL}"
    assert passes(LISTEN + f"+0 poll([{entries}, {{fd=3, events=POLLIN}}], 3, 0) = 1")
    wrong = LISTEN + "+0 poll([{fd=9, events=POLLIN}], 1, 0) = 1"
    assert "expected 0, actual POLLNVAL" in failure(wrong)


def test_options_of_freebsd_alone_are_noted_both_ways() -> None:
    block = '{function_set_name="rack", pcbcnt=0}'
    assert passes(LISTEN + f"+0 setsockopt(3, IPPROTO_TCP, TCP_FUNCTION_BLK, {block}, 36) = 0")
    assert passes(LISTEN + f"+0 getsockopt(3, IPPROTO_TCP, TCP_FUNCTION_BLK, {block}, [36]) = 0")


def test_authentication_with_tcp_ao_is_said_not_to_be_supported() -> None:
    option = LISTEN + "+0 setsockopt(3, SOL_TCP, TCP_AO_ADD_KEY, [1], 4) = "
    assert "t.pkt:6: TCP_AO_ADD_KEY is not supported" in failure(option + "0")
    assert passes(option + "-1 ENOPROTOOPT")


def test_the_switch_of_freebsd_signs_with_the_secret() -> None:
    switch = "+0 setsockopt(3, IPPROTO_TCP, TCP_MD5SIG, [1], 4) = "
    syn = "+0 < S 0:0(0) win 9999 <md5 valid,mss 1000,nop,nop>\n"
    signed = LISTEN + switch + "0\n" + syn
    assert passes(signed + "+0 > S. 0:0(0) ack 1 <nop,nop,md5 valid,mss 1460>")
    assert passes("--tcp_md5_secret=other\n" + signed + "+0 > S. 0:0(0) ack 1 <...>")
    assert "<nop,nop,md5 " in failure(signed + "+0 > S. 0:0(0) ack 1 <mss 1460>")
    assert passes(LISTEN + switch + "-1 EINVAL")  # on Linux it is a structure
    asked = "+0 getsockopt(3, IPPROTO_TCP, TCP_MD5SIG, [%d], [4]) = 0\n"
    off = "+0 setsockopt(3, IPPROTO_TCP, TCP_MD5SIG, [0], 4) = 0\n"
    assert passes(LISTEN + asked % 0 + off + switch + "0\n" + asked % 1 + off + asked % 0)
    with pytest.raises(MalformedFile, match="1 to 80 bytes"):
        passes(f"--tcp_md5_secret={'x' * 81}\n" + LISTEN)


def test_a_wrong_digest_is_not_valid() -> None:
    line = "+0 < S 0:0(0) win 9999 <mss 1000>\n+0 > S. 0:0(0) ack 1 <mss 1460,md5 valid,nop,nop>"
    assert "expected <mss 1460,md5 valid,nop,nop>, actual <mss 1460>" in failure(LISTEN + line)


def test_without_capabilities_some_options_are_refused() -> None:
    mark = "+0 setsockopt(3, SOL_SOCKET, SO_MARK, [1], 4) = "
    for dropped in ("cap_set()", "cap_set(NONE)", "cap_set(CAP_SYS_ADMIN|CAP_NET_BIND_SERVICE)"):
        assert passes(LISTEN + mark + f"0\n+0 {dropped} = 0\n" + mark + "-1 EPERM (why)")
    for kept in ("cap_set([CAP_NET_ADMIN])", "cap_set(ALL)"):
        assert passes(LISTEN + f"+0 {kept} = 0\n" + mark + "0")
    taken = LISTEN + "+0 cap_set(CAP_NET_ADMIN|CAP_NET_RAW, 0) = 0\n"
    assert passes(taken + mark + "-1 EPERM\n+0 cap_set(CAP_NET_ADMIN, 1) = 0\n" + mark + "0")
    priority = "+0 setsockopt(3, SOL_SOCKET, SO_PRIORITY, [%d], 4) = %s\n"
    assert passes(taken + priority % (6, "0") + priority % (7, "-1 EPERM"))
    congestion = '+0 setsockopt(3, IPPROTO_TCP, TCP_CONGESTION, "%s", %d) = %s\n'
    assert passes(taken + congestion % ("reno", 4, "0") + congestion % ("bbr", 3, "-1 EPERM"))
    assert "names of capabilities" in failure(LISTEN + '+0 cap_set("all") = 0')


def test_nstat_counts_segments_datagrams_and_connections() -> None:
    assert passes(
        ESTABLISHED
        + """
+0 write(4, ..., 100) = 100
+0 > P. 1:101(100) ack 1
+.3~+.4 > P. 1:101(100) ack 1
+0 `nstat -az TcpRetransSegs | grep -q ' 1 '`
+0 `nstat -az TcpCurrEstab TcpInSegs | grep -c ' 1 ' | grep -q 1`
+0 < udp 5000 > 6000 (10)
+0 `nstat -az UdpNoPorts | grep -q ' 1 '`
"""
    )
