"""Transmission Control Block: the variables of one connection (RFC 9293 §3.3.1), no behaviour.

Three modules act on it, one for each kind of event: user_calls, segment_arrives, timeouts.
`transmit` alone turns it into packets. Two slots belong to others: `user` (the runtime) and
`header` (the packet template of stack/ip.py).
"""

from typing import TYPE_CHECKING, NamedTuple

from ustack.config import TcpConfig
from ustack.errors import UStackError
from ustack.tcp.chronograph import Chronograph
from ustack.tcp.congestion import CongestionControl
from ustack.tcp.delivery_rate import DeliverySampler
from ustack.tcp.fast_open import FastOpen
from ustack.tcp.memory import Memory
from ustack.tcp.mtu_search import MtuSearch
from ustack.tcp.pacing import Pacer
from ustack.tcp.rate_limit import RateLimit
from ustack.tcp.receive_buffer import ReceiveBuffer
from ustack.tcp.receive_tuning import ReceiveTuner
from ustack.tcp.recovery import Recovery
from ustack.tcp.rtt import RttEstimator
from ustack.tcp.scoreboard import Scoreboard
from ustack.tcp.send_buffer import SendBuffer
from ustack.tcp.send_marks import SendMarks
from ustack.tcp.state import CLOSED, State, set_state
from ustack.tcp.window_usage import WindowUsage

if TYPE_CHECKING:
    from ustack.tcp.ecn import Ecn
    from ustack.tcp.sack_compression import SackCompression

NEVER = 1 << 62  # µs; later than any deadline

# What the user is told, or-ed together in `tcb.events`
READABLE = 1  # new text in order, or the peer's FIN
WRITABLE = 2  # room in the send buffer after it was full
CONNECTED = 4  # ESTABLISHED was reached
ACCEPTABLE = 8  # listener: a connection can be accepted
FIN_ACKED = 16  # everything sent and our FIN are acknowledged
CLOSED_EVENT = 32  # the connection is over; tcb.error tells why
SOFT_ERROR = 64  # tcb.soft_error has news (RFC 9293 §3.9.1.8)
URGENT = 128  # urgent data became pending or its end moved (RFC 9293 §3.8.5)
DRAINED = 256  # everything sent so far is acknowledged
REPORTED = 512  # tcb.marks has reports

# What `tcb.cork` says (tcp(7) TCP_CORK, send(2) MSG_MORE)
UNCORKED = 0
CORK = 1  # a last partial segment waits until the cork is drawn
MORE = 2  # it waits for the next write, or until a segment arrives


class Endpoint(NamedTuple):
    """One end of a connection."""

    address: str
    port: int


class SendSequence:
    """Send Sequence Variables (RFC 9293 §3.3.1, Table 2). Positions are unwrapped (see seq.py)."""

    __slots__ = (
        "adv_mss",
        "fin",
        "gso_limit",
        "iss",
        "max",
        "max_wnd",
        "mss",
        "nxt",
        "small_end",
        "una",
        "up",
        "wl1",
        "wl2",
        "wnd",
        "wscale",
    )

    def __init__(self, iss: int) -> None:
        self.iss = iss
        self.una = iss
        self.nxt = iss
        self.max = iss  # BSD snd_max: SND.NXT, or one more while a window probe is out
        self.wnd = 0
        self.max_wnd = 0
        self.wl1 = 0
        self.wl2 = 0
        self.up: int | None = None  # SND.UP: position after the last urgent octet
        self.wscale = 0  # Snd.Wind.Shift (RFC 7323)
        self.adv_mss = 536  # what the peer's MSS option said
        self.mss = 536  # payload of a full-sized segment: options and path MTU already taken off
        self.gso_limit = 536  # payload of the largest super-segment, a multiple of mss
        self.small_end = iss  # end of the last segment below mss (Minshall's variant of Nagle)
        self.fin: int | None = None  # position of our FIN once it has been sent


