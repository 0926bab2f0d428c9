"""Who owns a packet: flow key -> connection, handshake or TIME-WAIT; listeners; local ports.

The key of a flow is what an arriving packet shows in a row: source address, destination address,
source port, destination port (12 bytes for IPv4, 36 for IPv6).
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2s

from ustack.errors import AddressInUse, AddressNotAvailable, UsageError
from ustack.stack.listener import Listener
from ustack.stack.syn_request import SynRequest
from ustack.stack.time_wait import TimeWait
from ustack.tcp.tcb import Tcb

Flow = Tcb | SynRequest | TimeWait  # what holds a pair of addresses and ports


def flow_key(remote: bytes, local: bytes, remote_port: int, local_port: int) -> bytes:
    """The key under which segments of this connection arrive."""
    return b"".join((remote, local, remote_port.to_bytes(2, "big"), local_port.to_bytes(2, "big")))


@lru_cache(maxsize=256)  # a new connection is asked for it half a dozen times
def split_key(flow: bytes) -> tuple[bytes, bytes, int, int]:
    """Remote address, local address, remote port, local port."""
    size = (len(flow) - 4) // 2
    return (
        flow[:size],
        flow[size : 2 * size],
        int.from_bytes(flow[-4:-2], "big"),
        int.from_bytes(flow[-2:], "big"),
    )


def check_port(port: int) -> None:
    """UsageError if `port` is none."""
    if not 0 <= port <= 65535:
        raise UsageError(f"not a port: {port}")


class FlowTable:
    """The tables of one stack. `table` is read directly by `Stack.input`."""

    __slots__ = ("_counter", "_ports", "_secret", "listeners", "table")

    def __init__(self, ports: tuple[int, int], secret: bytes) -> None:
        self.table: dict[bytes, Flow] = {}
        self.listeners: dict[int, list[Listener]] = {}
        self._ports = ports
        self._secret = secret
        self._counter = 0

    def listen(self, listener: Listener) -> None:
        """Enter `listener`. AddressInUse if its address and port overlap with another's."""
        others = self.listeners.setdefault(listener.port, [])
        for other in others:
            if other.key is None or listener.key is None or other.key == listener.key:
                raise AddressInUse(f"port {listener.port}")
        others.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Remove `listener`."""
        others = self.listeners[listener.port]
        others.remove(listener)
        if not others:
            del self.listeners[listener.port]

    def listener(self, address: bytes, port: int) -> Listener | None:
        """Who accepts connections to our `address` and `port`."""
        for listener in self.listeners.get(port, ()):
            if listener.key is None or listener.key == address:
                return listener
        return None

    def choose_port(
        self, remote: bytes, local: bytes, remote_port: int, reusable: Callable[[TimeWait], bool]
    ) -> int:
        """A local port that no other connection to this remote end uses (RFC 6056 §3.3.3).

        The search starts at a keyed hash of the remote end plus a counter, so a port tells nothing
        of other connections and is not soon used again. A TIME-WAIT for which `reusable` holds
        does not block its port. AddressNotAvailable when every port is held.
        """
        first, last = self._ports
        count = last - first + 1
        digest = blake2s(
            remote + local + remote_port.to_bytes(2, "big"),
            key=self._secret,
            digest_size=4,
            person=b"port",
        ).digest()
        offset = int.from_bytes(digest, "big")
        suffix = remote + local + remote_port.to_bytes(2, "big")
        table, listeners = self.table, self.listeners
        for _ in range(count):
            port = first + (offset + self._counter) % count
            self._counter += 1
            if port in listeners:
                continue
            holder = table.get(suffix + port.to_bytes(2, "big"))
            if holder is None or (type(holder) is TimeWait and reusable(holder)):
                return port
        raise AddressNotAvailable("every ephemeral port towards this peer is held")

    def free_listening_port(self) -> int:
        """A port for a listener that did not name one. AddressNotAvailable if none is free."""
        first, last = self._ports
        for _ in range(last - first + 1):
            port = first + self._counter % (last - first + 1)
            self._counter += 1
            if port not in self.listeners:
                return port
        raise AddressNotAvailable("every ephemeral port has a listener")
