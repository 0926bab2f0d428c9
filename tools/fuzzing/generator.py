"""What happens next: hostile segments aimed at the edges of a live connection, and all the rest.

The generator looks at the connection as no attacker could, so that most segments land within a few
octets of a decision. All choices come from one `Random`, which may also be a recorded tape.
"""

import struct
from collections.abc import Callable
from random import Random

from tools.fuzzing.packets import icmp_frame, ip_fragment, ip_frame, marked, tcp_segment
from tools.fuzzing.subject import PORT, Subject, addresses, pattern
from tools.fuzzing.trace import Step
from tools.fuzzing.variants import FAST_OPEN_KEY, RECONFIGURED
from ustack.stack.flows import split_key
from ustack.tcp.fast_open import make_cookie, split_keys
from ustack.tcp.state import (
    CLOSE_WAIT,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT_1,
    FIN_WAIT_2,
    LAST_ACK,
    SYN_RECEIVED,
    SYN_SENT,
    TIME_WAIT,
    State,
)
from ustack.tcp.tcb import Tcb
from ustack.wire import icmp, ipv4, ipv6, virtio
from ustack.wire.ecn import CE, ECT0, ECT1
from ustack.wire.tcp import ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, URG
from ustack.wire.tcp_options import encode_options

MS = 1_000  # µs
SECOND = 1_000_000  # µs
PEER_PORTS = range(40_000, 40_004)
LOCAL_PORTS = range(50_000, 50_003)
FLAGS = (ACK, ACK, ACK, ACK | PSH, ACK | FIN, ACK | URG, FIN, SYN, SYN | ACK, RST, RST | ACK, 0)
TARGETS = (
    SYN_SENT, SYN_RECEIVED, ESTABLISHED, ESTABLISHED, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2,
    CLOSE_WAIT, CLOSING, LAST_ACK, TIME_WAIT,
)  # fmt: skip
MASK32 = 0xFFFF_FFFF
ECT_SHARE = 0.2  # of the segments say ECT or CE, agreed or not
ECE_SHARE = 0.1  # ... ECE, CWR or AE


