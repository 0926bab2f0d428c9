"""The pieces in which text leaves: what was sent in one is sent again in one, as by Linux."""

from ustack.tcp.emit import Emit, Outgoing, passing
from ustack.tcp.tcb import Tcb


def remembering(tcb: Tcb, emit: Emit) -> Emit:
    """`emit`, which also notes where each piece of several segments ends."""

    def remember(segment: Outgoing) -> None:
        if segment.size > tcb.snd.mss:
            tcb.send_buffer.cut_at(segment.seq + segment.size)

    return passing(emit, remember)
