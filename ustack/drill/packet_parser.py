"""Parser of packet lines: TCP, UDP and ICMP, with all that may stand before and after them.

Checks what can be said without playing: ranges, option lengths, what an inbound packet needs.
"""

from dataclasses import replace

from ustack.drill.cursor import MAX16, MAX32, Cursor
from ustack.drill.icmp_names import code_number, type_number
from ustack.drill.lexer import Kind
from ustack.drill.script import (
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
    Settings,
    TcpOption,
    TcpPacket,
    Timestamp,
    UdpPacket,
    WindowScale,
)
from ustack.drill.tcp_options import DIGEST_SIZE, MAX_OPTIONS, encode_options
from ustack.wire.tcp import ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, URG

FLAG_LETTERS = {"F": FIN, "S": SYN, "R": RST, "P": PSH, "U": URG, "E": ECE, "W": CWR, "A": AE}
ECN_WORDS = {"noecn": 0, "ect0": 2, "ect1": 1, "ce": 3}
_TUNNELS = ("ipv4", "ipv6", "gre", "GREv0", "mpls")
# RFC 2474, 2597, 3246: code points by name.
_DSCP = (
    {f"cs{n}": 8 * n for n in range(8)}
    | {f"af{c}{d}": 8 * c + 2 * d for c in range(1, 5) for d in range(1, 4)}
    | {"ef": 46}
)


def parse_packet(cursor: Cursor, settings: Settings, inbound: bool) -> tuple[Packet, bool]:
    """The packet after the direction, and whether it is written with outer headers (a tunnel)."""
    tunnel = False
    while cursor.at_word(*_TUNNELS):
        tunnel = True
        _skip_outer_header(cursor)
    ip = _ip_info(cursor, inbound)
    if cursor.at_word("icmp"):
        cursor.take()
        return replace(_icmp(cursor, settings), ip=ip), tunnel
    if cursor.at_word("udp"):
        cursor.take()
        return replace(_udp(cursor), ip=ip), tunnel
    if cursor.at_word("encap"):  # "encap psp spi N"
        tunnel = True
        cursor.take()
        cursor.expect_word("psp")
        cursor.expect_word("spi")
        cursor.number("spi")
    return replace(_tcp(cursor, inbound), ip=ip), tunnel


def _skip_outer_header(cursor: Cursor) -> None:
    cursor.take()
    while not cursor.accept(":"):
        if cursor.at_end():
            raise cursor.unexpected("':' after the outer header")
        cursor.take()


# IP header


def _ip_info(cursor: Cursor, inbound: bool) -> IpInfo:
    closing = ")" if cursor.accept("(") else "]" if cursor.accept("[") else None
    if closing is None:
        return IpInfo()
    info = _ip_item(cursor, IpInfo(), inbound)
    while cursor.accept(","):
        info = _ip_item(cursor, info, inbound)
    cursor.expect(closing)
    return info


def _ip_item(cursor: Cursor, info: IpInfo, inbound: bool) -> IpInfo:
    position = cursor.position
    word = cursor.expect_word()
    if word in ("ecn", "dscp"):
        word = cursor.expect_word()
    if word in ECN_WORDS:
        if info.tos is not None:
            return replace(info, tos=info.tos | ECN_WORDS[word])
        return replace(info, ecn=word)
    if word in _DSCP:
        return replace(info, tos=_DSCP[word] << 2 | ECN_WORDS.get(info.ecn or "", 0))
    match word:
        case "ect01":
            if inbound:
                raise position.error("ect01 is for outbound packets only")
            return replace(info, ecn=word)
        case "tos" | "class":
            return replace(info, tos=cursor.number(word, 0, 255))
        case "ttl" | "hlim":
            return replace(info, ttl=cursor.number(word, 0, 255))
        case "flowlabel":
            return replace(info, flow_label=cursor.number(word, 0, 0xF_FFFF))
    raise position.error(f"unknown IP header field '{word}'")


# TCP


def _tcp(cursor: Cursor, inbound: bool) -> TcpPacket:
    position = cursor.position
    ports = _ports(cursor)
    flags, ace = _flags(cursor)
    seq, length, absolute = _sequence(cursor)
    if seq is None and inbound:
        raise position.error("an inbound packet needs a sequence number")
    ack, ack_absolute = 0, False
    if cursor.accept_word("ack"):
        ack = cursor.number("ack")
        ack_absolute = cursor.accept("!")
    window = cursor.number("win", 0, MAX16) if cursor.accept_word("win") else None
    urgent = cursor.number("urg", 0, MAX16) if cursor.accept_word("urg") else 0
    options = _options(cursor, inbound) if cursor.at("<") else ()
    if inbound and window is None:
        raise position.error("an inbound TCP packet needs a window (win N)")
    udp_ports = None
    if cursor.accept("/"):
        cursor.expect_word("udp")
        cursor.expect("(")
        udp_ports = _ports(cursor)
        cursor.expect(")")
    return TcpPacket(
        flags,
        seq,
        length,
        ack,
        window,
        urgent,
        options,
        ports=ports,
        absolute=absolute,
        ace=ace,
        udp_ports=udp_ports,
        ack_absolute=ack_absolute,
    )


