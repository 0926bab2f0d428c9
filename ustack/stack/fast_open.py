"""TCP Fast Open (RFC 7413) of a stack: which SYNs may bring text, and what servers have told us.

The server's half judges SYNs; the client's half is a bounded cache of cookies, with a pause for
all destinations while something on the way swallows SYNs with text.
"""

from typing import NamedTuple

from ustack.config import TcpConfig
from ustack.errors import ConnectionRefused, ConnectionReset
from ustack.stack.flows import split_key
from ustack.stack.listener import Listener
from ustack.stack.services import Services
from ustack.tcp import user_calls
from ustack.tcp.fast_open import (
    CLIENT_WITHOUT_COOKIE,
    COOKIE_UNAVAILABLE,
    EVERY_LISTENER,
    MAX_OPTIONS_ON_SYN,
    SERVER,
    SERVER_WITHOUT_COOKIE,
    Cookie,
    FastOpen,
    make_cookie,
    split_keys,
)
from ustack.tcp.segment import Segment
from ustack.tcp.siphash import siphash24
from ustack.tcp.state import CLOSED, SYN_RECEIVED
from ustack.tcp.tcb import Tcb
from ustack.wire import Buffer
from ustack.wire.tcp import ACK, SYN

RESET_MEMORY_US = 60 * 1_000_000  # Linux: so long a reset Fast Open counts as pending
MAX_COOKIES = 1024  # destinations remembered
LOSS_PAUSE_US = 60 * 1_000_000  # times 2^losses: no text on SYNs to a host that does not get them
BLACKHOLE_TIMEOUTS = 3  # in a row (Linux)


class Verdict(NamedTuple):
    """`accept`: the SYN opens a connection at once. `cookie` goes out with the SYN,ACK."""

    accept: bool
    cookie: Cookie | None


class Pending:
    """The connections of one listener that SYNs with a cookie have opened and no ACK has confirmed:
    at most TCP_FASTOPEN of them (RFC 7413 §4.2, §5.1)."""

    __slots__ = ("_children", "_resets")

    def __init__(self) -> None:
        self._children: list[Tcb] = []
        self._resets: list[int] = []  # µs

    def add(self, tcb: Tcb) -> None:
        """`tcb` is in SYN-RECEIVED with the text of a SYN."""
        self._children.append(tcb)

    def count(self, now: int) -> int:
        """How many there are. Linux: one that was reset counts on for a minute, so that spoofed
        SYNs cannot go on opening connections on a host that resets them (§5.1)."""
        waiting = []
        for tcb in self._children:
            if tcb.state is SYN_RECEIVED:
                waiting.append(tcb)
            elif (
                isinstance(tcb.error, ConnectionReset | ConnectionRefused)
                and tcb.snd.una == tcb.snd.iss
            ):
                assert tcb.fast_open is not None
                self._resets.append(tcb.fast_open.ended_at)
        self._children = waiting
        self._resets = [at for at in self._resets if now - at < RESET_MEMORY_US]
        return len(waiting) + len(self._resets)


class FastOpenServer:
    """Judges SYNs for all listeners of a stack."""

    def __init__(self, services: Services) -> None:
        self._bits = services.config.fast_open
        self._counters = services.counters
        self._keys = services.config.fast_open_key or b"".join(
            siphash24(services.secret[:16], bytes((n,))).to_bytes(8, "little") for n in range(2)
        )

    def limit(self, listener: Listener) -> int:
        """How many connections of `listener` may be pending, 0: Fast Open is off (RFC 7413 §2)."""
        if not self._bits & SERVER:
            return 0
        if not listener.config.fast_open_queue and self._bits & EVERY_LISTENER:
            return listener.backlog
        return listener.config.fast_open_queue

    def judge(self, listener: Listener, flow: bytes, seg: Segment, now: int) -> Verdict:
        """What becomes of a SYN to `listener` (RFC 7413 §4.2.2, in the order of Linux)."""
        refused = Verdict(False, None)
        limit = self.limit(listener)
        offered = seg.options.fast_open if seg.options is not None else None
        if not limit or (offered is None and not seg.payload):
            return refused
        if listener.pending is None:
            listener.pending = Pending()
        if listener.pending.count(now) >= limit:
            self._counters["fast-open-overflow"] += 1
            return refused
        if self._bits & SERVER_WITHOUT_COOKIE or listener.config.fast_open_no_cookie:
            self._counters["fast-open-passive"] += 1
            return Verdict(True, None)
        if offered is None:
            return refused
        assert seg.options is not None
        remote, local, _, _ = split_key(flow)
        keys = split_keys(listener.config.fast_open_key or self._keys)
        valid = [make_cookie(key, remote, local) for key in keys]
        fresh = Cookie(valid[0], seg.options.experimental_fast_open)
        if not offered:
            self._counters["fast-open-cookie-requests"] += 1
            return Verdict(False, fresh)
        if offered not in valid:
            self._counters["fast-open-passive-failed"] += 1
            return Verdict(False, fresh)
        self._counters["fast-open-passive"] += 1
        return Verdict(True, None if offered == valid[0] else fresh)


