"""BBRv3 (draft-ietf-ccwg-bbr): a model of the path, not its losses, says how fast and how much.

The model is the bandwidth (`max_bw`), the round trip without a queue (`min_rtt`), and bounds on
what may be in flight, which probing raises and loss lowers. The pacing rate follows the bandwidth,
the congestion window twice the product of both. Functions carry the draft's names and follow its
order; section numbers are those of its "Detailed Algorithm" (§5). The draft's inflight_longterm,
inflight_shortterm and bw_shortterm were inflight_hi, inflight_lo and bw_lo before, and are so in
Google's BBRv3; bw_hi, which nothing ever lowered, is gone. What a mark of ECN does is not settled:
here the first echo in a round counts as a loss (RFC 3168 §5).
"""

from ustack.tcp.congestion.bbr_states import (
    BETA,
    CRUISE,
    DOWN,
    DRAIN,
    EXTRA_ACKED_FILTER_LEN,
    FULL_BW_GROWTH,
    FULL_BW_ROUNDS,
    GAINS,
    HEADROOM,
    INFINITE,
    LOSS_THRESH,
    MAX_BW_FILTER_LEN,
    MAX_QUANTUM,
    MAX_RENO_ROUNDS,
    MIN_PIPE_CWND,
    MIN_RTT_FILTER_LEN,
    MS,
    PACING_MARGIN,
    PROBE_BW,
    PROBE_RTT,
    PROBE_RTT_CWND_GAIN,
    PROBE_RTT_DURATION,
    PROBE_RTT_INTERVAL,
    PROBING,
    QUANTUM_US,
    REFILL,
    SECOND,
    STARTUP,
    STARTUP_FULL_LOSS_COUNT,
    STARTUP_PACING_GAIN,
    UP,
    Ack,
    AckPhase,
    State,
)
from ustack.tcp.congestion.window import INFINITE_SSTHRESH
from ustack.tcp.congestion.windowed_max import WindowedMax
from ustack.tcp.delivery_rate import Origin, RateSample


