"""A whole packetdrill script to `Script`; every error names file and line (MalformedFile)."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from ustack.drill.constants import ERRNO
from ustack.drill.cursor import Cursor
from ustack.drill.expressions import parse_expression, parse_list
from ustack.drill.lexer import Kind, Token, tokenize
from ustack.drill.packet_parser import parse_packet
from ustack.drill.positions import Position
from ustack.drill.script import (
    CodeEvent,
    CommandEvent,
    Event,
    PacketEvent,
    Script,
    Settings,
    SyscallEvent,
    TcpPacket,
    TimeKind,
    When,
)
from ustack.drill.settings import PREDEFINED, Option, apply_options, for_family
from ustack.errors import MalformedFile

SYSCALLS = frozenset(
    """socket bind listen accept connect read readv recv recvfrom recvmsg write writev send sendto
    sendmsg fcntl ioctl close shutdown getsockopt setsockopt poll epoll_create epoll_ctl epoll_wait
    pipe splice open sendfile cap_set psp_rx_assoc psp_tx_assoc""".split()
)
# What the runner of the Linux scripts defines, by family (language §2).
_RUNNER_IPV4 = {
    "TFO_COOKIE": "3021b9d889017eeb",
    "CODE": "host_unreachable",
    "CMSG_LEVEL_IP": "SOL_IP",
    "CMSG_TYPE_RECVERR": "IP_RECVERR",
}
_RUNNER_IPV6_NAMES = {"CMSG_LEVEL_IP": "SOL_IPV6", "CMSG_TYPE_RECVERR": "IPV6_RECVERR"}
_RUNNER_DEFINITIONS = {
    "ipv4": _RUNNER_IPV4,
    "ipv6": _RUNNER_IPV4
    | _RUNNER_IPV6_NAMES
    | {"TFO_COOKIE": "c1d1e9742a47a9bc", "CODE": "address_unreachable"},
    "ipv4-mapped-ipv6": _RUNNER_IPV4 | _RUNNER_IPV6_NAMES,
}
_UNTIMED = When(TimeKind.ANY)
COMMAND_LINE = Position("command line", 0)


def read_script(path: Path, command_line: Sequence[Option] = ()) -> Script:
    """The script in the file at `path`; raises MalformedFile, also when it cannot be read."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise MalformedFile(f"{path}: {reason}") from None
    return parse_script(text, str(path), command_line)


def parse_script(text: str, file: str, command_line: Sequence[Option] = ()) -> Script:
    """The script `text`, called `file` in errors; options of `command_line` win over its own."""
    written: list[Option] = []
    if "--" in text:  # options may define words, so they are read before all the rest
        written = _read_options(Cursor(tokenize(text, file, PREDEFINED)))
    settings, from_script, notes = apply_options(Settings(), written)
    settings, from_user, _ = apply_options(settings, command_line)
    settings = for_family(settings)
    runner = _RUNNER_DEFINITIONS[settings.ip_version]
    cursor = Cursor(tokenize(text, file, PREDEFINED | runner | from_script | from_user))
    _read_options(cursor)

    init = _untimed_command(cursor)
    events: list[Event] = []
    cleanup: CommandEvent | None = None
    while not cursor.at_end():
        if cursor.token.kind is Kind.COMMAND and events:
            cleanup = _untimed_command(cursor)
            if not cursor.at_end():
                raise cursor.unexpected("the end of the file after the cleanup command")
            break
        event = _event(cursor, settings)
        _check_order(events, event)
        events.append(event)
    if not events:
        raise cursor.unexpected("an event")
    settings = replace(settings, tunnelled=any(map(_is_tunnelled, events)))
    return Script(file, settings, tuple(events), init, cleanup, tuple(notes))


def _is_tunnelled(event: Event) -> bool:
    packet = event.packet if isinstance(event, PacketEvent) else None
    return isinstance(packet, TcpPacket) and packet.udp_ports is not None


def _read_options(cursor: Cursor) -> list[Option]:
    options: list[Option] = []
    while cursor.token.kind is Kind.OPTION:
        token = cursor.take()
        value: str | None = None
        if cursor.accept("="):
            value = _source(cursor.take())
            # "ipv4-mapped-ipv6" and "192.0.2.1/24" are several tokens
            while cursor.token.adjacent and not cursor.at_end():
                value += _source(cursor.take())
        options.append(Option(token.position, token.text.removeprefix("--"), value))
    return options


