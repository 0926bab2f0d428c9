"""The clocks of a sender: the strongest reason runs, and all of them count as busy."""

from ustack.tcp.chronograph import BUSY, PEER_WINDOW, SEND_BUFFER, Chronograph


def test_the_strongest_reason_runs() -> None:
    clocks = Chronograph()
    assert clocks.totals(50) == (0, 0, 0)
    clocks.start(BUSY, 100)
    clocks.start(PEER_WINDOW, 110)
    clocks.start(BUSY, 115)  # weaker
    clocks.start(SEND_BUFFER, 130)
    clocks.stop(PEER_WINDOW, 135)  # does not run
    assert clocks.totals(150) == (50, 20, 20)
    clocks.stop(SEND_BUFFER, 150)
    assert clocks.totals(170) == (70, 20, 20)
    clocks.idle(180)
    assert clocks.totals(900) == (80, 20, 20)
