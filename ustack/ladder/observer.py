"""The states of both ends of a connection, inferred by one who only sees the packets.

An observer sees what was sent and when; what arrived, and when, must be concluded:

- A SYN or FIN has arrived once the other end acknowledges it: after the last packet of that end
  which does not, and in the last copy sent before the one which does. Without an acknowledgment
  it never arrived.
- The acknowledgment of a SYN or FIN has arrived once that SYN or FIN is not sent again.
- A RST has arrived.

The edges are those of RFC 9293 §3.3.2, Figure 5, from `ustack.tcp.state`.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from ustack.tcp.state import (
    CLOSED,
    ESTABLISHED,
    LISTEN,
    OUR_FIN_ACKED,
    PEER_FIN,
    SYN_RECEIVED,
    SYN_SENT,
    USER_CLOSE,
    State,
)
from ustack.wire.tcp import ACK, FIN, RST, SYN

States = tuple[State, State]


class Sighting(NamedTuple):
    """What the states depend on, of one packet. Numbers are relative to the ISN of their side."""

    side: int  # 0 or 1: which end sent it
    flags: int
    seq: int
    end: int  # seq + SEG.LEN: SYN and FIN count
    ack: int | None


class _Arrival(IntEnum):
    """Something that changes the state of the end it reaches, in the RFC's order of steps."""

    SYN_ACKED = 0
    SYN = 1
    FIN_ACKED = 2
    FIN = 3


class _End:
    """One end, as far as it has been concluded."""

    __slots__ = ("state", "passive", "syn_acked", "sent", "acked")

    def __init__(self, state: State) -> None:
        self.state = state
        self.passive = state is LISTEN
        self.syn_acked = False
        self.sent = 0  # relative position behind everything it has sent
        self.acked: int | None = None  # the last acknowledgment it has sent

    def arrives(self, what: _Arrival) -> None:
        state = self.state
        if what is _Arrival.SYN_ACKED:
            self.syn_acked = True
            if state is SYN_RECEIVED:
                self.state = ESTABLISHED
        elif what is _Arrival.SYN:
            if state in (CLOSED, LISTEN):
                self.state = SYN_RECEIVED
            elif state is SYN_SENT:
                self.state = ESTABLISHED if self.syn_acked else SYN_RECEIVED
        elif what is _Arrival.FIN_ACKED:
            self.state = OUR_FIN_ACKED.get(state, state)
        else:
            self.state = PEER_FIN.get(state, state)


def infer(sightings: Sequence[Sighting]) -> list[States]:
    """The states of sides 0 and 1 before the first packet, then after each of them."""
    ends = _initial_end(sightings, 0), _initial_end(sightings, 1)
    arrivals = _arrivals(sightings)
    states = [(ends[0].state, ends[1].state)]
    for row, sighting in enumerate(sightings):
        sender, receiver = ends[sighting.side], ends[1 - sighting.side]
        _sends(sender, sighting)
        if sighting.flags & RST:
            _reset(receiver, sender, sighting)
        for what, side in sorted(arrivals.get(row, ())):
            ends[side].arrives(what)
        states.append((ends[0].state, ends[1].state))
    return states


def _initial_end(sightings: Sequence[Sighting], side: int) -> _End:
    """The end before anything was seen, concluded from its own first packet and the other's."""
    own = next((s.flags for s in sightings if s.side == side), None)
    other = next((s.flags for s in sightings if s.side != side), 0) & (SYN | ACK)
    if own is None or own & RST:
        return _End(CLOSED if other == SYN else ESTABLISHED)
    if own & SYN:
        return _End(LISTEN if own & ACK else CLOSED)
    # It neither opens nor answers a SYN. The capture began late, or this end is left over from a
    # connection that the other has forgotten (a half-open connection, RFC 9293 §3.5.1).
    if other != SYN | ACK:
        return _End(ESTABLISHED)
    end = _End(SYN_SENT)
    end.syn_acked = True  # by that answer to a SYN which was not captured
    return end


