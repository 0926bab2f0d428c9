"""Kernel settings as knobs of ustack."""

import pytest

from ustack.config import SECOND
from ustack.drill.sysctls import Environment, UnknownSetting, apply_defaults, write_setting


def test_names_are_taken_with_dots_slashes_and_as_paths() -> None:
    for name in ("net.ipv4.tcp_sack", "net/ipv4/tcp_sack", "/proc/sys/net/ipv4/tcp_sack"):
        environment = Environment()
        write_setting(environment, name, "0")
        assert environment.tcp.sack is False


def test_units_are_converted() -> None:
    environment = Environment()
    write_setting(environment, "net.ipv4.tcp_keepalive_time", "7")
    write_setting(environment, "net.ipv4.tcp_rmem", "4096 540000 15728640")
    write_setting(environment, "net.ipv4.tcp_invalid_ratelimit", "500")
    write_setting(environment, "net.inet.tcp.msl", "2000")
    write_setting(environment, "net.ipv4.ip_local_port_range", "1000 2000")
    assert environment.tcp.keep_alive_idle_us == 7 * SECOND
    assert (environment.tcp.receive_buffer, environment.tcp.receive_buffer_max) == (None, 15728640)
    assert environment.tcp.challenge_ack_interval_us == 500_000
    assert environment.tcp.msl_us == 2 * SECOND
    assert environment.stack.ephemeral_ports == (1000, 2000)


def test_loss_recovery_is_switched_by_linux_s_numbers() -> None:
    environment = Environment()
    write_setting(environment, "net.ipv4.tcp_early_retrans", "0")
    write_setting(environment, "net.ipv4.tcp_recovery", "0")
    assert not environment.tcp.tail_loss_probe
    assert not environment.tcp.rack
    apply_defaults(environment)
    assert environment.tcp.tail_loss_probe
    assert environment.tcp.rack


def test_a_setting_without_a_knob_is_noted_unless_it_asks_for_what_is_done_anyway() -> None:
    environment = Environment()
    write_setting(environment, "net.ipv4.tcp_thin_linear_timeouts", "0")
    assert environment.notes == []
    write_setting(environment, "net.ipv4.tcp_thin_linear_timeouts", "1")
    write_setting(environment, "net.ipv4.tcp_thin_linear_timeouts", "1")
    assert environment.notes == ["sysctl net.ipv4.tcp_thin_linear_timeouts=1 has no knob in ustack"]


def test_an_unknown_name_and_a_value_that_is_no_number_are_errors() -> None:
    with pytest.raises(UnknownSetting, match=r"unknown sysctl 'net\.ipv4\.foo'"):
        write_setting(Environment(), "net.ipv4.foo", "1")
    with pytest.raises(UnknownSetting, match="'x' is not a number"):
        write_setting(Environment(), "net.ipv4.tcp_sack", "x")


def test_the_defaults_of_the_linux_scripts_make_no_noise() -> None:
    environment = Environment()
    apply_defaults(environment)
    assert environment.notes == []
    assert (environment.tcp.receive_buffer, environment.tcp.receive_buffer_max) == (None, 15728640)
    assert environment.tcp.syn_retransmissions == 5
