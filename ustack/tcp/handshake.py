"""Opening: what the SYNs offer and agree, and how initial sequence numbers are chosen."""

from functools import lru_cache
from hashlib import blake2s
from struct import Struct
from typing import NamedTuple

from ustack.config import TcpConfig
from ustack.tcp import buffer_sizes, ecn_handshake, rates
from ustack.tcp.buffer_sizes import (
    MAX_UNSCALED_WINDOW,
    TIMESTAMP_OPTION,
    established,
    first_window,
    largest_window,
)
from ustack.tcp.congestion import REGISTRY
from ustack.tcp.fast_open import Cookie, FastOpen
from ustack.tcp.md5_signature import options_room, signature_size
from ustack.tcp.mtu_search import MtuSearch
from ustack.tcp.seq import MASK32
from ustack.tcp.state import SYN_RECEIVED, set_state
from ustack.tcp.tcb import NEVER, READABLE, Tcb, option_bytes
from ustack.wire import Buffer
from ustack.wire.ipv4 import MAX_PACKET
from ustack.wire.tcp_options import Options, encode_bsd_syn_options, encode_options

DEFAULT_MSS_IPV4 = 536  # bytes; RFC 9293 §3.7.1, MUST-15
DEFAULT_MSS_IPV6 = 1220
MIN_MSS = 48  # bytes; Linux TCP_MIN_SND_MSS: smaller values only serve attacks
LEAST_SEGMENT = 36  # bytes of text, however small the peer's window is: Linux, with timestamps
NOP_NOP_TS = 0x0101080A  # its layout (RFC 7323 appendix A)
MAX_WSCALE = 14  # RFC 7323 §2.3
AT_ONCE = 2  # `mtu_probing`: path MTU probes from the start
MAX_OPTIONS = 40  # bytes, RFC 9293 §3.1
IPV4_TCP_HEADERS = 40  # bytes
IPV6_TCP_HEADERS = 60
ISN_TICK_US = 4  # RFC 9293 §3.4.1: the clock of initial sequence numbers

_TIMESTAMPS = Struct("!III")


