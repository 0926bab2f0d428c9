import io
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device.frames import KERNELS, OURS, checksum_is_good, payload_of, tcp_frame, udp_frame
from ustack.device.base import Device
from ustack.device.capture import CaptureDevice, CaptureProbe, packet_of
from ustack.device.link import Link
from ustack.pcapng import LINK_RAW, Direction, Reader, read
from ustack.stack.probe import Probe
from ustack.wire.virtio import DATA_VALID, HEADER, HEADER_LEN

EPOCH_NS = 1_700_000_000_000_000_000
FRAME = tcp_frame(b"hello")


def probe_into(target: Path | io.BytesIO) -> CaptureProbe:
    return CaptureProbe(target, interface="ustack0", now_to_epoch_ns=EPOCH_NS)


def test_each_packet_is_recorded_with_time_direction_and_note(tmp_path: Path) -> None:
    path = tmp_path / "test.pcapng"
    capture = probe_into(path)
    probe: Probe = capture
    probe.received(FRAME, "ESTABLISHED -> CLOSE_WAIT", 5)
    probe.sent([FRAME[:30], memoryview(FRAME)[30:]], "", 7)
    capture.close()
    capture.close()
    first, second = read(path)
    assert first.packet == second.packet == FRAME[HEADER_LEN:]
    assert first.link_type == LINK_RAW
    assert first.interface == "ustack0"
    assert (first.time_ns, second.time_ns) == (EPOCH_NS + 5_000, EPOCH_NS + 7_000)
    assert (first.comment, second.comment) == ("ESTABLISHED -> CLOSE_WAIT", "")
    assert (first.direction, second.direction) == (Direction.IN, Direction.OUT)
    assert (capture.recorded, capture.missed) == (2, 0)


@pytest.mark.parametrize("family", [0, 1])
@pytest.mark.parametrize("gso_size", [0, 1400])
def test_partial_checksums_are_recorded_complete_and_super_segments_whole(
    family: int, gso_size: int
) -> None:
    payload = bytes(range(251)) * 240
    frame = tcp_frame(
        payload, src=OURS[family], dst=KERNELS[family], partial=True, gso_size=gso_size
    )
    packet = packet_of(frame)
    assert len(packet) == len(frame) - HEADER_LEN
    assert checksum_is_good(bytes(HEADER_LEN) + packet)
    assert payload_of(bytes(HEADER_LEN) + packet) == payload


def test_a_packet_that_the_device_verified_is_recorded_as_it_is() -> None:
    valid = HEADER.pack(DATA_VALID, 0, 0, 0, 0, 0) + FRAME[HEADER_LEN:]
    assert packet_of(valid) == FRAME[HEADER_LEN:]


@pytest.mark.parametrize(
    "frame",
    [b"", b"short", bytes(10), b"\x01\x01" + bytes(6) + b"\xff\xff" + b"\x45", b"\x01\x77" * 10],
)
def test_a_frame_that_makes_no_sense_is_recorded_as_it_is(frame: bytes) -> None:
    assert packet_of(frame) == frame[HEADER_LEN:]


def test_a_file_that_was_given_stays_open() -> None:
    file = io.BytesIO()
    capture = probe_into(file)
    capture.received(FRAME, "", 0)
    capture.close()
    file.seek(0)
    assert len(list(Reader(file, "memory"))) == 1


def test_packets_after_close_are_missed(tmp_path: Path) -> None:
    capture = probe_into(tmp_path / "test.pcapng")
    capture.close()
    capture.received(FRAME, "", 0)
    assert capture.missed == 1
    assert list(read(tmp_path / "test.pcapng")) == []


def test_a_file_that_cannot_be_made_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe_into(tmp_path / "no such folder" / "test.pcapng")


