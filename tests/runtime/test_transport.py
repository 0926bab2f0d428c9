"""The transport is what asyncio's protocols expect of one."""

import asyncio
import io
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.runtime.virtual import FAR, FAR6, NEAR, in_virtual_time, running_loop, two_networks
from ustack.config import StackConfig, TcpConfig
from ustack.device.link import LinkConfig
from ustack.errors import UsageError
from ustack.runtime.network import Network
from ustack.runtime.transport import TcpTransport

PORT = 7000
SMALL_BUFFERS = StackConfig(tcp=TcpConfig(nagle=False, send_buffer=65536, receive_buffer=65536))


class Recorder(asyncio.Protocol):
    """Writes down what it is told, in order."""

    keep_open = False

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received = b""
        self.error: BaseException | None = None
        self.transport: TcpTransport
        self.lost = asyncio.Event()
        self.eof = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TcpTransport)
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        if self.calls[-1] != "data":
            self.calls.append("data")
        self.received += data

    def eof_received(self) -> bool:
        self.calls.append("eof")
        self.eof.set()
        return self.keep_open

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.calls.append("lost")
        self.error = exc
        self.lost.set()


class HalfOpen(Recorder):
    """Goes on after the peer's EOF."""

    keep_open = True


async def connected(
    near: Network,
    far: Network,
    client: Callable[[], Recorder] = Recorder,
    server: Callable[[], Recorder] = Recorder,
    host: str = FAR,
) -> tuple[Recorder, Recorder]:
    """A client's and a server's protocol with a connection between them; the listener is gone."""
    accepted: list[Recorder] = []

    def factory() -> Recorder:
        accepted.append(server())
        return accepted[-1]

    listening = await far.create_server(factory, port=PORT)
    _, protocol = await near.create_connection(client, host, PORT)
    while not accepted:
        await asyncio.sleep(0.001)
    listening.close()
    return protocol, accepted[0]


@pytest.mark.parametrize("host", [FAR, FAR6])
@in_virtual_time
async def test_each_protocol_is_told_everything_once_and_in_order(host: str) -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far, host=host)
        client.transport.write(b"hello")
        client.transport.close()
        await asyncio.gather(client.lost.wait(), server.lost.wait())
        assert server.received == b"hello"
        assert server.calls == ["made", "data", "eof", "lost"]
        assert client.calls == ["made", "lost"]
        assert client.error is None and server.error is None


@in_virtual_time
async def test_both_ends_know_the_addresses() -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far)
        sockname = client.transport.get_extra_info("sockname")
        assert isinstance(sockname, tuple)
        assert sockname[0] == NEAR
        assert server.transport.get_extra_info("peername") == sockname
        assert client.transport.get_extra_info("peername") == (FAR, PORT)
        assert client.transport.get_extra_info("socket") is None
        assert client.transport.get_extra_info("nonsense", "default") == "default"
        assert f"{FAR}:{PORT}" in repr(client.transport)
        client.transport.close()


@in_virtual_time
async def test_an_ipv6_peername_has_four_elements() -> None:
    async with two_networks() as (near, far):
        client, _ = await connected(near, far, host=FAR6)
        assert client.transport.get_extra_info("peername") == (FAR6, PORT, 0, 0)
        assert f"[{FAR6}]:{PORT}" in repr(client.transport)
        client.transport.close()


@in_virtual_time
async def test_tcp_info_is_a_snapshot_of_the_connection() -> None:
    async with two_networks() as (near, far):
        client, _ = await connected(near, far)
        info = client.transport.get_extra_info("tcp_info")
        assert info == near.stack.status(near.stack.connections()[0], running_loop().clock())
        client.transport.close()


@in_virtual_time
async def test_every_kind_of_buffer_can_be_written() -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far)
        mutable = bytearray(b"two ")
        client.transport.write(b"one ")
        client.transport.write(mutable)
        mutable[:] = b"XXXX"
        client.transport.writelines([memoryview(b"three "), b"", b"four"])
        client.transport.close()
        await server.lost.wait()
        assert server.received == b"one two three four"