def initial_sequence_number(flow: bytes, secret: bytes, now: int) -> int:
    """ISN = M + F(addresses, ports, secret) with M the 4 µs clock (RFC 6528 §3)."""
    digest = blake2s(flow, key=secret, digest_size=4, person=b"isn").digest()
    return (now // ISN_TICK_US + int.from_bytes(digest, "big")) & MASK32


@lru_cache(maxsize=256)  # a server is asked for those of the same hosts again and again
def timestamp_offset(addresses: bytes, secret: bytes) -> int:
    """Where the timestamp clock of a pair of hosts begins (RFC 7323 §7.1).

    It depends on the addresses only, so that timestamps grow across the connections of a pair:
    TIME-WAIT reuse (RFC 6191) rests on that.
    """
    digest = blake2s(addresses, key=secret, digest_size=4, person=b"ts").digest()
    return int.from_bytes(digest, "big")


def timestamp(tcb: Tcb, now: int) -> int:
    """TSval: milliseconds (RFC 7323 §5.4 wants 1 ms to 1 s)."""
    return (now // 1000 + tcb.ts_offset) & MASK32


def timestamps(tcb: Tcb, now: int) -> bytes:  # hot
    """The timestamp option as every segment carries it once it was agreed, else nothing."""
    if not tcb.ts_on:
        return b""
    return _TIMESTAMPS.pack(NOP_NOP_TS, (now // 1000 + tcb.ts_offset) & MASK32, tcb.ts_recent)


def wanted_wscale(config: TcpConfig) -> int:
    """The smallest shift with which 16 bits can express the largest window (RFC 7323 §2.3)."""
    largest = config.receive_buffer_max if config.bsd_handshake else largest_window(config)
    return min(max(largest.bit_length() - 16, 0), MAX_WSCALE)


def encode_syn_options(
    config: TcpConfig,
    *,
    mss: int,
    wscale: int | None,
    sack_permitted: bool,
    tsval: int | None,
    tsecr: int,
    cookie: Cookie | None,
    acc_ecn: bytes = b"",
    room: int = MAX_OPTIONS,
) -> bytes:
    """Options of a SYN or SYN,ACK, in the order that `config` wants; `room` for all, bytes."""
    fast_open = cookie.value if cookie is not None else None
    experimental = cookie is not None and cookie.experimental
    if config.bsd_handshake and not experimental and not acc_ecn and room == MAX_OPTIONS:
        return encode_bsd_syn_options(
            mss=mss,
            wscale=wscale,
            sack_permitted=sack_permitted,
            tsval=tsval,
            tsecr=tsecr,
            fast_open=fast_open,
        )
    return encode_options(
        mss=mss,
        wscale=wscale,
        sack_permitted=sack_permitted,
        tsval=tsval,
        tsecr=tsecr,
        acc_ecn=acc_ecn,
        fast_open=fast_open,
        experimental_fast_open=experimental,
        room=room,
    )


def syn_options(tcb: Tcb, now: int) -> bytes:
    """The options of our SYN, or of our SYN,ACK, which answers only what the peer offered."""
    config = tcb.config
    if tcb.options_agreed:
        wscale = tcb.rcv.wscale if tcb.wscale_on else None
        sack, timestamps = tcb.sack_on, tcb.ts_on
    else:
        wscale = wanted_wscale(config) if config.window_scaling else None
        sack = config.sack  # Linux: timestamps do not fit beside it and a signature
        timestamps = config.timestamps and tcb.signature is None
    cookie = tcb.fast_open.cookie if tcb.fast_open is not None else None

    def encoded(cookie: Cookie | None) -> bytes:
        return encode_syn_options(
            config,
            mss=tcb.rcv.mss,
            wscale=wscale,
            sack_permitted=sack,
            tsval=timestamp(tcb, now) if timestamps else None,
            tsecr=tcb.ts_recent if tcb.ts_on else 0,
            cookie=cookie,
            room=options_room(tcb),
        )

    options = encoded(cookie)
    if cookie is not None and len(options) > tcb.path_mtu_payload:  # a path MTU near 68 bytes
        return encoded(None)
    return options


def default_mss(headers: int) -> int:
    """What a peer takes that has said nothing (MUST-15). `headers`: of IP and TCP, bytes."""
    return DEFAULT_MSS_IPV6 if headers > IPV4_TCP_HEADERS else DEFAULT_MSS_IPV4


def agree_options(tcb: Tcb, options: Options | None, now: int) -> None:
    """Digest the options of the peer's SYN or SYN,ACK: each holds only if both offered it."""
    config = tcb.config
    snd, rcv = tcb.snd, tcb.rcv
    tcb.options_agreed = True
    snd.adv_mss = default_mss(tcb.fixed_headers)
    if options is None:
        return
    if options.mss is not None:
        snd.adv_mss = max(options.mss, MIN_MSS)
    if options.wscale is not None and config.window_scaling:
        tcb.wscale_on = True
        snd.wscale = options.wscale
        rcv.wscale = wanted_wscale(config)
        rcv.rounding = 0 if config.bsd_handshake else (1 << rcv.wscale) - 1
    tcb.sack_on = options.sack_permitted and config.sack
    if options.tsval is not None and config.timestamps:
        tcb.ts_on = True
        tcb.ts_recent = options.tsval
        tcb.ts_recent_at = now


class Opening(NamedTuple):
    """What the SYNs of a passive OPEN have said, when the ACK that completes it arrives."""

    irs: int
    iss: int
    wnd: int  # SEG.WND of the peer's SYN
    options: Options  # of the peer's SYN
    resent: int  # SYN,ACKs beyond the first
    ecn: int  # see ecn_handshake.judge_syn
    sent_at: int | None  # µs, when the last SYN,ACK left; None: nobody remembers


def receive_syn(tcb: Tcb, opening: Opening, now: int) -> None:
    """`tcb` is in SYN-RECEIVED, as if it had taken the SYN and sent the SYN,ACK itself."""
    set_state(tcb, SYN_RECEIVED)
    tcb.note = ""  # the SYN's trace has told of it
    tcb.passive = True
    snd, rcv = tcb.snd, tcb.rcv
    rcv.irs = opening.irs
    rcv.nxt = tcb.last_ack_sent = opening.irs + 1
    snd.wnd = snd.max_wnd = opening.wnd
    snd.wl1 = opening.irs
    snd.nxt = snd.max = opening.iss + 1
    agree_options(tcb, opening.options, now)
    tcb.receive_buffer.limit = window = first_window(tcb.config, rcv.mss, tcb.ts_on)
    rcv.adv = rcv.nxt + min(window, MAX_UNSCALED_WINDOW)
    tcb.ecn = ecn_handshake.accepted(opening.ecn)
    start_sending(tcb)
    tcb.retransmits = tcb.scoreboard.retransmissions = opening.resent
    tcb.counters.segments_in = 1  # Linux: the SYN; nobody counts the SYN,ACKs
    if opening.sent_at is not None:  # the first round trip can be measured
        tcb.last_data_sent_at = opening.sent_at
        tcb.timers.rto = NEVER - 1


def open_fast(tcb: Tcb, text: Buffer, cookie: Cookie | None) -> None:
    """`tcb`, which has just received a SYN with `text`, is open as far as the user can tell.

    It may send up to the initial window before the ACK arrives (RFC 7413 §4.2.2). `cookie`: a new
    one for the client, to go out with the SYN,ACK.
    """
    tcb.fast_open = FastOpen(cookie)
    tcb.note = "LISTEN -> SYN_RECEIVED"
    tcb.probing_tail = False  # until the handshake is complete
    tcb.timers.rto = NEVER
    tcb.syn_due = True
    established(tcb)
    rcv = tcb.rcv
    taken = bytes(text[: rcv.adv - rcv.nxt])
    if taken:
        tcb.fast_open.text_acked = True
        tcb.receive_buffer.append(taken)
        rcv.nxt += len(taken)
        tcb.counters.bytes_received += len(taken)
        tcb.events |= READABLE


def start_sending(tcb: Tcb) -> None:
    """Both SYNs are known: set the segment size and make the congestion controller."""
    resize_segments(tcb)
    if tcb.config.bsd_handshake:
        buffer_sizes.round_up(tcb)
    if tcb.config.mtu_probing == AT_ONCE and tcb.config.path_mtu_discovery:
        low = tcb.config.base_mss + option_bytes(tcb)
        tcb.mtu = MtuSearch(low, segment_room(tcb), tcb.last_received_at)
        if not tcb.passive:  # Linux: a listener's child goes down to it only after its first probe
            resize_segments(tcb)
    tcb.probing_tail = tcb.sack_on and tcb.config.tail_loss_probe
    tcb.recovery.agreed(tcb.sack_on, tcb.config.rack, tcb.config.reordering)
    tcb.congestion = REGISTRY[tcb.config.congestion](
        tcb.snd.mss, tcb.config.initial_window_segments, tcb.config.slow_start
    )
    rates.configure_pacing(tcb, tcb.last_received_at)


def segment_room(tcb: Tcb) -> int:
    """Text and options that a packet may carry, as far as the peer, the routers and the user have
    said."""
    room = min(tcb.snd.adv_mss, tcb.path_mtu_payload)
    if tcb.config.mss is not None:
        room = min(room, tcb.config.mss)  # Linux: TCP_MAXSEG caps both directions
    return room


def resize_segments(tcb: Tcb) -> None:
    """Recompute the payload of a full-sized segment and of the largest super-segment.

    MUST-16: min(SendMSS, path MTU less headers) less the TCP options: timestamps, AccECN counters.
    """
    snd = tcb.snd
    size = segment_room(tcb)
    if tcb.mtu is not None:
        tcb.mtu.bound(size)
        size = tcb.mtu.low
    if tcb.ts_on:
        size -= TIMESTAMP_OPTION
    if tcb.ecn is not None:
        size -= tcb.ecn.option_room
    if snd.una > snd.iss:
        size = min(size, max(_half_window(snd.max_wnd), LEAST_SEGMENT))
    snd.mss = max(size - signature_size(tcb), 8)
    room = min(tcb.gso_max, MAX_PACKET) - tcb.fixed_headers - MAX_OPTIONS
    if tcb.signature is not None:
        room = 0  # each segment has a digest of its own
    snd.gso_limit = max(room // snd.mss, 1) * snd.mss
    if tcb.ecn is not None:
        tcb.ecn.gso_limit = snd.gso_limit
    tcb.scoreboard.resize(snd.mss)
    if tcb.config.cut_segments:
        tcb.scoreboard.merge_limit = 0  # as Linux, which remembers pieces
    if tcb.congestion is not None:
        tcb.congestion.on_mss(snd.mss)


def bound_segments(tcb: Tcb) -> None:
    """The first window of the peer is known: it may be smaller than two segments."""
    if _half_window(tcb.snd.max_wnd) < tcb.snd.mss:
        resize_segments(tcb)


def window_grew(tcb: Tcb, window: int) -> None:
    """`window` is the largest that the peer has ever offered."""
    snd, congestion = tcb.snd, tcb.congestion
    before, mss = snd.max_wnd, snd.mss
    snd.max_wnd = window
    if _half_window(before) < segment_room(tcb) and congestion is not None:
        resize_segments(tcb)
        if snd.mss > mss:  # as many segments as before
            congestion.cwnd = congestion.cwnd * snd.mss // mss


def _half_window(window: int) -> int:
    """Linux tcp_bound_to_half_wnd(): two segments fit into the window, so that ACKs keep coming."""
    return window >> 1 if window > DEFAULT_MSS_IPV4 else window


def clamp_receive_mss(config: TcpConfig, mtu: int, headers: int) -> int:
    """The MSS to announce: what the interface's MTU can carry (MUST-67), or the user's cap."""
    mss = min(mtu, MAX_PACKET) - headers
    return min(mss, config.mss) if config.mss is not None else mss
