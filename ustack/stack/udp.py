"""UDP (RFC 768, RFC 1122 §4.1): who gets a datagram, how much waits for them, and the way out.

Owns ports and bounded queues. What a socket makes of them is in `udp_socket`.
"""

import errno
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ustack.errors import (
    AddressInUse,
    AddressNotAvailable,
    NetworkUnreachable,
    NoBufferSpace,
    os_error,
)
from ustack.stack.flows import check_port, flow_key
from ustack.stack.icmp_meaning import Meaning, meaning, next_hop_mtu
from ustack.stack.ip import flow_label, packed_address
from ustack.stack.services import Services
from ustack.stack.socket_address import UNSPECIFIED
from ustack.tcp.tcb import READABLE, SOFT_ERROR, Endpoint
from ustack.wire import Buffer, icmp, ipv4, ipv6, udp, virtio

Remote = tuple[bytes, int]  # address and port

MAX_MEANINGS = 64  # errors of one port that nobody has asked for
OVERHEAD = 768  # bytes charged for a datagram beside its data; about what Linux's truesize adds
DEFAULT_LIMIT = 212_992  # bytes; Linux net.core.rmem_default
MAX_DATAGRAM_V4 = 65_535 - ipv4.HEADER_LEN - udp.HEADER_LEN  # bytes of data; RFC 791 §3.1
MAX_DATAGRAM_V6 = 65_535 - udp.HEADER_LEN  # RFC 8200 §3


@dataclass(slots=True, frozen=True)
class Datagram:
    """One that waits to be read. `ttl`, `tos`: of its IP header; `local`: where it was sent to."""

    payload: bytes
    source: Endpoint
    local: str
    ttl: int
    tos: int


class UdpPort:
    """Where datagrams for a local address and port arrive.

    `events` and `user` are as those of a Tcb. `local` None: every address of ours.
    """

    __slots__ = (
        "dropped",
        "events",
        "held",
        "limit",
        "local",
        "meanings",
        "number",
        "queue",
        "remote",
        "reuse",
        "user",
        "version",
    )

    def __init__(
        self, local: bytes | None, number: int, reuse: tuple[bool, bool], version: int | None
    ) -> None:
        self.local = local
        self.number = number
        self.reuse = reuse  # SO_REUSEADDR, SO_REUSEPORT
        self.version = version  # of IP, 4 or 6; None: both
        self.remote: Remote | None = None  # datagrams of others are not for it
        self.queue: deque[Datagram] = deque()
        self.held = 0  # bytes charged to the queue
        self.limit = DEFAULT_LIMIT
        self.dropped = 0  # datagrams that found no room
        self.meanings: deque[Meaning] = deque(maxlen=MAX_MEANINGS)  # of ICMP errors about it
        self.events = 0
        self.user: object = None


@dataclass(slots=True, frozen=True)
class Sending:
    """How a datagram leaves. `dont_fragment`: DF is set; `refuse`: too large is EMSGSIZE."""

    ttl: int
    tos: int = 0
    dont_fragment: bool = True
    refuse: bool = False


