"""TCP in UDP as FreeBSD has it (as RFC 6951 does for SCTP), between the wire and the stack.

What arrives in UDP for the tunnelling port is unpacked and is plain TCP to the stack; what the
stack sends on that connection is shown as packed, to the UDP port that the peer used. Announced
segment sizes are less by a UDP header. FreeBSD: tcp(4) TCP_REMOTE_UDP_ENCAPS_PORT, net.inet.tcp.
udp_tunneling_port; a connection keeps to its encapsulation, and what comes otherwise is dropped.
"""

import errno
from collections.abc import Callable
from dataclasses import replace

from ustack.drill.packets import LivePacket
from ustack.drill.script import Mss
from ustack.drill.tcp_options import decode_options, encode_options
from ustack.errors import os_error
from ustack.stack.flows import flow_key
from ustack.stack.sockets import Socket
from ustack.wire import ipv4, ipv6, tcp, udp
from ustack.wire.checksum import checksum, pseudo_sum

OVERHEAD = udp.HEADER_LEN  # bytes; net.inet.tcp.udp_tunneling_overhead
MAX_FLOWS = 4096  # connections remembered; the oldest goes


class UdpTunnel:
    """The tunnelled connections of one stack. `port` is ours; 0: there is no tunnelling.

    None: no command has said so, and the first packet decides.
    """

    def __init__(self, mtu: int, in_use: Callable[[bytes], bool], *, expected: bool) -> None:
        """`in_use`: the stack has a connection of that key (`ustack.stack.flows`).

        `expected`: the script has packets that are tunnelled.
        """
        self.port: int | None = None if expected else 0
        self._mtu = mtu
        self._in_use = in_use
        self._ports: dict[bytes, int] = {}  # flow: UDP port of the peer
        self._asked: dict[Socket, int] = {}  # by socket option

    # Socket option

    def ask(self, socket: Socket, port: int) -> None:
        """The connection that `socket` will open is tunnelled to that port; EINVAL."""
        started = socket.tcb is not None or socket.listener is not None
        if started or not 0 <= port <= 65535 or (port and self.port == 0):
            raise os_error(errno.EINVAL)
        self._asked[socket] = port

    def asked(self, socket: Socket) -> int:
        """The UDP port of its peer, 0: it is not tunnelled."""
        known = self._ports.get(socket.tcb.flow, 0) if socket.tcb is not None else 0
        return known or self._asked.get(socket, 0)

    # Packets

    def arrives(self, packet: bytes) -> bytes | None:
        """The packet for the stack, unpacked if it was tunnelled; None: it is dropped."""
        protocol, start, src, dst = _network_header(packet)
        if protocol == ipv4.TCP:
            key = _key(packet, start, src, dst)
            if key in self._ports and self._in_use(key):
                return None
            self._ports.pop(key, None)
            return packet
        if protocol != ipv4.UDP:
            return packet
        outer = udp.decode(packet, start, len(packet))
        if self.port is None and len(packet) - start >= udp.HEADER_LEN + tcp.HEADER_LEN:
            self.port = outer.dst_port
        inner = start + udp.HEADER_LEN
        if not self.port or outer.dst_port != self.port or len(packet) - inner < tcp.HEADER_LEN:
            return packet
        key = _key(packet, inner, src, dst)
        if self._in_use(key) and self._ports.get(key) != outer.src_port:
            return None
        self._remember(key, outer.src_port)
        return _plain(packet, start, self._lessened(packet[inner:], src, dst), src, dst)

    def leaves(self, live: LivePacket) -> LivePacket:
        """The packet as it is on the wire: with the UDP ports of its tunnel, if it goes by one."""
        if live.header is None:
            return live
        ends = live.endpoints
        key = flow_key(ends.destination, ends.source, ends.destination_port, ends.source_port)
        port = self._ports.get(key)
        if port is None:
            sockets = (s for s in self._asked if s.tcb is not None and s.tcb.flow == key)
            port = next((self._asked[socket] for socket in sockets), 0)
            if not port:
                return live
            self._remember(key, port)
        options = tuple(
            Mss(option.value - OVERHEAD) if isinstance(option, Mss) else option
            for option in live.options
        )
        return replace(live, options=options, udp_ports=(self.port or 0, port))

    def _remember(self, key: bytes, port: int) -> None:
        if key not in self._ports and len(self._ports) >= MAX_FLOWS:
            del self._ports[next(iter(self._ports))]
        self._ports[key] = port

    def _lessened(self, segment: bytes, src: bytes, dst: bytes) -> bytes:
        """A SYN whose MSS option leaves room for the UDP header on our link."""
        head = ipv4.HEADER_LEN if len(src) == 4 else ipv6.HEADER_LEN
        room = self._mtu - head - tcp.HEADER_LEN - OVERHEAD
        end = min((segment[12] >> 4) * 4, len(segment))
        options = segment[tcp.HEADER_LEN : end]
        if segment[13] & tcp.SYN:
            lessened = (
                Mss(min(option.value, room)) if isinstance(option, Mss) else option
                for option in decode_options(options)
            )
            options = encode_options(tuple(lessened))
        # Under UDP's checksum that of TCP need not be right, so it is made anew
        made = bytearray(segment[:16] + b"\0\0" + segment[18 : tcp.HEADER_LEN])
        made += options + segment[end:]
        pseudo = pseudo_sum(src, dst, ipv4.TCP, len(made))
        made[16:18] = checksum(pseudo.to_bytes(2, "big"), made).to_bytes(2, "big")
        return bytes(made)


def _network_header(packet: bytes) -> tuple[int, int, bytes, bytes]:
    """Protocol, where its header begins, source and destination of a packet of the player."""
    if packet[0] >> 4 == 4:
        return packet[9], (packet[0] & 0xF) * 4, packet[12:16], packet[16:20]
    return packet[6], ipv6.HEADER_LEN, packet[8:24], packet[24:40]


def _key(packet: bytes, start: int, src: bytes, dst: bytes) -> bytes:
    ports = packet[start : start + 4]
    return flow_key(src, dst, int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big"))


def _plain(packet: bytes, start: int, segment: bytes, src: bytes, dst: bytes) -> bytes:
    """`segment` behind the IP header packet[:start], as TCP."""
    if packet[0] >> 4 == 4:
        four = ipv4.decode(packet, 0)
        head = ipv4.encode(
            src, dst, ipv4.TCP, len(segment), ttl=four.ttl, dscp=four.dscp, ecn=four.ecn
        )
    else:
        size = len(segment).to_bytes(2, "big")
        head = packet[:4] + size + bytes((ipv4.TCP,)) + packet[7:start]
    return head + segment
