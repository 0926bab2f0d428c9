"""A SYN flood: third parties that never complete a handshake."""

import random
from collections.abc import Iterator
from ipaddress import ip_address

from ustack.wire import ipv4, ipv6, tcp
from ustack.wire.checksum import checksum, pseudo_sum
from ustack.wire.tcp import ACK, RST, SYN
from ustack.wire.tcp_options import encode_options
from ustack.wire.virtio import PLAIN

STRANGERS_ANSWER_US = 300_000
NETWORKS = {4: int(ip_address("198.51.100.0")), 6: int(ip_address("2001:db8::"))}


def strangers(family: int, to: str, port: int, count: int, seed: int) -> Iterator[list[bytes]]:
    """`count` times the frames of one stranger: a SYN, and what it may send later."""
    rng = random.Random(f"strangers {seed}")
    target = ip_address(to).packed
    for _ in range(count):
        host = (NETWORKS[family] + rng.randrange(1, 255)).to_bytes(len(target), "big")
        ports, isn = (rng.randrange(1024, 65536), port), rng.getrandbits(32)
        offered = encode_options(
            mss=rng.choice((None, 536, 1460)),
            wscale=rng.choice((None, 7)),
            sack_permitted=rng.random() < 0.5,
            tsval=rng.choice((None, 1)),
        )
        frames = [frame(host, target, ports, isn, 0, SYN, offered)]
        after = (isn + 1) % (1 << 32)
        answer = rng.random()
        if answer < 0.2:  # it did not ask for anything: RFC 9293 §3.5.2
            frames.append(frame(host, target, ports, after, 0, RST))
        elif answer < 0.4:  # a guess
            frames.append(frame(host, target, ports, after, rng.getrandbits(32), ACK))
        yield frames


def frame(
    src: bytes,
    dst: bytes,
    ports: tuple[int, int],
    seq: int,
    ack: int,
    flags: int,
    options: bytes = b"",
) -> bytes:
    """A segment without text."""
    head = tcp.encode(*ports, seq, ack, flags, 65535, options=options)
    pseudo = pseudo_sum(src, dst, ipv4.TCP, len(head))
    field = checksum(pseudo.to_bytes(2, "big"), head).to_bytes(2, "big")
    at = tcp.CHECKSUM_OFFSET
    segment = head[:at] + field + head[at + 2 :]
    encode = ipv4.encode if len(src) == 4 else ipv6.encode
    return PLAIN + encode(src, dst, ipv4.TCP, len(segment)) + segment
