"""IP and what it carries beside TCP: checked addresses, reassembly, echo, ICMP errors, UDP.

`Stack.input` takes the common TCP layouts straight to their connections; all other packets come
through here, by the book.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from ustack.errors import MalformedPacket
from ustack.stack import icmp as icmp_errors
from ustack.stack.reassembly import MAX_PAYLOAD, Datagram, Reassembler
from ustack.stack.services import Services
from ustack.stack.udp import Udp
from ustack.tcp.rate_limit import RateLimit
from ustack.tcp.tcb import Tcb
from ustack.wire import icmp, ipv4, ipv6, udp, virtio
from ustack.wire.ecn import ecn_field
from ustack.wire.gso import complete_checksum
from ustack.wire.ipv4 import TCP

UDP = 17  # IP protocol number
START = virtio.HEADER_LEN  # where the IP header begins in a frame


class DeliverTcp(Protocol):
    """Where TCP segments go: frame[start:end], which `arrived` brought."""

    def __call__(
        self, frame: bytes, src: bytes, dst: bytes, start: int, end: int, arrived: bytes, now: int
    ) -> None: ...


class IpInput:
    """The receiving half of IP and ICMP of one stack."""

    def __init__(
        self,
        services: Services,
        deliver_tcp: DeliverTcp,
        udp_ports: Udp,
        changed: Callable[[Tcb], None],
    ) -> None:
        """`changed` is told of each connection that an ICMP error has changed."""
        self._config = services.config
        self._addresses = services.addresses
        self._flows = services.flows
        self._path_mtus = services.path_mtus
        self._output = services.output
        self._wheel = services.wheel
        self._counters = services.counters
        self._probe = services.probe
        self._randrange = services.randrange
        self._deliver_tcp = deliver_tcp
        self._udp = udp_ports
        self._changed = changed
        self._reassembler = Reassembler(self._config.max_fragments)
        self._icmp_limit = RateLimit(self._config.icmp_per_second)

    def input(self, frame: bytes, now: int) -> None:
        """Any IP packet, by the book: verified, reassembled, handed to its protocol."""
        if len(frame) <= START:
            raise MalformedPacket("frame-truncated")
        if frame[START] >> 4 == 4:
            v4 = ipv4.decode(frame, START)
            self.check_addresses(v4.src, v4.dst)
            start = START + v4.header_len
            end = START + v4.total_length
            if v4.more_fragments or v4.fragment_offset:
                header = frame[START:start]
                key: tuple[object, ...] = (v4.src, v4.dst, v4.protocol, v4.ident)
                self._fragment(
                    key, v4.fragment_offset, v4.more_fragments, frame[start:end], header, frame, now
                )
                return
            self._deliver(frame, v4.protocol, v4.src, v4.dst, start, end, frame, now)
        elif frame[START] >> 4 == 6:
            v6 = ipv6.decode(frame, START)
            self.check_addresses(v6.src, v6.dst)
            if v6.problem is not None:
                self._icmp_error(
                    frame,
                    v6.src,
                    v6.dst,
                    icmp.V6_PARAMETER_PROBLEM,
                    v6.problem.code,
                    v6.problem.pointer,
                    now,
                )
                raise MalformedPacket("ipv6-problem")
            if v6.fragment is not None:
                header6 = bytes([v6.protocol]) + frame[START : START + 40]
                self._fragment(
                    (v6.src, v6.dst, v6.fragment.ident),
                    v6.fragment.offset,
                    v6.fragment.more,
                    frame[v6.payload_offset : v6.end],
                    header6,
                    frame,
                    now,
                )
                return
            self._deliver(frame, v6.protocol, v6.src, v6.dst, v6.payload_offset, v6.end, frame, now)
        else:
            raise MalformedPacket("ip-version")

    def check_addresses(self, src: bytes, dst: bytes) -> None:
        """Martians are dropped in silence (MUST-57, MUST-63; RFC 1122 §3.2.1.3)."""
        if not self._addresses.is_unicast(src):
            raise MalformedPacket("martian-source")
        if self._addresses.is_own(src):
            raise MalformedPacket("own-source")
        if not self._addresses.is_own(dst):
            raise MalformedPacket(
                "not-our-address" if self._addresses.is_unicast(dst) else "not-unicast"
            )

    def _fragment(
        self,
        key: tuple[object, ...],
        offset: int,
        more: bool,
        data: bytes,
        header: bytes,
        arrived: bytes,
        now: int,
    ) -> None:
        """One piece of a datagram; the last one missing delivers the whole."""
        datagram, reason, dropped = self._reassembler.add(
            key, offset, more, data, header, ecn_field(arrived, START)
        )
        for gone in dropped:
            self._wheel.cancel(gone)
            self._counters["fragments-evicted"] += 1
        if datagram is None:
            raise MalformedPacket(reason)
        whole = self._reassembler.whole(datagram)
        if whole is None:
            if offset == 0:
                datagram.quote = arrived
            if datagram.slot is None:
                self._wheel.insert(datagram, now + self._config.fragment_timeout_us, now)
            self._seen(arrived, now)
            return
        self._wheel.cancel(self._reassembler.drop(datagram))
        first = datagram.first
        ecn = self._reassembler.ecn_field(datagram)
        assert first is not None
        if ecn is None:
            raise MalformedPacket("fragment-ecn")
        self._counters["datagrams-reassembled"] += 1
        if len(first) == 41:  # IPv6: the protocol, then the fixed header
            protocol, src, dst = first[0], first[9:25], first[25:41]
            head = ipv6.encode(src, dst, protocol, len(whole), hop_limit=first[8], ecn=ecn)
        else:
            protocol, src, dst = first[9], first[12:16], first[16:20]
            options = first[ipv4.HEADER_LEN :]
            if len(first) + len(whole) > MAX_PAYLOAD:
                raise MalformedPacket("fragment-length")  # RFC 791 §3.1: no header can say so
            head = ipv4.encode(
                src, dst, protocol, len(whole), ttl=first[8], options=options, ecn=ecn
            )
        frame = virtio.PLAIN + head + whole
        self._deliver(frame, protocol, src, dst, START + len(head), len(frame), arrived, now)

    def _deliver(
        self,
        frame: bytes,
        protocol: int,
        src: bytes,
        dst: bytes,
        start: int,
        end: int,
        arrived: bytes,
        now: int,
    ) -> None:
        """A whole datagram for us: frame[start:end] is the payload of `protocol`.

        `arrived` is what the probe is shown: the frame itself, or the last piece of the datagram.
        """
        if protocol == TCP:
            self._deliver_tcp(frame, src, dst, start, end, arrived, now)
            return
        if protocol == ipv4.ICMP and len(src) == 4:
            message = icmp.decode_v4(memoryview(frame)[start:end])
            if message.type == icmp.V4_ECHO_REQUEST:
                self._echo(src, dst, icmp.V4_ECHO_REPLY, message, now)
            elif message.type != icmp.V4_ECHO_REPLY:
                self._icmp_error_arrives(message, 4, now)
        elif protocol == ipv6.ICMPV6 and len(src) == 16:
            message = icmp.decode_v6(memoryview(frame)[start:end], src, dst)
            if message.type == icmp.V6_ECHO_REQUEST:
                self._echo(src, dst, icmp.V6_ECHO_REPLY, message, now)
            elif message.type < icmp.V6_ECHO_REQUEST:  # RFC 4443 §2.1: errors are below 128
                self._icmp_error_arrives(message, 6, now)
        elif protocol == UDP:
            self._deliver_udp(frame, src, dst, start, end, now)
        elif len(src) == 4:
            self._counters["unknown-protocol"] += 1
            self._icmp_error(
                frame, src, dst, icmp.V4_UNREACHABLE, icmp.V4_PROTOCOL_UNREACHABLE, 0, now
            )
        elif protocol != ipv6.NO_NEXT_HEADER:
            self._counters["unknown-protocol"] += 1
            pointer = ipv6.decode(frame, START).next_header_at
            self._icmp_error(
                frame,
                src,
                dst,
                icmp.V6_PARAMETER_PROBLEM,
                ipv6.UNKNOWN_NEXT_HEADER,
                pointer,
                now,
            )
        self._seen(arrived, now)

    def _seen(self, arrived: bytes, now: int) -> None:
        if self._probe is not None:
            self._probe.received(arrived, "", now)

    def timed_out(self, datagram: Datagram, now: int) -> None:
        """Pieces were still missing when its time was up.

        The sender is told so if the first piece is here (RFC 1122 §3.3.2, RFC 8200 §4.5).
        """
        self._counters["fragments-timed-out"] += 1
        self._reassembler.drop(datagram)
        frame = datagram.quote
        if not frame:
            return
        if frame[START] >> 4 == 4:
            kind, src, dst = icmp.V4_TIME_EXCEEDED, frame[22:26], frame[26:30]
        else:
            kind, src, dst = icmp.V6_TIME_EXCEEDED, frame[18:34], frame[34:50]
        self._icmp_error(frame, src, dst, kind, icmp.REASSEMBLY_TIME_EXCEEDED, 0, now)

    def _deliver_udp(
        self, frame: bytes, src: bytes, dst: bytes, start: int, end: int, now: int
    ) -> None:
        """To the socket that has the port. Without one, a port unreachable tells the sender
        (RFC 1122 §4.1.3.1)."""
        header = udp.decode(frame, start, end)
        if not frame[0] & virtio.CHECKSUM_KNOWN:
            udp.verify(header, src, dst, frame, start)
        if self._udp.arrives(frame, src, dst, header, start):
            return
        self._counters["udp-no-port"] += 1
        if len(src) == 4:
            kind, code = icmp.V4_UNREACHABLE, icmp.V4_PORT_UNREACHABLE
        else:
            kind, code = icmp.V6_UNREACHABLE, icmp.V6_PORT_UNREACHABLE
        self._icmp_error(frame, src, dst, kind, code, 0, now)

    def _icmp_error(
        self, frame: bytes, src: bytes, dst: bytes, kind: int, code: int, rest: int, now: int
    ) -> None:
        """Send an ICMP error about `frame`, which came from `src`, within the rate limit."""
        if not self._icmp_limit.allow(now):
            self._counters["icmp-limited"] += 1
            return
        with suppress(MalformedPacket):  # a super-segment is quoted as it is
            frame = complete_checksum(frame)
        message = icmp_errors.error_message(dst, src, kind, code, rest, frame[START:])
        protocol = ipv4.ICMP if len(src) == 4 else ipv6.ICMPV6
        self._output.packet(dst, src, protocol, message, "")

    def _echo(self, src: bytes, dst: bytes, kind: int, message: icmp.IcmpMessage, now: int) -> None:
        """Echo reply (RFC 1122 §3.2.2.6, RFC 4443 §4.2)."""
        if not self._icmp_limit.allow(now):
            self._counters["icmp-limited"] += 1
            return
        self._counters["echo-requests"] += 1
        if len(src) == 4:
            reply = icmp.encode_v4(kind, 0, message.rest, message.body)
            protocol = ipv4.ICMP
        else:
            reply = icmp.encode_v6(dst, src, kind, 0, message.rest, message.body)
            protocol = ipv6.ICMPV6
        head = 20 if len(src) == 4 else 40
        if head + len(reply) > self._config.mtu:
            self._output.fragments(dst, src, protocol, reply, self._config.mtu, self._randrange)
        else:
            self._output.packet(dst, src, protocol, reply, "")

    def _icmp_error_arrives(self, message: icmp.IcmpMessage, version: int, now: int) -> None:
        quote = icmp.quoted(message.body, version)
        if quote.protocol == UDP:
            self._counters[self._udp.error_arrives(message, version, quote, now)] += 1
            return
        outcome, changed = icmp_errors.error_arrives(
            message, version, quote, self._flows, self._path_mtus, now
        )
        self._counters[outcome] += 1
        for tcb in changed:
            self._changed(tcb)
