"""The Python of `%{ }%`: run after the last event, in one namespace without the world.

Snippets come with scripts from anywhere. They get the variables of TCP_INFO, a few pure builtins
and no way out: no import but of what only computes, no name or attribute that begins with "_".
"""

import ast
import builtins
import struct
from collections.abc import Mapping

from ustack.drill.failure import ScriptFailure
from ustack.drill.positions import Position
from ustack.tcp.user_calls import TcpInfo
from ustack.wire.ecn import CE, ECT0, ECT1
from ustack.wire.tcp_options import SIGNATURE_SIZE

CONSTANTS: Mapping[str, int] = {
    "TCP_ESTABLISHED": 1,
    "TCP_SYN_SENT": 2,
    "TCP_SYN_RECV": 3,
    "TCP_FIN_WAIT1": 4,
    "TCP_FIN_WAIT2": 5,
    "TCP_TIME_WAIT": 6,
    "TCP_CLOSE": 7,
    "TCP_CLOSE_WAIT": 8,
    "TCP_LAST_ACK": 9,
    "TCP_LISTEN": 10,
    "TCP_CLOSING": 11,
    "TCP_CA_Open": 0,
    "TCP_CA_Disorder": 1,
    "TCP_CA_CWR": 2,
    "TCP_CA_Recovery": 3,
    "TCP_CA_Loss": 4,
    "TCPI_OPT_TIMESTAMPS": 1,
    "TCPI_OPT_SACK": 2,
    "TCPI_OPT_WSCALE": 4,
    "TCPI_OPT_ECN": 8,
    "TCPI_OPT_ECN_SEEN": 16,
    "TCPI_OPT_SYN_DATA": 32,
    "TCPI_OPT_USEC_TS": 64,
    "TCPI_OPT_TFO_CHILD": 128,
    # The names of the FreeBSD scripts, for the same numbers
    "TCPI_ESTABLISHED": 1,
    "TCPI_SYN_SENT": 2,
    "TCPI_SYN_RECEIVED": 3,
    "TCPI_FIN_WAIT_1": 4,
    "TCPI_FIN_WAIT_2": 5,
    "TCPI_TIME_WAIT": 6,
    "TCPI_CLOSED": 7,
    "TCPI_CLOSE_WAIT": 8,
    "TCPI_LAST_ACK": 9,
    "TCPI_LISTEN": 10,
    "TCPI_CLOSING": 11,
}
LINUX_STATES: Mapping[str, int] = {
    "CLOSED": 7,
    "LISTEN": 10,
    "SYN_SENT": 2,
    "SYN_RECEIVED": 3,
    "ESTABLISHED": 1,
    "FIN_WAIT_1": 4,
    "FIN_WAIT_2": 5,
    "CLOSE_WAIT": 8,
    "CLOSING": 11,
    "LAST_ACK": 9,
    "TIME_WAIT": 7,  # a socket that is still open shows CLOSE: the record lives on without it
}
_CA_STATES = {"open": 0, "disorder": 1, "cwr": 2, "fast": 3, "recovery": 3, "loss": 4, "rto": 4}
INFINITE_SSTHRESH = 0x7FFF_FFFF
_BBR_INFO = struct.Struct("<IIIII")  # struct tcp_bbr_info: bandwidth in two halves, ...
_BUILTINS = """abs all any bool dict divmod enumerate filter float format int isinstance len list
    map max min pow print range repr reversed round set sorted str sum tuple zip True False None
    AssertionError Exception ValueError KeyError IndexError NameError TypeError bin bytes chr
    frozenset hex iter next oct ord ZeroDivisionError""".split()
_MODULES = ("math", "itertools")  # none of them leads to another module