class Udp:
    """The datagrams of one stack."""

    def __init__(self, services: Services, told: Callable[[UdpPort], None]) -> None:
        """`told` is told of each port that has events."""
        self._config = services.config
        self._addresses = services.addresses
        self._path_mtus = services.path_mtus
        self._output = services.output
        self._counters = services.counters
        self._randrange = services.randrange
        self._secret = services.secret
        self._told = told
        self._ports: dict[int, list[UdpPort]] = {}
        self._count = 0
        self._held = 0

    # Ports

    def open(
        self,
        address: str,
        number: int,
        reuse: tuple[bool, bool] = (False, False),
        version: int | None = None,
    ) -> UdpPort:
        """Datagrams to our `address` ("": any of them) and port `number` (0: any free one) are
        taken from here on, of that IP version or both (None). AddressInUse, AddressNotAvailable,
        NoBufferSpace, UsageError."""
        check_port(number)
        local: bytes | None = None
        if address not in UNSPECIFIED:
            local = packed_address(address)
            if not self._addresses.is_own(local):
                raise AddressNotAvailable(address)
        if self._count >= self._config.max_udp_sockets:
            raise NoBufferSpace("too many datagram sockets")
        if not number:
            number = self._free_port()
        made = UdpPort(local, number, reuse, version)
        others = self._ports.setdefault(number, [])
        if any(_exclude(made, other) for other in others):
            raise AddressInUse(f"UDP port {number}")
        others.append(made)
        self._count += 1
        return made

    def close(self, port: UdpPort) -> None:
        """What comes for it is refused from here on; what waits is gone."""
        others = self._ports[port.number]
        others.remove(port)
        if not others:
            del self._ports[port.number]
        self._count -= 1
        self._held -= port.held
        port.held = 0
        port.queue.clear()
        port.user = None

    def _free_port(self) -> int:
        """A random port that nobody holds (RFC 6056 §3.3.1). AddressNotAvailable."""
        first, last = self._config.ephemeral_ports
        count = last - first + 1
        start = self._randrange(count)
        for step in range(count):
            number = first + (start + step) % count
            if number not in self._ports:
                return number
        raise AddressNotAvailable("every ephemeral UDP port is held")

    def source(self, port: UdpPort, remote: bytes) -> bytes:
        """Our address for datagrams of `port` to `remote`; EAFNOSUPPORT, NetworkUnreachable, EACCES
        for broadcast and multicast."""
        if port.version not in (None, 4 if len(remote) == 4 else 6):
            raise os_error(errno.EAFNOSUPPORT)
        if not self._addresses.is_unicast(remote):
            raise os_error(errno.EACCES)
        local = port.local or self._addresses.source_for(remote)
        if local is None or len(local) != len(remote):
            raise NetworkUnreachable(self._addresses.text(remote))
        return local

    # Out

    def send(
        self, port: UdpPort, remote: Remote, payload: Buffer, sending: Sending, now: int
    ) -> None:
        """The datagram leaves at the next flush, in fragments if it is larger than the path takes.

        NetworkUnreachable; EACCES for broadcast and multicast, EMSGSIZE for what is too large.
        """
        address, number = remote
        local = self.source(port, address)
        if len(payload) > (MAX_DATAGRAM_V4 if len(address) == 4 else MAX_DATAGRAM_V6):
            raise os_error(errno.EMSGSIZE)
        datagram = udp.encode_datagram(local, address, port.number, number, payload)
        label = 0
        if len(address) == 16:  # RFC 6437 §3
            label = flow_label(flow_key(address, local, number, port.number), self._secret)
        mtu = self.path_mtu(address, now)
        head = ipv4.HEADER_LEN if len(address) == 4 else ipv6.HEADER_LEN
        if head + len(datagram) > mtu:
            if sending.refuse:
                raise os_error(errno.EMSGSIZE)
            self._counters["udp-sent"] += 1
            self._output.fragments(
                local,
                address,
                ipv4.UDP,
                datagram,
                mtu,
                self._randrange,
                ttl=sending.ttl,
                tos=sending.tos,
                label=label,
            )
            return
        header = self._header(local, address, len(datagram), sending, label)
        frame = virtio.PLAIN + header + datagram
        if self._output.send((frame,), ""):
            self._counters["udp-sent"] += 1
        else:
            self._counters["udp-send-full"] += 1

    def path_mtu(self, remote: bytes, now: int) -> int:
        """The largest IP packet that reaches `remote`, bytes."""
        return self._path_mtus.get(remote, self._config.mtu, now)

    def _header(
        self, local: bytes, remote: bytes, size: int, sending: Sending, label: int
    ) -> bytes:
        dscp, ecn = sending.tos >> 2, sending.tos & 3
        if len(remote) == 16:
            return ipv6.encode(
                local,
                remote,
                ipv4.UDP,
                size,
                hop_limit=sending.ttl,
                dscp=dscp,
                ecn=ecn,
                flow_label=label,
            )
        return ipv4.encode(
            local,
            remote,
            ipv4.UDP,
            size,
            ttl=sending.ttl,
            dscp=dscp,
            ecn=ecn,
            # RFC 6864 §4.1: without DF the identification tells pieces apart
            ident=0 if sending.dont_fragment else self._randrange(1 << 16),
            dont_fragment=sending.dont_fragment,
        )

    # In

    def arrives(
        self, frame: bytes, src: bytes, dst: bytes, header: udp.UdpHeader, start: int
    ) -> bool:
        """Queue the verified datagram frame[start:] for its port. False: nobody has the port."""
        port = self._find(src, dst, header.src_port, header.dst_port)
        if port is None:
            return False
        charge = header.length + OVERHEAD
        if port.held and port.held + charge > port.limit:  # Linux: an empty queue takes any one
            self._drop(port, "udp-receive-full")
            return True
        if self._held + charge > self._config.udp_memory:
            self._drop(port, "udp-memory")
            return True
        ttl, tos = _ttl_and_tos(frame)
        text = self._addresses.text
        source = Endpoint(text(src), header.src_port)
        payload = frame[start + udp.HEADER_LEN : start + header.length]
        port.queue.append(Datagram(payload, source, text(dst), ttl, tos))
        port.held += charge
        self._held += charge
        self._counters["udp-received"] += 1
        port.events |= READABLE
        self._told(port)
        return True

    def _drop(self, port: UdpPort, reason: str) -> None:
        port.dropped += 1
        self._counters[reason] += 1

    def take(self, port: UdpPort) -> Datagram:
        """The oldest datagram, which must be there."""
        taken = port.queue.popleft()
        charge = len(taken.payload) + udp.HEADER_LEN + OVERHEAD
        port.held -= charge
        self._held -= charge
        return taken

    def error_arrives(
        self, message: icmp.IcmpMessage, version: int, quote: icmp.Quoted, now: int
    ) -> str:
        """An ICMP error that quotes a datagram of ours. Returns a counter's name.

        Whoever has the port hears of it (RFC 1122 §4.1.3.3); what is too big lowers the path MTU.
        """
        port = self._find(quote.dst, quote.src, quote.dst_port, quote.src_port)
        if port is None:
            return "icmp-no-socket"
        told = meaning(message, version)
        if told is None:
            return "icmp-ignored"
        if told.errno == errno.EMSGSIZE:
            mtu = next_hop_mtu(message, version, self.path_mtu(quote.dst, now))
            if mtu is None:
                return "icmp-bad-mtu"
            self._path_mtus.lower(quote.dst, mtu, now)
        port.meanings.append(told)
        port.events |= SOFT_ERROR
        self._told(port)
        return "icmp-udp-error"

    def _find(self, remote: bytes, local: bytes, remote_port: int, number: int) -> UdpPort | None:
        """Whose datagram it is: a connected port before one with an address before the others."""
        best, found = 0, None
        for port in reversed(self._ports.get(number, ())):
            score = 1
            if port.version not in (None, 4 if len(remote) == 4 else 6):
                continue
            if port.local is not None:
                if port.local != local:
                    continue
                score += 1
            if port.remote is not None:
                if port.remote != (remote, remote_port):
                    continue
                score += 2
            if score > best:
                best, found = score, port
        return found


def _exclude(one: UdpPort, other: UdpPort) -> bool:
    """Both cannot be open (socket(7) SO_REUSEADDR, SO_REUSEPORT)."""
    if one.local is not None and other.local is not None and one.local != other.local:
        return False
    if one.version != other.version and None not in (one.version, other.version):
        return False
    return not any(mine and theirs for mine, theirs in zip(one.reuse, other.reuse, strict=True))


def _ttl_and_tos(frame: bytes) -> tuple[int, int]:
    """Of the IP header of a frame."""
    at = virtio.HEADER_LEN
    if frame[at] >> 4 == 4:
        return frame[at + 8], frame[at + 1]
    return frame[at + 7], (frame[at] << 4 | frame[at + 1] >> 4) & 0xFF
