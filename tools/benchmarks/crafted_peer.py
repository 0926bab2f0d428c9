"""The remote side of the in-process benchmarks: frames built by hand, and no TCP behind them.

A second stack would cost as much time and memory as the one that is measured. This peer only
knows the frames of an orderly life: handshake, data in order, acknowledgment, FIN.
"""

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ustack.config import StackConfig, TcpConfig
from ustack.stack.listener import Listener
from ustack.stack.stack import Stack
from ustack.tcp.tcb import Tcb
from ustack.wire import Buffer

STACK_ADDRESS = "10.0.0.2"
PORT = 7
FIN, SYN, PSH, ACK = 0x01, 0x02, 0x08, 0x10
MSS = 1448  # 1500 - 20 IPv4 - 20 TCP - 12 timestamps
ISS = 0xFFFF_FF00  # wraps early, as real ones do some time
WINDOW = 0xFFFF  # scaled by 2^10
BATCH = 64  # frames per turn, as the driver reads them

_VIRTIO = struct.Struct("<BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_TCP = struct.Struct("!HHIIBBHHH")
_SYN_OPTIONS = struct.Struct("!BBH BB BBII B BBB")  # MSS, SACK permitted, timestamps, NOP, scale
_TIMESTAMPS = struct.Struct("!BBBBII")
_BLOCK = struct.Struct("!II")
_NEEDS_CSUM, _TCPV4 = 1, 1  # virtio flags and gso_type


@dataclass(slots=True)
class Remote:
    """One crafted connection: where its next segment begins and what it acknowledges."""

    address: bytes
    port: int
    seq: int = ISS
    ack: int = 0
    tsval: int = 1000
    tsecr: int = 0

    def syn(self) -> bytes:
        options = _SYN_OPTIONS.pack(
            *(2, 4, MSS + 12), *(4, 2), *(8, 10, self.tsval, 0), 1, *(3, 3, 10)
        )
        frame = self._frame(SYN, options, b"")
        self.seq += 1
        return frame

    def segment(
        self, flags: int = ACK, payload: bytes = b"", sack: Sequence[tuple[int, int]] = ()
    ) -> bytes:
        options = _TIMESTAMPS.pack(1, 1, 8, 10, self.tsval, self.tsecr)
        if sack:
            options += bytes((1, 1, 5, 2 + 8 * len(sack)))
            for left, right in sack:
                options += _BLOCK.pack(left & 0xFFFF_FFFF, right & 0xFFFF_FFFF)
        frame = self._frame(flags | ACK, options, payload)
        self.seq += len(payload) + (flags & FIN)
        return frame

    def heard(self, header: bytes, payload_length: int) -> None:
        """Takes over what a segment from the stack acknowledges, covers and stamps."""
        tcp = _VIRTIO.size + _IPV4.size
        seq, flags, offset = _seq_flags_offset(header)
        consumed = payload_length + (1 if flags & (SYN | FIN) else 0)
        self.ack = (seq + consumed) & 0xFFFF_FFFF
        stamped = _find_tsval(header[tcp + _TCP.size : tcp + offset])
        self.tsecr = self.tsecr if stamped is None else stamped

    def _frame(self, flags: int, options: bytes, payload: bytes) -> bytes:
        header_length = _IPV4.size + _TCP.size + len(options)
        total = header_length + len(payload)
        super_segment = len(payload) > MSS
        ip = _IPV4.pack(0x45, 0, total, 0, 0x4000, 64, 6, 0, self.address, _STACK_BYTES)
        checksum = 0xFFFF - int.from_bytes(ip) % 0xFFFF  # RFC 1071, as a remainder
        return b"".join(
            (
                _VIRTIO.pack(
                    _NEEDS_CSUM,
                    _TCPV4 if super_segment else 0,
                    header_length,
                    MSS if super_segment else 0,
                    _IPV4.size,
                    16,
                ),
                ip[:10] + checksum.to_bytes(2) + ip[12:],
                _TCP.pack(
                    self.port,
                    PORT,
                    self.seq & 0xFFFF_FFFF,
                    self.ack,
                    (_TCP.size + len(options)) // 4 << 4,
                    flags,
                    WINDOW,
                    0,
                    0,
                ),
                options,
                payload,
            )
        )


_STACK_BYTES = bytes(map(int, STACK_ADDRESS.split(".")))


def remotes(count: int, first: int = 0) -> list[Remote]:
    """`count` connections' remote ends, each at its own address and port, from number `first`."""
    return [
        Remote(bytes((10, 1, number >> 8 & 0xFF, number & 0xFF)), 1024 + (number >> 16))
        for number in range(first, first + count)
    ]


class CraftedPeer:
    """A stack with one listener, and every host it talks to."""

    def __init__(self, config: StackConfig) -> None:
        self.stack = Stack(config, secret=bytes(16), randrange=random.Random(1).randrange)
        self.now = 0
        self.listener: Listener = self.stack.listen(PORT, self.now, backlog=4 * BATCH)
        self._sent: list[tuple[bytes, int]] = []

    @classmethod
    def with_offload(cls, buffer: int | None = None) -> "CraftedPeer":
        """`buffer`: bytes of the send and receive buffers, None: they follow the traffic."""
        return cls(
            StackConfig(
                addresses=(f"{STACK_ADDRESS}/8",),
                gso_max=65535,
                checksum_offload=True,
                max_time_waits=1 << 20,
                tcp=TcpConfig(receive_buffer=buffer, send_buffer=buffer),
            )
        )

    @classmethod
    def without_offload(cls) -> "CraftedPeer":
        return cls(StackConfig(addresses=(f"{STACK_ADDRESS}/8",)))

    def turn(self) -> list[tuple[bytes, int]]:
        """Everything that the stack sends now, as (headers, payload length), events dropped."""
        self._sent = []
        self.stack.flush(self.now, self._write)
        self.stack.take_events()
        return self._sent

    def open(self, ends: Sequence[Remote]) -> list[Tcb]:
        """Handshakes in batches; the accepted connections, in the order of `ends`."""
        accepted: list[Tcb] = []
        for start in range(0, len(ends), BATCH):
            batch = ends[start : start + BATCH]
            for remote in batch:
                self.stack.input(remote.syn(), self.now)
            self.hear(batch)
            for remote in batch:
                self.stack.input(remote.segment(), self.now)
            self.turn()
            while (tcb := self.stack.accept(self.listener)) is not None:
                accepted.append(tcb)
        if len(accepted) != len(ends):
            raise RuntimeError(f"{len(accepted)} of {len(ends)} connections: {self.stack.counters}")
        return accepted

    def hear(self, ends: Sequence[Remote]) -> int:
        """One turn whose segments reach their `ends`; how many there were."""
        return self.deliver(self.turn(), ends)

    def deliver(self, sent: Sequence[tuple[bytes, int]], ends: Sequence[Remote]) -> int:
        by_name = {(remote.address, remote.port): remote for remote in ends}
        for header, payload_length in sent:
            by_name[_destination(header)].heard(header, payload_length)
        return len(sent)

    def close_actively(self, ends: Sequence[Remote], tcbs: Sequence[Tcb]) -> None:
        """The stack's user closes first, so the stack keeps the TIME_WAITs."""
        for start in range(0, len(ends), BATCH):
            batch = ends[start : start + BATCH]
            for tcb in tcbs[start : start + BATCH]:
                self.stack.close(tcb, self.now)
            self.hear(batch)
            for remote in batch:
                self.stack.input(remote.segment(FIN), self.now)
            self.turn()

    def _write(self, parts: Sequence[Buffer], now: int) -> bool:
        self._sent.append((bytes(parts[0]), sum(map(len, parts[1:]))))
        return True


def _destination(header: bytes) -> tuple[bytes, int]:
    return header[26:30], int.from_bytes(header[32:34])


def _seq_flags_offset(header: bytes) -> tuple[int, int, int]:
    _, _, seq, _, offset, flags, _, _, _ = _TCP.unpack_from(header, _VIRTIO.size + _IPV4.size)
    return seq, flags, offset >> 4 << 2


def _find_tsval(options: bytes) -> int | None:
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        if options[at] == 8:
            return int.from_bytes(options[at + 2 : at + 6])
        at += options[at + 1]
    return None
