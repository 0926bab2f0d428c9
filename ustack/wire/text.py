"""A packet as one line, close to tcpdump's words. For tests, tools and probes.

Owns the wording. Must not fail: what cannot be decoded is named in the line.
"""

import ipaddress

from ustack.errors import MalformedPacket
from ustack.wire import icmp, ipv4, ipv6, tcp, udp
from ustack.wire.checksum import fold, ones_sum, pseudo_sum
from ustack.wire.tcp_options import ACC_ECN_ORDER_0, Options, decode_options
from ustack.wire.virtio import DATA_VALID, GSO_NONE, HEADER, HEADER_LEN, NEEDS_CSUM

_ICMP_V4 = {
    icmp.V4_ECHO_REPLY: "echo reply",
    icmp.V4_UNREACHABLE: "unreachable",
    icmp.V4_SOURCE_QUENCH: "source quench",
    icmp.V4_REDIRECT: "redirect",
    icmp.V4_ECHO_REQUEST: "echo request",
    icmp.V4_TIME_EXCEEDED: "time exceeded",
    icmp.V4_PARAMETER_PROBLEM: "parameter problem",
}
_ICMP_V6 = {
    icmp.V6_UNREACHABLE: "unreachable",
    icmp.V6_PACKET_TOO_BIG: "packet too big",
    icmp.V6_TIME_EXCEEDED: "time exceeded",
    icmp.V6_PARAMETER_PROBLEM: "parameter problem",
    icmp.V6_ECHO_REQUEST: "echo request",
    icmp.V6_ECHO_REPLY: "echo reply",
}
_ECHOES_V4 = (icmp.V4_ECHO_REPLY, icmp.V4_ECHO_REQUEST)
_ECHOES_V6 = (icmp.V6_ECHO_REQUEST, icmp.V6_ECHO_REPLY)
_MARKS = ("", ", ECT(1)", ", ECT(0)", ", CE")  # RFC 3168 §5, Figure 1
_PORT_PROTOCOLS = (ipv4.TCP, ipv4.UDP)


def describe(frame: bytes) -> str:
    """One line about the packet in `frame` (virtio header first). Never raises."""
    try:
        if len(frame) <= HEADER_LEN:
            raise MalformedPacket("frame-truncated")
        flags, gso_type, _, gso_size, _, _ = HEADER.unpack_from(frame)
        verify = not flags & (NEEDS_CSUM | DATA_VALID)
        packet = frame[HEADER_LEN:]
        version = packet[0] >> 4
        if version == 4:
            line = _describe_v4(packet, verify)
        elif version == 6:
            line = _describe_v6(packet, verify)
        else:
            raise MalformedPacket("ip-version")
    except MalformedPacket as malformed:
        return f"malformed: {malformed.reason}"
    return line if gso_type == GSO_NONE else f"{line}, gso {gso_size}"


def _describe_v4(packet: bytes, verify: bool) -> str:
    ip = ipv4.decode(packet, 0)
    payload = packet[ip.header_len : ip.total_length]
    if ip.fragment_offset or ip.more_fragments:
        return (
            "IP "
            + _fragment(ip.src, ip.dst, ip.protocol, ip.ident, ip.fragment_offset)
            + (f", length {len(payload)}" + (", more" if ip.more_fragments else ""))
        )
    return "IP " + _payload(ip.src, ip.dst, ip.protocol, payload, verify) + _MARKS[ip.ecn]


def _describe_v6(packet: bytes, verify: bool) -> str:
    ip = ipv6.decode(packet, 0)
    payload = packet[ip.payload_offset : ip.end]
    if ip.problem:
        where = f"{ipaddress.IPv6Address(ip.src)} > {ipaddress.IPv6Address(ip.dst)}"
        return f"IP6 {where}: header problem, code {ip.problem.code}, at {ip.problem.pointer}"
    if ip.fragment:
        offset, more, ident = ip.fragment
        return (
            "IP6 "
            + _fragment(ip.src, ip.dst, ip.protocol, ident, offset)
            + (f", length {len(payload)}" + (", more" if more else ""))
        )
    return "IP6 " + _payload(ip.src, ip.dst, ip.protocol, payload, verify) + _MARKS[ip.ecn]


def _payload(src: bytes, dst: bytes, protocol: int, payload: bytes, verify: bool) -> str:
    """Addresses and what the packet carries; the version is told by the addresses."""
    try:
        if protocol == ipv4.TCP:
            return _describe_tcp(src, dst, payload, verify)
        if protocol == ipv4.UDP:
            return _describe_udp(src, dst, payload, verify)
        if protocol == ipv4.ICMP and len(src) == 4:
            return f"{_hosts(src, dst)}: ICMP " + _describe_icmp(
                icmp.decode_v4(payload), 4, _ICMP_V4, _ECHOES_V4
            )
        if protocol == ipv6.ICMPV6 and len(src) == 16:
            return f"{_hosts(src, dst)}: ICMP6 " + _describe_icmp(
                icmp.decode_v6(payload, src, dst), 6, _ICMP_V6, _ECHOES_V6
            )
    except MalformedPacket as malformed:
        return f"{_hosts(src, dst)}: malformed: {malformed.reason}"
    return f"{_hosts(src, dst)}: protocol {protocol}, length {len(payload)}"


