"""Packets and times in the notation of a script, for reports: what the parser reads back."""

from ustack.drill.icmp_names import names
from ustack.drill.script import (
    ACE_FLAGS,
    ACE_SHIFT,
    AccEcn,
    EndOfOptions,
    FastOpen,
    IcmpPacket,
    IpInfo,
    Md5,
    Mss,
    Nop,
    Packet,
    Quoted,
    RawOption,
    Sack,
    SackPermitted,
    TcpOption,
    TcpPacket,
    Timestamp,
    UdpPacket,
    WindowScale,
)
from ustack.wire.tcp import ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, URG

# tcpdump's order, with ACK last as the language wants it
_LETTERS = (
    (FIN, "F"),
    (SYN, "S"),
    (RST, "R"),
    (PSH, "P"),
    (URG, "U"),
    (ECE, "E"),
    (CWR, "W"),
    (AE, "A"),
)


def time_text(time_us: int) -> str:
    """Seconds with six digits."""
    return f"{time_us // 1_000_000}.{time_us % 1_000_000:06d}"


def packet_text(packet: Packet, inbound: bool, ipv6: bool) -> str:
    """One line, without a time."""
    parts = ["<" if inbound else ">"]
    if packet.ip != IpInfo():
        parts.append(f"[{ip_text(packet.ip)}]")
    match packet:
        case TcpPacket():
            parts.append(tcp_text(packet))
        case UdpPacket():
            ports = f"{packet.ports[0]} > {packet.ports[1]} " if packet.ports else ""
            parts.append(f"udp {ports}({packet.length})")
        case IcmpPacket():
            parts.append(_icmp_text(packet, ipv6))
    return " ".join(parts)


def ip_text(ip: IpInfo) -> str:
    """The written fields of the IP header."""
    fields = [ip.ecn] if ip.ecn else []
    if ip.tos is not None:
        fields.append(f"tos {ip.tos:#04x}")
    if ip.ttl is not None:
        fields.append(f"ttl {ip.ttl}")
    if ip.flow_label is not None:
        fields.append(f"flowlabel {ip.flow_label:#x}")
    return ",".join(fields)


def tcp_text(packet: TcpPacket) -> str:
    """Everything from the ports on."""
    parts = [f"{packet.ports[0]} > {packet.ports[1]}"] if packet.ports else []
    parts.append(flags_text(packet.flags, packet.ace is not None))
    if packet.seq is None:
        parts.append(f"...({packet.length})")
    else:
        end = (packet.seq + packet.length) & 0xFFFF_FFFF
        parts.append(f"{packet.seq}:{end}({packet.length}){'!' if packet.absolute else ''}")
    if packet.flags & ACK or packet.ack:
        parts.append(f"ack {packet.ack}{'!' if packet.ack_absolute else ''}")
    if packet.window is not None:
        parts.append(f"win {packet.window}")
    if packet.urgent:
        parts.append(f"urg {packet.urgent}")
    if packet.options is None:
        parts.append("<...>")
    elif packet.options:
        parts.append(f"<{','.join(option_text(option) for option in packet.options)}>")
    if packet.udp_ports:
        parts.append(f"/udp({packet.udp_ports[0]} > {packet.udp_ports[1]})")
    return " ".join(parts)


def flags_text(flags: int, ace: bool = False) -> str:
    """The flags as letters; with `ace`, ECE, CWR and AE as the digit of the AccECN counter."""
    digit = ""
    if ace:
        digit = str((flags & ACE_FLAGS) >> ACE_SHIFT)
        flags &= ~ACE_FLAGS
    letters = "".join(letter for bit, letter in _LETTERS if flags & bit)
    if digit and not flags & ACK:
        return letters + digit
    return (letters + ("." if flags & ACK else "") + digit) or "-"


def option_text(option: TcpOption) -> str:
    """One TCP option."""
    match option:
        case Nop():
            return "nop"
        case EndOfOptions():
            return "eol"
        case Mss(value):
            return f"mss {value}"
        case WindowScale(shift):
            return f"wscale {shift}"
        case SackPermitted():
            return "sackOK"
        case Sack(blocks):
            return "sack " + " ".join(f"{left}:{right}" for left, right in blocks)
        case Timestamp(val, ecr, absolute):
            val_text = "..." if val is None else str(val)
            ecr_text = "..." if ecr is None else f"{ecr}{'!' if absolute else ''}"
            return f"TS val {val_text} ecr {ecr_text}"
        case FastOpen(cookie, experimental):
            return f"{'FOEXP' if experimental else 'FO'} {cookie.hex()}".rstrip()
        case Md5(_, True):
            return "md5 valid"
        case Md5(digest):
            return f"md5 {digest.hex()}".rstrip()
        case AccEcn(kind, counters):
            order = ("e0b", "ceb", "e1b") if kind == 172 else ("e1b", "ceb", "e0b")
            pairs = zip(order, counters, strict=False)
            return "ECN " + " ".join(f"{name} {value}" for name, value in pairs)
        case RawOption(kind, data):
            return f"gen {kind} {data.hex()}".rstrip()


def _icmp_text(packet: IcmpPacket, ipv6: bool) -> str:
    text = f"icmp {names(packet.type, packet.code, ipv6)}"
    if packet.mtu is not None:
        text += f" mtu {packet.mtu}"
    if packet.identifier is not None:
        text += f" id {packet.identifier}"
    if packet.quoted is not Quoted.TCP:
        return f"{text} [{packet.quoted.value}({packet.length})]"
    if packet.seq or packet.length:
        end = (packet.seq + packet.length) & 0xFFFF_FFFF
        text += f" [{packet.seq}:{end}({packet.length})]"
    return text
