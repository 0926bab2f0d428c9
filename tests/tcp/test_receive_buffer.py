"""Reassembly against a model that knows one thing: the first copy of each octet wins."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.tcp.receive_buffer import BLOCK_CHARGE, COPY_BELOW, ReceiveBuffer
from ustack.wire import Buffer

NXT = 0x1_0000_0000  # RCV.NXT; blocks of old data lie before the wrap
LIMIT = 100_000


def read_all(buffer: ReceiveBuffer, step: int = 1 << 30) -> bytes:
    out = b""
    while chunk := buffer.read(step):
        assert len(chunk) <= step
        out += chunk
    return out


def blocks(buffer: ReceiveBuffer) -> list[tuple[int, int]]:
    return [(a - NXT, b - NXT) for a, b in buffer.sack_blocks()]


def put(buffer: ReceiveBuffer, start: int, payload: bytes) -> bool:
    return buffer.insert(NXT + start, payload)


def test_text_in_order_is_read_as_it_came() -> None:
    buffer = ReceiveBuffer(LIMIT)
    for text in (b"one", b"two" * 1000, b"three"):
        buffer.append(text)
    assert buffer.readable == 3008
    assert buffer.read(2) == b"on"
    assert read_all(buffer, 700) == b"e" + b"two" * 1000 + b"three"
    assert buffer.readable == 0


def test_nothing_is_read_from_an_empty_buffer_or_with_no_limit() -> None:
    buffer = ReceiveBuffer(LIMIT)
    assert buffer.read(10) == b""
    buffer.append(b"x")
    assert buffer.read(0) == b""
    assert buffer.readable == 1


def test_small_segments_do_not_keep_their_frames_alive() -> None:
    frame = bytearray(b"header" + b"text")
    buffer = ReceiveBuffer(LIMIT)
    buffer.append(memoryview(frame)[6:])
    frame[:] = b"x" * len(frame)
    assert buffer.read(10) == b"text"


def test_a_peek_takes_nothing() -> None:
    buffer = ReceiveBuffer(LIMIT)
    assert buffer.peek(5) == b""
    buffer.append(b"a" * 2000)
    buffer.append(b"b" * 2000)
    assert buffer.peek(2001) == b"a" * 2000 + b"b"
    assert buffer.peek(9000) == b"a" * 2000 + b"b" * 2000
    assert buffer.readable == 4000


def test_a_block_behind_a_gap_waits_until_the_gap_is_filled() -> None:
    buffer = ReceiveBuffer(LIMIT)
    put(buffer, 10, b"later")
    assert (buffer.readable, buffer.out_of_order) == (0, 1)
    assert buffer.collect(NXT) == NXT
    put(buffer, 0, b"0123456789")
    assert buffer.collect(NXT) == NXT + 15
    assert read_all(buffer) == b"0123456789later"
    assert (buffer.out_of_order, buffer.held) == (0, 0)


def test_the_first_copy_of_an_octet_wins() -> None:
    buffer = ReceiveBuffer(LIMIT)
    put(buffer, 10, b"A" * 10)
    put(buffer, 0, b"B" * 30)
    assert buffer.collect(NXT) == NXT + 30
    assert read_all(buffer) == b"B" * 10 + b"A" * 10 + b"B" * 10


def test_one_segment_can_fill_several_gaps() -> None:
    buffer = ReceiveBuffer(LIMIT)
    for start in (5, 15, 25):
        put(buffer, start, b"x" * 5)
    put(buffer, 7, b"y" * 30)
    assert blocks(buffer) == [(7, 10), (5, 37)]  # the octets received twice, and all
    put(buffer, 0, b"z" * 5)
    buffer.collect(NXT)
    assert read_all(buffer) == (
        b"z" * 5 + b"x" * 5 + b"y" * 5 + b"x" * 5 + b"y" * 5 + b"x" * 5 + b"y" * 7
    )


def test_a_block_that_has_become_old_is_cut_or_dropped() -> None:
    buffer = ReceiveBuffer(LIMIT)
    put(buffer, 2, b"ab")
    put(buffer, 6, b"cdefgh")
    put(buffer, 20, b"far")
    assert buffer.collect(NXT + 8) == NXT + 12  # the text before came another way
    assert read_all(buffer) == b"efgh"
    assert blocks(buffer) == [(20, 23)]


def test_a_cut_inside_a_block_of_several_chunks_is_right() -> None:
    buffer = ReceiveBuffer(LIMIT)
    put(buffer, 0, b"a" * COPY_BELOW)
    put(buffer, COPY_BELOW, b"b" * COPY_BELOW)
    assert buffer.collect(NXT + COPY_BELOW + 4) == NXT + 2 * COPY_BELOW
    assert read_all(buffer) == b"b" * (COPY_BELOW - 4)


def test_the_block_changed_last_is_reported_first() -> None:
    # RFC 2018 §4: the block with the segment that triggered this ACK, then the most recent ones
    buffer = ReceiveBuffer(LIMIT)
    put(buffer, 100, b"x" * 10)
    put(buffer, 300, b"x" * 10)
    put(buffer, 200, b"x" * 10)
    assert blocks(buffer) == [(200, 210), (300, 310), (100, 110)]
    put(buffer, 310, b"x" * 10)
    assert blocks(buffer) == [(300, 320), (200, 210), (100, 110)]
    put(buffer, 210, b"x" * 90)
    assert blocks(buffer) == [(200, 320), (100, 110)]


def test_no_more_than_four_blocks_are_reported() -> None:
    buffer = ReceiveBuffer(LIMIT)
    for start in range(100, 700, 100):
        put(buffer, start, b"x")
    assert blocks(buffer) == [(600, 601), (500, 501), (400, 401), (300, 301)]
    put(buffer, 101, b"x")
    assert blocks(buffer) == [(100, 102), (600, 601), (500, 501), (400, 401)]


def test_after_the_recent_blocks_are_gone_the_others_are_reported() -> None:
    buffer = ReceiveBuffer(LIMIT)
    for start in (700, 800, 100, 200, 300, 400):
        put(buffer, start, b"x")
    assert buffer.collect(NXT + 500) == NXT + 500
    assert blocks(buffer) == [(700, 701), (800, 801)]


def test_old_blocks_that_are_no_longer_recent_are_collected_too() -> None:
    buffer = ReceiveBuffer(LIMIT)
    for start in (10, 20, 30, 40, 50, 60):
        put(buffer, start, b"x" * 5)
    assert buffer.collect(NXT + 25) == NXT + 25
    assert blocks(buffer) == [(60, 65), (50, 55), (40, 45), (30, 35)]


def test_a_duplicate_is_reported_once_and_first() -> None:
    # RFC 2883 §4: the duplicate, then the block that holds it
    buffer = ReceiveBuffer(LIMIT)
    put(buffer, 100, b"x" * 50)
    put(buffer, 300, b"x" * 50)
    put(buffer, 110, b"x" * 10)
    assert blocks(buffer) == [(110, 120), (100, 150), (300, 350)]
    assert blocks(buffer) == [(100, 150), (300, 350)]


def test_memory_is_charged_for_bookkeeping_too() -> None:
    buffer = ReceiveBuffer(10 * BLOCK_CHARGE)
    taken = sum(put(buffer, 2 * i, b"x") for i in range(1, 1000))
    assert taken < 20
    assert buffer.held <= 2 * buffer.limit


def test_a_full_buffer_refuses_to_grow_a_block() -> None:
    buffer = ReceiveBuffer(2000)
    assert put(buffer, 10, b"x" * 2000)
    assert not put(buffer, 2010, b"x" * 2000)
    assert not put(buffer, 5000, b"x" * 2000)
    assert blocks(buffer) == [(10, 2010)]


def test_clear_drops_everything() -> None:
    buffer = ReceiveBuffer(LIMIT)
    buffer.append(b"text")
    put(buffer, 100, b"more")
    buffer.clear()
    assert (buffer.readable, buffer.out_of_order, buffer.held) == (0, 0, 0)
    assert blocks(buffer) == []
    assert buffer.read(10) == b""


SEGMENTS = st.lists(
    st.tuples(st.integers(0, 120), st.integers(1, 40), st.integers(0, 3)), max_size=60
)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(SEGMENTS, st.sampled_from([1, 30]), st.booleans())
def test_reassembly_agrees_with_the_model(
    segments: list[tuple[int, int, int]], scale: int, views: bool
) -> None:
    buffer = ReceiveBuffer(LIMIT)
    model: dict[int, int] = {}  # position -> octet, the first one
    nxt = 0
    received = b""
    for number, (start, size, read) in enumerate(segments):
        start, size = start * scale, size * scale
        payload: Buffer = bytes([number % 256]) * size
        if views:
            payload = memoryview(b"header" + bytes(payload))[6:]
        end = start + size
        if end <= nxt:
            continue
        payload = payload[max(nxt - start, 0) :]
        start = max(start, nxt)
        new = [at for at in range(start, end) if at not in model]
        twice = [at for at in range(start, end) if at in model]
        if buffer.insert(NXT + start, payload):
            reported = [(a - NXT, b - NXT) for a, b in buffer.sack_blocks()]
            if twice:  # RFC 2883 §4: the first run of octets received twice comes first
                left, right = reported.pop(0)
                assert left == twice[0]
                assert right == next(at for at in range(left, end + 1) if at not in twice)
            for at in new:
                model[at] = number % 256
            left, right = reported[0]  # RFC 2018 §4: then the block that has just arrived
            assert left <= start and end <= right
        nxt = buffer.collect(NXT + nxt) - NXT
        first_gap = next(at for at in range(len(model) + 1) if at not in model)
        assert nxt == first_gap
        if not read:
            received += read_all(buffer, 7 * scale)
        assert buffer.held <= 2 * LIMIT
        reported = [(a - NXT, b - NXT) for a, b in buffer.sack_blocks()]
        for left, right in reported:
            assert nxt < left < right
            assert all(at in model for at in range(left, right, max(1, scale // 5)))
            assert left - 1 not in model and right not in model
    received += read_all(buffer)
    assert received == bytes(model[at] for at in range(nxt))
