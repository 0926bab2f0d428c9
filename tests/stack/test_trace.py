"""The tracer: each thing that happens to a connection is an event, with what it changed."""

from typing import Any

import pytest

from tests.stack.host import MS, MSS, SECOND, Host, Peer, both_versions
from ustack.config import TcpConfig
from ustack.stack import trace
from ustack.stack.trace import Event, EventTracer


def traced(**options: Any) -> tuple[Host, Peer, list[Event], EventTracer]:
    events: list[Event] = []
    tracer = EventTracer(events.append)
    host = Host(options.pop("version", 4), tracer=tracer, **options)
    return host, Peer(host), events, tracer


def named(events: list[Event], name: str) -> list[dict[str, Any]]:
    """The data of the events called `name`."""
    return [event["data"] for event in events if event["name"] == name]


def updates(events: list[Event], metric: str) -> list[float]:
    found = named(events, "recovery:metrics_updated")
    return [data[metric] for data in found if metric in data]


@both_versions
def test_a_connection_from_its_beginning_to_its_end(version: int) -> None:
    host, peer, events, tracer = traced(version=version)
    tcb = peer.establish()
    peer.send("P.", 1, 1, b"hello")
    host.read(tcb)
    peer.send("F.", 6, 1)
    host.close(tcb)
    peer.send(".", 7, 2)
    tracer.settle()
    assert named(events, "tcp:connection_started")[0]["passive"] is True
    states = [(data["old"], data["new"]) for data in named(events, "tcp:connection_state_updated")]
    assert states[-3:] == [
        ("established", "close_wait"),
        ("close_wait", "last_ack"),
        ("last_ack", "closed"),
    ]
    assert named(events, "tcp:connection_closed") == [{"error": None}]
    received = [(one["seq"], one["length"]) for one in named(events, "tcp:segment_received")]
    assert received[-3:] == [(1, 5), (6, 1), (7, 0)]
    assert len({event["group_id"] for event in events}) == 1


def test_events_are_in_order_of_time_and_count_ms() -> None:
    host, peer, events, tracer = traced()
    tcb = peer.establish(rtt=20 * MS)
    began = host.now
    host.send(tcb, bytes(5 * MSS))
    host.advance(10 * MS)
    peer.send(".", 1, 1 + 5 * MSS)
    tracer.settle()
    times = [event["time"] for event in events]
    assert times == sorted(times)
    assert times[-1] == (began + 10 * MS) / 1000
    assert updates(events, "latest_rtt")[-1] == 10
    assert updates(events, "min_rtt")[-1] == 10


def test_a_loss_its_repair_and_the_end_of_the_recovery() -> None:
    host, peer, events, tracer = traced()
    tcb = peer.establish(sack=True, rtt=20 * MS)
    host.send(tcb, bytes(10 * MSS))
    host.advance(20 * MS)
    del events[:]
    peer.send(".", 1, 1, sack=[(1 + MSS, 1 + 4 * MSS)])
    host.advance(20 * MS)
    peer.send(".", 1, 1 + 10 * MSS)
    tracer.settle()
    assert named(events, "tcp:segment_received")[0]["sack"] == [[1 + MSS, 1 + 4 * MSS]]
    lost = named(events, "recovery:segment_lost")
    assert lost == [{"seq": 1, "length": MSS, "trigger": "segment_received"}]
    resent = [one for one in named(events, "tcp:segment_sent") if "trigger" in one]
    assert [(one["seq"], one["trigger"]) for one in resent] == [(1, "fast_retransmit")]
    states = [one["new"] for one in named(events, "recovery:congestion_state_updated")]
    assert states == ["recovery", "congestion_avoidance"]
    assert updates(events, "sacked") == [3 * MSS, 0]
    assert updates(events, "bytes_in_flight")[-1] == 0
    assert len(updates(events, "ssthresh")) == 1


