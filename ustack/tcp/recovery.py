"""When to retransmit, and how much.

Four phases: OPEN (no loss known), FAST (fast recovery: RFC 6675 with SACK, RFC 6582 without),
LOSS (after a retransmission timeout, RFC 5681 §3.1) and CWR (congestion without loss, RFC 3168). In
FAST and CWR the sending rate follows Proportional Rate Reduction (RFC 6937), so data leaves as data
arrives and never in bursts.
"""

from enum import IntEnum

from ustack.tcp.congestion import CongestionControl
from ustack.tcp.rack import Rack
from ustack.tcp.rtt import RttEstimator
from ustack.tcp.scoreboard import DUP_THRESH, Scoreboard


class Phase(IntEnum):
    """Where loss recovery stands."""

    OPEN = 0
    FAST = 1
    LOSS = 2
    CWR = 3


OPEN = Phase.OPEN
FAST = Phase.FAST
LOSS = Phase.LOSS
CWR = Phase.CWR


class Recovery:
    """Loss recovery of one connection. Bytes and positions; decides, but sends nothing."""

    __slots__ = (
        "_delivered",
        "_flight",
        "_out",
        "_window",
        "by_time",
        "congestion_marks",
        "dup_acks",
        "episodes",
        "force",
        "phase",
        "point",
        "rack",
        "reorder_wait",
        "timed_out_at",
        "timeouts",
    )

    def __init__(self) -> None:
        self.phase: Phase = OPEN
        self.by_time = False  # RACK tells losses (RFC 8985), else the bytes SACKed (RFC 6675)
        self.rack = Rack()
        self.reorder_wait = 0  # µs until segments that may only be late count as lost, 0: none
        self.point = 0  # RecoveryPoint: SND.NXT when the episode began
        self.dup_acks = 0  # since SND.UNA has moved
        self.force = False  # the first retransmission of an episode ignores cwnd (RFC 6675 §5 4.3)
        self.episodes = 0  # of fast recovery
        self.timeouts = 0
        self.congestion_marks = 0  # how often the window was cut for ECN
        self.timed_out_at = 0  # µs, the last retransmission timeout
        self._flight = 0  # RecoverFS of RFC 6937
        self._delivered = 0  # prr_delivered
        self._out = 0  # prr_out
        self._window = 0  # what PRR allows in the network now

    def window(self, congestion: CongestionControl) -> int:
        """The congestion window in force."""
        return self._window if self.phase is FAST or self.phase is CWR else congestion.cwnd

    @property
    def cuts(self) -> int:
        """How often the window was reduced, for whatever reason."""
        return self.episodes + self.timeouts + self.congestion_marks

    def on_congestion(self, congestion: CongestionControl, nxt: int, now: int) -> None:
        """The peer echoes congestion marks: as for a loss, once per window (RFC 3168 §6.1.2)."""
        if self.phase is not OPEN:
            return
        self._flight = self._window = congestion.cwnd
        congestion.on_loss(congestion.cwnd, now)
        self.phase = CWR
        self.point = nxt
        self.force = True
        self.congestion_marks += 1
        self._delivered = self._out = 0

    def detect(self, board: Scoreboard, rtt: RttEstimator, mss: int, now: int) -> int:
        """Mark on `board` what is lost, after an ACK or when `reorder_wait` has passed.

        Only with SACK. Returns the bytes newly marked.
        """
        if not self.by_time:
            return board.detect_losses(mss)
        rack = self.rack
        for mark in (board.delivered_first, board.delivered_again):
            # RFC 8985 §6.2 step 2: an ACK too soon after a resend belongs to the first copy
            if mark is not None and (mark is board.delivered_first or now - mark[0] >= rtt.min_rtt):
                rack.delivered(mark[0], mark[1], now)
        board.delivered_first = board.delivered_again = None
        if board.reordered:
            rack.reordering_seen = True
        tolerance = rack.tolerance(
            rtt.min_rtt,
            rtt.srtt,
            many_sacked=board.sacked >= DUP_THRESH * mss,
            recovering=self.phase is not OPEN,
        )
        marked, self.reorder_wait = board.detect_losses_by_time(
            (rack.sent_at, rack.end), rack.rtt + tolerance, now
        )
        return marked

    def on_reorder_timeout(
        self,
        board: Scoreboard,
        congestion: CongestionControl,
        rtt: RttEstimator,
        *,
        nxt: int,
        mss: int,
        now: int,
    ) -> None:
        """Segments that were given time to arrive late have not arrived (RFC 8985 §6.3)."""
        newly_lost = self.detect(board, rtt, mss, now)
        if newly_lost and (self.phase is OPEN or self.phase is CWR):
            self._begin(board, congestion, nxt, now)
        if newly_lost and self.phase is FAST:
            self.force = True
            # Linux: as if one segment had been delivered, so that two go out
            self._proportional_rate(board, congestion, mss, 0, mss)

    def on_ack(
        self,
        board: Scoreboard,
        congestion: CongestionControl,
        *,
        una: int,
        nxt: int,
        acked: int,
        sacked: int,
        duplicate: bool,
        sack: bool,
        newly_lost: int,
        mss: int,
        now: int,
    ) -> bool:
        """Digest one ACK that `board` has already recorded. True: congestion avoidance may grow.

        `acked` and `sacked` are the bytes this ACK newly acknowledged and newly SACKed,
        `newly_lost` what `detect` marked because of it;
        `duplicate`: RFC 5681 §2 calls it a duplicate ACK.
        """
        ended = False
        if acked:
            self.dup_acks = 0
            board.dup_acked = max(0, board.dup_acked - acked) if self.phase is FAST else 0
            # Linux: the reduction lasts until the peer must have seen our CWR
            if self.phase is not OPEN and una >= self.point + (self.phase is CWR):
                if self.phase is FAST or self.phase is CWR:
                    congestion.on_recovered(now)
                if self.phase is FAST:
                    self.rack.on_recovered()
                self.phase = OPEN
                ended = True
                board.dup_acked = 0
        elif duplicate and not sack:
            self.dup_acks += 1
            if self.phase is not LOSS:  # there the old flight has left the pipe already
                board.dup_acked = min(board.dup_acked + mss, max(board.in_flight - mss, 0))
            sacked = mss
        elif sack and sacked:
            self.dup_acks += 1  # RFC 6675 §2: a duplicate ACK is one with news in its SACK blocks

        many = self.dup_acks >= DUP_THRESH and (una > self.point or self.phase is CWR)
        if self.by_time and self.rack.reordering_seen:
            many = False  # then only time tells (RFC 8985 §6.2 step 4)
        if sack:
            # What a smaller path MTU made us send again says nothing of congestion (RFC 1191 §6.4)
            enter = newly_lost > 0 or (ended and board.lost > 0) or many
        else:
            if self.phase is FAST and acked:  # partial ACK, RFC 6582 §3.2 step 3
                newly_lost = board.mark_first_lost(mss)
                self.force = True  # the next hole goes out at once
            # RFC 6582 §3.2 step 2: not again for the flight of the last episode
            enter = many
        if enter and (self.phase is OPEN or self.phase is CWR):
            self._begin(board, congestion, nxt, now)
            if many:
                board.mark_first_lost(mss)
        if self.phase is FAST or self.phase is CWR:
            self._proportional_rate(board, congestion, acked + sacked, newly_lost, mss)
            return False
        return acked > 0

    def _begin(self, board: Scoreboard, congestion: CongestionControl, nxt: int, now: int) -> None:
        if self.phase is not CWR:  # there the window has been cut already for this flight
            # What limited transmit has sent beyond cwnd does not count (RFC 5681 §3.2 step 2)
            congestion.on_loss(min(board.in_flight, congestion.cwnd), now)
            self._flight = max(board.in_flight, 1)
            self._delivered = self._out = 0
        self.phase = FAST
        self.point = nxt
        self.force = True
        self.episodes += 1

    def _proportional_rate(
        self,
        board: Scoreboard,
        congestion: CongestionControl,
        delivered: int,
        newly_lost: int,
        mss: int,
    ) -> None:
        """RFC 6937 §3.1, with slow-start reduction bound."""
        self._delivered += delivered
        pipe = board.pipe()
        if pipe > congestion.ssthresh:
            share = -(-self._delivered * congestion.ssthresh // self._flight)
            budget = -(-share // mss) * mss - self._out  # Linux: whole segments, rounded up
        else:
            budget = max(self._delivered - self._out, delivered)
            if not newly_lost:
                budget += mss
            budget = min(congestion.ssthresh - pipe, budget)
        if budget < 0:
            budget = 0
        if self.force and budget < mss:
            budget = mss
        self._window = pipe + budget

    def sent(self, size: int) -> None:
        """`size` bytes left, new or again."""
        self.force = False
        if self.phase is FAST or self.phase is CWR:
            self._out += size

    def on_rto(self, board: Scoreboard, congestion: CongestionControl, nxt: int, now: int) -> None:
        """The retransmission timer expired (RFC 5681 §3.1, RFC 6582 §3.2 step 4)."""
        board.mark_all_lost(forget_sacks=board.first_is_sacked())
        cut_before = self.phase is LOSS or self.phase is CWR
        congestion.on_rto(board.in_flight, board.pipe(), now, cut_before)
        self.phase = LOSS
        self.point = nxt
        self.dup_acks = 0
        self.timeouts += 1
        self.timed_out_at = now
        self.force = True
