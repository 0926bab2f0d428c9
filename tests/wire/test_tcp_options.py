import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from ustack.wire.tcp_options import (
    AccEcn,
    Options,
    decode_options,
    encode_acc_ecn,
    encode_bsd_syn_options,
    encode_options,
    insert_acc_ecn,
)

EXAMPLES = settings(derandomize=True, max_examples=200, deadline=None)
WORDS = st.integers(0, 0xFFFF)
LONGS = st.integers(0, 0xFFFF_FFFF)
BLOCKS = st.lists(st.tuples(LONGS, LONGS), max_size=5).map(tuple)

LINUX_SYN = bytes.fromhex("020405b4 0402080a 00c0ffee 00000000 01030307")


def said(options: Options) -> dict[str, object]:
    """What was set, by name: absent options are left out."""
    values = {name: getattr(options, name) for name in Options.__slots__}
    absent = (None, (), False)  # compared by identity: a shift of 0 is not absent
    return {name: v for name, v in values.items() if not any(v is nothing for nothing in absent)}


def decode(data: bytes) -> dict[str, object]:
    return said(decode_options(data, 0, len(data)))


def test_no_options_say_nothing() -> None:
    options = decode_options(b"", 0, 0)
    assert (options.mss, options.wscale, options.tsval, options.tsecr) == (None,) * 4
    assert (options.fast_open, options.user_timeout) == (None, None)
    assert (options.sack_permitted, options.sack, options.malformed) == (False, (), False)


def test_the_options_of_a_linux_syn_decode_and_encode() -> None:
    assert decode(LINUX_SYN) == {
        "mss": 1460,
        "wscale": 7,
        "sack_permitted": True,
        "tsval": 0xC0FFEE,
        "tsecr": 0,
    }
    encoded = encode_options(mss=1460, wscale=7, sack_permitted=True, tsval=0xC0FFEE)
    assert encoded == LINUX_SYN


@pytest.mark.parametrize(
    "changed, at, expected",
    [
        (b"\x00\x00", 2, {"wscale": 7, "sack_permitted": True, "tsval": 0xC0FFEE, "tsecr": 0}),
        (b"\x01\x01", 4, {"mss": 1460, "wscale": 7, "tsval": 0xC0FFEE, "tsecr": 0}),
        (b"\x01\x01" + b"\x01" * 8, 6, {"mss": 1460, "sack_permitted": True, "wscale": 7}),
        (b"\x13", 17, {"mss": 1460, "sack_permitted": True, "tsval": 0xC0FFEE, "tsecr": 0}),
    ],
    ids=["no mss", "no sack", "no timestamps", "no digest"],
)
def test_what_is_nearly_the_syn_of_linux_is_read_option_by_option(
    changed: bytes, at: int, expected: dict[str, object]
) -> None:
    assert decode(LINUX_SYN[:at] + changed + LINUX_SYN[at + len(changed) :]) == expected


def test_a_shift_above_14_is_14_in_the_syn_of_linux_too() -> None:
    assert decode(LINUX_SYN[:-1] + b"\xff")["wscale"] == 14  # RFC 7323 §2.3


@pytest.mark.parametrize(
    "given_options, wire",
    [
        ({}, ""),
        ({"mss": 1460}, "020405b4"),
        ({"sack_permitted": True}, "01010402"),
        ({"wscale": 0}, "01030300"),
        ({"tsval": 1, "tsecr": 2}, "0101080a 00000001 00000002"),
        ({"sack": ((1, 2),)}, "0101050a 00000001 00000002"),
        ({"fast_open": b""}, "22020101"),
        ({"fast_open": bytes(8)}, "220a 0000000000000000 0101"),
        ({"fast_open": bytes(4)}, "2206 00000000 0101"),
        ({"fast_open": bytes(6)}, "2208 000000000000"),
    ],
)
def test_layouts_are_those_of_linux(given_options: dict[str, object], wire: str) -> None:
    encoded = encode_options(**given_options)  # type: ignore[arg-type]
    assert encoded == bytes.fromhex(wire)
    assert decode(encoded) == given_options