class Bbr:
    """One connection. `cwnd` bytes, `pacing_rate` bytes/s, `send_quantum` bytes."""

    __slots__ = (
        "_ack_phase",
        "_bw_probe_samples",
        "_bw_probe_up_acks",
        "_bw_probe_up_rounds",
        "_bw_probe_wait",
        "_cycle_count",
        "_cycle_stamp",
        "_delivered",
        "_draw",
        "_entering_recovery",
        "_extra_acked",
        "_extra_acked_delivered",
        "_extra_acked_filter",
        "_extra_acked_start",
        "_full_bw",
        "_full_bw_count",
        "_full_bw_now",
        "_idle_restart",
        "_in_recovery",
        "_inflight_latest",
        "_initial",
        "_loss_in_round",
        "_lost_in_episode",
        "_loss_ranges",
        "_loss_round_delivered",
        "_loss_round_start",
        "_lost_in_round",
        "_max_bw_filter",
        "_max_inflight",
        "_min_rtt_stamp",
        "_mss",
        "_next_round_delivered",
        "_now",
        "_packet_conservation",
        "_prior_cwnd",
        "_probe_rtt_done_stamp",
        "_probe_rtt_expired",
        "_probe_rtt_min_delay",
        "_probe_rtt_min_stamp",
        "_probe_rtt_round_done",
        "_probe_up_count",
        "_recovery_rounds",
        "_round_start",
        "_rounds_since_bw_probe",
        "_undo",
        "bw",
        "bw_latest",
        "bw_shortterm",
        "cwnd",
        "excused",
        "full_bw_reached",
        "inflight_longterm",
        "inflight_shortterm",
        "max_bw",
        "min_rtt",
        "pacing_rate",
        "phase",
        "round_count",
        "send_quantum",
        "ssthresh",
    )

    own_recovery = True  # no proportional rate reduction: the model bounds what is in flight

    def __init__(self, mss: int, initial_segments: int) -> None:
        """BBROnInit (§5.2.1)."""
        self._mss = mss
        self._initial = initial_segments * mss
        self.cwnd = self._initial
        self.ssthresh = INFINITE_SSTHRESH  # means nothing here
        self._now = 0  # of the last event
        self._delivered = 0  # C.delivered at the last ACK
        self._draw = 0

        self.max_bw = 0  # bytes/s
        self._max_bw_filter = WindowedMax()
        self._cycle_count = 0
        self.bw = 0  # min(max_bw, bw_shortterm)
        self.min_rtt = 0  # µs, 0: unknown
        self._min_rtt_stamp = 0
        self._probe_rtt_min_delay = 0
        self._probe_rtt_min_stamp = 0
        self._probe_rtt_expired = False
        self._probe_rtt_done_stamp = 0
        self._probe_rtt_round_done = False
        self._prior_cwnd = 0
        self._idle_restart = False

        self._extra_acked = 0
        self._extra_acked_filter = WindowedMax()
        self._extra_acked_start = 0
        self._extra_acked_delivered = 0

        self.full_bw_reached = False
        self._full_bw = self._full_bw_count = 0
        self._full_bw_now = False

        self.inflight_longterm = INFINITE
        self.inflight_shortterm = INFINITE
        self.bw_shortterm = INFINITE
        self.bw_latest = 0
        self._inflight_latest = 0
        self._loss_in_round = False
        self._loss_round_delivered = 0
        self._loss_round_start = False
        self._lost_in_round = self._loss_ranges = 0

        self.round_count = 0
        self._next_round_delivered = 0
        self._round_start = False
        self._rounds_since_bw_probe = 0

        self._ack_phase = AckPhase.INIT
        self._cycle_stamp = 0
        self._bw_probe_wait = 0
        self._bw_probe_samples = 0
        self._bw_probe_up_acks = self._bw_probe_up_rounds = 0
        self._probe_up_count = INFINITE
        self._max_inflight = self._initial

        self._in_recovery = False
        self._entering_recovery = False  # with the ACK that is being digested
        self._recovery_rounds = 0
        self._packet_conservation = False
        self._undo: tuple[State, int, int, int] | None = None
        self._lost_in_episode = 0
        self.excused = 0  # bytes told to `on_lost` that had arrived after all; the sender resets it

        self.phase = STARTUP
        self.pacing_rate = 0
        self.send_quantum = 2 * mss
        self.begin(0, 0)

    def adopt(self, cwnd: int, ssthresh: int) -> None:
        """Another controller has led the connection so far: Startup goes on from its window."""
        self.cwnd = max(cwnd, self._mss)

    def on_pacing(self, paced: bool) -> None:
        """It always is."""

    def begin(self, srtt: int, now: int, min_rtt: int = 0) -> None:
        """BBRInitPacingRate (§5.6.2): the window in a round trip, as the handshake measured it."""
        self._now = self._draw = now
        self._extra_acked_start = now
        if srtt:
            self.min_rtt = self._probe_rtt_min_delay = min_rtt or srtt
            self._min_rtt_stamp = self._probe_rtt_min_stamp = now
        self.pacing_rate = self.cwnd * SECOND // (srtt or MS) * STARTUP_PACING_GAIN // 100
        self._set_send_quantum()

    # ------------------------------------------------------------------ what the sender tells

    def on_ack(
        self, acked: int, in_flight: int, rtt_us: int | None, app_limited: bool, now: int
    ) -> None:
        """What grows a window elsewhere is in `on_sample` here."""

    def on_mss(self, mss: int) -> None:
        """The sender's MSS changed (path MTU)."""
        self._mss = mss
        self.cwnd = max(self.cwnd, MIN_PIPE_CWND * mss)
        self._set_send_quantum()

    def on_idle(self, idle_us: int, rto_us: int) -> None:
        """The model keeps what it knows for longer than an RTO."""

    def on_resume(self, idle_us: int, now: int) -> None:
        """BBRHandleRestartFromIdle (§5.4): begin at the bandwidth that is known, not above."""
        self._now = now
        self._idle_restart = True
        self._extra_acked_start = now
        if self.phase in PROBE_BW:
            self._set_pacing_rate(100)
        elif self.phase is PROBE_RTT:
            self._check_probe_rtt_done()

    def on_loss(self, in_flight: int, now: int) -> None:
        """BBROnEnterFastRecovery (§5.6.4.4); the rest of it follows with the ACK's sample."""
        self._note_loss()
        self._save_cwnd()
        self._in_recovery = self._packet_conservation = self._entering_recovery = True
        self._recovery_rounds = self._lost_in_episode = 0
        self._start_round()

    def on_recovered(self, now: int) -> None:
        """Loss recovery is over: the window is what it was before."""
        self._in_recovery = self._packet_conservation = False
        self._restore_cwnd()

    def on_rto(self, in_flight: int, pipe: int, now: int, repeated: bool) -> None:
        """BBROnEnterRTO: one segment, beside what is not lost."""
        self._note_loss()
        if not repeated:
            self._save_cwnd()
            self._lost_in_episode = 0
        self._in_recovery = self._packet_conservation = False
        self.cwnd = pipe + self._mss

    def on_undo(self, cwnd: int, ssthresh: int, now: int) -> None:
        """BBRHandleSpuriousLossDetection (§5.5.10.3): nothing was lost.

        Nor must the samples to come say so (RS.lost): what was sent before this and arrives later
        would lower, with nothing to undo it, the bound that has just been raised again. And Startup
        goes on, which it would not if full_bw_reached stayed: losses may have set it.
        """
        self._in_recovery = self._packet_conservation = False
        self.excused += self._lost_in_episode
        self._lost_in_round = max(self._lost_in_round - self._lost_in_episode, 0)
        self._loss_ranges = self._lost_in_episode = 0
        self._loss_in_round = False
        self._reset_full_bw()
        self._restore_cwnd()
        self.cwnd = max(self.cwnd, cwnd)
        if self._undo is None:
            return
        state, bw, shortterm, longterm = self._undo
        self._undo = None
        self.bw_shortterm = max(self.bw_shortterm, bw)
        self.inflight_shortterm = max(self.inflight_shortterm, shortterm)
        self.inflight_longterm = max(self.inflight_longterm, longterm)
        if self.phase is not PROBE_RTT and self.phase is not state:
            if state is STARTUP:
                self.phase = STARTUP
                self.full_bw_reached = False
            elif state is UP:
                self._start_up(0)

    def on_lost(self, origin: Origin, lost: int, size: int) -> None:
        """BBRHandleLostPacket (§5.5.10.2): `size` bytes that had left with `origin` are lost, and
        with them `lost` since then."""
        self._note_loss()
        self._lost_in_round += size
        self._lost_in_episode += size
        self._loss_ranges += 1
        if not self._bw_probe_samples:
            return  # not sent while probing for bandwidth
        if self._is_inflight_too_high(lost, origin.in_flight):
            # BBRInflightAtLoss: where in this range did it become too much?
            before, lost_before = origin.in_flight - size, lost - size
            prefix = (LOSS_THRESH * before - 100 * lost_before) // (100 - LOSS_THRESH)
            self._handle_inflight_too_high(max(before + prefix, 0), origin.app_limited)

    def on_sample(self, ack: Ack) -> None:
        """BBRUpdateOnACK (§5.2.3): first the model and the state, then rate, quantum and window."""
        self._now, self._delivered = ack.now, ack.delivered
        self._update_latest_delivery_signals(ack)
        self._update_congestion_signals(ack)
        self._update_ack_aggregation(ack)
        self._check_full_bw_reached(ack.sample)
        self._check_startup_done(ack)
        if self.phase is DRAIN and ack.in_flight <= self._inflight(self.max_bw, 100):
            self._start_down()  # BBRCheckDrainDone (§5.3.2)
        self._update_probe_bw_cycle_phase(ack)
        self._update_min_rtt(ack)
        self._check_probe_rtt(ack)
        if self._loss_round_start:  # BBRAdvanceLatestDeliverySignals
            self.bw_latest = ack.sample.rate
            self._inflight_latest = ack.sample.delivered
            self._lost_in_round = self._loss_ranges = 0
        self.bw = min(self.max_bw, self.bw_shortterm)  # BBRBoundBWForModel
        self._set_pacing_rate(GAINS[self.phase][0])
        self._set_send_quantum()
        self._set_cwnd(ack)

    # ------------------------------------------------------------------ rounds, bandwidth (§5.5)

    def _start_round(self) -> None:
        self._next_round_delivered = self._delivered

    def _update_round(self, sample: RateSample) -> None:
        """A round ends when something is acknowledged that left after it had begun (§5.5.1)."""
        self._round_start = sample.prior_delivered >= self._next_round_delivered and (
            sample.delivered > 0
        )
        if self._round_start:
            self._start_round()
            self.round_count += 1
            self._rounds_since_bw_probe += 1
            if self._in_recovery:
                self._recovery_rounds += 1
                self._packet_conservation = False

    def _update_latest_delivery_signals(self, ack: Ack) -> None:
        """What the last round has delivered (§5.5.10.3)."""
        sample = ack.sample
        self._loss_round_start = False
        self.bw_latest = max(self.bw_latest, sample.rate)
        self._inflight_latest = max(self._inflight_latest, sample.delivered)
        if sample.delivered and sample.prior_delivered >= self._loss_round_delivered:
            self._loss_round_delivered = ack.delivered
            self._loss_round_start = True

    def _update_congestion_signals(self, ack: Ack) -> None:
        sample = ack.sample
        self._update_round(sample)
        if sample.rate and (sample.rate >= self.max_bw or not sample.app_limited):  # BBRUpdateMaxBw
            self.max_bw = self._max_bw_filter.update(
                sample.rate, self._cycle_count, MAX_BW_FILTER_LEN
            )
        if not self._loss_round_start:
            return
        if self.phase not in PROBING and self._loss_in_round:
            self._lower_bounds()
        self._loss_in_round = False

    def _lower_bounds(self) -> None:
        """BBRInitLowerBounds, BBRLossLowerBounds: not far below what was just delivered."""
        if self.bw_shortterm == INFINITE:
            self.bw_shortterm = self.max_bw
        if self.inflight_shortterm == INFINITE:
            self.inflight_shortterm = self.cwnd
        self.bw_shortterm = max(self.bw_latest, self.bw_shortterm * BETA // 100)
        self.inflight_shortterm = max(self._inflight_latest, self.inflight_shortterm * BETA // 100)

    def _note_loss(self) -> None:
        if not self._loss_in_round:
            self._loss_round_delivered = self._delivered
            # BBRSaveStateUponLoss
            self._undo = (
                self.phase,
                self.bw_shortterm,
                self.inflight_shortterm,
                self.inflight_longterm,
            )
        self._loss_in_round = True

    def _reset_congestion_signals(self) -> None:
        self._loss_in_round = False
        self.bw_latest = self._inflight_latest = 0

    def _reset_shortterm_model(self) -> None:
        self.bw_shortterm = self.inflight_shortterm = INFINITE

    def _update_ack_aggregation(self, ack: Ack) -> None:
        """ACKs that come in heaps need more in flight than the product says (§5.5.9)."""
        expected = self.bw * (ack.now - self._extra_acked_start) // SECOND
        if self._extra_acked_delivered <= expected:
            self._extra_acked_delivered = 0
            self._extra_acked_start = ack.now
            expected = 0
        self._extra_acked_delivered += ack.newly_acked
        extra = min(self._extra_acked_delivered - expected, self.cwnd)
        length = EXTRA_ACKED_FILTER_LEN if self.full_bw_reached else 1
        self._extra_acked = self._extra_acked_filter.update(extra, self.round_count, length)

    # ------------------------------------------------------------------ Startup (§5.3.1)

    def _reset_full_bw(self) -> None:
        self._full_bw = self._full_bw_count = 0
        self._full_bw_now = False

    def _check_full_bw_reached(self, sample: RateSample) -> None:
        """Three rounds without a quarter more bandwidth: the pipe is full (§5.3.1.2)."""
        if self._full_bw_now or sample.app_limited or not sample.rate:
            return
        if sample.rate * 100 >= self._full_bw * FULL_BW_GROWTH:
            self._reset_full_bw()
            self._full_bw = sample.rate
            return
        if not self._round_start:
            return
        self._full_bw_count += 1
        self._full_bw_now = self._full_bw_count >= FULL_BW_ROUNDS
        self.full_bw_reached = self.full_bw_reached or self._full_bw_now

    def _check_startup_done(self, ack: Ack) -> None:
        if self.phase is not STARTUP:
            return
        self._check_startup_high_loss(ack)
        if self.full_bw_reached:
            self.phase = DRAIN

    def _check_startup_high_loss(self, ack: Ack) -> None:
        """A whole round of recovery that lost too much, in too many places (§5.3.1.3)."""
        if not (self._loss_round_start and self._in_recovery and self._recovery_rounds):
            return
        too_many = self._loss_ranges >= STARTUP_FULL_LOSS_COUNT
        if too_many and self._lost_in_round * 100 > ack.sample.in_flight * LOSS_THRESH:
            self.full_bw_reached = True
            self.inflight_longterm = max(self._bdp(self.max_bw, 100), self._inflight_latest)

    # ------------------------------------------------------------------ ProbeBW (§5.3.3)

    def _update_probe_bw_cycle_phase(self, ack: Ack) -> None:
        if not self.full_bw_reached:
            return
        self._adapt_longterm_model(ack)
        if self.phase is DOWN or self.phase is CRUISE:
            if self._is_time_to_probe_bw():
                self._start_refill()
            elif self.phase is DOWN and self._is_time_to_cruise(ack.in_flight):
                self.phase = CRUISE
        elif self.phase is REFILL:
            if self._round_start:  # after one round the pipe is full, but there is no queue yet
                self._bw_probe_samples = 1
                self._start_up(ack.sample.rate)
        elif self.phase is UP and self._is_time_to_go_down(ack):
            self._start_down()

    def _start_down(self) -> None:
        self._reset_congestion_signals()
        self._probe_up_count = INFINITE
        # BBRPickProbeWait (§5.3.3.5): so that flows do not probe in step, which is all that the
        # low bits of a clock are good for
        self._draw = (self._draw * 1_103_515_245 + 12_345 + self._now) & 0x7FFF_FFFF
        self._rounds_since_bw_probe = self._draw >> 16 & 1
        self._bw_probe_wait = 2 * SECOND + self._draw % SECOND
        self._cycle_stamp = self._now
        self._ack_phase = AckPhase.PROBE_STOPPING
        self._start_round()
        self.phase = DOWN

    def _start_refill(self) -> None:
        self._reset_shortterm_model()
        self._bw_probe_up_rounds = self._bw_probe_up_acks = 0
        self._ack_phase = AckPhase.REFILLING
        self._start_round()
        self.phase = REFILL

    def _start_up(self, rate: int) -> None:
        self._ack_phase = AckPhase.PROBE_STARTING
        self._start_round()
        self._reset_full_bw()
        self._full_bw = rate
        self.phase = UP
        self._raise_inflight_longterm_slope()

    def _is_time_to_probe_bw(self) -> bool:
        if self._now > self._cycle_stamp + self._bw_probe_wait:
            return True
        # BBRIsRenoCoexistenceProbeTime
        rounds = min(self._target_inflight() // self._mss, MAX_RENO_ROUNDS)
        return self._rounds_since_bw_probe >= rounds

    def _is_time_to_cruise(self, in_flight: int) -> bool:
        """The queue is gone, and there is room for others."""
        if in_flight > self._inflight_with_headroom():
            return False
        return in_flight <= self._inflight(self.max_bw, 100)

    def _is_time_to_go_down(self, ack: Ack) -> bool:
        if ack.cwnd_limited and self.cwnd >= self.inflight_longterm:
            self._reset_full_bw()  # the bound limits the bandwidth, not the path
            self._full_bw = ack.sample.rate
            return False
        return self._full_bw_now

    def _adapt_longterm_model(self, ack: Ack) -> None:
        """BBRAdaptLongTermModel: what was in flight without harm may be so again."""
        sample = ack.sample
        if self._round_start:
            if self._ack_phase is AckPhase.PROBE_STARTING:
                self._ack_phase = AckPhase.PROBE_FEEDBACK
            elif self._ack_phase is AckPhase.PROBE_STOPPING:
                # the samples of the probe have ended; those of the next cycle begin
                self._bw_probe_samples = 0
                self._ack_phase = AckPhase.INIT
                if self.phase in PROBE_BW and not sample.app_limited:
                    self._cycle_count += 1
        if self._is_inflight_too_high(sample.lost, sample.in_flight):
            if self._bw_probe_samples and sample.delivered:
                self._handle_inflight_too_high(sample.in_flight, sample.app_limited)
            return
        if self.inflight_longterm == INFINITE:
            return
        self.inflight_longterm = max(self.inflight_longterm, sample.in_flight)
        if self.phase is UP:
            self._probe_inflight_longterm_upward(ack)

    def _is_inflight_too_high(self, lost: int, in_flight: int) -> bool:
        """BBRIsInflightTooHigh. Not in the draft: a single segment is no rate. Below 50 segments in
        flight each loss would be more than LOSS_THRESH, and a path of 40 ms and 8 Mbit/s that
        loses 1 % would be left unused by a fifth."""
        return lost > self._mss and lost * 100 > in_flight * LOSS_THRESH > 0

    def _handle_inflight_too_high(self, in_flight: int, app_limited: bool) -> None:
        """So much in flight lost too much; once for each probe."""
        self._bw_probe_samples = 0
        if not app_limited:
            self.inflight_longterm = max(in_flight, self._target_inflight() * BETA // 100)
        if self.phase is UP:
            self._start_down()

    def _raise_inflight_longterm_slope(self) -> None:
        """The bound grows by one segment in the first round, two in the next, then four, ..."""
        growth = self._mss << self._bw_probe_up_rounds
        self._bw_probe_up_rounds = min(self._bw_probe_up_rounds + 1, 30)
        self._probe_up_count = max(self.cwnd * self._mss // growth, self._mss)  # bytes

    def _probe_inflight_longterm_upward(self, ack: Ack) -> None:
        if not ack.cwnd_limited or self.cwnd < self.inflight_longterm:
            return  # not in use, so not to be raised
        self._bw_probe_up_acks += ack.newly_acked
        if self._bw_probe_up_acks >= self._probe_up_count:
            segments, self._bw_probe_up_acks = divmod(self._bw_probe_up_acks, self._probe_up_count)
            self.inflight_longterm += segments * self._mss
        if self._round_start:
            self._raise_inflight_longterm_slope()

    # ------------------------------------------------------------------ ProbeRTT (§5.3.4, §5.5.6)

    def _update_min_rtt(self, ack: Ack) -> None:
        now, rtt = ack.now, ack.rtt
        self._probe_rtt_expired = now > self._probe_rtt_min_stamp + PROBE_RTT_INTERVAL
        unknown = not self._probe_rtt_min_delay
        if rtt and (rtt < self._probe_rtt_min_delay or self._probe_rtt_expired or unknown):
            self._probe_rtt_min_delay = rtt
            self._probe_rtt_min_stamp = now
        expired = now > self._min_rtt_stamp + MIN_RTT_FILTER_LEN
        if self._probe_rtt_min_delay < self.min_rtt or expired or not self.min_rtt:
            self.min_rtt = self._probe_rtt_min_delay
            self._min_rtt_stamp = self._probe_rtt_min_stamp

    def _check_probe_rtt(self, ack: Ack) -> None:
        if self.phase is not PROBE_RTT and self._probe_rtt_expired and not self._idle_restart:
            self.phase = PROBE_RTT
            self._save_cwnd()
            self._probe_rtt_done_stamp = 0
            self._ack_phase = AckPhase.PROBE_STOPPING
            self._start_round()
        if self.phase is PROBE_RTT:
            self._handle_probe_rtt(ack)
        if ack.sample.delivered:
            self._idle_restart = False

    def _handle_probe_rtt(self, ack: Ack) -> None:
        """The queue of this flow is empty for 200 ms, and for a round trip at least."""
        if not self._probe_rtt_done_stamp:
            if ack.in_flight <= self._probe_rtt_cwnd():
                self._probe_rtt_done_stamp = ack.now + PROBE_RTT_DURATION
                self._probe_rtt_round_done = False
                self._start_round()
            return
        if self._round_start:
            self._probe_rtt_round_done = True
        if self._probe_rtt_round_done:
            self._check_probe_rtt_done()

    def _check_probe_rtt_done(self) -> None:
        if not self._probe_rtt_done_stamp or self._now <= self._probe_rtt_done_stamp:
            return
        self._probe_rtt_min_stamp = self._now
        self._restore_cwnd()
        self._reset_shortterm_model()
        if self.full_bw_reached:
            self._start_down()
            self.phase = CRUISE
        else:
            self.phase = STARTUP

    # ------------------------------------------------------------------ control parameters (§5.6)

    def _bdp(self, bw: int, gain: int) -> int:
        """BBRBDPMultiple, bytes."""
        if not self.min_rtt or not bw:
            return self._initial
        return bw * self.min_rtt // SECOND * gain // 100

    def _quantized(self, in_flight: int) -> int:
        """BBRQuantizationBudget (§5.6.4.2): offload needs whole bursts in flight."""
        size = max(in_flight, 3 * self.send_quantum, MIN_PIPE_CWND * self._mss)
        return size + 2 * self._mss if self.phase is UP else size

    def _inflight(self, bw: int, gain: int) -> int:
        return self._quantized(self._bdp(bw, gain))

    def _target_inflight(self) -> int:
        return min(self._bdp(self.bw, 100), self.cwnd)

    def _inflight_with_headroom(self) -> int:
        if self.inflight_longterm == INFINITE:
            return INFINITE
        headroom = max(self._mss, self.inflight_longterm * HEADROOM // 100)
        return max(self.inflight_longterm - headroom, MIN_PIPE_CWND * self._mss)

    def _probe_rtt_cwnd(self) -> int:
        return max(self._bdp(self.bw, PROBE_RTT_CWND_GAIN), MIN_PIPE_CWND * self._mss)

    def _set_pacing_rate(self, gain: int) -> None:
        """§5.6.2; while the pipe is not known to be full, the rate does not fall."""
        rate = self.bw * gain * (100 - PACING_MARGIN) // 10_000
        if rate and (self.full_bw_reached or rate > self.pacing_rate):
            self.pacing_rate = rate

    def _set_send_quantum(self) -> None:
        """§5.6.3: what a millisecond takes."""
        size = min(self.pacing_rate * QUANTUM_US // SECOND, MAX_QUANTUM)
        self.send_quantum = max(size // self._mss, 2) * self._mss

    def _save_cwnd(self) -> None:
        """The last good window, before recovery or ProbeRTT."""
        if not self._in_recovery and self.phase is not PROBE_RTT:
            self._prior_cwnd = self.cwnd
        else:
            self._prior_cwnd = max(self._prior_cwnd, self.cwnd)

    def _restore_cwnd(self) -> None:
        self.cwnd = max(self.cwnd, self._prior_cwnd)

    def _set_cwnd(self, ack: Ack) -> None:
        """BBRSetCwnd (§5.6.4.6)."""
        gain = GAINS[self.phase][1]
        # BBRUpdateMaxInflight (§5.6.4.2)
        self._max_inflight = self._quantized(self._bdp(self.bw, gain) + self._extra_acked)
        if self._in_recovery:  # BBRModulateCwndForRecovery (§5.6.4.4)
            if ack.newly_lost:
                self.cwnd = max(self.cwnd - ack.newly_lost, self._mss)
            if self._entering_recovery:
                self.cwnd = ack.in_flight + max(ack.newly_acked, self._mss)
            elif self._packet_conservation:
                # not less than before: what pacing has held back so far may go yet
                self.cwnd = max(self.cwnd, ack.in_flight + ack.newly_acked)
        self._entering_recovery = False
        if not self._packet_conservation:
            if self.full_bw_reached:
                self.cwnd = min(self.cwnd + ack.newly_acked, self._max_inflight)
            elif self.cwnd < self._max_inflight or ack.delivered < self._initial:
                self.cwnd += ack.newly_acked
            self.cwnd = max(self.cwnd, MIN_PIPE_CWND * self._mss)
        if self.phase is PROBE_RTT:  # BBRBoundCwndForProbeRTT
            self.cwnd = min(self.cwnd, self._probe_rtt_cwnd())
        self._bound_cwnd_for_model()

    def _bound_cwnd_for_model(self) -> None:
        """BBRBoundCwndForModel: while cruising, others have headroom."""
        cap = INFINITE
        if self.phase is CRUISE or self.phase is PROBE_RTT:
            cap = self._inflight_with_headroom()
        elif self.phase in PROBE_BW:
            cap = self.inflight_longterm
        cap = max(min(cap, self.inflight_shortterm), MIN_PIPE_CWND * self._mss)
        self.cwnd = min(self.cwnd, cap)
