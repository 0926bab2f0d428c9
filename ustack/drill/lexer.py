"""Text of a packetdrill script to tokens.

Owns what a word, a number and a comment is; knows nothing of events. The longest match wins, and
among equal lengths the earlier rule. `-D NAME=value` replaces a word here, so the parser never
sees a definition. Lines `#ifdef NAME`, `#ifndef NAME`, `#else` and `#endif` (the FreeBSD scripts
have them), `#if` and `#elif` select text before anything else is read: see `conditions`.
"""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn

from ustack.drill.conditions import select
from ustack.drill.positions import Position


class Kind(Enum):
    """What a token is."""

    ELLIPSIS = "..."
    OPTION = "option"
    FLOAT = "number with a point"
    INTEGER = "integer"
    HEX = "hexadecimal integer"
    WORD = "word"
    STRING = "string"
    COMMAND = "command"
    CODE = "code"
    ADDRESS = "address"
    CHARACTER = "character"
    END = "end of file"


@dataclass(slots=True, frozen=True)
class Token:
    """One token. `text` is the source for words and numbers, the contents for quoted things."""

    kind: Kind
    text: str
    position: Position
    adjacent: bool  # no white space stands between this token and the one before it

    def is_character(self, character: str) -> bool:
        """Whether this is the one-character token `character`."""
        return self.kind is Kind.CHARACTER and self.text == character

    def describe(self) -> str:
        """The token as it is named in an error message."""
        return self.kind.value if self.kind is Kind.END else f"'{self.text}'"


# "1:1001" must stay integer, colon, integer: an IPv6 literal has "::" or all eight groups.
_GROUP = "[0-9a-fA-F]{1,4}"
_IPV6 = (
    rf"(?:{_GROUP}:){{7}}{_GROUP}"
    rf"|(?:{_GROUP}(?::{_GROUP})*)?::(?:(?:{_GROUP}:)*(?:\d+\.\d+\.\d+\.\d+|{_GROUP}))?"
)
_DIGITS, _LETTERS = string.digits, string.ascii_letters
# The third member: what the token may begin with. Most tokens have one or two candidates then.
_RULES: tuple[tuple[Kind, re.Pattern[str], str], ...] = (
    (Kind.WORD, re.compile(r"sequence#"), "s"),
    (Kind.ELLIPSIS, re.compile(r"\.\.\."), "."),
    (Kind.OPTION, re.compile(r"--[a-zA-Z0-9_]+"), "-"),
    (Kind.FLOAT, re.compile(r"-?[0-9]*\.[0-9]+"), f"-.{_DIGITS}"),
    (Kind.INTEGER, re.compile(r"-?[0-9]+"), f"-{_DIGITS}"),
    (Kind.HEX, re.compile(r"0x[0-9a-fA-F]+"), "0"),
    (Kind.WORD, re.compile(r"[a-zA-Z0-9_]+"), f"_{_DIGITS}{_LETTERS}"),
    (Kind.STRING, re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL), '"'),
    (Kind.COMMAND, re.compile(r"`(?:[^`\\]|\\.)*`", re.DOTALL), "`"),
    (Kind.CODE, re.compile(r"%\{.*?\}%", re.DOTALL), "%"),
    (Kind.ADDRESS, re.compile(r"\d+\.\d+\.\d+\.\d+"), _DIGITS),
    (Kind.ADDRESS, re.compile(_IPV6), f":{string.hexdigits}"),
    (Kind.CHARACTER, re.compile(r"[-+*~<>:()\[\]{},=|./!]"), "-+*~<>:()[]{},=|./!"),
)
_RULES_BY_FIRST = {
    first: [(kind, rule) for kind, rule, firsts in _RULES if first in firsts]
    for first in string.printable
}
_BLANK = re.compile(r"(?:[ \t\r\n\f]+|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_QUOTES = {Kind.STRING: (1, 1), Kind.COMMAND: (1, 1), Kind.CODE: (2, 2)}
_UNCLOSED = {'"': "string", "`": "command", "%{": "code snippet", "/*": "comment"}

# A reserved word keeps its meaning whatever -D says.
RESERVED = frozenset(
    """sa_family sin_port sin_addr msg_name msg_iov msg_flags msg_control cmsg_level cmsg_type
    cmsg_data ee_errno ee_origin ee_type ee_code ee_info ee_data scm_sec scm_nsec fd u32 u64 ptr
    events revents onoff linger htons ipv4 ipv6 icmp udp GREv0 gre raw sum off key seq none checksum
    sequence# present encap psp spi mpls label tc ttl inet_addr inet6_addr ack eol ecr mss mtu nop
    sack sackOK md5 TS FO FOEXP ECN e0b e1b ceb tos flowlabel flags Flags val win urg wscale ect01
    ect0 ect1 noecn ce id""".split()
)


def tokenize(text: str, file: str, definitions: Mapping[str, str]) -> list[Token]:
    """All tokens of `text`, ended by one END token; raises MalformedFile at what is no token."""
    text = select(text, file, definitions)
    tokens: list[Token] = []
    at, line, adjacent = 0, 1, False
    while True:
        blank = _BLANK.match(text, at)
        if blank:
            line += blank[0].count("\n")
            at, adjacent = blank.end(), False
        position = Position(file, line)
        if at >= len(text):
            tokens.append(Token(Kind.END, "", position, adjacent=False))
            return tokens
        kind, source = _longest(text, at, position)
        before, after = _QUOTES.get(kind, (0, 0))
        content = source[before : len(source) - after]
        if kind is Kind.CODE:
            content = content.strip(" \t")
        token = Token(kind, content, position, adjacent)
        if kind is Kind.WORD and content in definitions and content not in RESERVED:
            token = _defined(definitions[content], token)
        tokens.append(token)
        line += source.count("\n")
        at, adjacent = at + len(source), True


def _longest(text: str, at: int, position: Position) -> tuple[Kind, str]:
    best: tuple[Kind, str] | None = None
    for kind, rule in _RULES_BY_FIRST.get(text[at], ()):
        found = rule.match(text, at)
        if found and (best is None or len(found[0]) > len(best[1])):
            best = kind, found[0]
    if best is None or text.startswith("/*", at):
        _refuse(text, at, position)
    return best


def _refuse(text: str, at: int, position: Position) -> NoReturn:
    for opening, name in _UNCLOSED.items():
        if text.startswith(opening, at):
            raise position.error(f"{name} without an end")
    raise position.error(f"unexpected character {text[at]!r}")


def _defined(value: str, word: Token) -> Token:
    """The token that `-D` puts in the place of `word`."""
    if value[:1] == '"':
        return Token(Kind.STRING, value.strip('"'), word.position, word.adjacent)
    if value[:1] == "`":
        return Token(Kind.COMMAND, value.strip("`"), word.position, word.adjacent)
    try:
        number = int(value, 0)
    except ValueError:
        # "0123" is no Python number, but strtol() reads it, so the original does as well.
        kind = Kind.INTEGER if re.fullmatch(r"-?[0-9]+", value) else Kind.WORD
        return Token(kind, value, word.position, word.adjacent)
    return Token(Kind.INTEGER, str(number), word.position, word.adjacent)
