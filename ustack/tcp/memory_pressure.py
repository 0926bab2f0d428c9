"""What the buffers of a connection hold is charged to the stack's account, and may be refused.

Text behind a gap is what goes first, that of the connection that needs room and then that of
others: the peer has it still and sends it again (RFC 2018 §8). Text in order is refused where more
is waiting to be read, and a write where more is waiting to be acknowledged: no connection stands
still for want of memory. The window offered is not taken back.
"""

from ustack.tcp.receive_buffer import BLOCK_CHARGE
from ustack.tcp.tcb import Tcb
from ustack.wire import Buffer

QUANTUM = 4096  # bytes; what a connection may hold uncharged, and have without asking
SLACK = 16 * QUANTUM  # bytes; so much may stay charged while the buffers are in use


def usage(tcb: Tcb) -> int:
    """Bytes that the buffers of `tcb` hold."""
    receive_buffer, send_buffer = tcb.receive_buffer, tcb.send_buffer
    return receive_buffer.readable + receive_buffer.held + send_buffer.end - send_buffer.start


def settle(tcb: Tcb) -> None:  # hot
    """Charge what `tcb` holds, if that is far from what is charged."""
    used = usage(tcb)
    more = used - tcb.charged
    if more > QUANTUM or (more < 0 and (more < -SLACK or used <= QUANTUM)):
        _charge(tcb, used if used > QUANTUM else 0)


def _charge(tcb: Tcb, used: int) -> None:
    tcb.memory.change(used - tcb.charged)
    tcb.charged = used


def release(tcb: Tcb) -> None:
    """`tcb` is over."""
    if tcb.charged:
        _charge(tcb, 0)
    tcb.memory.holders.pop(tcb, None)
    tcb.memory.orphans.discard(tcb)


def insert(tcb: Tcb, start: int, payload: Buffer) -> bool:
    """Keep text behind a gap. False: refused and counted."""
    need = len(payload) + BLOCK_CHARGE
    buffer, memory = tcb.receive_buffer, tcb.memory
    while not _fits(tcb, need) and buffer.last_start > start:
        _prune(tcb)
    if not _fits(tcb, need):
        memory.counters["memory-behind-gap"] += 1
        return False
    if not buffer.insert(start, payload):
        tcb.counters.out_of_window += 1
        memory.counters["reassembly-full"] += 1
        return False
    _charge(tcb, usage(tcb))
    memory.holders[tcb] = None
    return True


def _fits(tcb: Tcb, need: int) -> bool:
    memory = tcb.memory
    return memory.used - tcb.charged + usage(tcb) + need <= memory.limit


def _prune(tcb: Tcb) -> None:
    """Give up the last block behind a gap."""
    tcb.receive_buffer.drop_last()
    tcb.memory.counters["memory-pruned"] += 1
    _charge(tcb, usage(tcb))


def may_take(tcb: Tcb, size: int) -> bool:
    """Text in order, of `size` bytes, has come while the memory is full. False: counted."""
    if _make_room(tcb, size) or not tcb.receive_buffer.readable:
        return True
    tcb.memory.counters["memory-in-order"] += 1
    return False


def may_write(tcb: Tcb, size: int) -> bool:
    """The user wants to queue `size` bytes while the memory is full. False: it has to wait."""
    if len(tcb.send_buffer) < QUANTUM or _make_room(tcb, size):
        return True
    tcb.memory.counters["memory-writes"] += 1
    return False


def _make_room(tcb: Tcb, need: int) -> bool:
    """`need` bytes are free, if necessary at the expense of what waits behind gaps."""
    while not _fits(tcb, need) and tcb.receive_buffer.out_of_order:
        _prune(tcb)
    for other in list(tcb.memory.holders):
        while not _fits(tcb, need) and other.receive_buffer.out_of_order:
            _prune(other)
        if not other.receive_buffer.out_of_order:
            del tcb.memory.holders[other]
    return _fits(tcb, need)


def too_many_orphans(tcb: Tcb) -> bool:
    """The user has closed `tcb`, which goes on alone. True: there are too many such (Linux
    tcp_check_oom())."""
    memory = tcb.memory
    memory.orphans.add(tcb)
    if len(memory.orphans) <= memory.most_orphans:
        return False
    memory.counters["orphans-reset"] += 1
    return True


def is_dispensable(tcb: Tcb) -> bool:
    """`tcb`, whose user has closed it, gets on no more, and holds memory that others need.

    RFC 6429 §4: peers that never open their windows must not hold all of it.
    """
    if not tcb.memory.full or len(tcb.send_buffer) <= QUANTUM:
        return False
    tcb.memory.counters["memory-orphans"] += 1
    release(tcb)  # so that the next one may stay
    return True
