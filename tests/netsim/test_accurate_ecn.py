"""AccECN between two stacks over a link that marks: both ends count the same (RFC 9768 §3.2.2)."""

import random

import pytest

from ustack.config import StackConfig, TcpConfig
from ustack.device.base import Device
from ustack.device.link import Link, LinkConfig
from ustack.stack.stack import Stack
from ustack.tcp.tcb import Tcb

ADDRESSES = {4: ("10.0.0.1", "10.0.0.2"), 6: ("fd00::1", "fd00::2")}
SIZE = 400_000
STEP_US = 500
LIMIT_US = 60_000_000


class Pair:
    """A client that sends to a server, in virtual time."""

    def __init__(self, link: Link, version: int, config: TcpConfig) -> None:
        self.devices: tuple[Device, Device] = (link.a, link.b)
        self.now = 1_000_000
        prefix = 24 if version == 4 else 64
        self.stacks = [
            Stack(
                StackConfig(
                    addresses=(f"{address}/{prefix}",),
                    gso_max=device.gso_max,
                    checksum_offload=device.checksum_offload,
                    tcp=config,
                ),
                secret=bytes([number]) * 16,
                randrange=random.Random(number).randrange,
            )
            for number, (address, device) in enumerate(
                zip(ADDRESSES[version], self.devices, strict=True)
            )
        ]
        self.listener = self.stacks[1].listen(80, self.now)
        self.client = self.stacks[0].connect(ADDRESSES[version][1], 80, self.now)
        self.server: Tcb | None = None
        self.received = 0

    def run(self) -> None:
        """Send all of it, until it is acknowledged."""
        data = bytes(SIZE)
        sent = 0
        end = self.now + LIMIT_US
        while self.client.counters.bytes_acked < SIZE:
            assert self.now < end, "it never ends"
            self.now += STEP_US
            for stack, device in zip(self.stacks, self.devices, strict=True):
                stack.input_batch(device.read(64, self.now), self.now)
                stack.handle_timeouts(self.now)
            if self.client.snd.una > self.client.snd.iss and sent < SIZE:
                sent += self.stacks[0].send(self.client, data[sent:], self.now)
            self.server = self.server or self.stacks[1].accept(self.listener)
            if self.server is not None:
                while chunk := self.stacks[1].receive(self.server, 1 << 20, self.now):
                    self.received += len(chunk)
            for stack, device in zip(self.stacks, self.devices, strict=True):
                stack.flush(self.now, device.write)
                stack.take_events()


@pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("option", [0, 1, 2])
@pytest.mark.parametrize("offload", [False, True])
def test_both_ends_count_the_same_marks(version: int, option: int, offload: bool) -> None:
    faults = LinkConfig(delay_us=10_000, ecn=0.1)
    link = Link(3, faults, faults, gso_max=65535 if offload else 0)
    pair = Pair(link, version, TcpConfig(ecn=3, accecn_option=option))
    pair.run()
    assert pair.server is not None
    assert pair.received == SIZE
    there = pair.stacks[0].status(pair.client, pair.now)
    here = pair.stacks[1].status(pair.server, pair.now)
    assert (there.ecn, here.ecn) == ("accecn", "accecn")
    marked = link.ab.counters["marked"]
    assert marked > 10
    assert marked - 2 <= here.received_ce <= marked  # a resend that was not needed is not counted
    if option == 2:
        assert there.delivered_ce == here.received_ce
        assert there.delivered_octets == here.received_octets
    else:  # §3.2.2.5.2: where the counter may have wrapped, it is taken to have
        assert here.received_ce <= there.delivered_ce <= 2 * here.received_ce
