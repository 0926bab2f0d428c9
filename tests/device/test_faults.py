import random
from collections.abc import Callable

import pytest

from tests.device.frames import checksum_is_good, payload_of, seq_of, tcp_frame
from ustack.device.faults import REORDER_HOLD_US, Faults, LinkConfig
from ustack.errors import UsageError
from ustack.wire.ecn import CE, ECT0, ECT1, NOT_ECT, ecn_field, set_ecn_bits
from ustack.wire.virtio import HEADER_LEN, PLAIN

LATER = 10_000_000  # µs; everything has arrived


def numbered(count: int) -> list[bytes]:
    return [PLAIN + number.to_bytes(4, "big") for number in range(count)]


def passed(config: LinkConfig, frames: list[bytes], *, seed: int = 7, gap_us: int = 0) -> list[int]:
    """The numbers of the frames in the order in which they come out."""
    faults = Faults(config, random.Random(seed))
    out: list[int] = []
    for index, frame in enumerate(frames):
        faults.accept(frame, index * gap_us)
        out += [number_of(frame) for frame in faults.due(index * gap_us, 64)]
    return out + [number_of(frame) for frame in faults.due(LATER, len(frames) * 2)]


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[HEADER_LEN : HEADER_LEN + 4], "big")


def test_without_faults_everything_comes_out_at_once_and_in_order() -> None:
    faults = Faults(LinkConfig(), random.Random(1))
    frames = numbered(3)
    for frame in frames:
        faults.accept(frame, 5)
    assert faults.next_deadline() == 5
    assert faults.due(4, 64) == []
    assert faults.due(5, 2) == frames[:2]
    assert faults.due(5, 2) == frames[2:]
    assert faults.next_deadline() is None


def test_a_delay_holds_every_frame_for_exactly_so_long() -> None:
    faults = Faults(LinkConfig(delay_us=1000), random.Random(1))
    first, second = numbered(2)
    faults.accept(first, 0)
    faults.accept(second, 10)
    assert faults.next_deadline() == 1000
    assert faults.due(999, 64) == []
    assert faults.due(1000, 64) == [first]
    assert faults.next_deadline() == 1010


def test_jitter_stays_in_its_range_and_keeps_the_order() -> None:
    config = LinkConfig(delay_us=1000, jitter_us=400)
    faults = Faults(config, random.Random(3))
    out = []
    delays = set()
    for index, frame in enumerate(numbered(200)):
        faults.accept(frame, index * 2000)
        due_at = faults.next_deadline()
        assert due_at is not None
        delays.add(due_at - index * 2000)
        out += faults.due(due_at, 64)
    assert [number_of(frame) for frame in out] == list(range(200))
    assert min(delays) >= 600
    assert max(delays) <= 1400
    assert len(delays) > 100
    assert passed(config, numbered(200), gap_us=100) == list(range(200))


def test_loss_takes_about_its_fraction() -> None:
    out = passed(LinkConfig(loss=0.1), numbered(2000))
    assert 1700 < len(out) < 1900
    assert out == sorted(out)


def test_duplicates_come_right_behind_the_original() -> None:
    out = passed(LinkConfig(duplicate=0.2), numbered(1000))
    assert 1150 < len(out) < 1250
    assert out == sorted(out)
    assert set(out) == set(range(1000))


@pytest.mark.parametrize("delay_us", [0, 5000])
def test_reordering_changes_the_order_of_some_and_loses_none(delay_us: int) -> None:
    out = passed(LinkConfig(delay_us=delay_us, reorder=0.05), numbered(1000), gap_us=100)
    assert sorted(out) == list(range(1000))
    assert out != sorted(out)


def test_on_a_delayed_link_the_reordered_packet_overtakes() -> None:
    out = passed(LinkConfig(delay_us=5000, reorder=1.0), numbered(3), gap_us=100)
    assert out == [0, 1, 2], "when all skip the delay, nobody overtakes"
    faults = Faults(LinkConfig(delay_us=5000, reorder=0.5), random.Random(2))
    for index, frame in enumerate(numbered(20)):
        faults.accept(frame, index)
    at_once = [number_of(frame) for frame in faults.due(20, 64)]
    late = [number_of(frame) for frame in faults.due(LATER, 64)]
    assert at_once
    assert late
    assert len(at_once) == faults.counters["reordered"]
    assert at_once == sorted(at_once)
    assert late == sorted(late)


