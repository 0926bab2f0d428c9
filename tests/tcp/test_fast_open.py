"""Cookies of Fast Open: SipHash, and that they are what Linux makes of the same key."""

import ipaddress

import pytest

from ustack.tcp.fast_open import make_cookie, parse_keys, split_keys
from ustack.tcp.siphash import siphash24

KEY = "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


@pytest.mark.parametrize(
    "size,digest",
    [
        # test vectors of its authors, key and text 00 01 02 ...
        (0, "310e0edd47db6f72"),
        (1, "fd67dc93c539f874"),
        (8, "6224939a79f5f593"),
        (15, "e545be4961ca29a1"),  # the example of the paper, appendix A
    ],
)
def test_siphash_is_that_of_its_authors(size: int, digest: str) -> None:
    assert siphash24(bytes(range(16)), bytes(range(size))).to_bytes(8, "little").hex() == digest


@pytest.mark.parametrize(
    "client,server,cookie",
    [
        # what Linux gives these hosts with this key
        ("192.0.2.1", "192.168.0.1", "3021b9d889017eeb"),
        ("fd3d:fa7b:d17d::1", "fd3d:a0b:17d6::1", "c1d1e9742a47a9bc"),
    ],
)
def test_a_cookie_is_the_one_that_linux_makes(client: str, server: str, cookie: str) -> None:
    (key,) = split_keys(parse_keys(KEY))
    assert make_cookie(key, packed(client), packed(server)).hex() == cookie


def test_keys_are_written_as_in_tcp_fastopen_key() -> None:
    first, second = split_keys(parse_keys(f"{KEY},00000001-00000002-00000003-00000004"))
    assert first.hex() == "a1a1a1a1b2b2b2b2c3c3c3c3d4d4d4d4"
    assert second.hex() == "01000000020000000300000004000000"
    for wrong in ("", "1-2-3", "x-2-3-4", f"{KEY},{KEY},{KEY}"):
        with pytest.raises(ValueError, match=r"Fast Open key|invalid literal"):
            parse_keys(wrong)
