"""The TUN against the kernel of this machine, each test in a network namespace of its own."""

import ctypes
import errno
import gc
import ipaddress
import json
import os
import select
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.device.frames import (
    KERNELS,
    OURS,
    checksum_is_good,
    payload_of,
    tcp_frame,
    udp_frame,
)
from ustack.device.base import Device
from ustack.device.capture import packet_of
from ustack.device.tun import READ_BATCH, TunDevice, kernel_side
from ustack.errors import UsageError
from ustack.wire import icmp, ipv4, ipv6, tcp
from ustack.wire.gso import complete_checksum, split
from ustack.wire.tcp_options import encode_options
from ustack.wire.virtio import (
    GSO_TCPV4,
    GSO_TCPV6,
    HEADER,
    HEADER_LEN,
    NEEDS_CSUM,
    PLAIN,
)

CLONE_NEWNET = 0x40000000  # linux/sched.h
PATIENCE_S = 5.0  # most that a test waits for the kernel
FAMILIES = [(OURS[0], KERNELS[0]), (OURS[1], KERNELS[1])]


@pytest.fixture
def network() -> Iterator[None]:
    """The test's thread is in an empty network namespace with its loopback up."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            pytest.skip("needs CAP_SYS_ADMIN for a network namespace: run in `unshare -rn`")
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            pytest.skip("/dev/net/tun is missing or not ours to open")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            assert libc.setns(own, CLONE_NEWNET) == 0
    finally:
        os.close(own)


MakeTun = Callable[..., TunDevice]


@pytest.fixture
def tun(network: None) -> Iterator[MakeTun]:
    """Makes a configured TUN; all are closed at the end."""
    devices: list[TunDevice] = []

    def make(*, offload: bool = True, mtu: int = 1500) -> TunDevice:
        device = TunDevice("", offload=offload, mtu=mtu)
        devices.append(device)
        device.configure([f"{OURS[0]}/24", f"{OURS[1]}/64"] if mtu >= 1280 else [f"{OURS[0]}/24"])
        return device

    yield make
    for device in devices:
        device.close()


def frame_from(device: TunDevice, wanted: Callable[[bytes], bool] = lambda _: True) -> bytes:
    """The next frame from the kernel that is wanted."""
    while select.select([device], [], [], PATIENCE_S)[0]:
        for frame in device.read(1, 0):
            if wanted(frame):
                return frame
    raise AssertionError("the kernel sent no such frame")


def of_protocol(number: int) -> Callable[[bytes], bool]:
    def wanted(frame: bytes) -> bool:
        if frame[HEADER_LEN] >> 4 == 4:
            return ipv4.decode(frame, HEADER_LEN).protocol == number
        return ipv6.decode(frame, HEADER_LEN).protocol == number

    return wanted


def socket_for(address: str, kind: int, protocol: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind, protocol)
    made.settimeout(PATIENCE_S)
    return made


def connected(device: TunDevice, ours: str, kernels: str) -> tuple[socket.socket, int, int]:
    """A kernel socket connected to our hand-made peer; the peer's next SEQ and ACK."""
    client = socket_for(kernels, socket.SOCK_STREAM)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.connect((ours, 80))
    syn = frame_from(device, of_protocol(ipv4.TCP))
    start = HEADER_LEN + (20 if "." in ours else 40)
    header = tcp.decode(syn, start, len(syn))
    assert header.flags == tcp.SYN
    answer = tcp_frame(
        src=ours,
        dst=kernels,
        dst_port=header.src_port,
        seq=0xFFFF_FF00,
        ack=header.seq + 1,
        flags=tcp.SYN | tcp.ACK,
        options=encode_options(mss=1400),
    )
    assert device.write([answer], 0)
    ack = frame_from(device, of_protocol(ipv4.TCP))
    assert tcp.decode(ack, start, len(ack)).flags == tcp.ACK
    client.settimeout(PATIENCE_S)
    return client, 0xFFFF_FF01, header.seq + 1


# Addresses


@pytest.mark.parametrize(
    "ours,kernels",
    [
        ("10.9.0.2/24", "10.9.0.1/24"),
        ("10.9.0.1/24", "10.9.0.2/24"),
        ("10.9.0.200/24", "10.9.0.1/24"),
        ("10.9.0.2/30", "10.9.0.1/30"),
        ("10.9.0.0/31", "10.9.0.1/31"),
        ("10.9.0.1/31", "10.9.0.0/31"),
        ("fd00:9::2/64", "fd00:9::1/64"),
        ("fd00:9::1/64", "fd00:9::2/64"),
        ("fd00:9::/127", "fd00:9::1/127"),
    ],
)
def test_the_kernel_gets_the_first_address_of_the_network_that_is_not_ours(
    ours: str, kernels: str
) -> None:
    assert kernel_side(ours) == ipaddress.ip_interface(kernels)


