"""Pure ACKs of one batch: only those that say nothing more are left out."""

import pytest

from tests.stack.host import Host, Peer, both_versions
from ustack.stack.pure_acks import superseded
from ustack.tcp.tcb import Tcb
from ustack.wire import virtio


def sending(version: int) -> tuple[Host, Peer, Tcb]:
    """Ten segments of ours are in flight, with timestamps and SACK."""
    host = Host(version)
    peer = Peer(host)
    tcb = peer.establish(sack=True, tsval=1000)
    host.send(tcb, b"x" * 9880)
    peer.heard()
    return host, peer, tcb


def vouched(frame: bytes) -> bytes:
    """As a TUN with offload hands it on."""
    return bytes([virtio.DATA_VALID]) + frame[1:]


@both_versions
def test_of_a_run_of_acks_the_last_one_is_enough(version: int) -> None:
    host, peer, tcb = sending(version)
    frames = [vouched(peer.frame(".", 1, ack)) for ack in (989, 1977, 2965)]
    host.stack.input_batch(frames, host.now)
    assert tcb.snd.una - tcb.snd.iss == 2965
    assert host.drops()["acks-superseded"] == 2


@both_versions
@pytest.mark.parametrize(
    "first, second",
    [
        ({}, {}),  # a duplicate ACK counts
        ({"ack": 1977}, {"ack": 989}),  # the later one acknowledges less
        ({"payload": b"y"}, {"ack": 1977}),
        ({"flags": "F."}, {"ack": 1977}),
        ({}, {"ack": 1977, "seq": 2}),
        ({}, {"ack": 1977, "flags": "R."}),
        ({"sack": [(3000, 4000)]}, {"ack": 1977}),
    ],
)
def test_an_ack_that_says_more_is_not_left_out(
    version: int, first: dict[str, object], second: dict[str, object]
) -> None:
    _, peer, _ = sending(version)
    usual: dict[str, object] = {"flags": ".", "seq": 1, "ack": 989}
    frames = [vouched(peer.frame(**(usual | wish))) for wish in (first, second)]  # type: ignore[arg-type]
    assert not superseded(*frames)


@both_versions
def test_an_ack_of_another_flow_supersedes_nothing(version: int) -> None:
    host, peer, _ = sending(version)
    other = Peer(host, 50_000)
    other.tsval = 1000
    assert not superseded(vouched(peer.frame(".", 1, 989)), vouched(other.frame(".", 1, 1977)))


@both_versions
def test_an_ack_whose_checksum_nobody_vouched_for_supersedes_nothing(version: int) -> None:
    _, peer, _ = sending(version)
    assert not superseded(vouched(peer.frame(".", 1, 989)), peer.frame(".", 1, 1977))
