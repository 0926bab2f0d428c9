"""Addresses as sockets are given them, and which of them exclude each other (bind(2), ip(7))."""

import errno
from ipaddress import IPv6Address, ip_address

from ustack.errors import os_error
from ustack.tcp.tcb import Endpoint

ANY = Endpoint("", 0)
UNSPECIFIED = ("", "0.0.0.0", "::")


def unmapped(address: str) -> str:
    """An IPv4 address written as IPv6 (RFC 4291 §2.5.5.2) as IPv4; others and "" as they are."""
    if not address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        raise os_error(errno.EINVAL) from None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def overlap(one: Endpoint, other: Endpoint) -> bool:
    """Something could be meant for both."""
    return one.port == other.port and (
        one.address == other.address or one.address in UNSPECIFIED or other.address in UNSPECIFIED
    )
