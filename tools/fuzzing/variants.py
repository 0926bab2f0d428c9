"""The stacks under test: what each is made with, and what a user may change on a live connection.

A trace of the corpus names its variant, so names stay.
"""

from tools.fuzzing.packets import OURS
from ustack.config import SECOND, StackConfig, TcpConfig
from ustack.tcp.congestion import REGISTRY
from ustack.tcp.fast_open import (
    CLIENT,
    CLIENT_WITHOUT_COOKIE,
    EVERY_LISTENER,
    SERVER,
    SERVER_WITHOUT_COOKIE,
)

FAST_OPEN_KEY = bytes(range(32))  # the key in use and the one before it

RECONFIGURED: tuple[dict[str, object], ...] = (
    {"receive_buffer": 1},
    {"receive_buffer": 1000},
    {"receive_buffer": 200_000},
    {"send_buffer": 1 << 20},
    {"nagle": False},
    {"nagle": True},
    {"user_timeout_us": 2 * SECOND},
    {"user_timeout_us": None},
    {"keep_alive": True, "keep_alive_idle_us": SECOND, "keep_alive_interval_us": SECOND},
    {"keep_alive": False},
    {"linger_us": 0},
    {"min_rto_us": 5000, "max_rto_us": SECOND},
    {"dscp": 46, "ttl": 1},
)

_ADDRESSES = (f"{OURS[4]}/24", f"{OURS[6]}/64")
_NO_OPTIONS = TcpConfig(window_scaling=False, timestamps=False, sack=False)
_GROWING = TcpConfig(
    receive_buffer_initial=2000,
    receive_buffer_max=30_000,
    send_buffer_initial=2000,
    send_buffer_max=30_000,
)
_IMPATIENT = TcpConfig(
    keep_alive=True,
    keep_alive_idle_us=10 * SECOND,
    keep_alive_interval_us=SECOND,
    user_timeout_us=30 * SECOND,
    linger_us=None,
    ack_every_second_segment=True,
    quick_acks=0,
    nagle=False,
)
_KEEP_ALIVE = TcpConfig(
    keep_alive=True,
    keep_alive_idle_us=5 * SECOND,
    keep_alive_interval_us=SECOND,
    keep_alive_probes=3,
    congestion="newreno",
    slow_start="hystart++",
)
_PROBING = TcpConfig(mtu_probing=2, base_mss=512, mtu_probe_interval_us=5 * SECOND)
_FAST_OPEN = TcpConfig(fast_open_queue=2)
_AS_LINUX = TcpConfig(
    probe_with_text=False,
    soft_errors_end_opening=True,
    syn_linear_timeouts=4,
    mtu_probing=0,
    ecn=1,
    slow_start="hystart",
)
_CONTROLS = {
    f"control-{name}": StackConfig(
        _ADDRESSES, tcp=TcpConfig(congestion=name, slow_start="hystart++")
    )
    for name in sorted(set(REGISTRY) - {"reno"})
}
VARIANTS = {
    **_CONTROLS,
    "plain": StackConfig(_ADDRESSES),
    "no-options": StackConfig(_ADDRESSES, tcp=_NO_OPTIONS),
    "small-buffers": StackConfig(
        _ADDRESSES, tcp=TcpConfig(receive_buffer=3000, send_buffer=5000), max_fragments=5000
    ),
    "offload": StackConfig(_ADDRESSES, gso_max=65535, checksum_offload=True),
    "impatient": StackConfig(_ADDRESSES, tcp=_IMPATIENT),
    "small-mtu": StackConfig(
        _ADDRESSES, mtu=1280, tcp=TcpConfig(receive_buffer=100_000, timestamps=False)
    ),
    "ecn": StackConfig(_ADDRESSES, tcp=TcpConfig(ecn=1)),
    "accurate-ecn": StackConfig(_ADDRESSES, tcp=TcpConfig(ecn=3)),
    "probing": StackConfig(_ADDRESSES, mtu=9000, tcp=_PROBING),
    "keep-alive": StackConfig(_ADDRESSES, tcp=_KEEP_ALIVE),
    "fast-open": StackConfig(_ADDRESSES, fast_open_key=FAST_OPEN_KEY, tcp=_FAST_OPEN),
    "fast-open-freely": StackConfig(
        _ADDRESSES,
        fast_open=CLIENT | SERVER | CLIENT_WITHOUT_COOKIE | SERVER_WITHOUT_COOKIE | EVERY_LISTENER,
        fast_open_blackhole_us=60 * SECOND,
    ),
    "as-linux": StackConfig(_ADDRESSES, tcp=_AS_LINUX),
    "cookies": StackConfig(_ADDRESSES, syn_cookies=2),
    "growing": StackConfig(_ADDRESSES, tcp=_GROWING),
    "crowded": StackConfig(
        _ADDRESSES,
        max_connections=4,
        max_time_waits=2,
        max_half_open=2,
        resets_per_second=5,
        challenge_acks_per_second=5,
        icmp_per_second=5,
        max_fragments=3000,
    ),
}