def tcp_info(info: TcpInfo) -> dict[str, int]:
    """Linux's names and units (packets for windows and flight) for a status of ustack."""
    mss = info.snd_mss or 1
    ssthresh = info.snd_ssthresh // mss  # Linux halves in whole segments
    return {
        "tcpi_state": LINUX_STATES[info.state.name],
        "tcpi_ca_state": _CA_STATES.get(info.ca_state, 0),
        "tcpi_retransmits": info.retransmits,
        "tcpi_probes": info.probes,
        "tcpi_backoff": info.backoff,
        "tcpi_options": (1 if info.timestamps else 0)
        | (2 if info.sack else 0)
        | (4 if info.snd_wscale or info.rcv_wscale else 0)
        | (8 if info.ecn else 0)
        | (16 if info.ecn_seen else 0)
        | (32 if info.syn_data else 0)
        | (128 if info.fast_open_child else 0),
        "tcpi_fastopen_client_fail": info.fastopen_client_fail,
        "tcpi_snd_wscale": info.snd_wscale,
        "tcpi_rcv_wscale": info.rcv_wscale,
        "tcpi_rto": info.rto,
        # Linux counts no digest, though no segment is without
        "tcpi_snd_mss": info.snd_mss + (SIGNATURE_SIZE if info.signed else 0),
        "tcpi_rcv_mss": info.rcv_mss,
        "tcpi_unacked": -(-info.unacked // mss),
        "tcpi_sacked": -(-info.sacked // mss),
        "tcpi_lost": -(-info.lost // mss),
        "tcpi_retrans": -(-info.retrans // mss),
        "tcpi_rtt": info.rtt,
        "tcpi_rttvar": info.rttvar,
        "tcpi_min_rtt": info.min_rtt,
        "tcpi_snd_ssthresh": min(ssthresh, INFINITE_SSTHRESH),
        "tcpi_snd_cwnd": info.snd_cwnd // mss,
        "tcpi_advmss": info.advmss,
        "tcpi_reordering": info.reordering,
        "tcpi_reord_seen": info.reord_seen,
        "tcpi_dsack_dups": -(-info.dsack_bytes // mss),
        "tcpi_bytes_retrans": info.bytes_retrans,
        "tcpi_total_retrans": info.total_retrans,
        "tcpi_bytes_acked": info.bytes_acked,
        "tcpi_bytes_received": info.bytes_received,
        "tcpi_segs_in": info.segs_in,
        "tcpi_segs_out": info.segs_out,
        "tcpi_notsent_bytes": info.notsent,
        "tcpi_ato": info.ato,
        "tcpi_fackets": 0,
        "tcpi_pmtu": info.pmtu,
        "tcpi_last_data_sent": info.last_data_sent // 1000,
        "tcpi_last_ack_sent": 0,
        "tcpi_last_data_recv": info.last_data_recv // 1000,
        "tcpi_last_ack_recv": info.last_ack_recv // 1000,
        "tcpi_busy_time": info.busy_time,
        "tcpi_rwnd_limited": info.rwnd_limited,
        "tcpi_sndbuf_limited": info.sndbuf_limited,
        "tcpi_bytes_sent": info.bytes_sent,
        "tcpi_data_segs_in": info.data_segs_in,
        "tcpi_data_segs_out": info.data_segs_out,
        "tcpi_pacing_rate": info.pacing_rate,
        "tcpi_max_pacing_rate": info.max_pacing_rate,
        "tcpi_delivery_rate": info.delivery_rate,
        "tcpi_delivery_rate_app_limited": int(info.app_limited),
        "tcpi_delivered": info.delivered,
        "tcpi_rcv_ooopack": info.rcv_ooopack,
        "tcpi_delivered_ce": info.delivered_ce,
        "tcpi_received_ce": info.received_ce,
        "tcpi_received_e1_bytes": info.received_octets[ECT1],
        "tcpi_received_e0_bytes": info.received_octets[ECT0],
        "tcpi_received_ce_bytes": info.received_octets[CE],
        "tcpi_delivered_e1_bytes": info.delivered_octets[ECT1],
        "tcpi_delivered_e0_bytes": info.delivered_octets[ECT0],
        "tcpi_delivered_ce_bytes": info.delivered_octets[CE],
        "tcpi_snd_wnd": info.snd_wnd,
        "tcpi_rcv_wnd": info.rcv_wnd,
        "tcpi_rcv_rtt": info.rcv_rtt,
        "tcpi_rcv_space": info.rcv_space,
        "tcpi_rcv_ssthresh": info.rcv_ssthresh,
    }


def memory_info(values: bytes) -> dict[str, int]:
    """What SO_MEMINFO says, by Linux's names."""
    names = "RMEM_ALLOC RCVBUF WMEM_ALLOC SNDBUF FWD_ALLOC WMEM_QUEUED OPTMEM BACKLOG DROPS"
    numbers = struct.unpack(f"<{len(values) // 4}I", values)
    return {f"SK_MEMINFO_{n}": v for n, v in zip(names.split(), numbers, strict=False)}


def bbr_info(values: bytes) -> dict[str, int]:
    """What TCP_CC_INFO says of BBR, by Linux's names; nothing of other congestion controls."""
    if len(values) != _BBR_INFO.size:
        return {}
    low, high, min_rtt, pacing_gain, cwnd_gain = _BBR_INFO.unpack(values)
    return {
        "bbr_bw": high << 32 | low,
        "bbr_min_rtt": min_rtt,
        "bbr_pacing_gain": pacing_gain,
        "bbr_cwnd_gain": cwnd_gain,
    }


class Snippets:
    """The snippets of a script, with the variables that each of them will see."""

    def __init__(self) -> None:
        self._parts: list[tuple[Position, str, Mapping[str, int]]] = []

    def add(self, position: Position, text: str, values: Mapping[str, int]) -> None:
        """`values`: the snapshot of the moment."""
        self._parts.append((position, text, dict(values)))

    def run(self) -> None:
        """Runs all of them in order. Raises ScriptFailure for the first that fails."""
        allowed = {name: getattr(builtins, name) for name in (*_BUILTINS, "__import__")}
        namespace: dict[str, object] = {"__builtins__": allowed, **CONSTANTS}
        for position, text, values in self._parts:
            namespace |= values
            namespace |= {"_file": position.file, "_line": position.line}
            code = compile(check(text, position), position.file, "exec")
            try:
                exec(code, namespace)
            except AssertionError as error:
                detail = f": {error}" if str(error) else ""
                raise ScriptFailure(position, f"assertion failed{detail} in: {text}") from None
            except Exception as error:  # noqa: BLE001 (whatever the snippet raises fails it)
                raise ScriptFailure(
                    position, f"{type(error).__name__}: {error} in: {text}"
                ) from None


def check(text: str, position: Position) -> ast.Module:
    """The tree of a snippet that asks for nothing but computing. Raises ScriptFailure."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ScriptFailure(position, f"the snippet is no Python: {error.msg}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and not _computes(node):
            raise ScriptFailure(position, f"snippets may import only {', '.join(_MODULES)}")
        hidden = (isinstance(node, ast.Attribute) and node.attr.startswith("_")) or (
            isinstance(node, ast.Name)
            and node.id.startswith("_")
            and node.id not in ("_file", "_line")
        )
        if hidden:
            raise ScriptFailure(position, "snippets may not use names that begin with '_'")
        if isinstance(node, ast.Attribute) and node.attr in ("format", "format_map"):
            raise ScriptFailure(position, "snippets may not use str.format; use an f-string")
    return tree


def _computes(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module in _MODULES and not node.level
    return all(alias.name in _MODULES for alias in node.names)
