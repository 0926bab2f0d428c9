"""Shell commands as configuration."""

from pathlib import Path

import pytest

from ustack.drill.commands import Commands
from ustack.drill.failure import ScriptFailure
from ustack.drill.pipelines import ListedSocket, Machine
from ustack.drill.positions import Position
from ustack.drill.sysctls import Environment

HERE = Position("t.pkt", 1)


class Run:
    """Commands with what they did."""

    def __init__(self, text: str, position: Position = HERE) -> None:
        self.environment = Environment()
        self.waited: list[int] = []
        self.dropping: list[bool] = []
        self.commands = commands = Commands(
            self.environment,
            allow_shell=False,
            wait=self.waited.append,
            drop_output=self.dropping.append,
            machine=Machine(lambda: self.counters, lambda: self.sockets),
        )
        self.counters = {"TcpExtBeyondWindow": 2, "TcpExtListenOverflows": 0}
        self.sockets = [ListedSocket("TIME_WAIT", "192.168.0.1:8080", "192.0.2.1:49152")]
        commands.run(text, position)
        self.files = commands.files


def test_several_commands_stand_on_lines_or_behind_each_other() -> None:
    run = Run("sysctl -q net.ipv4.tcp_sack=0 2>/dev/null || true\nsleep 0.5; sleep 1 && true")
    assert run.environment.tcp.sack is False
    assert run.waited == [500_000, 1_000_000]


def test_the_helpers_of_the_linux_scripts_are_understood() -> None:
    run = Run(
        "../common/defaults.sh\n"
        "../../common/set_sysctls.py /proc/sys/net/ipv4/tcp_timestamps=0 "
        "/proc/sys/net/ipv4/tcp_syn_retries=3"
    )
    assert run.environment.tcp.timestamps is False
    assert run.environment.tcp.syn_retransmissions == 3
    Run("/tmp/sysctl_restore_${PPID}.sh")


def test_route_attributes_become_knobs() -> None:
    run = Run(
        "ip tcp_metrics flush all > /dev/null 2>&1\n"
        "ip route change 192.0.2.1 via 192.168.0.2 dev tun0 initcwnd 20 advmss 500 rto_min 50ms"
    )
    assert run.environment.tcp.initial_window_segments == 20
    assert run.environment.tcp.mss == 500
    assert run.environment.tcp.min_rto_us == 50_000


def test_offload_and_queueing_commands_change_the_device() -> None:
    run = Run("ethtool -K tun0 gso off tso off")
    assert run.environment.stack.gso_max == 0
    assert Run("tc qdisc replace dev tun0 root pfifo limit 0").dropping == [True]
    assert Run("tc qdisc replace dev tun0 root fq").environment.tcp.pacing


def test_values_can_be_written_to_proc() -> None:
    assert Run("echo 0 > /proc/sys/net/ipv4/tcp_sack").environment.tcp.sack is False


@pytest.mark.parametrize("text", ["sleep", "sleep x", "sleep inf", "sleep 1 2"])
def test_sleep_wants_seconds(text: str) -> None:
    with pytest.raises(ScriptFailure, match="sleep takes a number of seconds"):
        Run(text)


