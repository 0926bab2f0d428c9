from collections.abc import Sequence

import pytest

from tests.device.frames import checksum_is_good, tcp_frame
from ustack.device.base import Device
from ustack.device.channel import ChannelDevice
from ustack.device.faults import LinkConfig
from ustack.device.impair import RETRY_US, ImpairConfig, ImpairDevice, parse_impair
from ustack.device.link import Link
from ustack.errors import UsageError
from ustack.wire import Buffer

PACKET = b"\x45 a packet"
FRAME = bytes(10) + PACKET


def test_every_item_of_the_option_text_is_understood() -> None:
    assert parse_impair(
        "delay=10ms,jitter=2ms,loss=1%,reorder=5%,duplicate=1%,ecn=2%,corrupt=0.1%,"
        "rate=100mbit,queue=100,seed=7"
    ) == ImpairConfig(
        delay_us=10_000,
        jitter_us=2_000,
        loss=0.01,
        reorder=0.05,
        duplicate=0.01,
        ecn=0.02,
        corrupt=0.001,
        rate_bps=100_000_000,
        queue=100,
        seed=7,
    )


@pytest.mark.parametrize(
    "text,config",
    [
        ("", ImpairConfig()),
        ("delay=250us", ImpairConfig(delay_us=250)),
        ("delay=0.29ms", ImpairConfig(delay_us=290)),
        (" Delay = 1.5 s , loss=100% ", ImpairConfig(delay_us=1_500_000, loss=1.0)),
        ("rate=64kbit", ImpairConfig(rate_bps=64_000)),
        ("rate=2.5gbit", ImpairConfig(rate_bps=2_500_000_000)),
        ("rate=9600bit", ImpairConfig(rate_bps=9600)),
        ("mtu=1400", ImpairConfig(mtu=1400)),
    ],
)
def test_units_and_spaces_are_understood(text: str, config: ImpairConfig) -> None:
    assert parse_impair(text) == config


@pytest.mark.parametrize(
    "text",
    [
        "delay",
        "delay=",
        "delay=10",
        "delay=ms",
        "delay=-1ms",
        "delay=10min",
        "loss=1",
        "loss=101%",
        "loss=x%",
        "rate=100",
        "rate=100MBps",
        "queue=0",
        "queue=ten",
        "mtu=-1",
        "queue=1.5",
        "seed=-1",
        "lose=1%",
        "=1%",
    ],
)
def test_an_item_that_makes_no_sense_is_named(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_impair(f"jitter=1ms,{text}")
    assert repr(text) in str(caught.value)


def test_an_item_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="loss was given before"):
        parse_impair("loss=1%,loss=2%")


def test_it_looks_like_the_device_inside() -> None:
    inner = Link(mtu=9000, gso_max=65535).a
    device: Device = ImpairDevice(inner, ImpairConfig())
    assert (device.mtu, device.gso_max, device.checksum_offload) == (9000, 65535, True)
    assert device.fileno() == -1
    asked: list[bool] = []
    device.on_readable = lambda: asked.append(True)
    assert inner.on_readable is device.on_readable


def test_frames_out_are_held_and_released_by_reading_at_the_deadline() -> None:
    sent: list[bytes] = []
    device = ImpairDevice(ChannelDevice(sent.append), ImpairConfig(delay_us=100))
    assert device.write([FRAME[:11], FRAME[11:]], 0)
    assert sent == []
    assert device.next_deadline() == 100
    assert device.read(64, 100) == []
    assert sent == [PACKET]
    assert device.next_deadline() is None


def test_frames_in_are_held_until_their_deadline() -> None:
    inner = ChannelDevice(lambda _: None)
    device = ImpairDevice(inner, ImpairConfig(delay_us=100))
    inner.feed(PACKET)
    assert device.read(64, 0) == []
    assert device.next_deadline() == 100
    assert device.read(64, 100) == [FRAME]


def test_a_deadline_of_the_inner_device_is_kept() -> None:
    link = Link(1, LinkConfig(delay_us=50))
    device = ImpairDevice(link.a, ImpairConfig(delay_us=100))
    link.b.write([FRAME], 0)
    assert device.next_deadline() == 50
    assert device.read(64, 50) == []
    assert device.next_deadline() == 150
    assert device.read(64, 150) == [FRAME]


def test_without_delay_a_frame_passes_in_the_same_call() -> None:
    sent: list[bytes] = []
    inner = ChannelDevice(sent.append)
    device = ImpairDevice(inner, ImpairConfig())
    device.write([FRAME], 0)
    inner.feed(PACKET)
    assert sent == [PACKET]
    assert device.read(64, 0) == [FRAME]


def test_each_direction_has_its_own_faults_and_counters() -> None:
    sent: list[bytes] = []
    inner = ChannelDevice(sent.append)
    device = ImpairDevice(inner, ImpairConfig(loss=0.3, seed=3))
    received = 0
    for now in range(300):
        device.write([FRAME], now)
        inner.feed(PACKET)
        received += len(device.read(64, now))
    assert len(sent) == device.outbound.counters["passed"] == 300 - device.outbound.counters["lost"]
    assert received == device.inbound.counters["passed"] == 300 - device.inbound.counters["lost"]
    assert 0 < device.outbound.counters["lost"] != device.inbound.counters["lost"] > 0


def test_loss_hits_wire_packets_of_a_super_segment() -> None:
    link = Link(gso_max=65535)
    device = ImpairDevice(link.a, ImpairConfig(loss=0.2, seed=1))
    device.write([tcp_frame(bytes(43800), gso_size=1460)], 0)
    packets = link.b.read(64, 0)
    assert 15 < len(packets) < 30
    assert len(packets) == 30 - device.outbound.counters["lost"]
    assert all(checksum_is_good(packet) for packet in packets)


def test_partial_checksums_from_outside_are_completed_before_corruption() -> None:
    link = Link(gso_max=65535)
    device = ImpairDevice(link.a, ImpairConfig(corrupt=1.0, seed=1))
    for now in range(100):
        link.b.write([tcp_frame(bytes(500), partial=True)], now)
        (frame,) = device.read(64, now)
        assert frame[:10] == bytes(10)
        assert not checksum_is_good(frame)


class Stubborn(ChannelDevice):
    """A channel that refuses while `full`."""

    def __init__(self) -> None:
        super().__init__(lambda _: None)
        self.full = False
        self.taken: list[bytes] = []

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        if not self.full:
            self.taken.append(b"".join(parts))
        return not self.full


def test_a_held_frame_is_kept_while_the_inner_device_is_full() -> None:
    inner = Stubborn()
    device = ImpairDevice(inner, ImpairConfig(delay_us=100))
    frames = [FRAME + bytes([number]) for number in range(3)]
    for frame in frames:
        assert device.write([frame], 0)
    inner.full = True
    device.read(64, 100)
    assert device.next_deadline() == 100 + RETRY_US
    assert not device.write([FRAME], 150), "nothing may be taken while due frames wait"
    inner.full = False
    device.read(64, 150 + RETRY_US)
    assert inner.taken == frames
    assert device.next_deadline() is None


def test_close_loses_what_is_held_and_closes_the_inner_device() -> None:
    sent: list[bytes] = []
    inner = ChannelDevice(sent.append)
    device = ImpairDevice(inner, ImpairConfig(delay_us=100))
    inner.feed(PACKET)
    device.read(64, 0)
    device.write([FRAME], 0)
    device.close()
    assert device.read(64, 1000) == []
    inner.feed(PACKET)
    assert inner.dropped == 1
    assert sent == []
