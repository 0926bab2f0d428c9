"""ICMP: echo, errors that we send, and errors that reach connections, judged by RFC 5927."""

import errno
from collections.abc import Mapping

from ustack.errors import (
    ConnectionRefused,
    HostUnreachable,
    IcmpError,
    NetworkUnreachable,
)
from ustack.stack.flows import FlowTable, flow_key, split_key
from ustack.stack.icmp_meaning import meaning, next_hop_mtu
from ustack.stack.ip import PathMtus
from ustack.stack.syn_request import SynRequest
from ustack.tcp.handshake import resize_segments
from ustack.tcp.seq import unwrap
from ustack.tcp.state import SYN_RECEIVED, SYN_SENT
from ustack.tcp.tcb import Tcb, finish, report
from ustack.wire import icmp
from ustack.wire.icmp import IcmpMessage
from ustack.wire.ipv4 import TCP

QUOTE_LIMIT_V4 = 548  # bytes of the offending packet; RFC 1812 §4.3.2.3: a 576 byte message
QUOTE_LIMIT_V6 = 1232  # RFC 4443 §2.4 (c): the message fits in 1280 bytes

_HARD = {errno.ECONNREFUSED, errno.ENOPROTOOPT}  # no such port or protocol: RFC 1122 §4.2.3.9
_Told = ConnectionRefused | HostUnreachable | NetworkUnreachable | IcmpError
_ERRORS: Mapping[int, type[ConnectionRefused | HostUnreachable | NetworkUnreachable]] = {
    errno.ECONNREFUSED: ConnectionRefused,
    errno.EHOSTUNREACH: HostUnreachable,
    errno.ENETUNREACH: NetworkUnreachable,
}


def error_arrives(
    message: IcmpMessage,
    version: int,
    quote: icmp.Quoted,
    flows: FlowTable,
    path_mtus: PathMtus,
    now: int,
) -> tuple[str, list[Tcb]]:
    """Judge an ICMP error. Returns a counter's name and the connections it changed.

    It must quote a segment of ours that is in flight (RFC 5927 §4.1). Hard errors end a connection
    attempt; on a synchronized connection every error is soft (RFC 5927 §5.2), MUST-56.
    """
    if quote.protocol != TCP or quote.seq is None:
        return "icmp-not-for-tcp", []
    found = flows.table.get(flow_key(quote.dst, quote.src, quote.dst_port, quote.src_port))
    if type(found) is SynRequest:
        return "icmp-half-open", []  # its timer decides (RFC 5927 §5.2); nobody is there to tell
    if type(found) is not Tcb:
        return "icmp-no-connection", []
    tcb = found
    snd = tcb.snd
    seq = unwrap(quote.seq, snd.una)
    if _is_too_big(message, version) and snd.una <= seq <= snd.max:
        # Linux: a pure ACK too may be what did not fit; its SEQ is SND.NXT
        return _packet_too_big(tcb, message, version, flows, path_mtus, now)
    if not snd.una <= seq < snd.max:
        return "icmp-not-in-flight", []
    error = _error(message, version)
    if error is None:
        return "icmp-ignored", []
    final = error.errno in _HARD or tcb.config.soft_errors_end_opening
    if tcb.state is SYN_SENT and final:
        finish(tcb, error)
        return "icmp-refused", [tcb]
    if tcb.state is SYN_RECEIVED and tcb.passive and tcb.listener is not None:
        finish(tcb, error)  # Linux: a Fast Open that nobody has accepted is told by accept()
        return "icmp-refused", [tcb]
    report(tcb, error)
    return "icmp-soft-error", [tcb]


def _error(
    message: IcmpMessage, version: int
) -> ConnectionRefused | HostUnreachable | NetworkUnreachable | IcmpError | None:
    """What the user is told, None: nothing (Source Quench, MUST-55, and unknown ones)."""
    told = meaning(message, version)
    if told is None:
        return None
    kind = _ERRORS.get(told.errno)
    return kind("ICMP") if kind is not None else IcmpError(told.errno)


def _is_too_big(message: IcmpMessage, version: int) -> bool:
    if version == 6:
        return message.type == icmp.V6_PACKET_TOO_BIG
    return message.type == icmp.V4_UNREACHABLE and message.code == icmp.V4_FRAGMENTATION_NEEDED


def _packet_too_big(
    tcb: Tcb, message: IcmpMessage, version: int, flows: FlowTable, path_mtus: PathMtus, now: int
) -> tuple[str, list[Tcb]]:
    """Lower the path MTU (RFC 1191, RFC 8201) and send again, in pieces, what did not fit.

    Losing a packet for its size says nothing of congestion, so cwnd stays (RFC 1191 §6.4). The
    other connections to this host learn it too (RFC 1191 §6.2).
    """
    if version == 4 and not tcb.config.path_mtu_discovery:  # IPv6 routers do not fragment
        return "icmp-ignored", []
    mtu = next_hop_mtu(message, version, tcb.path_mtu_payload + tcb.fixed_headers)
    if mtu is None:
        return "icmp-bad-mtu", []
    remote = split_key(tcb.flow)[0]
    path_mtus.lower(remote, mtu, now)
    payload = mtu - tcb.fixed_headers
    concerned = [
        other
        for other in flows.table.values()
        if type(other) is Tcb
        and other.path_mtu_payload > payload
        and len(other.flow) == len(tcb.flow)
        and other.flow.startswith(remote)
    ]
    for other in concerned:
        other.path_mtu_payload = payload
        resize_segments(other)
        other.recovery.resend_large(other.scoreboard, other.snd.mss, other.snd.nxt)
    return "icmp-path-mtu", concerned


def error_message(src: bytes, dst: bytes, kind: int, code: int, rest: int, packet: bytes) -> bytes:
    """An ICMP error from `src` to `dst` that quotes `packet`, complete with its checksum."""
    if len(src) == 4:
        return icmp.encode_v4(kind, code, rest, packet[:QUOTE_LIMIT_V4])
    return icmp.encode_v6(src, dst, kind, code, rest, packet[:QUOTE_LIMIT_V6])
