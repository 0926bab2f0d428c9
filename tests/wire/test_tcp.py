import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from ustack.errors import MalformedPacket
from ustack.wire import tcp

EXAMPLES = settings(derandomize=True, max_examples=150, deadline=None)
WORDS = st.integers(0, 0xFFFF)
LONGS = st.integers(0, 0xFFFF_FFFF)

# A SYN of Linux with MSS, SACK permitted, timestamps, window scale
LINUX_SYN = bytes.fromhex(
    "b5c2 0050 6b4e1f2a 00000000 a002 faf0 1234 0000020405b4 0402 080a 00c0ffee 00000000 01 030307"
)


def reason(data: bytes, start: int, end: int) -> str:
    with pytest.raises(MalformedPacket) as caught:
        tcp.decode(data, start, end)
    return caught.value.reason


def test_a_linux_syn_decodes_and_encodes() -> None:
    header = tcp.decode(LINUX_SYN, 0, len(LINUX_SYN))
    assert header == tcp.TcpHeader(
        src_port=46530,
        dst_port=80,
        seq=0x6B4E1F2A,
        ack=0,
        data_offset=40,
        flags=tcp.SYN,
        window=64240,
        checksum=0x1234,
        urgent=0,
    )
    options = LINUX_SYN[20:]
    encoded = tcp.encode(46530, 80, 0x6B4E1F2A, 0, tcp.SYN, 64240, options=options, checksum=0x1234)
    assert encoded == LINUX_SYN


@EXAMPLES
@given(
    ports=st.tuples(WORDS, WORDS),
    seq=LONGS,
    ack=LONGS,
    flags=st.integers(0, 0x1FF),
    window=WORDS,
    checksum=WORDS,
    urgent=WORDS,
    words=st.integers(0, 10),
    payload=st.binary(max_size=20),
    before=st.integers(0, 5),
)
def test_scapy_and_we_agree_both_ways(
    ports: tuple[int, int], seq: int, ack: int, flags: int, window: int, checksum: int,
    urgent: int, words: int, payload: bytes, before: int,
) -> None:  # fmt: skip
    nops = b"\x01\x01\x01\x01" * words
    src, dst = ports
    wire = tcp.encode(
        src, dst, seq, ack, flags, window, options=nops, checksum=checksum, urgent=urgent
    )
    wire += payload
    theirs = TCP(
        sport=src, dport=dst, seq=seq, ack=ack, flags=flags, window=window, chksum=checksum,
        urgptr=urgent, options=[("NOP", None)] * 4 * words,
    )  # fmt: skip
    assert bytes(theirs / payload) == wire
    header = tcp.decode(memoryview(bytes(before) + wire + b"tail"), before, before + len(wire))
    assert header == (src, dst, seq, ack, 20 + 4 * words, flags, window, checksum, urgent)
    parsed = TCP(wire)
    assert (int(parsed.flags), parsed.seq, parsed.ack, parsed.dataofs) == (
        flags, seq, ack, 5 + words,
    )  # fmt: skip


def test_a_segment_cut_in_its_header_is_malformed() -> None:
    for end in range(20):
        assert reason(LINUX_SYN, 0, end) == "tcp-truncated"
    for end in range(20, 40):
        assert reason(LINUX_SYN, 0, end) == "tcp-data-offset"
    assert reason(LINUX_SYN, 0, 41) == "tcp-truncated"


@pytest.mark.parametrize("words", range(5))
def test_a_data_offset_inside_the_fixed_header_is_malformed(words: int) -> None:
    assert reason(LINUX_SYN[:12] + bytes((words << 4,)) + LINUX_SYN[13:], 0, 40) == (
        "tcp-data-offset"
    )


def test_the_reserved_bits_are_ignored() -> None:
    assert tcp.decode(LINUX_SYN[:12] + b"\xae" + LINUX_SYN[13:], 0, 40).flags == tcp.SYN


@EXAMPLES
@given(st.binary(max_size=70), st.integers(0, 70), st.integers(0, 80))
def test_random_bytes_raise_nothing_but_malformed_packet(data: bytes, start: int, end: int) -> None:
    try:
        header = tcp.decode(data, start, end)
    except MalformedPacket:
        return
    assert start + 20 <= start + header.data_offset <= end


@pytest.mark.parametrize(
    "flags, text",
    [
        (tcp.SYN, "S"),
        (tcp.SYN | tcp.ACK, "S."),
        (tcp.ACK, "."),
        (tcp.FIN | tcp.ACK, "F."),
        (tcp.PSH | tcp.ACK, "P."),
        (tcp.RST, "R"),
        (tcp.RST | tcp.ACK, "R."),
        (tcp.FIN | tcp.PSH | tcp.ACK | tcp.URG, "FP.U"),
        (tcp.SYN | tcp.ECE | tcp.CWR | tcp.AE, "SEWe"),
        (0, "none"),
    ],
)
def test_flags_read_as_in_tcpdump(flags: int, text: str) -> None:
    assert tcp.flags_text(flags) == text
