"""One arriving segment as the protocol sees it: the SEG.* variables of RFC 9293 §3.3.1."""

from dataclasses import dataclass

from ustack.wire import Buffer
from ustack.wire.tcp_options import Options


class Segment:
    """SEG.SEQ, SEG.ACK, SEG.LEN, SEG.WND and the rest. Filled in by `Stack.input`.

    `seq` and `ack` are unwrapped positions; `len` counts SYN and FIN as the RFC does; `wnd` is
    the raw 16-bit field; `tsval` is None when the segment carries no timestamp; `sack` holds
    unwrapped (left, right) edges. `options` is set on SYN segments and with AccECN.
    `frame` is the packet as it arrived, for whoever watches. `ecn`, the ECN field of the IP header,
    is set on SYN segments and where the connection's `ecn` is.
    """

    __slots__ = (
        "ack",
        "ecn",
        "flags",
        "frame",
        "len",
        "options",
        "payload",
        "sack",
        "seq",
        "tsecr",
        "tsval",
        "urgent",
        "wnd",
    )

    seq: int
    ack: int
    ecn: int
    len: int
    wnd: int
    flags: int
    urgent: int
    tsval: int | None
    tsecr: int
    sack: tuple[tuple[int, int], ...]
    payload: Buffer
    options: Options | None
    frame: bytes


@dataclass(slots=True)
class Reset:
    """The one thing SEGMENT ARRIVES may ask its caller to send: a RST.

    `ack` None: <SEQ=seq><CTL=RST>, otherwise <SEQ=seq><ACK=ack><CTL=RST,ACK> (RFC 9293 §3.10.7).
    """

    seq: int
    ack: int | None = None
