"""What a stack needs from the thing that carries its packets.

A frame is a 10-byte virtio_net_hdr (`ustack.wire.virtio`) followed by one IPv4 or IPv6 packet,
on every device: one without offload carries ten zero bytes, which mean "the checksum is complete".
The device knows no connection and reads no clock; `now` is µs, monotonic, given by the caller.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from ustack.wire import Buffer


class Device(Protocol):
    """A network interface, seen from the stack.

    The driver reads when the descriptor is readable, or when `on_readable` was called and there
    is no descriptor, or when `next_deadline()` has come.
    """

    mtu: int
    gso_max: int
    """Largest IP packet (super-segment) that `write` takes; 0: nothing above the MTU.

    Above 65 535: BIG TCP, an IPv4 packet that is longer than its total length can say has 0 there
    and is as long as the frame, as between Linux and its own devices. A device that says "full"
    may have lowered it, but not below 65 535."""
    checksum_offload: bool
    """Whether `write` takes NEEDS_CSUM, and `read` may return it."""
    on_readable: Callable[[], None] | None
    """Called by a device without a descriptor when frames wait or a deadline moved. It must only
    schedule a read: the device may be in the middle of a call."""

    def fileno(self) -> int:
        """The descriptor to poll, or -1: then `on_readable` is used."""
        ...

    def read(self, budget: int, now: int) -> list[bytes]:
        """Up to `budget` frames that are due; [] when there are none.

        Also moves held frames of the other direction on. Raises OSError only when the device is
        gone for good (the interface was removed): the driver must stop polling it.
        """
        ...

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        """True when the frame, the concatenation of `parts`, was taken (or lost, as links do).

        `parts[0]` starts with the virtio header. False: the device is full and took nothing; the
        same frame can be offered again when the descriptor is writable or `on_readable` is called.
        The buffers are the caller's again on return.
        """
        ...

    def next_deadline(self) -> int | None:
        """When (µs) a held frame of either direction becomes due; `read` then moves it on."""
        ...

    def close(self) -> None:
        """Releases the descriptor. A second call does nothing."""
        ...
