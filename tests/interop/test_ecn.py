"""Congestion marks instead of losses, between the kernel and ustack."""

import random
import socket
import struct
from hashlib import sha256
from pathlib import Path

import pytest

from tests.interop.kernel_side import connect, digest_of_rest, kernel_counters, sending
from tests.interop.serving import ECHO, Serve, tshark

pytestmark = pytest.mark.interop

DATA = random.Random(3168).randbytes(2 << 20)
TCPI_OPT_ECN, TCPI_OPT_ECN_SEEN = 8, 16  # linux/tcp.h
OPTIONS, DELIVERED_CE = 5, 196  # offsets in struct tcp_info


def ask_for_ecn() -> None:
    """The kernel's SYNs ask (tcp_ecn 1), in this namespace."""
    Path("/proc/sys/net/ipv4/tcp_ecn").write_text("1")


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "no-offload"])
def test_both_ends_echo_marks_and_react_to_the_echo(
    serve: Serve, offload: bool, family: str
) -> None:
    ask_for_ecn()
    impair = "ecn=1%,delay=1ms,queue=100000,seed=7"
    with serve("--impair", impair, offload=offload) as serving:
        with connect(serving.address(family), ECHO) as client, sending(client, DATA):
            assert digest_of_rest(client) == (len(DATA), sha256(DATA).hexdigest())
            info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        assert info[OPTIONS] & TCPI_OPT_ECN
        assert info[OPTIONS] & TCPI_OPT_ECN_SEEN, "our data is ECT"
        (echoed,) = struct.unpack_from("=I", info, DELIVERED_CE)
        assert echoed > 0, "we echo its marks"
        if family == "ipv4":
            assert kernel_counters()["IpExt.InCEPkts"] > 0, "our packets were marked"
    assert serving.capture is not None
    ours = f"ip{'v6' if family == 'ipv6' else ''}.src == {serving.address(family)}"
    assert tshark(serving.capture, "-Y", f"{ours} && tcp.flags.cwr == 1 && tcp.len > 0"), (
        "we say CWR"
    )
    assert tshark(serving.capture, "-Y", f"{ours} && tcp.flags.ece == 1 && tcp.flags.syn == 0")
