"""Scripts that were written for FreeBSD, and what its TCP does otherwise than Linux's.

The scripts say nowhere which system they are for, but they configure it: sysctls below net.inet,
kernel modules, the choice among several TCPs. Figures: FreeBSD 14's defaults.
"""

from dataclasses import replace

from ustack.config import SECOND, TcpConfig
from ustack.drill.script import CommandEvent, Script, SyscallEvent

_COMMANDS = ("net.inet.", "kldload", "sockstat", "kern.ipc.", "kern.timecounter")
_CALL = "TCP_FUNCTION_BLK"


def is_for_freebsd(script: Script) -> bool:
    """Whether a command or a socket option of `script` exists on FreeBSD only."""
    events = [*script.events, *filter(None, (script.init, script.cleanup))]
    for event in events:
        if isinstance(event, CommandEvent) and any(word in event.text for word in _COMMANDS):
            return True
        if isinstance(event, SyscallEvent) and _CALL in repr(event.arguments):
            return True
    return False


def as_freebsd(tcp: TcpConfig) -> TcpConfig:
    """`tcp` with FreeBSD's choices, as far as they are visible on the wire."""
    return replace(
        tcp,
        bsd_handshake=True,
        linux_windows=False,
        receive_buffer=65_536,  # net.inet.tcp.recvspace
        receive_buffer_max=2 << 20,  # kern.ipc.maxsockbuf decides on the window scale: 6
        cut_segments=0,  # PSH where the send buffer becomes empty
        acks_await_reader=False,
        compressed_acks=0,
        quick_acks=0,  # every second segment, or after ...
        delayed_ack_us=40_000,  # ... net.inet.tcp.delacktime
        delayed_ack_max_us=40_000,
        probe_with_text=True,
        persist_min_us=5 * SECOND,  # net.inet.tcp.persmin
        persist_max_us=60 * SECOND,  # net.inet.tcp.persmax
        syn_linear_timeouts=4,
        soft_errors_end_opening=False,
        text_on_syn_ack=True,
        rack=False,  # its default TCP has neither ...
        tail_loss_probe=False,
        rfc1337=True,
        reset_unread=False,
        keep_alive_probes=8,  # net.inet.tcp.keepcnt
        ecn=2,
    )