@in_virtual_time
async def test_only_buffers_can_be_written() -> None:
    async with two_networks() as (near, far):
        client, _ = await connected(near, far)
        with pytest.raises(TypeError, match="str"):
            client.transport.write("text")  # type: ignore[arg-type]
        client.transport.close()


@in_virtual_time
async def test_a_writer_is_paused_and_resumed_while_the_reader_is_slow() -> None:
    small = {"config": SMALL_BUFFERS}
    async with two_networks(near=small, far=small) as (near, far):
        client, server = await connected(near, far)
        server.transport.pause_reading()
        size = 0
        while "pause" not in client.calls:
            client.transport.write(bytes(10_000))
            size += 10_000
            await asyncio.sleep(0.001)
        # Both stacks' buffers are full, and the rest is in the transport.
        _, high = client.transport.get_write_buffer_limits()
        assert high < client.transport.get_write_buffer_size() <= high + 10_000
        assert size <= 2 * 65536 + high + 10_000
        await asyncio.sleep(10)
        assert "resume" not in client.calls
        assert server.received == b""
        server.transport.resume_reading()
        await asyncio.sleep(10)
        assert client.calls == ["made", "pause", "resume"]
        assert len(server.received) == size
        client.transport.close()


@in_virtual_time
async def test_water_marks_of_zero_pause_until_the_stack_has_everything() -> None:
    small = {"config": SMALL_BUFFERS}
    async with two_networks(near=small) as (near, far):
        client, _ = await connected(near, far)
        client.transport.set_write_buffer_limits(high=0)
        client.transport.write(bytes(65536))
        assert "pause" not in client.calls
        client.transport.write(b"x")
        assert "pause" in client.calls
        await asyncio.sleep(1)
        assert "resume" in client.calls
        client.transport.close()


@in_virtual_time
async def test_data_waits_while_reading_is_paused_and_eof_comes_after_it() -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far)
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        client.transport.write(b"late")
        client.transport.close()
        await asyncio.sleep(5)
        assert server.calls == ["made"]
        server.transport.resume_reading()
        assert server.calls == ["made"]  # never from inside the call
        await server.lost.wait()
        assert server.received == b"late"
        assert server.calls == ["made", "data", "eof", "lost"]


@in_virtual_time
async def test_a_protocol_may_pause_reading_between_two_deliveries() -> None:
    class OneAtATime(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            running_loop().call_later(1, self.transport.resume_reading)

    async with two_networks(gso_max=0) as (near, far):
        client, server = await connected(near, far, server=OneAtATime)
        sent = bytes(range(256)) * 40
        client.transport.write(sent)
        client.transport.close()
        await server.lost.wait()
        assert server.received == sent


@in_virtual_time
async def test_half_close_leaves_the_other_direction_open() -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far, client=HalfOpen, server=HalfOpen)
        assert client.transport.can_write_eof()
        client.transport.write(b"question")
        client.transport.write_eof()
        client.transport.write_eof()  # a second one does nothing
        await server.eof.wait()
        assert server.received == b"question"
        await asyncio.sleep(30)
        server.transport.write(b"answer")
        server.transport.write_eof()
        await client.eof.wait()
        assert client.received == b"answer"
        await asyncio.sleep(1)
        assert "lost" not in client.calls + server.calls  # that needs close()
        client.transport.close()
        server.transport.close()
        await asyncio.gather(client.lost.wait(), server.lost.wait())
        assert client.error is None and server.error is None


@in_virtual_time
async def test_write_eof_waits_for_what_the_stack_has_not_accepted() -> None:
    small = {"config": SMALL_BUFFERS}
    async with two_networks(near=small, far=small) as (near, far):
        client, server = await connected(near, far)
        client.transport.write(bytes(1_000_000))
        client.transport.write_eof()
        assert client.transport.get_write_buffer_size() > 0
        await server.eof.wait()
        assert len(server.received) == 1_000_000


