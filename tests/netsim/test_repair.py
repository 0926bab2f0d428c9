"""How long the repair of a chosen loss takes, in virtual time: what the RFCs give, to the ms."""

import random
from collections.abc import Mapping, Sequence

import pytest

from tools.comparison.links import Aimed
from ustack.config import StackConfig
from ustack.device.faults import Faults, LinkConfig
from ustack.stack.stack import Stack
from ustack.wire import Buffer

ROUND_TRIP_US = 100_000
MSS = 1448  # 1500 less the headers of IPv4 and TCP with timestamps
PORT = 7
NEAR, FAR = "10.0.0.1", "10.0.0.2"


def stack(address: str) -> Stack:
    randrange = random.Random(1).randrange
    return Stack(
        StackConfig(addresses=(f"{address}/24",)), secret=address.encode() * 2, randrange=randrange
    )


class Dialogue:
    """A message from one stack to another over a link on which chosen segments are lost."""

    def __init__(self, drops: Mapping[int, int]) -> None:
        config = LinkConfig(delay_us=ROUND_TRIP_US // 2)
        self.there = Aimed(Faults(config, random.Random(1)), drops)
        self._back = Faults(config, random.Random(2))
        self._near, self._far = stack(NEAR), stack(FAR)
        self._now = 0

    def repair(self, segments: int, last: int) -> float:
        """Round trips from the first loss of segment `last` to when all up to it was received."""
        listener = self._far.listen(PORT, self._now)
        near = self._near.connect(FAR, PORT, self._now)
        self._near.send(near, bytes(segments * MSS), self._now)
        far = None
        received = 0
        while received < last * MSS:
            self._turn()
            far = far or self._far.accept(listener)
            while far is not None and (chunk := self._far.receive(far, 1 << 20, self._now)):
                received += len(chunk)
        lost_at = next(one.at for one in self.there.passages if one.dropped and one.number == last)
        return (self._now - lost_at) / ROUND_TRIP_US

    def _turn(self) -> None:
        """Packets out at both ends, then on to whatever comes next."""
        self._near.flush(self._now, self._outward)
        self._far.flush(self._now, self._homeward)
        sources = (self.there, self._back, self._near, self._far)
        deadlines = [at for at in (source.next_deadline() for source in sources) if at is not None]
        self._now = max(self._now, min(deadlines))
        for link, end in ((self.there, self._far), (self._back, self._near)):
            end.input_batch(link.due(self._now, 64), self._now)
            end.handle_timeouts(self._now)
            end.take_events()

    def _outward(self, parts: Sequence[Buffer], now: int) -> bool:
        self.there.accept(b"".join(parts), now)
        return True

    def _homeward(self, parts: Sequence[Buffer], now: int) -> bool:
        self._back.accept(b"".join(parts), now)
        return True


@pytest.mark.parametrize(
    "segments, drops, last, round_trips",
    [
        (9, {4: 1}, 4, 1.5),  # one of nine: SACK after one, the copy half a round trip later
        (9, {1: 1}, 1, 1.5),
        (9, {2: 1, 4: 1, 6: 1}, 6, 1.5),
        (100, {5: 2}, 5, 2.5),  # the copy too: told by what was sent after it (RFC 8985 §6.2)
        # a tail: the others' ACKs, then 2 SRTT (RFC 8985 §7.2) and 200 ms for a segment alone, or
        # the RTO when that is sooner, then half a round trip
        (9, {9: 1}, 9, 1 + 4 + 0.5),
        # two: the probe after 2 SRTT brings the last; its SACK tells the other
        (9, {8: 1, 9: 1}, 8, 1 + 2 + 1 + 0.5),
    ],
    ids=["one of nine", "the first", "three of nine", "its copy too", "the last", "the last two"],
)
def test_a_loss_is_repaired_as_soon_as_the_rfcs_allow(
    segments: int, drops: Mapping[int, int], last: int, round_trips: float
) -> None:
    assert Dialogue(drops).repair(segments, last) <= round_trips + 0.05
