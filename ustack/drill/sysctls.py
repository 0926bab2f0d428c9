"""Kernel settings that scripts write, as fields of `TcpConfig` and `StackConfig`.

A setting without a knob is said in the notes of a run; a name that nobody knows is an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ustack.config import SECOND, StackConfig, TcpConfig
from ustack.tcp.congestion import REGISTRY
from ustack.tcp.fast_open import CLIENT, SERVER, parse_keys


class UnknownSetting(Exception):
    """There is no such sysctl, or it cannot have this value; the text says which."""


@dataclass(slots=True)
class Environment:
    """What commands have configured so far. New sockets start from `tcp`."""

    tcp: TcpConfig = field(default_factory=lambda: TcpConfig(mtu_probing=0))  # as Linux
    stack: StackConfig = field(default_factory=StackConfig)
    notes: list[str] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)  # values by name, as last set
    tunnel_port: int | None = None  # UDP port for TCP in UDP, 0: none; None: nobody has said

    def note(self, text: str) -> None:
        """Remembers a remark for the report, once."""
        if text not in self.notes:
            self.notes.append(text)


PAGE = 4096  # bytes; the unit of tcp_mem

Setter = Callable[[Environment, str], None]


def _number(text: str) -> int:
    try:
        return int(text.strip(), 0)
    except ValueError:
        raise UnknownSetting(f"'{text}' is not a number") from None


def _last_number(text: str) -> int:
    """The third of "4096 540000 15728640": what buffers may grow to."""
    return _number((text.split() or [""])[-1])


def _tcp(name: str, scale: int = 1) -> Setter:
    """The number, times `scale`, is the TcpConfig field `name`."""

    def write(environment: Environment, text: str) -> None:
        environment.tcp = replace(environment.tcp, **{name: _number(text) * scale})  # type: ignore[arg-type]

    return write


def _nanoseconds(name: str) -> Setter:
    def write(environment: Environment, text: str) -> None:
        environment.tcp = replace(environment.tcp, **{name: _number(text) // 1000})  # type: ignore[arg-type]

    return write


def _switch(name: str) -> Setter:
    def write(environment: Environment, text: str) -> None:
        environment.tcp = replace(environment.tcp, **{name: _number(text) != 0})  # type: ignore[arg-type]

    return write


def _buffer(name: str) -> Setter:
    def write(environment: Environment, text: str) -> None:
        environment.tcp = replace(environment.tcp, **{name: _last_number(text)})  # type: ignore[arg-type]

    return write


def _memory(buffer: str, share: int) -> Setter:
    """Minimum, default and maximum, of which one in `share` is text. One number is all three."""

    def write(environment: Environment, text: str) -> None:
        numbers = [_number(word) for word in text.split()] or [_number(text)]
        initial = max(numbers[min(1, len(numbers) - 1)] // share, 1)
        largest = max(numbers[-1], 1)
        environment.tcp = replace(
            environment.tcp,
            **{buffer: None, f"{buffer}_initial": initial, f"{buffer}_max": largest},  # type: ignore[arg-type]
        )

    return write


def _stack(name: str) -> Setter:
    def write(environment: Environment, text: str) -> None:
        environment.stack = replace(environment.stack, **{name: _number(text)})  # type: ignore[arg-type]

    return write


def _total_memory(environment: Environment, text: str) -> None:
    """Three numbers of pages: the end of the pressure, its beginning, the limit."""
    numbers = [_number(word) for word in text.split()]
    if len(numbers) != 3:
        raise UnknownSetting(f"tcp_mem wants three numbers, not {text!r}")
    _, pressure, limit = (PAGE * number for number in numbers)
    environment.stack = replace(environment.stack, memory_limit=limit, memory_pressure=pressure)


def _fast_open_key(environment: Environment, text: str) -> None:
    try:
        keys = parse_keys(text)
    except ValueError as error:
        raise UnknownSetting(str(error)) from None
    environment.stack = replace(environment.stack, fast_open_key=keys)


def _blackhole(environment: Environment, text: str) -> None:
    environment.stack = replace(environment.stack, fast_open_blackhole_us=_number(text) * SECOND)


def _congestion(environment: Environment, text: str) -> None:
    name = text.strip()
    if name not in REGISTRY:
        environment.note(
            f"congestion control {name} is not there: {environment.tcp.congestion} is used"
        )
        return
    environment.tcp = replace(environment.tcp, congestion=name)


def _tail_loss_probe(environment: Environment, text: str) -> None:
    """3 and 4 switch it on; 1 and 2 are history (ip-sysctl.rst)."""
    environment.tcp = replace(environment.tcp, tail_loss_probe=_number(text) >= 3)


def _rack(environment: Environment, text: str) -> None:
    """Bit 0 of the bit field."""
    environment.tcp = replace(environment.tcp, rack=bool(_number(text) & 1))


def _not_sent_low_water(environment: Environment, text: str) -> None:
    """4294967295 is no limit."""
    limit = _number(text) & 0xFFFF_FFFF
    unlimited = limit == 0xFFFF_FFFF
    environment.tcp = replace(environment.tcp, not_sent_low_water=0 if unlimited else limit)


def _no_path_mtu_discovery(environment: Environment, text: str) -> None:
    environment.tcp = replace(environment.tcp, path_mtu_discovery=_number(text) == 0)


def _port_range(environment: Environment, text: str) -> None:
    low, high = _number((text.split() or [""])[0]), _last_number(text)
    environment.stack = replace(environment.stack, ephemeral_ports=(low, high))


def _msl(environment: Environment, text: str) -> None:
    environment.tcp = replace(environment.tcp, msl_us=_number(text) * 1000)


def _rfc1323(environment: Environment, text: str) -> None:
    on = _number(text) != 0
    environment.tcp = replace(environment.tcp, timestamps=on, window_scaling=on)


def _bsd_ecn(environment: Environment, text: str) -> None:
    """0 to 2 mean what they mean on Linux; 3 and 4 are AccECN, asked for or granted."""
    number = _number(text)
    meaning = {3: 3, 4: 2}.get(number, number)
    if not 0 <= meaning <= 3:
        raise UnknownSetting(f"net.inet.tcp.ecn.enable cannot be {number}")
    environment.tcp = replace(environment.tcp, ecn=meaning)


def _blackhole_ports(environment: Environment, text: str) -> None:
    """What no socket takes is not answered with a reset: 1 for SYNs (noted), 2 and 3 for all."""
    number = _number(text)
    if number == 1:
        environment.note("sysctl net.inet.tcp.blackhole=1 has no knob in ustack")
        return
    rate = 0 if number else StackConfig().resets_per_second
    environment.stack = replace(environment.stack, resets_per_second=rate)


def _syn_cookies_only(environment: Environment, text: str) -> None:
    if _number(text):
        environment.stack = replace(environment.stack, syn_cookies=2)


def _fast_open_bit(bit: int) -> Setter:
    def write(environment: Environment, text: str) -> None:
        bits = environment.stack.fast_open & ~bit
        bits |= bit if _number(text) else 0
        environment.stack = replace(environment.stack, fast_open=bits)

    return write


def _delayed_ack_time(environment: Environment, text: str) -> None:
    delay = min(_number(text) * 1000, 499_999)
    environment.tcp = replace(environment.tcp, delayed_ack_us=delay, delayed_ack_max_us=delay)


def _path_mtu_discovery(environment: Environment, text: str) -> None:
    environment.tcp = replace(environment.tcp, path_mtu_discovery=_number(text) != 0)


def _delayed_ack(environment: Environment, text: str) -> None:
    """FreeBSD: 0 acknowledges every segment at once."""
    if _number(text) == 0:
        environment.tcp = replace(environment.tcp, delayed_ack_us=0)


_LINUX: Mapping[str, Setter] = {
    "tcp_timestamps": _switch("timestamps"),
    "tcp_sack": _switch("sack"),
    "tcp_window_scaling": _switch("window_scaling"),
    "tcp_syn_retries": _tcp("syn_retransmissions"),
    "tcp_syn_linear_timeouts": _tcp("syn_linear_timeouts"),
    "tcp_fastopen": _stack("fast_open"),
    "tcp_fastopen_key": _fast_open_key,
    "tcp_fastopen_blackhole_timeout_sec": _blackhole,
    "tcp_synack_retries": _tcp("syn_ack_retransmissions"),
    "tcp_retries1": _tcp("r1_retransmissions"),
    "tcp_retries2": _tcp("r2_retransmissions"),
    "tcp_orphan_retries": _tcp("orphan_retransmissions"),
    "tcp_fin_timeout": _tcp("fin_wait_2_timeout_us", SECOND),
    "tcp_keepalive_time": _tcp("keep_alive_idle_us", SECOND),
    "tcp_keepalive_intvl": _tcp("keep_alive_interval_us", SECOND),
    "tcp_keepalive_probes": _tcp("keep_alive_probes"),
    "tcp_congestion_control": _congestion,
    "tcp_slow_start_after_idle": _switch("slow_start_after_idle"),
    "tcp_rmem": _memory("receive_buffer", 2),
    "tcp_wmem": _memory("send_buffer", 1),
    "tcp_moderate_rcvbuf": _switch("moderate_receive_buffer"),
    "tcp_mtu_probing": _tcp("mtu_probing"),
    "tcp_base_mss": _tcp("base_mss"),
    "tcp_mtu_probe_floor": _tcp("mtu_probe_floor"),
    "tcp_probe_interval": _tcp("mtu_probe_interval_us", SECOND),
    "tcp_probe_threshold": _tcp("mtu_probe_threshold"),
    "tcp_rfc1337": _switch("rfc1337"),
    "tcp_early_retrans": _tail_loss_probe,
    "tcp_ecn": _tcp("ecn"),
    "tcp_ecn_fallback": _switch("ecn_fallback"),
    "tcp_ecn_option": _tcp("accecn_option"),
    "tcp_ecn_option_beacon": _tcp("accecn_option_beacon"),
    "tcp_recovery": _rack,
    "tcp_invalid_ratelimit": _tcp("challenge_ack_interval_us", 1000),
    "tcp_challenge_ack_limit": _stack("challenge_acks_per_second"),
    "tcp_syncookies": _stack("syn_cookies"),
    "tcp_abort_on_overflow": _stack("abort_on_overflow"),
    "tcp_max_syn_backlog": _stack("max_half_open"),
    "tcp_mem": _total_memory,
    "tcp_max_orphans": _stack("max_orphans"),
    "tcp_max_tw_buckets": _stack("max_time_waits"),
    "tcp_frto": _switch("frto"),
    "tcp_reordering": _tcp("reordering"),
    "tcp_pingpong_thresh": _tcp("dialogue_threshold"),
    "tcp_pacing_ss_ratio": _tcp("pacing_ss_ratio"),
    "tcp_pacing_ca_ratio": _tcp("pacing_ca_ratio"),
    "tcp_notsent_lowat": _not_sent_low_water,
    "tcp_min_tso_segs": _tcp("cut_segments"),
    "tcp_rto_min_us": _tcp("min_rto_us"),
    "tcp_rto_max_ms": _tcp("max_rto_us", 1000),
    "tcp_comp_sack_nr": _tcp("compressed_acks"),
    "tcp_comp_sack_delay_ns": _nanoseconds("compressed_ack_us"),
    "tcp_comp_sack_slack_ns": _nanoseconds("compressed_ack_slack_us"),
    "ip_default_ttl": _tcp("ttl"),
    "ip_no_pmtu_disc": _no_path_mtu_discovery,
    "ip_local_port_range": _port_range,
}


def _tunnel_port(environment: Environment, text: str) -> None:
    environment.tunnel_port = _number(text)


_FREEBSD: Mapping[str, Setter] = {
    "net.inet.tcp.udp_tunneling_port": _tunnel_port,
    "net.inet.tcp.rfc1323": _rfc1323,
    "net.inet.tcp.sack.enable": _switch("sack"),
    "net.inet.tcp.msl": _msl,
    "net.inet.tcp.delayed_ack": _delayed_ack,
    "net.inet.tcp.delacktime": _delayed_ack_time,
    "net.inet.tcp.ecn.enable": _bsd_ecn,
    "net.inet.tcp.blackhole": _blackhole_ports,
    "net.inet.tcp.syncookies": _stack("syn_cookies"),
    "net.inet.tcp.syncookies_only": _syn_cookies_only,
    "net.inet.tcp.fastopen.client_enable": _fast_open_bit(CLIENT),
    "net.inet.tcp.fastopen.server_enable": _fast_open_bit(SERVER),
    "net.inet.tcp.finwait2_timeout": _tcp("fin_wait_2_timeout_us", 1000),
    "net.inet.tcp.path_mtu_discovery": _path_mtu_discovery,
    "net.inet.tcp.pmtud_blackhole_detection": _tcp("mtu_probing"),
    "net.inet.tcp.persmin": _tcp("persist_min_us", 1000),
    "net.inet.tcp.persmax": _tcp("persist_max_us", 1000),
    "net.inet.tcp.rexmit_initial": _tcp("initial_rto_us", 1000),
    "net.inet.tcp.rexmit_min": _tcp("min_rto_us", 1000),
    "net.inet.tcp.cc.algorithm": _congestion,
    "net.inet.tcp.initcwnd_segments": _tcp("initial_window_segments"),
    "net.inet.tcp.recvspace": _buffer("receive_buffer"),
    "net.inet.tcp.sendspace": _buffer("send_buffer"),
    "net.inet.tcp.always_keepalive": _switch("keep_alive"),
    "net.inet.tcp.keepidle": _tcp("keep_alive_idle_us", 1000),
    "net.inet.tcp.keepintvl": _tcp("keep_alive_interval_us", 1000),
    "net.inet.tcp.keepcnt": _tcp("keep_alive_probes"),
    "net.inet.ip.ttl": _tcp("ttl"),
}
# Linux settings for which ustack has one behaviour only. The value that means this behaviour is
# nothing to speak of; any other is noted.
_FIXED: Mapping[str, str] = {
    "tcp_adv_win_scale": "1",
    "tcp_app_win": "31",
    "tcp_autocorking": "0",
    "tcp_available_congestion_control": "",
    "tcp_dsack": "1",
    "tcp_fack": "0",
    "tcp_limit_output_bytes": "",
    "tcp_low_latency": "0",
    "tcp_migrate_req": "0",
    "tcp_min_snd_mss": "48",
    "tcp_no_metrics_save": "1",
    "tcp_no_ssthresh_metrics_save": "1",
    "tcp_plb_enabled": "0",
    "tcp_reflect_tos": "0",
    "tcp_retrans_collapse": "0",
    "tcp_shrink_window": "0",
    "tcp_stdurg": "0",
    "tcp_thin_linear_timeouts": "0",
    "tcp_tso_rtt_log": "",
    "tcp_tso_win_divisor": "",
    "tcp_tw_reuse": "",
    "tcp_workaround_signed_windows": "0",
}
# What the runner of the Linux scripts sets before each of them (language §13.1).
DEFAULTS_SH: Mapping[str, str] = {
    "tcp_rmem": "4096 540000 15728640",
    "tcp_wmem": "4096 262144 4194304",
    "tcp_timestamps": "1",
    "tcp_syn_retries": "5",
    "tcp_synack_retries": "5",
    "tcp_frto": "2",
    "tcp_sack": "1",
    "tcp_dsack": "1",
    "tcp_reordering": "3",
    "tcp_congestion_control": "cubic",
    "tcp_slow_start_after_idle": "0",
    "tcp_early_retrans": "4",
    "tcp_recovery": "1",
    "tcp_ecn": "0",
    "tcp_fastopen": "0x70403",
    "tcp_fastopen_key": "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4",
}


# Settings of what lies beside TCP, or of FreeBSD, in their hundreds
_ELSEWHERE = tuple(
    """net.inet. net.inet6. kern. net.core. net.mptcp. net.netfilter. vm. fs. kernel. net.ipv4.conf.
    net.ipv6.conf. net.ipv4.neigh. net.ipv6.neigh. net.ipv4.route. net.ipv6.route. net.ipv4.icmp
    net.ipv6.icmp net.ipv4.igmp net.ipv4.udp net.ipv4.ipfrag net.ipv6.ip6frag net.ipv4.inet_peer
    net.ipv4.fib net.ipv6.mld net.ipv4.nexthop""".split()
)
# The other settings of TCP and IP that Linux 6.18 has
_OTHERS = frozenset(
    """tcp_allowed_congestion_control tcp_ao_aggregate_icmps tcp_backlog_ack_defer
    tcp_child_ehash_entries tcp_comp_sack_rtt_percent tcp_early_demux tcp_ehash_entries
    tcp_fwmark_accept tcp_l3mdev_accept
    tcp_max_reordering tcp_min_rtt_wlen tcp_plb_cong_thresh tcp_plb_idle_rehash_rounds
    tcp_plb_rehash_rounds tcp_plb_suspend_rto_sec tcp_rcvbuf_low_rtt tcp_thin_dupack
    tcp_tw_recycle tcp_tw_reuse_delay tcp_max_ssthresh tcp_abc tcp_cookie_size
    ip_autobind_reuse ip_dynaddr ip_early_demux ip_forward ip_forward_use_pmtu ip_nonlocal_bind
    ip_local_reserved_ports ip_unprivileged_port_start fwmark_reflect raw_l3mdev_accept
    auto_flowlabels flowlabel_consistency flowlabel_reflect flowlabel_state_ranges bindv6only
    ip6_forward max_dst_opts_number max_hbh_opts_number min_pmtu mtu_expires""".split()
)
# What Linux 6.18 says of some before anybody has set them
_DEFAULTS = {
    "tcp_timestamps": "1",
    "tcp_sack": "1",
    "tcp_dsack": "1",
    "tcp_window_scaling": "1",
    "tcp_ecn": "2",
    "tcp_fastopen": "1",
    "tcp_syncookies": "1",
    "tcp_syn_retries": "6",
    "tcp_synack_retries": "5",
    "tcp_retries2": "15",
    "tcp_congestion_control": "cubic",
    "tcp_available_congestion_control": "reno cubic",
    "tcp_slow_start_after_idle": "1",
    "tcp_recovery": "1",
    "tcp_early_retrans": "3",
    "tcp_frto": "2",
    "tcp_reordering": "3",
    "tcp_fin_timeout": "60",
    "tcp_moderate_rcvbuf": "1",
    "tcp_mtu_probing": "0",
    "tcp_min_tso_segs": "2",
    "tcp_comp_sack_nr": "44",
    "tcp_comp_sack_delay_ns": "1000000",
    "tcp_comp_sack_slack_ns": "100000",
    "tcp_rmem": "4096 131072 6291456",
    "tcp_wmem": "4096 16384 4194304",
    "ip_default_ttl": "64",
    "tcp_rto_min_us": "200000",
    "tcp_rto_max_ms": "120000",
}


def _dotted(name: str) -> str:
    return name.strip().replace("/", ".").removeprefix(".proc.sys.")


def read_setting(environment: Environment, name: str) -> str:
    """What `sysctl -n name` prints; "" where nobody has set it and we do not know."""
    name = _dotted(name)
    return environment.written.get(name) or _DEFAULTS.get(name.removeprefix("net.ipv4."), "")


def write_setting(environment: Environment, name: str, value: str) -> None:
    """Sets what `sysctl -w name=value` sets. Raises UnknownSetting."""
    name = _dotted(name)
    environment.written[name] = " ".join(value.split())
    short = name.removeprefix("net.ipv4.").removeprefix("net.ipv6.")
    setter = _LINUX.get(short) or _FREEBSD.get(name)
    if setter is not None:
        setter(environment, value)
    elif short in _FIXED:
        if _FIXED[short] and _FIXED[short] != value.strip():
            environment.note(f"sysctl {name}={value.strip()} has no knob in ustack")
    elif name.startswith(_ELSEWHERE) or short in _OTHERS:
        environment.note(f"sysctl {name}={value.strip()} has no knob in ustack")
    else:
        raise UnknownSetting(f"unknown sysctl '{name}'")


def apply_defaults(environment: Environment) -> None:
    """What defaults.sh does, as far as there are knobs; the rest is not worth a note."""
    notes = list(environment.notes)
    for name, value in DEFAULTS_SH.items():
        write_setting(environment, name, value)
    environment.notes = notes