class ReceiveSequence:
    """Receive Sequence Variables (RFC 9293 §3.3.1, Table 3)."""

    __slots__ = (
        "adv",
        "fin",
        "irs",
        "last_size",
        "mss",
        "mss_seen",
        "nxt",
        "rounding",
        "up",
        "wscale",
    )

    def __init__(self, mss: int) -> None:
        self.irs = 0
        self.nxt = 0
        self.adv = 0  # right edge promised to the peer; RCV.WND is adv - nxt
        self.mss = mss  # RMSS: what our MSS option says
        self.mss_seen = 536  # what "full-sized" means for ACKs: see ack_policy
        self.last_size = 0  # bytes of the last segment, if it was a small one that may be full
        self.up: int | None = None  # RCV.UP: position after the last urgent octet, None: none
        self.wscale = 0  # Rcv.Wind.Shift
        self.rounding = 0  # added before the shift: 2^wscale - 1, as Linux, or none, as FreeBSD
        self.fin: int | None = None  # position of the peer's FIN, once seen; taken when below nxt


class Timers:
    """Absolute deadlines in µs, NEVER when not running."""

    __slots__ = (
        "delayed_ack",
        "fin_wait_2",
        "keep_alive",
        "pace",
        "persist",
        "pto",
        "reorder",
        "rto",
        "user",
    )

    def __init__(self) -> None:
        self.rto = NEVER  # retransmission, SYN included
        self.pace = NEVER  # the next burst may leave
        self.pto = NEVER  # tail loss probe (RFC 8985 §7)
        self.reorder = NEVER  # RACK: a late segment becomes a lost one (RFC 8985 §6.3)
        self.persist = NEVER  # zero window, and the override of silly-window avoidance
        self.delayed_ack = NEVER
        self.keep_alive = NEVER
        self.user = NEVER  # RFC 5482
        self.fin_wait_2 = NEVER

    def stop(self) -> None:
        """Stop all of them: nothing is left to happen on this connection."""
        self.__init__()  # type: ignore[misc]


class Counters:
    """What happened on this connection, for STATUS. Segments and bytes."""

    __slots__ = (
        "beyond_window",
        "bytes_acked",
        "bytes_received",
        "challenge_acks",
        "data_segments_in",
        "data_segments_out",
        "delivered",
        "dsack_bytes",
        "dsacks_received",
        "out_of_order",
        "out_of_window",
        "segments_in",
        "segments_out",
    )

    def __init__(self) -> None:
        self.segments_in = 0
        self.segments_out = 0
        self.bytes_acked = 0
        self.bytes_received = 0
        self.data_segments_in = 0
        self.data_segments_out = 0  # sent again counts too
        self.delivered = 0  # segments that the peer has reported, the SYN included
        self.out_of_order = 0
        self.out_of_window = 0
        self.beyond_window = 0  # of them: those that end behind it
        self.challenge_acks = 0
        self.dsacks_received = 0
        self.dsack_bytes = 0


