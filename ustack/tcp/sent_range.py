"""One piece of what is in flight: the entry of the scoreboard.

Owns what is known of it. Must not know the others, or what they add up to: see `scoreboard`.
"""

from ustack.tcp.delivery_rate import Origin


class SentRange:
    """[start, end) was sent at `sent_at` (µs), the last time if more than once."""

    __slots__ = ("copies", "end", "lost", "origin", "resent", "sacked", "sent_at", "slack", "start")

    def __init__(
        self, start: int, end: int, slack: int, sent_at: int, origin: Origin | None
    ) -> None:
        self.start = start
        self.end = end
        self.slack = slack  # bytes that its segments lack to be full ones; a FIN may be too many
        self.sent_at = sent_at
        self.origin = origin  # for a delivery-rate sample, None: nobody asks
        self.sacked = False  # the peer reported it
        self.lost = False  # deemed lost
        self.resent = False  # sent again, and that copy is not deemed lost
        self.copies = 0  # how often it was sent again, ever

    def __repr__(self) -> str:
        marks = "".join(
            mark for mark, on in (("S", self.sacked), ("L", self.lost), ("R", self.resent)) if on
        )
        return f"[{self.start},{self.end}){marks}"
