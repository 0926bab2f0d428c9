"""Less than a segment, held back by TCP_CORK or MSG_MORE (tcp(7), send(2))."""


class Cork:
    """Of one socket."""

    __slots__ = ("more", "text", "until")

    def __init__(self) -> None:
        self.text = bytearray()
        self.more = False  # MSG_MORE held it back: it does not end a message
        self.until: int | None = None  # µs, when it leaves all the same

    def hold(self, text: bytes, now: int, rto_us: int, *, more: bool) -> None:
        """`text` takes the place of what was held, for a retransmission timeout at the most.

        That is the 200 ms of tcp(7) unless the round trip is long (Linux tcp_check_probe_timer).
        """
        self.text[:] = text
        self.more = more
        self.until = now + rto_us if text else None