class Generator:
    """The peers, the attacker, the user and the clock of one subject."""

    def __init__(self, random: Random, subject: Subject) -> None:
        self.random = random
        self.subject = subject
        self.theirs, self.ours = addresses(subject.setup.version)
        self.ident = 0
        self._moves: tuple[tuple[int, Callable[[], None]], ...] = (
            (40, self.hostile_segment),
            (25, self.honest_move),
            (20, self.user_call),
            (12, self.let_time_pass),
            (6, self.icmp_error),
            (4, self.fragments),
            (4, self.handshake_packet),
            (3, self.half_open_segment),
            (3, self.noise),
            (2, self.device),
        )
        self._weights = [weight for weight, _ in self._moves]

    def run(self, steps: int) -> None:
        """Lead a connection to a state of choice, then let `steps` things happen."""
        self.do("listen", size=self.random.choice((0, 1, 8)))
        self.lead_to(self.random.choice(TARGETS))
        for _ in range(steps):
            self.step()
        self.subject.finish()

    def step(self) -> None:
        """One thing happens."""
        (move,) = self.random.choices(self._moves, self._weights)
        move[1]()

    # ------------------------------------------------------------------ into a state

    def lead_to(self, target: State) -> None:
        """A connection, opened by either side, in state `target`."""
        random = self.random
        active = target is SYN_SENT or random.random() < 0.4
        options = self.syn_options()
        if active:
            how = random.choice(("connect", "connect", "connect-fast"))
            self.do(how, size=random.choice(LOCAL_PORTS))
            tcb = self.subject.tcbs[-1] if self.subject.tcbs else None
            if target is SYN_SENT or tcb is None:
                return
            isn = random.choice((0xFFFF_FFFE, random.getrandbits(32)))
            simultaneous = target is SYN_RECEIVED or random.random() < 0.2
            flags = SYN if simultaneous else SYN | ACK
            ack = tcb.snd.iss + 1 + self.text_on_syn(tcb) if flags & ACK else 0
            self.tcp(tcb.flow, isn, ack, flags, 65535, options=options)
            if target is SYN_RECEIVED:
                return
            if simultaneous:
                self.tcp(tcb.flow, isn, tcb.snd.iss + 1, SYN | ACK, 65535, options=options)
        else:
            flow = self.fresh_flow()
            isn = random.choice((0xFFFF_FFFE, random.getrandbits(32)))
            text = pattern(0, 0, random.choice((0, 0, 1, 500)))
            self.tcp(flow, isn, 0, SYN, 65535, text, options=options)
            iss = self.answered(flow)
            if target is SYN_RECEIVED or iss is None:
                return
            known = self.subject.flows.get(flow)  # Fast Open has opened it already
            seq = isn + 1 if known is None else known.rcv.nxt
            self.tcp(flow, seq, iss + 1, ACK, 65535)
            self.do("accept")
            if flow not in self.subject.flows:
                return
            tcb = self.subject.flows[flow]
        self.lead_on(tcb, target)

    def answered(self, flow: bytes) -> int | None:
        """The ISN with which the last SYN of `flow` was answered, by cookie or not."""
        for sent in reversed(self.subject.sent):
            if sent.header is not None and sent.flow == flow:
                flags = sent.header.flags & (SYN | ACK | RST)
                return sent.header.seq if flags == SYN | ACK else None
        return None

    def text_on_syn(self, tcb: Tcb) -> int:
        """Octets of the text on our SYN that the peer takes."""
        size = tcb.fast_open.size if tcb.fast_open is not None else 0
        return self.random.choice((0, size, size))

    def lead_on(self, tcb: Tcb, target: State) -> None:
        """From ESTABLISHED to `target`."""
        if tcb not in self.subject.tcbs:
            return
        who = self.subject.tcbs.index(tcb)
        ends = self.random.choice(("shutdown", "close"))
        if target in (CLOSE_WAIT, LAST_ACK):
            self.segment(tcb, flags=FIN | ACK)
        if target not in (ESTABLISHED, CLOSE_WAIT):
            self.do(ends, who)
        if target is CLOSING:
            self.segment(tcb, flags=FIN | ACK, ack=tcb.snd.una)
        if target in (FIN_WAIT_2, TIME_WAIT):
            self.segment(tcb)
        if target is TIME_WAIT:
            self.segment(tcb, flags=FIN | ACK)

    # ------------------------------------------------------------------ moves

    def honest_move(self) -> None:
        """What a correct peer could send now."""
        tcb = self.pick()
        if tcb is None:
            return
        random = self.random
        if tcb.state is SYN_SENT:
            ack = tcb.snd.iss + 1 + self.text_on_syn(tcb)
            options = self.syn_options()
            self.tcp(tcb.flow, random.getrandbits(32), ack, SYN | ACK, 65535, options=options)
            return
        size = random.choice((0, 0, 1, tcb.rcv.mss, random.randrange(1, 3000)))
        room = max(tcb.rcv.adv - tcb.rcv.nxt, 0)
        if tcb.rcv.fin is not None:
            room = max(tcb.rcv.fin - tcb.rcv.nxt, 0)
        flags = ACK | FIN if random.random() < 0.1 and tcb.rcv.fin is None else ACK
        window = random.choice((65535, 65535, 3000, 0))
        for _ in range(random.choice((1, 1, 4))):
            self.segment(tcb, flags=flags, size=min(size, room), window=window)

    def hostile_segment(self) -> None:
        """A segment near the edges of a connection, most of it wrong."""
        random = self.random
        tcb = self.pick()
        if tcb is None:
            return
        for _ in range(random.choice((1, 1, 1, 3, 8))):
            self.subject.aimed[tcb.state.name] += 1
            self.segment(
                tcb,
                flags=self.flags(),
                seq=self.near(self.receive_edges(tcb)),
                ack=self.near(self.send_edges(tcb)),
                size=self.size(tcb),
                window=random.choice((0, 1, 100, 1000, 65535, random.getrandbits(16))),
                options=self.options(tcb),
                urgent=random.choice((0, 1, 65535, random.getrandbits(16))),
                turn=random.random() < 0.7,
            )
        self.do("turn")

    def half_open_segment(self) -> None:
        """A segment near the edges of a connection that a listener has begun."""
        random = self.random
        requests = self.subject.stack.half_open()
        if not requests:
            return
        request = random.choice(requests)
        said = request.numbers()
        for _ in range(random.choice((1, 1, 3))):
            self.subject.aimed[SYN_RECEIVED.name] += 1
            seq = self.near([said.irs, said.irs + 1, said.irs + 1 + 65535])
            ack = self.near([said.iss, said.iss + 1])
            text = pattern(0, 0, random.choice((0, 0, 1, 1000)) if seq == said.irs + 1 else 0)
            options = random.choice((b"", self.junk_options()))
            self.tcp(request.flow, seq, ack, self.flags(), 65535, text, options=options)

    def handshake_packet(self) -> None:
        """Something for the listener, on a fresh pair of ports or on one that is in use."""
        random = self.random
        flow = self.fresh_flow()
        if random.random() < 0.4 and self.subject.flows:
            flow = random.choice(sorted(self.subject.flows))
        flags = random.choice((SYN, SYN, SYN, SYN | FIN, SYN | RST, SYN | ACK, ACK, RST, FIN))
        known = self.subject.flows.get(flow)
        seq = random.getrandbits(32)
        if known is not None and random.random() < 0.7:
            seq = self.near(self.receive_edges(known))
        text = b""
        if known not in self.subject.stack.connections() and flags & SYN:
            text = pattern(0, 0, random.choice((0, 0, 1, 900)))
        options = random.choice((self.syn_options(), self.junk_options()))
        self.tcp(flow, seq, random.getrandbits(32), flags, 65535, text, options=options)

    def user_call(self) -> None:
        """The user does something on one of its connections."""
        random = self.random
        what = random.choice(
            "accept accept send send send urgent receive receive receive receive shutdown close "
            "abort status connect connect-fast listen configure".split()
        )
        size = random.choice((1, 100, 1460, 5000, 70_000))
        if what in ("close", "abort", "connect", "connect-fast") and random.random() < 0.6:
            what = "receive"
        if what in ("connect", "connect-fast"):
            size = random.choice(LOCAL_PORTS)
        elif what == "configure":
            size = random.randrange(len(RECONFIGURED))
        elif what == "listen":
            if random.random() < 0.3:
                self.do("close-listener")
            size = random.choice((0, 1, 8))
        count = len(self.subject.tcbs)
        self.do(what, random.randrange(count) if count else 0, size)

    def let_time_pass(self) -> None:
        """Nothing arrives for a while: timers fire."""
        choices = (1, 100, 40 * MS, 200 * MS, SECOND, 3 * SECOND, 61 * SECOND, 600 * SECOND)
        us = self.random.choices(choices, (5, 5, 8, 8, 8, 4, 2, 1))[0]
        self.do("wait", size=us)

    def icmp_error(self) -> None:
        """An ICMP message about a segment of ours, or about none."""
        random = self.random
        tcb = self.pick()
        body = random.randbytes(random.randrange(60))
        if tcb is not None and random.random() < 0.85:
            seq = self.near(self.send_edges(tcb))
            _, _, peer_port, port = split_key(tcb.flow)
            quote = tcp_segment(self.ours, self.theirs, (port, peer_port), seq, 0, ACK, 0)
            body = ip_frame(self.ours, self.theirs, ipv4.TCP, quote)[virtio.HEADER_LEN :]
            body = body[: random.choice((len(body), len(body) - 12, random.randrange(len(body))))]
        kind, code = random.choice(
            ((3, 4), (3, 3), (3, 2), (11, 0), (12, 0), (4, 0), (8, 0), (5, 1))
            if self.subject.setup.version == 4
            else ((2, 0), (2, 0), (1, 4), (1, 0), (3, 0), (4, 1), (128, 0), (137, 0))
        )
        mtu = random.choice((0, 1, 67, 68, 100, 296, 576, 1279, 1280, 1281, 1400, 65535, MASK32))
        self.packet(icmp_frame(self.theirs, self.ours, kind, code, mtu, body))

    def fragments(self) -> None:
        """A datagram in pieces: in any order, some twice, some missing, some contradicting."""
        random = self.random
        tcb = self.pick()
        self.ident = (self.ident + 1) & 0xFFFF
        ident = random.choice((self.ident, 7))
        if tcb is not None and random.random() < 0.6:
            frame = self.build(tcb, ACK, size=random.randrange(1200))
            payload, protocol = frame[virtio.HEADER_LEN + self.head :], ipv4.TCP
        elif self.head == 20:
            body = random.randbytes(random.choice((8, 1480, 3000)))
            payload, protocol = icmp.encode_v4(8, 0, 0, body), ipv4.ICMP
        else:
            body = random.randbytes(random.choice((8, 1480, 3000)))
            payload = icmp.encode_v6(self.theirs, self.ours, 128, 0, 0, body)
            protocol = random.choice((ipv6.ICMPV6, ipv6.ICMPV6, 200))
        size = random.choice((8, 24, 512, 1024))
        pieces = [(at, payload[at : at + size]) for at in range(0, len(payload), size)]
        if random.random() < 0.5:
            random.shuffle(pieces)
        for at, piece in pieces[:40]:
            more = at + size < len(payload)
            chance = random.random()
            if chance < 0.04:
                continue
            if chance < 0.08:
                at = random.choice((at + 8, max(at - 8, 0), 65528))
            elif chance < 0.12:
                more = not more
            for _ in range(2 if chance > 0.95 else 1):
                frame = ip_fragment(self.theirs, self.ours, protocol, piece, at, more, ident)
                self.do("packet", frame=frame)
        self.do("turn")

    def noise(self) -> None:
        """A frame that is broken on some layer, or none at all."""
        random = self.random
        kind = random.randrange(5)
        tcb = self.pick()
        if kind == 0 or tcb is None:
            head = random.choice((b"\x45", b"\x60", b"\x46", b"")) + random.randbytes(3)
            frame = random.choice((virtio.PLAIN, random.randbytes(10))) + head
            self.do("packet", frame=(frame + random.randbytes(70))[: random.randrange(84)])
        elif kind == 1:  # cut short, or padded
            frame = self.build(tcb, self.flags(), size=self.size(tcb))
            frame = frame[: random.randrange(len(frame))] if random.random() < 0.7 else frame * 2
            self.do("packet", frame=frame)
        elif kind == 2:  # the virtio header says odd things; the packet itself is right
            frame = self.build(tcb, ACK, size=self.size(tcb))
            header = struct.pack(
                "<BBHHHH",
                random.choice((0, 1, 2, 3, 255)),
                random.choice((0, 1, 3, 4, 5, 0x81, 0xFF)),
                *(random.choice((0, 1, 20, 40, 65535)) for _ in range(4)),
            )
            self.do("packet", frame=header + frame[virtio.HEADER_LEN :])
        else:  # bits turned over in the headers, believed because the device vouches for the sum
            flipped = bytearray(self.build(tcb, self.flags(), options=self.options(tcb)))
            for _ in range(random.choice((1, 1, 3))):
                at = random.randrange(virtio.HEADER_LEN + self.head % 40, len(flipped))
                flipped[at] ^= 1 << random.randrange(8)
            flipped[0] = random.choice((0, virtio.DATA_VALID))
            self.do("wild", frame=bytes(flipped))
        self.do("turn")

    def device(self) -> None:
        """The device takes a few frames only, for a while."""
        self.do("room", size=self.random.choice((0, 1, 3)))
        for _ in range(self.random.randrange(4)):
            self.random.choice((self.hostile_segment, self.user_call, self.let_time_pass))()
        self.do("room", size=-1)

    # ------------------------------------------------------------------ parts of a segment

    @property
    def head(self) -> int:
        """Bytes of an IP header."""
        return 20 if self.subject.setup.version == 4 else 40

    def pick(self) -> Tcb | None:
        """A connection, alive or just over."""
        flows = self.subject.flows
        if not flows:
            return None
        alive = [tcb for tcb in flows.values() if not tcb.closed]
        if alive and self.random.random() < 0.85:
            return self.random.choice(alive)
        return self.random.choice(list(flows.values()))

    def fresh_flow(self) -> bytes:
        """The key of a pair of ports that may or may not be in use."""
        port = self.random.choice(PEER_PORTS)
        return self.theirs + self.ours + port.to_bytes(2, "big") + PORT.to_bytes(2, "big")

    def near(self, edges: list[int]) -> int:
        """A position at, or a few octets from, one of `edges`."""
        random = self.random
        if random.random() < 0.03:
            return random.getrandbits(32)
        distance = random.choice((0, 0, 0, 0, 1, -1, 2, -2, 100, -100, 1460, -1460, 65535, -65535))
        return random.choice(edges) + distance

    @staticmethod
    def receive_edges(tcb: Tcb) -> list[int]:
        """Where the meaning of SEG.SEQ changes."""
        rcv = tcb.rcv
        edges = [rcv.nxt, rcv.nxt, rcv.nxt, rcv.adv, rcv.irs, (rcv.nxt + rcv.adv) // 2]
        edges += [left for left, _ in tcb.receive_buffer.sack_blocks()]
        if rcv.fin is not None:
            edges.append(rcv.fin)
        return edges

    @staticmethod
    def send_edges(tcb: Tcb) -> list[int]:
        """Where the meaning of SEG.ACK and of SACK edges changes."""
        snd = tcb.snd
        edges = [snd.una, snd.nxt, snd.nxt, snd.max, snd.iss, snd.una - snd.max_wnd]
        edges.append((snd.una + snd.nxt) // 2)
        for entry in tcb.scoreboard.ranges()[:20]:
            edges += (entry.start, entry.end)
        return edges

    def flags(self) -> int:
        """A usual combination, or any."""
        random = self.random
        return random.getrandbits(9) if random.random() < 0.1 else random.choice(FLAGS)

    def size(self, tcb: Tcb) -> int:
        """Bytes of text."""
        random = self.random
        mss = tcb.rcv.mss
        return random.choice((0, 0, 0, 1, 2, mss - 1, mss, mss + 1, random.randrange(3 * mss)))

    def syn_options(self) -> bytes:
        """What a SYN may offer."""
        random = self.random
        return encode_options(
            mss=random.choice((None, 1, 536, 1460, 65535)),
            wscale=random.choice((None, 0, 7, 14)),
            sack_permitted=random.random() < 0.7,
            tsval=random.choice((None, 1000, random.getrandbits(32))),
            fast_open=self.fast_open_cookie(),
            experimental_fast_open=random.random() < 0.2,
        )

    def fast_open_cookie(self) -> bytes | None:
        """None, a request, a cookie that is good, one that once was, or anything."""
        random = self.random
        if random.random() < 0.4:
            return None
        old, new = (make_cookie(key, self.theirs, self.ours) for key in split_keys(FAST_OPEN_KEY))
        junk = random.randbytes(random.choice((4, 8, 16)))
        return random.choice((b"", old, new, junk))

    def options(self, tcb: Tcb) -> bytes:
        """Timestamps around TS.Recent, SACK blocks around the ranges in flight, or junk."""
        random = self.random
        if random.random() < 0.08:
            return self.junk_options()
        tsval = None
        if tcb.ts_on if random.random() < 0.9 else not tcb.ts_on:
            step = random.choice((0, 0, 1, 10, 1000, -1, -1000, 1 << 31, random.getrandbits(32)))
            tsval = (tcb.ts_recent + step) & MASK32
        blocks: tuple[tuple[int, int], ...] = ()
        if random.random() < 0.5:
            edges = self.send_edges(tcb)
            blocks = tuple(
                (self.near(edges) & MASK32, self.near(edges) & MASK32)
                for _ in range(random.randrange(1, 5))
            )
        clock = (self.subject.now // MS + tcb.ts_offset) & MASK32
        tsecr = random.choice((0, clock, clock, random.getrandbits(32)))
        counters = b""
        if random.random() < 0.1:
            fields = random.randbytes(3 * random.randrange(4))
            counters = bytes((random.choice((172, 174)), 2 + len(fields))) + fields  # RFC 9768
        return encode_options(tsval=tsval, tsecr=tsecr, sack=blocks, acc_ecn=counters)

    def junk_options(self) -> bytes:
        """Up to 40 bytes, of known kinds with wrong lengths or of no kind."""
        random = self.random
        out = b""
        for _ in range(random.randrange(1, 6)):
            kind = random.choice(
                (0, 1, 2, 3, 4, 5, 8, 19, 28, 34, 172, 174, 254, random.getrandbits(8))
            )
            length = random.choice((0, 1, 2, 3, 4, 8, 10, 11, 18, 40, 255))
            out += bytes((kind, length)) + random.randbytes(max(0, min(length, 12) - 2))
        return out[:40]

    # ------------------------------------------------------------------ sending it

    def build(
        self,
        tcb: Tcb,
        flags: int = ACK,
        *,
        seq: int | None = None,
        ack: int | None = None,
        size: int = 0,
        window: int = 65535,
        options: bytes | None = None,
        urgent: int = 0,
    ) -> bytes:
        """A frame for `tcb`, right in all that is not given, with the text that belongs there."""
        seq = tcb.rcv.nxt if seq is None else seq
        ack = tcb.snd.nxt if ack is None else ack
        if options is None:
            tsval = (tcb.ts_recent + 1) & MASK32 if tcb.ts_on else None
            clock = (self.subject.now // MS + tcb.ts_offset) & MASK32
            options = encode_options(tsval=tsval, tsecr=clock)
        first = seq - tcb.rcv.irs - 1
        if flags & SYN:
            first += 1
        if tcb.closed or tcb.state is SYN_SENT:
            first = 0  # as far as the text is taken at all, this SYN begins the stream
        if tcb.closed and not flags & SYN:
            size = 0
        text = pattern(0, first, size)
        return self.frame(tcb.flow, seq, ack, flags, window, text, options, urgent)

    def segment(self, tcb: Tcb, turn: bool = True, **fields: object) -> None:
        """`build` and send; `turn`: the stack may answer before the next one arrives."""
        self.do("packet", frame=self.build(tcb, **fields))  # type: ignore[arg-type]
        if turn:
            self.do("turn")

    def tcp(
        self,
        flow: bytes,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        text: bytes = b"",
        *,
        options: bytes = b"",
    ) -> None:
        """One segment on any flow, and the stack's turn."""
        self.packet(self.frame(flow, seq, ack, flags, window, text, options))

    def frame(
        self,
        flow: bytes,
        seq: int,
        ack: int,
        flags: int,
        window: int,
        text: bytes,
        options: bytes,
        urgent: int = 0,
    ) -> bytes:
        """The frame of one segment."""
        _, _, peer_port, port = split_key(flow)
        flags |= self.ecn_flags(flags)
        segment = tcp_segment(
            self.theirs,
            self.ours,
            (peer_port, port),
            seq,
            ack,
            flags,
            window,
            text,
            options=options,
            urgent=urgent,
        )
        frame = ip_frame(self.theirs, self.ours, ipv4.TCP, segment)
        if self.random.random() < ECT_SHARE:
            return marked(frame, self.random.choice((ECT1, ECT0, CE, CE)))
        return frame

    def ecn_flags(self, flags: int) -> int:
        """What the segment says about congestion: most often nothing, unless it is a SYN."""
        random = self.random
        if flags & SYN:
            return random.choice((0, 0, ECE, ECE | CWR, ECE | CWR, ECE | CWR | AE))
        return random.choice((ECE, CWR, ECE | CWR, AE)) if random.random() < ECE_SHARE else 0

    def packet(self, frame: bytes) -> None:
        """One frame and the stack's turn."""
        self.do("packet", frame=frame)
        self.do("turn")

    def do(self, what: str, who: int = 0, size: int = 0, frame: bytes = b"") -> None:
        """Record and execute a step."""
        self.subject.do(Step(self.subject.now, what, who, size, frame))