@in_virtual_time
async def test_close_waits_for_what_the_stack_has_not_accepted() -> None:
    small = {"config": SMALL_BUFFERS}
    async with two_networks(near=small, far=small) as (near, far):
        client, server = await connected(near, far)
        client.transport.write(bytes(1_000_000))
        client.transport.close()
        await client.lost.wait()
        assert client.error is None
        await server.lost.wait()
        assert len(server.received) == 1_000_000


@in_virtual_time
async def test_connection_lost_after_close_means_that_the_peer_has_acknowledged() -> None:
    async with two_networks(LinkConfig(delay_us=100_000)) as (near, far):
        client, _ = await connected(near, far)
        client.transport.write(b"data")
        closed_at = running_loop().time()
        client.transport.close()
        await client.transport.wait_closed()
        assert running_loop().time() - closed_at >= 0.2


@in_virtual_time
async def test_writing_after_write_eof_is_an_error() -> None:
    async with two_networks() as (near, far):
        client, _ = await connected(near, far)
        client.transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            client.transport.write(b"more")


@in_virtual_time
async def test_writing_after_close_is_ignored_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far)
        client.transport.close()
        for _ in range(10):
            client.transport.write(b"more")
        await server.lost.wait()
        assert server.received == b""
        assert [record.levelname for record in caplog.records] == ["WARNING"]


@in_virtual_time
async def test_abort_resets_the_connection() -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far)
        client.transport.abort()
        client.transport.abort()
        assert client.calls == ["made"]  # never from inside the call
        await asyncio.gather(client.lost.wait(), server.lost.wait())
        assert client.calls == ["made", "lost"]
        assert client.error is None
        assert isinstance(server.error, ConnectionResetError)
        with pytest.raises(ConnectionAbortedError):
            await client.transport.wait_closed()
        with pytest.raises(ConnectionResetError):
            await server.transport.wait_closed()


@in_virtual_time
async def test_abort_after_close_gives_up_on_the_peer() -> None:
    async with two_networks(LinkConfig(delay_us=100_000)) as (near, far):
        client, server = await connected(near, far)
        client.transport.write(bytes(10_000_000))
        client.transport.close()
        await asyncio.sleep(1)
        client.transport.abort()
        await asyncio.gather(client.lost.wait(), server.lost.wait())
        assert isinstance(server.error, ConnectionResetError)


@in_virtual_time
async def test_a_reset_drops_what_was_not_written() -> None:
    small = {"config": SMALL_BUFFERS}
    async with two_networks(near=small) as (near, far):
        client, server = await connected(near, far)
        client.transport.write(bytes(1_000_000))
        server.transport.abort()
        await client.lost.wait()
        assert isinstance(client.error, ConnectionResetError)
        assert client.transport.get_write_buffer_size() == 0
        assert client.transport.is_closing()


@in_virtual_time
async def test_closing_with_unread_data_tells_the_peer_by_a_reset() -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far, server=HalfOpen)
        server.transport.pause_reading()
        client.transport.write(b"nobody will read this")
        await asyncio.sleep(1)
        server.transport.close()
        await asyncio.gather(client.lost.wait(), server.lost.wait())
        assert isinstance(client.error, ConnectionResetError)
        assert server.error is None


@in_virtual_time
async def test_a_port_without_listener_refuses() -> None:
    async with two_networks() as (near, _):
        with pytest.raises(ConnectionRefusedError):
            await near.create_connection(Recorder, FAR, 9)


@in_virtual_time
async def test_a_silent_host_times_out() -> None:
    impatient = StackConfig(tcp=TcpConfig(syn_retransmissions=2))
    async with two_networks(near={"config": impatient}) as (near, _):
        with pytest.raises(TimeoutError):
            await near.create_connection(Recorder, "10.0.0.99", 9)