def test_a_range_is_lost_once_however_it_is_sent_again() -> None:
    host, peer, events, _ = traced()
    tcb = peer.establish(rtt=20 * MS)
    host.send(tcb, bytes(10 * MSS))
    host.advance(3 * SECOND)  # time-outs: one segment at a time goes out again
    lost = named(events, "recovery:segment_lost")
    assert (lost[0]["seq"], lost[0]["length"]) == (1, 10 * MSS)
    assert {(one["seq"], one["length"]) for one in lost[1:]} <= {(1, MSS)}
    states = [one["new"] for one in named(events, "recovery:congestion_state_updated")]
    assert states[-1] == "loss"


@pytest.mark.parametrize(
    "sack, timer", [(True, "tail_loss_probe"), (False, "retransmission_timeout")]
)
def test_a_timer_that_expires_is_an_event_before_what_it_causes(sack: bool, timer: str) -> None:
    host, peer, events, _ = traced()
    tcb = peer.establish(sack=sack, rtt=20 * MS)
    host.send(tcb, bytes(2 * MSS))
    del events[:]
    host.advance(230 * MS)
    expired = [event for event in events if event["name"] == "recovery:timer_updated"]
    assert expired[0]["data"] == {"event_type": "expired", "timer_type": timer}
    sent = [event for event in events if event["name"] == "tcp:segment_sent"]
    assert events.index(expired[0]) < events.index(sent[0])
    assert sent[0]["time"] == expired[0]["time"]
    assert "trigger" in sent[0]["data"]


def test_what_is_not_new_is_not_said_again() -> None:
    host, peer, events, _ = traced()
    tcb = peer.establish()
    del events[:]
    for number in range(3):
        peer.send("P.", 1 + 5 * number, 1, b"hello")
        host.read(tcb)
    for one in named(events, "recovery:metrics_updated"):
        assert "congestion_window" not in one
        assert "smoothed_rtt" not in one


def test_our_sack_blocks_count_from_the_peers_isn() -> None:
    _, peer, events, _ = traced()
    peer.establish(sack=True)
    peer.send(".", 1 + MSS, 1, bytes(MSS))
    assert named(events, "tcp:segment_sent")[-1]["sack"] == [[1 + MSS, 1 + 2 * MSS]]


def test_a_reset_connection_says_why_it_is_closed() -> None:
    _, peer, events, tracer = traced()
    peer.establish()
    peer.send("R", 1)
    tracer.settle()
    (closed,) = named(events, "tcp:connection_closed")
    assert "reset" in closed["error"]


def test_the_table_of_connections_has_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MAX_CONNECTIONS", 2)
    host, _, events, tracer = traced()
    for port in range(40_000, 40_003):
        Peer(host, port).establish()
    assert tracer.forgotten == 1
    assert len(named(events, "tcp:connection_started")) == 3


@pytest.mark.parametrize("config", [TcpConfig(), TcpConfig(sack=False, timestamps=False)])
def test_a_traced_connection_sends_what_an_untraced_one_does(config: TcpConfig) -> None:
    def play(tracer: EventTracer | None) -> list[str]:
        host = Host(tcp=config, tracer=tracer)
        peer = Peer(host)
        tcb = peer.establish(sack=True, tsval=1, rtt=20 * MS)
        host.send(tcb, bytes(8 * MSS))
        host.advance(20 * MS)
        peer.send(".", 1, 1 + MSS, sack=[(1 + 2 * MSS, 1 + 5 * MSS)])
        peer.send("P.", 1, 1 + MSS, b"x" * 10)
        host.advance(SECOND)
        return [f"{reply.at} {reply}" for reply in peer.replies()]

    assert play(EventTracer(lambda event: None)) == play(None)


@pytest.mark.parametrize(
    "spans, others, rest",
    [
        ([(0, 10)], [], [(0, 10)]),
        ([(0, 10)], [(0, 10)], []),
        ([(0, 10)], [(3, 5)], [(0, 3), (5, 10)]),
        ([(0, 10), (20, 30)], [(5, 25)], [(0, 5), (25, 30)]),
        ([(0, 10)], [(0, 2), (4, 6), (9, 12)], [(2, 4), (6, 9)]),
    ],
)
def test_spans_without_others(
    spans: list[tuple[int, int]], others: list[tuple[int, int]], rest: list[tuple[int, int]]
) -> None:
    assert trace.without(spans, others) == rest
