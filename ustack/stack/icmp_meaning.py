"""What an ICMP error means to a socket: errno and how serious it is, as Linux has it.

ip(7), icmp(7); RFC 1122 §3.2.2.1 and §4.1.3.3.
"""

import errno
from typing import NamedTuple

from ustack.stack.ip import MIN_MTU_IPV4, MIN_MTU_IPV6
from ustack.stack.socket_constants import SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
from ustack.wire import icmp
from ustack.wire.icmp import IcmpMessage

# RFC 1191 §7.1: what a router from before next-hop MTUs most likely meant
PLATEAUS = (32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68)


class Meaning(NamedTuple):
    """An ICMP error. `hard`: a connected socket is told of it even without IP_RECVERR."""

    errno: int
    hard: bool
    origin: int
    type: int
    code: int
    info: int = 0  # the next-hop MTU


# By code of Destination Unreachable; Linux icmp_err_convert
_UNREACHABLE_V4: tuple[tuple[int, bool], ...] = (
    (errno.ENETUNREACH, False),
    (errno.EHOSTUNREACH, False),
    (errno.ENOPROTOOPT, True),
    (errno.ECONNREFUSED, True),
    (errno.EMSGSIZE, True),
    (errno.EOPNOTSUPP, False),
    (errno.ENETUNREACH, True),
    (errno.EHOSTDOWN, True),
    (errno.ENONET, True),
    (errno.ENETUNREACH, True),
    (errno.EHOSTUNREACH, True),
    (errno.ENETUNREACH, False),
    (errno.EHOSTUNREACH, False),
    (errno.EHOSTUNREACH, True),
    (errno.EHOSTUNREACH, True),
    (errno.EHOSTUNREACH, True),
)
# Linux tab_unreach of ICMPv6
_UNREACHABLE_V6: tuple[tuple[int, bool], ...] = (
    (errno.ENETUNREACH, False),
    (errno.EACCES, True),
    (errno.EHOSTUNREACH, False),
    (errno.EHOSTUNREACH, False),
    (errno.ECONNREFUSED, True),
    (errno.EACCES, True),
    (errno.EACCES, True),
)
_OTHERS_V4 = {
    icmp.V4_TIME_EXCEEDED: (errno.EHOSTUNREACH, False),
    icmp.V4_PARAMETER_PROBLEM: (errno.EPROTO, True),
}
_OTHERS_V6 = {
    icmp.V6_PACKET_TOO_BIG: (errno.EMSGSIZE, True),
    icmp.V6_TIME_EXCEEDED: (errno.EHOSTUNREACH, False),
    icmp.V6_PARAMETER_PROBLEM: (errno.EPROTO, True),
}


def meaning(message: IcmpMessage, version: int) -> Meaning | None:
    """What `message` of that IP version says, None: nothing (redirects, quench, unknown codes)."""
    kind, code = message.type, message.code
    if version == 4:
        table, others, origin, unreachable = (
            _UNREACHABLE_V4,
            _OTHERS_V4,
            SO_EE_ORIGIN_ICMP,
            icmp.V4_UNREACHABLE,
        )
    else:
        table, others, origin, unreachable = (
            _UNREACHABLE_V6,
            _OTHERS_V6,
            SO_EE_ORIGIN_ICMP6,
            icmp.V6_UNREACHABLE,
        )
    if kind == unreachable:
        if code >= len(table):
            return None
        number, hard = table[code]
    elif kind in others:
        number, hard = others[kind]
    else:
        return None
    info = message.rest & (0xFFFF if version == 4 else 0xFFFF_FFFF)
    too_big = number == errno.EMSGSIZE
    return Meaning(number, hard, origin, kind, code, info if too_big else 0)


def next_hop_mtu(message: IcmpMessage, version: int, current: int) -> int | None:
    """The path MTU that a packet-too-big says, None: not below `current`, or less than IP allows.

    RFC 1191 §3 and §7.1, RFC 8201 §4.
    """
    mtu = message.rest
    if version == 4:
        mtu &= 0xFFFF
        if not mtu:
            mtu = next((size for size in PLATEAUS if size < current), MIN_MTU_IPV4)
    return mtu if (MIN_MTU_IPV4 if version == 4 else MIN_MTU_IPV6) <= mtu < current else None
