"""Handshakes that listeners have begun, each in a compact record: no Tcb before the ACK.

Owns the records, their caps, their SYN,ACKs and their timer, and judges what arrives for them
(SYN-RECEIVED after a passive OPEN: RFC 9293 §3.10.7.4, RFC 5961). The stack makes the Tcb once
the judgement is that the handshake is complete.
"""

from enum import Enum, auto

from ustack.config import TcpConfig
from ustack.stack.flows import split_key
from ustack.stack.ip import fixed_headers, flow_label
from ustack.stack.listener import Listener
from ustack.stack.services import Services
from ustack.stack.syn_request import ECN_SHIFT, NO_WSCALE, SACK, TIMESTAMPS, Numbers, SynRequest
from ustack.tcp.ecn_handshake import CLASSIC, KIND, NONE, is_plain, syn_ack
from ustack.tcp.fast_open import Cookie
from ustack.tcp.handshake import (
    MAX_OPTIONS,
    Opening,
    clamp_receive_mss,
    default_mss,
    encode_syn_options,
    timestamp_offset,
    wanted_wscale,
)
from ustack.tcp.md5_signature import key_of, signed
from ustack.tcp.segment import Segment
from ustack.tcp.seq import MASK32, older32, unwrap
from ustack.tcp.syn_cookies import (
    MAX_AGE,
    MINUTE_US,
    check_cookie,
    make_cookie,
    mark_timestamp,
    read_timestamp,
)
from ustack.wire.tcp import ACK, RST, SYN
from ustack.wire.tcp_options import SIGNATURE_SIZE, Options, encode_options

MIN_PRUNED_BACKLOG = 8  # Linux: below twice so many, old handshakes are not given up early
MIN_TIMEOUTS = 2  # Linux: what pruning leaves of syn_ack_retransmissions


class Judgement(Enum):
    """What a segment means to a handshake under way."""

    DONE = auto()  # dealt with
    RESET = auto()  # answer with RST at SEG.ACK
    REFUSE = auto()  # answer with RST as where there is no connection
    COMPLETE = auto()  # the ACK we wait for


