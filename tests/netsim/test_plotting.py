"""`tools/plot-trace`: what is read from captures and traces, and that it can be drawn."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.device.frames import KERNELS, OURS, tcp_frame
from tools.comparison.recording import Recording
from tools.plotting.__main__ import main
from tools.plotting.from_capture import read_capture
from tools.plotting.from_trace import read_trace
from tools.plotting.series import Mark
from ustack.device.capture import CaptureProbe
from ustack.errors import MalformedFile
from ustack.wire import tcp
from ustack.wire.tcp_options import encode_options

ISN, PEER_ISN = 0xFFFF_FFF0, 77  # positions wrap within the first segment
MSS = 1000
MS = 1000  # µs


def ours(seq: int, size: int = 0, flags: int = tcp.ACK, options: bytes = b"") -> bytes:
    """A segment of the sender; `seq` relative to its ISN."""
    return tcp_frame(
        b"x" * size, seq=(ISN + seq) & 0xFFFF_FFFF, ack=PEER_ISN + 1, flags=flags, options=options
    )


def theirs(ack: int, *sack: tuple[int, int], flags: int = tcp.ACK, options: bytes = b"") -> bytes:
    blocks = tuple(((ISN + a) & 0xFFFF_FFFF, (ISN + b) & 0xFFFF_FFFF) for a, b in sack)
    return tcp_frame(
        src=KERNELS[0],
        dst=OURS[0],
        src_port=40000,
        dst_port=80,
        seq=PEER_ISN + (0 if flags & tcp.SYN else 1),
        ack=(ISN + ack) & 0xFFFF_FFFF,
        flags=flags,
        options=options or encode_options(sack=blocks),
    )


# Four segments, the second is lost and sent again; round trips of 10 ms
CONVERSATION: list[tuple[int, bytes, bool]] = [
    (0, ours(0, flags=tcp.SYN, options=encode_options(mss=MSS, wscale=2)), True),
    (10, theirs(1, flags=tcp.SYN | tcp.ACK, options=encode_options(mss=MSS, wscale=3)), False),
    (10, ours(1), True),
    *((11, ours(1 + number * MSS, MSS), True) for number in range(4)),
    (21, theirs(1 + MSS), False),
    (22, theirs(1 + MSS, (1 + 2 * MSS, 1 + 4 * MSS)), False),
    (23, ours(1 + MSS, MSS), True),
    (33, theirs(1 + 4 * MSS), False),
]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "lossy.pcapng"
    probe = CaptureProbe(path, interface="test", now_to_epoch_ns=0)
    for at, frame, outward in CONVERSATION:
        if outward:
            probe.sent([frame], "", at * MS)
        else:
            probe.received(frame, "", at * MS)
    probe.close()
    return path


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "lossy.jsonl"
    recording = Recording("a kernel")
    for at, frame, outward in CONVERSATION:
        recording.take(frame, at * MS, outward=outward)
    recording.write(path)
    return path


def test_a_capture_and_a_recording_tell_the_same(capture: Path, trace: Path) -> None:
    (from_capture,) = read_capture(capture)
    (from_trace,) = read_trace(trace)
    for series in (from_capture, from_trace):
        starts = [1, 1 + MSS, 1 + 2 * MSS, 1 + 3 * MSS, 1 + MSS]
        assert [one.start for one in series.sent] == starts
        assert [one.again for one in series.sent] == [False] * 4 + [True]
        assert series.sent[-1].at == pytest.approx(0.023)
        assert series.sent[-1].end == 1 + 2 * MSS
        (sack,) = series.sacks
        assert sack.at == pytest.approx(0.022)
        assert (sack.start, sack.end) == (1 + 2 * MSS, 1 + 4 * MSS)
        assert [ack for _, ack in series.acks] == [1, 1 + MSS, 1 + MSS, 1 + 4 * MSS]
        assert series.edges[-1][1] == 1 + 4 * MSS + (65535 << 3)
        assert series.size == 4 * MSS
        assert series.resent == 1


def test_round_trips_and_the_flight_of_a_capture(capture: Path) -> None:
    (series,) = read_capture(capture)
    # Karn: no sample from what was sent twice, nor from what waited behind it for its ACK
    ((at, sample),) = series.rtt
    assert at == pytest.approx(0.021)
    assert sample == pytest.approx(10)
    sizes = [size for _, size in series.in_flight]
    assert sizes == [number * MSS for number in (0, 1, 2, 3, 4, 3, 3, 0)]


def test_the_metrics_of_a_trace(tmp_path: Path) -> None:
    def event(ms: float, name: str, **data: Any) -> str:
        return json.dumps({"time": 5000 + ms, "name": name, "group_id": "c", "data": data})

    path = tmp_path / "t.jsonl"
    path.write_text(
        "\n".join(
            [
                json.dumps({"file_schema": "urn:ietf:params:qlog:file:sequential"}),
                event(0, "tcp:connection_started"),
                event(1, "recovery:metrics_updated", congestion_window=100, smoothed_rtt=7.5),
                event(2, "recovery:segment_lost", seq=1, length=10),
                event(3, "recovery:congestion_state_updated", old="slow_start", new="recovery"),
                event(4, "recovery:timer_updated", timer_type="retransmission_timeout"),
                event(5, "recovery:timer_updated", timer_type="tail_loss_probe"),
            ]
        )
    )
    (series,) = read_trace(path)
    assert series.cwnd == [(0.001, 100)]
    assert series.srtt == [(0.001, 7.5)]
    assert series.losses == [Mark(0.002, 1, 11)]
    assert series.states == [(0.003, "recovery")]
    assert series.timeouts == [0.004]


@pytest.mark.parametrize(
    "text, fault", [("{", "line 1 is not JSON"), ("[]", "line 1 is not an event")]
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(MalformedFile, match=fault):
        read_trace(path)
    result = CliRunner().invoke(main, [str(path), "--list"])
    assert result.exit_code == 1
    assert fault in result.output


def test_the_connections_are_listed_with_their_size(capture: Path) -> None:
    result = CliRunner().invoke(main, [str(capture), "--list"])
    assert result.output == (
        f"{capture}: {OURS[0]}:80-{KERNELS[0]}:40000: 4000 bytes, 1 segments sent again\n"
    )


def test_files_are_drawn_beside_each_other(capture: Path, trace: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    target = tmp_path / "out.png"
    arguments = [str(capture), str(trace), "-o", str(target), "--until", "0.03"]
    result = CliRunner().invoke(main, arguments)
    assert result.output == f"{target}\n", result.exception
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_connection_that_is_not_there(capture: Path) -> None:
    result = CliRunner().invoke(main, [str(capture), "--connection", "192.0.2.1"])
    assert result.exit_code == 1
    assert "no such connection" in result.output
