"""What an arriving segment needs before SEGMENT ARRIVES, wherever in a frame it lies."""

from typing import NamedTuple

from ustack.errors import MalformedPacket
from ustack.tcp.md5_signature import is_right
from ustack.tcp.segment import Segment
from ustack.tcp.seq import unwrap
from ustack.tcp.tcb import Tcb
from ustack.wire.checksum import ones_sum
from ustack.wire.ipv4 import TCP
from ustack.wire.tcp import HEADER_LEN, SYN
from ustack.wire.tcp_options import Options, decode_options


def verify_checksum(frame: bytes, at: int, end: int, key: bytes) -> None:
    """The device has not vouched for the TCP checksum (MUST-3)."""
    addresses = int.from_bytes(key[:-4], "big")
    total = addresses + TCP + end - at + ones_sum(memoryview(frame)[at:end])
    if total % 65535:
        raise MalformedPacket("tcp-checksum")


class Checked(NamedTuple):
    """For whom a segment is, as far as its signature matters, and his key."""

    flow: bytes
    key: bytes | None


def read_options(
    seg: Segment,
    frame: bytes,
    start: int,
    end: int,
    tcb: Tcb | None,
    checked: Checked | None = None,
) -> None:
    """What the options of `seg`, frame[start:end], say is put into it.

    `checked` None: without `tcb`, nobody minds the signature. MalformedPacket where it is wrong,
    missing, or there without a key (RFC 2385 §2.0; Linux tcp_inbound_hash())."""
    options = decode_options(frame, start, end)
    if tcb is not None and (options.signed or tcb.signature is not None):
        checked = Checked(tcb.flow, tcb.signature)
    if checked is not None:
        _check_signature(seg, frame[start - HEADER_LEN : end], options, checked)
    seg.tsval = options.tsval
    if options.tsecr is not None:
        seg.tsecr = options.tsecr
    if seg.flags & SYN or options.acc_ecn is not None:
        seg.options = options
    if options.sack and tcb is not None:
        una = tcb.snd.una
        seg.sack = tuple((unwrap(a, una), unwrap(b, una)) for a, b in options.sack)


def _check_signature(seg: Segment, header: bytes, options: Options, checked: Checked) -> None:
    if options.signature == b"":
        raise MalformedPacket("tcp-signature-twice")
    if checked.key is None:
        if options.signed:
            raise MalformedPacket("tcp-signature-unexpected")
    elif options.signature is None:
        raise MalformedPacket("tcp-signature-missing")
    elif not is_right(checked.key, checked.flow, header, seg.payload, options.signature):
        raise MalformedPacket("tcp-signature-wrong")