def _source(token: Token) -> str:
    quote = {Kind.STRING: '"', Kind.COMMAND: "`"}.get(token.kind, "")
    return f"{quote}{token.text}{quote}"


def _untimed_command(cursor: Cursor) -> CommandEvent | None:
    if cursor.token.kind is not Kind.COMMAND:
        return None
    token = cursor.take()
    return CommandEvent(token.position, _UNTIMED, token.text)


def _event(cursor: Cursor, settings: Settings) -> Event:
    position = cursor.position
    when = _when(cursor)
    token = cursor.token
    if cursor.at("<") or cursor.at(">"):
        inbound = cursor.take().text == "<"
        if inbound:
            _require_point_in_time(when, position)
        packet, tunnel = parse_packet(cursor, settings, inbound)
        return PacketEvent(token.position, when, inbound, packet, tunnel)
    _require_point_in_time(when, position)
    match token.kind:
        case Kind.COMMAND:
            return CommandEvent(position, when, cursor.take().text)
        case Kind.CODE:
            return CodeEvent(position, when, cursor.take().text)
        case Kind.ELLIPSIS:
            cursor.take()
            end_us = _time(cursor)
            if end_us < when.start_us:
                raise position.error("the call ends before it starts")
            return _syscall(cursor, when, end_us)
        case Kind.WORD:
            return _syscall(cursor, when, None)
    raise cursor.unexpected("a packet, a system call, a command or code")


def _require_point_in_time(when: When, position: Position) -> None:
    if when.kind is TimeKind.ANY or when.is_window:
        raise position.error("only an outbound packet can have '*' or a range as its time")


def _when(cursor: Cursor) -> When:
    if cursor.accept("*"):
        return When(TimeKind.ANY)
    position = cursor.position
    relative = cursor.accept("+")
    start = _time(cursor)
    if not cursor.accept("~"):
        return When(TimeKind.RELATIVE if relative else TimeKind.ABSOLUTE, start)
    if cursor.accept("+") != relative:
        raise position.error("both ends of a range of time are relative, or none is")
    end = _time(cursor)
    if end < start:
        raise position.error("the range of time ends before it starts")
    return When(TimeKind.RELATIVE_WINDOW if relative else TimeKind.ABSOLUTE_WINDOW, start, end)


def _time(cursor: Cursor) -> int:
    """Seconds to µs, truncated."""
    if cursor.token.kind not in (Kind.INTEGER, Kind.FLOAT):
        raise cursor.unexpected("a time")
    token = cursor.take()
    value = int(Decimal(token.text) * 1_000_000)
    if value < 0:
        raise token.position.error("a time is not negative")
    return value


def _syscall(cursor: Cursor, when: When, end_us: int | None) -> SyscallEvent:
    name = cursor.expect_kind(Kind.WORD, "a system call")
    cursor.expect("(")
    if name.text not in SYSCALLS:
        raise name.position.error(f"unknown system call '{name.text}'")
    arguments = parse_list(cursor, ")")
    cursor.expect("=")
    result = parse_expression(cursor)
    errno: str | None = None
    if cursor.at_word():
        errno = cursor.take().text
        if errno not in ERRNO:
            raise name.position.error(f"unknown errno name '{errno}'")
    while cursor.at("("):
        _skip_note(cursor)
    return SyscallEvent(name.position, when, name.text, arguments, result, errno, end_us)


def _skip_note(cursor: Cursor) -> None:
    """A remark in parentheses: its words mean nothing."""
    opening = cursor.expect("(")
    depth = 1
    while depth:
        token = cursor.take()
        if token.kind is Kind.END:
            raise opening.position.error("'(' without ')'")
        depth += token.is_character("(") - token.is_character(")")


def _check_order(events: list[Event], event: Event) -> None:
    when = event.when
    if not events:
        if when.kind is TimeKind.ANY or when.start_us != 0:
            raise event.position.error("the first event has time 0")
        return
    absolute = (TimeKind.ABSOLUTE, TimeKind.ABSOLUTE_WINDOW)
    before = events[-1].when
    if when.kind in absolute and before.kind in absolute and when.start_us < before.start_us:
        raise event.position.error("the event is earlier than the one before it")
