"""A device made of a callable: any transport that can carry IP packets (a VPN, USB, a socket, ...).

There is no descriptor and no virtio header outside: plain IPv4 and IPv6 packets go out through
`send` and come in through `feed`, both in the thread of the driver.
"""

from collections import deque
from collections.abc import Callable, Sequence

from ustack.wire import Buffer
from ustack.wire.virtio import HEADER_LEN

NO_OFFLOAD = bytes(HEADER_LEN)  # checksum complete, not a super-segment
DEFAULT_QUEUE = 1024  # packets; Linux txqueuelen of an Ethernet device: 1000


class ChannelDevice:
    """Carries packets out by `send(packet)` and in by `feed(packet)`.

    `send` gets whole IP packets and may raise BlockingIOError for "full, nothing taken"; the
    stack then keeps the packet until `resume` is called. Any other OSError loses the packet.

    >>> sent: list[bytes] = []
    >>> channel = ChannelDevice(sent.append, mtu=1400)
    >>> channel.feed(b"an IP packet")
    >>> [frame[10:] for frame in channel.read(64, now=0)]
    [b'an IP packet']
    """

    def __init__(
        self, send: Callable[[bytes], None], *, mtu: int = 1500, queue: int = DEFAULT_QUEUE
    ) -> None:
        self.mtu = mtu
        self.gso_max = 0
        self.checksum_offload = False
        self.on_readable: Callable[[], None] | None = None
        self.dropped = 0  # packets fed while `queue` packets were waiting, or after close
        self.send_errors = 0  # packets that `send` failed on
        self._send = send
        self._queue = queue
        self._waiting: deque[bytes] = deque()
        self._closed = False

    def feed(self, packet: Buffer) -> None:
        """The packet waits to be read (a copy), or is dropped and counted: the queue is full."""
        if self._closed or len(self._waiting) >= self._queue:
            self.dropped += 1
            return
        self._waiting.append(NO_OFFLOAD + packet)
        if self.on_readable is not None:
            self.on_readable()

    def resume(self) -> None:
        """`send` takes packets again after it raised BlockingIOError."""
        if self.on_readable is not None:
            self.on_readable()

    def fileno(self) -> int:
        return -1

    def read(self, budget: int, now: int) -> list[bytes]:
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(budget, len(waiting)))]

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        if self._closed:
            return True
        try:
            self._send(b"".join(parts)[HEADER_LEN:])
        except BlockingIOError:
            return False
        except OSError:
            self.send_errors += 1
        return True

    def next_deadline(self) -> int | None:
        return None

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
