"""Every knob of the stack, with its unit, default and source. Frozen: a running connection
keeps the configuration it was opened with."""

from dataclasses import dataclass, field
from ipaddress import ip_network

SECOND = 1_000_000  # µs


MAX_MD5_KEY = 80  # bytes; Linux TCP_MD5SIG_MAXKEYLEN


@dataclass(slots=True, frozen=True)
class Md5Key:
    """A key of RFC 2385 for all segments to and from `peers`: an address, or one with a prefix."""

    peers: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """ValueError for what is no address, or no key."""
        ip_network(self.peers, strict=False)
        _within("the length of an MD5 key", len(self.key), 1, MAX_MD5_KEY)


@dataclass(slots=True, frozen=True)
class TcpConfig:
    """What one connection is opened with. Times are µs, sizes are bytes."""

    # Round trip and retransmission
    initial_rto_us: int = 1 * SECOND  # RFC 6298 §2.1
    min_rto_us: int = 200_000  # Linux: 200 ms; RFC 6298 §2.4 says 1 s
    max_rto_us: int = 120 * SECOND  # RFC 6298 §2.5: at least 60 s
    r1_retransmissions: int = 3  # RFC 9293 §3.8.3: advice to IP and to the user after so many
    r2_retransmissions: int = 15  # RFC 9293 §3.8.3; Linux tcp_retries2 (some 15 minutes)
    r2_timeout_us: int | None = None  # overrides r2_retransmissions; R2 as a time (MUST-21)
    syn_retransmissions: int = 7  # RFC 9293 §3.8.3: 3 minutes or more (1+2+4+...+64+120 s)
    syn_linear_timeouts: int = 0  # Linux 4: so many SYNs more before the interval doubles
    syn_ack_retransmissions: int = 5  # Linux tcp_synack_retries
    defer_accept: int = 0  # for so many SYN,ACK timeouts only text completes a handshake (Linux)
    orphan_retransmissions: int = 8  # Linux tcp_orphan_retries: after close(), nobody waits
    soft_errors_end_opening: bool = False  # True: as Linux; MUST-56 says that they do not
    report_soft_errors: bool = True  # False: no SOFT_ERROR events (RFC 9293 §3.9.1.8, SHLD-20)

    # Time limits
    user_timeout_us: int | None = None  # RFC 5482; None: only R2 limits
    msl_us: int = 30 * SECOND  # RFC 9293 §3.4.2 says 2 min; Linux holds TIME_WAIT for 60 s
    fin_wait_2_timeout_us: int = 60 * SECOND  # Linux tcp_fin_timeout: only after a full close();
    # negative: who has closed does not wait there at all, but resets
    text_on_syn_ack: bool = True  # False: as Linux, text and FIN that come with it must come again
    reset_unread: bool = True  # SHLD-3; False: as FreeBSD, close() sends FIN though text is unread
    linger_us: int | None = None  # None: close() in the background; 0: close() aborts
    persist_min_us: int = 200_000  # floor of the zero-window probe interval
    probe_with_text: bool = True  # a zero window is probed with an octet; False: as Linux, without
    persist_max_us: int = 120 * SECOND  # RFC 1122 §4.2.2.17 lets us choose the ceiling

    # Acknowledgments
    delayed_ack_us: int = 40_000  # where the delay of ACKs begins; Linux TCP_ATO_MIN
    delayed_ack_max_us: int = 200_000  # Linux TCP_DELACK_MAX; RFC 9293 §3.8.6.3 allows < 500 ms
    acks_await_reader: bool = False  # True: as Linux, no second segment is ACKed while it is unread
    ack_every_second_segment: bool = False  # True: the letter of SHLD-19 also inside one batch
    quick_acks: int = 16  # so many ACKs go at once, at first and after a pause (Linux quickack)
    compressed_acks: int = 44  # so many behind a gap may be one (Linux tcp_comp_sack_nr); 0: none
    compressed_ack_us: int = 1000  # they wait no longer; Linux tcp_comp_sack_delay_ns
    compressed_ack_slack_us: int = 100  # or a little; Linux tcp_comp_sack_slack_ns
    dialogue_threshold: int = 1  # answers until ACKs wait for the next; Linux tcp_pingpong_thresh

    # Options offered
    window_scaling: bool = True  # RFC 7323 §2
    timestamps: bool = True  # RFC 7323 §3
    sack: bool = True  # RFC 2018
    require_timestamps: bool = False  # RFC 7323 §3.2 SHOULD drop; Linux accepts
    mss: int | None = None  # cap on the MSS, announced and used; None: what the MTU allows

    # Explicit congestion notification
    ecn: int = 2  # Linux tcp_ecn, 0 to 5: see ustack.tcp.ecn_handshake; 2: if the peer asks
    ecn_fallback: bool = True  # RFC 3168 §6.1.1.1: a SYN that is resent does not ask again
    accecn_option: int = 2  # Linux tcp_ecn_option: 0 never, 1 when needed, 2 always
    accecn_option_beacon: int = 3  # with accecn_option 1: so often per round trip at least
    ect_on_control: bool = True  # AccECN: ECT also on ACKs and resends (ECN++), as Linux has it

    # Loss recovery
    rack: bool = True  # RFC 8985 §6, where SACK was agreed; False: RFC 6675
    tail_loss_probe: bool = True  # RFC 8985 §7
    frto: bool = True  # RFC 5682: is a timeout needless? Linux tcp_frto
    reordering: int = 3  # segments; RFC 5681 §3.2 DupThresh to begin with, Linux tcp_reordering

    # Sending
    nagle: bool = True  # RFC 9293 §3.7.4
    initial_window_segments: int = 10  # RFC 6928
    congestion: str = "cubic"  # a name in ustack.tcp.congestion.REGISTRY
    slow_start: str | None = None  # standard, hystart (Linux's for CUBIC), hystart++ (RFC 9406);
    # None: hystart++ for CUBIC, standard for NewReno
    slow_start_after_idle: bool = True  # RFC 5681 §4.1, RFC 2861; Linux tcp_slow_start_after_idle
    pacing: bool | None = None  # text leaves at a rate that fits the window; bbr's always does.
    # None: in the first slow start, unless the round trip is shorter than a millisecond's burst
    max_pacing_rate: int | None = None  # bytes/s; Linux SO_MAX_PACING_RATE, which paces any
    pacing_ss_ratio: int = 200  # percent of a window per round trip in slow start (Linux)
    pacing_ca_ratio: int = 120  # the same in congestion avoidance
    send_buffer: int | None = None  # most bytes accepted and not acknowledged; None: autotuned
    send_buffer_initial: int = 16_384  # until the handshake is done; Linux tcp_wmem[1]
    send_buffer_max: int = 4 << 20  # where autotuning ends; Linux tcp_wmem[2]
    sws_override_us: int = 200_000  # RFC 9293 §3.8.6.2.1: 0.1 to 1 s
    not_sent_low_water: int = 0  # Linux tcp_notsent_lowat: writable with less unsent; 0: any
    cut_segments: int = 0  # Linux tcp_min_tso_segs: text leaves in pieces of so many segments, or
    # of a millisecond, but at most half a congestion window; 0: as large as the device takes
    dscp: int = 0  # RFC 2474 code point of every segment (MUST-48)
    ttl: int = 64  # MUST-49; also the IPv6 hop limit
    path_mtu_discovery: bool = True  # DF set, RFC 1191
    mtu_probing: int = 1  # RFC 4821: 0 never, 1 after a black hole (Linux: 0), 2 from the start
    base_mss: int = 1024  # where probing begins; Linux tcp_base_mss, RFC 4821 §7.2
    mtu_probe_floor: int = 48  # the smallest segments that a black hole can lead to
    mtu_probe_threshold: int = 8  # a range smaller than this is not searched any further
    mtu_probe_interval_us: int = 600 * SECOND  # then larger sizes are tried again

    # Receiving
    receive_buffer: int | None = None  # bounds the window and what is held; None: autotuned
    receive_buffer_initial: int = 65_536  # the window it begins with; Linux tcp_rmem[1] / 2
    receive_buffer_max: int = 6 << 20  # where autotuning ends; Linux tcp_rmem[2]
    window_clamp: int | None = None  # the window never exceeds it; Linux TCP_WINDOW_CLAMP
    bsd_handshake: bool = False  # True: what a handshake leaves open is as on FreeBSD: the order of
    # its options, a window scale for receive_buffer_max, a buffer of whole segments of the peer's
    linux_windows: bool = False  # True: a fixed window begins with whole segments, and text that
    # ends behind the window is taken whole, or not at all while some is unread
    moderate_receive_buffer: bool = True  # Linux tcp_moderate_rcvbuf; False: never grows

    # Keep-alive: off unless asked for (MUST-25)
    keep_alive: bool = False
    keep_alive_idle_us: int = 7200 * SECOND  # MUST-28: 2 hours or more
    keep_alive_interval_us: int = 75 * SECOND
    keep_alive_probes: int = 9  # MUST-29: one lost probe is no proof

    # Fast Open (RFC 7413), of a listener
    fast_open_queue: int = 0  # connections that may be open before the ACK; 0: off
    fast_open_key: bytes = b""  # instead of the stack's
    fast_open_no_cookie: bool = False  # text on a SYN is taken, or sent, without a cookie

    # Security
    md5_keys: tuple[Md5Key, ...] = ()  # RFC 2385: with these peers all segments are signed
    rfc1337: bool = False  # True: RST is ignored in TIME-WAIT
    challenge_ack_interval_us: int = 500_000  # RFC 5961 §7 per connection; Linux invalid_ratelimit

    def __post_init__(self) -> None:
        """Refuse what no connection can work with, or what an RFC forbids."""
        _within("ttl", self.ttl, 1, 255)  # RFC 1122 §3.2.1.7
        _within("defer_accept", self.defer_accept, 0, 255)
        _within("dscp", self.dscp, 0, 63)
        _within("ecn", self.ecn, 0, 5)
        _within("accecn_option", self.accecn_option, 0, 2)
        _within("accecn_option_beacon", self.accecn_option_beacon, 0, 255)
        _within("delayed_ack_us", self.delayed_ack_us, 0, 499_999)  # MUST-40
        _within("delayed_ack_max_us", self.delayed_ack_max_us, 0, 499_999)
        _within("compressed_acks", self.compressed_acks, 0, 255)
        _within("compressed_ack_us", self.compressed_ack_us, 0, 499_999)
        _within("compressed_ack_slack_us", self.compressed_ack_slack_us, 0, 499_999)
        _within("dialogue_threshold", self.dialogue_threshold, 1, 255)
        _within("sws_override_us", self.sws_override_us, 100_000, SECOND)  # RFC 9293 §3.8.6.2.1
        _within("reordering", self.reordering, 1, 300)
        _within("cut_segments", self.cut_segments, 0, 255)
        _within("pacing_ss_ratio", self.pacing_ss_ratio, 1, 1000)
        _within("pacing_ca_ratio", self.pacing_ca_ratio, 1, 1000)
        if self.max_pacing_rate is not None:
            _within("max_pacing_rate", self.max_pacing_rate, 0, 1 << 60)
        _within("initial_window_segments", self.initial_window_segments, 1, 1 << 20)
        for name in ("initial_rto_us", "min_rto_us", "max_rto_us", "msl_us", "persist_max_us"):
            _within(name, getattr(self, name), 1, 1 << 50)
        for buffer in ("send_buffer", "receive_buffer"):
            for name in (buffer, f"{buffer}_initial", f"{buffer}_max"):
                if getattr(self, name) is not None:
                    _within(name, getattr(self, name), 1, 1 << 30)  # RFC 7323 §2.3
        _within("mtu_probing", self.mtu_probing, 0, 2)
        _within("mtu_probe_floor", self.mtu_probe_floor, 8, 65535)
        _within("base_mss", self.base_mss, 8, 65535)
        if self.slow_start not in (None, "standard", "hystart", "hystart++"):
            raise ValueError(f"slow_start={self.slow_start!r}: not standard, hystart or hystart++")
        if self.mss is not None:
            _within("mss", self.mss, 1, 65535)


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}={value}: must lie between {least} and {most}")


