import pytest

from tests.device.frames import checksum_is_good, tcp_frame
from ustack.device.base import Device
from ustack.device.link import Link, LinkConfig

FRAME = bytes(10) + b"\x45 a packet"


def test_both_ends_are_devices_in_virtual_time() -> None:
    link = Link(mtu=9000, gso_max=65535)
    ends: list[Device] = [link.a, link.b]
    for end in ends:
        assert end.fileno() == -1
        assert (end.mtu, end.gso_max, end.checksum_offload) == (9000, 65535, True)
    assert not Link().a.checksum_offload


def test_what_one_end_writes_the_other_reads_after_the_delay_of_that_direction() -> None:
    link = Link(1, LinkConfig(delay_us=100), LinkConfig(delay_us=300))
    assert link.next_deadline() is None
    assert link.a.write([FRAME[:12], FRAME[12:]], 0)
    assert link.b.write([FRAME], 0)
    assert link.next_deadline() == link.b.next_deadline() == 100
    assert link.a.next_deadline() == 300
    assert link.b.read(64, 99) == []
    assert link.b.read(64, 100) == [FRAME]
    assert link.a.read(64, 300) == [FRAME]
    assert link.next_deadline() is None


def test_without_a_second_configuration_both_directions_have_the_same_faults() -> None:
    link = Link(1, LinkConfig(loss=0.5))
    for now in range(200):
        link.a.write([FRAME], now)
        link.b.write([FRAME], now)
    there, back = link.ab.counters["lost"], link.ba.counters["lost"]
    assert 60 < there < 140
    assert 60 < back < 140
    assert there != back, "each direction draws its own"


def test_the_other_end_is_asked_to_read() -> None:
    link = Link()
    asked: list[str] = []
    link.a.on_readable = lambda: asked.append("a")
    link.b.on_readable = lambda: asked.append("b")
    link.a.write([FRAME], 0)
    assert asked == ["b"]


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> list[int]:
        link = Link(seed, LinkConfig(delay_us=1000, jitter_us=500, loss=0.1))
        arrivals = []
        for now in range(0, 100_000, 100):
            link.a.write([FRAME], now)
            arrivals += [now] * len(link.b.read(64, now))
        return arrivals

    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize("loss", [0.0, 1e-9])
def test_super_segments_pass_whole_unless_a_fault_needs_wire_packets(loss: float) -> None:
    link = Link(1, LinkConfig(loss=loss), gso_max=65535)
    frame = tcp_frame(bytes(14600), gso_size=1460)
    link.a.write([frame], 0)
    frames = link.b.read(64, 0)
    if loss:
        assert len(frames) == 10
        assert all(checksum_is_good(packet) for packet in frames)
    else:
        assert frames == [frame]


def test_a_closed_end_neither_sends_nor_receives() -> None:
    link = Link()
    link.b.write([FRAME], 0)
    link.a.close()
    assert link.a.write([FRAME], 0)
    assert link.b.write([FRAME], 0)
    assert link.a.read(64, 0) == link.b.read(64, 0) == []
