"""What both servers of the benchmarks offer, so that the client cannot tell them apart."""

import struct
from enum import IntEnum

COUNT = struct.Struct("!Q")  # the sink's answer to EOF: how many bytes it received


class Port(IntEnum):
    """ECHO: returns what comes. SINK: counts, answers EOF with `COUNT`. SOURCE: sends until EOF.
    CONNECT: an echo served for many short connections (the kernel's server uses epoll there)."""

    ECHO = 7
    SINK = 9
    CONNECT = 17
    SOURCE = 19


CHUNK = bytes(1 << 20)
READY = "ready"  # a server prints this line when every port listens
