"""The small services of `ustack serve`, as asyncio protocols: they run on any transport.

RFC 862 (echo), 863 (discard), 867 (daytime), 864 (character generator, without line pauses).
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from typing import cast

BACKLOG = 4096  # Linux's somaxconn: a crowd that comes at once gets no SYN cookies


class Port(IntEnum):
    """Where `ustack serve` listens."""

    ECHO = 7
    DISCARD = 9
    DAYTIME = 13
    SOURCE = 19
    HTTP = 80


PRINTABLE = bytes(range(0x20, 0x7F))  # RFC 864: the 95 printing characters
LINE_LEN = 72  # characters, and CR LF


def _pattern(size: int) -> bytes:
    """RFC 864's lines, each starting one character later, repeated up to `size` bytes."""
    ring = PRINTABLE * 2
    lines = b"".join(ring[i : i + LINE_LEN] + b"\r\n" for i in range(len(PRINTABLE)))
    return lines * (size // len(lines))


SOURCE_CHUNK = _pattern(256 * 1024)  # whole cycles of the pattern: chunks join without a seam


class Service(asyncio.Protocol):
    """Keeps its transport."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)


class Echo(Service):
    """What cannot be sent back yet is not read either."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Discard(Service):
    """`asyncio.Protocol` already ignores what comes, and closes at EOF."""


class Daytime(Service):
    """One line, then the close."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        now = datetime.now(UTC)
        self.transport.write(now.strftime("%A, %B %d, %Y %H:%M:%S-UTC\r\n").encode("ascii"))
        self.transport.close()


class Source(Service):
    """Sends as fast as the peer takes, until the peer's EOF."""

    def __init__(self) -> None:
        super().__init__()
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._fill()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._fill()

    def _fill(self) -> None:
        transport = self.transport
        while not self._paused and not transport.is_closing():
            transport.write(SOURCE_CHUNK)


SERVICES: dict[Port, Callable[[], Service]] = {
    Port.ECHO: Echo,
    Port.DISCARD: Discard,
    Port.DAYTIME: Daytime,
    Port.SOURCE: Source,
}
