"""Super-segments of one batch that follow each other: taken up at once, as if one by one."""

import pytest

from tests.stack.host import Host, Peer, both_versions
from ustack.stack.trains import train
from ustack.tcp.tcb import Tcb
from ustack.wire import virtio

SIZE = 8000  # bytes of text in each super-segment
TEXT = [bytes([65 + i]) * SIZE for i in range(4)]


def receiving(version: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Host, Peer, Tcb]:
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(sack=True, tsval=1000)
    monkeypatch.setattr(host.stack, "_probe", None)  # what is watched goes one by one
    # a first one of full size: the size of segments is known
    host.stack.input(vouched(peer.frame("P.", 1, 1, b"a" * SIZE)), host.now)
    host.turn()
    return host, peer, tcb


def vouched(frame: bytes) -> bytes:
    """As a TUN with offload hands it on."""
    return bytes([virtio.DATA_VALID]) + frame[1:]


def state(host: Host, tcb: Tcb) -> tuple[object, ...]:
    """All that later segments and the user could notice."""
    rcv, snd, counters = tcb.rcv, tcb.snd, tcb.counters
    return (
        {name: getattr(rcv, name) for name in rcv.__slots__},
        {name: getattr(snd, name) for name in snd.__slots__},
        {name: getattr(counters, name) for name in counters.__slots__},
        (tcb.ack_owed, tcb.ack_now, tcb.ack_soon, tcb.flush_now, tcb.last_received_at),
        tcb.receive_buffer.readable,
        host.read(tcb),
    )


@both_versions
@pytest.mark.parametrize("broken", [None, "gap", "news", "order", "checksum"])
def test_a_batch_is_taken_as_if_one_by_one(
    version: int, broken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for batched in (True, False):
        host, peer, tcb = receiving(version, monkeypatch)
        at = 1 + SIZE
        frames = []
        for i, text in enumerate(TEXT):
            start = at + i * SIZE + (SIZE if broken == "gap" and i == 2 else 0)
            window = 5000 if broken == "news" and i == 2 else 60_000
            frame = vouched(peer.frame("P.", start, 1, text, win=window))
            frames.append(bytes(1) + frame[1:] if broken == "checksum" and i == 2 else frame)
        if broken == "order":
            frames[1], frames[2] = frames[2], frames[1]
        if batched:
            host.stack.input_batch(frames, host.now)
        else:
            for frame in frames:
                host.stack.input(frame, host.now)
        outcomes.append((state(host, tcb), dict(host.stack.counters)))
    assert outcomes[0] == outcomes[1]


@both_versions
def test_a_train_takes_what_the_window_leaves(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable = []
    for batched in (True, False):
        host, peer, tcb = receiving(version, monkeypatch)
        room = (tcb.rcv.adv - tcb.rcv.nxt) // SIZE + 2
        frames = [
            vouched(peer.frame("P.", 1 + (1 + i) * SIZE, 1, b"x" * SIZE)) for i in range(room)
        ]
        if batched:
            host.stack.input_batch(frames, host.now)
        else:
            for frame in frames:
                host.stack.input(frame, host.now)
        assert tcb.rcv.nxt == tcb.rcv.adv
        readable.append(tcb.receive_buffer.readable)
    assert readable[0] == readable[1]


@both_versions
@pytest.mark.parametrize(
    "news", [{"ack": 2}, {"seq": 2}, {"flags": "FP."}, {"flags": "U."}, {"win": 7}]
)
def test_what_says_more_is_no_train(version: int, news: dict[str, object]) -> None:
    peer = Peer(Host(version))
    peer.establish(sack=True, tsval=1000)
    usual: dict[str, object] = {"flags": "P.", "ack": 1, "payload": b"x" * SIZE}
    first = vouched(peer.frame(**(usual | {"seq": 1})))  # type: ignore[arg-type]
    second = vouched(peer.frame(**(usual | {"seq": 1 + SIZE})))  # type: ignore[arg-type]
    assert train([first, second], 1) == [b"x" * SIZE]
    assert train([first, second, second], 1) == [b"x" * SIZE]
    other = vouched(peer.frame(**(usual | {"seq": 1 + SIZE} | news)))  # type: ignore[arg-type]
    assert train([first, other], 1) == []
    assert train([other, second], 1) == []
    assert train([first, second[:-1]], 1) == []
