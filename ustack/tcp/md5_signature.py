"""TCP MD5 signatures (RFC 2385): whose key is which, the digest, the option.

Owns what is signed and how. Must not know where segments go: `transmit` signs those of a Tcb, the
stack those that belong to none. All is done by hand, segment for segment: no device cuts them.
"""

from dataclasses import replace
from functools import lru_cache
from hashlib import md5
from hmac import compare_digest
from ipaddress import ip_address, ip_network
from struct import Struct

from ustack.config import Md5Key, TcpConfig
from ustack.tcp.emit import Emit, Outgoing, passing
from ustack.tcp.tcb import Tcb
from ustack.wire import Buffer
from ustack.wire.ipv4 import TCP
from ustack.wire.tcp import ACK, HEADER_LEN, MAX_OPTIONS_LEN, encode
from ustack.wire.tcp_options import NOP, SIGNATURE, SIGNATURE_LEN, SIGNATURE_SIZE

CHECKSUM = 16  # where it stands in the header
PORTS = 4  # bytes at the end of a flow key

_PSEUDO_V4 = Struct("!BBH")
_PSEUDO_V6 = Struct("!II")
_LAYOUT = bytes((NOP, NOP, SIGNATURE, 2 + SIGNATURE_LEN))


def key_of(config: TcpConfig, flow: bytes) -> bytes | None:
    """The key that `config` has for the remote address of `flow`; None: nothing is signed."""
    if not config.md5_keys:
        return None
    return _longest_match(config.md5_keys, flow[: (len(flow) - PORTS) // 2])


def for_peer(config: TcpConfig, flow: bytes) -> TcpConfig:
    """`config` for a connection of a listener: of its keys it has that of its peer (Linux)."""
    key = key_of(config, flow)
    if not config.md5_keys:
        return config
    peer = str(ip_address(flow[: (len(flow) - PORTS) // 2]))
    return replace(config, md5_keys=() if key is None else (Md5Key(peer, key),))


@lru_cache(maxsize=1024)  # every SYN asks
def _longest_match(keys: tuple[Md5Key, ...], address: bytes) -> bytes | None:
    """Linux: the key of the longest prefix that the address has."""
    host = ip_address(address)
    found = [
        (network.prefixlen, key.key)
        for key in keys
        if host in (network := ip_network(key.peers, strict=False))
    ]
    return max(found, key=lambda each: each[0])[1] if found else None


def signature_size(tcb: Tcb) -> int:
    """What the digest takes of every segment, bytes."""
    return 0 if tcb.signature is None else SIGNATURE_SIZE


def options_room(tcb: Tcb) -> int:
    """What is left for other options, bytes."""
    return MAX_OPTIONS_LEN - signature_size(tcb)


def _digest(key: bytes, addresses: bytes, header: bytes, text: Buffer, length: int) -> bytes:
    """RFC 2385 §2.0: pseudo-header, header without options, text, key; `length`: of the segment."""
    if len(addresses) == 8:
        pseudo = _PSEUDO_V4.pack(0, TCP, length)
    else:
        pseudo = _PSEUDO_V6.pack(length, TCP)  # RFC 8200 §8.1
    signed = md5(addresses + pseudo + header, usedforsecurity=False)
    signed.update(text)
    signed.update(key)
    return signed.digest()


def is_right(key: bytes, flow: bytes, header: bytes, text: Buffer, digest: bytes) -> bool:
    """`digest` is that of the segment that arrived for `flow`: its whole header and its text."""
    middle = (len(flow) - PORTS) // 2
    fixed = header[:CHECKSUM] + bytes(2) + header[CHECKSUM + 2 : HEADER_LEN]
    expected = _digest(key, flow[: 2 * middle], fixed, text, len(header) + len(text))
    return compare_digest(expected, digest)


def signed(
    key: bytes | None,
    flow: bytes,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes,
    text: Buffer = b"",
    urgent: int = 0,
    *,
    last: bool = False,
) -> bytes:
    """`options` of a segment to the remote host of `flow`, behind its signature if there is a key.

    `seq` and `ack` are as on the wire. The options leave SIGNATURE_SIZE bytes of room. `last`: the
    signature comes behind them, as in what Linux sends without a connection.
    """
    if key is None:
        return options
    middle = (len(flow) - PORTS) // 2
    remote, local = int.from_bytes(flow[-4:-2], "big"), int.from_bytes(flow[-2:], "big")
    blank = bytes(SIGNATURE_SIZE + len(options))  # not signed, but counted in the offset
    header = encode(local, remote, seq, ack, flags, window, options=blank, urgent=urgent)
    addresses = flow[middle : 2 * middle] + flow[:middle]
    length = len(header) + len(text)
    signature = _LAYOUT + _digest(key, addresses, header[:HEADER_LEN], text, length)
    return options + signature if last else signature + options


def signing(tcb: Tcb, key: bytes, emit: Emit) -> Emit:
    """`emit` for a connection whose segments are signed."""

    def before(segment: Outgoing) -> Outgoing:
        seq, flags, window, options, payload, _, urgent, _ = segment
        ack = tcb.rcv.nxt & 0xFFFF_FFFF if flags & ACK else 0
        text = b"".join(payload)
        signature = signed(
            key, tcb.flow, seq & 0xFFFF_FFFF, ack, flags, window, options, text, urgent
        )
        return segment._replace(options=signature)

    return passing(emit, lambda segment: None, before)
