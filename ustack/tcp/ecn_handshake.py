"""Which kind of congestion feedback the SYNs ask for and agree on (RFC 3168 §6.1.1, RFC 9768 §3.1).

`TcpConfig.ecn` has the values of Linux's tcp_ecn:

    0  none
    1  RFC 3168, asked for and accepted
    2  RFC 3168, accepted
    3  AccECN, asked for and accepted; RFC 3168 with a peer that has only that
    4  AccECN accepted, RFC 3168 asked for
    5  AccECN accepted
"""

from ustack.config import TcpConfig
from ustack.tcp.accurate_ecn import (
    ACE_SHIFT,
    HANDSHAKE_ACE,
    SYN_ACK_OPTION,
    AccurateEcn,
    ace_of,
)
from ustack.tcp.ecn import Ecn
from ustack.tcp.segment import Segment
from ustack.tcp.tcb import Tcb
from ustack.wire.ecn import NOT_ECT
from ustack.wire.tcp import ACK, AE, ECE

ASK_CLASSIC, ASK_ACCURATE = (1, 4), (3,)  # values of TcpConfig.ecn
ACCEPT_ACCURATE = (3, 4, 5)

# What a SYN that a listener has got is answered with: one of these, the SYN's ECN field above them,
# and above that whether a SYN or SYN,ACK without the bits was seen since (RFC 9768 §3.1.5)
NONE, CLASSIC, ACCURATE = range(3)
KIND = 3
FIELD_SHIFT = 2
PLAIN = 16

CLASSIC_SYN = 0b011  # (AE, CWR, ECE), RFC 9768 Table 2
CLASSIC_SYN_ACK = 0b001
REFLECTED = 0b111
SYN_ACK_TRIES = 2  # RFC 9768 §3.2.3.2.2: SYN,ACKs with the bits; only the first has the option


def offer(tcb: Tcb) -> None:
    """Before our SYN: what it asks for."""
    if tcb.config.ecn in ASK_CLASSIC:
        tcb.ecn = Ecn()
    elif tcb.config.ecn in ASK_ACCURATE:
        tcb.ecn = AccurateEcn()


def answered(tcb: Tcb, seg: Segment) -> None:
    """We have asked, and here is the peer's SYN,ACK, or its SYN in a simultaneous open."""
    offered = tcb.ecn
    assert offered is not None
    code = ace_of(seg.flags)
    classic = CLASSIC_SYN_ACK if seg.flags & ACK else CLASSIC_SYN
    if type(offered) is Ecn:
        tcb.ecn = offered if code & CLASSIC_SYN == classic else None
    elif code == classic:
        tcb.ecn = Ecn()
        tcb.ecn.ect = offered.ect
    elif not code or (code == REFLECTED and seg.flags & ACK):
        tcb.ecn = None
    if tcb.ecn is not None:
        tcb.ecn.answered(tcb, seg)


def judge_syn(config: TcpConfig, seg: Segment) -> int:
    """What a SYN that a listener has got is answered with, as a small number to be kept."""
    code = ace_of(seg.flags)
    if code not in (0, CLASSIC_SYN) and config.ecn in ACCEPT_ACCURATE:
        return ACCURATE | seg.ecn << FIELD_SHIFT
    if not config.ecn or code & CLASSIC_SYN != CLASSIC_SYN:
        return NONE
    # Linux: ECT on a SYN is no classic host's, unless the SYN asks for more than that
    return CLASSIC if seg.ecn == NOT_ECT or seg.flags & AE else NONE


def syn_ack(config: TcpConfig, judged: int, sent: int, timeouts: int) -> tuple[int, bytes]:
    """The flags of a SYN,ACK and its AccECN option, after so many SYN,ACKs and timeouts."""
    if judged & KIND == CLASSIC:
        return ECE, b""
    if judged & KIND != ACCURATE or timeouts >= SYN_ACK_TRIES:
        return 0, b""
    flags = HANDSHAKE_ACE[judged >> FIELD_SHIFT & 3] << ACE_SHIFT
    return flags, SYN_ACK_OPTION if config.accecn_option and not sent else b""


def is_plain(seg: Segment) -> bool:
    """A SYN that makes no offer."""
    return not ace_of(seg.flags)


def with_plain(judged: int, plain_syn: bool, timeouts: int) -> int:
    """`judged`, and that a SYN without an offer came later, or our SYN,ACK has taken it back."""
    return judged | PLAIN if plain_syn or timeouts >= SYN_ACK_TRIES else judged


def accepted(judged: int) -> Ecn | None:
    """The handshake of a passive open is complete."""
    if judged & KIND == CLASSIC:
        return Ecn()
    if judged & KIND != ACCURATE:
        return None
    accurate = AccurateEcn()
    accurate.begin(judged >> FIELD_SHIFT & 3, bool(judged & PLAIN))
    return accurate
