"""Stack as a whole: segments of nobody, turns, events, limits, and that nothing can break it."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stack.host import (
    MS,
    SECOND,
    SECRET,
    Host,
    Peer,
    both_versions,
    ip_frame,
)
from ustack.config import StackConfig, TcpConfig
from ustack.errors import AddressInUse, NoBufferSpace, UsageError
from ustack.stack.listener import Listener
from ustack.stack.stack import Stack
from ustack.tcp.state import ESTABLISHED
from ustack.tcp.tcb import ACCEPTABLE, CONNECTED, READABLE, Tcb
from ustack.wire import tcp as wire_tcp
from ustack.wire import virtio

# Segments that belong to no connection (RFC 9293 §3.10.7.1, §3.5.2)


@both_versions
@pytest.mark.parametrize(
    "flags,payload,answer",
    [
        ("S", b"", "R. 0:0(0) ack 1"),
        ("S", b"0123456789", "R. 0:0(0) ack 11"),
        ("F", b"", "R. 0:0(0) ack 1"),
        ("SF", b"xy", "R. 0:0(0) ack 4"),
        ("", b"xy", "R. 0:0(0) ack 2"),
        (".", b"", "R 77:77(0)"),
        ("F.", b"xy", "R 77:77(0)"),
        ("S.", b"", "R 77:77(0)"),
    ],
)
def test_a_segment_of_nobody_is_reset(
    version: int, flags: str, payload: bytes, answer: str
) -> None:
    peer = Peer(Host(version))
    assert peer.send(flags, 0, 77, payload) == [answer]


@both_versions
@pytest.mark.parametrize("flags", ["R", "R."])
def test_a_reset_of_nobody_is_not_answered(version: int, flags: str) -> None:
    host = Host(version)
    assert Peer(host).send(flags, 0, 77) == []
    assert host.is_clean()


def test_resets_are_limited() -> None:
    host = Host(resets_per_second=7)
    answers = [Peer(host, 40000 + i).send("S", 0) for i in range(20)]
    assert sum(map(len, answers)) == 7
    assert host.drops()["resets-limited"] == 13
    host.advance(SECOND)
    assert len(Peer(host, 50000).send("S", 0)) == 1


# Making a stack and opening connections


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(UsageError):
        Stack(StackConfig(), secret=b"short", randrange=Random(1).randrange)


def test_connections_are_capped() -> None:
    host = Host(max_connections=1)
    host.stack.connect("10.0.0.2", 80, host.now)
    with pytest.raises(NoBufferSpace):
        host.stack.connect("10.0.0.2", 80, host.now)


def test_a_pair_in_use_cannot_be_opened_again() -> None:
    host = Host()
    Peer(host).connect()
    with pytest.raises(AddressInUse):
        Peer(host).connect()


def test_two_stacks_with_the_same_seed_send_the_same_octets() -> None:
    def run() -> list[bytes]:
        host = Host(checksum_offload=True, gso_max=65535)
        peer = Peer(host)
        tcb = peer.establish(sack=True, tsval=9, rtt=MS)
        host.stack.connect("10.0.0.2", 443, host.now)
        host.send(tcb, b"x" * 5000)
        host.advance(10 * SECOND)
        return [sent.frame for sent in host.drain()]

    first = run()
    assert len(first) > 5
    assert first == run()


def test_two_secrets_make_two_sequence_numbers() -> None:
    seen = set()
    for secret in (SECRET, bytes(16)):
        stack = Stack(
            StackConfig(addresses=("10.0.0.1/24",)), secret=secret, randrange=Random(1).randrange
        )
        seen.add(stack.connect("10.0.0.2", 80, 0, local_port=5000).snd.iss)
    assert len(seen) == 2


# Turns


def test_input_sends_nothing_until_the_flush() -> None:
    host = Host()
    host.listen()
    peer = Peer(host)
    peer.put("S", 0)
    assert host.frames == []
    assert host.stack.next_deadline() == 0
    host.turn()
    assert peer.heard() == ["S. 0:1(0) ack 1"]


def test_a_flush_with_nothing_to_do_is_done() -> None:
    host = Host()
    assert host.turn()
    assert host.stack.next_deadline() is None


def test_events_come_once_and_or_ed_together() -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.connected()
    assert host.events_of(tcb) == CONNECTED
    peer.put(".", 1, 1, b"a")
    peer.put(".", 2, 1, b"b")
    host.stack.flush(host.now, host.write)
    assert host.stack.take_events() == [(tcb, READABLE)]
    assert host.stack.take_events() == []


def test_events_that_were_settled_meanwhile_are_not_told() -> None:
    host = Host()
    listener = host.listen()
    peer = Peer(host)
    peer.put("S", 0)
    host.stack.flush(host.now, host.write)
    peer.put(".", 1, 1)
    host.stack.flush(host.now, host.write)
    assert host.stack.take_events() == [(listener, ACCEPTABLE)]


def test_frames_that_a_full_device_refused_leave_first_and_in_order() -> None:
    host = Host()
    host.room = 1
    peers = [Peer(host, 40000 + i) for i in range(3)]
    for peer in peers:
        peer.put("S", 0)  # nobody listens: three resets
    assert not host.turn()
    assert [len(peer.heard()) for peer in peers] == [1, 0, 0]
    host.room = 1
    assert not host.turn()
    assert [len(peer.heard()) for peer in peers] == [0, 1, 0]
    host.room = None
    assert host.turn()
    assert [len(peer.heard()) for peer in peers] == [0, 0, 1]


def test_a_late_or_early_timer_does_no_harm() -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.establish()
    host.send(tcb, b"x")
    peer.heard()
    host.stack.handle_timeouts(host.now)
    host.turn()
    assert peer.heard() == []
    host.now += 3600 * SECOND
    host.stack.handle_timeouts(host.now)
    host.turn()
    assert peer.heard() == ["P. 1:2(1) ack 1"]


def test_an_ack_can_wait_for_the_answer_of_the_user() -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.establish()
    peer.put("P.", 1, 1, b"question")
    assert host.stack.flush(host.now, host.write, again=True)
    assert host.stack.acks_held
    assert peer.heard() == []
    host.stack.take_events()
    host.stack.send(tcb, b"answer", host.now)
    host.stack.flush(host.now, host.write)
    assert not host.stack.acks_held
    assert peer.heard() == ["P. 1:7(6) ack 9"]


def test_the_ack_of_a_fin_can_wait_for_the_close_of_the_user_and_files_no_timer() -> None:
    host = Host()
    peer = Peer(host)
    tcb = peer.establish()
    peer.put("F.", 1, 1)
    timers = host.stack.pending_timers()
    assert host.stack.flush(host.now, host.write, again=True)
    assert host.stack.acks_held
    assert host.stack.pending_timers() == timers
    host.stack.take_events()
    host.stack.close(tcb, host.now)
    host.stack.flush(host.now, host.write)
    assert peer.heard() == ["F. 1:2(0) ack 2"]


def test_the_ack_of_a_fin_that_nobody_answers_leaves_after_its_delay() -> None:
    host = Host()
    peer = Peer(host)
    peer.establish()
    peer.put("F.", 1, 1)
    host.stack.flush(host.now, host.write, again=True)
    host.stack.take_events()
    host.stack.flush(host.now, host.write)
    assert peer.heard() == []
    host.advance(40 * MS)
    assert peer.heard() == [". 1:1(0) ack 2"]


def test_an_ack_that_nobody_answers_leaves_with_the_next_flush() -> None:
    host = Host()
    peer = Peer(host)
    peer.establish()
    peer.put("P.", 1, 1, b"news")
    host.stack.flush(host.now, host.write, again=True)
    host.stack.take_events()
    assert peer.heard() == []
    host.stack.flush(host.now, host.write)
    assert peer.heard() == [". 1:1(0) ack 5"]


def test_an_urgent_ack_does_not_wait() -> None:
    host = Host()
    peer = Peer(host)
    peer.establish()
    peer.put("P.", 101, 1, b"beyond a gap")
    host.stack.flush(host.now, host.write, again=True)
    assert peer.heard() == [". 1:1(0) ack 1"]


def test_after_a_while_flush_lets_input_have_its_turn() -> None:
    host = Host(tcp=TcpConfig(initial_window_segments=100_000))
    peer = Peer(host)
    tcb = peer.establish(wscale=14, mss=1400)
    host.stack.send(tcb, bytes(4 << 20), host.now)
    written = 0

    def write(parts: object, now: int) -> bool:
        nonlocal written
        written += 1
        return True

    assert host.stack.flush(host.now, write)
    assert 0 < written < 4 << 20
    before = written
    if host.stack.next_deadline() == 0:
        host.stack.flush(host.now, write)
        assert written > before


class Silent(Host):
    """Without a probe."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.stack = Stack(self.stack.config, secret=SECRET, randrange=Random(1).randrange)


