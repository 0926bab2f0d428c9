"""struct tcp_md5sig of Linux."""

import errno
import os
from struct import pack

import pytest

from ustack.config import Md5Key
from ustack.stack.md5_option import check_family, with_key
from ustack.stack.socket_constants import AF_INET, AF_INET6

FOUR = bytes([192, 0, 2, 1])
SIX = bytes.fromhex("20010db8000000000000000000000001")
MAPPED = bytes(10) + b"\xff\xff" + FOUR


def md5sig(address: bytes, key: bytes, flags: int = 0, prefix: int = 0, family: int = 0) -> bytes:
    family = family or (AF_INET if len(address) == 4 else AF_INET6)
    sockaddr = pack("=H", family) + bytes(2 if len(address) == 4 else 6) + address
    return pack("=128sBBHi80s", sockaddr, flags, prefix, len(key), 0, key)


def test_a_key_is_added_replaced_and_taken_back() -> None:
    one = with_key((), md5sig(FOUR, b"one"), extended=False)
    assert one == (Md5Key("192.0.2.1/32", b"one"),)
    two = with_key(one, md5sig(SIX, b"six"), extended=False)
    assert two[1] == Md5Key("2001:db8::1/128", b"six")
    assert with_key(two, md5sig(MAPPED, b"new"), extended=False) == (
        Md5Key("2001:db8::1/128", b"six"),
        Md5Key("192.0.2.1/32", b"new"),
    )
    assert with_key(one, md5sig(FOUR, b""), extended=False) == ()
    assert with_key((Md5Key("192.0.2.1", b"k"),), md5sig(FOUR, b""), extended=False) == ()


def test_a_prefix_counts_in_the_extended_option_only() -> None:
    value = md5sig(FOUR, b"k", flags=1, prefix=24)
    assert with_key((), value, extended=True)[0].peers == "192.0.2.0/24"
    assert with_key((), value, extended=False)[0].peers == "192.0.2.1/32"
    assert with_key((), md5sig(FOUR, b"k", prefix=24), extended=True)[0].peers == "192.0.2.1/32"


@pytest.mark.parametrize(
    "value, extended, error",
    [
        (md5sig(FOUR, b"k")[:-1], False, errno.EINVAL),
        (md5sig(FOUR, b"k", family=7), False, errno.EINVAL),
        (md5sig(FOUR, b"k", flags=1, prefix=33), True, errno.EINVAL),
        (md5sig(MAPPED, b"k", flags=1, prefix=33), True, errno.EINVAL),
        (md5sig(FOUR, b"k", flags=2), True, errno.EINVAL),
        (md5sig(FOUR, bytes(81)), False, errno.EINVAL),
        (md5sig(FOUR, b""), False, errno.ENOENT),
    ],
)
def test_what_linux_refuses(value: bytes, extended: bool, error: int) -> None:
    with pytest.raises(OSError, match=os.strerror(error)):
        with_key((), value, extended=extended)


def test_the_family_is_that_of_the_socket() -> None:
    check_family(md5sig(MAPPED, b"k"), AF_INET6)
    with pytest.raises(OSError, match="Invalid argument"):
        check_family(md5sig(FOUR, b"k"), AF_INET6)
