"""How fast the network delivers: a sample for each ACK (draft-cheng-iccrg-delivery-rate-estimation,
as Linux's tcp_rate.c has it).

What is in flight remembers how much had been delivered when it left. When it is acknowledged, the
difference, over the time that its sending or its acknowledgment took, whichever is longer, is the
rate at which the path has delivered meanwhile. Numbers in, numbers out; knows no Tcb.
"""

from dataclasses import dataclass

SECOND = 1_000_000  # µs


class Origin:
    """What was known when a range left; the ranges sent between two ACKs share one (§3.1.2)."""

    __slots__ = ("app_limited", "delivered", "delivered_at", "first_sent_at", "in_flight", "lost")

    def __init__(
        self, delivered: int, delivered_at: int, first_sent_at: int, lost: int, *, app_limited: bool
    ) -> None:
        self.delivered = delivered  # P.delivered: bytes delivered before
        self.delivered_at = delivered_at  # P.delivered_time, µs
        self.first_sent_at = first_sent_at  # P.first_sent_time: the send interval begins, µs
        self.app_limited = app_limited  # P.is_app_limited
        self.lost = lost  # bytes lost before
        self.in_flight = 0  # bytes in flight with it


@dataclass(slots=True)
class RateSample:
    """What one ACK says (RS in the draft's terms). Bytes and µs."""

    rate: int  # RS.delivery_rate, bytes/s; 0: this ACK tells nothing of it
    delivered: int  # RS.delivered: over `interval`
    interval: int  # RS.interval
    prior_delivered: int  # RS.prior_delivered: before the newest of what has arrived was sent
    app_limited: bool  # RS.is_app_limited
    in_flight: int  # RS.tx_in_flight: with the newest of what has arrived
    lost: int  # RS.lost: since that was sent


NO_SAMPLE = RateSample(0, 0, 0, 0, app_limited=True, in_flight=0, lost=0)


class DeliverySampler:
    """The connection's state (§3.1.1), and its last good sample for STATUS."""

    __slots__ = (
        "app_limited",
        "delivered",
        "delivered_at",
        "first_sent_at",
        "interval",
        "lost",
        "newest",
        "newest_once",
        "newest_sent_at",
        "rate_app_limited",
        "rate_delivered",
        "rate_interval",
        "size",
        "stale",
    )

    def __init__(self, delivered: int, now: int) -> None:
        self.delivered = delivered  # C.delivered, bytes; the SYN is the first
        self.delivered_at = now  # C.delivered_time, µs
        self.first_sent_at = now  # C.first_sent_time, µs
        self.lost = 0  # C.lost, bytes
        self.app_limited = 0  # C.app_limited: until so much is delivered; 0: not
        self.stale = True  # the next range to leave needs a new Origin
        self.size = 0  # what the last ACK said: so many bytes, 0: it is no sample
        self.interval = 0  # in so many µs
        self.newest: Origin | None = None  # of what an ACK has just reported
        self.newest_sent_at = 0  # µs
        self.newest_once = False  # it was never sent again
        self.rate_delivered = 0  # bytes, in
        self.rate_interval = 0  # µs
        self.rate_app_limited = True  # Linux: until a sample says otherwise

    @property
    def rate(self) -> int:
        """The last good sample, bytes/s; 0: none."""
        return self.rate_delivered * SECOND // self.rate_interval if self.rate_interval else 0

    def mark_app_limited(self, in_flight: int) -> None:
        """The user gives less than the window takes: so it was until what is in flight now, and
        the bubble behind it, have been delivered (§3.4)."""
        self.app_limited = max(self.delivered + in_flight, 1)
        self.stale = True

    def origin(self, in_flight: int, now: int) -> Origin:
        """For what is about to leave while so much is `in_flight` (§3.2)."""
        if not in_flight:
            self.first_sent_at = self.delivered_at = now
        self.stale = False
        return Origin(
            self.delivered,
            self.delivered_at,
            self.first_sent_at,
            self.lost,
            app_limited=self.app_limited > 0,
        )

    def on_ack(
        self, delivered: int, origin: Origin | None, sent_at: int, min_rtt: int, now: int
    ) -> None:
        """`delivered` bytes have arrived in all; the newest of what has just arrived left at
        `sent_at` with `origin` (§3.3). None: nothing has that was asked about.

        `min_rtt`: a shorter interval is the work of a few ACKs that were acknowledged together,
        and says nothing. All in µs.
        """
        if delivered > self.delivered:
            self.delivered = delivered
            self.delivered_at = now
        self.stale = True
        self.size = 0
        if origin is None:
            return
        self.first_sent_at = sent_at
        if self.app_limited and self.delivered > self.app_limited:
            self.app_limited = 0
        interval = now - origin.delivered_at
        if sent_at - origin.first_sent_at > interval:
            interval = sent_at - origin.first_sent_at
        size = self.delivered - origin.delivered
        if size <= 0 or interval < min_rtt or interval <= 0:
            return
        self.size = size
        self.interval = interval
        if not origin.app_limited or size * self.rate_interval >= self.rate_delivered * interval:
            self.rate_delivered = size
            self.rate_interval = interval
            self.rate_app_limited = origin.app_limited

    def sample(self, origin: Origin) -> RateSample:
        """What the last ACK said; `origin` is as it was there."""
        size = self.size
        return RateSample(
            rate=size * SECOND // self.interval if size else 0,
            delivered=size,
            interval=self.interval,
            prior_delivered=origin.delivered,
            app_limited=origin.app_limited,
            in_flight=origin.in_flight,
            lost=max(self.lost - origin.lost, 0),  # what was excused since was counted there
        )