class SynQueue:
    """All half-open connections of a stack that listeners have begun."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._table = services.flows.table
        self._wheel = services.wheel
        self._output = services.output
        self._counters = services.counters
        self._limit = services.challenge_limit
        self._secret = services.secret
        self.count = 0

    def add(
        self,
        listener: Listener,
        flow: bytes,
        seg: Segment,
        iss: int,
        cookie: Cookie | None,
        now: int,
    ) -> None:
        """A record takes `flow`, and a SYN,ACK leaves. The caller has checked the caps.

        `cookie`: of Fast Open, for the first SYN,ACK only (RFC 7413 §4.2.2). Text on the SYN is not
        kept, and as it is not acknowledged the peer sends it again (Linux; RFC 9293 §3.10.7.2
        leaves it to us).
        """
        mss = self._mss(listener.config, flow)
        request = SynRequest(flow, listener, seg, iss, self._ts_offset(listener, flow), now, mss)
        self._table[flow] = request
        self.count += 1
        listener.half_open += 1
        listener.young += 1
        self._send(request, now, cookie)

    def full(self, listener: Listener, reopening: bool) -> str:
        """Why there is no room for another record, "" if there is.

        Linux: a SYN that takes the place of a TIME-WAIT is let in beyond the backlog, since its
        ISN could not be a cookie.
        """
        if self.count >= self._config.max_half_open:
            return "half-open-full"
        return "syn-queue-full" if listener.syn_queue_full() and not reopening else ""

    def remove(self, request: SynRequest) -> None:
        """`request` is over, one way or another."""
        self._wheel.cancel(request)
        if self._table.get(request.flow) is request:
            del self._table[request.flow]
        self.count -= 1
        request.listener.half_open -= 1
        if not request.timeouts:
            request.listener.young -= 1

    def forget(self, listener: Listener) -> None:
        """`listener` is closed: nobody answers for its handshakes any more."""
        if listener.half_open:
            for holder in list(self._table.values()):
                if type(holder) is SynRequest and holder.listener is listener:
                    self.remove(holder)

    def requests(self) -> list[SynRequest]:
        """All of them."""
        return [holder for holder in self._table.values() if type(holder) is SynRequest]

    # SYN cookies

    def send_cookie(self, listener: Listener, flow: bytes, seg: Segment, now: int) -> None:
        """A SYN,ACK leaves, and nothing is remembered of it (RFC 4987 §3.6)."""
        options = seg.options or Options()
        if options.tsval is None or not listener.config.timestamps:  # nowhere to keep the rest
            options.wscale, options.sack_permitted = None, False
        announced = options.mss or default_mss(fixed_headers(split_key(flow)[0]))
        iss = make_cookie(flow, self._secret, seg.seq, announced, now)
        mss = self._mss(listener.config, flow)
        request = SynRequest(
            flow, listener, seg, iss, self._ts_offset(listener, flow), now, mss, cookie=True
        )
        said = request.numbers()
        judged = said.flags >> ECN_SHIFT
        # no room for more than a bit: AccECN becomes what a host without it would agree to
        room = options.tsval is not None and listener.config.timestamps
        judged = CLASSIC if judged & KIND != NONE and room else NONE
        clock = (now // 1000 + said.ts_offset) & MASK32
        tsval = mark_timestamp(clock, said.ts_offset, options, judged == CLASSIC)
        self._segment(
            request,
            said,
            iss,
            SYN | ACK | syn_ack(listener.config, judged, 0, 0)[0],
            said.our_wnd,
            self._options(said, request, tsval),
            "SYN cookie",
        )
        listener.overflowed_at = now
        self._counters["syn-cookies-sent"] += 1

    def read_cookie(
        self, listener: Listener, flow: bytes, seg: Segment, now: int
    ) -> Opening | None:
        """What an ACK without a record tells of its handshake; None: nothing, it is a stray one.

        Cookies count only while they are sent: at other times there is nothing to be guessed.
        """
        if not self._config.syn_cookies or now - listener.overflowed_at > MAX_AGE * MINUTE_US:
            return None
        cookie = check_cookie(flow, self._secret, seg.seq, seg.ack, now)
        if cookie is None:
            self._counters["syn-cookies-failed"] += 1
            return None
        self._counters["syn-cookies-received"] += 1
        options, ecn = Options(), NONE
        options.mss = cookie.mss
        if seg.tsval is not None and listener.config.timestamps:
            options.tsval = seg.tsval
            if read_timestamp(seg.tsecr, self._ts_offset(listener, flow), options):
                ecn = CLASSIC
        seg.seq = unwrap(seg.seq, cookie.irs + 1)
        seg.ack = unwrap(seg.ack, cookie.iss + 1)
        return Opening(cookie.irs, cookie.iss, 0, options, 0, ecn, None)

    def _ts_offset(self, listener: Listener, flow: bytes) -> int:
        if not listener.config.timestamps:
            return 0
        remote, local, _, _ = split_key(flow)
        return timestamp_offset(remote + local, self._secret)

    # Segments

    def judge(self, request: SynRequest, seg: Segment, now: int) -> Judgement:
        """Decide on `seg` (RFC 9293 §3.10.7.4); SEG.SEQ and SEG.ACK become positions near ours.

        1. The peer's own SYN again means that our SYN,ACK was lost: it is sent again.
        2. An ACK of anything but our SYN: a RST, and the handshake goes on. Linux: wherever it is.
        3. PAWS and the window, as in every other state; outside: an ACK.
        4. A RST at RCV.NXT ends it; elsewhere in the window: a challenge ACK.
        5. A SYN in the window ends it, as RFC 9293 says; Linux: with a RST.
        """
        said = request.numbers()
        config = request.listener.config
        nxt = said.irs + 1
        edge = nxt + said.our_wnd
        seg.seq = seq = unwrap(seg.seq, nxt)
        seg.ack = unwrap(seg.ack, said.iss)
        flags, length = seg.flags, seg.len
        if flags & (SYN | RST | ACK) == SYN and seq == said.irs:
            request.plain_syn |= is_plain(seg)
            if self._may_answer(request, now):
                self._send(request, now)
            return Judgement.DONE
        if flags & ACK and seg.ack != said.iss + 1:
            return Judgement.DONE if flags & RST else Judgement.RESET
        if _older(said, seg, config) or not (
            nxt < seq + length and seq < edge if length else nxt <= seq <= edge
        ):
            if not flags & RST and ((length and not flags & SYN) or self._challenges(request, now)):
                self._acknowledge(request, said, now)
            return Judgement.DONE
        if flags & RST and seq == nxt:
            self._counters["half-open-reset"] += 1
            self.remove(request)
        elif flags & RST:
            if seq < edge and self._challenges(request, now):
                self._acknowledge(request, said, now)
        elif flags & SYN:
            self._counters["half-open-reset"] += 1
            self.remove(request)
            return Judgement.REFUSE
        elif flags & ACK and not (length == 0 and self._defers(request)):
            return Judgement.COMPLETE
        return Judgement.DONE

    def _defers(self, request: SynRequest) -> bool:
        """TCP_DEFER_ACCEPT: an ACK without text is as good as lost, for some time (tcp(7))."""
        if request.timeouts >= request.listener.config.defer_accept:
            return False
        request.acknowledged = True
        self._counters["deferred-acks"] += 1
        return True

    def _may_answer(self, request: SynRequest, now: int) -> bool:
        """Not more often than a challenge ACK (Linux tcp_invalid_ratelimit)."""
        if now - request.answered_at < request.listener.config.challenge_ack_interval_us:
            self._counters["half-open-rate-limited"] += 1
            return False
        request.answered_at = now
        return True

    def _challenges(self, request: SynRequest, now: int) -> bool:
        return self._may_answer(request, now) and self._limit.allow(now)

    # Time

    def timeout(self, request: SynRequest, now: int) -> None:
        """Our SYN,ACK was not answered in time (RFC 6298 §5.5 to 5.7, MUST-22)."""
        listener = request.listener
        deferral = listener.config.defer_accept
        waits = request.acknowledged and request.timeouts < deferral
        if request.timeouts >= self._most_timeouts(listener) and not waits:
            self._counters["half-open-timed-out"] += 1
            self.remove(request)
            return
        if not request.timeouts:
            listener.young -= 1
        # Of a handshake that waits for text, only the last timeout asks for it again (Linux).
        silent = request.acknowledged and request.timeouts < deferral - 1
        request.timeouts += 1
        if silent:
            self._rest(request, now)
        else:
            self._send(request, now)

    @staticmethod
    def _most_timeouts(listener: Listener) -> int:
        """How often a SYN,ACK is sent again. Linux: less often while the queue is half full of
        old handshakes, so that they leave room for new ones (RFC 4987 §3.4)."""
        most, old_share = listener.config.syn_ack_retransmissions, listener.young << 1
        if listener.half_open << 1 > max(MIN_PRUNED_BACKLOG, listener.backlog):
            while most > MIN_TIMEOUTS and listener.half_open >= old_share:
                most -= 1
                old_share <<= 1
        return most

    # Output

    def _send(self, request: SynRequest, now: int, cookie: Cookie | None = None) -> None:
        """SYN,ACK, and its timer. Its window is never scaled (RFC 7323 §2.2)."""
        said = request.numbers()
        config = request.listener.config
        note = "SYN retransmission" if request.timeouts else ""
        judged = said.flags >> ECN_SHIFT
        flags, acc_ecn = syn_ack(config, judged, request.sent, request.timeouts)
        options = self._options(
            said, request, (now // 1000 + said.ts_offset) & MASK32, acc_ecn, cookie
        )
        self._segment(request, said, said.iss, SYN | ACK | flags, said.our_wnd, options, note)
        request.sent += 1
        request.sent_at = now
        self._rest(request, now)

    def _rest(self, request: SynRequest, now: int) -> None:
        """Until the next timeout."""
        config = request.listener.config
        wait = min(config.initial_rto_us << request.timeouts, config.max_rto_us)
        self._wheel.insert(request, now + wait, now)

    def _mss(self, config: TcpConfig, flow: bytes) -> int:
        """Ours, as the SYN,ACK says it."""
        return clamp_receive_mss(config, self._config.mtu, fixed_headers(split_key(flow)[0]))

    def _options(
        self,
        said: Numbers,
        request: SynRequest,
        tsval: int,
        acc_ecn: bytes = b"",
        cookie: Cookie | None = None,
    ) -> bytes:
        """Those of the SYN,ACK: what the peer offered, where we want it too."""
        config = request.listener.config
        timestamps = said.flags & TIMESTAMPS and config.timestamps
        wscale = said.wscale != NO_WSCALE and config.window_scaling
        signs = key_of(config, request.flow) is not None
        room = MAX_OPTIONS - SIGNATURE_SIZE if signs else MAX_OPTIONS
        options = encode_syn_options(
            config,
            mss=self._mss(config, request.flow),
            wscale=wanted_wscale(config) if wscale else None,
            sack_permitted=bool(said.flags & SACK) and config.sack,
            tsval=tsval if timestamps else None,
            tsecr=said.tsval,
            acc_ecn=acc_ecn,
            cookie=cookie,
            room=room,
        )
        if not acc_ecn and cookie is None:
            return options
        headers = fixed_headers(split_key(request.flow)[0])
        if headers + len(options) <= self._config.mtu and len(options) <= room:
            return options
        return self._options(said, request, tsval)  # an MTU near 68 bytes

    def _acknowledge(self, request: SynRequest, said: Numbers, now: int) -> None:
        """Answer what is not acceptable; the right edge stays where the SYN,ACK has put it."""
        config = request.listener.config
        window = said.our_wnd
        if said.wscale != NO_WSCALE and config.window_scaling:
            window >>= wanted_wscale(config)
        options = b""
        if said.flags & TIMESTAMPS and config.timestamps:
            tsval = (now // 1000 + said.ts_offset) & MASK32
            options = encode_options(tsval=tsval, tsecr=said.tsval)
        self._segment(request, said, said.iss + 1, ACK, window, options, "challenge ACK")

    def _segment(
        self,
        request: SynRequest,
        said: Numbers,
        seq: int,
        flags: int,
        window: int,
        options: bytes,
        note: str,
    ) -> None:
        remote = split_key(request.flow)[0]
        key, ack = key_of(request.listener.config, request.flow), (said.irs + 1) & MASK32
        last = not flags & SYN
        options = signed(key, request.flow, seq & MASK32, ack, flags, window, options, last=last)
        self._output.segment(
            request.flow,
            seq,
            ack,
            flags,
            window,
            options,
            note,
            config=request.listener.config,
            label=flow_label(request.flow, self._secret) if len(remote) == 16 else 0,
        )


def _older(said: Numbers, seg: Segment, config: TcpConfig) -> bool:
    """PAWS (RFC 7323 §5.3 R1); it spares RSTs."""
    if not (said.flags & TIMESTAMPS and config.timestamps) or seg.flags & RST:
        return False
    if seg.tsval is None:
        return config.require_timestamps
    return older32(seg.tsval, said.tsval)
