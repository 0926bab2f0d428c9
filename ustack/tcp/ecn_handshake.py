"""Which kind of congestion feedback the SYNs ask for and agree on (RFC 3168 §6.1.1).

`TcpConfig.ecn` has the values of Linux's tcp_ecn: 0 none; 1 ECN, asked for and accepted; 2 ECN when
the peer asks.
"""

from ustack.config import TcpConfig
from ustack.tcp.ecn import Ecn
from ustack.tcp.segment import Segment
from ustack.tcp.tcb import Tcb
from ustack.wire.ecn import NOT_ECT
from ustack.wire.tcp import ACK, AE, CWR, ECE

ASKING = (1,)  # values of TcpConfig.ecn
NONE, CLASSIC = 0, 1  # what a SYN is answered with


def offer(tcb: Tcb) -> None:
    """Before our SYN: what it asks for."""
    if tcb.config.ecn in ASKING:
        tcb.ecn = Ecn()


def answered(tcb: Tcb, seg: Segment) -> None:
    """We have asked, and here is the peer's SYN,ACK, or its SYN in a simultaneous open."""
    assert tcb.ecn is not None
    wanted = ECE if seg.flags & ACK else ECE | CWR
    if seg.flags & (ECE | CWR) != wanted:
        tcb.ecn = None
    else:
        tcb.ecn.answered(tcb)


def judge_syn(config: TcpConfig, seg: Segment) -> int:
    """What a SYN that a listener has got is answered with, as a small number to be kept."""
    if not config.ecn or seg.flags & (ECE | CWR) != ECE | CWR:
        return NONE
    # Linux: ECT on a SYN is no classic host's, unless the SYN asks for more than that
    return CLASSIC if seg.ecn == NOT_ECT or seg.flags & AE else NONE


def syn_ack_flags(judged: int) -> int:
    """What the SYN,ACK says about it."""
    return ECE if judged == CLASSIC else 0


def accepted(judged: int) -> Ecn | None:
    """The handshake of a passive open is complete."""
    return Ecn() if judged == CLASSIC else None
