"""Parser of what stands between the parentheses of a system call."""

import re

from ustack.drill.cursor import Cursor
from ustack.drill.lexer import Kind
from ustack.drill.script import (
    Anything,
    Array,
    Expression,
    Field,
    Function,
    Integer,
    Name,
    Or,
    String,
    Struct,
)

_TWO_HEX_DIGITS = re.compile("[0-9a-fA-F]{2}")
_LETTER_ESCAPES = {"f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}


def parse_expression(cursor: Cursor) -> Expression:
    """The expression that starts at the cursor, with everything joined to it by `|`."""
    left = _operand(cursor)
    while cursor.accept("|"):
        left = Or(left, _operand(cursor))
    return left


def parse_list(cursor: Cursor, closing: str) -> tuple[Expression, ...]:
    """Expressions separated by commas up to and including `closing`."""
    items: list[Expression] = []
    while not cursor.at(closing):
        if items:
            cursor.expect(",")
        items.append(parse_expression(cursor))
    cursor.expect(closing)
    return tuple(items)


def _operand(cursor: Cursor) -> Expression:
    token = cursor.token
    match token.kind:
        case Kind.ELLIPSIS:
            cursor.take()
            return Anything()
        case Kind.INTEGER:
            return Integer(int(cursor.take().text))
        case Kind.HEX:
            return Integer(int(cursor.take().text, 16))
        case Kind.STRING:
            return _string(cursor)
        case Kind.WORD:
            if cursor.peek(1).is_character("="):
                return Struct((_field(cursor),))
            cursor.take()
            if cursor.accept("("):
                return Function(token.text, parse_list(cursor, ")"))
            return Name(token.text)
    if cursor.accept("["):
        return Array(parse_list(cursor, "]"))
    if cursor.accept("{"):
        return _struct(cursor)
    raise cursor.unexpected("an expression")


def _struct(cursor: Cursor) -> Struct:
    fields = [_field(cursor)]
    while cursor.accept(","):
        fields.append(_field(cursor))
    cursor.expect("}")
    return Struct(tuple(fields))


def _field(cursor: Cursor) -> Field:
    """`key = value`, `key(count) = value` or a bare value."""
    if cursor.token.kind is Kind.WORD:
        if cursor.peek(1).is_character("="):
            key = cursor.take().text
            cursor.expect("=")
            return Field(key, None, parse_expression(cursor))
        if cursor.token.text.startswith("msg_") and cursor.peek(1).is_character("("):
            key = cursor.take().text
            cursor.expect("(")
            count = parse_expression(cursor)
            cursor.expect(")")
            cursor.expect("=")
            return Field(key, count, parse_expression(cursor))
    return Field(None, None, parse_expression(cursor))


def _string(cursor: Cursor) -> String:
    value = b""
    while cursor.token.kind is Kind.STRING:
        value += unescape(cursor.take().text)
    return String(value, open_ended=cursor.accept_kind(Kind.ELLIPSIS))


def unescape(text: str) -> bytes:
    r"""The bytes of a string literal: \f \n \r \t \v \xHH; else a character means itself."""
    result = bytearray()
    at = 0
    while at < len(text):
        if text[at] != "\\" or at + 1 == len(text):
            result += text[at].encode()
            at += 1
            continue
        letter = text[at + 1]
        digits = text[at + 2 : at + 4]
        if (
            letter == "x"
            and len(digits) == 2
            and all(c in "0123456789abcdefABCDEF" for c in digits)
        ):
            result.append(int(digits, 16))
            at += 4
            continue
        result += bytes([_LETTER_ESCAPES[letter]]) if letter in _LETTER_ESCAPES else letter.encode()
        at += 2
    return bytes(result)