@both_versions
def test_without_a_probe_everything_is_the_same(version: int) -> None:
    host = Silent(version)
    peer = Peer(host)
    tcb = peer.establish()
    host.close(tcb)
    assert peer.heard() == ["F. 1:2(0) ack 1"]
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]
    assert peer.send("F.", 1, 2) == [". 2:2(0) ack 2"]
    assert peer.send("R", 2) == []
    assert host.is_clean()
    assert peer.send(".", 1, 77) == ["R 77:77(0)"]
    host.input(b"")
    host.input(virtio.PLAIN + bytes(40))
    assert host.drops()["ip-version"] == 1
    another = Peer(host, 40001)
    another.establish()
    another.put("R", 1)
    another.put(".", 1, 1)
    host.turn()
    assert another.heard() == ["R 1:1(0)"]
    host.input(ip_frame(another.src, another.dst, 200, b"?"))
    assert len(host.drain()) == 1


def test_a_segment_right_behind_a_reset_finds_nobody() -> None:
    host = Host()
    peer = Peer(host)
    peer.establish()
    peer.put("R", 1)
    peer.put("P.", 1, 5, b"late")
    host.turn()
    assert peer.heard() == ["R 5:5(0)"]
    assert host.is_clean()


def test_a_flush_takes_no_more_than_its_budget_of_turns() -> None:
    host = Host(tcp=TcpConfig(initial_window_segments=100_000, send_buffer=1 << 20))
    tcbs = [Peer(host, port).establish(wscale=14, mss=1400) for port in range(40000, 40040)]
    host.room = None
    for tcb in tcbs:
        host.stack.send(tcb, bytes(400_000), host.now)
    host.stack.flush(host.now, lambda parts, now: True)
    assert host.stack.next_deadline() == 0
    for _ in range(10):
        host.stack.flush(host.now, lambda parts, now: True)
    assert host.stack.next_deadline() != 0
    assert all(tcb.snd.nxt == tcb.send_buffer.end for tcb in tcbs)


