"""When to retransmit, and how much.

Four phases: OPEN (no loss known), FAST (fast recovery: RACK or RFC 6675 with SACK, RFC 6582
without), LOSS (after a retransmission timeout, RFC 5681 §3.1) and CWR (congestion without loss,
RFC 3168). In FAST and CWR the sending rate follows Proportional Rate Reduction, so data leaves as
data arrives and never in bursts.

A cut that proves needless is taken back (undo.py). After a timeout F-RTO (RFC 5682) lets the next
ACKs tell whether anything was lost, before more than the first segment is sent again. The order of
the decisions is Linux's (tcp_fastretrans_alert), so that both send the same after the same ACKs.
"""

from dataclasses import dataclass
from enum import IntEnum

from ustack.tcp.congestion import CongestionControl
from ustack.tcp.prr import ProportionalRate
from ustack.tcp.rack import Rack
from ustack.tcp.rtt import RttEstimator
from ustack.tcp.scoreboard import DUP_THRESH, NOWHERE, Scoreboard
from ustack.tcp.undo import Undo

MAX_REORDERING = 300  # segments; Linux tcp_max_reordering


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


@dataclass(slots=True)
class AckNews:
    """What an ACK has told, once the scoreboard has recorded it. Bytes and positions.

    `delivered` counts each segment as a full one (see scoreboard.py).
    """

    una: int  # SND.UNA, this ACK included
    nxt: int
    acked: int  # by how much SND.UNA moved
    sacked: int  # newly SACKed
    delivered: int  # newly arrived, by ACK, SACK or D-SACK; without SACK `Recovery` knows better
    duplicate: bool  # RFC 5681 §2 calls it a duplicate ACK
    early_echo: bool  # its timestamp echo is older than the first retransmission (RFC 3522 §3.2)
    mss: int
    now: int  # µs


