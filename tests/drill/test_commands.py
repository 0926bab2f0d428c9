"""Shell commands as configuration."""

import pytest

from ustack.drill.commands import Commands
from ustack.drill.failure import ScriptFailure
from ustack.drill.lexer import Position
from ustack.drill.sysctls import Environment

HERE = Position("t.pkt", 1)


class Run:
    """Commands with what they did."""

    def __init__(self, text: str) -> None:
        self.environment = Environment()
        self.waited: list[int] = []
        self.dropping: list[bool] = []
        commands = Commands(
            self.environment,
            allow_shell=False,
            wait=self.waited.append,
            drop_output=self.dropping.append,
        )
        commands.run(text, HERE)


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
    assert Run("tc qdisc replace dev tun0 root fq").environment.notes != []


def test_values_can_be_written_to_proc() -> None:
    assert Run("echo 0 > /proc/sys/net/ipv4/tcp_sack").environment.tcp.sack is False


@pytest.mark.parametrize("text", ["sleep", "sleep x", "sleep inf", "sleep 1 2"])
def test_sleep_wants_seconds(text: str) -> None:
    with pytest.raises(ScriptFailure, match="sleep takes a number of seconds"):
        Run(text)


@pytest.mark.parametrize("text", ["rm -rf /", "sysctl net.ipv4.tcp_sack", "ip link set lo up"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ScriptFailure, match=r"t\.pkt:1: refused to run"):
        Run(text)
