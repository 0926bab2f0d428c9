"""Series from a trace of `ustack.stack.trace`, or of `tools/compare-goodput record`."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.plotting.series import Mark, SentSegment, Series
from ustack.errors import MalformedFile

METRICS = {
    "congestion_window": "cwnd",
    "ssthresh": "ssthresh",
    "bytes_in_flight": "in_flight",
    "send_window": "window",
    "latest_rtt": "rtt",
    "smoothed_rtt": "srtt",
    "retransmission_timeout": "rto",
}


def read_trace(path: Path) -> list[Series]:
    """The connections of the file, in the order in which they began. Raises MalformedFile."""
    with path.open(encoding="utf-8") as file:
        return series_of(_objects(file, path))


def series_of(events: Iterable[dict[str, Any]]) -> list[Series]:
    """The connections among `events`; the header line is passed over."""
    readers: dict[str, _Reader] = {}
    for event in events:
        if "group_id" in event:
            name = event["group_id"]
            if name not in readers:
                readers[name] = _Reader(name, event["time"])
            readers[name].take(event["time"], event["name"], event["data"])
    return [reader.series for reader in readers.values()]


def _objects(file: Iterable[str], path: Path) -> Iterable[dict[str, Any]]:
    for number, line in enumerate(file, start=1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise MalformedFile(f"{path}: line {number} is not JSON") from error
        if not isinstance(value, dict):
            raise MalformedFile(f"{path}: line {number} is not an event")
        yield value


class _Reader:
    """One connection, event by event."""

    def __init__(self, name: str, began_at: float) -> None:
        self.series = Series(name)
        self._began_at = began_at
        self._sent_up_to = 0
        self._edge = 0

    def take(self, time: float, name: str, data: dict[str, Any]) -> None:
        at = (time - self._began_at) / 1000
        series = self.series
        if name == "tcp:segment_sent":
            self._sent(at, data)
        elif name == "tcp:segment_received":
            self._received(at, data)
        elif name == "recovery:metrics_updated":
            for metric, attribute in METRICS.items():
                if metric in data:
                    getattr(series, attribute).append((at, data[metric]))
        elif name == "recovery:segment_lost":
            series.losses.append(Mark(at, data["seq"], data["seq"] + data["length"]))
        elif name == "recovery:congestion_state_updated":
            series.states.append((at, data["new"]))
        elif name == "recovery:timer_updated" and data["timer_type"] == "retransmission_timeout":
            series.timeouts.append(at)

    def _sent(self, at: float, data: dict[str, Any]) -> None:
        start, end = data["seq"], data["seq"] + data["length"]
        if end > start:
            again = start < self._sent_up_to
            self.series.sent.append(SentSegment(at, start, end, again))
            self._sent_up_to = max(self._sent_up_to, end)

    def _received(self, at: float, data: dict[str, Any]) -> None:
        if "ack" not in data:
            return
        self.series.acks.append((at, data["ack"]))
        self._edge = max(self._edge, data["ack"] + data["window"])
        self.series.edges.append((at, self._edge))
        for left, right in data.get("sack", ()):
            if left >= data["ack"]:  # else it says what came twice (RFC 2883)
                self.series.sacks.append(Mark(at, left, right))
