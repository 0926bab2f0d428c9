from ustack.device.base import Device
from ustack.device.channel import ChannelDevice

PACKET = b"\x45 an IP packet"


def channel(sent: list[bytes], *, queue: int = 4) -> ChannelDevice:
    return ChannelDevice(sent.append, mtu=1400, queue=queue)


def test_a_channel_is_a_device_without_descriptor_and_without_offload() -> None:
    device: Device = channel([])
    assert device.fileno() == -1
    assert (device.mtu, device.gso_max, device.checksum_offload) == (1400, 0, False)
    assert device.next_deadline() is None


def test_what_is_fed_is_read_behind_an_empty_virtio_header() -> None:
    device = channel([])
    device.feed(PACKET)
    device.feed(memoryview(bytearray(PACKET)))
    assert device.read(64, 0) == [bytes(10) + PACKET] * 2
    assert device.read(64, 0) == []


def test_a_read_takes_no_more_than_its_budget() -> None:
    device = channel([])
    for number in range(3):
        device.feed(bytes([number]))
    assert [frame[10] for frame in device.read(2, 0)] == [0, 1]
    assert [frame[10] for frame in device.read(2, 0)] == [2]


def test_feed_asks_to_be_read() -> None:
    device = channel([])
    asked: list[bool] = []
    device.on_readable = lambda: asked.append(True)
    device.feed(PACKET)
    assert asked == [True]


def test_a_full_queue_drops_and_counts() -> None:
    device = channel([], queue=2)
    for number in range(5):
        device.feed(bytes([number]))
    assert device.dropped == 3
    assert [frame[10] for frame in device.read(64, 0)] == [0, 1]


def test_a_written_frame_leaves_as_one_plain_packet() -> None:
    sent: list[bytes] = []
    assert channel(sent).write([bytes(10) + b"head", memoryview(b"er"), b"payload"], 0)
    assert sent == [b"headerpayload"]


def test_a_transport_that_blocks_makes_the_device_full_until_it_resumes() -> None:
    full = True
    sent: list[bytes] = []

    def send(packet: bytes) -> None:
        if full:
            raise BlockingIOError
        sent.append(packet)

    device = ChannelDevice(send)
    asked: list[bool] = []
    device.on_readable = lambda: asked.append(True)
    assert not device.write([bytes(10), PACKET], 0)
    full = False
    device.resume()
    assert asked == [True]
    assert device.write([bytes(10), PACKET], 0)
    assert sent == [PACKET]


def test_a_transport_that_fails_loses_the_packet_and_is_counted() -> None:
    def send(packet: bytes) -> None:
        raise ConnectionResetError

    device = ChannelDevice(send)
    assert device.write([bytes(10), PACKET], 0)
    assert device.send_errors == 1


def test_a_closed_channel_is_silent_in_both_directions() -> None:
    sent: list[bytes] = []
    device = channel(sent)
    device.feed(PACKET)
    device.close()
    device.close()
    device.feed(PACKET)
    assert device.read(64, 0) == []
    assert device.write([bytes(10), PACKET], 0)
    assert sent == []
    assert device.dropped == 1
