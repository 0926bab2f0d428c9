"""The socket under test, and what translates between its script space and its live space.

Owns the rules of language §10: which socket a packet of the script is about, where its ISNs,
ports and timestamps are learnt from, and how numbers are shifted. Sends and compares nothing.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from ustack.drill.packets import Endpoints, LivePacket, ip_of
from ustack.drill.script import (
    ACE_FLAGS,
    ACE_SHIFT,
    IcmpPacket,
    IpInfo,
    Quoted,
    Sack,
    Settings,
    TcpOption,
    TcpPacket,
    Timestamp,
)
from ustack.wire import ipv4
from ustack.wire.tcp import ACK, SYN

FIRST_REMOTE_PORT = 49152  # RFC 6335 §6: the dynamic ports; each child gets the next one
MASK32 = 0xFFFF_FFFF


class MappingError(Exception):
    """A packet of the script cannot be translated; the text says why."""


class Stage(Enum):
    """How much is known of a socket under test."""

    NEW = "new"
    LISTENING = "listening"
    CONNECTING = "connecting"
    SYN_SENT = "SYN sent"
    SYN_ACKED = "SYN acknowledged"
    PACKET_RECEIVED = "packet received"
    SYNACK_SENT = "SYN-ACK sent"
    SYNACK_ACKED = "SYN-ACK acknowledged"


@dataclass(slots=True)
class TestedSocket:
    """One socket of the script. ISNs that are not known yet count as 0."""

    __test__ = False  # no class of tests

    stage: Stage = Stage.NEW
    fd: int | None = None  # as the script calls it
    outbound: Endpoints | None = None  # from the stack to the remote host
    remote_isn: int = 0
    live_local_isn: int = 0
    script_local_isn: int = 0
    stamps: dict[int, int] = field(default_factory=dict)  # written TS val -> live
    stamp_base: tuple[int, int] | None = None  # the first pair
    flow_label: tuple[int, int] | None = None  # (script, live)
    bound_port: int | None = None  # by bind(); None: the one of the settings
    target: tuple[bytes, int] | None = None  # of connect(); None: the one of the settings
    datagram: bool = False  # SOCK_DGRAM

    # Live to script

    def to_script(self, live: LivePacket, expected: TcpPacket) -> TcpPacket:
        """The live packet in the numbers of the script, with the IP fields that `expected` names.

        A flow label is shown as the script calls it when it is the one of that name.
        """
        header = live.header
        assert header is not None
        syn = bool(header.flags & SYN)
        seq_shift = self.live_local_isn - (self.script_local_isn if syn else 0)
        ack_shift = 0 if syn else self.remote_isn
        mapped = header.flags & ACK and not expected.ack_absolute
        ack = (header.ack - ack_shift) & MASK32 if mapped else header.ack
        ace = None
        if expected.ace is not None:
            ace = (header.flags & ACE_FLAGS) >> ACE_SHIFT
        return TcpPacket(
            header.flags,
            header.seq if expected.absolute else (header.seq - seq_shift) & MASK32,
            len(live.payload),
            ack,
            header.window,
            header.urgent,
            tuple(self._option_to_script(option, ack_shift) for option in live.options),
            ip=self.ip_to_script(live, expected.ip),
            absolute=expected.absolute,
            ace=ace,
            udp_ports=live.udp_ports,
            ack_absolute=expected.ack_absolute,
        )

    def _option_to_script(self, option: TcpOption, ack_shift: int) -> TcpOption:
        if isinstance(option, Sack):
            return Sack(tuple(_shifted(block, -ack_shift) for block in option.blocks))
        if isinstance(option, Timestamp) and self.stamp_base is not None and option.val is not None:
            script0, live0 = self.stamp_base
            return replace(option, val=(script0 + option.val - live0) & MASK32)
        return option

    def ip_to_script(self, live: LivePacket, expected: IpInfo) -> IpInfo:
        """The fields of the IP header that `expected` names, a known flow label by its name."""
        seen = ip_of(live, expected)
        known = self.flow_label
        if expected.flow_label is not None and known is not None and known[1] == live.flow_label:
            return replace(seen, flow_label=known[0])
        return seen

    def learn_label(self, live: LivePacket, expected: IpInfo) -> None:
        """The first label names the flow, and so does one that is new to script and wire."""
        label, known = expected.flow_label, self.flow_label
        if label is not None and live.flow_label:
            if known is None or (label != known[0] and live.flow_label != known[1]):
                self.flow_label = label, live.flow_label

    def learn(self, live: LivePacket, expected: TcpPacket) -> None:
        """Takes what a packet sent by the stack teaches: our ISN, timestamps, the flow label.

        Called before `to_script`.
        """
        header = live.header
        assert header is not None
        if header.flags & SYN:
            written = header.seq if expected.seq is None else expected.seq
            if not header.flags & ACK and self.stage is Stage.CONNECTING:
                self.outbound = live.endpoints
                self.live_local_isn, self.script_local_isn = header.seq, written
                self.stage = Stage.SYN_SENT
            elif header.flags & ACK and self.stage is Stage.PACKET_RECEIVED:
                self.live_local_isn, self.script_local_isn = header.seq, written
                self.stage = Stage.SYNACK_SENT
        live_stamp = _stamp(live.options)
        written_stamp = _stamp(expected.options or ())
        if live_stamp and written_stamp and live_stamp.val is not None:
            if written_stamp.val is not None:
                self.stamps[written_stamp.val] = live_stamp.val
                self.stamp_base = self.stamp_base or (written_stamp.val, live_stamp.val)
        self.learn_label(live, expected.ip)

    # Script to live

    def to_live(self, packet: TcpPacket, ecr_scaled: bool) -> TcpPacket:
        """The written inbound packet in the numbers of the wire. Raises MappingError."""
        syn = bool(packet.flags & SYN)
        ack_shift = self.live_local_isn - (self.script_local_isn if syn else 0)
        seq, ack = packet.seq or 0, packet.ack
        if not syn and not packet.absolute:
            seq = (seq + self.remote_isn) & MASK32
        if packet.flags & ACK and not packet.ack_absolute:
            ack = (ack + ack_shift) & MASK32
        options = tuple(
            self._option_to_live(option, packet, ack_shift, ecr_scaled)
            for option in packet.options or ()
        )
        return replace(packet, seq=seq, ack=ack, options=options)

    def _option_to_live(
        self, option: TcpOption, packet: TcpPacket, ack_shift: int, ecr_scaled: bool
    ) -> TcpOption:
        if isinstance(option, Sack):
            return Sack(tuple(_shifted(block, ack_shift) for block in option.blocks))
        if not isinstance(option, Timestamp) or option.ecr_absolute or not packet.flags & ACK:
            return option
        if option.ecr in self.stamps:
            return replace(option, ecr=self.stamps[option.ecr])
        if ecr_scaled and self.stamp_base is not None and option.ecr is not None:
            script0, live0 = self.stamp_base
            return replace(option, ecr=(option.ecr - script0 + live0) & MASK32)
        raise MappingError(
            f"unable to infer live TS ecr: no outbound packet was written with val {option.ecr}"
        )

    def quoted_sequence(self, packet: IcmpPacket) -> int:
        """The live sequence number that an ICMP message quotes."""
        return (packet.seq + self.live_local_isn) & MASK32


class SocketsUnderTest:
    """All sockets of a script; `current` is the one that its packets are about."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = ipaddress.ip_address(settings.local_address).packed
        self._remote = ipaddress.ip_address(settings.remote_address).packed
        self._sockets: list[TestedSocket] = []
        self._ports: Iterator[int] = iter(range(FIRST_REMOTE_PORT, 65536))
        self.current: TestedSocket | None = None

    # System calls that name sockets

    def created(self, fd: int, *, datagram: bool = False) -> None:
        """`socket()` returned the script's `fd`."""
        self._add(TestedSocket(fd=fd, datagram=datagram))

    def bound(self, fd: int, port: int) -> None:
        """`bind(fd)` asked for that port."""
        socket = self.by_fd(fd)
        if socket is not None:
            socket.bound_port = port

    def listening(self, fd: int) -> None:
        """`listen(fd)` succeeded."""
        socket = self.by_fd(fd)
        if socket is not None:
            socket.stage = Stage.LISTENING

    def connecting(self, fd: int, target: tuple[str, int] | None = None) -> None:
        """`connect(fd)` or a sendto with an address begins. `target` None: that of the settings."""
        socket = self.by_fd(fd)
        if socket is not None and socket.stage is Stage.NEW:
            socket.stage = Stage.CONNECTING
        if socket is not None and target is not None:
            socket.target = ipaddress.ip_address(target[0]).packed, target[1]

    def sends_from(self, fd: int, local_port: int) -> None:
        """The datagram socket `fd` has that port and its target: their way is known."""
        socket = self.by_fd(fd)
        if socket is not None and socket.datagram:
            address, port = self._target(socket)
            socket.outbound = Endpoints(self._local, address, local_port, port)

    def _target(self, socket: TestedSocket) -> tuple[bytes, int]:
        return socket.target or (self._remote, self._settings.connect_port)

    def disconnected(self, fd: int) -> None:
        """`connect(fd, AF_UNSPEC)`: as if it were new, but the socket of the script stays."""
        socket = self.by_fd(fd)
        if socket is not None:
            socket.stage = Stage.NEW
            socket.target = None

    def accepted(self, fd: int, remote_port: int) -> None:
        """`accept()` returned `fd` for a connection from that port of the remote host."""
        for socket in reversed(self._sockets):
            if socket.stage in (Stage.SYNACK_SENT, Stage.SYNACK_ACKED) and socket.outbound:
                if socket.outbound.destination_port == remote_port and socket.fd is None:
                    socket.fd = fd
                    return

    def closed(self, fd: int) -> None:
        """The number `fd` may be given to another socket."""
        socket = self.by_fd(fd)
        if socket is not None:
            socket.fd = None

    def by_fd(self, fd: int) -> TestedSocket | None:
        """The newest socket that the script calls `fd`."""
        return next((socket for socket in reversed(self._sockets) if socket.fd == fd), None)

    def described_fd(self) -> int | None:
        """Whose TCP_INFO a snippet sees: the socket under test, before accept() its listener."""
        if self.current is not None and self.current.stage is Stage.PACKET_RECEIVED:
            listeners = (each.fd for each in self._sockets if each.stage is Stage.LISTENING)
            return next((fd for fd in listeners if fd is not None), None)
        return self.current.fd if self.current is not None else None

    # Packets

    def inbound(self, packet: TcpPacket) -> tuple[TcpPacket, Endpoints]:
        """The packet to inject, in live numbers, and its way. Raises MappingError."""
        socket = self.current
        if socket is None or socket.stage is Stage.LISTENING:
            port = socket.bound_port if socket is not None else None
            socket = self._add(TestedSocket(stage=Stage.PACKET_RECEIVED, bound_port=port))
            socket.outbound = self._passive_endpoints(port)
            socket.remote_isn = packet.seq or 0
        elif socket.outbound is None:
            # A socket that is only bound: a packet to a port where nobody listens.
            socket.outbound = self._passive_endpoints(socket.bound_port)
        if socket.stage is Stage.SYN_SENT and packet.flags & (SYN | ACK) == SYN | ACK:
            socket.remote_isn = packet.seq or 0
            socket.stage = Stage.SYN_ACKED
        elif socket.stage is Stage.SYNACK_SENT and packet.flags & ACK:
            socket.stage = Stage.SYNACK_ACKED
        assert socket.outbound is not None
        endpoints = _with_ports(socket.outbound.reverse, packet.ports)
        return socket.to_live(packet, self._settings.ts_ecr_scaled), endpoints

    def icmp(self, packet: IcmpPacket) -> tuple[IcmpPacket, Endpoints, Endpoints]:
        """The message to inject, its way, and the way of the packet it quotes."""
        socket = self.current
        way = Endpoints(self._remote, self._local)
        if packet.identifier is not None or packet.quoted is Quoted.RAW:
            return packet, way, way.reverse
        if socket is None or socket.outbound is None:
            raise MappingError("there is no connection that an ICMP message could be about")
        if packet.quoted is Quoted.TCP:
            packet = replace(packet, seq=socket.quoted_sequence(packet))
        return packet, way, socket.outbound

    def udp_endpoints(self, ports: tuple[int, int] | None) -> Endpoints:
        """The way of an inbound datagram; written `ports` that are not 0 hold."""
        socket = self.current
        if socket is not None and socket.datagram and socket.outbound is None:
            number = socket.bound_port or self._settings.bind_port
            self.sends_from(socket.fd if socket.fd is not None else -1, number)
        if socket is not None and socket.outbound is not None:
            way = socket.outbound.reverse
        else:
            way = self._passive_endpoints().reverse
        return _with_ports(way, ports)

    def is_current(self, live: LivePacket) -> bool:
        """Whether a packet sent by the stack belongs to the socket under test."""
        socket = self.current
        if socket is None or live.header is None:
            return False
        if socket.outbound is not None and socket.stage is not Stage.CONNECTING:
            return live.endpoints == socket.outbound
        return (
            socket.stage is Stage.CONNECTING
            and live.header.flags & (SYN | ACK) == SYN
            and (live.endpoints.destination, live.endpoints.destination_port)
            == self._target(socket)
        )

    def is_current_datagram(self, live: LivePacket, ports: tuple[int, int] | None) -> bool:
        """The same for a UDP datagram; written `ports` that are not 0 hold."""
        if live.protocol != ipv4.UDP:
            return False
        socket = self.current
        if socket is None or socket.outbound is None:
            return self.to_remote(live)
        return live.endpoints == _with_ports(socket.outbound, ports)

    def to_remote(self, live: LivePacket) -> bool:
        """Whether a packet goes to the remote host at all."""
        return live.endpoints.destination == self._remote

    def _add(self, socket: TestedSocket) -> TestedSocket:
        self._sockets.append(socket)
        self.current = socket
        return socket

    def _passive_endpoints(self, bound_port: int | None = None) -> Endpoints:
        port = bound_port or self._settings.bind_port
        return Endpoints(self._local, self._remote, port, next(self._ports))


def _with_ports(way: Endpoints, ports: tuple[int, int] | None) -> Endpoints:
    """`way` with the ports that a script writes; 0 means those of the way."""
    if ports is None:
        return way
    return replace(
        way,
        source_port=ports[0] or way.source_port,
        destination_port=ports[1] or way.destination_port,
    )


def _shifted(block: tuple[int, int], shift: int) -> tuple[int, int]:
    return (block[0] + shift) & MASK32, (block[1] + shift) & MASK32


def _stamp(options: tuple[TcpOption, ...]) -> Timestamp | None:
    return next((option for option in options if isinstance(option, Timestamp)), None)
