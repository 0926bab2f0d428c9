"""The driver turns the loop's events into batches, and does nothing when nothing happens."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import pytest

from tests.runtime.test_streams import echo, keep
from tests.runtime.virtual import (
    FAR,
    FAR6,
    NEAR,
    in_virtual_time,
    network,
    running_loop,
    two_networks,
)
from ustack.device.base import Device
from ustack.device.link import Link, LinkConfig
from ustack.runtime.driver import LINGER_READS, READ_BUDGET, User
from ustack.runtime.network import Network
from ustack.tcp.tcb import READABLE
from ustack.wire import Buffer

PORT = 7000


class Wrapper:
    """A device that is another one; tests override what they change."""

    def __init__(self, inner: Device) -> None:
        self.inner = inner
        self.mtu = inner.mtu
        self.gso_max = inner.gso_max
        self.checksum_offload = inner.checksum_offload

    @property
    def on_readable(self) -> Callable[[], None] | None:
        return self.inner.on_readable

    @on_readable.setter
    def on_readable(self, callback: Callable[[], None] | None) -> None:
        self.inner.on_readable = callback

    def fileno(self) -> int:
        return self.inner.fileno()

    def read(self, budget: int, now: int) -> list[bytes]:
        return self.inner.read(budget, now)

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        return self.inner.write(parts, now)

    def next_deadline(self) -> int | None:
        return self.inner.next_deadline()

    def close(self) -> None:
        self.inner.close()


class Counting(Wrapper):
    """Counts the frames that the stack hands over."""

    written = 0

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        self.written += 1
        return super().write(parts, now)


class Narrow(Wrapper):
    """Refuses frames while it is full."""

    full = False
    refused = 0

    def write(self, parts: Sequence[Buffer], now: int) -> bool:
        if self.full:
            self.refused += 1
            return False
        return super().write(parts, now)


class Descriptor(Wrapper):
    """Has a descriptor, readable while frames wait, as a TUN has."""

    def __init__(self, inner: Device) -> None:
        super().__init__(inner)
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        inner.on_readable = lambda: os.eventfd_write(self.event, 1)
        self.reads = 0

    @property
    def on_readable(self) -> Callable[[], None] | None:
        return None

    @on_readable.setter
    def on_readable(self, callback: Callable[[], None] | None) -> None:
        """There is a descriptor instead."""

    def fileno(self) -> int:
        return self.event

    def read(self, budget: int, now: int) -> list[bytes]:
        self.reads += 1
        frames = super().read(budget, now)
        if len(frames) < budget:
            with suppress(BlockingIOError):
                os.eventfd_read(self.event)
        return frames

    def close(self) -> None:
        super().close()
        os.close(self.event)


class Echo(asyncio.Protocol):
    """Answers at once, inside data_received."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Vanishing(Wrapper):
    """Is removed under the stack."""

    gone = False

    def read(self, budget: int, now: int) -> list[bytes]:
        if self.gone:
            raise OSError("the interface is gone")
        return super().read(budget, now)


_W = TypeVar("_W", bound=Wrapper)


@asynccontextmanager
async def behind(wrapper: Callable[[Device], _W]) -> AsyncIterator[tuple[_W, Network, Network]]:
    """A near network on what `wrapper` makes of one end of a link, and a far one on the other."""
    link = Link(gso_max=65535)
    device = wrapper(link.a)
    async with (
        network(device, [f"{NEAR}/24"]) as near,
        network(link.b, [f"{FAR}/24"]) as far,
    ):
        yield device, near, far


@pytest.mark.parametrize("connections", [0, 1, 100])
@in_virtual_time
async def test_a_quiescent_stack_never_wakes_up(connections: int) -> None:
    loop = running_loop()
    async with two_networks() as (near, far):
        await far.start_server(echo, port=PORT)
        streams = [await near.open_connection(FAR, PORT) for _ in range(connections)]
        for reader, writer in streams:
            writer.write(b"x")
            await reader.readexactly(1)
        await asyncio.sleep(60)  # what was armed before may still fire once
        iterations, timers = loop.iterations, loop.timers_set
        wake_ups = near.driver.wake_ups + far.driver.wake_ups
        await asyncio.sleep(3600)
        assert near.driver.wake_ups + far.driver.wake_ups == wake_ups
        assert loop.iterations - iterations == 2  # our own sleep: set, and over
        assert loop.timers_set - timers == 1
        for _, writer in streams:
            writer.close()