@pytest.mark.parametrize(
    "address,reason",
    [
        ("10.9.0.2/32", "no address for the kernel"),
        ("fd00:9::2/128", "no address for the kernel"),
        ("10.9.0.2", "prefix length is missing"),
        ("10.9.0.0/24", "address of the network"),
        ("fd00:9::/64", "address of the network"),
        ("10.9.0.255/24", "broadcast"),
        ("10.9.0.2/33", "10.9.0.2/33"),
        ("example.org/24", "example.org"),
    ],
)
def test_an_address_that_cannot_be_ours_is_refused_with_the_reason(
    address: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        kernel_side(address)


@pytest.mark.parametrize("name", ["a-name-of-16-byte", "two words", "a/b"])
def test_an_impossible_interface_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="interface name"):
        TunDevice(name)


@pytest.mark.parametrize("mtu", [67, 65_536])
def test_an_impossible_mtu_is_refused(mtu: int) -> None:
    with pytest.raises(UsageError, match="MTU"):
        TunDevice("ustack0", mtu=mtu)


# The interface


@pytest.mark.root
def test_the_interface_is_up_with_the_kernels_addresses_and_the_mtu(network: None) -> None:
    device = TunDevice("ustack0", mtu=9000)
    assert device.configure(["10.9.0.2/24", "fd00:9::2/64"]) == ["10.9.0.1/24", "fd00:9::1/64"]
    shown = subprocess.run(
        ["ip", "-json", "address", "show", "dev", "ustack0"], check=True, capture_output=True
    )
    (interface,) = json.loads(shown.stdout)
    assert interface["mtu"] == 9000
    assert "UP" in interface["flags"]
    addresses = {(entry["local"], entry["prefixlen"]) for entry in interface["addr_info"]}
    assert addresses == {("10.9.0.1", 24), ("fd00:9::1", 64)}, "and no link-local one"
    device.close()
    device.close()
    assert "ustack0" not in [name for _, name in socket.if_nameindex()]


@pytest.mark.root
def test_a_name_that_is_taken_is_refused_in_words(network: None) -> None:
    device = TunDevice("ustack0")
    with pytest.raises(OSError, match="in use by another process") as busy:
        TunDevice("ustack0")
    assert busy.value.errno == errno.EBUSY
    with pytest.raises(OSError, match="another kind") as wrong:
        TunDevice("lo")
    assert wrong.value.errno == errno.EINVAL
    device.close()


@pytest.mark.root
def test_a_refused_name_leaves_other_descriptors_alone(network: None) -> None:
    device = TunDevice("ustack0")
    with pytest.raises(OSError, match="in use") as refused:
        TunDevice("ustack0")
    # The kernel gives out the lowest free number: this is the one that the failed open had.
    other = os.open("/dev/null", os.O_RDONLY)
    del refused
    gc.collect()
    os.close(other)
    device.close()


@pytest.mark.root
def test_ipv6_on_a_small_mtu_is_refused_in_words(network: None) -> None:
    device = TunDevice("ustack0", mtu=576)
    with pytest.raises(UsageError, match="IPv6 needs at least 1280"):
        device.configure(["fd00:9::2/64"])
    assert device.configure(["10.9.0.2/24"]) == ["10.9.0.1/24"]
    device.close()


@pytest.mark.root
def test_an_address_given_twice_is_refused_in_words(network: None) -> None:
    device = TunDevice("ustack0")
    with pytest.raises(OSError, match="already on the interface"):
        device.configure(["10.9.0.2/24", "10.9.0.3/24"])
    device.close()


@pytest.mark.root
def test_the_device_says_what_it_can_carry(tun: MakeTun) -> None:
    offloaded: Device = tun(offload=True)
    assert (offloaded.mtu, offloaded.checksum_offload) == (1500, True)
    since_6_3 = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 3)
    assert offloaded.gso_max == (14 * 32_768 if since_6_3 else 65_535)
    assert offloaded.fileno() >= 0
    assert offloaded.next_deadline() is None


@pytest.mark.root
@pytest.mark.parametrize("offload", [True, False])
def test_a_quiet_interface_stays_quiet(tun: MakeTun, offload: bool) -> None:
    device = tun(offload=offload)
    assert not select.select([device], [], [], 0)[0]
    assert device.read(64, 0) == []


