"""SYN cookies as numbers: what they keep, for how long, and that they cannot be guessed."""

import random

import pytest

from ustack.tcp.syn_cookies import (
    MAX_AGE,
    MINUTE_US,
    MSS_IPV4,
    MSS_IPV6,
    check_cookie,
    make_cookie,
    mark_timestamp,
    read_timestamp,
)
from ustack.wire.tcp_options import Options

V4, V6 = bytes(12), bytes(36)  # flows
SECRET = b"0123456789abcdef"
IRS = 0xFFFF_FFFF  # the text begins beyond the wrap
START = 17 * MINUTE_US


def answer(flow: bytes, cookie: int, now: int, seq: int = 0, secret: bytes = SECRET) -> int | None:
    """The MSS that an ACK of `cookie` brings back."""
    found = check_cookie(flow, secret, seq, (cookie + 1) & 0xFFFF_FFFF, now)
    assert found is None or (found.irs, found.iss) == (IRS, cookie)
    return None if found is None else found.mss


@pytest.mark.parametrize(
    "flow,announced,kept",
    [
        (V4, 100, 536),
        (V4, 536, 536),
        (V4, 1299, 536),
        (V4, 1300, 1300),
        (V4, 1460, 1460),
        (V4, 8960, 1460),
        (V6, 1220, 1220),
        (V6, 1440, 1440),
        (V6, 9000, 8940),
    ],
)
def test_the_mss_comes_back_rounded_down(flow: bytes, announced: int, kept: int) -> None:
    cookie = make_cookie(flow, SECRET, IRS, announced, START)
    assert answer(flow, cookie, START) == kept
    assert kept in MSS_IPV4 + MSS_IPV6


def test_a_cookie_holds_for_one_to_two_minutes() -> None:
    cookie = make_cookie(V4, SECRET, IRS, 1460, START)
    assert MAX_AGE == 2
    assert answer(V4, cookie, START + 2 * MINUTE_US - 1) == 1460
    assert answer(V4, cookie, START + 2 * MINUTE_US) is None
    assert answer(V4, cookie, START - 1) is None  # of the future
    assert answer(V4, cookie, START + 256 * MINUTE_US) is None  # the counter has come round


def test_a_cookie_is_bound_to_its_flow_its_secret_and_the_peers_number() -> None:
    cookie = make_cookie(V4, SECRET, IRS, 1460, START)
    assert answer(V4[:-1] + b"\1", cookie, START) is None
    assert answer(V4, cookie, START, secret=b"another secret..") is None
    assert check_cookie(V4, SECRET, 1000, cookie + 1, START) is None


def test_numbers_at_random_are_no_cookies() -> None:
    # Of 2^32 numbers 4 MSS values times 2 minutes are valid
    guess = random.Random(1).getrandbits
    hits = sum(check_cookie(V4, SECRET, 0, guess(32), START) is not None for _ in range(20_000))
    assert hits == 0


@pytest.mark.parametrize("offset", [0, 1, 63, 0x8000_0001, 0xFFFF_FFFF])
@pytest.mark.parametrize("clock", [0, 5, 63, 64, 12_345_678, 0xFFFF_FFFF])
def test_a_timestamp_keeps_the_options_and_never_runs_ahead(clock: int, offset: int) -> None:
    for wscale in (None, 0, 7, 14):
        for sack in (False, True):
            for ecn in (False, True):
                offered = Options()
                offered.wscale, offered.sack_permitted = wscale, sack
                tsval = (clock + offset) & 0xFFFF_FFFF
                marked = mark_timestamp(tsval, offset, offered, ecn)
                assert (tsval - marked) & 0xFFFF_FFFF < 64
                found = Options()
                assert read_timestamp(marked, offset, found) == ecn
                assert (found.wscale, found.sack_permitted) == (wscale, sack)
