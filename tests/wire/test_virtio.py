from ustack.wire import virtio


def test_the_header_is_ten_little_endian_bytes() -> None:
    assert virtio.HEADER.size == virtio.HEADER_LEN == len(virtio.PLAIN) == 10
    header = virtio.HEADER.pack(virtio.NEEDS_CSUM, virtio.GSO_TCPV6, 0x0102, 0x0304, 0x0506, 0x0708)
    assert header == bytes.fromhex("01 04 0201 0403 0605 0807")


def test_a_plain_header_asks_for_nothing() -> None:
    assert virtio.HEADER.unpack(virtio.PLAIN) == (0, virtio.GSO_NONE, 0, 0, 0, 0)
