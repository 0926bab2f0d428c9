"""A network is a stack, a device and a driver that start and end together."""

import asyncio
import doctest
from collections.abc import Sequence

import pytest

import ustack.runtime.network
from tests.runtime.test_streams import echo
from tests.runtime.virtual import FAR, NEAR, VirtualLoop, in_virtual_time, network, two_networks
from ustack.config import StackConfig, TcpConfig
from ustack.device.channel import ChannelDevice
from ustack.device.link import Link, LinkConfig
from ustack.errors import NotConnected
from ustack.wire import Buffer

PORT = 7000


def test_the_example_in_the_docstring_runs() -> None:
    result = doctest.testmod(ustack.runtime.network)
    assert result.attempted > 0
    assert result.failed == 0


@in_virtual_time
async def test_two_networks_are_joined_by_two_callables() -> None:
    def to_a(packet: bytes) -> None:
        a.feed(packet)

    b = ChannelDevice(to_a)
    a = ChannelDevice(b.feed)
    async with network(a, [f"{NEAR}/24"]) as near, network(b, [f"{FAR}/24"]) as far:
        await far.start_server(echo, port=PORT)
        reader, writer = await near.open_connection(FAR, PORT)
        sent = bytes(range(256)) * 500
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
        writer.close()
        await writer.wait_closed()


@in_virtual_time
async def test_the_device_decides_mtu_and_offload() -> None:
    link = Link(mtu=9000, gso_max=40_000)
    async with network(link.a, [f"{NEAR}/24"]) as near:
        config = near.stack.config
        assert (config.mtu, config.gso_max, config.checksum_offload) == (9000, 40_000, True)
        assert config.addresses == (f"{NEAR}/24",)


@in_virtual_time
async def test_nagle_is_off_as_in_asyncio_and_on_when_asked_for() -> None:
    async with two_networks() as (near, far):
        await far.start_server(echo, port=PORT)
        _, default = await near.open_connection(FAR, PORT)
        _, asked = await near.open_connection(FAR, PORT, config=TcpConfig(nagle=True))
        assert [tcb.config.nagle for tcb in near.stack.connections()] == [False, True]
        default.close()
        asked.close()


@in_virtual_time
async def test_many_networks_in_one_process_do_not_notice_each_other() -> None:
    links = [Link(seed=seed) for seed in range(10)]
    nears = [await network(link.a, [f"{NEAR}/24"]).start() for link in links]
    fars = [await network(link.b, [f"{FAR}/24"]).start() for link in links]
    for number, far in enumerate(fars):

        async def answer(
            _: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int = number
        ) -> None:
            writer.write(str(number).encode())
            writer.close()

        await far.start_server(answer, port=PORT)

    async def ask(near: ustack.runtime.network.Network) -> bytes:
        reader, writer = await near.open_connection(FAR, PORT)
        answer = await reader.read()
        writer.close()
        return answer

    answers = await asyncio.gather(*(ask(near) for near in nears))
    assert answers == [str(number).encode() for number in range(10)]
    await asyncio.gather(*(each.aclose() for each in nears + fars))


class Recorder:
    """Keeps what the stack receives and sends."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def received(self, frame: bytes, note: str, now: int) -> None:
        self.frames.append(frame)

    def sent(self, parts: Sequence[Buffer], note: str, now: int) -> None:
        self.frames.append(b"".join(parts))


def test_the_same_seed_gives_the_same_packets() -> None:
    async def run() -> list[bytes]:
        link, probe = Link(seed=5, config_ab=LinkConfig(loss=0.1)), Recorder()
        async with (
            network(link.a, [f"{NEAR}/24"], probe=probe) as near,
            network(link.b, [f"{FAR}/24"]) as far,
        ):
            await far.start_server(echo, port=PORT)
            reader, writer = await near.open_connection(FAR, PORT)
            writer.write(bytes(100_000))
            await reader.readexactly(100_000)
            writer.close()
            await writer.wait_closed()
        return probe.frames

    runs: list[list[bytes]] = []
    for _ in range(2):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runs.append(runner.run(run()))
    assert len(runs[0]) > 100
    assert runs[0] == runs[1]


@in_virtual_time
async def test_a_network_has_to_be_started_once() -> None:
    near = network(Link().a, [f"{NEAR}/24"])
    with pytest.raises(RuntimeError, match="not been started"):
        await near.open_connection(FAR, PORT)
    async with near:
        with pytest.raises(RuntimeError, match="before"):
            await near.start()


@in_virtual_time
async def test_a_network_that_never_started_can_be_closed() -> None:
    link = Link()
    await network(link.a, [f"{NEAR}/24"]).aclose()
    assert link.a.closed


@in_virtual_time
async def test_a_closed_network_opens_nothing() -> None:
    near = network(Link().a, [f"{NEAR}/24"])
    async with near:
        pass
    with pytest.raises(NotConnected):
        await near.open_connection(FAR, PORT)
    with pytest.raises(NotConnected):
        await near.start_server(echo, port=PORT)


@in_virtual_time
async def test_a_connection_can_have_a_configuration_of_its_own() -> None:
    patient = StackConfig(tcp=TcpConfig(nagle=False))
    hasty = TcpConfig(nagle=False, syn_retransmissions=1)
    async with two_networks(near={"config": patient}) as (near, _):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await near.open_connection("10.0.0.99", PORT, config=hasty)