# Views


def test_views_show_what_is_there() -> None:
    host = Host()
    low, high = host.listen(80), host.listen(90)
    assert host.stack.listeners() == [low, high]
    peer = Peer(host)
    tcb = peer.establish()
    assert host.stack.connections() == [tcb]
    assert host.stack.time_waits() == []
    host.close(tcb)
    peer.send("F.", 1, 2)
    assert host.stack.connections() == []
    assert len(host.stack.time_waits()) == 1
    assert host.stack.pending_timers() == 1


def test_a_connection_that_is_over_leaves_nothing_behind() -> None:
    host = Host()
    for port in range(40000, 40020):
        peer = Peer(host, port)
        tcb = peer.establish()
        host.send(tcb, b"x" * 100)
        peer.send("F.", 1, 101)
        host.close(tcb)
        peer.send(".", 2, 102)
        peer.heard()
    assert host.is_clean()


# Nothing can break it


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([b"", virtio.PLAIN]))
def test_octets_that_are_no_packet_for_us_are_counted_and_do_nothing(
    octets: bytes, before: bytes
) -> None:
    host = Host()
    host.listen()
    for index, start in enumerate((before, virtio.PLAIN + b"\x45", virtio.PLAIN + b"\x60"), 1):
        host.input(start + octets)
        assert host.stack.counters.total() == index
    assert host.is_clean()


def busy_host(version: int) -> tuple[Host, list[Peer]]:
    """A host with connections in many states; the peers' numbers next to go are 1 or 2."""
    host = Host(version, TcpConfig(receive_buffer=5000))
    host.listen(81)
    peers = [Peer(host, 40000 + i) for i in range(7)]
    tcbs = [peer.establish(sack=True, tsval=10, wscale=2) for peer in peers]
    host.send(tcbs[1], b"x" * 3000)
    host.shutdown(tcbs[2])
    host.shutdown(tcbs[3])
    peers[3].send(".", 1, 2)
    peers[4].send("F.", 1, 1)
    host.close(tcbs[5])
    peers[5].send("F.", 1, 2)
    host.shutdown(tcbs[6])
    peers[6].send("F.", 1, 1)
    half_open = Peer(host, 41000, 81)
    half_open.send("S", 0)
    opening = Peer(host, 41001, 5000)
    opening.connect()
    host.drain()
    return host, [*peers, half_open, opening]


