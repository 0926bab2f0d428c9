"""What the stack under test sends in IP fragments, as the datagram that a script line means."""

from ustack.drill.packets import LivePacket, decode
from ustack.stack.reassembly import Reassembler
from ustack.wire import ipv4, ipv6

MEMORY = 1 << 20  # bytes of pieces


class Defragmenter:
    """Joins the pieces that one stack sends."""

    def __init__(self) -> None:
        self._reassembler = Reassembler(MEMORY)

    def feed(self, packet: bytes, time_us: int) -> LivePacket | None:
        """The packet, or the whole that it completes; None: pieces are missing.

        Raises MalformedPacket.
        """
        if packet[:1] and packet[0] >> 4 == 6:
            six = ipv6.decode(packet, 0)
            if six.fragment is None:
                return decode(packet, time_us)
            body = packet[six.payload_offset : six.end]
            key = six.src, six.dst, six.fragment.ident
            offset, more = six.fragment.offset, six.fragment.more
            whole = self._join(key, offset, more, body)
            if whole is None:
                return None
            head = ipv6.encode(
                six.src,
                six.dst,
                six.protocol,
                len(whole),
                hop_limit=six.hop_limit,
                dscp=six.dscp,
                ecn=six.ecn,
                flow_label=six.flow_label,
            )
            return decode(head + whole, time_us)
        four = ipv4.decode(packet, 0)
        if not (four.more_fragments or four.fragment_offset):
            return decode(packet, time_us)
        body = packet[four.header_len : four.total_length]
        whole = self._join(
            (four.src, four.dst, four.ident), four.fragment_offset, four.more_fragments, body
        )
        if whole is None:
            return None
        head = ipv4.encode(
            four.src,
            four.dst,
            four.protocol,
            len(whole),
            ttl=four.ttl,
            dscp=four.dscp,
            ecn=four.ecn,
        )
        return decode(head + whole, time_us)

    def _join(
        self, key: tuple[bytes, bytes, int], offset: int, more: bool, body: bytes
    ) -> bytes | None:
        datagram, _, _ = self._reassembler.add(key, offset, more, body, b"first")
        whole = self._reassembler.whole(datagram) if datagram is not None else None
        if datagram is not None and whole is not None:
            self._reassembler.drop(datagram)
        return whole