def _describe_tcp(src: bytes, dst: bytes, segment: bytes, verify: bool) -> str:
    header = tcp.decode(segment, 0, len(segment))
    options = decode_options(segment, tcp.HEADER_LEN, header.data_offset)
    length = len(segment) - header.data_offset
    hosts = _hosts(src, dst, header.src_port, header.dst_port)
    words = [f"{hosts}: Flags [{tcp.flags_text(header.flags)}]"]
    if verify and not _checksum_is_right(src, dst, ipv4.TCP, segment):
        words.append("bad checksum")
    if length:
        words.append(f"seq {header.seq}:{(header.seq + length) & 0xFFFF_FFFF}")
    elif header.flags & (tcp.SYN | tcp.FIN | tcp.RST):
        words.append(f"seq {header.seq}")
    if header.flags & tcp.ACK:
        words.append(f"ack {header.ack}")
    words.append(f"win {header.window}")
    if header.flags & tcp.URG:
        words.append(f"urg {header.urgent}")
    if header.data_offset > tcp.HEADER_LEN:
        words.append(f"options [{options_text(options)}]")
    words.append(f"length {length}")
    return ", ".join(words)


def options_text(options: Options) -> str:
    """The options as tcpdump names them, in a fixed order, without padding."""
    words = []
    if options.mss is not None:
        words.append(f"mss {options.mss}")
    if options.sack_permitted:
        words.append("sackOK")
    if options.tsval is not None:
        words.append(f"TS val {options.tsval} ecr {options.tsecr}")
    if options.wscale is not None:
        words.append(f"wscale {options.wscale}")
    if options.sack:
        blocks = "".join(f"{{{left}:{right}}}" for left, right in options.sack)
        words.append(f"sack {len(options.sack)} {blocks}")
    if options.fast_open is not None:
        words.append(f"tfo cookie {options.fast_open.hex()}" if options.fast_open else "tfo req")
    if options.user_timeout is not None:
        words.append(f"uto {options.user_timeout} s")
    if options.acc_ecn is not None:
        names = ("e0b", "ceb", "e1b")[:: 1 if options.acc_ecn.kind == ACC_ECN_ORDER_0 else -1]
        fields = zip(names, options.acc_ecn.counters, strict=False)
        words.append(" ".join(("acc-ecn", *(f"{name} {value}" for name, value in fields))))
    if options.malformed:
        words.append("malformed")
    return ",".join(words)


def _describe_udp(src: bytes, dst: bytes, datagram: bytes, verify: bool) -> str:
    header = udp.decode(datagram, 0, len(datagram))
    text = f"{_hosts(src, dst, header.src_port, header.dst_port)}: UDP"
    if verify and not _udp_checksum_is_right(src, dst, datagram[: header.length], header.checksum):
        text += ", bad checksum"
    return f"{text}, length {header.length - udp.HEADER_LEN}"


def _udp_checksum_is_right(src: bytes, dst: bytes, datagram: bytes, field: int) -> bool:
    if field == 0:
        return len(src) == 4  # RFC 768: the sender made none; RFC 8200 §8.1 forbids that
    return _checksum_is_right(src, dst, ipv4.UDP, datagram)


def _checksum_is_right(src: bytes, dst: bytes, protocol: int, payload: bytes) -> bool:
    pseudo = pseudo_sum(src, dst, protocol, len(payload))
    return fold(pseudo + ones_sum(payload)) == 0xFFFF


def _describe_icmp(
    message: icmp.IcmpMessage, version: int, names: dict[int, str], echoes: tuple[int, int]
) -> str:
    name = names.get(message.type)
    if name is None:
        return f"type {message.type}, code {message.code}, length {len(message.body)}"
    if message.type in echoes:
        ident, seq = message.rest >> 16, message.rest & 0xFFFF
        return f"{name}, id {ident}, seq {seq}, length {len(message.body)}"
    text = f"{name}, code {message.code}"
    if version == 4 and (message.type, message.code) == (
        icmp.V4_UNREACHABLE,
        icmp.V4_FRAGMENTATION_NEEDED,
    ):
        text += f", mtu {message.rest & 0xFFFF}"
    elif version == 6 and message.type == icmp.V6_PACKET_TOO_BIG:
        text += f", mtu {message.rest}"
    try:
        quote = icmp.quoted(message.body, version)
    except MalformedPacket as malformed:
        return f"{text}, about malformed: {malformed.reason}"
    if quote.protocol in _PORT_PROTOCOLS:
        hosts = _hosts(quote.src, quote.dst, quote.src_port, quote.dst_port)
    else:
        hosts = _hosts(quote.src, quote.dst)
    text += f", about {hosts} protocol {quote.protocol}"
    return text if quote.seq is None else f"{text} seq {quote.seq}"


def _fragment(src: bytes, dst: bytes, protocol: int, ident: int, offset: int) -> str:
    return f"{_hosts(src, dst)}: fragment of protocol {protocol}, id {ident}, offset {offset}"


def _hosts(src: bytes, dst: bytes, src_port: int | None = None, dst_port: int | None = None) -> str:
    """Both ends as tcpdump writes them: 10.9.0.1.80 > 10.9.0.2.40000."""
    source, destination = str(ipaddress.ip_address(src)), str(ipaddress.ip_address(dst))
    if src_port is not None:
        source, destination = f"{source}.{src_port}", f"{destination}.{dst_port}"
    return f"{source} > {destination}"
