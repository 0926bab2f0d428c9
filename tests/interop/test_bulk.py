"""64 MiB each way arrive as they were sent, whatever the device and the path do."""

import random
from hashlib import sha256

import pytest

from tests.interop.kernel_side import connect, digest_of_rest, sending
from tests.interop.serving import ECHO, Serve

pytestmark = pytest.mark.interop

SIZE = 64 << 20


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(9293).randbytes(SIZE)


def check_echo(address: str, data: bytes) -> None:
    with connect(address, ECHO) as connection, sending(connection, data):
        assert digest_of_rest(connection) == (len(data), sha256(data).hexdigest())


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "no-offload"])
def test_64_mib_come_back_from_the_echo_intact(
    serve: Serve, data: bytes, offload: bool, family: str
) -> None:
    with serve(offload=offload) as serving:
        check_echo(serving.address(family), data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "offload,family",
    [(True, "ipv4"), (False, "ipv6")],
    ids=["offload-ipv4", "no-offload-ipv6"],
)
def test_64_mib_come_back_intact_at_two_percent_loss_and_reordering(
    serve: Serve, data: bytes, offload: bool, family: str
) -> None:
    with serve("--impair", "loss=2%,reorder=2%,seed=7", offload=offload) as serving:
        check_echo(serving.address(family), data)