@EXAMPLES
@given(
    mss=st.none() | st.integers(1, 0xFFFF),
    wscale=st.none() | st.integers(0, 14),
    sack_permitted=st.booleans(),
    tsval=st.none() | LONGS,
    tsecr=LONGS,
    sack=BLOCKS,
    cookie=st.none() | st.integers(2, 8).map(lambda pairs: b"\xa5\x5a" * pairs) | st.just(b""),
)
def test_what_we_encode_we_and_scapy_decode(
    mss: int | None, wscale: int | None, sack_permitted: bool, tsval: int | None, tsecr: int,
    sack: tuple[tuple[int, int], ...], cookie: bytes | None,
) -> None:  # fmt: skip
    wire = encode_options(
        mss=mss, wscale=wscale, sack_permitted=sack_permitted, tsval=tsval, tsecr=tsecr,
        sack=sack, fast_open=cookie,
    )  # fmt: skip
    assert len(wire) <= 40
    assert len(wire) % 4 == 0
    options = decode_options(memoryview(b"123" + wire + b"\xff"), 3, 3 + len(wire))
    assert (options.mss, options.wscale, options.sack_permitted) == (mss, wscale, sack_permitted)
    assert (options.tsval, options.fast_open, options.malformed) == (tsval, cookie, False)
    assert options.tsecr == (None if tsval is None else tsecr)
    assert options.sack == sack[: len(options.sack)]

    segment = TCP(bytes(TCP(dataofs=5 + len(wire) // 4)) + wire)
    theirs: dict[str, object] = dict(segment.options)
    assert theirs.get("MSS") == mss
    assert theirs.get("WScale") == wscale
    assert ("SAckOK" in theirs) == sack_permitted
    assert theirs.get("Timestamp") == (None if tsval is None else (tsval, tsecr))
    assert theirs.get("SAck", ()) == tuple(edge for block in options.sack for edge in block)


@EXAMPLES
@given(
    st.integers(1, 65535),
    st.none() | st.integers(0, 14),
    st.booleans(),
    st.none() | WORDS,
    WORDS,
    st.none() | st.sampled_from((bytes(4), bytes(range(8)))),
)
def test_the_order_of_freebsd_says_the_same(
    mss: int,
    wscale: int | None,
    sack_permitted: bool,
    tsval: int | None,
    tsecr: int,
    cookie: bytes | None,
) -> None:
    wire = encode_bsd_syn_options(
        mss=mss,
        wscale=wscale,
        sack_permitted=sack_permitted,
        tsval=tsval,
        tsecr=tsecr,
        fast_open=cookie,
    )
    assert len(wire) % 4 == 0
    options = decode_options(memoryview(wire), 0, len(wire))
    assert (options.mss, options.wscale, options.sack_permitted) == (mss, wscale, sack_permitted)
    assert (options.tsval, options.fast_open, options.malformed) == (tsval, cookie, False)
    assert options.tsecr == (None if tsval is None else tsecr)
    theirs = [name for name, _ in TCP(bytes(TCP(dataofs=5 + len(wire) // 4)) + wire).options]
    order = [name for name in theirs if name not in ("NOP", "EOL")]
    known = ["MSS", "WScale", "SAckOK", "Timestamp", "TFO"]
    assert order == [name for name in known if name in order]


@EXAMPLES
@given(
    st.permutations(
        ["mss", "wscale", "sack_permitted", "timestamps", "sack", "user_timeout", "fast_open"]
    ),
    st.lists(st.integers(0, 2), min_size=7, max_size=7),
    WORDS.filter(bool),
    st.integers(0, 255),
    st.tuples(LONGS, LONGS),
    st.tuples(LONGS, LONGS),
)
def test_what_scapy_builds_we_decode_in_any_order_and_alignment(
    order: list[str], nops: list[int], mss: int, shift: int, stamps: tuple[int, int],
    block: tuple[int, int],
) -> None:  # fmt: skip
    choices: dict[str, tuple[str, object]] = {
        "mss": ("MSS", mss),
        "wscale": ("WScale", shift),
        "sack_permitted": ("SAckOK", b""),
        "timestamps": ("Timestamp", stamps),
        "sack": ("SAck", block),
        "user_timeout": ("UTO", 300),
        "fast_open": ("TFO", (1, 2)),
    }
    theirs: list[tuple[str, object]] = []
    size = 0
    expected: set[str] = set()
    for name, count in zip(order, nops, strict=True):
        length = {"mss": 4, "wscale": 3, "sack_permitted": 2, "user_timeout": 4}.get(name, 10)
        if size + count + length > 40:
            continue
        theirs += [("NOP", None)] * count + [choices[name]]
        size += count + length
        expected |= {"tsval", "tsecr"} if name == "timestamps" else {name}
    wire = bytes(TCP(options=theirs))
    options = decode_options(wire, 20, len(wire))
    everything = {
        "mss": mss,
        "wscale": min(shift, 14),
        "sack_permitted": True,
        "tsval": stamps[0],
        "tsecr": stamps[1],
        "sack": (block,),
        "user_timeout": 300,
        "fast_open": struct.pack("!II", 1, 2),
    }
    assert {name: getattr(options, name) for name in everything if name in expected} == {
        name: value for name, value in everything.items() if name in expected
    }
    assert set(said(options)) <= expected


@pytest.mark.parametrize("stamps, expected", [(False, 4), (True, 3)])
def test_sack_blocks_that_do_not_fit_are_left_out_from_the_end(stamps: bool, expected: int) -> None:
    blocks = tuple((n, n + 1) for n in range(10))
    wire = encode_options(tsval=1 if stamps else None, sack=blocks)
    assert decode(wire)["sack"] == blocks[:expected]


def test_no_sack_block_fits_behind_a_full_syn() -> None:
    wire = encode_options(
        mss=1, wscale=1, sack_permitted=True, tsval=1, fast_open=bytes(16), sack=((1, 2),)
    )
    assert len(wire) == 40
    assert "sack" not in decode(wire)


def test_the_aligned_timestamp_layout_and_any_other_say_the_same() -> None:
    stamps = bytes.fromhex("080a 00000001 00000002")
    expected = {"tsval": 1, "tsecr": 2}
    for wire in (
        b"\1\1" + stamps,
        stamps + b"\1\1",
        b"\1" + stamps + b"\0",
        stamps,
        b"\1" + stamps,
    ):
        assert decode(wire) == expected


def test_twelve_bytes_that_are_not_timestamps_are_parsed_as_they_are() -> None:
    assert decode(bytes.fromhex("0101050a 00000001 00000002")) == {"sack": ((1, 2),)}


def test_nothing_behind_the_end_of_the_list_counts() -> None:
    assert decode(bytes.fromhex("020405b4 00 030307")) == {"mss": 1460}


def test_unknown_kinds_are_stepped_over() -> None:
    assert decode(bytes.fromhex("4e04aabb fe04 1234 fd02 0204 05b4")) == {"mss": 1460}


@pytest.mark.parametrize(
    "rest", ["0800", "0801", "08", "13", "1300", "080a00000001", "0203ff", "02"]
)
def test_a_length_that_cannot_be_stepped_over_keeps_what_stood_before(rest: str) -> None:
    expected: dict[str, object] = {"mss": 1460}
    wire = bytes.fromhex("020405b4" + rest)
    if rest != "0203ff":  # a wrong length that can be stepped over: only this option is lost
        expected["malformed"] = True
    assert decode(wire) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        "0203ff", "020500ffff", "0302", "03040707", "0403ff", "0502", "050900000000000000",
        "0809" + "00" * 7, "080b" + "00" * 9, "1c03ff", "1c05ffffff",
        "220300", "2204ffff", "2207" + "00" * 5, "2214" + "00" * 18,
        "fe02", "fe03f9", "fe06f989ffff", "fe05f989ff",
    ],
)  # fmt: skip
def test_a_known_kind_of_wrong_length_is_ignored_alone(wrong: str) -> None:
    assert decode(bytes.fromhex(wrong + "030307")) == {"wscale": 7}


def test_an_mss_of_zero_is_ignored() -> None:
    assert decode(bytes.fromhex("02040000")) == {}
    assert decode(bytes.fromhex("020405b4 02040000")) == {"mss": 1460}


@pytest.mark.parametrize("shift, expected", [(0, 0), (14, 14), (15, 14), (255, 14)])
def test_a_window_scale_above_14_counts_as_14(shift: int, expected: int) -> None:
    assert decode_options(bytes((3, 3, shift)), 0, 3).wscale == expected


def test_fast_open_is_understood_under_both_kinds() -> None:
    cookie = bytes(range(8))
    assert decode(b"\x22\x0a" + cookie) == {"fast_open": cookie}
    assert decode(b"\xfe\x0c\xf9\x89" + cookie) == {
        "fast_open": cookie,
        "experimental_fast_open": True,
    }
    assert decode_options(b"\x22\x02", 0, 2).fast_open == b""
    assert decode_options(b"\xfe\x04\xf9\x89", 0, 4).fast_open == b""


def test_the_user_timeout_is_seconds_or_minutes() -> None:
    assert decode(bytes.fromhex("1c04 012c")) == {"user_timeout": 300}
    assert decode(bytes.fromhex("1c04 8005")) == {"user_timeout": 300}


@EXAMPLES
@given(st.binary(max_size=45), st.integers(0, 5))
def test_random_bytes_never_raise(data: bytes, start: int) -> None:
    start = min(start, len(data))
    options = decode_options(data, start, len(data))
    assert options.wscale is None or 0 <= options.wscale <= 14
    assert options.mss != 0


def test_acc_ecn_counters_as_the_rfc_draws_them() -> None:
    # RFC 9768 §3.2.3, Figure 4: kind 174, length 11, EE1B, ECEB, EE0B
    option = encode_acc_ecn((0x010203, 0x040506, 0x070809))
    assert option == bytes.fromhex("ae0b 010203 040506 070809")
    assert decode_options(option, 0, 11).acc_ecn == AccEcn(174, (0x010203, 0x040506, 0x070809))
    assert decode_options(bytes.fromhex("ac05 00000a"), 0, 5).acc_ecn == AccEcn(172, (10,))
    assert decode_options(bytes.fromhex("ac02"), 0, 2).acc_ecn == AccEcn(172, ())
    assert decode_options(bytes.fromhex("ae07 000001 0000"), 0, 7).acc_ecn == AccEcn(174, (1,))


@pytest.mark.parametrize(
    "blocks, timestamps, required, fields, left",
    [
        (0, False, 0, 3, 0),
        (0, True, 0, 3, 0),
        (1, True, 3, 3, 1),  # 12 + 12 + 12
        (2, True, 0, 2, 2),  # 12 + 8 + 20
        (2, True, 3, -1, 2),  # two blocks go before it
        (3, True, 0, 0, 3),  # 12 + 28: the empty option in place of the two NOPs
        (3, True, 2, 2, 2),  # one block makes room
        (4, False, 1, 1, 4),  # 4 + 36: five bytes and two NOPs make four and one
        (4, False, 2, 3, 3),
    ],
)
def test_acc_ecn_beside_sack_blocks(
    blocks: int, timestamps: bool, required: int, fields: int, left: int
) -> None:
    # RFC 9768 §3.2.3.3; the sizes are Linux's
    sack = tuple((1000 * n, 1000 * n + 1) for n in range(1, blocks + 1))
    plain = encode_options(tsval=1 if timestamps else None, tsecr=2, sack=sack)
    sent, options = insert_acc_ecn(plain, (1, 2, 3), required, 40)
    assert sent == fields
    assert len(options) <= 40
    assert len(options) % 4 == 0
    decoded = decode_options(options, 0, len(options))
    assert not decoded.malformed
    assert decoded.sack == sack[:left]
    assert decoded.tsval == (1 if timestamps else None)
    assert (decoded.acc_ecn is None) == (fields < 0)
    if decoded.acc_ecn is not None:
        assert decoded.acc_ecn.counters == (1, 2, 3)[:fields]


def test_a_digest_is_noticed() -> None:
    """Of MD5 with its 16 bytes only (RFC 2385 §3.0, Linux), of TCP-AO always (RFC 5925 §2.2)."""
    digest = bytes(range(16))
    known = {"mss": 1460, "signed": True}
    assert decode(b"\x13\x12" + digest + b"\2\4\5\xb4") == known | {"signature": digest}
    assert decode(b"\x13\x11" + digest[1:] + b"\2\4\5\xb4") == {"mss": 1460}
    assert decode(b"\x1d\x05abc\2\4\5\xb4") == known
    twice = 2 * (b"\x13\x12" + digest)
    assert decode(twice) == {"signed": True, "signature": b""}
    assert decode(b"\x13\x12" + digest + b"\x1d\x05abc") == {"signed": True, "signature": b""}
