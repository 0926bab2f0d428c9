"""Accurate ECN feedback (RFC 9768): the receiver counts marks, and the sender learns how many.

ECE, CWR and AE become one three-bit counter of packets with CE, the ACE field, on every segment but
SYNs; an option carries counters of octets. Where the RFC leaves a choice it is Linux's.
"""

from ustack.tcp import ack_policy
from ustack.tcp.ecn import QUICK_ACKS, Ecn
from ustack.tcp.md5_signature import options_room
from ustack.tcp.segment import Segment
from ustack.tcp.tcb import Tcb
from ustack.wire.ecn import CE, ECT0, ECT1, NOT_ECT
from ustack.wire.tcp import ACK, AE, CWR, ECE, MAX_OPTIONS_LEN
from ustack.wire.tcp_options import (
    ACC_ECN_ORDER_1,
    encode_acc_ecn,
    insert_acc_ecn,
)
from ustack.wire.virtio import HEADER

ACE_FLAGS = AE | CWR | ECE
ACE_SHIFT = 6
ACE_MASK = 7
CWR_OF_ACE = 2  # the bit of the counter that stands where CWR was
FIRST_CEP = 5  # §3.2.1: what the counter of packets begins with
FIRST_OCTETS = {ECT1: 1, CE: 0, ECT0: 1}  # §3.2.1: so that zeroing is noticed
ORDER_1 = (ECT1, CE, ECT0)  # §3.2.3, Figure 4: the fields of kind 174
ORDER_0 = (ECT0, CE, ECT1)  # of kind 172
OCTETS_MASK = 0xFF_FFFF
HANDSHAKE_ACE = {NOT_ECT: 0b010, ECT1: 0b011, ECT0: 0b100, CE: 0b110}  # §3.2.2.1, Table 3
SEEN_ON_SYN = {code: field for field, code in HANDSHAKE_ACE.items()}
OPTION_SIZE = 12  # bytes, with its padding
OPTION_STEP = 1 << 22  # octets: a counter has changed by so much: tell it, before 2^23 (Linux)
TOO_LATE = (1 << 23) - 1  # octets sent without an option seen: a counter may have wrapped (Linux)
SYN_TRIES = 2  # §3.1.4.1: SYNs that ask, then those that do not
MAX_MARKS_WITH_DATA, MAX_MARKS = 2, 3  # §3.2.2.5.1: marks that may wait for an ACK
SYN_ACK_OPTION = encode_acc_ecn((1, 0, 1))

ALWAYS = 2  # TcpConfig.accecn_option

# What is known of the peer's options
UNSEEN, EMPTY, COUNTERS, ZEROED = range(4)


