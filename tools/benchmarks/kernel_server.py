"""The services on kernel sockets: what ustack is compared with.

Bulk and ping-pong are served by blocking threads (the kernel at its best: one system call per
step), many short connections by one epoll loop. Ends when its stdin ends.
"""

import os
import selectors
import socket
import threading
from collections.abc import Callable

import click

from tools.benchmarks.services import CHUNK, COUNT, READY, Port

BACKLOG = 1024


def echo(connection: socket.socket) -> None:
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def sink(connection: socket.socket) -> None:
    buffer = bytearray(4 << 20)
    received = 0
    while count := connection.recv_into(buffer):
        received += count
    connection.sendall(COUNT.pack(received))


def source(connection: socket.socket) -> None:
    """Sends until the peer's EOF; one recv per MiB costs nothing that can be seen."""
    while True:
        connection.sendall(CHUNK)
        try:
            if not connection.recv(1, socket.MSG_DONTWAIT):
                return
        except BlockingIOError:
            pass


def serve_with_threads(port: int, service: Callable[[socket.socket], None]) -> None:
    listener = socket.create_server(("", port), backlog=BACKLOG)

    def serve_one(connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            service(connection)

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def serve_with_epoll(port: int) -> None:
    """Echo for many short connections in one loop."""
    listener = socket.create_server(("", port), backlog=BACKLOG)
    listener.setblocking(False)
    selector = selectors.EpollSelector()
    selector.register(listener, selectors.EVENT_READ)

    def accept() -> None:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, connection)

    def answer(connection: socket.socket) -> None:
        try:
            data = connection.recv(1 << 16)
            if data:
                connection.sendall(data)
                return
        except ConnectionError:
            pass
        selector.unregister(connection)
        connection.close()

    def loop() -> None:
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    accept()
                else:
                    answer(key.data)

    threading.Thread(target=loop, daemon=True).start()


@click.command()
@click.option("--cpu", type=int, help="Stay on this CPU.")
def main(cpu: int | None) -> None:
    """Serves until stdin ends."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    serve_with_threads(Port.ECHO, echo)
    serve_with_threads(Port.SINK, sink)
    serve_with_threads(Port.SOURCE, source)
    serve_with_epoll(Port.CONNECT)
    print(READY, flush=True)
    os.read(0, 1)


if __name__ == "__main__":
    main()