@in_virtual_time
async def test_many_writes_in_one_callback_leave_as_one_packet() -> None:
    async with two_networks() as (near, far):
        server = await far.start_server(echo, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        await asyncio.sleep(1)
        segments, wake_ups = _segments_out(near.stack.connections()), near.driver.wake_ups
        for _ in range(100):
            writer.write(b"0123456789")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert _segments_out(near.stack.connections()) - segments == 1
        assert near.driver.wake_ups - wake_ups == 1
        assert await reader.readexactly(1000) == b"0123456789" * 100
        writer.close()
        server.close()


def _segments_out(connections: Sequence[object]) -> int:
    (tcb,) = connections
    segments = tcb.counters.segments_out  # type: ignore[attr-defined]
    assert isinstance(segments, int)
    return segments


@in_virtual_time
async def test_a_burst_of_packets_does_not_arm_a_timer_each() -> None:
    loop = running_loop()
    async with two_networks(gso_max=0) as (near, far):
        await far.start_server(echo, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        await asyncio.sleep(1)
        timers = loop.timers_set
        sent = bytes(1_000_000)  # some 700 packets
        writer.write(sent)
        await reader.readexactly(len(sent))
        assert loop.timers_set - timers < 50
        writer.close()


@in_virtual_time
async def test_a_full_device_keeps_the_packets_until_it_has_room() -> None:
    async with behind(Narrow) as (device, near, far):
        await far.start_server(echo, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        await asyncio.sleep(1)
        device.full = True
        writer.write(b"patience")
        await asyncio.sleep(0.01)
        refused, wake_ups = device.refused, near.driver.wake_ups
        assert refused > 0
        await asyncio.sleep(0.1)
        assert device.refused == refused  # nobody polls
        assert near.driver.wake_ups - wake_ups <= 1
        device.full = False
        assert device.on_readable is not None
        device.on_readable()
        assert await reader.readexactly(8) == b"patience"
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_a_device_with_a_descriptor_is_read_when_it_is_readable() -> None:
    async with behind(Descriptor) as (device, near, far):
        await far.start_server(echo, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        sent = bytes(range(256)) * 4000
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        await asyncio.sleep(1)  # the last ACKs
        reads = device.reads
        await asyncio.sleep(600)
        assert device.reads == reads
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_after_an_answer_the_descriptor_is_read_a_few_times_more_and_then_no_more() -> None:
    async with behind(Descriptor) as (device, near, far):
        await near.create_server(Echo, port=PORT)
        reader, writer = await far.open_connection(NEAR, PORT)
        for _ in range(10):
            reads = device.reads
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
            await asyncio.sleep(10)
            assert LINGER_READS < device.reads - reads < 5 * LINGER_READS
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_after_a_syn_the_descriptor_is_read_a_few_times_more_and_then_no_more() -> None:
    async with behind(Descriptor) as (device, near, far):
        await near.create_server(Echo, port=PORT)
        await asyncio.sleep(10)
        reads = device.reads
        far.stack.connect(NEAR, PORT, far.driver.user_call())
        await asyncio.sleep(0)
        await asyncio.sleep(10)
        assert near.stack.counters["no-connection"] == 0
        assert 2 * LINGER_READS < device.reads - reads < 5 * LINGER_READS  # for SYN and ACK
        reads = device.reads
        await asyncio.sleep(600)
        assert device.reads == reads


@in_virtual_time
async def test_a_dialogue_is_read_frame_by_frame_and_much_text_in_batches() -> None:
    class Observed(Descriptor):
        def read(self, budget: int, now: int) -> list[bytes]:
            frames = super().read(budget, now)
            if frames and len(max(frames, key=len)) > min(size, 1000):  # ACKs of bulk are smaller
                budgets.append(budget)
            return frames

    budgets: list[int] = []
    size = 0
    async with behind(Observed) as (_, near, far):
        await near.create_server(Echo, port=PORT)
        reader, writer = await far.open_connection(NEAR, PORT)
        for size, expected in ((4, 1), (1 << 20, READ_BUDGET), (4, 1)):
            budgets.clear()
            for _ in range(100 if size == 4 else 1):
                writer.write(bytes(size))
                assert len(await reader.readexactly(size)) == size
                await asyncio.sleep(10)
            assert budgets.count(expected) > 0.8 * len(budgets)
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_a_full_descriptor_is_waited_for() -> None:
    class NarrowDescriptor(Descriptor):
        refuse = 0

        def write(self, parts: Sequence[Buffer], now: int) -> bool:
            if self.refuse:
                self.refuse -= 1
                return False
            return super().write(parts, now)

    async with behind(NarrowDescriptor) as (device, near, far):
        await far.start_server(echo, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        device.refuse = 3
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        assert device.refuse == 0
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_more_frames_than_one_budget_are_all_read() -> None:
    link = Link()
    async with network(link.a, [f"{NEAR}/24"]) as near:
        await asyncio.sleep(0)
        garbage = bytes(10) + b"\x45garbage"
        for _ in range(3 * READ_BUDGET + 1):
            link.b.write([garbage], running_loop().clock())
        for _ in range(10):
            await asyncio.sleep(0)
        assert link.next_deadline() is None
        assert sum(near.stack.counters.values()) >= 3 * READ_BUDGET + 1


@in_virtual_time
async def test_frames_that_are_held_by_the_device_are_fetched_in_time() -> None:
    loop = running_loop()
    async with two_networks(LinkConfig(delay_us=250_000)) as (near, far):
        await far.start_server(echo, port=PORT)
        before = loop.clock()
        _, writer = await near.open_connection(FAR6, PORT)
        assert 500_000 <= loop.clock() - before < 500_100
        writer.close()


@in_virtual_time
async def test_when_the_device_goes_its_connections_end() -> None:
    async with behind(Vanishing) as (device, near, far):
        await far.start_server(keep, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        device.gone = True
        assert device.on_readable is not None
        device.on_readable()
        with pytest.raises(ConnectionAbortedError):
            await reader.read()
        with pytest.raises(ConnectionAbortedError):
            await writer.wait_closed()
        assert near.driver.device_lost.is_set()
        assert near.stack.connections() == []


class Stubborn(User):
    """Raises in every notification."""

    def __init__(self) -> None:
        self.notified = 0

    def notify(self, events: int) -> None:
        self.notified += 1
        raise ValueError("stubborn")

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


@in_virtual_time
async def test_an_exception_of_one_user_does_not_reach_the_next() -> None:
    loop = running_loop()
    async with two_networks() as (near, far):
        await far.start_server(echo, port=PORT)
        writers = [(await near.open_connection(FAR, PORT))[1] for _ in range(2)]
        await asyncio.sleep(0.1)
        owners = [tcb.user for tcb in near.stack.connections()]
        stubborn = [Stubborn(), Stubborn()]
        for tcb, user in zip(near.stack.connections(), stubborn, strict=True):
            tcb.user = user
            near.driver.post(tcb, READABLE)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [user.notified for user in stubborn] == [1, 1]
        assert near.driver.callback_errors == 2
        assert len(loop.problems) == 2
        loop.problems.clear()
        for tcb, owner in zip(near.stack.connections(), owners, strict=True):
            tcb.user = owner
        for writer in writers:
            writer.close()


@in_virtual_time
async def test_closing_ends_every_connection_in_order() -> None:
    link = Link(config_ab=LinkConfig(delay_us=10_000), gso_max=65535)
    received = b""

    async def collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received = await reader.read()
        writer.close()

    async with network(link.b, [f"{FAR}/24"]) as far:
        await far.start_server(collect, port=PORT)
        near = await network(link.a, [f"{NEAR}/24"]).start()
        _, writer = await near.open_connection(FAR, PORT)
        writer.write(bytes(500_000))
        await near.aclose()
        await near.aclose()
        assert len(received) == 500_000
        assert near.stack.connections() == []
        await writer.wait_closed()


@in_virtual_time
async def test_what_does_not_close_in_time_is_reset() -> None:
    loop = running_loop()
    link = Link(gso_max=65535)
    async with network(link.b, [f"{FAR}/24"]) as far:
        taken: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
        await far.start_server(lambda reader, _: taken.put_nowait(reader), port=PORT)
        near = await network(link.a, [f"{NEAR}/24"]).start()
        _, writer = await near.open_connection(FAR, PORT)
        reader = await taken.get()
        before = loop.time()
        await near.aclose(timeout=1.5)  # the far end never closes its half
        assert 1.5 <= loop.time() - before < 1.6
        assert await reader.read() == b""  # the FIN of the first attempt
        await writer.wait_closed()
        await asyncio.sleep(0.001)
        with pytest.raises(ConnectionResetError):
            await reader.read()


@in_virtual_time
async def test_a_cancelled_close_still_closes() -> None:
    link = Link(gso_max=65535)
    async with network(link.b, [f"{FAR}/24"]) as far:
        await far.start_server(lambda *_: None, port=PORT)
        near = await network(link.a, [f"{NEAR}/24"]).start()
        _, writer = await near.open_connection(FAR, PORT)
        closing = asyncio.create_task(near.aclose(timeout=100))
        await asyncio.sleep(1)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert near.stack.connections() == []
        assert link.a.closed
        await writer.wait_closed()  # the peer had acknowledged everything


@in_virtual_time
async def test_closing_ends_a_connect_in_progress() -> None:
    link = Link()
    near = await network(link.a, [f"{NEAR}/24"]).start()
    connecting = asyncio.create_task(near.open_connection(FAR, PORT))
    await asyncio.sleep(0.1)
    await near.aclose()
    with pytest.raises(ConnectionAbortedError):
        await connecting
    assert near.stack.connections() == []


@in_virtual_time
async def test_nothing_is_read_after_the_close() -> None:
    link = Link()
    near = await network(link.a, [f"{NEAR}/24"]).start()
    await near.aclose()
    link.b.write([bytes(30)], running_loop().clock())
    await asyncio.sleep(1)
    assert link.a.on_readable is None