# Packets


@pytest.mark.root
@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("ours,kernels", FAMILIES)
def test_the_kernel_can_ping_us(tun: MakeTun, offload: bool, ours: str, kernels: str) -> None:
    device = tun(offload=offload)
    source, destination = (ipaddress.ip_address(address).packed for address in (kernels, ours))
    if ":" in ours:
        request = icmp.encode_v6(source, destination, icmp.V6_ECHO_REQUEST, 0, 0x1234_0001, b"data")
        answer = icmp.encode_v6(destination, source, icmp.V6_ECHO_REPLY, 0, 0x1234_0001, b"data")
        protocol = socket.IPPROTO_ICMPV6
        ip = ipv6.encode(destination, source, protocol, len(answer))
    else:
        request = icmp.encode_v4(icmp.V4_ECHO_REQUEST, 0, 0x1234_0001, b"data")
        answer = icmp.encode_v4(icmp.V4_ECHO_REPLY, 0, 0x1234_0001, b"data")
        protocol = socket.IPPROTO_ICMP
        ip = ipv4.encode(destination, source, protocol, len(answer))

    with socket_for(kernels, socket.SOCK_RAW, protocol) as ping:
        ping.sendto(request, (ours, 0))
        frame = frame_from(device, of_protocol(protocol))
        assert frame.endswith(request)
        assert device.write([PLAIN + ip, answer], 0)
        while not (received := ping.recv(2048)).endswith(answer):
            pass
    assert received.endswith(answer)
    assert device.write_errors == 0


@pytest.mark.root
@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("ours,kernels", FAMILIES)
def test_datagrams_go_both_ways(tun: MakeTun, offload: bool, ours: str, kernels: str) -> None:
    device = tun(offload=offload)
    with socket_for(kernels, socket.SOCK_DGRAM) as client:
        client.bind((kernels, 40000))
        client.sendto(b"question", (ours, 7))
        frame = frame_from(device, of_protocol(ipv4.UDP))
        assert frame.endswith(b"question")
        if offload:
            assert HEADER.unpack_from(frame)[0] & NEEDS_CSUM
            frame = complete_checksum(frame)
        assert frame.startswith(PLAIN)
        assert checksum_is_good(frame)
        assert device.write([udp_frame(b"answer", src=ours, dst=kernels)], 0)
        assert client.recv(100) == b"answer"


@pytest.mark.root
@pytest.mark.parametrize("mtu", [68, 576, 1280, 9000, 65_535])
@pytest.mark.parametrize("offload", [True, False])
def test_a_packet_of_the_whole_mtu_passes_both_ways(tun: MakeTun, mtu: int, offload: bool) -> None:
    device = tun(mtu=mtu, offload=offload)
    payload = bytes(range(256)) * 256
    payload = payload[: mtu - 28]
    with socket_for(KERNELS[0], socket.SOCK_DGRAM) as client:
        client.bind((KERNELS[0], 40000))
        client.sendto(payload, (OURS[0], 7))
        frame = frame_from(device, of_protocol(ipv4.UDP))
        assert len(frame) == HEADER_LEN + mtu
        assert frame.endswith(payload)
        assert device.write([udp_frame(payload)], 0)
        assert client.recv(mtu) == payload


@pytest.mark.root
@pytest.mark.parametrize("ours,kernels", FAMILIES)
def test_a_kernel_sender_hands_over_super_segments(tun: MakeTun, ours: str, kernels: str) -> None:
    device = tun()
    client, _, _ = connected(device, ours, kernels)
    with client:
        data = bytes(range(250)) * 80
        client.sendall(data)
        frame = frame_from(device, lambda frame: len(frame) > 1500)
        flags, gso_type, _, gso_size, csum_start, csum_offset = HEADER.unpack_from(frame)
        assert flags & NEEDS_CSUM
        assert gso_type == (GSO_TCPV6 if ":" in ours else GSO_TCPV4)
        assert gso_size == 1400, "our MSS"
        assert (csum_start, csum_offset) == (40 if ":" in ours else 20, tcp.CHECKSUM_OFFSET)
        assert checksum_is_good(PLAIN + packet_of(frame)), "as a capture has it"
        packets = split(frame)
        assert len(packets) > 1
        assert all(checksum_is_good(packet) for packet in packets)
        assert data.startswith(b"".join(payload_of(packet) for packet in packets))


