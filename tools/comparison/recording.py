"""What one transfer did at its sender, as a trace for `tools/plot-trace`, whoever the sender is.

Segments are taken where they leave the near host and where ACKs come back to it; of the kernel's
congestion control TCP_INFO tells, which is asked for every few ms; ustack's own tracer tells ours.
"""

import asyncio
import json
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from ustack.ladder.packets import TcpPacket, tcp_packets
from ustack.pcapng import LINK_RAW, Record
from ustack.runtime.driver import monotonic_us
from ustack.tcp.seq import unwrap
from ustack.wire.tcp import ACK, SYN, flags_text
from ustack.wire.virtio import HEADER_LEN

SAMPLE_S = 0.005  # how often TCP_INFO is read
# struct tcp_info (linux/tcp.h): eight bytes of flags, 24 numbers of 32 bits, ...
_INFO = struct.Struct("=8x24I")
_RTO, _SND_MSS, _UNACKED, _SACKED, _LOST, _RETRANS = 0, 2, 4, 5, 6, 7
_RTT, _RTTVAR, _SSTHRESH, _CWND = 15, 16, 17, 18
_INFINITE_SSTHRESH = 0x7FFF_FFFF
_CA_STATES = ("", "disorder", "cwr", "recovery", "loss")


class Recording:
    """One transfer's trace, written when it is over. `info` is the kernel's sending socket."""

    def __init__(self, name: str) -> None:
        self.info: socket.socket | None = None
        self._name = name
        self._events: list[dict[str, Any]] = []
        self._isns: dict[bool, int] = {}  # by direction, outward or not
        self._up_to: dict[bool, int] = {}
        self._scales: dict[bool, int] = {}
        self._metrics: dict[str, float] = {}
        self._state = ""

    def take(self, frame: bytes, now: int, *, outward: bool) -> None:
        """A frame left the near host (`outward`), or came to it."""
        for packet in tcp_packets([Record(now * 1000, frame[HEADER_LEN:], LINK_RAW)]):
            self._segment(packet, now, outward)

    async def sample(self) -> None:
        """Reads TCP_INFO until it is cancelled."""
        while True:
            if self.info is not None:
                with suppress(OSError):
                    self._take_info(self.info)
            await asyncio.sleep(SAMPLE_S)

    def write(self, path: Path) -> None:
        """The trace, as JSON lines."""
        with path.open("w", encoding="utf-8") as file:
            for event in self._events:
                file.write(json.dumps(event, separators=(",", ":")) + "\n")

    def _segment(self, packet: TcpPacket, now: int, outward: bool) -> None:
        if packet.flags & SYN:
            self._isns[outward] = packet.seq
            self._scales[outward] = packet.options.wscale or 0
        data: dict[str, Any] = {
            "flags": flags_text(packet.flags),
            "seq": self._relative(packet.seq, outward),
            "length": packet.length,
            "window": packet.window << (0 if packet.flags & SYN else self._scales.get(outward, 0)),
        }
        if packet.flags & ACK:
            data["ack"] = self._relative(packet.ack, not outward)
        if packet.options.sack:
            data["sack"] = [
                [self._relative(edge, not outward) for edge in block]
                for block in packet.options.sack
            ]
        end = data["seq"] + packet.length
        self._up_to[outward] = max(self._up_to.get(outward, 0), end)
        self._emit(now, "tcp:segment_sent" if outward else "tcp:segment_received", data)

    def _relative(self, low32: int, outward: bool) -> int:
        isn = self._isns.get(outward, 0)
        return unwrap(low32, isn + self._up_to.get(outward, 0)) - isn

    def _take_info(self, info: socket.socket) -> None:
        now = monotonic_us()
        raw = info.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        numbers = _INFO.unpack(raw[: _INFO.size])
        mss = numbers[_SND_MSS]
        outstanding = numbers[_UNACKED] - numbers[_SACKED] - numbers[_LOST] + numbers[_RETRANS]
        metrics = {
            "congestion_window": numbers[_CWND] * mss,
            "bytes_in_flight": outstanding * mss,
            "smoothed_rtt": numbers[_RTT] / 1000,
            "rtt_variance": numbers[_RTTVAR] / 1000,
            "retransmission_timeout": numbers[_RTO] / 1000,
        }
        if numbers[_SSTHRESH] < _INFINITE_SSTHRESH:
            metrics["ssthresh"] = numbers[_SSTHRESH] * mss
        changed = {name: one for name, one in metrics.items() if self._metrics.get(name) != one}
        if changed:
            self._emit(now, "recovery:metrics_updated", changed)
            self._metrics = metrics
        state = _CA_STATES[raw[1]] if raw[1] < len(_CA_STATES) else str(raw[1])
        if state != self._state:
            data = {"old": self._state, "new": state}
            self._emit(now, "recovery:congestion_state_updated", data)
            self._state = state

    def _emit(self, now: int, name: str, data: dict[str, Any]) -> None:
        self._events.append(
            {"time": now / 1000, "name": name, "group_id": self._name, "data": data}
        )
