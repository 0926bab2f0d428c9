"""Whether a dialogue ended as it had to: every byte, and the reason at both ends.

An error is accepted only with its cause: a reset for which a RST arrived that the peer had reason
to send, a time-out after the time that the configuration grants.
"""

from dataclasses import dataclass

from tools.simulation.application import Application
from tools.simulation.observer import WRAP, BrokenRule, Direction
from ustack.config import TcpConfig
from ustack.errors import (
    ConnectionAborted,
    ConnectionRefused,
    ConnectionReset,
    ConnectionTimedOut,
    HostUnreachable,
)
from ustack.tcp.state import ESTABLISHED, FIN_WAIT_2

SLACK = 0.9  # of a time-out: clocks tick


@dataclass(slots=True)
class End:
    """One end of a dialogue with what the simulation knows of it."""

    application: Application
    config: TcpConfig
    direction: Direction | None  # what the onlooker saw of it
    progress_at: int = 0  # host's µs, when SND.UNA last moved
    received_at: int = 0  # when the peer was last heard
    haunted: bool = False  # a late segment of it made its peer once more, from a SYN cookie


def judge(end: End, other: End | None, must_succeed: bool) -> None:
    """Raises BrokenRule if `end` did not end as it should. `other` None: never came to be."""
    mine = end.application
    if mine.lost:
        return
    if not mine.ended:
        raise BrokenRule(f"{mine.name}: never told that the connection is over")
    if must_succeed and mine.error is not None:
        raise BrokenRule(f"{mine.name}: {mine.error!r} where nothing can go wrong")
    if mine.eof:
        _judge_eof(mine, other)
    if mine.error is None:
        _judge_orderly(end, other)
    else:
        _judge_error(end, mine.error, other)


def _judge_eof(mine: Application, other: End | None) -> None:
    """EOF promises that nothing is missing."""
    if other is None:
        raise BrokenRule(f"{mine.name}: EOF from nobody")
    theirs = other.application
    if not theirs.shut or mine.read != theirs.written:
        raise BrokenRule(f"{mine.name}: EOF after {mine.read} of {theirs.written} bytes")


def _judge_orderly(end: End, other: End | None) -> None:
    """Whoever was told of no error has been acknowledged, and the peer has what was sent.

    But a ghost acknowledges too: a SYN cookie is good for two minutes, and the text or the FIN that
    brings it back is taken as it comes (so does Linux), whatever became of the connection before.
    """
    mine = end.application
    if not mine.shut:
        raise BrokenRule(f"{mine.name}: over without an error, but it was never closed")
    if not mine.connected:
        return
    if not mine.eof and not mine.closed:
        raise BrokenRule(f"{mine.name}: over without an error and without EOF")
    tcb = other.application.tcb if other is not None else None
    gone = other is None or other.application.lost or end.haunted
    if tcb is not None and not gone:
        taken = tcb.counters.bytes_received
        if taken < mine.written:
            raise BrokenRule(
                f"{mine.name}: no error, but only {taken} of {mine.written} bytes were received"
            )


def _judge_error(end: End, error: Exception, other: End | None) -> None:
    mine = end.application
    if isinstance(error, ConnectionAborted):
        if not mine.aborted and not mine.closed:
            raise BrokenRule(f"{mine.name}: {error!r} although it did not abort")
    elif isinstance(error, ConnectionReset | ConnectionRefused):
        heard = end.direction is not None and end.direction.resets_got > 0
        if not heard and not mine.closed_early:
            raise BrokenRule(f"{mine.name}: {error!r} without a RST")
        if heard and other is not None and not _may_reset(other) and not mine.closed_early:
            raise BrokenRule(f"{mine.name}: {error!r}, but {other.application.name} had no reason")
    elif isinstance(error, ConnectionTimedOut | HostUnreachable):
        # R2 gives the last soft error as the reason, if there was one (Linux sk_err_soft)
        stalled = mine.ended_at - end.progress_at
        quiet = mine.ended_at - end.received_at
        if stalled < SLACK * patience(end.config, mine) and not (
            end.config.keep_alive
            and quiet
            >= SLACK
            * (
                end.config.keep_alive_idle_us
                + end.config.keep_alive_probes * end.config.keep_alive_interval_us
            )
        ):
            raise BrokenRule(f"{mine.name}: {error!r} after only {stalled / 1e6:.1f} s")
    else:
        raise BrokenRule(f"{mine.name}: unexpected {error!r}")


def waits_for_ever(end: End, other: End | None) -> bool:
    """TCP has no more to do here: all was acknowledged, and the peer is gone without a word.

    Without keep-alive such a connection waits until its user gives up (RFC 9293 §3.8.4). The peer's
    last words, if it had any, were lost: a FIN that it gave up resending, or a RST; one that came
    and was not at RCV.NXT says nothing (RFC 9293 §3.10.7.4).
    """
    mine = end.application
    tcb = mine.tcb
    if tcb is None or mine.ended or mine.lost or end.config.keep_alive:
        return False
    settled = tcb.snd.una == tcb.snd.max and not len(tcb.send_buffer)
    deaf = end.direction is None or tcb.rcv.nxt % WRAP not in end.direction.last_words
    if tcb.state not in (ESTABLISHED, FIN_WAIT_2) or not settled or not deaf:
        return False
    its = other.application if other is not None else None
    return its is None or its.lost or (its.ended and its.error is not None)


def _may_reset(end: End) -> bool:
    """It may have sent a RST: it broke off, closed early, vanished, or was gone already."""
    its = end.application
    return its.lost or its.aborted or its.closed_early or its.ended


def patience(config: TcpConfig, its: Application) -> int:
    """µs of silence that a connection survives at least (RFC 9293 §3.8.3, R2)."""
    if not its.connected:
        first, tries = config.initial_rto_us, config.syn_retransmissions
    elif its.tcb is not None and its.tcb.passive and its.tcb.snd.una == its.tcb.snd.iss:
        # Fast Open: it could talk at once, but nobody has ever answered the SYN,ACK
        first, tries = config.initial_rto_us, config.syn_ack_retransmissions + 1
    else:
        first, tries = config.min_rto_us, config.r2_retransmissions
        if its.closed:
            tries = min(tries, config.orphan_retransmissions)
    return sum(min(first << exponent, config.max_rto_us) for exponent in range(tries + 1))
