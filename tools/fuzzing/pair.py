"""Two stacks in conversation, and a third party that throws packets in.

Harmless packets are those that the RFCs say must change nothing, however well they are aimed: both
users must still read every octet and end in order. Lies may do any damage, but the two ends
must come to rest: no storm of ACKs, no timer that fires for ever.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from tools.fuzzing.packets import (
    OURS,
    THEIRS,
    icmp_frame,
    ip_frame,
    marked,
    packed,
    tcp_segment,
    wire_packets,
)
from tools.fuzzing.subject import (
    PORT,
    SILENCE_US,
    check_state,
    describe,
    expect,
    pattern,
)
from tools.fuzzing.variants import VARIANTS
from tools.simulation.invariants import check_connection
from tools.simulation.observer import BrokenRule
from ustack.config import StackConfig
from ustack.errors import UStackError
from ustack.stack.stack import Stack
from ustack.tcp.state import SYN_RECEIVED, SYN_SENT
from ustack.tcp.tcb import NEVER, Tcb
from ustack.tcp.timeouts import deadline
from ustack.wire import Buffer, ipv4, virtio
from ustack.wire.ecn import CE, ecn_field
from ustack.wire.tcp import ACK, FIN, PSH, RST, SYN, URG
from ustack.wire.tcp_options import encode_options

MS = 1_000  # µs
MASK32 = 0xFFFF_FFFF
VARIANT_NAMES = sorted(set(VARIANTS) - {"crowded"})
BARE_LIMIT = 300  # frames without text that two ends may exchange within one instant
STEPS = 4000  # of a run
MANY = 20_000  # things that happened; after so many a run is only waited for if there is news


class Host:
    """One end: its stack and its user, who sends `text` octets, reads all and closes."""

    def __init__(self, index: int, config: StackConfig, text: int) -> None:
        self.index = index
        self.stack = Stack(
            config, secret=bytes(range(index, 16 + index)), randrange=Random(index).randrange
        )
        self.tcb: Tcb | None = None
        self.text = text
        self.sent = 0
        self.delivered = 0
        self.lied_to = False
        self.out: list[bytes] = []

    def use(self, now: int) -> None:
        """The user reads and writes what is possible."""
        tcb, stack = self.tcb, self.stack
        if tcb is None:
            for listener in stack.listeners():
                self.tcb = stack.accept(listener)
            return
        try:
            while data := stack.receive(tcb, 1 << 20, now):
                if not self.lied_to:
                    right = pattern(1 - self.index, self.delivered, len(data))
                    expect(bytes(data) == right, "wrong text read at", self.delivered)
                self.delivered += len(data)
            if self.sent < self.text:
                offered = pattern(self.index, self.sent, min(self.text - self.sent, 20_000))
                self.sent += stack.send(tcb, offered, now)
            elif not tcb.fin_queued and tcb.state not in (SYN_SENT, SYN_RECEIVED):
                stack.shutdown(tcb, now)
        except UStackError:
            expect(self.lied_to, "an error without a reason:", tcb.error)

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        """The device."""
        self.out.append(b"".join(parts))
        return True

    def turn(self, now: int) -> None:
        """Packets out, events up, the user, packets out."""
        for _ in range(1000):
            self.stack.flush(now, self.write)
            self.stack.take_events()
            if self.stack.next_deadline() != 0:
                break
            self.use(now)
        for tcb in self.stack.connections():
            check_connection(tcb)
            check_state(tcb)


class Pair:
    """The world of one run."""

    def __init__(self, random: Random, *, lies: bool) -> None:
        self.random = random
        self.lies = lies
        self.version = random.choice((4, 6))
        self.now = random.randrange(1 << 40)
        self.delay_us = random.choice((0, 0, 100, 5 * MS))
        self.marks = random.choice((0.0, 0.0, 0.02, 0.5))  # of the frames that say ECT get CE
        self.packets = 0
        self.hosts = []
        for index, own in enumerate((THEIRS, OURS)):
            config = VARIANTS[random.choice(VARIANT_NAMES)]
            prefixes = (f"{own[4]}/24", f"{own[6]}/64")
            config = replace(config, addresses=prefixes)
            self.hosts.append(Host(index, config, random.choice((0, 1, 3000, 100_000))))
        self.wire: deque[tuple[int, int, bytes]] = deque()  # due, to whom, frame
        self._instant = (0, 0, 0)  # when, frames without text, frames with text

    def run(self) -> None:
        """Connect, converse under attack, fall silent. Raises BrokenRule."""
        client, server = self.hosts
        random = self.random
        server.stack.listen(PORT, self.now)
        own = (THEIRS[self.version], OURS[self.version])
        first = pattern(0, 0, min(client.text, 1000)) if random.random() < 0.5 else None
        client.tcb = client.stack.connect(
            own[1], PORT, self.now, local_address=own[0], fast_open=first
        )
        client.sent = len(client.tcb.send_buffer)
        self.turns()
        attacks = random.choice((5, 50, 200))
        for _ in range(STEPS):
            if attacks and random.random() < 0.5:
                attacks -= 1
                self.attack()
            elif not self.move_on():
                break
        while self.move_on():
            if self.lies and self.packets > MANY and self.only_asks():
                break
        if not self.lies:
            self.check_conversation()
        for host in self.hosts:
            if host.tcb is not None:
                host.stack.abort(host.tcb, self.now)
        self.turns()
        while self.move_on():
            pass
        for host in self.hosts:
            left = [describe(tcb) for tcb in host.stack.connections() if tcb.listener is None]
            expect(not left, "never forgotten:", left)

    def check_conversation(self) -> None:
        """Both have read everything, and it ended in order."""
        for host, other in ((self.hosts[0], self.hosts[1]), (self.hosts[1], self.hosts[0])):
            tcb = host.tcb
            assert tcb is not None
            expect(tcb.closed, "the connection did not end:", describe(tcb))
            expect(tcb.error is None, "it ended in an error:", tcb.error)
            expect(host.delivered == other.text, "text is missing:", host.delivered)

    def only_asks(self) -> bool:
        """All that will ever happen is that keep-alives ask, and are answered: of a FIN that only
        a lie acknowledged, neither end will say any more."""
        live = [tcb for host in self.hosts for tcb in host.stack.connections()]
        asking = [tcb for tcb in live if tcb.timers.keep_alive != NEVER]
        return bool(asking and not self.wire) and all(
            deadline(tcb) in (NEVER, tcb.timers.keep_alive) for tcb in live
        )

    # ------------------------------------------------------------------ time and path

    def turns(self) -> None:
        """Both hosts have their turn; what they send is on its way."""
        for host in self.hosts:
            host.use(self.now)
            host.turn(self.now)
            for frame in host.out:
                self.wire.append((self.now + self.delay_us, 1 - host.index, frame))
            host.out.clear()

    def move_on(self) -> bool:
        """The next thing happens: a frame arrives or a timer fires. False: hours of silence."""
        due = self.wire[0][0] if self.wire else None
        for host in self.hosts:
            at = host.stack.next_deadline()
            if at is not None and (due is None or at < due):
                due = at
        if due is None or due > self.now + SILENCE_US:
            return False
        self.now = max(self.now, due)
        while self.wire and self.wire[0][0] <= self.now:
            _, index, frame = self.wire.popleft()
            self.count(frame)
            if self.random.random() < self.marks and ecn_field(frame, virtio.HEADER_LEN):
                frame = marked(frame, CE)
            self.hosts[index].stack.input(frame, self.now)
        for host in self.hosts:
            at = host.stack.next_deadline()
            if at is not None and at <= self.now:
                host.stack.handle_timeouts(self.now)
        self.turns()
        self.packets += 1
        expect(self.packets < 100_000, "the two ends never come to rest")
        return True

    def count(self, frame: bytes) -> None:
        """A storm is many frames without text within one instant."""
        at, bare, full = self._instant
        if at != self.now:
            at, bare, full = self.now, 0, 0
        for sent in wire_packets((frame,)):
            if sent.payload:
                full += 1
            else:
                bare += 1
        if bare > BARE_LIMIT + 2 * full:
            states = [describe(tcb) for host in self.hosts for tcb in host.stack.connections()]
            raise BrokenRule(f"a storm of {bare} frames without text: {states}")
        self._instant = (at, bare, full)

    # ------------------------------------------------------------------ the third party

    def attack(self) -> None:
        """One packet to one of the hosts, as if from the other."""
        random = self.random
        host = random.choice(self.hosts)
        live = host.stack.connections()
        if not live:
            return
        tcb = live[0]
        frame = self.lie(tcb) if self.lies else self.harmless(tcb)
        if frame is None:
            return
        if self.lies:
            for each in self.hosts:
                each.lied_to = True
        host.stack.input(frame, self.now)
        if random.random() < 0.7:
            self.turns()

    def near(self, *edges: int) -> int:
        """A position around one of `edges`."""
        random = self.random
        return random.choice(edges) + random.choice((0, 0, 1, -1, 7, -7, 1460, -1460, 65536))

    def frame(
        self,
        tcb: Tcb,
        flags: int,
        seq: int,
        ack: int,
        text: bytes = b"",
        *,
        age_ms: int = 0,
        window: int = 65535,
        sack: tuple[tuple[int, int], ...] = (),
    ) -> bytes:
        """A segment to `tcb` as if from its peer, whose timestamp is `age_ms` before TS.Recent."""
        tsval = (tcb.ts_recent - age_ms) & MASK32 if tcb.ts_on else None
        edges = tuple((a & MASK32, b & MASK32) for a, b in sack)
        options = encode_options(tsval=tsval, sack=edges)
        src, dst = packed(tcb.remote.address), packed(tcb.local.address)
        ports = (tcb.remote.port, tcb.local.port)
        segment = tcp_segment(src, dst, ports, seq, ack, flags, window, text, options=options)
        return ip_frame(src, dst, ipv4.TCP, segment)

    def lie(self, tcb: Tcb) -> bytes:
        """Anything, near the edges of the connection."""
        random, snd, rcv = self.random, tcb.snd, tcb.rcv
        return self.frame(
            tcb,
            random.choice((ACK, ACK, ACK | FIN, ACK | PSH, ACK | URG, RST, SYN, SYN | ACK, FIN)),
            self.near(rcv.nxt, rcv.adv, rcv.irs),
            self.near(snd.una, snd.nxt, snd.max),
            random.randbytes(random.choice((0, 0, 1, 1000))),
            age_ms=random.choice((0, 0, -1, -1000, 1000)),
            window=random.choice((0, 1, 1000, 65535)),
            sack=((self.near(snd.una), self.near(snd.nxt)),) if random.random() < 0.3 else (),
        )

    def harmless(self, tcb: Tcb) -> bytes | None:
        """A packet that must not change the outcome. None: there is none in this state."""
        random, snd, rcv = self.random, tcb.snd, tcb.rcv
        if tcb.state in (SYN_SENT, SYN_RECEIVED):
            return None
        junk = random.randbytes(random.choice((0, 1, 20, 1200)))
        inside = random.randrange(rcv.nxt, rcv.adv + 1)
        kind = random.randrange(11)
        if kind == 0:  # RFC 5961 §3: a RST anywhere but at RCV.NXT, and (Linux) at the FIN before
            seq = self.near(rcv.nxt, rcv.adv, inside)
            seq += 2 * (rcv.fin is not None and seq == rcv.fin)
            return self.frame(tcb, RST, seq + (seq == rcv.nxt), snd.nxt)
        if kind == 1:  # RFC 5961 §4: a SYN anywhere
            flags = random.choice((SYN, SYN | ACK))
            return self.frame(tcb, flags, self.near(rcv.nxt, rcv.irs, inside), snd.nxt, junk)
        if kind == 2:  # RFC 9293 §3.10.7.4: below the window
            return self.frame(tcb, ACK | FIN, rcv.nxt - len(junk) - 1, snd.nxt, junk, window=0)
        if kind == 3:  # beyond the window
            seq = rcv.adv + 1 + random.choice((0, 1, 100_000))
            return self.frame(tcb, ACK | FIN, seq, snd.nxt, junk, window=0)
        if kind == 4:  # RFC 5961 §5: ACK of what was never sent
            ack = snd.max + 1 + random.choice((0, 1, 100_000))
            return self.frame(tcb, ACK, inside, ack, junk, window=0)
        if kind == 5:  # ACK from long ago
            ack = snd.una - snd.max_wnd - 1 - random.choice((0, 1, 100_000))
            return self.frame(tcb, ACK, inside, ack, junk, window=0)
        if kind == 6:  # no ACK at all
            return self.frame(tcb, random.choice((0, PSH, FIN)), inside, 0, junk, window=0)
        if kind == 7 and tcb.ts_on:  # RFC 7323 §5: PAWS
            age = random.choice((1, 1000))
            flags = random.choice((ACK, ACK | FIN))
            return self.frame(tcb, flags, inside, snd.nxt, junk, age_ms=age, window=0)
        if kind == 8:  # a checksum that is wrong
            frame = bytearray(self.frame(tcb, ACK, rcv.nxt, snd.nxt, junk or b"x"))
            frame[-1] ^= 1
            return bytes(frame)
        if kind == 9 and tcb.sack_on:  # RFC 2018 §8: reports are advice
            block = (self.near(snd.una, snd.nxt), self.near(snd.una, snd.nxt))
            return self.frame(tcb, ACK, rcv.nxt, snd.una - 1, window=0, sack=(block,))
        return self.harmless_icmp(tcb)

    def harmless_icmp(self, tcb: Tcb) -> bytes:
        """An error that RFC 5927 takes for a hint at most, or a path MTU that can be lived with."""
        random, snd = self.random, tcb.snd
        ours, theirs = packed(tcb.local.address), packed(tcb.remote.address)
        seq = self.near(snd.una, snd.nxt)
        ports = (tcb.local.port, tcb.remote.port)
        quote = ip_frame(
            ours, theirs, ipv4.TCP, tcp_segment(ours, theirs, ports, seq, 0, ACK, 0, b"")
        )[virtio.HEADER_LEN :]
        if self.version == 4:
            kind, code = random.choice(((3, 4), (3, 3), (3, 2), (11, 0), (12, 0), (4, 0)))
            mtu = random.choice((1, 67, 576, 1000, 1500))
        else:
            kind, code = random.choice(((2, 0), (1, 4), (1, 0), (3, 0), (4, 1)))
            mtu = random.choice((1, 1279, 1280, 1400))
        return icmp_frame(theirs, ours, kind, code, mtu, quote)
