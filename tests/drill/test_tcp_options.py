"""Option bytes, compared with the RFCs' figures and with themselves."""

from hypothesis import given
from hypothesis import strategies as st

from ustack.drill.script import (
    AccEcn,
    EndOfOptions,
    FastOpen,
    Md5,
    Mss,
    Nop,
    RawOption,
    Sack,
    SackPermitted,
    TcpOption,
    Timestamp,
    WindowScale,
)
from ustack.drill.tcp_options import decode_options, encode_option, encode_options

U32 = st.integers(0, 0xFFFF_FFFF)
OPTIONS: st.SearchStrategy[TcpOption] = st.one_of(
    st.just(Nop()),
    st.just(EndOfOptions()),
    st.just(SackPermitted()),
    st.builds(Mss, st.integers(0, 0xFFFF)),
    st.builds(WindowScale, st.integers(0, 255)),
    st.builds(Sack, st.lists(st.tuples(U32, U32), min_size=1, max_size=4).map(tuple)),
    st.builds(Timestamp, U32, U32),
    st.builds(FastOpen, st.binary(max_size=16), st.booleans()),
    st.builds(Md5, st.binary(max_size=16)),
    st.builds(
        AccEcn,
        st.sampled_from((172, 174)),
        st.lists(st.integers(0, 0xFF_FFFF), max_size=3).map(tuple),
    ),
    st.builds(RawOption, st.just(30), st.binary(max_size=10)),
)


@given(st.lists(OPTIONS).map(tuple))
def test_options_decode_to_what_was_encoded(options: tuple[TcpOption, ...]) -> None:
    assert decode_options(encode_options(options)) == options


def test_the_bytes_are_those_of_the_rfcs() -> None:
    assert encode_option(Mss(1460)) == bytes.fromhex("020405b4")
    assert encode_option(WindowScale(7)) == bytes.fromhex("030307")
    assert encode_option(SackPermitted()) == bytes.fromhex("0402")
    assert encode_option(Sack(((1, 2),))) == bytes.fromhex("050a 00000001 00000002")
    assert encode_option(Timestamp(1, 2)) == bytes.fromhex("080a 00000001 00000002")
    assert encode_option(FastOpen(b"", experimental=True)) == bytes.fromhex("fe04f989")


def test_a_length_that_makes_no_sense_is_kept_as_bytes() -> None:
    assert decode_options(bytes.fromhex("0200")) == (RawOption(2, b"\0"),)
    assert decode_options(bytes.fromhex("02ff05b4")) == (RawOption(2, bytes.fromhex("ff05b4")),)
    assert decode_options(bytes.fromhex("020305")) == (RawOption(2, b"\5"),)
