"""The trace file: qlog's header, one JSON object per line, and a disk that is full."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.test_streams import echo
from tests.runtime.virtual import FAR, in_virtual_time, two_networks
from ustack.runtime.trace import TraceFile


class FullDisk(io.StringIO):
    """Takes the header and two events."""

    lines = 3

    def write(self, text: str) -> int:
        if not self.lines:
            raise OSError(28, "No space left on device")
        self.lines -= 1
        return super().write(text)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def test_both_directions_of_a_conversation_are_in_the_file(path: Path) -> None:
    @in_virtual_time
    async def converse() -> None:
        trace = TraceFile(path, title="a test")
        async with two_networks(near={"tracer": trace}) as (near, far):
            await far.start_server(echo, port=7)
            reader, writer = await near.open_connection(FAR, 7)
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()
        trace.close()
        assert trace.written == len(lines(path)) - 1
        assert not trace.missed

    converse()
    header, *events = lines(path)
    assert header["file_schema"].startswith("urn:ietf:params:qlog:file:")
    assert header["title"] == "a test"
    assert events[0]["name"] == "tcp:connection_started"
    assert all({"time", "name", "group_id", "data"} == set(event) for event in events)
    names = {event["name"] for event in events}
    assert {"tcp:segment_sent", "tcp:segment_received", "recovery:metrics_updated"} <= names
    sent = [event["data"] for event in events if event["name"] == "tcp:segment_sent"]
    assert sum(one["length"] for one in sent) == len(b"hello")


def test_a_full_disk_ends_the_trace_and_nothing_else() -> None:
    file = FullDisk()
    trace = TraceFile(file)

    @in_virtual_time
    async def converse() -> None:
        async with two_networks(near={"tracer": trace}) as (near, far):
            await far.start_server(echo, port=7)
            reader, writer = await near.open_connection(FAR, 7)
            writer.write(b"hello")
            writer.write_eof()
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()

    converse()
    trace.close()
    assert trace.error is not None
    assert trace.written == 2
    assert trace.missed > 2
    assert len(file.getvalue().splitlines()) == 3


def test_a_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        TraceFile(tmp_path / "missing" / "trace.jsonl")