@dataclass(slots=True, frozen=True)
class StackConfig:
    """What a whole stack (one host) is made with."""

    addresses: tuple[str, ...] = ()  # "10.9.0.2/24", "fd00:9::2/64": ours, with the prefix
    mtu: int = 1500
    gso_max: int = 0  # largest IP packet that the device segments for us; see Device
    checksum_offload: bool = False  # the device completes checksums (virtio NEEDS_CSUM)
    tcp: TcpConfig = field(default_factory=TcpConfig)

    ephemeral_ports: tuple[int, int] = (32768, 60999)  # inclusive; Linux ip_local_port_range
    time_wait_reuse_us: int = 1 * SECOND  # Linux tcp_tw_reuse: with timestamps, after this long
    max_connections: int = 1 << 20
    max_time_waits: int = 1 << 18  # Linux tcp_max_tw_buckets on a machine of this size
    memory_limit: int = 512 << 20  # bytes in the buffers of all connections; Linux tcp_mem[2]
    memory_pressure: int | None = None  # from here on buffers do not grow; None: two thirds of it
    max_orphans: int = 65_536  # connections that send after close(); Linux tcp_max_orphans
    udp_memory: int = 256 << 20  # bytes that wait in all datagram sockets; Linux udp_mem[2]
    max_udp_sockets: int = 1 << 16
    max_half_open: int = 4096  # SYN-RECEIVED over all listeners
    syn_cookies: int = 1  # Linux tcp_syncookies: 0 never, 1 when the SYN queue is full, 2 always
    abort_on_overflow: bool = False  # True: RST, not silence, while the accept queue is full
    fast_open: int = 3  # RFC 7413; bits of Linux tcp_fastopen: see ustack/tcp/fast_open.py
    fast_open_key: bytes = b""  # 16 bytes, then maybe those of the key before; b"": from the secret
    fast_open_blackhole_us: int = 0  # Linux tcp_fastopen_blackhole_timeout_sec; 0: never pause
    challenge_acks_per_second: int = 1000  # RFC 5961 §7 over the whole stack
    resets_per_second: int = 1000  # RSTs to segments without a connection
    icmp_per_second: int = 1000  # echo replies and errors that we originate
    max_fragments: int = 1 << 20  # bytes held for IP reassembly; one datagram may exceed it
    fragment_timeout_us: int = 60 * SECOND  # RFC 1122 §3.3.2, RFC 8200 §4.5
