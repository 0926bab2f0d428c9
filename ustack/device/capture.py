"""Packets recorded as pcapng: `CaptureProbe` sees them in the stack, with the reason for each;
`CaptureDevice` sees them at any device, without.

What is recorded is the IP packet as the stack saw it: super-segments whole, partial checksums
completed, so that Wireshark finds nothing to complain about. A failing file ends the capture,
never the stack.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ustack.device.base import Device
from ustack.device.wrapper import WrapperDevice
from ustack.errors import MalformedPacket
from ustack.pcapng import LINK_RAW, Direction, Writer
from ustack.wire import Buffer
from ustack.wire.gso import complete_checksum
from ustack.wire.virtio import GSO_NONE, HEADER_LEN

GSO_TYPE_AT = 1  # byte of the virtio header
NO_GSO = bytes([GSO_NONE])


class CaptureProbe:
    """A `Probe` that writes a pcapng file, one interface, link type RAW.

    `target`: a path (the file is ours) or a binary file (left open by `close`). A time stamp is
    `now * 1000 + now_to_epoch_ns`. Each packet is one unbuffered write: a killed process leaves
    a file that is complete up to its last packet. Raises OSError when the file cannot be made;
    later errors (a full disk) are in `error`, and `missed` counts the packets from there on.
    """

    def __init__(
        self, target: Path | str | BinaryIO, *, interface: str, now_to_epoch_ns: int
    ) -> None:
        self.recorded = 0  # packets
        self.missed = 0
        self.error: OSError | None = None
        self._now_to_epoch_ns = now_to_epoch_ns
        self._owned = isinstance(target, Path | str)
        self._file: BinaryIO = (
            open(target, "wb", buffering=0)  # noqa: SIM115 (until close)
            if isinstance(target, Path | str)
            else target
        )
        try:
            self._writer = Writer(self._file)
            self._writer.interface(LINK_RAW, name=interface, description="as ustack sees it")
            self._file.flush()
        except OSError:
            self.close()
            raise

    def received(self, frame: bytes, note: str, now: int) -> None:
        self._record(frame, note, now, Direction.IN)

    def sent(self, parts: Sequence[Buffer], note: str, now: int) -> None:
        self._record(b"".join(parts), note, now, Direction.OUT)

    def close(self) -> None:
        """The file is complete. Packets that come later are missed."""
        if self._owned:
            self._file.close()

    def _record(self, frame: bytes, note: str, now: int, direction: Direction) -> None:
        if self.error is not None or self._file.closed:
            self.missed += 1
            return
        time_ns = now * 1000 + self._now_to_epoch_ns
        packet = packet_of(frame)
        try:
            self._writer.packet(packet, time_ns, comment=note, direction=direction)
            self._file.flush()
        except OSError as error:
            self.error = error
            self.missed += 1
            if self._owned:
                with suppress(OSError):
                    self._file.truncate(self._writer.size)  # no block in part
        else:
            self.recorded += 1


class CaptureDevice(WrapperDevice):
    """The inner device, with every frame that passes recorded in `capture`."""

    def __init__(
        self,
        inner: Device,
        target: Path | str | BinaryIO,
        *,
        interface: str,
        now_to_epoch_ns: int,
    ) -> None:
        super().__init__(inner)
        self.capture = CaptureProbe(target, interface=interface, now_to_epoch_ns=now_to_epoch_ns)

    def read(self, budget: int, now: int) -> list[bytes]:
        frames = self._inner.read(budget, now)
        for frame in frames:
            self.capture.received(frame, "", now)
        return frames

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        taken = self._inner.write(parts, now)
        if taken:
            self.capture.sent(parts, "", now)
        return taken

    def next_deadline(self) -> int | None:
        return self._inner.next_deadline()

    def close(self) -> None:
        self._inner.close()
        self.capture.close()


def packet_of(frame: bytes) -> bytes:
    """The IP packet of `frame` with its checksum complete; a super-segment as one packet.

    A frame whose virtio header makes no sense is recorded as it is.
    """
    if not frame.startswith(NO_GSO, GSO_TYPE_AT):
        # The partial checksum of a super-segment is that of the whole as one long packet.
        frame = frame[:GSO_TYPE_AT] + NO_GSO + frame[GSO_TYPE_AT + 1 :]
    with suppress(MalformedPacket):
        frame = complete_checksum(frame)
    return frame[HEADER_LEN:]
