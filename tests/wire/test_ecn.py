"""The ECN field, beside scapy's view of the packet."""

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from ustack.wire import ipv4, ipv6
from ustack.wire.ecn import ecn_field, set_ecn_bits

EXAMPLES = settings(derandomize=True, max_examples=200, deadline=None)


@EXAMPLES
@given(
    addresses=st.binary(min_size=8, max_size=8),
    dscp=st.integers(0, 63),
    before=st.integers(0, 3),
    bits=st.integers(0, 3),
    ident=st.integers(0, 0xFFFF),
)
def test_bits_are_set_in_ipv4_and_its_checksum_stays_right(
    addresses: bytes, dscp: int, before: int, bits: int, ident: int
) -> None:
    head = ipv4.encode(addresses[:4], addresses[4:], 6, 0, dscp=dscp, ecn=before, ident=ident)
    data = bytearray(b"front" + head)
    set_ecn_bits(data, 5, bits)
    theirs = IP(bytes(data[5:]))
    assert theirs.tos == dscp << 2 | before | bits
    assert ecn_field(data, 5) == before | bits
    computed = IP(bytes(data[5:]))
    del computed.chksum
    assert IP(bytes(computed)).chksum == theirs.chksum


@EXAMPLES
@given(
    dscp=st.integers(0, 63),
    before=st.integers(0, 3),
    bits=st.integers(0, 3),
    label=st.integers(0, 0xFFFFF),
)
def test_bits_are_set_in_ipv6_and_nothing_else(
    dscp: int, before: int, bits: int, label: int
) -> None:
    head = ipv6.encode(bytes(16), bytes(16), 6, 0, dscp=dscp, ecn=before, flow_label=label)
    data = bytearray(head)
    set_ecn_bits(data, 0, bits)
    theirs = IPv6(bytes(data))
    assert (theirs.version, theirs.tc, theirs.fl) == (6, dscp << 2 | before | bits, label)
    assert ecn_field(data, 0) == before | bits
    assert data[2:] == head[2:]
