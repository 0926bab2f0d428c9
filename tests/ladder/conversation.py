"""TCP conversations made with scapy, as records of a capture: what the ladder must understand."""

from dataclasses import dataclass, field

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from ustack.pcapng import LINK_RAW, Record

ISN = (0xFFFF_FF00, 0xFFFF_FFF0)  # both directions cross the wrap
PORTS = (40112, 80)
IPV4 = ("10.9.0.1", "10.9.0.2")
IPV6 = ("fd00:9::1", "fd00:9::2")
SYN_OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("NOP", None), ("WScale", 7)]


@dataclass(slots=True)
class Conversation:
    """Adds packets in order, 1 ms apart unless told otherwise. Side 0 opens; numbers relative."""

    addresses: tuple[str, str] = IPV4
    isn: tuple[int, int] = ISN
    time_ns: int = 0
    records: list[Record] = field(default_factory=list)

    def send(
        self,
        side: int,
        flags: str,
        seq: int,
        ack: int = 0,
        *,
        length: int = 0,
        window: int = 500,
        options: list[tuple[str, object]] | None = None,
        comment: str = "",
        after_ns: int = 1_000_000,
        ecn: int = 0,
    ) -> None:
        self.time_ns += after_ns
        ip = IPv6 if ":" in self.addresses[0] else IP
        packet = ip(src=self.addresses[side], dst=self.addresses[1 - side]) / TCP(
            sport=PORTS[side],
            dport=PORTS[1 - side],
            flags=flags,
            seq=(self.isn[side] + seq) % 2**32,
            ack=(self.isn[1 - side] + ack) % 2**32 if "A" in flags else 0,
            window=window,
            options=options or [],
        )
        setattr(packet, "tc" if ip is IPv6 else "tos", ecn)
        data = bytes(packet / bytes(length))
        self.records.append(
            Record(self.time_ns, data, LINK_RAW, comment, original_length=len(data))
        )

    def open(self) -> None:
        """The three steps; both windows are scaled by 2**7."""
        self.send(0, "S", 0, options=SYN_OPTIONS)
        self.send(1, "SA", 0, 1, options=SYN_OPTIONS)
        self.send(0, "A", 1, 1)

    def close(self, sent: int, received: int) -> None:
        """The four steps, side 0 first, after so many bytes each way."""
        self.send(0, "FA", 1 + sent, 1 + received)
        self.send(1, "A", 1 + received, 2 + sent)
        self.send(1, "FA", 1 + received, 2 + sent)
        self.send(0, "A", 2 + sent, 2 + received)
