"""The one client of all network figures: plain kernel sockets, the same calls whoever serves.

Run as a program in the namespace of the kernel's side; prints one JSON object. Everything per
byte happens in C (`sendall` of 1 MiB, `recv_into` one large buffer), so that the client is not
what is measured.
"""

import json
import os
import selectors
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import click

from tools.benchmarks.services import COUNT, Port

CHUNK = 1 << 20
RECEIVE_BUFFER = 4 << 20
AT_ONCE = 16

Result: TypeAlias = dict[str, float]


def connect(host: str, port: int) -> socket.socket:
    """A blocking connection: with a timeout Python would poll before each call."""
    connection = socket.socket()
    connection.connect((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def bulk_in(host: str, seconds: float) -> Result:
    """Bytes per second that the server's application received, as it counted them itself."""
    payload = bytes(CHUNK)
    with connect(host, Port.SINK) as connection:
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            connection.sendall(payload)
        connection.shutdown(socket.SHUT_WR)
        (received,) = COUNT.unpack(_read_exactly(connection, COUNT.size))
        return {"bytes_per_second": received / (time.perf_counter() - start)}


def bulk_out(host: str, seconds: float) -> Result:
    """Bytes per second from the server; afterwards both sides close in order."""
    buffer = bytearray(RECEIVE_BUFFER)
    received = 0
    with connect(host, Port.SOURCE) as connection:
        start = time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            count = connection.recv_into(buffer)
            if not count:
                raise ConnectionError("the source ended before its time")
            received += count
        connection.shutdown(socket.SHUT_WR)
        while connection.recv_into(buffer):
            pass
    return {"bytes_per_second": received / elapsed}


def ping_pong(host: str, seconds: float) -> Result:
    """Round-trip times of one byte, in µs; the first tenth warms up and is left out."""
    clock = time.perf_counter_ns
    samples: list[int] = []
    with connect(host, Port.ECHO) as connection:
        end = clock() + int(seconds * 1e9)
        while (start := clock()) < end:
            connection.sendall(b"x")
            if not connection.recv(1):
                raise ConnectionError("the echo closed")
            samples.append(clock() - start)
    samples = samples[len(samples) // 10 :]
    percentiles = statistics.quantiles(samples, n=100)
    return {"p50_us": percentiles[49] / 1e3, "p99_us": percentiles[98] / 1e3}


def connects(host: str, seconds: float) -> Result:
    """Connect, one byte echoed, closed by the client and then by the server: one at a time."""
    count = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        with connect(host, Port.CONNECT) as connection:
            connection.sendall(b"x")
            if connection.recv(1) != b"x":
                raise ConnectionError("the echo is wrong")
            connection.shutdown(socket.SHUT_WR)
            if connection.recv(1):
                raise ConnectionError("more than one byte came back")
        count += 1
    return {"per_second": count / elapsed}


@dataclass(slots=True)
class _Visit:
    """One of the connections at once: first waits to be connected, then for echo and EOF."""

    connection: socket.socket
    greeted: bool = False


def connects_at_once(host: str, seconds: float) -> Result:
    """The same life, `AT_ONCE` of them in flight all the time from one event loop."""
    selector = selectors.EpollSelector()

    def begin() -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect_ex((host, Port.CONNECT))
        selector.register(connection, selectors.EVENT_WRITE, _Visit(connection))

    def advance(visit: _Visit) -> bool:
        """One step of a visit; True when its connection is closed."""
        connection = visit.connection
        if not visit.greeted:
            visit.greeted = True
            connection.send(b"x")
            connection.shutdown(socket.SHUT_WR)
            selector.modify(connection, selectors.EVENT_READ, visit)
            return False
        if connection.recv(16):
            return False
        selector.unregister(connection)
        connection.close()
        return True

    count = 0
    for _ in range(AT_ONCE):
        begin()
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for key, _ in selector.select():
            if advance(key.data):
                count += 1
                begin()
    for key in list(selector.get_map().values()):
        key.data.connection.close()
    selector.close()
    return {"per_second": count / elapsed}


def hold_idle(host: str, count: int) -> None:
    """Opens `count` connections, uses each once, says so, and holds them until stdin ends."""
    connections = [connect(host, Port.ECHO) for _ in range(count)]
    for connection in connections:
        connection.sendall(b"x")
    for connection in connections:
        connection.recv(1)
    print(json.dumps({"held": len(connections)}), flush=True)
    os.read(0, 1)
    for connection in connections:
        connection.close()


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("closed before the count came")
        data += more
    return data


MEASUREMENTS: dict[str, Callable[[str, float], Result]] = {
    "bulk-in": bulk_in,
    "bulk-out": bulk_out,
    "ping-pong": ping_pong,
    "connects": connects,
    "connects-at-once": connects_at_once,
}


@click.command()
@click.argument("measurement", type=click.Choice([*MEASUREMENTS, "hold-idle"]))
@click.argument("host")
@click.argument("amount", type=float)
@click.option("--cpu", type=int, help="Stay on this CPU.")
def main(measurement: str, host: str, amount: float, cpu: int | None) -> None:
    """Takes MEASUREMENT against HOST for AMOUNT seconds (hold-idle: AMOUNT connections)."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    if measurement == "hold-idle":
        hold_idle(host, int(amount))
    else:
        print(json.dumps(MEASUREMENTS[measurement](host, amount)))


if __name__ == "__main__":
    main()