SEGMENTS = st.lists(
    st.tuples(
        st.integers(0, 8),  # which peer
        st.integers(0, 0xFF),  # flags
        st.integers(-5, 30),  # SEQ
        st.sampled_from([-1, 0, 1, 2, 3, 1001, 3001, 3002, 70_000]),  # ACK
        st.binary(max_size=40),
        st.sampled_from([0, 1, 100, 65535]),  # window
        st.binary(max_size=40),  # options, as they come
        st.integers(0, 300_000),  # µs until the next one
    ),
    max_size=25,
)


@pytest.mark.parametrize("version", [4, 6])
@settings(derandomize=True, max_examples=100, deadline=None)
@given(segments=SEGMENTS)
def test_no_segments_break_the_stack(
    version: int,
    segments: list[tuple[int, int, int, int, bytes, int, bytes, int]],
) -> None:
    host, peers = busy_host(version)
    for which, flags, seq, ack, payload, win, options, us in segments:
        peer = peers[which]
        letters = "".join(
            letter
            for letter, bit in zip("FSRP.UEW", (1, 2, 4, 8, 16, 32, 64, 128), strict=True)
            if flags & bit
        )
        ack = max(ack, 0) if "." in letters else 0
        peer.put(letters, seq, ack, payload, win=win, options=options)
        host.turn()
        host.advance(us)
        host.drain()
    for tcb in host.stack.connections():
        assert tcb.receive_buffer.held <= 2 * tcb.receive_buffer.limit
        assert tcb.rcv.adv >= tcb.rcv.nxt
        assert tcb.snd.una <= tcb.snd.nxt <= tcb.snd.max
        assert tcb.scoreboard.in_flight == tcb.snd.nxt - tcb.snd.una or tcb.state < ESTABLISHED
    # All of it comes to an end
    for subject in [*host.stack.connections()]:
        host.abort(subject)
    for listener in host.stack.listeners():
        host.stack.close_listener(listener, host.now)
    host.turn()
    host.advance(200 * SECOND)
    host.drain()
    assert host.is_clean()
    assert isinstance(host.events, list)
    assert all(isinstance(subject, Tcb | Listener) for subject, _ in host.events)


def test_flags_of_the_helper_are_those_of_the_wire() -> None:
    assert Peer(Host()).frame("FSRP.UEW", 0, 0)[10 + 33] == 0xFF
    assert wire_tcp.flags_text(0xFF) == "FSRP.UEW"


@pytest.mark.parametrize(
    "wrong",
    [{"ttl": 0}, {"dscp": 64}, {"delayed_ack_us": 500_000}, {"sws_override_us": 1}, {"mss": 0}],
)
def test_a_configuration_that_breaks_an_rfc_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TcpConfig(**wrong)  # type: ignore[arg-type]


def test_an_unknown_congestion_control_is_refused_at_once() -> None:
    host = Host()
    config = TcpConfig(congestion="warp")
    with pytest.raises(UsageError, match="warp"):
        host.stack.listen(81, host.now, config=config)
    with pytest.raises(UsageError, match="warp"):
        host.stack.connect("10.0.0.9", 80, host.now, config=config)
    with pytest.raises(UsageError, match="warp"):
        Stack(StackConfig(tcp=config), secret=SECRET, randrange=Random(1).randrange)


def test_a_full_device_stops_no_clock() -> None:
    # The wheel holds the first RTO; by then an ACK has moved the true one, and the device is full
    host = Host(4, TcpConfig(tail_loss_probe=False))
    peer = Peer(host)
    tcb = peer.establish(rtt=50 * MS)
    host.send(tcb, b"x" * 2000)
    host.advance(50 * MS)
    peer.send(".", 1, 1001)
    peer.heard()
    host.room = 0
    Peer(host, 40_000).put("S", 0)  # the reset that answers it fills the queue
    host.advance(2 * SECOND)
    assert tcb.recovery.timeouts > 0
    assert peer.heard() == []