class Offer(NamedTuple):
    """How a connection of ours may begin. `mss`: what the peer announced last, 0: unknown."""

    cookie: Cookie | None  # for the SYN; an empty one asks for one
    text: bool  # the SYN may carry text
    mss: int


class Remembered:
    """What one destination has told us (RFC 7413 §4.1.3)."""

    __slots__ = ("cookie", "experimental", "losses", "lost_at", "mss")

    def __init__(self) -> None:
        self.cookie: Cookie | None = None
        self.mss = 0
        self.experimental = False  # it did not answer a request under kind 34: try kind 254
        self.losses = 0  # SYNs with text that were lost in a row
        self.lost_at = 0  # µs


class FastOpenClient:
    """Cookies by destination, the least recently used one forgotten first, and the pauses."""

    def __init__(self, services: Services) -> None:
        self._config = services.config
        self._counters = services.counters
        self._known: dict[bytes, Remembered] = {}  # by remote and local address
        self._disabled = 0  # times in a row
        self._disabled_at = 0  # µs

    def offer(self, remote: bytes, local: bytes, config: TcpConfig, now: int) -> Offer:
        """How a connection to `remote` may begin now."""
        known = self._known.get(remote + local) or Remembered()
        if self._paused(now) or self._loses(known, now):
            return Offer(None, False, 0)
        if self._config.fast_open & CLIENT_WITHOUT_COOKIE or config.fast_open_no_cookie:
            return Offer(None, True, known.mss)
        if known.cookie is not None:
            return Offer(known.cookie, True, known.mss)
        return Offer(Cookie(b"", known.experimental), False, known.mss)

    def _paused(self, now: int) -> bool:
        """Linux tcp_fastopen_blackhole_timeout_sec: longer each time, at most 64 times as long."""
        pause = self._config.fast_open_blackhole_us << min(max(self._disabled - 1, 0), 6)
        return self._disabled > 0 and now - self._disabled_at < pause

    @staticmethod
    def _loses(known: Remembered, now: int) -> bool:
        """SYNs with text get lost towards it: leave it alone for a while (RFC 7413 §4.1.3.1)."""
        return known.losses > 1 and now - known.lost_at < LOSS_PAUSE_US << min(known.losses, 10)

    def begin(self, tcb: Tcb, text: Buffer, now: int) -> None:
        """As much of `text` as may go with the SYN of `tcb` is queued; none, if it may not."""
        remote, local, _, _ = split_key(tcb.flow)
        offer = self.offer(remote, local, tcb.config, now)
        state = tcb.fast_open = FastOpen(offer.cookie)
        if not offer.text:
            if offer.cookie is not None:
                state.client_fail = COOKIE_UNAVAILABLE
            return
        room = min(offer.mss or tcb.rcv.mss, tcb.path_mtu_payload) - MAX_OPTIONS_ON_SYN
        state.size = min(len(text), max(room, 0))
        if state.size:
            tcb.snd.mss = max(tcb.snd.mss, state.size)  # until the peer's MSS is known: one segment
            state.size = user_calls.send(tcb, bytes(text[: state.size]), now)

    def learn(self, tcb: Tcb, seg: Segment, now: int) -> None:
        """Our SYN was answered with `seg`: keep its cookie, or that there is none (§4.1.3)."""
        state = tcb.fast_open
        assert state is not None
        if seg.flags & (SYN | ACK) != SYN | ACK or tcb.state is CLOSED or seg.options is None:
            return
        remote, local, _, _ = split_key(tcb.flow)
        known = self._known.pop(remote + local, None) or Remembered()
        if len(self._known) >= MAX_COOKIES:
            del self._known[next(iter(self._known))]
        self._known[remote + local] = known
        known.mss = tcb.snd.adv_mss
        value = seg.options.fast_open if state.asked else None
        if state.size and state.resent and not value:
            known.losses += 1
            known.lost_at = now
        else:
            known.losses = 0
        if value:
            known.cookie = Cookie(value, seg.options.experimental_fast_open)
        elif state.asked and not state.size and not state.resent and known.cookie is None:
            known.experimental = not state.experimental
        if state.text_acked:
            self._disabled = 0
            self._counters["fast-open-active"] += 1
        elif state.size:
            self._counters["fast-open-active-failed"] += 1

    def timed_out(self, tcb: Tcb, now: int) -> None:
        """The retransmission timer of `tcb` may have expired. Linux: the third time in a row means
        that something on the way swallows what Fast Open sends."""
        state = tcb.fast_open
        assert state is not None
        gone = tcb.closed and tcb.retransmits < BLACKHOLE_TIMEOUTS
        if state.blackholed or not (gone or tcb.retransmits == BLACKHOLE_TIMEOUTS):
            return
        state.blackholed = True
        if self._config.fast_open_blackhole_us and (state.asked or state.size):
            self._disabled += 1
            self._disabled_at = now
            self._counters["fast-open-blackhole"] += 1

    def forget(self) -> None:
        """Everything that was remembered."""
        self._known.clear()
        self._disabled = 0
