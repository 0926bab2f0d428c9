"""The send buffer against a bytearray that holds the same bytes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.tcp.send_buffer import MAX_VIEWS, SMALL_WRITE, SendBuffer
from ustack.wire import Buffer

START = 0xFFFF_FF01  # just below the wrap of the wire's numbers
LIMIT = 20_000


def joined(pieces: list[Buffer]) -> bytes:
    return b"".join(bytes(piece) for piece in pieces)


def test_the_limit_bounds_what_is_taken() -> None:
    buffer = SendBuffer(START, 10)
    assert buffer.append(b"12345678") == 8
    assert buffer.append(b"abcdef") == 2
    assert buffer.append(b"x") == 0
    assert len(buffer) == 10
    assert joined(buffer.views(START, START + 10)) == b"12345678ab"


def test_acknowledged_bytes_make_room() -> None:
    buffer = SendBuffer(START, 10)
    buffer.append(b"0123456789")
    buffer.release(START + 4)
    assert buffer.append(b"abcdef") == 4
    assert joined(buffer.views(START + 4, START + 14)) == b"456789abcd"


def test_large_bytes_are_kept_without_a_copy() -> None:
    data = bytes(SMALL_WRITE)
    buffer = SendBuffer(START, LIMIT)
    buffer.append(data)
    (piece,) = buffer.views(START, START + len(data))
    assert piece is data


def test_mutable_data_is_copied() -> None:
    for size in (10, SMALL_WRITE):
        data = bytearray(b"a" * size)
        buffer = SendBuffer(START, LIMIT)
        buffer.append(data)
        data[:] = b"b" * size
        assert joined(buffer.views(START, START + size)) == b"a" * size


def test_a_view_of_mutable_data_is_copied_too() -> None:
    data = bytearray(b"a" * SMALL_WRITE)
    buffer = SendBuffer(START, LIMIT)
    buffer.append(memoryview(data))
    data[:] = b"b" * SMALL_WRITE
    assert joined(buffer.views(START, START + SMALL_WRITE)) == b"a" * SMALL_WRITE


def test_pieces_stay_valid_after_they_are_released() -> None:
    buffer = SendBuffer(START, LIMIT)
    buffer.append(b"small")
    pieces = buffer.views(START, START + 5)
    buffer.release(START + 5)
    buffer.append(b"other")
    assert joined(pieces) == b"small"


def test_many_small_pieces_are_joined_into_one() -> None:
    buffer = SendBuffer(START, LIMIT)
    end = START
    for _ in range(MAX_VIEWS + 1):
        end += buffer.append(b"ab")
        buffer.views(START, end)  # seals what was gathered
    assert buffer.views(START, end) == [b"ab" * (MAX_VIEWS + 1)]


def test_a_push_is_due_where_a_write_ended() -> None:
    buffer = SendBuffer(START, LIMIT)
    buffer.append(b"x" * 100)
    buffer.append(b"y" * 50)
    buffer.append(b"z" * 25)
    assert [end - START for end in range(START + 1, START + 176) if buffer.push_at(end)] == [
        100,
        150,
        175,
    ]


def test_the_end_of_the_queue_is_always_pushed() -> None:
    buffer = SendBuffer(START, LIMIT)
    for _ in range(200):  # more writes than marks
        buffer.append(b"ab")
    assert buffer.push_at(START + 2)
    assert buffer.push_at(START + 400)


def test_a_late_release_goes_no_further_than_the_end() -> None:
    buffer = SendBuffer(START, LIMIT)
    buffer.append(b"abc")
    buffer.release(START + 4)  # an ACK of the FIN
    assert (len(buffer), buffer.start, buffer.end) == (0, START + 3, START + 3)
    buffer.release(START + 1)  # an old ACK
    assert buffer.start == START + 3


WRITES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"m" * (SMALL_WRITE - 1), b"l" * SMALL_WRITE, b"k" * 9000]),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), WRITES, st.sampled_from([bytes, bytearray, memoryview])),
        st.tuples(st.just("release"), st.integers(0, 10_000), st.none()),
        st.tuples(st.just("views"), st.integers(0, 20_000), st.integers(0, 20_000)),
    ),
    max_size=60,
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(STEPS)
def test_the_buffer_agrees_with_a_plain_bytearray(steps: list[tuple[object, ...]]) -> None:
    buffer = SendBuffer(START, LIMIT)
    model = bytearray()
    base = START
    for kind, first, second in steps:
        if kind == "append":
            assert isinstance(first, bytes)
            expected = min(len(first), LIMIT - len(model))
            assert buffer.append(second(first)) == expected  # type: ignore[operator]
            model += first[:expected]
        elif kind == "release":
            assert isinstance(first, int)
            size = min(first, len(model))
            buffer.release(base + size)
            del model[:size]
            base += size
        else:
            assert isinstance(first, int) and isinstance(second, int)
            low, high = sorted((min(first, len(model)), min(second, len(model))))
            if low < high:
                assert joined(buffer.views(base + low, base + high)) == model[low:high]
        assert len(buffer) == len(model)
        assert buffer.start == base
    if model:
        assert joined(buffer.views(base, base + len(model))) == model


def sent_in_writes(*sizes: int) -> SendBuffer:
    """A buffer from position 0 whose writes were sent one by one."""
    buffer = SendBuffer(0, 100_000)
    for size in sizes:
        buffer.append(bytes(size))
        assert buffer.push_at(buffer.end)
    return buffer


def test_what_is_sent_again_ends_with_its_write() -> None:
    buffer = sent_in_writes(1000, 1000, 300, 300, 5000)
    assert buffer.resend_end(0, 7600, 1460) == 1000
    assert buffer.resend_end(1000, 7600, 1460) == 2300
    assert buffer.resend_end(2300, 7600, 1460) == 2600
    assert buffer.resend_end(2600, 7600, 1460) == 7600
    assert buffer.resend_end(1000, 1500, 1460) == 1500
    assert buffer.pushed_at(2300)
    assert not buffer.pushed_at(2400)


def test_ends_of_writes_are_forgotten_when_acknowledged() -> None:
    buffer = sent_in_writes(1000, 1000, 1000)
    buffer.release(1500)
    assert not buffer.pushed_at(1000)
    assert buffer.pushed_at(2000)
    buffer.release(3000)
    assert not buffer.pushed_at(2000)


def test_pushes_inside_a_write() -> None:
    buffer = SendBuffer(0, 1000)
    buffer.append(bytes(30))
    buffer.push_inside([10, 20])
    assert [at for at in range(1, 31) if buffer.push_at(at)] == [10, 20, 30]
