"""SynRequest: what is remembered of a handshake between the peer's SYN and its ACK.

Its numbers are packed in one `bytes`, so that a flood of SYNs costs little (RFC 4987 §3.2).
"""

from struct import Struct
from typing import NamedTuple

from ustack.stack.listener import Listener
from ustack.tcp.buffer_sizes import syn_window
from ustack.tcp.ecn_handshake import judge_syn, with_plain
from ustack.tcp.handshake import Opening
from ustack.tcp.md5_signature import key_of
from ustack.tcp.segment import Segment
from ustack.tcp.tcb import NEVER
from ustack.wire.tcp_options import Options

# SEG.SEQ of the SYN, our ISN, TSval, timestamp offset, window, MSS (0: not offered),
# window scale (NO_WSCALE: not offered), flags; the window of our SYN,ACK
_PACKED = Struct("!IIIIHHBBH")
NO_WSCALE = 0xFF
SACK, TIMESTAMPS = 1, 2
ECN_SHIFT = 2  # the other bits of the flags are what ecn_handshake.judge_syn says


class Numbers(NamedTuple):
    """What the SYN said, our ISN and our window."""

    irs: int
    iss: int
    tsval: int
    ts_offset: int
    wnd: int
    mss: int
    wscale: int
    flags: int
    our_wnd: int


class SynRequest:
    """One handshake of a listener: SYN-RECEIVED without a Tcb.

    `acknowledged`: an ACK came, but text is waited for (TCP_DEFER_ACCEPT).
    `sent_at` is when the last SYN,ACK left, `answered_at` when a
    segment was last answered that deserves an answer only now and then (RFC 5961 §7).
    """

    __slots__ = (
        "_packed",
        "acknowledged",
        "answered_at",
        "due_at",
        "flow",
        "listener",
        "plain_syn",
        "sent",
        "sent_at",
        "slot",
        "timeouts",
    )

    def __init__(
        self,
        flow: bytes,
        listener: Listener,
        seg: Segment,
        iss: int,
        ts_offset: int,
        now: int,
        mss: int,
        *,
        cookie: bool = False,
    ) -> None:
        """`mss`: ours. `cookie`: of a SYN that nothing is remembered of."""
        self.flow = flow
        self.listener = listener
        options = seg.options or Options()
        flags = SACK if options.sack_permitted else 0
        # Linux: no room for blocks beside a signature and timestamps, so these give way
        gives_way = flags and not cookie and key_of(listener.config, flow) is not None
        if options.tsval is not None and not gives_way:
            flags |= TIMESTAMPS
        timestamps = bool(flags & TIMESTAMPS) and listener.config.timestamps
        flags |= judge_syn(listener.config, seg) << ECN_SHIFT
        self._packed = _PACKED.pack(
            seg.seq,
            iss,
            options.tsval or 0,
            ts_offset,
            seg.wnd,
            options.mss or 0,
            NO_WSCALE if options.wscale is None else options.wscale,
            flags,
            syn_window(listener.config, mss, timestamps),
        )
        self.sent = 0  # SYN,ACKs
        self.timeouts = 0
        self.acknowledged = False
        self.plain_syn = False  # the peer's SYN came again without an offer of ECN
        self.sent_at = now
        self.answered_at = -NEVER
        self.due_at = NEVER
        self.slot: object = None

    def numbers(self) -> Numbers:
        """What the SYN said, our ISN and our window."""
        return Numbers._make(_PACKED.unpack(self._packed))

    def opening(self) -> Opening:
        """What a Tcb starts from once the handshake is complete."""
        said = self.numbers()
        options = Options()
        options.mss = said.mss or None
        options.wscale = None if said.wscale == NO_WSCALE else said.wscale
        options.sack_permitted = bool(said.flags & SACK)
        if said.flags & TIMESTAMPS:
            options.tsval = said.tsval
        return Opening(
            said.irs,
            said.iss,
            said.wnd,
            options,
            max(self.sent - 1, 0),
            with_plain(said.flags >> ECN_SHIFT, self.plain_syn, self.timeouts),
            self.sent_at,
        )
