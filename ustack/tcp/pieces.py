"""The pieces in which text leaves: what was sent in one is sent again in one, as by Linux."""

from collections.abc import Sequence

from ustack.tcp.tcb import Emit, Tcb
from ustack.wire import Buffer


def remembering(emit: Emit) -> Emit:
    """`emit`, which also notes where each piece of several segments ends."""

    def remember(
        tcb: Tcb,
        seq: int,
        flags: int,
        window: int,
        options: bytes,
        payload: Sequence[Buffer],
        size: int,
        urgent: int,
        note: str,
    ) -> bool:
        taken = emit(tcb, seq, flags, window, options, payload, size, urgent, note)
        if taken and size > tcb.snd.mss:
            tcb.send_buffer.cut_at(seq + size)
        return taken

    return remember