def _arrivals(sightings: Sequence[Sighting]) -> dict[int, list[tuple[_Arrival, int]]]:
    """Per row: what has arrived once that packet was seen, and at which side."""
    arrivals: dict[int, list[tuple[_Arrival, int]]] = {}
    for side in (0, 1):
        for flag, got, acked in (
            (SYN, _Arrival.SYN, _Arrival.SYN_ACKED),
            (FIN, _Arrival.FIN, _Arrival.FIN_ACKED),
        ):
            copies = [r for r, s in enumerate(sightings) if s.side == side and s.flags & flag]
            if not copies:
                continue
            first = sightings[copies[0]]
            covered_from = first.seq + 1 if flag == SYN else first.end
            row = _arrival_of_control(sightings, copies, covered_from)
            if row is not None:
                arrivals.setdefault(row, []).append((got, 1 - side))
            row = _arrival_of_acknowledgment(sightings, copies, covered_from)
            if row is not None:
                arrivals.setdefault(row, []).append((acked, side))
    return arrivals


def _answers(sightings: Sequence[Sighting], copies: list[int]) -> list[int]:
    """The rows of the other end after the first copy."""
    side = sightings[copies[0]].side
    return [r for r in range(copies[0] + 1, len(sightings)) if sightings[r].side != side]


def _covers(sightings: Sequence[Sighting], row: int, position: int) -> bool:
    """Whether the packet acknowledges `position`, and nothing that was never sent."""
    ack = sightings[row].ack
    if ack is None or ack < position:
        return False
    sender = 1 - sightings[row].side
    return any(s.side == sender and s.end >= ack for s in sightings[:row])


def _arrival_of_control(
    sightings: Sequence[Sighting], copies: list[int], covered_from: int
) -> int | None:
    """The row after which a SYN or FIN, sent in `copies`, had arrived; None: it never did."""
    not_covering = copies[0]
    for row in _answers(sightings, copies):
        if _covers(sightings, row, covered_from):
            if sightings[row].flags & RST and sightings[copies[0]].flags & SYN:
                return None  # refused: there was nobody to receive it
            # The SYN+ACK of a simultaneous open repeats a SYN that was not lost: no copy of it.
            kind = _kind(sightings[copies[0]])
            same = [copy for copy in copies if copy < row and _kind(sightings[copy]) == kind]
            return max(not_covering, same[-1])
        not_covering = row
    return None


def _arrival_of_acknowledgment(
    sightings: Sequence[Sighting], copies: list[int], covered_from: int
) -> int | None:
    """The row in which the acknowledgment of a SYN or FIN, sent in `copies`, arrived."""
    kinds = [_kind(sightings[copy]) for copy in copies]
    last = max(
        copy for index, copy in enumerate(copies) if index == 0 or kinds[index] in kinds[:index]
    )
    for row in _answers(sightings, copies):
        if row > last and _covers(sightings, row, covered_from):
            return row
    return None


def _kind(sighting: Sighting) -> int:
    """Tells a SYN from a SYN+ACK; every FIN is one kind."""
    return sighting.flags & (SYN | ACK) if sighting.flags & SYN else FIN


def _sends(end: _End, sighting: Sighting) -> None:
    """The state of the sender in which this packet can be sent."""
    flags = sighting.flags
    state = end.state
    if flags & RST:
        # An answer to an unacceptable segment does not end the attempt: RFC 9293 §3.10.7.3, .4
        answers = state is SYN_SENT or (state is SYN_RECEIVED and sighting.seq != end.sent)
        if not answers and state is not LISTEN:
            end.state = CLOSED
        return
    if flags & SYN:
        if flags & ACK and state in (CLOSED, LISTEN, SYN_SENT):
            end.state = SYN_RECEIVED
        elif state in (CLOSED, LISTEN):
            end.state = SYN_SENT
    elif state is SYN_SENT and flags & ACK:
        end.state = ESTABLISHED  # the SYN+ACK was not captured
    if flags & FIN:
        end.state = USER_CLOSE.get(end.state, end.state)
    end.sent = max(end.sent, sighting.end)
    if sighting.ack is not None:
        end.acked = sighting.ack


def _reset(end: _End, sender: _End, sighting: Sighting) -> None:
    """Applies a RST to the end that it reaches, if that end must believe it."""
    if end.state is LISTEN:
        return
    if end.state is SYN_SENT:
        # RFC 9293 §3.10.7.3: only a RST that acknowledges the SYN (or its data too: RFC 7413)
        if sighting.ack is not None and 0 < sighting.ack <= end.sent:
            end.state = CLOSED
        return
    # RFC 5961 §3.2 asks for RCV.NXT exactly; that may be ahead of the last acknowledgment.
    if end.acked is not None and not end.acked <= sighting.seq <= max(sender.sent, end.acked):
        return
    end.state = LISTEN if end.state is SYN_RECEIVED and end.passive else CLOSED