def _ports(cursor: Cursor) -> tuple[int, int] | None:
    if cursor.token.kind is not Kind.INTEGER or not cursor.peek(1).is_character(">"):
        return None
    source = cursor.number("port", 0, MAX16)
    cursor.expect(">")
    return source, cursor.number("port", 0, MAX16)


def _flags(cursor: Cursor) -> tuple[int, int | None]:
    """The flag bits and, when the AccECN counter is written as a digit 1-7, that digit."""
    position = cursor.position
    letters, digit, ack = "", "", False
    if cursor.accept("-"):
        return 0, None
    if cursor.at_word():
        letters = cursor.take().text
    if cursor.token.kind is Kind.FLOAT:  # the "." and the digit of ".7" or "S.5"
        digit = cursor.take().text[1:]
        ack = True
    elif cursor.accept("."):
        ack = True
        if cursor.at_word() and cursor.token.adjacent:
            letters += cursor.take().text
    if not letters and not ack:
        raise cursor.unexpected("TCP flags")
    digit += "".join(letter for letter in letters if letter.isdigit())
    flags = ACK if ack else 0
    for letter in letters:
        if letter.isdigit():
            continue
        if letter not in FLAG_LETTERS:
            raise position.error(f"'{letter}' is no TCP flag")
        flags |= FLAG_LETTERS[letter]
    if not digit:
        return flags, None
    if len(digit) > 1 or digit > "7":
        raise position.error(f"the ACE counter is one digit 0-7, not '{digit}'")
    if flags & (ECE | CWR | AE):
        raise position.error("an ACE digit and the flags E, W, A exclude each other")
    return flags | int(digit) << ACE_SHIFT, int(digit) or None


def _sequence(cursor: Cursor) -> tuple[int | None, int, bool]:
    """Start (None: not checked), payload length and whether `!` follows."""
    if cursor.accept_kind(Kind.ELLIPSIS):
        if cursor.accept(":"):
            cursor.expect_kind(Kind.ELLIPSIS, "'...'")
        return None, _parenthesized(cursor, "length", MAX16), False
    position = cursor.position
    start = cursor.number("sequence number")
    cursor.expect(":")
    end = cursor.number("sequence number")
    length = _parenthesized(cursor, "length", MAX16)
    if end != (start + length) & MAX32:
        raise position.error(f"{start}:{end}({length}): the end is not start plus length")
    return start, length, cursor.accept("!")


def _parenthesized(cursor: Cursor, what: str, high: int) -> int:
    cursor.expect("(")
    value = cursor.number(what, 0, high)
    cursor.expect(")")
    return value


def _options(cursor: Cursor, inbound: bool) -> tuple[TcpOption, ...] | None:
    position = cursor.expect("<").position
    if cursor.token.kind is Kind.ELLIPSIS:
        if inbound:
            raise position.error("<...> is for outbound packets only")
        cursor.take()
        cursor.expect(">")
        return None
    options: list[TcpOption] = []
    while not cursor.at(">"):
        if options:
            cursor.expect(",")
        options.append(_option(cursor, inbound))
    cursor.expect(">")
    size = len(encode_options(tuple(options)))
    if size % 4:
        raise position.error(f"the TCP options take {size} bytes, which is no multiple of 4")
    if size > MAX_OPTIONS:
        raise position.error(f"the TCP options take {size} bytes; {MAX_OPTIONS} is the most")
    return tuple(options)


def _option(cursor: Cursor, inbound: bool) -> TcpOption:
    position = cursor.position
    word = cursor.expect_word()
    if word == "exp" and cursor.accept("-"):
        cursor.expect_word("FO")
        word = "FOEXP"
    match word:
        case "nop":
            return Nop()
        case "eol":
            return EndOfOptions()
        case "mss":
            return Mss(cursor.number("mss", 0, MAX16))
        case "wscale":
            return WindowScale(cursor.number("wscale", 0, 255))
        case "sackOK":
            return SackPermitted()
        case "sack":
            blocks = [_sack_block(cursor)]
            while cursor.token.kind is Kind.INTEGER:
                blocks.append(_sack_block(cursor))
            return Sack(tuple(blocks))
        case "TS":
            return _timestamp(cursor, inbound)
        case "FO" | "FOEXP":
            return FastOpen(_hex_blob(cursor), experimental=word == "FOEXP")
        case "md5":
            if cursor.accept_word("valid"):
                return Md5(bytes(DIGEST_SIZE), valid=True)
            digest = _hex_blob(cursor)
            if len(digest) > 16:
                raise position.error("an MD5 digest has at most 16 bytes")
            return Md5(digest)
        case "gen":
            return _generic(cursor)
        case "ECN" | "AccECN0" | "AccECN1":
            return _acc_ecn(cursor)
    raise position.error(f"unknown TCP option '{word}'")