class Tcb:
    """One connection's state and nothing else."""

    __slots__ = (
        "ack_now",
        "ack_owed",
        "ack_soon",
        "ato",
        "challenge_at",
        "challenge_limit",
        "charged",
        "chronograph",
        "closed",
        "compression",
        "config",
        "congestion",
        "cork",
        "counters",
        "deaf",
        "detached",
        "dialogue",
        "dirty",
        "due_at",
        "ecn",
        "eof",
        "error",
        "events",
        "fast_open",
        "fin_queued",
        "fixed_headers",
        "flow",
        "flush_now",
        "gso_max",
        "header",
        "keep_alive_probes",
        "last_ack_sent",
        "last_data_sent_at",
        "last_received_at",
        "listener",
        "local",
        "marks",
        "memory",
        "more_at",
        "mtu",
        "nagle",
        "note",
        "options_agreed",
        "override",
        "pacer",
        "passive",
        "path_mtu_payload",
        "persist_shift",
        "probe_due",
        "probes",
        "probing_tail",
        "pushed",
        "quick_acks",
        "rcv",
        "receive_buffer",
        "recovery",
        "remote",
        "reset_due",
        "retransmits",
        "rtt",
        "sack_due",
        "sack_on",
        "sampler",
        "scoreboard",
        "send_buffer",
        "send_full",
        "signature",
        "slot",
        "snd",
        "soft_error",
        "state",
        "stalled_since",
        "syn_due",
        "tail_probe_end",
        "tail_probe_resent",
        "text_received_at",
        "timers",
        "ts_offset",
        "ts_echoed",
        "ts_on",
        "ts_recent",
        "ts_recent_at",
        "tuner",
        "usage",
        "user",
        "wscale_on",
    )

    def __init__(
        self,
        flow: bytes,
        local: Endpoint,
        remote: Endpoint,
        config: TcpConfig,
        challenge_limit: RateLimit,
        memory: Memory,
        iss: int,
        rcv_mss: int,
        fixed_headers: int,
        gso_max: int,
        now: int,
    ) -> None:
        self.flow = flow  # key in the flow table: the 12 or 36 bytes an arriving packet shows
        self.local = local
        self.remote = remote
        self.config = config
        self.challenge_limit = challenge_limit  # of the whole stack (RFC 5961 §7)
        self.memory = memory  # the same
        self.charged = 0  # what our buffers have been charged there, bytes
        self.state: State = CLOSED
        self.passive = False  # opened by a listener (MUST-11)
        self.fast_open: FastOpen | None = None  # RFC 7413
        self.listener: object | None = None  # until the connection has been accepted

        self.snd = SendSequence(iss)
        self.rcv = ReceiveSequence(rcv_mss)
        self.send_buffer = SendBuffer(iss + 1, config.send_buffer or config.send_buffer_initial)
        self.receive_buffer = ReceiveBuffer(config.receive_buffer or config.receive_buffer_initial)
        self.tuner: ReceiveTuner | None = None  # from the first text on
        self.rtt = RttEstimator(config.initial_rto_us, config.min_rto_us, config.max_rto_us)
        self.scoreboard = Scoreboard()
        self.recovery = Recovery()
        self.congestion: CongestionControl | None = None  # from ESTABLISHED on: needs the MSS
        self.usage = WindowUsage()
        self.sampler: DeliverySampler | None = None  # from the first text above a segment on
        self.pacer: Pacer | None = None  # where text is paced
        self.timers = Timers()
        self.counters = Counters()
        self.chronograph: Chronograph | None = None  # from the first text on

        # Options agreed on the SYNs
        self.options_agreed = False
        self.wscale_on = False
        self.sack_on = False
        self.ts_on = False
        self.ts_recent = 0  # TS.Recent (RFC 7323 §4.3), 32 bits
        self.ts_recent_at = now
        self.ts_echoed = 0  # the last TSecr that was looked at by the tuner
        self.ts_offset = 0  # added to our timestamp clock, 32 bits
        self.ecn: Ecn | None = None  # asked for or agreed
        self.signature: bytes | None = None  # the key of RFC 2385; None: nothing is signed
        self.last_ack_sent = 0  # Last.ACK.sent (RFC 7323 §4.3)
        self.fixed_headers = fixed_headers  # IP and TCP headers without options, bytes
        self.path_mtu_payload = rcv_mss  # cap on payload + options from the path MTU
        self.mtu: MtuSearch | None = None  # while the path MTU is searched for (RFC 4821)
        self.gso_max = gso_max  # largest IP packet that the device segments for us, 0: none
        self.nagle = config.nagle
        self.marks: SendMarks | None = None  # what the user wants to know of the stream
        self.cork = UNCORKED  # is a last partial segment held back, and for how long?
        self.more_at = 0  # MORE: COUNTERS.SEGMENTS_IN at the last write

        # What is owed to the peer; transmit() settles it
        self.syn_due = False
        self.ack_now = False
        self.ack_soon = False  # once the user has had the chance to answer with data
        self.sack_due = False  # something may have to be reported in SACK blocks
        self.flush_now = False  # this ACK must not be merged with later ones of the batch
        self.ack_owed = 0  # bytes received since the last ACK
        self.compression: SackCompression | None = None  # from the first gap on
        self.quick_acks = 0  # ACKs still to be sent without delay
        self.dialogue = 0  # answers of ours in a row (Linux pingpong); see ack_policy
        self.ato = 0  # how long an ACK may wait, µs; 0: no text has come yet
        self.pushed = 0  # of what is not acknowledged: 1 a small or pushed segment, 2 more of them
        self.probe_due = ""  # why a probe or a challenge ACK is to be sent: its note
        self.override = False  # silly-window avoidance has waited long enough (§3.8.6.2.1)
        self.reset_due = False
        self.fin_queued = False  # the user has closed the sending side
        self.deaf = False  # the user will read no more, but has not closed
        self.detached = False  # the user has closed altogether: nobody will read
        self.challenge_at = -NEVER  # when the last challenge ACK was sent

        # Tail loss probe (RFC 8985 §7)
        self.probing_tail = False  # agreed: SACK is on and the configuration wants it
        self.tail_probe_end: int | None = None  # SND.NXT when the probe went out, None: none is out
        self.tail_probe_resent = 0  # how many bytes of old text it was, 0: new text

        # Giving up
        self.retransmits = 0  # expiries of the retransmission timer since the last progress
        self.probes = 0  # zero-window probes since the last answer
        self.persist_shift = 0  # doublings of the probe interval since the window closed
        self.keep_alive_probes = 0
        self.stalled_since = NEVER  # since when the oldest byte has gone without progress
        self.last_received_at = now
        self.text_received_at = now  # in order
        self.last_data_sent_at = now

        # Towards the user
        self.events = 0
        self.eof = False  # the peer's FIN was reached; receive() returns b"" after the text
        self.error: UStackError | None = None
        self.soft_error: UStackError | None = None
        self.closed = False
        self.send_full = False  # SEND took less than offered: WRITABLE is owed
        self.user: object = None

        # Towards the stack
        self.dirty = False
        self.note = ""  # state changes since the last packet traced
        self.header: object = None
        self.due_at = NEVER  # where the timer wheel holds this Tcb
        self.slot: object = None


