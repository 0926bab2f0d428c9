"""Does a packet that the stack sent agree with the line of the script (language §11)?

Both are `TcpPacket`s in script space here. Differences come back as words, none as an empty list.
Relaxations are switches; the ones that a packet needed are reported, never silent.
"""

from dataclasses import dataclass

from ustack.drill.icmp_names import names
from ustack.drill.notation import flags_text, ip_text, option_text, time_text
from ustack.drill.packets import LivePacket, icmp_lengths, quoted_length
from ustack.drill.script import IcmpPacket, IpInfo, TcpOption, TcpPacket, Timestamp, UdpPacket
from ustack.wire import ipv4
from ustack.wire.tcp import CWR, FIN, PSH, TcpHeader

RELAXATIONS = ("psh", "options", "window", "segments", "time")


@dataclass(slots=True, frozen=True)
class Window:
    """When a packet may have been sent, µs since the start of the test; tolerance included."""

    earliest_us: int
    latest_us: int

    def difference(self, sent_us: int) -> str | None:
        """What is wrong with the time `sent_us`, or None."""
        if self.earliest_us <= sent_us <= self.latest_us:
            return None
        return (
            f"time: sent at {time_text(sent_us)}, expected "
            f"{time_text(max(0, self.earliest_us))} to {time_text(self.latest_us)}"
        )


@dataclass(slots=True, frozen=True)
class StampCheck:
    """How closely TS val is compared: one tick is `tick_us`, the tolerance is in µs."""

    tick_us: int
    tolerance_us: float


def compare(
    expected: TcpPacket,
    actual: TcpPacket,
    stamps: StampCheck | None = None,
    relaxed: frozenset[str] = frozenset(),
) -> list[str]:
    """What differs between the written packet and the one sent, in the order of the header."""
    found: list[str] = []
    compare_ip(expected.ip, actual.ip, found)
    ignored = PSH if "psh" in relaxed else 0
    if (expected.flags ^ actual.flags) & ~ignored:
        ace = expected.ace is not None
        written = flags_text(expected.flags, ace)
        found.append(f"flags: expected {written}, actual {flags_text(actual.flags, ace)}")
    if expected.seq is not None:
        _compare_number("sequence number", expected.seq, actual.seq, found)
    _compare_number("payload length", expected.length, actual.length, found)
    _compare_number("ack", expected.ack, actual.ack, found)
    if expected.window is not None and "window" not in relaxed:
        _compare_number("win", expected.window, actual.window, found)
    _compare_number("urg", expected.urgent, actual.urgent, found)
    _compare_tunnel(expected.udp_ports, actual.udp_ports, found)
    if expected.options is not None:
        _compare_options(expected.options, actual.options or (), stamps, relaxed, found)
    return found


def _compare_number(name: str, expected: int, actual: int | None, found: list[str]) -> None:
    if expected != actual:
        found.append(f"{name}: expected {expected}, actual {actual}")


def _compare_tunnel(
    expected: tuple[int, int] | None, actual: tuple[int, int] | None, found: list[str]
) -> None:
    """The ports of the UDP header around TCP; 0 is any."""
    if expected is not None and actual is not None:
        if all(one in (0, other) for one, other in zip(expected, actual, strict=True)):
            return
    if expected != actual:
        wanted, seen = (
            f"/udp({ports[0]} > {ports[1]})" if ports else "none" for ports in (expected, actual)
        )
        found.append(f"UDP encapsulation: expected {wanted}, actual {seen}")


def compare_ip(expected: IpInfo, actual: IpInfo, found: list[str]) -> None:
    """Adds what differs in the fields that the script writes."""
    ecn_right = (
        expected.ecn is None
        or expected.ecn == actual.ecn
        or (expected.ecn == "ect01" and actual.ecn in ("ect0", "ect1"))
    )
    # A written TTL of 255 counts as not written (language §8).
    ttl_right = expected.ttl in (None, 255, actual.ttl)
    tos_right = expected.tos in (None, actual.tos)
    label_right = expected.flow_label in (None, actual.flow_label)
    if not (ecn_right and ttl_right and tos_right and label_right):
        found.append(f"IP header: expected {ip_text(expected)}, actual {ip_text(actual)}")


