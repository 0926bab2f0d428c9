"""A position in the tokens of a script, and the questions that every part of the parser asks."""

from collections.abc import Sequence

from ustack.drill.lexer import Kind, Token
from ustack.drill.positions import Position
from ustack.errors import MalformedFile

MAX16 = 0xFFFF
MAX32 = 0xFFFF_FFFF


class Cursor:
    """Walks over tokens; the last one must be END."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def token(self) -> Token:
        """The next token, not yet taken."""
        return self._tokens[self._at]

    @property
    def position(self) -> Position:
        """Where the next token stands."""
        return self.token.position

    def peek(self, ahead: int) -> Token:
        """The token `ahead` places after the next one."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Returns the next token and moves past it; END is never passed."""
        token = self.token
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self.token.kind is Kind.END

    def at(self, character: str) -> bool:
        """Whether the next token is that character."""
        return self.token.is_character(character)

    def at_word(self, *words: str) -> bool:
        """Whether the next token is one of these words; with none given, any word."""
        return self.token.kind is Kind.WORD and (not words or self.token.text in words)

    def accept(self, character: str) -> bool:
        """Takes the character if it is next; says whether it was."""
        if not self.at(character):
            return False
        self.take()
        return True

    def accept_word(self, *words: str) -> bool:
        """Takes the word if it is next; says whether it was."""
        if not self.at_word(*words):
            return False
        self.take()
        return True

    def accept_kind(self, kind: Kind) -> bool:
        """Takes the next token if it is of that kind; says whether it was."""
        if self.token.kind is not kind:
            return False
        self.take()
        return True

    def expect(self, character: str) -> Token:
        """Takes that character; anything else is an error."""
        if not self.at(character):
            raise self.unexpected(f"'{character}'")
        return self.take()

    def expect_kind(self, kind: Kind, what: str) -> Token:
        """Takes a token of that kind, called `what` in the error."""
        if self.token.kind is not kind:
            raise self.unexpected(what)
        return self.take()

    def expect_word(self, *words: str) -> str:
        """Takes one of these words; with none given, any word."""
        if not self.at_word(*words):
            raise self.unexpected(" or ".join(f"'{word}'" for word in words) or "a word")
        return self.take().text

    def number(self, what: str, low: int = 0, high: int = MAX32) -> int:
        """Takes a decimal or hexadecimal number between the bounds."""
        if self.token.kind not in (Kind.INTEGER, Kind.HEX):
            raise self.unexpected(f"a number ({what})")
        token = self.take()
        value = int(token.text, 16) if token.kind is Kind.HEX else int(token.text)
        if not low <= value <= high:
            raise token.position.error(f"{what} {value} is not in {low}..{high}")
        return value

    def unexpected(self, wanted: str) -> MalformedFile:
        """The error for a next token that is not `wanted`."""
        return self.position.error(f"expected {wanted}, found {self.token.describe()}")
