"""A Stack under test on a virtual clock, and peers played by hand, segment by segment.

Numbers are relative, as in packetdrill: SEQ of the peer and the ACKs of ours count from the
peer's ISN, SEQ of ours and the ACKs of the peer from our ISN; the SYN is 0, the first octet 1.
Both ISNs are 0xFFFF_FF00, so positions wrap after 256 octets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from ipaddress import ip_address
from random import Random

import pytest

from ustack.config import StackConfig, TcpConfig
from ustack.stack.listener import Listener
from ustack.stack.stack import Stack
from ustack.stack.trace import Tracer
from ustack.stack.udp import UdpPort
from ustack.tcp.tcb import Tcb
from ustack.wire import Buffer, gso, icmp, ipv4, ipv6, tcp, virtio
from ustack.wire.checksum import checksum, fold, ones_sum, pseudo_sum
from ustack.wire.tcp_options import Options, decode_options, encode_options

ISN = 0xFFFF_FF00  # of both ends
MS = 1_000  # µs
SECOND = 1_000_000  # µs
MSS = 1000  # bytes; what peers announce: the same size of segments over IPv4 and IPv6

SECRET = bytes(range(16))
OURS = {4: "10.0.0.1", 6: "fd00::1"}
THEIRS = {4: "10.0.0.2", 6: "fd00::2"}
OUR_PORT = 80
PEER_PORT = 40000

both_versions = pytest.mark.parametrize("version", [4, 6], ids=("IPv4", "IPv6"))

FLAGS = {
    "F": tcp.FIN,
    "S": tcp.SYN,
    "R": tcp.RST,
    "P": tcp.PSH,
    ".": tcp.ACK,
    "U": tcp.URG,
    "E": tcp.ECE,
    "W": tcp.CWR,
}


def packed(address: str) -> bytes:
    return ip_address(address).packed


def ip_frame(src: str, dst: str, protocol: int, payload: bytes, **fields: int) -> bytes:
    """One IP packet of either version behind an all-zero virtio header."""
    encode = ipv4.encode if ":" not in src else ipv6.encode
    return (
        virtio.PLAIN
        + encode(packed(src), packed(dst), protocol, len(payload), **fields)  # type: ignore[arg-type]
        + payload
    )


def tcp_segment(
    src: str,
    dst: str,
    src_port: int,
    dst_port: int,
    seq: int,
    ack: int,
    flags: int,
    payload: bytes = b"",
    *,
    win: int = 65535,
    options: bytes = b"",
    urgent: int = 0,
) -> bytes:
    """A TCP header and payload with a good checksum. `seq`, `ack`: as on the wire."""
    options += bytes(-len(options) % 4)
    head = tcp.encode(src_port, dst_port, seq, ack, flags, win, options=options, urgent=urgent)
    pseudo = pseudo_sum(packed(src), packed(dst), ipv4.TCP, len(head) + len(payload))
    field = checksum(pseudo.to_bytes(2, "big"), head, payload)
    return head[:16] + field.to_bytes(2, "big") + head[18:] + payload


@dataclass(frozen=True, slots=True)
class Sent:
    """One wire packet that left the stack."""

    at: int  # µs
    frame: bytes
    protocol: int
    src: bytes
    dst: bytes
    ip_length: int  # bytes, IP header included
    dont_fragment: bool
    hop_limit: int
    dscp: int
    payload: bytes  # of the IP packet

    @property
    def ecn(self) -> int:
        """The ECN field of the IP header, RFC 3168 §5."""
        first, second = self.frame[virtio.HEADER_LEN : virtio.HEADER_LEN + 2]
        return second & 3 if first >> 4 == 4 else second >> 4 & 3

    @property
    def icmp(self) -> icmp.IcmpMessage:
        if self.protocol == ipv4.ICMP:
            return icmp.decode_v4(self.payload)
        assert self.protocol == ipv6.ICMPV6
        return icmp.decode_v6(self.payload, self.src, self.dst)


@dataclass(frozen=True, slots=True)
class Reply:
    """One segment from the stack to a peer, numbers relative."""

    at: int  # µs
    flags: str  # "SF RPU." letters in tcpdump's order
    seq: int
    ack: int
    window: int  # the field
    urgent: int
    options: Options
    payload: bytes
    packet: Sent

    def __str__(self) -> str:
        """As packetdrill writes it, without window and options."""
        end = self.seq + len(self.payload) + ("S" in self.flags) + ("F" in self.flags)
        text = f"{self.flags} {self.seq}:{end}({len(self.payload)})"
        return f"{text} ack {self.ack}" if "." in self.flags else text


def parse(frame: bytes, at: int) -> Sent:
    """The packet in `frame`, every checksum of it verified."""
    if frame[virtio.HEADER_LEN] >> 4 == 4:
        v4 = ipv4.decode(frame, virtio.HEADER_LEN)
        start, end = virtio.HEADER_LEN + v4.header_len, virtio.HEADER_LEN + v4.total_length
        sent = Sent(
            at, frame, v4.protocol, v4.src, v4.dst, v4.total_length, v4.dont_fragment, v4.ttl,
            v4.dscp, frame[start:end],
        )  # fmt: skip
        fragment = v4.more_fragments or v4.fragment_offset > 0
    else:
        v6 = ipv6.decode(frame, virtio.HEADER_LEN)
        end = v6.end
        sent = Sent(
            at, frame, v6.protocol, v6.src, v6.dst, 40 + v6.payload_length, True, v6.hop_limit,
            v6.dscp, frame[v6.payload_offset : end],
        )  # fmt: skip
        fragment = v6.fragment is not None
    assert end == len(frame)
    if sent.protocol == ipv4.TCP and not fragment:
        total = pseudo_sum(sent.src, sent.dst, ipv4.TCP, len(sent.payload)) + ones_sum(sent.payload)
        assert fold(total) == 0xFFFF, "bad TCP checksum"
    return sent


@cache
def start_of_clock(version: int) -> int:
    """When a SYN,ACK to the default peer has the sequence number ISN.

    The ISN is a 4 µs clock plus a hash of the flow (RFC 6528 §3): a first stack tells the hash.
    """
    host = Host(version, now=0)
    host.listen()
    peer = Peer(host)
    peer.send("S", 0)
    return 4 * ((ISN - peer.our_isn) & 0xFFFF_FFFF)


class Host:
    """The stack under test, its device and its clock. Every call is followed by a driver's turn.

    `frames` are the packets that left and that nobody has looked at yet, super-segments cut;
    `events` what the stack reported. Without an `onlooker` there are no `notes`.
    `room`: how many frames the device still takes, None: all.
    Text is not paced unless `tcp` asks for it, or `pacing` leaves it to the round trip: what the
    window lets out is seen at once.
    """

    def __init__(
        self,
        version: int = 4,
        tcp: TcpConfig | None = None,
        *,
        now: int | None = None,
        tracer: Tracer | None = None,
        pacing: bool | None = False,
        onlooker: bool = True,
        **stack_config: object,
    ) -> None:
        self.version = version
        self.now = start_of_clock(version) if now is None else now
        addresses = (f"{OURS[4]}/24", f"{OURS[6]}/64")
        tcp = tcp or TcpConfig()
        if tcp.pacing is None:
            tcp = replace(tcp, pacing=pacing)
        config = StackConfig(addresses=addresses, tcp=tcp)
        config = replace(config, **stack_config)  # type: ignore[arg-type]
        self.notes: list[str] = []  # of frames received and sent, the empty ones left out
        self.stack = Stack(
            config,
            secret=SECRET,
            randrange=Random(1).randrange,
            probe=self if onlooker else None,
            tracer=tracer,
        )
        self.frames: list[Sent] = []
        self.super_segments: list[bytes] = []  # frames as the device got them, if they were cut
        self.events: list[tuple[Tcb | Listener | UdpPort, int]] = []
        self.room: int | None = None

    # Probe
    def received(self, frame: bytes, note: str, now: int) -> None:
        if note:
            self.notes.append(note)

    def sent(self, parts: Sequence[Buffer], note: str, now: int) -> None:
        if note:
            self.notes.append(note)

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        """The device."""
        assert now == self.now
        if self.room is not None:
            if not self.room:
                return False
            self.room -= 1
        frame = b"".join(bytes(part) for part in parts)
        pieces = gso.split(frame)
        if len(pieces) > 1:
            self.super_segments.append(frame)
        self.frames += [parse(piece, now) for piece in pieces]
        return True

    def turn(self) -> bool:
        """Packets out, events up."""
        done = self.stack.flush(self.now, self.write)
        self.events += self.stack.take_events()
        return done

    def input(self, frame: bytes) -> None:
        self.stack.input(frame, self.now)
        self.turn()

    def advance(self, us: int) -> None:
        """Let time pass, waking the stack when it asked for it."""
        end = self.now + us
        for _ in range(100_000):
            at = self.stack.next_deadline()
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            self.stack.handle_timeouts(self.now)
            self.turn()
        else:
            raise AssertionError("the stack wakes up again and again")
        self.now = end

    def drain(self) -> list[Sent]:
        """What left since the last look."""
        frames, self.frames = self.frames, []
        return frames

    def events_of(self, subject: Tcb | Listener | UdpPort) -> int:
        """Flags reported of `subject` since the last look, or-ed together."""
        flags = 0
        for each, event in self.events:
            if each is subject:
                flags |= event
        self.events = [pair for pair in self.events if pair[0] is not subject]
        return flags

    def drops(self) -> dict[str, int]:
        return {reason: count for reason, count in self.stack.counters.items() if count}

    # User calls
    def listen(self, port: int = OUR_PORT, **options: object) -> Listener:
        return self.stack.listen(port, self.now, **options)  # type: ignore[arg-type]

    def send(self, tcb: Tcb, data: bytes, *, urgent: bool = False) -> int:
        taken = self.stack.send(tcb, data, self.now, urgent=urgent)
        self.turn()
        return taken

    def read(self, tcb: Tcb, limit: int = 1 << 30) -> bytes:
        """Everything readable, up to `limit`."""
        out = b""
        while len(out) < limit:
            chunk = self.stack.receive(tcb, limit - len(out), self.now)
            if not chunk:
                break
            out += chunk
        self.turn()
        return out

    def shutdown(self, tcb: Tcb) -> None:
        self.stack.shutdown(tcb, self.now)
        self.turn()

    def close(self, tcb: Tcb) -> None:
        self.stack.close(tcb, self.now)
        self.turn()

    def abort(self, tcb: Tcb) -> None:
        self.stack.abort(tcb, self.now)
        self.turn()

    def accept(self) -> Tcb:
        """The next connection of the first listener that has one."""
        for listener in self.stack.listeners():
            tcb = self.stack.accept(listener)
            if tcb is not None:
                self.turn()
                return tcb
        raise AssertionError("nothing to accept")

    def is_clean(self) -> bool:
        """No connection, no timer, nothing to send."""
        stack = self.stack
        return not stack.connections() and not stack.pending_timers() and not self.frames


class Peer:
    """The other end of one connection. It keeps no state but what the test sets.

    `tsval` not None: segments carry timestamps, TSecr is the last TSval heard.
    """

    def __init__(self, host: Host, port: int = PEER_PORT, our_port: int = OUR_PORT) -> None:
        self.host = host
        self.src, self.dst = THEIRS[host.version], OURS[host.version]
        self.port, self.our_port = port, our_port
        self.isn = ISN
        self.our_isn = ISN  # until the first SYN is heard
        self._heard_syn = False
        self.tsval: int | None = None
        self.tsecr = 0

    def frame(
        self,
        flags: str,
        seq: int,
        ack: int = 0,
        payload: bytes = b"",
        *,
        win: int = 65535,
        options: bytes | None = None,
        sack: Sequence[tuple[int, int]] = (),
        urgent: int = 0,
        ecn: int = 0,
        ace: int | None = None,
    ) -> bytes:
        bits = 0
        for letter in flags:
            bits |= FLAGS[letter]
        if ace is not None:  # (AE, CWR, ECE) as one number, RFC 9768 §3.2.2
            bits |= (
                (tcp.AE if ace & 4 else 0)
                | (tcp.CWR if ace & 2 else 0)
                | (tcp.ECE if ace & 1 else 0)
            )
        if options is None:
            edges = tuple(
                ((self.our_isn + a) & 0xFFFF_FFFF, (self.our_isn + b) & 0xFFFF_FFFF)
                for a, b in sack
            )
            options = encode_options(tsval=self.tsval, tsecr=self.tsecr, sack=edges)
        segment = tcp_segment(
            self.src,
            self.dst,
            self.port,
            self.our_port,
            (self.isn + seq) & 0xFFFF_FFFF,
            (self.our_isn + ack) & 0xFFFF_FFFF if "." in flags else 0,
            bits,
            payload,
            win=win,
            options=options,
            urgent=urgent,
        )
        return ip_frame(self.src, self.dst, ipv4.TCP, segment, ecn=ecn)

    def put(
        self, flags: str, seq: int, ack: int = 0, payload: bytes = b"", **options: object
    ) -> None:
        """The stack gets a segment as one of a batch: its turn comes later."""
        frame = self.frame(flags, seq, ack, payload, **options)  # type: ignore[arg-type]
        self.host.stack.input(frame, self.host.now)

    def send(
        self, flags: str, seq: int, ack: int = 0, payload: bytes = b"", **options: object
    ) -> list[str]:
        """The stack gets a segment and has its turn. Returns what it answered, as text."""
        self.put(flags, seq, ack, payload, **options)
        self.host.turn()
        return self.heard()

    def replies(self) -> list[Reply]:
        """The segments to this peer since the last look."""
        mine, others = [], []
        for sent in self.host.frames:
            reply = self._reply(sent)
            if reply is None:
                others.append(sent)
            else:
                mine.append(reply)
        self.host.frames = others
        return mine

    def heard(self) -> list[str]:
        return [str(reply) for reply in self.replies()]

    def reply(self) -> Reply:
        """The one segment since the last look."""
        (reply,) = self.replies()
        return reply

    def _reply(self, sent: Sent) -> Reply | None:
        if sent.protocol != ipv4.TCP:
            return None
        header = tcp.decode(sent.payload, 0, len(sent.payload))
        if (sent.dst, header.dst_port, header.src_port) != (
            packed(self.src),
            self.port,
            self.our_port,
        ):
            return None
        options = decode_options(sent.payload, 20, header.data_offset)
        assert not options.malformed
        if options.tsval is not None:
            self.tsecr = options.tsval
        if header.flags & tcp.SYN and not self._heard_syn:
            self.our_isn, self._heard_syn = header.seq, True
        seq = relative(header.seq, self.our_isn)
        if not self._heard_syn and header.flags == tcp.RST | tcp.ACK:
            seq = header.seq  # the answer to what belongs to no connection: <SEQ=0>
        letters = "".join(letter for letter in "FSRPUEW." if header.flags & FLAGS[letter])
        return Reply(
            sent.at,
            letters,
            seq,
            relative(header.ack, self.isn) if header.flags & tcp.ACK else 0,
            header.window,
            header.urgent,
            options,
            sent.payload[header.data_offset :],
            sent,
        )

    def relative_sack(self, options: Options) -> list[tuple[int, int]]:
        """SACK blocks of a reply, counted as the peer counts."""
        return [(relative(a, self.isn), relative(b, self.isn)) for a, b in options.sack]

    # The handshake and what follows from it

    def syn_options(
        self, mss: int | None, wscale: int | None, sack: bool, tsval: int | None, tsecr: int = 0
    ) -> bytes:
        return encode_options(mss=mss, wscale=wscale, sack_permitted=sack, tsval=tsval, tsecr=tsecr)

    def establish(
        self,
        *,
        mss: int | None = MSS,
        wscale: int | None = None,
        sack: bool = False,
        tsval: int | None = None,
        win: int = 65535,
        rtt: int = 0,
    ) -> Tcb:
        """A passive open by the stack, accepted; `rtt`: how long our SYN,ACK takes."""
        host = self.host
        if all(listener.port != self.our_port for listener in host.stack.listeners()):
            host.listen(self.our_port)
        options = self.syn_options(mss, wscale, sack, tsval)
        (answer,) = self.send("S", 0, options=options, win=win)
        assert answer == "S. 0:1(0) ack 1"
        self.tsval = tsval
        host.advance(rtt)
        assert self.send(".", 1, 1, win=win) == []
        return host.accept()

    def connected(
        self,
        *,
        config: TcpConfig | None = None,
        mss: int | None = MSS,
        wscale: int | None = None,
        sack: bool = False,
        tsval: int | None = None,
        win: int = 65535,
        rtt: int = 0,
    ) -> Tcb:
        """An active open by the stack."""
        tcb = self.connect(config)
        self.heard()
        self.host.advance(rtt)
        options = self.syn_options(mss, wscale, sack, tsval, self.tsecr)
        assert self.send("S.", 0, 1, options=options, win=win) == [". 1:1(0) ack 1"]
        self.tsval = tsval
        return tcb

    def connect(self, config: TcpConfig | None = None) -> Tcb:
        """The stack's SYN is on its way."""
        host = self.host
        tcb = host.stack.connect(
            self.src, self.port, host.now, local_port=self.our_port, config=config
        )
        host.turn()
        return tcb


def relative(low32: int, base: int) -> int:
    """How far `low32` lies beyond `base`, negative if before."""
    return (low32 - base + 0x8000_0000 & 0xFFFF_FFFF) - 0x8000_0000


def established(
    version: int = 4,
    tcp: TcpConfig | None = None,
    *,
    sack: bool = False,
    tsval: int | None = None,
    win: int = 65535,
    rtt: int = 0,
    gso_max: int = 0,
    checksum_offload: bool = False,
) -> tuple[Host, Peer, Tcb]:
    """A host, a peer, and a connection between them that the host has opened."""
    host = Host(version, tcp, gso_max=gso_max, checksum_offload=checksum_offload)
    peer = Peer(host)
    return host, peer, peer.establish(sack=sack, tsval=tsval, win=win, rtt=rtt)