@pytest.mark.parametrize("text", ["reboot", "dd if=/dev/zero", "ip tunnel add t0"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ScriptFailure, match=r"t\.pkt:1: refused to run"):
        Run(text)


@pytest.mark.parametrize(
    "question",
    [
        'nstat | grep TcpExtBeyondWindow | grep -q " 2 "',
        "nstat -asz TcpExtListenOverflows | grep -q 'Overflows *0'",
        "nstat -n; nstat -z | grep BeyondWindow | awk '{print $2}' | grep -q 0",
        "sockstat -4 -p 8080 -s | grep -c TIME_WAIT | grep 1",
        "netstat -an | grep -E 'TIME_WAIT|CLOSE_WAIT' | wc -l | grep -w 1",
        "ss -tan state time-wait | grep -q :8080",
        "ss -Htan state established | grep -v 8080 | wc -l | grep 0",
    ],
)
def test_a_pipeline_is_a_question(question: str) -> None:
    Run(question)
    with pytest.raises(ScriptFailure, match="says no"):
        Run(f"{question} | grep nothing-like-it")


@pytest.mark.parametrize(
    "question",
    [
        "nstat | grep -q TcpExtListenOverflows",
        "sockstat | grep -c LISTEN | grep 1",
        "ss | grep ESTAB",
        "ss -tn | grep 8080",  # by itself it does not show TIME-WAIT
        "ss -tnl | grep 8080",
    ],
)
def test_a_pipeline_that_says_no_fails(question: str) -> None:
    with pytest.raises(ScriptFailure, match="says no"):
        Run(question)


def test_an_unknown_filter_is_said() -> None:
    with pytest.raises(ScriptFailure, match="refused to run 'sed s"):
        Run("nstat | sed s/a/b/")


def test_a_counter_that_is_not_here_is_said() -> None:
    Run("nstat -az 'TcpExtBeyond*' | grep -q TcpExtBeyondWindow")
    with pytest.raises(ScriptFailure, match="ustack has no counter 'TcpExtNonsense'"):
        Run("nstat -az TcpExtNonsense | grep -q 0")


def test_files_of_dd_are_sizes() -> None:
    run = Run(
        "dd if=/dev/zero of=/tmp/a bs=1k count=5; dd of=b count=2 2>/dev/null\n"
        "dd of=/c count=1; rm -f /c"
    )
    assert run.files == {"/tmp/a": 5120, "b": 1024}


def test_settings_may_be_computed() -> None:
    run = Run('sysctl -q net.ipv4.tcp_rmem="4096 131072 $((15*1024*1024))"')
    assert run.environment.tcp.receive_buffer_max == 15 << 20
    with pytest.raises(ScriptFailure, match="arithmetic"):
        Run("sysctl -q net.ipv4.tcp_rmem=$((1/0))")


def test_an_unknown_setting_is_no_error_with_e() -> None:
    assert Run("sysctl -e -q net.ipv4.tcp_nonsense=1").environment.notes != []
    with pytest.raises(ScriptFailure, match="tcp_nonsense"):
        Run("sysctl -q net.ipv4.tcp_nonsense=1")


def test_the_defaults_beside_the_script_are_taken(tmp_path: Path) -> None:
    """A file with anything unknown in it is not: then those of Google's suite hold."""
    position = Position(str(tmp_path / "t.pkt"), 1)
    file = tmp_path / "defaults.sh"
    file.write_text(
        "#!/bin/bash\n# comment\nsysctl -q net.ipv4.tcp_sack=0 # more\nip tcp_metrics flush all\n"
    )
    assert Run("./defaults.sh", position).environment.tcp.sack is False
    file.write_text("sysctl -q net.ipv4.tcp_sack=0\nif true; then reboot; fi\n")
    run = Run("./defaults.sh", position)
    assert run.environment.tcp.sack is True
    assert run.environment.tcp.slow_start_after_idle is False


def test_the_sockets_are_in_proc_as_linux_writes_them() -> None:
    run = Run("true")
    run.sockets[:] = [ListedSocket("LISTEN", "192.168.0.1:8080", "*:*")]
    run.commands.run('grep " 0A " /proc/net/tcp /proc/net/tcp6 | grep ":1F90"', HERE)
    run.commands.run("grep -q '0: 0100A8C0:1F90 00000000:0000 0A' /proc/net/tcp", HERE)
    run.sockets[:] = [ListedSocket("ESTABLISHED", "fd00::1:8080", "fd00::2:80")]
    run.commands.run(
        "cat /proc/net/tcp6 | grep -c '000000FD000000000000000001000000:1F90' | grep 1", HERE
    )
    with pytest.raises(ScriptFailure, match="says no"):
        run.commands.run("grep :1F90 /proc/net/tcp", HERE)


def says_yes(text: str, run: Run | None = None) -> bool:
    """The status that the script sees; what is refused is an error."""
    try:
        (run or Run("true")).commands.run(text, HERE)
    except ScriptFailure as failure:
        if "says no" not in str(failure):
            raise
        return False
    return True


def test_counters_are_in_proc() -> None:
    assert says_yes("grep TcpExt: /proc/net/netstat 2>/dev/null | grep -q ' BeyondWindow '")
    assert not says_yes("grep TcpExt: /proc/net/netstat | grep -q ' NoSuchThing '")
    assert says_yes("[ $(nstat -az | awk '/BeyondWindow/ {print $2}') -eq 2 ]")
    assert not says_yes("[ $(nstat -az | awk '/BeyondWindow/ {print $2}') -eq 3 ]")


@pytest.mark.parametrize(
    "text",
    [
        "false || true",
        "! false",
        "if [ 1 = 2 ]; then reboot; else sysctl -q net.ipv4.tcp_sack=1; fi",
        "if false; then\n reboot\nfi",
        'X=1; [ $X = 1 ] && [ -n "$X" ]',
        "echo 'a b' > /tmp/x; grep -q '^a' < /tmp/x",
        "echo 0 | tee /proc/sys/net/ipv4/tcp_sack && [ $(sysctl -n net.ipv4.tcp_sack) = 0 ]",
        "python3 -c 'import time; time.sleep(0.1)'",
        "sh -c 'true && true'",
        "ip route get 192.0.2.1 | cat",
        "test $(echo x y | cut -d' ' -f2) = y",
        "true # no comment; reboot",
        "nstat -n; iptables -F; tc -s qdisc show dev tun0",
    ],
)
def test_the_shell_knows_lists_conditions_and_words(text: str) -> None:
    assert says_yes(text)
    assert not says_yes(f"{text}\nfalse")


@pytest.mark.parametrize(
    "text, said",
    [
        ("false", "'false' says no"),
        ("true; [ 1 -gt 2 ]", "says no"),
        ("exit 1", "'exit 1' says no"),
        ("if true; then true", "if without fi"),
        ("echo 'a", "' without an end"),
        ('echo "a', '" without an end'),
        ("for i in 1 2; do true; done", "refused to run 'for"),
        ("tcpdump -i tun0 &", "refused to run 'tcpdump -i tun0 &?'"),
        ("true |", "'true |'|nothing"),
        ("echo >", "a file is missing"),
        ("cat /nowhere", "there is no file /nowhere"),
        ("sysctl -q net.ipv4.tcp_nonsense=1 || false", "says no"),
    ],
)
def test_what_the_shell_does_not_do_is_said(text: str, said: str) -> None:
    with pytest.raises(ScriptFailure, match=said):
        Run(text)


def test_a_script_beside_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "clear.sh").write_text("#!/bin/sh\nset -e\nsysctl -q -w net.ipv4.tcp_sack=0\n")
    run = Run("./clear.sh", Position(str(tmp_path / "t.pkt"), 1))
    assert run.environment.tcp.sack is False


