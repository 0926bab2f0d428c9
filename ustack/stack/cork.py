"""Less than a segment, held back by TCP_CORK or MSG_MORE (tcp(7), send(2))."""

CORK_US = 200_000  # µs; tcp(7): a corked tail leaves after 200 ms at the latest


class Cork:
    """Of one socket."""

    __slots__ = ("more", "text", "until")

    def __init__(self) -> None:
        self.text = bytearray()
        self.more = False  # MSG_MORE held it back: it does not end a message
        self.until: int | None = None  # µs, when it leaves all the same

    def hold(self, text: bytes, now: int, *, more: bool) -> None:
        """`text` takes the place of what was held."""
        self.text[:] = text
        self.more = more
        self.until = now + CORK_US if text else None
