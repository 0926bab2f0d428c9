"""Every MTU from the smallest that IPv4 hosts must take to the largest packet there is."""

import random
import socket
from hashlib import sha256

import pytest

from tests.interop.kernel_side import connect, digest_of_rest, sending
from tests.interop.serving import ECHO, IPV6_MINIMUM_MTU, Serve

pytestmark = pytest.mark.interop

DATA = random.Random(65535).randbytes(4 << 20)
HEADERS = {"ipv4": 20 + 20, "ipv6": 40 + 20}
TIMESTAMPS = 12  # option and padding; RFC 7323 appendix A


@pytest.mark.parametrize("offload", [True, False], ids=["offload", "no-offload"])
@pytest.mark.parametrize("mtu", [576, 1280, 1500, 9000, 65535])
def test_data_passes_intact_and_the_kernel_uses_the_mss_of_the_mtu(
    serve: Serve, mtu: int, offload: bool
) -> None:
    families = ["ipv4", "ipv6"] if mtu >= IPV6_MINIMUM_MTU else ["ipv4"]
    with serve(offload=offload, mtu=mtu) as serving:
        for family in families:
            with connect(serving.address(family), ECHO) as client:
                with sending(client, DATA):
                    assert digest_of_rest(client) == (len(DATA), sha256(DATA).hexdigest())
                segment = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
            assert segment == mtu - HEADERS[family] - TIMESTAMPS
