import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, in4_chksum
from scapy.layers.inet6 import IPv6, in6_chksum
from scapy.utils import checksum as scapy_checksum

from ustack.wire.checksum import PIECE, checksum, fold, ones_sum, pseudo_sum, update

EXAMPLES = settings(derandomize=True, max_examples=200, deadline=None)
WORDS = st.integers(0, 0xFFFF)


def sum_by_the_book(data: bytes) -> int:
    """RFC 1071 §4.1, word by word with end-around carry."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071_section_3_sums_to_ddf2() -> None:
    data = bytes.fromhex("0001 f203 f4f5 f6f7")
    assert ones_sum(data) == 0xDDF2
    assert checksum(data) == 0x220D


@pytest.mark.parametrize("size", [0, 1, 2, 7, PIECE])
def test_only_zero_words_sum_to_zero(size: int) -> None:
    assert ones_sum(bytes(size)) == 0
    assert checksum(bytes(size)) == 0xFFFF


@pytest.mark.parametrize(
    "data", [b"\xff\xff", b"\xff\xff" * 3000, b"\x12\x34\xed\xcb", b"\xff\0\0\xff"]
)
def test_a_multiple_of_65535_that_is_not_zero_sums_to_ffff(data: bytes) -> None:
    assert ones_sum(data) == 0xFFFF
    assert checksum(data) == 0


def test_fold_tells_zero_from_its_other_name() -> None:
    assert [fold(n) for n in (0, 1, 0xFFFE, 0xFFFF, 0x10000, 0x1FFFE)] == [
        0, 1, 0xFFFE, 0xFFFF, 1, 0xFFFF,
    ]  # fmt: skip


@EXAMPLES
@given(st.binary(max_size=300))
@example(b"\x80")
def test_the_sum_is_that_of_the_word_loop(data: bytes) -> None:
    assert ones_sum(data) == sum_by_the_book(data)
    assert ones_sum(memoryview(data)) == ones_sum(bytearray(data)) == ones_sum(data)
    assert checksum(data) == scapy_checksum(data)


@pytest.mark.parametrize("pieces", [1, 2, 3])
@pytest.mark.parametrize("more", [-2, -1, 0, 1, 2])
def test_the_sum_is_right_on_both_sides_of_a_piece_boundary(pieces: int, more: int) -> None:
    data = bytes(n * n % 251 for n in range(pieces * PIECE + more))
    assert ones_sum(data) == ones_sum(memoryview(data)) == sum_by_the_book(data)


def test_the_sum_of_the_longest_packet_is_right() -> None:
    data = bytes(n * 7 % 256 for n in range(65535))
    assert ones_sum(data) == sum_by_the_book(data)


@EXAMPLES
@given(st.lists(st.binary(max_size=9), max_size=8))
@example([b"\x01", b"", b"\x02", b"\x03\x04\x05", b"\x06"])
def test_parts_of_any_length_are_summed_as_their_concatenation(parts: list[bytes]) -> None:
    assert checksum(*parts) == checksum(b"".join(parts))


@EXAMPLES
@given(st.binary(min_size=4, max_size=4), st.binary(min_size=4, max_size=4), st.binary(max_size=64))
def test_the_ipv4_pseudo_header_sums_as_in_scapy(src: bytes, dst: bytes, segment: bytes) -> None:
    expected = in4_chksum(6, IP(src=".".join(map(str, src)), dst=".".join(map(str, dst))), segment)
    ours = fold(pseudo_sum(src, dst, 6, len(segment)) + ones_sum(segment))
    assert ~ours & 0xFFFF == expected


@EXAMPLES
@given(
    st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.binary(max_size=64)
)
def test_the_ipv6_pseudo_header_sums_as_in_scapy(src: bytes, dst: bytes, segment: bytes) -> None:
    ip = IPv6(src=IPv6(bytes(8) + src + bytes(16)).src, dst=IPv6(bytes(8) + dst + bytes(16)).src)
    ours = fold(pseudo_sum(src, dst, 58, len(segment)) + ones_sum(segment))
    assert ~ours & 0xFFFF == in6_chksum(58, ip, segment)


def test_the_example_of_rfc_1624_section_4_updates_to_zero_and_not_to_ffff() -> None:
    assert update(0xDD2F, 0x5555, 0x3285) == 0x0000


@EXAMPLES
@given(WORDS, WORDS, WORDS)
def test_an_update_gives_what_summing_again_would(other: int, old: int, new: int) -> None:
    def over(word: int) -> int:
        return checksum(b"\x45\x00", other.to_bytes(2, "big"), word.to_bytes(2, "big"))

    assert update(over(old), old, new) == over(new)
