"""The eleven states of RFC 9293 §3.3.2 and the edges between them (Figure 5).

`TRANSITIONS` does not drive anything: `set_state`, the only writer of `tcb.state`, checks every
change against it, and the documentation draws its diagram from it.
"""

from enum import IntEnum
from typing import Protocol


class State(IntEnum):
    """Connection states, RFC 9293 §3.3.2."""

    CLOSED = 0
    LISTEN = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    ESTABLISHED = 4
    FIN_WAIT_1 = 5
    FIN_WAIT_2 = 6
    CLOSE_WAIT = 7
    CLOSING = 8
    LAST_ACK = 9
    TIME_WAIT = 10


# Module constants: a global is found three times faster than an attribute of the class.
CLOSED = State.CLOSED
LISTEN = State.LISTEN
SYN_SENT = State.SYN_SENT
SYN_RECEIVED = State.SYN_RECEIVED
ESTABLISHED = State.ESTABLISHED
FIN_WAIT_1 = State.FIN_WAIT_1
FIN_WAIT_2 = State.FIN_WAIT_2
CLOSE_WAIT = State.CLOSE_WAIT
CLOSING = State.CLOSING
LAST_ACK = State.LAST_ACK
TIME_WAIT = State.TIME_WAIT

# "ACK of FIN" and "rcv FIN" rows of Figure 5. FIN-WAIT-1 receiving a FIN that also acknowledges
# ours needs no row: the ACK step goes to FIN-WAIT-2 and the FIN step from there to TIME-WAIT.
OUR_FIN_ACKED: dict[State, State] = {
    FIN_WAIT_1: FIN_WAIT_2,
    CLOSING: TIME_WAIT,
    LAST_ACK: CLOSED,
}
PEER_FIN: dict[State, State] = {
    SYN_RECEIVED: CLOSE_WAIT,
    ESTABLISHED: CLOSE_WAIT,
    FIN_WAIT_1: CLOSING,
    FIN_WAIT_2: TIME_WAIT,
}
# CLOSE or SHUTDOWN for sending, RFC 9293 §3.10.4
USER_CLOSE: dict[State, State] = {
    SYN_RECEIVED: FIN_WAIT_1,
    ESTABLISHED: FIN_WAIT_1,
    CLOSE_WAIT: LAST_ACK,
}

TRANSITIONS: frozenset[tuple[State, State]] = frozenset(
    {
        (CLOSED, SYN_SENT),  # active OPEN
        (CLOSED, SYN_RECEIVED),  # SYN met by a listener: the child starts here (LISTEN -> SYN-RCVD)
        (SYN_SENT, SYN_RECEIVED),  # simultaneous open
        (SYN_SENT, ESTABLISHED),
        (SYN_RECEIVED, ESTABLISHED),
        *OUR_FIN_ACKED.items(),
        *PEER_FIN.items(),
        *USER_CLOSE.items(),
        # RST, ABORT, time-outs and DELETE: every state can end
        *((state, CLOSED) for state in State if state not in (CLOSED, LISTEN)),
    }
)

# States in which segment text is received
RECEIVING = frozenset({ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2})


# Each edge as a trace shows it; put together once, for `State.name` is slow
_STEPS = {(old, new): f"{old.name} -> {new.name}" for old, new in TRANSITIONS}


class HasState(Protocol):
    """What set_state needs of a Tcb."""

    state: State
    note: str


def set_state(tcb: HasState, new: State) -> None:
    """Move `tcb` along an edge of Figure 5 and leave a note of it for the next packet traced."""
    step = _STEPS.get((tcb.state, new))
    assert step is not None, f"{tcb.state.name} -> {new.name}"
    tcb.note = f"{tcb.note}, {step}" if tcb.note else step
    tcb.state = new