@in_virtual_time
async def test_a_host_name_is_a_usage_error() -> None:
    async with two_networks() as (near, _):
        with pytest.raises(UsageError, match=r"example\.org"):
            await near.create_connection(Recorder, "example.org", 80)


@in_virtual_time
async def test_the_local_address_can_be_chosen() -> None:
    async with two_networks() as (near, far):
        await far.create_server(Recorder, port=PORT)
        transport, _ = await near.create_connection(Recorder, FAR, PORT, local_addr=(NEAR, 4321))
        assert transport.get_extra_info("sockname") == (NEAR, 4321)
        transport.close()


@in_virtual_time
async def test_a_cancelled_connect_leaves_nothing_behind() -> None:
    async with two_networks(LinkConfig(delay_us=100_000)) as (near, far):
        await far.create_server(Recorder, port=PORT)
        connecting = asyncio.create_task(near.create_connection(Recorder, FAR, PORT))
        await asyncio.sleep(0.05)
        assert len(near.stack.connections()) == 1
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        assert near.stack.connections() == []


@in_virtual_time
async def test_a_connect_cancelled_as_it_succeeds_is_reset() -> None:
    async with two_networks() as (near, far):
        await far.create_server(Recorder, port=PORT)
        for iterations in range(1, 12):
            connecting = asyncio.create_task(near.create_connection(Recorder, FAR, PORT))
            for _ in range(iterations):
                await asyncio.sleep(0)
            if connecting.done():
                (await connecting)[0].close()
                continue
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert near.stack.connections() == []


@in_virtual_time
async def test_a_protocol_factory_that_fails_leaves_nothing_behind() -> None:
    def broken() -> Recorder:
        raise ValueError("no protocol today")

    async with two_networks() as (near, far):
        await far.create_server(Recorder, port=PORT)
        with pytest.raises(ValueError, match="today"):
            await near.create_connection(broken, FAR, PORT)


class Buffered(asyncio.BufferedProtocol):
    """Lends a buffer of 1000 bytes."""

    def __init__(self) -> None:
        self.buffer = bytearray(1000)
        self.received = b""

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.received += self.buffer[:nbytes]


@in_virtual_time
async def test_a_buffered_protocol_gets_its_buffer_filled() -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far)
        buffered = Buffered()
        server.transport.set_protocol(buffered)
        assert server.transport.get_protocol() is buffered
        sent = bytes(range(256)) * 100
        client.transport.write(sent)
        client.transport.close()
        await server.transport.wait_closed()
        assert buffered.received == sent


@in_virtual_time
async def test_a_buffered_protocol_without_space_loses_its_connection() -> None:
    loop = running_loop()
    async with two_networks() as (near, far):
        client, server = await connected(near, far)
        buffered = Buffered()
        buffered.buffer = bytearray()
        server.transport.set_protocol(buffered)
        client.transport.write(b"x")
        await client.lost.wait()
        assert isinstance(client.error, ConnectionResetError)
        assert "empty buffer" in str(loop.problems.pop()["exception"])


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
@in_virtual_time
async def test_a_failing_flow_control_callback_does_not_reach_the_writer(method: str) -> None:
    def fail() -> None:
        raise ValueError(method)

    loop = running_loop()
    async with two_networks(near={"config": SMALL_BUFFERS}) as (near, far):
        client, server = await connected(near, far)
        setattr(client, method, fail)
        client.transport.write(bytes(1_000_000))
        client.transport.close()
        await server.lost.wait()
        assert len(server.received) == 1_000_000
        assert [str(problem["exception"]) for problem in loop.problems] == [method]
        loop.problems.clear()