def test_commands_in_each_other_have_an_end(tmp_path: Path) -> None:
    (tmp_path / "self.sh").write_text("./self.sh")
    with pytest.raises(ScriptFailure, match="too many commands in each other"):
        Run("./self.sh", Position(str(tmp_path / "t.pkt"), 1))
    with pytest.raises(ScriptFailure, match="refused to run 'ip"):
        Run("ip")


def test_ss_shows_listeners_and_details_when_asked() -> None:
    run = Run("true")
    run.sockets[:] = [
        ListedSocket("LISTEN", "192.168.0.1:8080", "*:*"),
        ListedSocket("ESTABLISHED", "192.168.0.1:8080", "192.0.2.1:5", "cubic cwnd:10"),
    ]
    for question in (
        "ss -tnl | grep -c 8080 | grep -x 1",
        "ss -Htn | wc -l | grep -w 1",
        "ss -tn | wc -l | grep -w 2",
        "ss -tan | grep -c 8080 | grep -w 2",
        "ss -tni | grep -q 'cubic .*cwnd:10'",
        "! ss -tn | grep cwnd",
        "ss -tn state all | grep -c 8080 | grep -w 2",
        "ss -tn state connected | grep -c 8080 | grep -w 1",
    ):
        assert says_yes(question, run), question
    assert not says_yes("ss -tnl | grep -c 8080 | grep -x 2", run)