@pytest.mark.root
@pytest.mark.parametrize("ours,kernels", FAMILIES)
def test_a_kernel_sender_without_offload_sends_wire_packets_with_good_checksums(
    tun: MakeTun, ours: str, kernels: str
) -> None:
    device = tun(offload=False)
    client, _, _ = connected(device, ours, kernels)
    with client:
        data = bytes(range(250)) * 28
        client.sendall(data)
        received = b""
        while len(received) < len(data):
            frame = frame_from(device, of_protocol(ipv4.TCP))
            assert len(frame) <= HEADER_LEN + 1500
            assert frame.startswith(PLAIN)
            assert checksum_is_good(frame)
            received += payload_of(frame)
        assert received == data


@pytest.mark.root
@pytest.mark.parametrize("ours,kernels", FAMILIES)
@pytest.mark.parametrize("size", [1, 1400, 60_000])
def test_a_kernel_receiver_takes_super_segments_in_parts(
    tun: MakeTun, ours: str, kernels: str, size: int
) -> None:
    device = tun()
    client, seq, ack = connected(device, ours, kernels)
    data = os.urandom(size)
    with client:
        frame = tcp_frame(
            data,
            src=ours,
            dst=kernels,
            dst_port=client.getsockname()[1],
            seq=seq,
            ack=ack,
            partial=True,
            gso_size=1400 if size > 1400 else 0,
        )
        header = len(frame) - size
        middle = header + size // 2
        view = memoryview(frame)
        assert device.write([frame[:header], view[header:middle], view[middle:]], 0)
        received = b""
        while len(received) < size:
            received += client.recv(size)
    assert received == data
    assert device.write_errors == 0


@pytest.mark.root
@pytest.mark.parametrize("offload", [True, False])
def test_a_frame_of_very_many_parts_is_sent(tun: MakeTun, offload: bool) -> None:
    device = tun(offload=offload)
    payload = os.urandom(1400)
    frame = udp_frame(payload)
    with socket_for(KERNELS[0], socket.SOCK_DGRAM) as receiver:
        receiver.bind((KERNELS[0], 40000))
        header = len(frame) - len(payload)
        parts = [frame[:header], *(payload[at : at + 1] for at in range(len(payload)))]
        assert device.write(parts, 0)
        assert receiver.recv(2000) == payload


# What goes wrong


@pytest.mark.root
def test_a_frame_that_the_kernel_refuses_is_lost_and_counted(tun: MakeTun) -> None:
    device = tun()
    unknown_gso = HEADER.pack(NEEDS_CSUM, 77, 40, 1400, 20, 16)
    assert device.write([unknown_gso, tcp_frame(bytes(4000))[HEADER_LEN:]], 0)
    assert device.write_errors == 1
    assert device.write([PLAIN + b"\x99neither 4 nor 6"], 0)
    assert device.write_errors == 2
    assert device.write([udp_frame(b"a good one")], 0)
    assert device.write_errors == 2


@pytest.mark.root
def test_writing_to_an_interface_that_is_down_loses_the_frame(tun: MakeTun) -> None:
    device = tun()
    subprocess.run(["ip", "link", "set", device.name, "down"], check=True)
    assert device.write([udp_frame(b"lost")], 0)
    assert device.write_errors == 1
    assert device.read(64, 0) == []


@pytest.mark.root
def test_reading_from_an_interface_that_was_removed_says_so(tun: MakeTun) -> None:
    device = tun()
    subprocess.run(["ip", "link", "delete", device.name], check=True)
    with pytest.raises(OSError, match="the interface is gone"):
        device.read(64, 0)


@pytest.mark.root
def test_a_read_takes_no_more_than_its_budget(tun: MakeTun) -> None:
    device = tun()
    with socket_for(KERNELS[0], socket.SOCK_DGRAM) as client:
        for number in range(5):
            client.sendto(struct.pack("B", number), (OURS[0], 7))
    assert [frame[-1] for frame in device.read(3, 0)] == [0, 1, 2]
    assert [frame[-1] for frame in device.read(3, 0)] == [3, 4]


@pytest.mark.root
def test_large_frames_are_read_in_small_batches(tun: MakeTun) -> None:
    device = tun(mtu=65_535)
    for _ in range(3):  # a default send buffer holds some 200 kB
        with socket_for(KERNELS[0], socket.SOCK_DGRAM) as client:
            for _ in range(6):
                client.sendto(bytes(20_000), (OURS[0], 7))
    first, second = device.read(64, 0), device.read(64, 0)
    assert READ_BATCH <= sum(len(frame) for frame in first) < READ_BATCH + 20_100
    assert len(first) + len(second) == 18
