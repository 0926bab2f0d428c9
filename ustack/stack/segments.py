"""What an arriving segment needs before SEGMENT ARRIVES, wherever in a frame it lies."""

from ustack.errors import MalformedPacket
from ustack.tcp.segment import Segment
from ustack.tcp.seq import unwrap
from ustack.tcp.tcb import Tcb
from ustack.wire.checksum import ones_sum
from ustack.wire.tcp import SYN
from ustack.wire.tcp_options import decode_options

TCP = 6  # IP protocol number


def verify_checksum(frame: bytes, at: int, end: int, key: bytes) -> None:
    """The device has not vouched for the TCP checksum (MUST-3)."""
    addresses = int.from_bytes(key[:-4], "big")
    total = addresses + TCP + end - at + ones_sum(memoryview(frame)[at:end])
    if total % 65535:
        raise MalformedPacket("tcp-checksum")


def read_options(
    seg: Segment, frame: bytes, start: int, end: int, tcb: Tcb | None, known: bool = True
) -> None:
    """What the options of `seg`, frame[start:end], say is put into it.

    `known`: there is a connection or a listener. Linux: without a key of ours, a segment
    with a digest is not for us, whether it is genuine or not (RFC 2385, RFC 5925 §7.3)."""
    options = decode_options(frame, start, end)
    if options.signed and known:
        raise MalformedPacket("tcp-signature-unexpected")
    seg.tsval = options.tsval
    if options.tsecr is not None:
        seg.tsecr = options.tsecr
    if seg.flags & SYN or options.acc_ecn is not None:
        seg.options = options
    if options.sack and tcb is not None:
        una = tcb.snd.una
        seg.sack = tuple((unwrap(a, una), unwrap(b, una)) for a, b in options.sack)
