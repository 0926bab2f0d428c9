"""IP reassembly: RFC 791 §3.2, RFC 8200 §4.5, RFC 5722."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.stack.reassembly import FRAGMENT_CHARGE, Datagram, Reassembler

HEADER = b"header"


def add(
    reassembler: Reassembler, key: object, offset: int, more: bool, data: bytes
) -> tuple[Datagram | None, str, list[Datagram]]:
    return reassembler.add(key, offset, more, data, HEADER)


def whole_of(reassembler: Reassembler, pieces: list[tuple[int, bool, bytes]]) -> bytes | None:
    datagram: Datagram | None = None
    for offset, more, data in pieces:
        datagram, reason, _ = add(reassembler, "key", offset, more, data)
        assert reason == ""
    assert datagram is not None
    return reassembler.whole(datagram)


def test_pieces_in_order_make_a_whole() -> None:
    pieces = [(0, True, b"a" * 8), (8, True, b"b" * 16), (24, False, b"c" * 3)]
    assert whole_of(Reassembler(10_000), pieces) == b"a" * 8 + b"b" * 16 + b"c" * 3


def test_pieces_in_any_order_make_a_whole() -> None:
    pieces = [(24, False, b"c" * 3), (0, True, b"a" * 8), (8, True, b"b" * 16)]
    assert whole_of(Reassembler(10_000), pieces) == b"a" * 8 + b"b" * 16 + b"c" * 3


def test_a_missing_piece_leaves_it_incomplete() -> None:
    reassembler = Reassembler(10_000)
    assert whole_of(reassembler, [(0, True, b"a" * 8), (16, False, b"c")]) is None
    assert whole_of(Reassembler(10_000), [(8, False, b"c")]) is None
    assert whole_of(Reassembler(10_000), [(0, True, b"a" * 8)]) is None


def test_datagrams_are_kept_apart() -> None:
    reassembler = Reassembler(10_000)
    add(reassembler, "one", 0, True, b"a" * 8)
    add(reassembler, "two", 0, True, b"b" * 8)
    datagram, _, _ = add(reassembler, "one", 8, False, b"c")
    assert datagram is not None
    assert reassembler.whole(datagram) == b"a" * 8 + b"c"
    assert len(reassembler) == 2


def test_the_header_of_the_first_piece_is_kept() -> None:
    reassembler = Reassembler(10_000)
    reassembler.add("key", 8, False, b"c", b"second")
    datagram, _, _ = reassembler.add("key", 0, True, b"a" * 8, b"first")
    assert datagram is not None
    assert datagram.first == b"first"


def test_an_overlap_ends_the_datagram() -> None:
    # RFC 5722: all of it is dropped, so that no second copy can win
    for second in [(0, True, b"b" * 8), (8, True, b"b" * 16), (4 * 8, False, b"b")]:
        reassembler = Reassembler(10_000)
        add(reassembler, "key", 0, True, b"a" * 16)
        if second[0] == 32:
            add(reassembler, "key", 32, True, b"a" * 8)
        datagram, reason, dropped = add(reassembler, "key", *second)
        assert (datagram, reason) == (None, "fragment-overlap")
        assert len(dropped) == 1
        assert len(reassembler) == 0


def test_an_exact_repetition_is_ignored() -> None:
    reassembler = Reassembler(10_000)
    add(reassembler, "key", 0, True, b"a" * 8)
    assert add(reassembler, "key", 0, True, b"a" * 8) == (None, "fragment-duplicate", [])
    datagram, _, _ = add(reassembler, "key", 8, False, b"c")
    assert datagram is not None
    assert reassembler.whole(datagram) == b"a" * 8 + b"c"


def test_two_ends_or_text_beyond_the_end_are_an_overlap() -> None:
    for second in [(16, False, b"x"), (24, True, b"x" * 8), (8, False, b"x" * 4)]:
        reassembler = Reassembler(10_000)
        add(reassembler, "key", 16, False, b"end")
        assert add(reassembler, "key", *second)[1] == "fragment-overlap"


def test_an_end_before_what_is_there_is_an_overlap() -> None:
    reassembler = Reassembler(10_000)
    add(reassembler, "key", 16, True, b"x" * 8)
    assert add(reassembler, "key", 0, False, b"end")[1] == "fragment-overlap"


def test_lengths_that_make_no_sense_are_dropped() -> None:
    reassembler = Reassembler(100_000)
    assert add(reassembler, "key", 0, True, b"x" * 9)[1] == "fragment-length"  # not a multiple of 8
    assert add(reassembler, "key", 0, True, b"")[1] == "fragment-length"
    assert add(reassembler, "key", 65528, False, b"x" * 8)[1] == "fragment-length"  # 65536
    assert len(reassembler) == 0


def test_the_oldest_datagrams_go_when_memory_is_short() -> None:
    room = 3 * (1000 + FRAGMENT_CHARGE)
    reassembler = Reassembler(room)
    for key in "abc":
        assert add(reassembler, key, 0, True, b"x" * 1000)[2] == []
    _, _, dropped = add(reassembler, "d", 0, True, b"x" * 1000)
    assert [gone.key for gone in dropped] == ["a"]
    assert len(reassembler) == 3


def test_the_datagram_that_grows_is_not_the_one_to_go() -> None:
    reassembler = Reassembler(2 * (1000 + FRAGMENT_CHARGE))
    add(reassembler, "old", 0, True, b"x" * 1000)
    add(reassembler, "new", 0, True, b"x" * 1000)
    _, _, dropped = add(reassembler, "old", 1000, False, b"x" * 1000)
    assert [gone.key for gone in dropped] == ["new"]


def test_tiny_fragments_are_charged_for_their_bookkeeping() -> None:
    reassembler = Reassembler(100 * FRAGMENT_CHARGE)
    for key in range(1000):
        add(reassembler, key, 0, True, b"x" * 8)
    assert len(reassembler) <= 100


def test_a_dropped_datagram_gives_its_memory_back() -> None:
    reassembler = Reassembler(2 * (1000 + FRAGMENT_CHARGE))
    for key in range(50):
        datagram, _, dropped = add(reassembler, key, 0, True, b"x" * 1000)
        assert dropped == []
        assert datagram is not None
        assert reassembler.drop(datagram) is datagram
        reassembler.drop(datagram)  # twice is once
    assert len(reassembler) == 0


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=400), st.integers(1, 6), st.randoms(use_true_random=False))
def test_any_cutting_in_any_order_gives_the_whole_back(
    text: bytes, units: int, random: Random
) -> None:
    size = 8 * units
    pieces = [(at, at + size < len(text), text[at : at + size]) for at in range(0, len(text), size)]
    random.shuffle(pieces)
    assert whole_of(Reassembler(1 << 20), pieces) == text