def _sack_block(cursor: Cursor) -> tuple[int, int]:
    left = cursor.number("SACK edge")
    cursor.expect(":")
    return left, cursor.number("SACK edge")


def _timestamp(cursor: Cursor, inbound: bool) -> Timestamp:
    position = cursor.position
    cursor.expect_word("val")
    val = None if cursor.accept_kind(Kind.ELLIPSIS) else cursor.number("TS val")
    cursor.expect_word("ecr")
    ecr = None if cursor.accept_kind(Kind.ELLIPSIS) else cursor.number("TS ecr")
    if inbound and (val is None or ecr is None):
        raise position.error("an inbound timestamp needs numbers")
    return Timestamp(val, ecr, cursor.accept("!"))


def _hex_blob(cursor: Cursor) -> bytes:
    if cursor.token.kind not in (Kind.WORD, Kind.INTEGER):
        return b""
    token = cursor.take()
    try:
        return bytes.fromhex(token.text)
    except ValueError:
        raise token.position.error(f"'{token.text}' is no even number of hex digits") from None


def _generic(cursor: Cursor) -> RawOption:
    """`gen KIND`, `gen KIND HEX` or `gen KIND LENGTH HEX`, with or without colons between them."""
    kind = cursor.number("kind", 2, 255)
    cursor.accept(":")
    first = _hex_text(cursor)
    cursor.accept(":")
    second = _hex_text(cursor)
    text = first if second is None else second
    try:
        data = bytes.fromhex((text or "").removeprefix("0x"))
    except ValueError:
        raise cursor.position.error(f"'{text}' is no even number of hex digits") from None
    if second is not None and int(first or "0", 0) != len(data) + 2:
        raise cursor.position.error(f"the length of the option is {len(data) + 2}, not {first}")
    return RawOption(kind, data)


def _hex_text(cursor: Cursor) -> str | None:
    if cursor.token.kind in (Kind.WORD, Kind.INTEGER, Kind.HEX):
        return cursor.take().text
    return None


def _acc_ecn(cursor: Cursor) -> AccEcn:
    kind = 172 if cursor.at_word("e0b") else 174
    order = ("e0b", "ceb", "e1b") if kind == 172 else ("e1b", "ceb", "e0b")
    if not cursor.at_word(order[0]):
        raise cursor.unexpected("'e0b' or 'e1b'")
    counters: list[int] = []
    for name in order:
        if not cursor.accept_word(name):
            break
        counters.append(cursor.number(name, 0, 0xFF_FFFF))
    return AccEcn(kind, tuple(counters))


# UDP and ICMP


def _udp(cursor: Cursor) -> UdpPacket:
    ports = _ports(cursor)
    return UdpPacket(_parenthesized(cursor, "length", MAX16), ports)


def _icmp(cursor: Cursor, settings: Settings) -> IcmpPacket:
    ipv6 = settings.ipv6_packets
    position = cursor.position
    name = cursor.expect_word()
    type_ = type_number(name, ipv6)
    if type_ is None:
        raise position.error(f"unknown {'ICMPv6' if ipv6 else 'ICMP'} type '{name}'")
    code = 0
    if cursor.at_word() and not cursor.at_word("mtu", "id"):
        name = cursor.take().text
        found = code_number(name, type_, ipv6)
        if found is None:
            raise position.error(f"unknown code '{name}' of this ICMP type")
        code = found
    packet = IcmpPacket(type_, code)
    if cursor.accept_word("mtu"):
        if (type_, code) != ((2, 0) if ipv6 else (3, 4)):
            raise position.error("mtu belongs to frag_needed (IPv4) or packet_too_big (IPv6)")
        packet = replace(packet, mtu=cursor.number("mtu", 0, MAX32 if ipv6 else MAX16))
    if cursor.accept_word("id"):
        packet = replace(packet, identifier=cursor.number("id", 0, MAX16))
    if not cursor.accept("["):
        return packet
    if cursor.at_word("udp", "raw"):
        quoted = Quoted(cursor.take().text)
        packet = replace(packet, quoted=quoted, length=_parenthesized(cursor, "length", MAX16))
    else:
        seq, length, _ = _sequence(cursor)
        packet = replace(packet, seq=seq or 0, length=length)
    cursor.expect("]")
    return packet
