"""What the timestamps tell that the peer echoes (RFC 7323 §4): round trips.

One kind feeds the retransmission timeout, the other the size of the receive window.
"""

from ustack.tcp import buffer_sizes
from ustack.tcp.handshake import timestamp
from ustack.tcp.recovery import LOSS
from ustack.tcp.seq import MASK32
from ustack.tcp.tcb import Tcb


def measure_round_trip(tcb: Tcb, tsecr: int, now: int) -> None:
    """Take an RTT sample from the echoed timestamp (RFC 7323 §4.1).

    Our own record in µs is better than a clock of 1 ms, so this is for where Karn's rule forbids
    the record. An echo from before the last timeout is not used: if only the ACK of the first copy
    was lost, the receiver answers the second with the echo of the first (RFC 7323 §4.3 leaves
    TS.Recent alone for text below the window), and the RTO would feed on itself.
    """
    elapsed_ms = (timestamp(tcb, now) - tsecr) & MASK32
    recovery = tcb.recovery
    if elapsed_ms < 0x8000_0000 and not (  # less 1: the clock's granularity
        recovery.phase is LOSS and (elapsed_ms - 1) * 1000 > now - recovery.timed_out_at
    ):
        tcb.rtt.sample(elapsed_ms * 1000 or 1000, tcb.snd.una, tcb.snd.nxt)


def measure_for_window(tcb: Tcb, tsecr: int, size: int, now: int) -> None:
    """The first full-sized segment that echoes a later timestamp of ours is a round trip, as the
    receiver sees it (Linux tcp_rcv_rtt_measure_ts). Less than the clock's tick says nothing."""
    tcb.ts_echoed = tsecr
    elapsed_ms = (timestamp(tcb, now) - tsecr) & MASK32
    if tcb.ts_on and size >= tcb.rcv.mss_seen and 0 < elapsed_ms < 0x8000_0000:
        drained = tcb.receive_buffer.readable <= size
        buffer_sizes.tuner_of(tcb, now).echoed(elapsed_ms * 1000, drained=drained)