@in_virtual_time
async def test_a_connection_that_broke_before_it_was_accepted_is_still_announced() -> None:
    async with two_networks() as (near, far):
        accepted: list[Recorder] = []

        def factory() -> Recorder:
            accepted.append(Recorder())
            return accepted[-1]

        listener = far.stack.listen(PORT, running_loop().clock())
        client, _ = await near.create_connection(Recorder, FAR, PORT)
        client.write(b"too late")
        await asyncio.sleep(0.1)
        client.abort()
        await asyncio.sleep(0.1)
        tcb = far.stack.accept(listener)
        assert tcb is not None
        transport = TcpTransport(far.driver, tcb, factory())
        transport.start()
        await accepted[0].lost.wait()
        assert accepted[0].calls[0] == "made"
        assert accepted[0].calls[-1] == "lost"
        assert isinstance(accepted[0].error, ConnectionResetError)
        far.stack.close_listener(listener, running_loop().clock())


@in_virtual_time
async def test_a_failing_protocol_loses_its_connection_and_no_other() -> None:
    class Broken(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ValueError("cannot parse this")

    loop = running_loop()
    async with two_networks() as (near, far):
        client, server = await connected(near, far, server=Broken)
        other_client, other_server = await connected(near, far)
        client.transport.write(b"nonsense")
        other_client.transport.write(b"sense")
        await asyncio.gather(client.lost.wait(), server.lost.wait())
        assert isinstance(server.error, ValueError)
        assert isinstance(client.error, ConnectionResetError)
        assert far.driver.callback_errors == 1
        assert [str(problem["exception"]) for problem in loop.problems] == ["cannot parse this"]
        loop.problems.clear()
        other_client.transport.close()
        await other_server.lost.wait()
        assert other_server.received == b"sense"


@pytest.mark.parametrize("method", ["connection_made", "eof_received", "connection_lost"])
@in_virtual_time
async def test_an_exception_in_any_callback_is_reported(method: str) -> None:
    def fail(*_: object) -> None:
        raise ValueError(method)

    def broken() -> Recorder:
        protocol = Recorder()
        setattr(protocol, method, fail)
        return protocol

    loop = running_loop()
    async with two_networks() as (near, far):
        server = await far.create_server(broken, port=PORT)
        transport, client = await near.create_connection(Recorder, FAR, PORT)
        transport.close()
        await client.lost.wait()
        await asyncio.sleep(10)
        assert [str(problem["exception"]) for problem in loop.problems] == [method]
        loop.problems.clear()
        server.close()
        await server.wait_closed()


@in_virtual_time
async def test_sendfile_falls_back_to_copying() -> None:
    async with two_networks() as (near, far):
        client, server = await connected(near, far)
        content = bytes(range(256)) * 1000
        sent = await running_loop().sendfile(client.transport, io.BytesIO(content))
        assert sent == len(content)
        client.transport.close()
        await server.lost.wait()
        assert server.received == content


@pytest.mark.parametrize("size", range(130_000, 260_000, 10_000))
@pytest.mark.parametrize("times", [1, 2])  # the second begins while the first is still in the queue
@in_virtual_time
async def test_after_sendfile_each_resumption_follows_a_pause(size: int, times: int) -> None:
    slow = LinkConfig(delay_us=20_000)
    async with two_networks(slow, near={"config": SMALL_BUFFERS}) as (near, far):
        client, server = await connected(near, far)
        for _ in range(times):
            await running_loop().sendfile(client.transport, io.BytesIO(bytes(size)))
        client.transport.write(bytes(size))
        client.transport.close()
        await server.lost.wait()
        assert len(server.received) == (times + 1) * size
        told = [call for call in client.calls if call in ("pause", "resume")]
        assert told
        assert told == ["pause", "resume"] * (len(told) // 2)


@in_virtual_time
async def test_tiny_windows_still_deliver_everything() -> None:
    tiny = replace(SMALL_BUFFERS, tcp=replace(SMALL_BUFFERS.tcp, receive_buffer=3000))
    async with two_networks(far={"config": tiny}) as (near, far):
        client, server = await connected(near, far)
        client.transport.write(bytes(200_000))
        client.transport.close()
        await server.lost.wait()
        assert len(server.received) == 200_000
