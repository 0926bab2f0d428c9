"""A snapshot shows every socket of a stack in values that survive JSON."""

import asyncio
import json

from tests.runtime.test_streams import echo, keep
from tests.runtime.virtual import FAR, FAR6, NEAR, NEAR6, in_virtual_time, two_networks
from ustack.config import TcpConfig
from ustack.runtime.network import Network
from ustack.runtime.snapshot import Snapshot, take_snapshot

PORT = 7000


def snapshot(network: Network) -> Snapshot:
    """Of now, as another process would get it."""
    taken = take_snapshot(network.stack, network.driver.now())
    decoded: Snapshot = json.loads(json.dumps(taken))
    return decoded


@in_virtual_time
async def test_listeners_are_shown_with_their_backlog() -> None:
    async with two_networks() as (_, far):
        await far.start_server(echo, port=PORT, backlog=5)
        await far.start_server(echo, FAR6, 80)
        rows = sorted(snapshot(far)["sockets"], key=lambda row: row["send_queue"])
        assert [(row["state"], tuple(row["local"]), row["send_queue"]) for row in rows] == [
            ("LISTEN", ("", PORT), 5),
            ("LISTEN", (FAR6, 80), 128),
        ]


@in_virtual_time
async def test_a_connection_is_shown_with_its_queues_and_numbers() -> None:
    async with two_networks() as (near, far):
        await far.start_server(keep, port=PORT)
        _, writer = await near.open_connection(FAR, PORT)
        writer.transport.set_write_buffer_limits(high=1 << 30)
        writer.write(bytes(10_000_000))
        await asyncio.sleep(1)
        (row,) = snapshot(near)["sockets"]
        assert row["state"] == "ESTABLISHED"
        assert row["local"][0] == NEAR
        assert tuple(row["remote"]) == (FAR, PORT)
        assert row["send_queue"] > 80_000  # tcp_wmem's growth begins at 87 040 bytes
        assert row["timer"] is not None
        assert row["timer"][0] == "persist"
        assert row["info"]["congestion"] == TcpConfig().congestion
        assert row["info"]["snd_mss"] == 1448
        listener, accepted = snapshot(far)["sockets"]
        assert listener["state"] == "LISTEN"
        assert accepted["receive_queue"] > 60_000  # the first window, as nobody reads
        writer.transport.abort()


@in_virtual_time
async def test_a_time_wait_is_shown_with_the_time_that_is_left() -> None:
    async with two_networks() as (near, far):
        await far.start_server(echo, port=PORT)
        _, writer = await near.open_connection(FAR6, PORT)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(10)
        (row,) = snapshot(near)["sockets"]
        assert row["state"] == "TIME_WAIT"
        assert row["local"][0] == NEAR6
        assert tuple(row["remote"]) == (FAR6, PORT)
        assert row["timer"] is not None
        name, left, _ = row["timer"]
        assert name == "timewait"
        assert 45_000_000 < left <= 50_000_000
        assert len(snapshot(far)["sockets"]) == 1  # only the active closer waits


@in_virtual_time
async def test_a_connection_that_is_being_opened_has_measured_nothing() -> None:
    async with two_networks() as (near, _):
        connecting = asyncio.create_task(near.open_connection("10.0.0.99", PORT))
        await asyncio.sleep(4)
        (row,) = snapshot(near)["sockets"]
        assert row["state"] == "SYN_SENT"
        assert row["info"]["rtt"] is None
        assert row["timer"] is not None
        assert row["timer"][2] == 2  # the SYN was sent again after 1 s and 3 s
        connecting.cancel()


@in_virtual_time
async def test_counters_are_part_of_it() -> None:
    async with two_networks() as (near, _):
        near.stack.input(bytes(10) + b"\x45", near.driver.now())
        assert sum(snapshot(near)["counters"].values()) >= 1
