"""Two devices in memory, connected by a link with faults, in virtual time.

Two stacks over one `Link` are a whole network without a clock or a socket: the test moves `now`
to the next deadline, reads, writes. The same seed and the same frames give the same run.
"""

import random
from collections.abc import Callable, Sequence

from ustack.device.faults import Faults, LinkConfig
from ustack.wire import Buffer

__all__ = ["Link", "LinkConfig", "LinkEnd"]


class LinkEnd:
    """One end of a `Link`: a Device without a descriptor.

    `on_readable` of the other end is called from inside `write`.
    """

    def __init__(self, incoming: Faults, outgoing: Faults, *, mtu: int, gso_max: int) -> None:
        self.mtu = mtu
        self.gso_max = gso_max
        self.checksum_offload = gso_max > 0
        self.on_readable: Callable[[], None] | None = None
        self.peer: LinkEnd | None = None
        self.closed = False
        self._incoming = incoming
        self._outgoing = outgoing

    def fileno(self) -> int:
        return -1

    def read(self, budget: int, now: int) -> list[bytes]:
        return self._incoming.due(now, budget)

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        """Always True: a link that is too slow drops at the tail of its queue."""
        peer = self.peer
        if self.closed or peer is None or peer.closed:
            return True
        self._outgoing.accept(b"".join(parts), now)
        if peer.on_readable is not None:
            peer.on_readable()
        return True

    def next_deadline(self) -> int | None:
        return self._incoming.next_deadline()

    def close(self) -> None:
        self.closed = True
        self._incoming.clear()


class Link:
    """Two ends, `a` and `b`; what `a` writes passes through the faults of `config_ab`, and back.

    `config_ba` None: the same as `config_ab` (with draws of its own). With `gso_max` the ends
    take super-segments and partial checksums; they arrive whole unless a fault needs wire packets.
    """

    def __init__(
        self,
        seed: int = 1,
        config_ab: LinkConfig | None = None,
        config_ba: LinkConfig | None = None,
        mtu: int = 1500,
        gso_max: int = 0,
    ) -> None:
        config_ab = config_ab or LinkConfig()
        self.ab = Faults(config_ab, random.Random(2 * seed))
        self.ba = Faults(config_ba or config_ab, random.Random(2 * seed + 1))
        self.a = LinkEnd(incoming=self.ba, outgoing=self.ab, mtu=mtu, gso_max=gso_max)
        self.b = LinkEnd(incoming=self.ab, outgoing=self.ba, mtu=mtu, gso_max=gso_max)
        self.a.peer, self.b.peer = self.b, self.a

    def next_deadline(self) -> int | None:
        """When either end has a frame to read, µs; None: nothing is on the way."""
        times = [at for at in (self.ab.next_deadline(), self.ba.next_deadline()) if at is not None]
        return min(times, default=None)
