"""Where something stands in a script, and how an error says so."""

from dataclasses import dataclass

from ustack.errors import MalformedFile

LONGEST_MESSAGE = 300  # characters


def one_line(message: str) -> str:
    """The message without line breaks and not too long to read."""
    text = " ".join(message.split())
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 3]}..."


@dataclass(slots=True, frozen=True)
class Position:
    """Where something stands in a script."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    def error(self, message: str) -> MalformedFile:
        """The error to raise for what stands here: one line, whatever the message quotes."""
        return MalformedFile(f"{self}: {one_line(message)}")