def test_on_a_link_without_delay_one_to_three_later_packets_overtake() -> None:
    out = passed(LinkConfig(reorder=0.02), numbered(2000))
    displaced = [number for place, number in enumerate(out) if number < max(out[:place], default=0)]
    assert 20 < len(displaced) < 70
    for number in displaced:
        overtaking = [other for other in out[: out.index(number)] if other > number]
        assert 1 <= len(overtaking) <= 3


def test_a_packet_held_back_that_nobody_overtakes_comes_after_a_short_time() -> None:
    faults = Faults(LinkConfig(reorder=1.0), random.Random(1))
    (frame,) = numbered(1)
    faults.accept(frame, 50)
    assert faults.next_deadline() == 50 + REORDER_HOLD_US
    assert faults.due(49 + REORDER_HOLD_US, 64) == []
    assert faults.due(50 + REORDER_HOLD_US, 64) == [frame]


@pytest.mark.parametrize("src", ["10.9.0.2", "fd00:9::2"])
def test_corruption_flips_one_bit_of_the_packet_and_leaves_the_virtio_header(src: str) -> None:
    faults = Faults(LinkConfig(corrupt=1.0), random.Random(5))
    dst = "10.9.0.1" if "." in src else "fd00:9::1"
    frame = tcp_frame(bytes(100), src=src, dst=dst, partial=True)
    clean = Faults(LinkConfig(loss=1e-9), random.Random(1))
    clean.accept(frame, 0)
    (complete,) = clean.due(0, 64)
    assert checksum_is_good(complete)
    places = set()
    for _ in range(300):
        faults.accept(frame, 0)
        (damaged,) = faults.due(0, 64)
        difference = int.from_bytes(damaged, "big") ^ int.from_bytes(complete, "big")
        assert difference.bit_count() == 1
        places.add(difference)
        assert damaged[:HEADER_LEN] == PLAIN, "the receiver must verify the checksum"
    assert len(places) > 200


def test_a_rate_spaces_packets_by_their_size() -> None:
    faults = Faults(LinkConfig(rate_bps=8_000_000), random.Random(1))  # 1 byte per µs
    for _ in range(3):
        faults.accept(PLAIN + bytes(100), 0)
    arrivals = []
    while (due_at := faults.next_deadline()) is not None:
        arrivals.append(due_at)
        assert len(faults.due(due_at, 64)) == 1
    assert arrivals == [100, 200, 300]


def test_a_rate_counts_fractions_of_a_microsecond() -> None:
    faults = Faults(LinkConfig(rate_bps=10_000_000_000), random.Random(1))  # 0.8 µs each
    for _ in range(1000):
        faults.accept(PLAIN + bytes(1000), 0)
    assert len(faults.due(799, 2000)) == 998
    assert len(faults.due(800, 2000)) == 2


def test_the_queue_drops_at_its_tail_and_drains_with_the_rate() -> None:
    faults = Faults(LinkConfig(rate_bps=8_000_000, queue=10), random.Random(1))
    frames = [PLAIN + number.to_bytes(4, "big") + bytes(96) for number in range(20)]
    for frame in frames:
        faults.accept(frame, 0)
    assert faults.counters["queue_full"] == 10
    assert [number_of(frame) for frame in faults.due(LATER, 64)] == list(range(10))
    faults.accept(frames[0], 500)
    assert faults.counters["queue_full"] == 10


def test_a_super_segment_is_split_when_a_fault_could_hit_a_part_of_it() -> None:
    frame = tcp_frame(bytes(range(256)) * 20, gso_size=1460)
    whole = Faults(LinkConfig(delay_us=10), random.Random(1))
    whole.accept(frame, 0)
    assert whole.due(10, 64) == [frame]

    for config in (
        LinkConfig(loss=1e-9),
        LinkConfig(reorder=1e-9),
        LinkConfig(duplicate=1e-9),
        LinkConfig(corrupt=1e-9),
        LinkConfig(rate_bps=10**15),
    ):
        faults = Faults(config, random.Random(1))
        faults.accept(frame, 0)
        packets = faults.due(1, 64)
        assert len(packets) == 4
        assert all(checksum_is_good(packet) for packet in packets)
        assert [seq_of(packet) for packet in packets] == [
            (0xFFFF_FF00 + part * 1460) % 2**32 for part in range(4)
        ]
        assert b"".join(payload_of(packet) for packet in packets) == bytes(range(256)) * 20


