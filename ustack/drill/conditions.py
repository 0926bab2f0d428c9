"""Lines that select text: #ifdef, #ifndef, #if, #elif, #else, #endif, as a C preprocessor has them.

An expression is made of integers, names (a definition that is a number counts as that, any other as
1, none as 0), `defined(NAME)`, `!`, `&&`, `||`, comparisons and parentheses.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ustack.drill.positions import Position

_DIRECTIVE = re.compile(r"^[ \t]*#(ifdef|ifndef|elif|if|else|endif)\b[ \t]*(.*)")
_OPENING = ("if", "ifdef", "ifndef")
_TOKEN = re.compile(r"\s*(\w+|&&|\|\||[=!<>]=|[!<>()])")
_DEEPEST = 50  # parentheses and negations in each other


@dataclass(slots=True)
class _Block:
    taken: bool  # the text that follows is
    over: bool  # one branch has been
    position: Position


def select(text: str, file: str, definitions: Mapping[str, str]) -> str:
    """`text` with the lines that are left out made empty, so that line numbers stay.

    Raises MalformedFile.
    """
    if "#" not in text:
        return text
    lines = text.split("\n")
    blocks: list[_Block] = []
    for index, line in enumerate(lines):
        found = _DIRECTIVE.match(line)
        # Outside of a block, "#else" can only be a comment in a snippet of Python.
        if found is None or (found[1] not in _OPENING and not blocks):
            if not all(block.taken for block in blocks):
                lines[index] = ""
            continue
        if found[1] == "if" and not blocks and not _may_be_condition(found[2]):
            continue  # "# if it rains": the same
        lines[index] = ""
        _directive(found[1], found[2], Position(file, index + 1), blocks, definitions)
    if blocks:
        raise blocks[-1].position.error("#if without #endif")
    return "\n".join(lines)


def _may_be_condition(text: str) -> bool:
    """No words one after the other."""
    return not re.search(r"\w\s+\w", _without_comment(text).replace("defined ", "defined"))


def _directive(
    word: str, rest: str, position: Position, blocks: list[_Block], definitions: Mapping[str, str]
) -> None:
    rest = _without_comment(rest)
    if word == "endif":
        blocks.pop()
    elif word == "else":
        blocks[-1].taken, blocks[-1].over = not blocks[-1].over, True
    elif word == "elif":
        wanted = not blocks[-1].over and _holds(rest, position, definitions)
        blocks[-1].taken, blocks[-1].over = wanted, blocks[-1].over or wanted
    else:
        if word == "if":
            wanted = _holds(rest, position, definitions)
        else:
            name = rest.split()[:1]
            if not name:
                raise position.error(f"#{word} without a name")
            wanted = (name[0] in definitions) == (word == "ifdef")
        blocks.append(_Block(wanted, wanted, position))


def _without_comment(text: str) -> str:
    return re.sub(r"//.*|/\*.*", "", text).strip()


def _holds(text: str, position: Position, definitions: Mapping[str, str]) -> bool:
    tokens: list[str] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise position.error(f"'{text}' is no condition")
        tokens.append(found[1])
        at = found.end()
    reader = _Reader(tokens, definitions)
    try:
        value = reader.alternatives(0)
    except (IndexError, ValueError):
        value = None
    if value is None or reader.tokens:
        raise position.error(f"'{text}' is no condition")
    return bool(value)


class _Reader:
    """Recursive descent; takes what it has read off `tokens`."""

    def __init__(self, tokens: list[str], definitions: Mapping[str, str]) -> None:
        self.tokens = tokens
        self._definitions = definitions

    def _accept(self, *wanted: str) -> str | None:
        return self.tokens.pop(0) if self.tokens and self.tokens[0] in wanted else None

    def alternatives(self, depth: int) -> int:
        """A || B"""
        value = self._conjunction(depth)
        while self._accept("||"):
            value = int(bool(self._conjunction(depth)) or bool(value))
        return value

    def _conjunction(self, depth: int) -> int:
        value = self._comparison(depth)
        while self._accept("&&"):
            value = int(bool(self._comparison(depth)) and bool(value))
        return value

    def _comparison(self, depth: int) -> int:
        left = self._single(depth)
        how = self._accept("==", "!=", "<", ">", "<=", ">=")
        if how is None:
            return left
        right = self._single(depth)
        order = (left > right) - (left < right)
        holds = {"==": (0,), "!=": (-1, 1), "<": (-1,), ">": (1,), "<=": (-1, 0), ">=": (0, 1)}
        return int(order in holds[how])

    def _single(self, depth: int) -> int:
        if depth > _DEEPEST:
            raise ValueError
        if self._accept("!"):
            return int(not self._single(depth + 1))
        if self._accept("("):
            value = self.alternatives(depth + 1)
            if not self._accept(")"):
                raise ValueError
            return value
        word = self.tokens.pop(0)
        if word == "defined":
            closing = self._accept("(")
            name = self.tokens.pop(0)
            if closing and not self._accept(")"):
                raise ValueError
            return int(name in self._definitions)
        if word[0].isdigit():
            return int(word, 0)
        if not word[0].isalpha() and word[0] != "_":
            raise ValueError
        return self._value(word)

    def _value(self, name: str) -> int:
        value = self._definitions.get(name)
        if value is None:
            return 0
        try:
            return int(value, 0)
        except ValueError:
            return 1
