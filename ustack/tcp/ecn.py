"""Explicit Congestion Notification (RFC 3168): routers mark packets instead of dropping them.

The receiver echoes a mark with ECE on every ACK until the sender says with CWR that it has reduced
its window. `Ecn` is the state of one connection, and exists only once ECN was asked for or agreed;
`ecn_handshake` makes it, `accurate_ecn` has the other feedback, that of RFC 9768.
"""

from ustack.tcp import ack_policy
from ustack.tcp.emit import Emit, Outgoing, passing
from ustack.tcp.segment import Segment
from ustack.tcp.tcb import Tcb
from ustack.wire.ecn import CE, ECT0, NOT_ECT
from ustack.wire.tcp import ACK, CWR, ECE, SYN

QUICK_ACKS = 2  # Linux: as many ACKs at once when the marks change; its sender's window is small
WINDOW_PROBE = "zero-window probe"


class Ecn:
    """ECN as RFC 3168 has it. What `mark` says goes into the IP header of the next packet."""

    __slots__ = (
        "_cuts_told",
        "_delivered",
        "delivered_ce",
        "echo",
        "ect",
        "gso_limit",
        "mark",
        "option_room",
        "seen",
    )

    def __init__(self) -> None:
        self.ect = True  # our data may say that we understand marks
        self.mark = NOT_ECT
        self.option_room = 0  # bytes that every segment has for an option of AccECN
        self.gso_limit = 0  # payload of the largest super-segment
        self.echo = False  # a mark has arrived and no CWR since (RFC 3168 §6.1.3)
        self.seen = False  # the peer's data has carried ECT or CE
        self.delivered_ce = 0  # segments acknowledged with an echo
        self._delivered = (
            1  # octets acknowledged or SACKed up to the last ACK; the first is our SYN
        )
        self._cuts_told = 0  # reductions of the window that the peer knows of

    @property
    def name(self) -> str:
        """What the feedback is called."""
        return "ecn"

    # ------------------------------------------------------------------ receiver

    def arrives(self, tcb: Tcb, seg: Segment) -> bool:
        """An acceptable segment: remember its mark for the ACKs to come (RFC 3168 §6.1.3).

        True: `option_room` has changed.
        """
        if seg.flags & CWR:
            self.echo = False
            if seg.len:
                tcb.ack_now = True  # Linux: the peer's window may be a single segment
        if not seg.payload or seg.seq + seg.len <= tcb.rcv.nxt:  # §6.1.5: nor on old text
            return False
        if seg.ecn == CE:
            self.seen = True
            if not self.echo:
                self.echo = True
                ack_policy.hurry(tcb, QUICK_ACKS)
                tcb.ack_now = tcb.flush_now = True  # before a CWR of the same batch
        elif seg.ecn != NOT_ECT:
            self.seen = True
        elif self.seen:  # Linux: a retransmission, since those go unmarked (§6.1.5)
            ack_policy.hurry(tcb, QUICK_ACKS)
        return False

    # ------------------------------------------------------------------ sender

    def congested(self, tcb: Tcb, seg: Segment) -> bool:
        """The peer says with `seg`, no ACK of the past, that packets of ours were marked."""
        packets = self.newly_delivered(tcb)[0]
        if not seg.flags & ECE:
            return False
        self.delivered_ce += packets
        return True

    def newly_delivered(self, tcb: Tcb) -> tuple[int, int]:
        """The segments and bytes that the last ACK has told of for the first time."""
        delivered = tcb.snd.una - tcb.snd.iss + tcb.scoreboard.sacked
        size = max(delivered - self._delivered, 0)
        self._delivered = delivered
        return -(-size // tcb.snd.mss), size

    def emitter(self, tcb: Tcb, emit: Emit, now: int) -> Emit:
        """`emit` for this connection: with the flags, options and ECN field that are due."""
        self._begin_turn(tcb)
        told = 0

        def before(segment: Outgoing) -> Outgoing:
            nonlocal told
            self.mark = NOT_ECT
            seq, flags, _, options, _, size, _, note = segment
            if flags & SYN:
                return segment._replace(flags=self._on_syn(tcb, flags))
            # RFC 3168 §6.1.5, §6.1.6: neither what is resent nor window probes
            fresh = size > 0 and seq >= tcb.snd.nxt and note != WINDOW_PROBE
            flags, options, told = self._leaving(tcb, flags, options, size, fresh, now)
            return segment._replace(flags=flags, options=options)

        def after(segment: Outgoing) -> None:
            if not segment.flags & SYN:
                self._left(told, now)

        return passing(emit, after, before)

    def _begin_turn(self, tcb: Tcb) -> None:
        """Segments may leave now."""

    def _leaving(
        self, tcb: Tcb, flags: int, options: bytes, size: int, fresh: bool, now: int
    ) -> tuple[int, bytes, int]:
        """Flags and options of a segment with `size` bytes of text, `fresh` if sent for the first
        time, and what `_left` is to be told. Sets `mark`."""
        if self.echo:
            flags |= ECE
        cuts = self._cuts_told
        if fresh:
            if self.ect:
                self.mark = ECT0
            cuts = tcb.recovery.cuts
            if cuts > self._cuts_told:  # it may be less: a cut was taken back
                flags |= CWR
        return flags, options, cuts

    def _left(self, told: int, now: int) -> None:
        """The device has taken that segment. `told`: the cuts that the peer knows of with it."""
        self._cuts_told = told

    def _on_syn(self, tcb: Tcb, flags: int) -> int:
        """The flags of our SYN or SYN,ACK (RFC 3168 §6.1.1)."""
        if flags & ACK:
            return flags | ECE
        if tcb.retransmits and tcb.config.ecn_fallback:  # §6.1.1.1: the bits may be what is dropped
            self.ect = False  # §6.1.1: a plain SYN was sent
            return flags
        return flags | ECE | CWR

    def answered(self, tcb: Tcb, seg: Segment) -> None:
        """The peer has agreed to our offer. Linux: the timeout of a SYN is a reduction to tell."""
        if tcb.retransmits:
            self._cuts_told -= 1
