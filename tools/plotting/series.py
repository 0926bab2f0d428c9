"""What is drawn of one connection: points in time, in the direction in which more text went.

Times are seconds from the first segment, positions and sizes bytes, positions relative to the
sender's ISN. Knows no file format and no drawing library.
"""

from dataclasses import dataclass, field

Point = tuple[float, float]


@dataclass(slots=True, frozen=True)
class SentSegment:
    """[start, end) left the sender, or passed the place of the capture."""

    at: float
    start: int
    end: int
    again: bool


@dataclass(slots=True, frozen=True)
class Mark:
    """[start, end) of the sequence space at one moment: a SACK block, or a range deemed lost."""

    at: float
    start: int
    end: int


@dataclass(slots=True)
class Series:
    """One connection. What the source of the data does not tell stays empty."""

    name: str
    sent: list[SentSegment] = field(default_factory=list)
    acks: list[Point] = field(default_factory=list)
    edges: list[Point] = field(default_factory=list)  # ACK + window
    sacks: list[Mark] = field(default_factory=list)
    losses: list[Mark] = field(default_factory=list)
    cwnd: list[Point] = field(default_factory=list)
    ssthresh: list[Point] = field(default_factory=list)
    in_flight: list[Point] = field(default_factory=list)
    window: list[Point] = field(default_factory=list)  # the peer's
    rtt: list[Point] = field(default_factory=list)  # ms, samples
    srtt: list[Point] = field(default_factory=list)  # ms
    rto: list[Point] = field(default_factory=list)  # ms
    states: list[tuple[float, str]] = field(default_factory=list)  # of congestion control
    timeouts: list[float] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of text sent, the first time."""
        return max((segment.end for segment in self.sent), default=1) - 1

    @property
    def resent(self) -> int:
        """Segments sent again."""
        return sum(segment.again for segment in self.sent)