class AccurateEcn(Ecn):
    """Feedback with counters. `delivered_ce` and `received_ce` are the counters less FIRST_CEP."""

    __slots__ = (
        "_delivered_octets",
        "_estimated",
        "_first",
        "_handshake_field",
        "_last_field",
        "_option_at",
        "_option_due",
        "_option_fields",
        "_pending",
        "_received_octets",
        "ignored",
        "peer_option",
        "received_ce",
    )

    def __init__(self) -> None:
        super().__init__()
        self.received_ce = 0  # packets that have arrived with CE
        self.ignored = False  # what the peer counts is not believed (§3.2.2.3, §3.2.2.4)
        self.peer_option = UNSEEN
        self._received_octets = [0, 0, 0, 0]  # payload by ECN field (§3.2.1)
        self._delivered_octets = [0, 0, 0, 0]  # the same, as the peer has told
        self._estimated = NOT_ECT  # the field whose counter moves: what an ACK without option means
        self._first = True  # nothing has arrived since the SYNs
        self._handshake_field: int | None = None  # of the SYN,ACK, until our first ACK told it
        self._last_field = NOT_ECT  # of the last packet
        self._pending = 0  # marks since the last segment with a counter left
        self._option_due = 0  # so many segments shall carry the option (Linux accecn_opt_demand)
        self._option_fields = 0  # and at least so many counters
        self._option_at = 0  # µs, when an option last left

    @property
    def name(self) -> str:
        """What the feedback is called."""
        return "accecn"

    @property
    def octets(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Payload received and delivered, by ECN field."""
        return tuple(self._received_octets), tuple(self._delivered_octets)

    # ------------------------------------------------------------------ handshake

    def begin(self, field: int, plain: bool) -> None:
        """A listener's handshake: its SYN came with `field`; `plain`: a SYN or SYN,ACK without the
        bits was seen or sent, so no text of ours is ECT (§3.1.5)."""
        self._last_field = field
        self._option_due = 1
        self.ect = not plain

    def answered(self, tcb: Tcb, seg: Segment) -> None:
        """The peer has agreed to our offer (§3.1.2), with its SYN,ACK or its SYN."""
        if not seg.flags & ACK:
            self.begin(seg.ecn, not self.ect)
            return
        self._first = False
        self._handshake_field = seg.ecn
        self._note_option(tcb, seg)
        self._option_due = 2
        if seg.ecn == CE and self._credible(tcb, ace_of(seg.flags)):
            self.received_ce = self._pending = 1

    def _credible(self, tcb: Tcb, code: int) -> bool:
        """Our SYN was Not-ECT, and the network may not make ECT or CE of that (§3.2.2.3)."""
        if SEEN_ON_SYN.get(code, NOT_ECT) == NOT_ECT or not tcb.config.ecn_fallback:
            return True
        self.ignored = True
        self.ect = False
        return False

    def _first_arrives(self, tcb: Tcb, seg: Segment) -> None:
        """The ACK of our SYN,ACK says how that has arrived (§3.2.2.1, §3.2.2.4)."""
        self._first = False
        self._note_option(tcb, seg)
        code = ace_of(seg.flags)
        if not code:  # §3.2.2.4: a middlebox clears the field
            self.ignored = True
            self.ect = False
        elif not seg.len and code in SEEN_ON_SYN:
            self._credible(tcb, code)

    # ------------------------------------------------------------------ receiver

    def arrives(self, tcb: Tcb, seg: Segment) -> bool:
        """An acceptable segment. True: what our options take of a segment has changed."""
        field = seg.ecn
        size = len(seg.payload)
        before = self.peer_option
        if self._first and tcb.passive:
            self._first_arrives(tcb, seg)
        if field != NOT_ECT:
            self.seen = True
            if size:
                self._count(field, size)
        elif self.seen and size:  # Linux: probably a retransmission
            ack_policy.hurry(tcb, QUICK_ACKS)
        if field == CE:
            marks = packets_in(seg)
            self.received_ce += marks
            self._pending += marks
            # §3.2.2.5.1: else the peer could not tell how often the counter has wrapped
            if self._pending >= (MAX_MARKS_WITH_DATA if size or tcb.ack_owed else MAX_MARKS):
                tcb.ack_now = tcb.flush_now = True
        if field == CE or field != self._last_field:
            if field != self._last_field and size:  # §3.2.2.5.1: change-triggered
                tcb.ack_now = tcb.flush_now = True
            self._last_field = field
            self._option_due = 2
        self._note_option(tcb, seg)
        return (before == UNSEEN) != (self.peer_option == UNSEEN)

    def _count(self, field: int, size: int) -> None:
        octets = self._received_octets
        before = octets[field]
        octets[field] = before + size
        self._option_fields = max(self._option_fields, ORDER_1.index(field) + 1)
        if before // OPTION_STEP != octets[field] // OPTION_STEP:
            self._option_due = max(self._option_due, 1)

    def _note_option(self, tcb: Tcb, seg: Segment) -> None:
        """The first option with counters tells whether a middlebox zeroes them (§3.2.3.2.4)."""
        option = seg.options.acc_ecn if seg.options is not None else None
        if option is None or self.peer_option >= COUNTERS:
            return
        counters = option.counters
        if not counters:
            self.peer_option = EMPTY
        elif not counters[0] or (len(counters) == 3 and not counters[2]):
            self.peer_option = ZEROED
        else:
            self.peer_option = COUNTERS
        if tcb.config.accecn_option == ALWAYS:
            self.option_room = OPTION_SIZE

    # ------------------------------------------------------------------ sender

    def congested(self, tcb: Tcb, seg: Segment) -> bool:
        """More of our packets were marked, as far as `seg` tells, which is no ACK of the past."""
        packets, size = self.newly_delivered(tcb)
        if self.ignored or not size:  # without progress it may have been overtaken by others
            return False
        octets = self._delivered_octets
        before = octets[CE]
        valid = self._take_option(tcb, seg, size)
        marks = self._marks(tcb, ace_of(seg.flags), packets, size, octets[CE] - before, valid)
        self.delivered_ce += marks
        return marks > 0

    def _marks(self, tcb: Tcb, ace: int, packets: int, size: int, octets: int, valid: bool) -> int:
        """How far the peer's counter has moved (§3.2.2.5.2), with `packets` newly delivered.

        When that are more than the counter can tell, it is taken to have wrapped as often as
        possible, unless the option, if `valid`, says how many octets were marked.
        """
        moved = (ace - FIRST_CEP - self.delivered_ce) & ACE_MASK
        if packets <= ACE_MASK:
            return moved
        most = packets - ((packets - moved) & ACE_MASK)
        if not valid:
            return most
        if not octets:
            return moved
        if packets >= 2 * (ACE_MASK + 1):
            if size <= octets:
                return most
            likely = -(-octets * packets // size)
            return min(most, moved + (likely & ~ACE_MASK))
        if octets > moved * tcb.snd.mss:
            return most
        return moved if octets < most * tcb.snd.mss // 2 else most

    def _take_option(self, tcb: Tcb, seg: Segment, size: int) -> bool:
        """Update the counters of octets. True: what they say of CE is certain."""
        if self.peer_option == ZEROED:
            return False
        option = seg.options.acc_ecn if seg.options is not None else None
        octets = self._delivered_octets
        estimated = self._estimated
        if option is None:
            if self.peer_option == UNSEEN and tcb.snd.nxt - tcb.snd.iss >= TOO_LATE:
                self.peer_option = ZEROED
            elif self.peer_option != UNSEEN and estimated != NOT_ECT:
                octets[estimated] += size
                return True
            return False
        certain = estimated != NOT_ECT
        changed = 0
        ambiguous = False
        order = ORDER_1 if option.kind == ACC_ECN_ORDER_1 else ORDER_0
        for field, counter in zip(order, option.counters, strict=False):
            moved = (counter - FIRST_OCTETS[field] - octets[field]) & OCTETS_MASK
            if moved > OCTETS_MASK >> 1:
                moved -= OCTETS_MASK + 1
                ambiguous = True
            octets[field] += moved
            if moved and field != estimated:
                changed += 1
                if changed == 1:
                    self._estimated = field
        if ambiguous or changed > 1:
            self._estimated = NOT_ECT
            return False
        return certain

    # ------------------------------------------------------------------ output

    def _begin_turn(self, tcb: Tcb) -> None:
        """A device cuts super-segments as RFC 3168 wants it: CWR on the first piece only."""
        tcb.snd.gso_limit = tcb.snd.mss if self.counter & CWR_OF_ACE else self.gso_limit

    def _leaving(
        self, tcb: Tcb, flags: int, options: bytes, size: int, fresh: bool, now: int
    ) -> tuple[int, bytes, int]:
        """With the counters, in the ACE field and, when it is due, in an option."""
        fields, options = self._options(tcb, options, size, now)
        field = self._handshake_field
        code = self.counter if field is None or flags != ACK else HANDSHAKE_ACE[field]
        if self.ect and (fresh or tcb.config.ect_on_control):
            self.mark = ECT0
        return flags | code << ACE_SHIFT, options, fields

    def _left(self, told: int, now: int) -> None:
        """The device has taken that segment. `told`: counters in its option, -1: without one."""
        self._pending = 0
        self._handshake_field = None
        if told >= 0:
            self._option_due = max(self._option_due - 1, 0)
            self._option_fields = 0
            self._option_at = now

    @property
    def counter(self) -> int:
        """The ACE field (§3.2.2)."""
        return (self.received_ce + FIRST_CEP) & ACE_MASK

    def _on_syn(self, tcb: Tcb, flags: int) -> int:
        """Our SYN asks, the first of them at least (§3.1.4.1); a SYN,ACK tells how the SYN came."""
        if flags & ACK:
            return flags | HANDSHAKE_ACE[self._last_field] << ACE_SHIFT
        if tcb.retransmits >= SYN_TRIES and tcb.config.ecn_fallback:
            self.ect = False
            return flags
        return flags | ACE_FLAGS

    def _options(self, tcb: Tcb, options: bytes, size: int, now: int) -> tuple[int, bytes]:
        """The counters of octets sent, -1: no option, and `options` with them."""
        if not self._option_wanted(tcb, now):
            return -1, options
        if not size:
            room = min(MAX_OPTIONS_LEN, tcb.path_mtu_payload)
        elif self.option_room or size + OPTION_SIZE <= tcb.snd.mss:
            room = len(options) + OPTION_SIZE
            if min(size, tcb.snd.mss) + room > tcb.path_mtu_payload:  # an MTU near 68 bytes
                return -1, options
        else:
            return -1, options  # a segment that is full without it: another will have it
        counters = tuple(
            (self._received_octets[field] + FIRST_OCTETS[field]) & OCTETS_MASK for field in ORDER_1
        )
        room = min(room, options_room(tcb))
        return insert_acc_ecn(options, counters, self._option_fields, room)

    def _option_wanted(self, tcb: Tcb, now: int) -> bool:
        """§3.2.3.3, as Linux has it: only once the peer has sent one itself."""
        config = tcb.config
        if not config.accecn_option or self.peer_option == UNSEEN:
            return False
        if config.accecn_option == ALWAYS or self._option_due:
            return True
        beacon = config.accecn_option_beacon
        return bool(beacon) and (now - self._option_at) * beacon >= tcb.rtt.srtt


def ace_of(flags: int) -> int:
    """The ACE field of a segment."""
    return flags >> ACE_SHIFT & ACE_MASK


def packets_in(seg: Segment) -> int:
    """How many wire packets the frame of `seg` stands for."""
    gso_size: int = HEADER.unpack_from(seg.frame)[3]
    return -(-len(seg.payload) // gso_size) if gso_size and seg.payload else 1