class Recovery:
    """Loss recovery of one connection. Bytes and positions; decides, but sends nothing."""

    __slots__ = (
        "by_time",
        "congestion_marks",
        "dup_acks",
        "dup_thresh",
        "episodes",
        "force",
        "frto",
        "held",
        "phase",
        "point",
        "rack",
        "rate",
        "reorder_wait",
        "reordering",
        "sack",
        "tail_losses",
        "timed_out_at",
        "timeouts",
        "undo",
        "undone",
    )

    def __init__(self) -> None:
        self.phase: Phase = OPEN
        self.sack = False  # agreed
        self.by_time = False  # RACK tells losses (RFC 8985), else the bytes SACKed (RFC 6675)
        self.rack = Rack()
        self.reorder_wait = 0  # µs until segments that may only be late count as lost, 0: none
        self.point = 0  # RecoveryPoint: SND.NXT when the episode began
        self.dup_acks = 0  # since SND.UNA has moved
        self.dup_thresh = DUP_THRESH  # Linux tcp_reordering: what `reordering` begins with
        self.reordering = DUP_THRESH  # segments: by how many a late one was overtaken, at least
        self.force = False  # after a timeout, the first segment goes whatever the windows say
        self.rate: ProportionalRate | None = None  # of the last episode in FAST
        self.undo: Undo | None = None  # of the last cut, as long as it can be undone
        self.frto = False  # a timeout may still prove needless (RFC 5682)
        self.held = False  # nothing is sent again before another ACK has come
        self.episodes = 0  # of fast recovery
        self.timeouts = 0
        self.congestion_marks = 0  # how often the window was cut for ECN
        self.tail_losses = 0  # how often for what a tail loss probe had repaired
        self.undone = 0  # cuts that proved needless
        self.timed_out_at = 0  # µs, the last retransmission timeout

    def agreed(self, sack: bool, rack: bool, reordering: int) -> None:
        """The SYNs are known. `reordering`: segments that may be overtaken without being lost."""
        self.sack = sack
        self.by_time = sack and rack
        self.reordering = self.dup_thresh = reordering

    def window(self, congestion: CongestionControl) -> int:
        """The congestion window in force."""
        reducing = self.phase is FAST or self.phase is CWR
        if reducing and self.rate is not None and not congestion.own_recovery:
            return self.rate.window
        return congestion.cwnd

    @property
    def cuts(self) -> int:
        """How often the window was reduced for good, for whatever reason."""
        made = self.episodes + self.timeouts + self.congestion_marks + self.tail_losses
        return made - self.undone

    def on_congestion(
        self, congestion: CongestionControl, una: int, nxt: int, mss: int, now: int
    ) -> None:
        """The peer echoes congestion marks: as for a loss, once per window (RFC 3168 §6.1.2)."""
        if self.phase is CWR and una > self.point:  # they are of a new flight
            congestion.on_recovered(now)
            self.phase = OPEN
        if self.phase is not OPEN:
            if self.undo is not None:
                self.undo.forbid()
            return
        self.undo = None
        self.rate = ProportionalRate(congestion.cwnd, mss)
        congestion.on_loss(congestion.cwnd, now)
        self.phase = CWR
        self.point = nxt
        self.congestion_marks += 1

    def on_tail_loss(self, congestion: CongestionControl, now: int) -> None:
        """A tail loss probe has repaired a loss, which costs as much as any (RFC 8985 §7.4)."""
        if self.phase is OPEN:
            congestion.on_loss(congestion.cwnd, now)
            congestion.on_recovered(now)
            self.tail_losses += 1

    def forget_controller(self, new: CongestionControl, now: int) -> None:
        """`new` takes over, in the midst of a recovery or not: cuts of the one before stay."""
        if self.undo is not None:
            self.undo.forbid()
        if self.rate is not None:
            self.rate.window = new.cwnd  # Linux: there is but one window
        if new.own_recovery and (self.phase is FAST or self.phase is CWR):
            new.on_loss(new.cwnd, now)

    # What an ACK means

    def on_ack(
        self, board: Scoreboard, congestion: CongestionControl, rtt: RttEstimator, news: AckNews
    ) -> int:
        """Digest one ACK that `board` has already recorded.

        Returns how many bytes the congestion window may take as growth, 0: it must not grow.
        """
        self.held = False
        self._count(board, news)
        lost = 0
        if (
            self.phase is not FAST
            or news.una < self.point
            or self._end_fast(board, congestion, news)
        ):
            lost = self._judge(board, congestion, rtt, news)
        if self.phase is CWR and news.una > self.point:  # Linux: the peer must have seen our CWR
            congestion.on_recovered(news.now)
            self.phase = OPEN
        return self.growth(board, congestion, news, lost)

    def growth(
        self, board: Scoreboard, congestion: CongestionControl, news: AckNews, lost: int
    ) -> int:
        """How many bytes the congestion window may take as growth; while it is reduced, the ACK
        counts for that. `lost`: bytes newly marked."""
        if self.phase is FAST or self.phase is CWR:
            assert self.rate is not None
            safe = news.acked > 0 and not lost
            self.rate.on_ack(news.delivered, board.pipe(), congestion.ssthresh, news.mss, safe=safe)
            return 0
        if news.acked or self.reordering > self.dup_thresh:  # Linux tcp_may_raise_cwnd
            return news.delivered
        return 0

    def _count(self, board: Scoreboard, news: AckNews) -> None:
        """Duplicate ACKs, and what they stand for where the peer sends no SACK; reordering."""
        if news.acked:
            self.dup_acks = 0
        elif news.sacked or (news.duplicate and not self.sack):
            self.dup_acks += 1  # RFC 6675 §2: with SACK, a duplicate ACK is one with news
        if self.sack:
            if board.original < board.sacked_before and (self.phase is not LOSS or self.undo):
                self.reordered(board.highest_sacked - board.original, news.mss)
            return
        if board.delivered_again is not None:
            board.original = NOWHERE  # nobody can tell which copy it was
        if news.acked:
            acked = news.delivered
            news.delivered = max(acked - board.dup_acked, min(acked, news.mss))
            # One segment of it fills the hole, the rest are those that the duplicates stood for;
            # a part of a segment is none of them, or ACKs in pieces would empty the pipe
            others = max(0, acked - news.mss)
            board.dup_acked = max(0, board.dup_acked - others)
            self._limit_duplicates(board, acked, news.mss)
            if self.phase is not FAST:
                board.dup_acked = 0
        elif news.duplicate and self.phase is not LOSS:
            if self.phase is not FAST or news.una < self.point:  # else see `_end_fast`
                self._stand_for_sack(board, news)

    def _stand_for_sack(self, board: Scoreboard, news: AckNews) -> None:
        """One segment has left the network, for the peer has answered it (RFC 3042, RFC 6582)."""
        before = board.dup_acked
        board.dup_acked += news.mss
        self._limit_duplicates(board, 0, news.mss)
        news.delivered = max(board.dup_acked - before, 0)

    def _limit_duplicates(self, board: Scoreboard, acked: int, mss: int) -> None:
        """More duplicate ACKs than segments that could have caused them: those came late.

        Linux tcp_check_reno_reordering(), but RFC 5681 §3.2 wants three duplicate ACKs at least.
        """
        flight = board.flight()
        room = max(flight - max(board.lost, mss), 0)
        if board.dup_acked > room:
            board.dup_acked = room
            self.reordering = min(max((flight + acked) // mss, DUP_THRESH), MAX_REORDERING)
            self.rack.reordering_seen += 1

    def reordered(self, distance: int, mss: int) -> None:
        """Something came after what was sent `distance` bytes behind it."""
        self.rack.reordering_seen += 1
        if distance > self.reordering * mss:
            self.reordering = min(-(-distance // mss), MAX_REORDERING)

    def _judge(
        self, board: Scoreboard, congestion: CongestionControl, rtt: RttEstimator, news: AckNews
    ) -> int:
        """Undo what proved needless, find losses, begin a recovery. Returns the bytes lost."""
        lost = 0
        if self.phase is FAST:
            if news.acked and self._undo_partial(board, congestion, news):
                return 0
            self._undo_duplicates(congestion, news)
            lost = self._find_losses(board, rtt, news)
        elif self.phase is LOSS:
            self._after_timeout(board, congestion, news)
            copies = board.resent
            lost = self._find_losses(board, rtt, news)
            if self.phase is LOSS and board.resent >= copies:
                return lost
        else:
            self._undo_duplicates(congestion, news)
            lost = self._find_losses(board, rtt, news)
        if self.phase is not FAST and board.lost:
            self._begin(board, congestion, news.una, news.nxt, news.mss, news.now)
        return lost

    def _find_losses(self, board: Scoreboard, rtt: RttEstimator, news: AckNews) -> int:
        if self.sack:
            lost = self.detect(board, rtt, news.mss, news.now)
            many = self.dup_acks >= self.reordering and self.phase in (OPEN, CWR)
            if many and not self.by_time:  # RFC 6675 §5: however small the segments were
                lost += board.mark_first_lost(news.mss)
            return lost
        if self.phase is OPEN or self.phase is CWR:
            many = board.dup_acked >= self.reordering * news.mss
            return board.mark_first_lost(news.mss) if many else 0
        if self.phase is FAST and news.acked:  # partial ACK, RFC 6582 §3.2 step 3
            return board.mark_first_lost(news.mss)
        return 0

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
        sent_at = board.last_at
        if sent_at is not None:  # RACK.rtt: newer ones may have been delivered before it
            if not board.last_copies or now - sent_at >= rtt.min_rtt:
                rack.rtt = now - sent_at
            board.last_at = None
        many = board.sacked >= self.reordering * mss
        recovering = self.phase is FAST or self.phase is LOSS
        tolerance = rack.tolerance(rtt.min_rtt, rtt.srtt, many_sacked=many, recovering=recovering)
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
        una: int,
        nxt: int,
        mss: int,
        now: int,
    ) -> None:
        """Segments that were given time to arrive late have not arrived (RFC 8985 §6.3)."""
        lost = self.detect(board, rtt, mss, now)
        if lost and self.phase is not FAST:
            self._begin(board, congestion, una, nxt, mss, now)
            assert self.rate is not None
            # Linux: as if one segment had been delivered
            self.rate.on_ack(mss, board.pipe(), congestion.ssthresh, mss, safe=False)

    # Fast recovery

    def _begin(
        self,
        board: Scoreboard,
        congestion: CongestionControl,
        una: int,
        nxt: int,
        mss: int,
        now: int,
    ) -> None:
        self.undo = Undo(congestion.cwnd, congestion.ssthresh, una, board.resent)
        if self.phase is CWR:  # the window has been cut already for this flight
            self.undo.forbid()
        else:
            self.rate = ProportionalRate(congestion.cwnd, mss)
            congestion.on_loss(congestion.cwnd, now)  # Linux: the window, kept honest while unused
        self.phase = FAST
        self.point = nxt
        self.episodes += 1

    def _end_fast(self, board: Scoreboard, congestion: CongestionControl, news: AckNews) -> bool:
        """The recovery point is acknowledged. False: without SACK, FAST stays until more is.

        RFC 6582 §3.2 step 2: duplicate ACKs of the flight just repaired must not begin another.
        """
        board.dup_acked = 0
        if self._may_undo(news):
            self._take_back(congestion, news.now)
        else:
            self.rack.on_recovered()
        if not self.sack and news.una == self.point:
            return False
        self.phase = OPEN
        if self.undo is not None:  # else the window is what it was before
            congestion.on_recovered(news.now)
        return True

    # Needless cuts

    def _delayed(self, news: AckNews) -> bool:
        """SND.UNA moved for what was sent first, not for a copy (RFC 3522 §3.2)."""
        assert self.undo is not None
        if self.undo.resent_at is not None:
            return news.early_echo
        return self.sack or news.una < self.point  # nothing was sent again

    def _may_undo(self, news: AckNews) -> bool:
        undo = self.undo
        return undo is not None and (undo.all_duplicates() or self._delayed(news))

    def _take_back(self, congestion: CongestionControl, now: int) -> None:
        """The windows are as before the cut (RFC 4015 §3.2)."""
        assert self.undo is not None
        if self.undo.cwnd:
            congestion.on_undo(self.undo.cwnd, self.undo.ssthresh, now)
        elif self.phase is FAST:
            congestion.on_recovered(now)
        self.undo = None
        self.undone += 1

    def _undo_partial(
        self, board: Scoreboard, congestion: CongestionControl, news: AckNews
    ) -> bool:
        """SND.UNA moved in FAST. True: nothing is to be sent again because of this ACK."""
        if self.undo is None or not self._delayed(news):
            return False
        before = news.una - news.acked
        if board.highest_sacked > before:
            self.reordered(board.highest_sacked - before, news.mss)
        if board.resent:  # let the copies arrive first
            self.held = True
            return True
        self._take_back(congestion, news.now)
        board.unmark_lost()
        self.phase = OPEN
        return False

    def _undo_duplicates(self, congestion: CongestionControl, news: AckNews) -> None:
        """All that was sent again was reported as duplicate, during recovery or after it."""
        if self.undo is not None and self.undo.all_duplicates():
            self.rack.on_needless_recovery()
            self._take_back(congestion, news.now)
            self.phase = OPEN

    # Timeouts

    def on_rto(
        self,
        board: Scoreboard,
        congestion: CongestionControl,
        *,
        una: int,
        nxt: int,
        repeated: bool,
        frto: bool,
        patience_us: int,
        mss: int,
        now: int,
    ) -> None:
        """The retransmission timer expired (RFC 5681 §3.1, RFC 6582 §3.2 step 4).

        `repeated`: it had expired before for the same SND.UNA. `frto`: RFC 5682 is wanted. What was
        sent less than `patience_us` ago may be on its way (RFC 8985 §6.3).
        """
        reneged = board.first_is_sacked()
        many_sacked = board.sacked + board.dup_acked >= self.dup_thresh * mss
        board.mark_all_lost(forget_sacks=reneged, sent_until=now - patience_us)
        cut = self.phase is OPEN or self.point <= una or (self.phase is LOSS and not repeated)
        if cut:
            self.undo = Undo(congestion.cwnd, congestion.ssthresh, una, board.resent)
        congestion.on_rto(congestion.cwnd, board.pipe(), now, not cut)
        if self.phase is OPEN and many_sacked:  # so much patience was too much
            self.reordering = min(self.reordering, self.dup_thresh)
        self.frto = frto and (self.phase is OPEN or self.phase is CWR or repeated)
        self.held = False
        self.phase = LOSS
        self.point = nxt
        self.dup_acks = 0
        self.timeouts += 1
        self.timed_out_at = now
        self.force = True

    def resend_all(self, board: Scoreboard, nxt: int) -> None:
        """All in flight was thrown away, but not for congestion: it is to be sent again.

        A closed window was the reason.
        """
        board.mark_all_lost()
        self._resend_without_cut(nxt)

    def resend_large(self, board: Scoreboard, size: int, nxt: int) -> None:
        """What was larger than `size` was thrown away for that (RFC 1191 §6.4): it is to be sent
        again, and the window stays. Linux tcp_simple_retransmit()."""
        board.mark_large_lost(size)
        if board.owed:
            self._resend_without_cut(nxt)

    def _resend_without_cut(self, nxt: int) -> None:
        self.phase = LOSS
        self.point = nxt
        self.frto = self.held = False
        self.undo = None

    def excuse(self, nxt: int) -> None:
        """The loss that has just begun an episode was none of congestion: what is marked lost is
        sent again, and that is all. Linux tcp_simple_retransmit, for a path MTU probe."""
        self.episodes -= 1
        self._resend_without_cut(nxt)

    def _after_timeout(
        self, board: Scoreboard, congestion: CongestionControl, news: AckNews
    ) -> None:
        """An ACK in LOSS: was the timeout needless (RFC 5682 §3.1), is it over?"""
        recovered = news.una >= self.point
        if news.acked and self._may_undo(news):
            self._undo_timeout(board, congestion, news, frto=False)
            return
        if self.frto and self._ask_frto(board, congestion, news, recovered):
            return
        if recovered:
            self.rack.on_recovered()
            if self.sack or news.una > self.point:
                self.phase = OPEN
                if congestion.own_recovery:  # slow start finds the others their window
                    congestion.on_recovered(news.now)
            return
        if not self.sack:
            if news.duplicate and news.nxt > self.point:  # new text of F-RTO has arrived
                self._stand_for_sack(board, news)
            elif news.acked:
                board.dup_acked = 0

    def _ask_frto(
        self,
        board: Scoreboard,
        congestion: CongestionControl,
        news: AckNews,
        recovered: bool,
    ) -> bool:
        """RFC 5682 §3.1 with SACK: True if nothing more is to be concluded from this ACK."""
        if board.original < self.point:  # step 3b: what was never sent again has arrived
            self._undo_timeout(board, congestion, news, frto=True)
            return True
        if news.nxt > self.point:
            if news.sacked or news.duplicate:
                self.frto = False  # step 3a
        elif news.acked and not recovered:
            self.point = news.nxt
            self.held = True  # step 2b: new text, if there is any and the window lets it
            return True
        return False

    def nothing_new(self) -> None:
        """F-RTO asked for new text, but none could be sent: what was lost is sent again."""
        self.frto = self.held = False

    def _undo_timeout(
        self, board: Scoreboard, congestion: CongestionControl, news: AckNews, *, frto: bool
    ) -> None:
        if self.undo is not None:
            self._take_back(congestion, news.now)
        board.unmark_lost()
        self.frto = False
        # Without SACK nobody can tell what the next duplicate ACKs are about (RFC 6582 §3.2)
        if frto or self.sack:
            self.phase = OPEN

    # What leaves

    def sent(self, size: int) -> None:
        """`size` bytes of new text left."""
        if (self.phase is FAST or self.phase is CWR) and self.rate is not None:
            self.rate.sent(size)

    def resent(self, size: int, now: int) -> None:
        """`size` bytes left again."""
        self.force = False
        self.sent(size)
        if self.undo is not None:
            self.undo.on_resend(size, now)
