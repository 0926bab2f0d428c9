"""TCP_MD5SIG and TCP_MD5SIG_EXT: struct tcp_md5sig (linux/tcp.h) to the keys of a configuration."""

import errno
from ipaddress import ip_network
from struct import Struct

from ustack.config import MAX_MD5_KEY, Md5Key
from ustack.errors import os_error
from ustack.stack import socket_constants as c

# sockaddr_storage, flags, prefix length, key length, interface, key
_MD5SIG = Struct("=128sBBHi80s")
_PREFIX, _INTERFACE = 1, 2  # TCP_MD5SIG_FLAG_PREFIX, TCP_MD5SIG_FLAG_IFINDEX
_MAPPED = bytes(10) + b"\xff\xff"
MAX_KEYS = 1024  # of one socket; Linux bounds their memory (optmem_max)


def with_key(keys: tuple[Md5Key, ...], value: bytes, *, extended: bool) -> tuple[Md5Key, ...]:
    """`keys` with the one of `value` added or replaced, or, where it is empty, taken out.

    `extended`: TCP_MD5SIG_EXT, where the flags count. EINVAL, ENOENT, ENOMEM.
    """
    if len(value) < _MD5SIG.size:
        raise os_error(errno.EINVAL)
    sockaddr, flags, prefix, size, _, key = _MD5SIG.unpack_from(value)
    family = int.from_bytes(sockaddr[:2], "little")
    if family == c.AF_INET:
        address = sockaddr[4:8]
    elif family == c.AF_INET6:
        address = sockaddr[8:24]
        if address.startswith(_MAPPED):
            address = address[12:]
    else:
        raise os_error(errno.EINVAL)
    longest = 8 * len(address)
    length = prefix if extended and flags & _PREFIX else longest
    if length > longest or size > MAX_MD5_KEY or (extended and flags & _INTERFACE):
        raise os_error(errno.EINVAL)  # interfaces of an L3 domain: there are none
    peers = ip_network((address, length), strict=False)
    others = tuple(each for each in keys if ip_network(each.peers, strict=False) != peers)
    if size:
        if len(others) >= MAX_KEYS:
            raise os_error(errno.ENOMEM)
        return (*others, Md5Key(str(peers), key[:size]))
    if len(others) == len(keys):
        raise os_error(errno.ENOENT)
    return others


def check_family(value: int | bytes, family: int) -> None:
    """EINVAL unless the address in `value` is of the socket's `family`."""
    if not isinstance(value, bytes) or int.from_bytes(value[:2], "little") != family:
        raise os_error(errno.EINVAL)
