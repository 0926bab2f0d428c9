"""The services on ustack, through `asyncio.Protocol`: what is measured.

Ends when its stdin ends.
"""

import asyncio
import os
import sys

import click

from tools.benchmarks.servers import USTACK_SERVER
from tools.benchmarks.services import CHUNK, COUNT, READY, Port
from ustack.runtime.tun import tun


class Service(asyncio.Protocol):
    """A protocol that knows its transport, and closes it at EOF."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport


class Echo(Service):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Sink(Service):
    received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def eof_received(self) -> None:
        self.transport.write(COUNT.pack(self.received))


class Source(Service):
    """Writes whenever the transport takes more."""

    writing = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.resume_writing()

    def pause_writing(self) -> None:
        self.writing = False

    def resume_writing(self) -> None:
        self.writing = True
        while self.writing and not self.transport.is_closing():
            self.transport.write(CHUNK)


SERVICES = {Port.ECHO: Echo, Port.CONNECT: Echo, Port.SINK: Sink, Port.SOURCE: Source}


async def serve(offload: bool, mtu: int) -> None:
    end = asyncio.Event()
    async with tun("bench0", [f"{USTACK_SERVER}/24"], offload=offload, mtu=mtu) as network:
        for port, service in SERVICES.items():
            await network.create_server(service, port=int(port), backlog=1024)
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), end.set)
        print(READY, flush=True)
        await end.wait()
        loop.remove_reader(sys.stdin.fileno())


@click.command()
@click.option("--cpu", type=int, help="Stay on this CPU.")
@click.option("--offload/--no-offload", default=True)
@click.option("--mtu", type=int, default=1500)
def main(cpu: int | None, offload: bool, mtu: int) -> None:
    """Serves until stdin ends."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    asyncio.run(serve(offload, mtu))


if __name__ == "__main__":
    main()
