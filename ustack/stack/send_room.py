"""How much a send() takes, as Linux counts it.

Linux charges a send buffer for memory, not for text, and looks at the charge only when it needs a
new buffer: what it takes is a multiple of the largest segment that the device may be given, and may
go beyond SO_SNDBUF (socket(7)) by one of them. tcp_sendmsg(), sk_stream_memory_free().
"""

from ustack.tcp.tcb import Tcb

SEGMENT_OVERHEAD = 1280  # bytes; what Linux (x86-64) charges for a buffer without its text
LARGEST = 65_536  # bytes; of a buffer, headers included (GSO_MAX_SIZE)


def charged(tcb: Tcb) -> int:
    """What the text queued and in flight costs, in bytes."""
    buffer = tcb.send_buffer
    return len(buffer) + SEGMENT_OVERHEAD * buffer.writes_in_flight()


def is_writable(tcb: Tcb) -> bool:
    """A third of the buffer is free: what poll() waits for."""
    return 3 * charged(tcb) <= 2 * tcb.send_buffer.limit


def memory_info(tcb: Tcb | None, receive_size: int, send_size: int) -> bytes:
    """SO_MEMINFO: nine numbers, of which ustack knows the buffers and what fills them."""
    received = sent = 0
    if tcb is not None and not tcb.closed:
        received, sent = tcb.receive_buffer.readable, charged(tcb)
    values = (received, receive_size, sent, send_size, 0, sent, 0, 0, 0)
    return b"".join(value.to_bytes(4, "little") for value in values)


def send_room(tcb: Tcb, low_water: int = 0) -> int:
    """How many bytes a send() takes now.

    `low_water`: TCP_NOTSENT_LOWAT; while so much is not sent there are no new buffers either.
    """
    snd, buffer = tcb.snd, tcb.send_buffer
    unsent = buffer.end - snd.nxt
    goal = _segment_goal(tcb)
    left = buffer.limit - charged(tcb)
    tail = -unsent % goal if unsent else 0
    if left <= 0:
        return tail
    if low_water:
        most = tail + -(-max(0, low_water - unsent - tail) // goal) * goal
        if not unsent:
            most = -(-(_sendable(tcb) + low_water) // goal) * goal
        if most < left:
            return most
    if not unsent:  # the first buffer is sent as far as the windows allow, and then filled again
        tail = goal + min(_sendable(tcb), goal)
    more = max(0, left - tail)
    return tail + -(-more // goal) * goal


def _segment_goal(tcb: Tcb) -> int:
    """The size to which Linux fills one buffer: at most half the largest window seen."""
    snd = tcb.snd
    goal = LARGEST - tcb.fixed_headers if snd.gso_limit > snd.mss else snd.mss
    if snd.max_wnd:
        goal = min(goal, snd.max_wnd >> 1)
    return max(goal - goal % snd.mss, snd.mss)


def _sendable(tcb: Tcb) -> int:
    """What may leave at once, in whole segments."""
    snd = tcb.snd
    if tcb.congestion is None:
        return 0
    quota = tcb.recovery.window(tcb.congestion) - tcb.scoreboard.pipe()
    room = min(quota, snd.una + snd.wnd - snd.nxt)
    return max(0, room - room % snd.mss)
