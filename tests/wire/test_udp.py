import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import UDP

from ustack.errors import MalformedPacket
from ustack.wire import udp

EXAMPLES = settings(derandomize=True, max_examples=50, deadline=None)
WORDS = st.integers(0, 0xFFFF)


@EXAMPLES
@given(WORDS, WORDS, WORDS, st.binary(max_size=20))
def test_scapy_and_we_agree_both_ways(src: int, dst: int, field: int, payload: bytes) -> None:
    wire = udp.encode(src, dst, len(payload), field) + payload
    assert wire == bytes(UDP(sport=src, dport=dst, chksum=field) / payload)
    header = udp.decode(memoryview(b"12" + wire + b"3"), 2, 2 + len(wire))
    assert header == (src, dst, 8 + len(payload), field)


@pytest.mark.parametrize("length", [0, 7, 13])
def test_a_length_outside_the_datagram_is_malformed(length: int) -> None:
    wire = udp.HEADER.pack(1, 2, length, 0) + b"data"
    with pytest.raises(MalformedPacket, match="udp-length"):
        udp.decode(wire, 0, len(wire))


def test_a_cut_header_is_truncated() -> None:
    for end in range(8):
        with pytest.raises(MalformedPacket, match="udp-truncated"):
            udp.decode(bytes(12), 0, end)
    with pytest.raises(MalformedPacket, match="udp-truncated"):
        udp.decode(bytes(12), 0, 13)
