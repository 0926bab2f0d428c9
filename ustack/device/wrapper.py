"""What every device around a device has in common."""

from collections.abc import Callable

from ustack.device.base import Device
from ustack.wire.ipv4 import MAX_PACKET


class WrapperDevice:
    """To its user as large and as readable as the inner device."""

    def __init__(self, inner: Device) -> None:
        self.mtu = inner.mtu
        self.gso_max = min(inner.gso_max, MAX_PACKET)  # what looks into frames knows no BIG TCP
        self.checksum_offload = inner.checksum_offload
        self._inner = inner

    @property
    def on_readable(self) -> Callable[[], None] | None:
        return self._inner.on_readable

    @on_readable.setter
    def on_readable(self, callback: Callable[[], None] | None) -> None:
        self._inner.on_readable = callback

    def fileno(self) -> int:
        return self._inner.fileno()