def test_a_full_disk_ends_the_capture_and_nothing_else() -> None:
    class Disk(io.BytesIO):
        room = 1000

        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            taken = super().write(data[: self.room])
            self.room -= taken
            return taken

    capture = probe_into(Disk())
    for now in range(50):
        capture.received(FRAME, "", now)
    assert isinstance(capture.error, OSError)
    assert capture.recorded > 0
    assert capture.recorded + capture.missed == 50


def test_dev_full_is_a_full_disk_from_the_start() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("/dev/full is missing")
    with pytest.raises(OSError, match="No space left"):
        probe_into(Path("/dev/full"))


def test_a_block_that_did_not_fit_is_taken_back(tmp_path: Path) -> None:
    """The largest file of the child is 1000 bytes: the last write is cut there."""
    path = tmp_path / "limited.pcapng"
    child = f"""
import resource, signal
from ustack.device.capture import CaptureProbe
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
capture = CaptureProbe({str(path)!r}, interface="ustack0", now_to_epoch_ns=0)
for now in range(50):
    capture.received(bytes.fromhex({FRAME.hex()!r}), "", now)
assert capture.recorded + capture.missed == 50
print(capture.recorded)
"""
    run = subprocess.run([sys.executable, "-c", child], check=True, capture_output=True, text=True)
    assert len(list(read(path))) == int(run.stdout) > 1


def test_a_killed_process_leaves_every_packet() -> None:
    child = """
import os, signal, sys
from ustack.device.capture import CaptureProbe
capture = CaptureProbe("/dev/stdout", interface="ustack0", now_to_epoch_ns=0)
for now in range(100):
    capture.received(bytes(10) + b"a packet", "note", now)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", child], check=False, capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert len(list(Reader(io.BytesIO(run.stdout), "pipe"))) == 100


def test_the_wrapper_records_what_passes_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "test.pcapng"
    link = Link(mtu=9000, gso_max=65535)
    wrapper = CaptureDevice(link.a, path, interface="link", now_to_epoch_ns=EPOCH_NS)
    device: Device = wrapper
    assert (device.mtu, device.gso_max, device.checksum_offload) == (9000, 65535, True)
    assert device.fileno() == -1
    asked: list[bool] = []
    device.on_readable = lambda: asked.append(True)
    assert link.a.on_readable is device.on_readable
    link.b.write([FRAME], 1)
    assert asked == [True]
    assert device.next_deadline() == 1
    assert device.read(64, 1) == [FRAME]
    assert device.write([FRAME[:20], FRAME[20:]], 2)
    assert link.b.read(64, 2) == [FRAME]
    device.close()
    assert link.a.closed
    assert [(record.direction, record.time_ns - EPOCH_NS) for record in read(path)] == [
        (Direction.IN, 1_000),
        (Direction.OUT, 2_000),
    ]


def test_tshark_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    path = tmp_path / "test.pcapng"
    capture = probe_into(path)
    for family in (0, 1):
        ours, kernels = OURS[family], KERNELS[family]
        for gso_size in (0, 1400):
            payload = bytes(60_000) if gso_size else b"odd"
            frame = tcp_frame(payload, src=ours, dst=kernels, partial=True, gso_size=gso_size)
            capture.sent([frame], "super-segment" if gso_size else "", 1)
        capture.received(udp_frame(b"datagram", src=kernels, dst=ours), "", 2)
    capture.close()
    command = ["tshark", "-r", str(path)]
    for protocol in ("ip", "tcp", "udp"):
        command += ["-o", f"{protocol}.check_checksum:TRUE"]
    bad = "_ws.malformed or ip.checksum.status==0 or tcp.checksum.status==0"
    bad += " or udp.checksum.status==0"
    found = subprocess.run([*command, "-Y", bad], check=True, capture_output=True, text=True)
    assert found.stdout == ""
    good = "tcp.checksum.status==1 or udp.checksum.status==1"
    found = subprocess.run([*command, "-Y", good], check=True, capture_output=True, text=True)
    assert len(found.stdout.splitlines()) == 6