def test_a_frame_whose_virtio_header_lies_is_counted() -> None:
    faults = Faults(LinkConfig(loss=0.1), random.Random(1))
    faults.accept(b"\x01\x01" + bytes(8) + b"\x45nonsense", 0)
    assert faults.counters["malformed"] == 1
    assert faults.due(LATER, 64) == []


def test_the_counters_add_up() -> None:
    config = LinkConfig(loss=0.1, duplicate=0.1, corrupt=0.1, reorder=0.1, delay_us=100)
    faults = Faults(config, random.Random(9))
    for frame in numbered(500):
        faults.accept(frame, 0)
    out = faults.due(LATER, 2000)
    counters = faults.counters
    assert all(counters[name] for name in ("lost", "duplicated", "corrupted", "reordered"))
    assert len(out) == counters["passed"] == 500 - counters["lost"] + counters["duplicated"]


def test_the_same_seed_gives_the_same_run() -> None:
    config = LinkConfig(
        delay_us=500, jitter_us=300, loss=0.1, reorder=0.1, duplicate=0.1, rate_bps=10_000_000
    )
    first = passed(config, numbered(500), seed=1, gap_us=50)
    assert passed(config, numbered(500), seed=1, gap_us=50) == first
    assert passed(config, numbered(500), seed=2, gap_us=50) != first


def test_clear_loses_what_is_on_the_way() -> None:
    faults = Faults(LinkConfig(delay_us=100, reorder=0.5), random.Random(1))
    held_back = Faults(LinkConfig(reorder=1.0), random.Random(1))
    for frame in numbered(10):
        faults.accept(frame, 0)
        held_back.accept(frame, 0)
    faults.clear()
    held_back.clear()
    assert faults.due(LATER, 64) == held_back.due(LATER, 64) == []
    assert faults.next_deadline() is held_back.next_deadline() is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: LinkConfig(loss=1.5),
        lambda: LinkConfig(reorder=-0.1),
        lambda: LinkConfig(delay_us=-1),
        lambda: LinkConfig(rate_bps=-1),
        lambda: LinkConfig(queue=0),
    ],
)
def test_impossible_values_are_refused(make: Callable[[], LinkConfig]) -> None:
    with pytest.raises(UsageError):
        make()


@pytest.mark.parametrize("src", ["10.9.0.2", "fd00:9::2"])
def test_a_mark_is_for_packets_that_say_ect(src: str) -> None:
    # RFC 3168 §5: CE is only set where ECT was
    dst = "10.9.0.1" if "." in src else "fd00:9::1"
    faults = Faults(LinkConfig(ecn=1.0), random.Random(1))
    frame = tcp_frame(bytes(3000), src=src, dst=dst, gso_size=1000)
    for field in (NOT_ECT, ECT1, ECT0, CE):
        marked = bytearray(frame)
        set_ecn_bits(marked, HEADER_LEN, field)
        faults.accept(bytes(marked), 0)
    out = faults.due(0, 64)
    assert [ecn_field(packet, HEADER_LEN) for packet in out] == [0] * 3 + [CE] * 9
    assert all(checksum_is_good(packet) for packet in out)
    assert faults.counters["marked"] == 6


def test_a_tenth_of_the_packets_is_marked() -> None:
    faults = Faults(LinkConfig(ecn=0.1), random.Random(1))
    for _ in range(2000):
        frame = bytearray(tcp_frame(b"text"))
        set_ecn_bits(frame, HEADER_LEN, ECT0)
        faults.accept(bytes(frame), 0)
    assert 150 < faults.counters["marked"] < 250


def test_a_black_hole_swallows_what_is_larger_and_nothing_else() -> None:
    config = LinkConfig(mtu=100)
    frames = [
        PLAIN + number.to_bytes(4, "big") + bytes(size) for number, size in enumerate((96, 97))
    ]
    faults = Faults(config, random.Random(1))
    for frame in frames:
        faults.accept(frame, 0)
    assert faults.due(0, 64) == frames[:1]
    assert faults.counters["too_large"] == 1


def test_a_black_hole_measures_wire_packets_and_not_super_segments() -> None:
    frame = tcp_frame(bytes(4000), gso_size=1000)
    faults = Faults(LinkConfig(mtu=1100), random.Random(1))
    faults.accept(frame, 0)
    assert len(faults.due(0, 64)) == 4
    faults = Faults(LinkConfig(mtu=900), random.Random(1))
    faults.accept(frame, 0)
    assert faults.due(0, 64) == []
    assert faults.counters["too_large"] == 4