def _compare_options(
    expected: tuple[TcpOption, ...],
    actual: tuple[TcpOption, ...],
    stamps: StampCheck | None,
    relaxed: frozenset[str],
    found: list[str],
) -> None:
    written = [_comparable(option) for option in expected]
    seen = [_comparable(option) for option in actual]
    if "options" in relaxed:
        padding = ("nop", "eol")
        written = sorted(option for option in written if option not in padding)
        seen = sorted(option for option in seen if option not in padding)
    if written != seen:
        found.append(f"options: expected {_options_text(expected)}, actual {_options_text(actual)}")
        return
    if stamps is None:
        return
    for one, other in zip(expected, actual, strict=False):
        if isinstance(one, Timestamp) and isinstance(other, Timestamp):
            if one.val is not None and other.val is not None:
                if abs(one.val - other.val) * stamps.tick_us > stamps.tolerance_us:
                    found.append(f"TS val: expected {one.val}, actual {other.val}")


def _comparable(option: TcpOption) -> str:
    """The option as far as it is compared exactly: of a timestamp only that it is there."""
    return "TS" if isinstance(option, Timestamp) else option_text(option)


def _options_text(options: tuple[TcpOption, ...]) -> str:
    return f"<{','.join(option_text(option) for option in options)}>" if options else "no options"


def compare_live(live: LivePacket, expect_ipv6: bool) -> list[str]:
    """What is wrong with the IP part of a packet whatever the script says."""
    found: list[str] = []
    if live.is_ipv6 != expect_ipv6:
        found.append(f"IP version: expected {6 if expect_ipv6 else 4}")
    if live.ip_header_length != (40 if live.is_ipv6 else 20):
        found.append(f"IP header length: {live.ip_header_length} (there are options)")
    if live.protocol in (ipv4.TCP, ipv4.UDP) and live.payload.strip(b"\0"):
        found.append("payload: not all zeros")
    return found


def compare_datagram(expected: UdpPacket, live: LivePacket) -> list[str]:
    """What differs between the written datagram and the one sent."""
    found: list[str] = []
    _compare_number("payload length", expected.length, len(live.payload), found)
    return found


def compare_icmp(expected: IcmpPacket, live: LivePacket) -> list[str]:
    """What differs between the written ICMP message and the one sent.

    Its length is that of the quotation. A stack may quote more than eight bytes (RFC 1812
    §4.3.2.3), so a longer message is right if what it quotes is a packet of the written length.
    """
    kind, code = live.payload[0], live.payload[1]
    found: list[str] = []
    if (kind, code) != (expected.type, expected.code):
        wanted = names(expected.type, expected.code, live.is_ipv6)
        found.append(f"type and code: expected {wanted}, actual {names(kind, code, live.is_ipv6)}")
        return found
    length, quotation = icmp_lengths(expected, live.is_ipv6)
    if length is not None and length != len(live.payload):
        if quotation is None or quotation != quoted_length(live):
            _compare_number("ICMP length", length, len(live.payload), found)
    return found


def joins(previous: LivePacket, following: LivePacket, last: bool, relaxed: frozenset[str]) -> bool:
    """Whether two packets can be pieces of one line (language §11.3); `last`: no piece follows."""
    one, other = previous.header, following.header
    assert one is not None and other is not None
    same_length = len(following.payload) == len(previous.payload)
    return (
        _fixed_fields(previous, one) == _fixed_fields(following, other)
        and other.seq == (one.seq + len(previous.payload)) & 0xFFFF_FFFF
        and (last or same_length or "segments" in relaxed)
    )


def _fixed_fields(live: LivePacket, header: TcpHeader) -> tuple[object, ...]:
    """What is the same in all pieces: all but FIN, PSH and CWR, the options and the numbers."""
    flags = header.flags & ~(FIN | PSH | CWR)
    return (
        live.is_ipv6,
        live.ip_header_length,
        live.ttl,
        header.data_offset,
        flags,
        header.ack,
        header.window,
        header.urgent,
    )