def option_bytes(tcb: Tcb) -> int:
    """What the options on every segment take: timestamps (RFC 7323 appendix A)."""
    return 12 if tcb.ts_on else 0


def finish(tcb: Tcb, error: UStackError | None) -> None:
    """End the connection here and now: state CLOSED, timers stopped, everybody told.

    The one place that sets a terminal reason. Unread text stays for the user, unless the peer
    or the network broke the connection (RFC 9293 §3.10.7.4: queues are flushed on RST).
    """
    if tcb.closed:
        return
    if tcb.state is not CLOSED:
        set_state(tcb, CLOSED)
    tcb.error = error
    retire(tcb)


def report(tcb: Tcb, error: UStackError) -> None:
    """ERROR_REPORT (RFC 9293 §3.9.1.8): `error` is remembered, and told unless that was muted."""
    tcb.soft_error = error
    if tcb.config.report_soft_errors:
        tcb.events |= SOFT_ERROR


def retire(tcb: Tcb) -> None:
    """Free what a connection that is CLOSED or has entered TIME-WAIT needs no longer."""
    tcb.closed = True
    tcb.timers.stop()
    tcb.syn_due = False
    tcb.probe_due = ""
    if tcb.receive_buffer.held:
        tcb.receive_buffer.drop_out_of_order()  # nothing will fill the gaps any more
    buffer = tcb.send_buffer
    buffer.release(buffer.end)
    if not (tcb.detached or tcb.scoreboard.is_clean()):  # somebody may keep it
        tcb.scoreboard = Scoreboard()
    if tcb.marks is not None and tcb.marks.abandon():
        tcb.events |= REPORTED
    tcb.events |= CLOSED_EVENT
