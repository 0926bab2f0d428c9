"""What BBR (bbr.py) is made of: its constants, its states, and what it is told of an ACK.

The constants are those of draft-ietf-ccwg-bbr; sections are of its "Detailed Algorithm" (§5).
"""

from dataclasses import dataclass
from enum import Enum

from ustack.tcp.delivery_rate import RateSample

SECOND = 1_000_000  # µs
MS = 1_000  # µs
INFINITE = 1 << 60  # no bound

# Gains are percent
STARTUP_PACING_GAIN = 277  # 4 ln 2 (§2.5)
DRAIN_PACING_GAIN = 50
DEFAULT_CWND_GAIN = 200
PACING_MARGIN = 1  # percent below the estimate, so that a queue can drain (§5.6.2)
PROBE_RTT_CWND_GAIN = 50
FULL_BW_GROWTH = 125  # a pipe that is not full gives a quarter more in a round (§5.3.1.2)
FULL_BW_ROUNDS = 3

LOSS_THRESH = 2  # percent of a round that a probe may lose
BETA = 70  # percent that a bound keeps at a loss
HEADROOM = 15  # percent of inflight_longterm left to others while cruising
STARTUP_FULL_LOSS_COUNT = 6  # ranges lost in a round that end Startup (§5.3.1.3)
MIN_PIPE_CWND = 4  # segments, enough for delayed ACKs
MAX_BW_FILTER_LEN = 2  # ProbeBW cycles
EXTRA_ACKED_FILTER_LEN = 10  # round trips
MIN_RTT_FILTER_LEN = 10 * SECOND
PROBE_RTT_INTERVAL = 5 * SECOND
PROBE_RTT_DURATION = 200 * MS
MAX_RENO_ROUNDS = 63  # §5.3.3.5: a flow probes about as often as Reno would fill such a pipe
QUANTUM_US = 1 * MS  # a burst (§5.6.3)
MAX_QUANTUM = 64 << 10  # bytes


class State(Enum):
    """§5.1: the state machine."""

    STARTUP = "Startup"
    DRAIN = "Drain"
    DOWN = "ProbeBW_DOWN"
    CRUISE = "ProbeBW_CRUISE"
    REFILL = "ProbeBW_REFILL"
    UP = "ProbeBW_UP"
    PROBE_RTT = "ProbeRTT"


STARTUP, DRAIN, DOWN, CRUISE = State.STARTUP, State.DRAIN, State.DOWN, State.CRUISE
REFILL, UP, PROBE_RTT = State.REFILL, State.UP, State.PROBE_RTT
PROBE_BW = {DOWN, CRUISE, REFILL, UP}
PROBING = {STARTUP, REFILL, UP}  # BBRIsProbingBW: a loss now is the price of looking
# pacing_gain and cwnd_gain (§2.5, §5.6.1)
GAINS = {
    STARTUP: (STARTUP_PACING_GAIN, DEFAULT_CWND_GAIN),
    DRAIN: (DRAIN_PACING_GAIN, DEFAULT_CWND_GAIN),
    DOWN: (90, DEFAULT_CWND_GAIN),
    CRUISE: (100, DEFAULT_CWND_GAIN),
    REFILL: (100, DEFAULT_CWND_GAIN),
    UP: (125, 225),
    PROBE_RTT: (100, PROBE_RTT_CWND_GAIN),
}


class AckPhase(Enum):
    """Which ACKs come now: of what was sent before a probe for bandwidth, during it, or after."""

    INIT = 0
    REFILLING = 1
    PROBE_STARTING = 2
    PROBE_FEEDBACK = 3
    PROBE_STOPPING = 4


@dataclass(slots=True)
class Ack:
    """One ACK, as the sender has digested it (C and RS in the draft's terms). Bytes and µs."""

    sample: RateSample
    newly_acked: int  # RS.newly_acked, by ACK or SACK
    newly_lost: int  # RS.newly_lost
    rtt: int  # RS.rtt, 0: this ACK says nothing of it
    in_flight: int  # C.inflight, after this ACK
    delivered: int  # C.delivered
    cwnd_limited: bool  # C.is_cwnd_limited
    now: int
