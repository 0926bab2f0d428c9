"""The little of /bin/sh that scripts use: words and quotes, pipes, lists, redirections, `if`.

Owns how a command line is cut into pieces and in which order they run; knows no command. Pieces
are read one by one, each after the one before has run, so `$(...)` and `$NAME` see its effect.
"""

import ast
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

NOTHING = "/dev/null"
# The longest first
_OPERATORS = ["2>&1", "1>&2", "&&", "||", "&>", ">&2", "2>>", "1>>", "2>", "1>", ">>"]
_OPERATORS += [";", "\n", "|", "&", ">", "<"]
_ENDS = ("&&", "||", ";", "\n", "&")
_TO_FILE = (">", ">>", "1>", "1>>")
_ERRORS_TO_FILE = ("2>", "2>>")
_DUPLICATES = ("2>&1", ">&2", "1>&2")  # there is one stream of output here
_COMPOUND = ("for", "while", "until", "case", "do", "done", "{", "}", "(", ")", "function")
_ARITHMETIC: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
LONGEST_ARITHMETIC = 100  # characters
DEEPEST = 20  # commands in each other


class ShellError(Exception):
    """The text is not what this shell understands; the message says what."""


class Unknown(ShellError):
    """A command that is not known here."""


@dataclass(slots=True)
class Stage:
    """One command of a pipeline, and the file that takes its output."""

    words: list[str] = field(default_factory=list)
    target: str | None = None
    append: bool = False
    source: str | None = None


@dataclass(slots=True)
class Outcome:
    """What a command printed, its exit status as yes or no, and why it is a no."""

    lines: list[str] = field(default_factory=list)
    yes: bool = True
    reason: str = ""


# A command with the lines that it reads; None: nothing is piped into it.
Run = Callable[[Sequence[str], Sequence[str] | None], Outcome]
Read = Callable[[str], Sequence[str]]


class Write(Protocol):
    """Puts lines into the file `path`."""

    def __call__(self, path: str, lines: Sequence[str], *, append: bool) -> Outcome: ...


class Shell:
    """Runs texts. `run` does the commands; `otherwise` is given what that does not know.

    Variables hold from one text to the next.
    """

    def __init__(
        self, run: Run, read: Read, write: Write, otherwise: Callable[[str], Outcome | None]
    ) -> None:
        self._run = run
        self._read = read
        self._write = write
        self._otherwise = otherwise
        self.variables: dict[str, str] = {"PPID": str(os.getpid()), "PACKETDRILL_PID": "0"}
        self._depth = 0

    def execute(self, text: str) -> Outcome:
        """The text from its first command to its last; what they printed, and how it ended.

        Raises ShellError, and Unknown with the part of the text that is not understood.
        """
        if self._depth >= DEEPEST:
            raise ShellError("too many commands in each other")
        self._depth += 1
        try:
            return self._execute(text)
        finally:
            self._depth -= 1

    def _execute(self, text: str) -> Outcome:
        blocks: list[bool] = []  # of each open `if`: its branch runs
        outcome, printed = Outcome(), list[str]()
        join = ";"
        for stages, source, ending in self._pipelines(text):
            if stages:
                skip = (join == "&&" and not outcome.yes) or (join == "||" and outcome.yes)
                _branch(stages[0].words, blocks, outcome)
                if not skip and all(blocks) and stages[0].words:
                    outcome = self._pipeline(stages, source)
                    printed += outcome.lines
            elif ending == "\n":
                continue  # "a &&", then b on the next line
            join = ending
        if blocks:
            raise ShellError("if without fi")
        return Outcome(printed, outcome.yes, outcome.reason)

    def _pipeline(self, stages: Sequence[Stage], source: str) -> Outcome:
        wanted = True
        first = stages[0].words
        if len(stages) > 1 and not all(stage.words for stage in stages):
            raise ShellError("nothing is piped, or into nothing")
        while first[:1] == ["!"]:
            del first[0]
            wanted = not wanted
        lines: Sequence[str] | None = None
        outcome = Outcome()
        try:
            for stage in stages:
                outcome = self._stage(stage, lines)
                lines = outcome.lines
        except Unknown:
            elsewhere = self._otherwise(source)
            if elsewhere is None:
                raise
            outcome = elsewhere
        if not wanted:
            outcome = Outcome(outcome.lines, not outcome.yes)
        if not outcome.yes and not outcome.reason:
            outcome.reason = f"'{source}' says no"
        return outcome

    def _stage(self, stage: Stage, lines: Sequence[str] | None) -> Outcome:
        words = stage.words
        while words and _is_assignment(words[0]):
            name, _, value = words.pop(0).partition("=")
            self.variables[name] = value
        if stage.source is not None:
            lines = self._read(stage.source)
        outcome = self._run(words, lines) if words else Outcome()
        if stage.target is None:
            return outcome
        if stage.target != NOTHING:
            written = self._write(stage.target, outcome.lines, append=stage.append)
            if not written.yes:
                return written
        return Outcome([], outcome.yes, outcome.reason)

    # Reading

    def _pipelines(self, text: str) -> Iterator[tuple[list[Stage], str, str]]:
        """Each pipeline, its source, and the operator behind it."""
        stages: list[Stage] = []
        wants: str | None = None  # the redirection that waits for its file
        begin = 0
        for kind, word, start, end in self._tokens(text):
            if kind == "word":
                if not stages:
                    stages, begin = [Stage()], start
                wants = _add(stages[-1], word, wants)
            elif wants is not None:
                raise ShellError(f"a file is missing behind '{wants}'")
            elif word in _ENDS or word == "":
                if word == "&" and stages:
                    raise Unknown(f"'{text[begin:end]}'")
                yield stages, text[begin:start].strip(), word
                stages, begin = [], end
            elif word == "|":
                stages = [*stages, Stage()] if stages else [Stage(), Stage()]
            elif word not in _DUPLICATES:
                if not stages:
                    stages, begin = [Stage()], start
                wants = word

    def _tokens(self, text: str) -> Iterator[tuple[str, str, int, int]]:
        """Words and operators with where they stand; at the end an operator ""."""
        at = 0
        while at < len(text):
            character = text[at]
            if character in " \t\r" or text.startswith("\\\n", at):
                at += 1 if character != "\\" else 2
            elif character == "#":
                at = _line_end(text, at)
            else:
                operators = (one for one in _OPERATORS if text.startswith(one, at))
                found = next(operators, None)
                if found is not None:
                    yield "operator", found, at, at + len(found)
                    at += len(found)
                    continue
                words, end = self._word(text, at)
                for word in words:
                    yield "word", word, at, end
                at = end
        yield "operator", "", at, at

    def _word(self, text: str, at: int) -> tuple[list[str], int]:
        """One word, or several where an expansion without quotes has blanks; and where it ends."""
        done: list[str] = []
        word, quoted = "", False
        while at < len(text) and text[at] not in " \t\r\n;|&<>":
            character = text[at]
            if character == "'":
                end = text.find("'", at + 1)
                if end < 0:
                    raise ShellError("' without an end")
                word, quoted, at = word + text[at + 1 : end], True, end + 1
            elif character == '"':
                inner, at = self._double_quoted(text, at + 1)
                word, quoted = word + inner, True
            elif character == "\\" and at + 1 < len(text):
                word, at = word + text[at + 1].replace("\n", ""), at + 2
            elif character in "$`":
                value, at = self._expansion(text, at)
                first, *rest = value.split() or [""]
                word += first
                if rest:
                    done += [word, *rest[:-1]]
                    word = rest[-1]
            else:
                word, at = word + character, at + 1
        return ([*done, word] if word or quoted else done), at

    def _double_quoted(self, text: str, at: int) -> tuple[str, int]:
        inner = ""
        while at < len(text) and text[at] != '"':
            if text[at] == "\\" and at + 1 < len(text) and text[at + 1] in '\\"$`\n':
                inner, at = inner + text[at + 1].replace("\n", ""), at + 2
            elif text[at] in "$`":
                value, at = self._expansion(text, at)
                inner += value
            else:
                inner, at = inner + text[at], at + 1
        if at >= len(text):
            raise ShellError('" without an end')
        return inner, at + 1

    def _expansion(self, text: str, at: int) -> tuple[str, int]:
        """What stands for the `$...` or back-quoted command at `at`, and where that ends."""
        if text[at] == "`":
            end = text.find("`", at + 1)
            if end < 0:
                raise ShellError("` without an end")
            return self._printed(text[at + 1 : end]), end + 1
        if text.startswith("$((", at):
            end = _closing(text, at + 1)
            if text[end - 1] == ")":
                return str(self._computed(text[at + 3 : end - 1])), end + 1
        if text.startswith("$(", at):
            end = _closing(text, at + 1)
            return self._printed(text[at + 2 : end]), end + 1
        if text.startswith("${", at):
            end = text.find("}", at)
            if end < 0:
                raise ShellError("${ without an end")
            name, _, otherwise = text[at + 2 : end].partition(":-")
            return self.variables.get(name) or otherwise, end + 1
        end = at + 1
        while end < len(text) and (text[end].isalnum() or text[end] == "_"):
            end += 1
        if end == at + 1:  # "$?", "$$", or a "$" that means itself
            if text[end : end + 1] == "$":
                return self.variables["PPID"], end + 1
            return "$", end
        return self.variables.get(text[at + 1 : end], ""), end

    def _printed(self, command: str) -> str:
        return "\n".join(self.execute(command).lines)

    def _computed(self, text: str) -> int:
        """`$((text))` of whole numbers."""
        for name, value in self.variables.items():
            text = text.replace(f"${name}", value)
        try:
            if len(text) > LONGEST_ARITHMETIC:
                raise SyntaxError
            return _value(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, ValueError, ZeroDivisionError, KeyError, OverflowError):
            raise ShellError("the arithmetic of the command is wrong") from None


def _value(node: ast.expr) -> int:
    match node:
        case ast.Constant(int() as number):
            return number
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand)
        case ast.BinOp(left, how, right):
            first, second = _value(left), _value(right)
            if isinstance(how, ast.LShift) and second > 64:
                raise OverflowError
            return _ARITHMETIC[type(how)](first, second)
    raise SyntaxError


def _branch(words: list[str], blocks: list[bool], outcome: Outcome) -> None:
    """Takes the words of `if` off `words`; `blocks` says what runs then."""
    while words and words[0] in ("if", "then", "elif", "else", "fi", *_COMPOUND):
        word = words[0]
        if word in _COMPOUND or (word != "if" and not blocks):
            raise Unknown(f"'{' '.join(words)}'")
        del words[0]
        if word == "if":
            blocks.append(True)
        elif word == "then":
            blocks[-1] = outcome.yes
            outcome.yes = True
        elif word == "elif":
            raise Unknown("'elif'")
        elif word == "else":
            blocks[-1] = not blocks[-1]
        else:
            blocks.pop()


def _add(stage: Stage, word: str, wants: str | None) -> str | None:
    """A word joins the command, or is the file that a redirection waits for."""
    if wants is None:
        stage.words.append(word)
    elif wants in _TO_FILE:
        stage.target, stage.append = word, wants.endswith(">>")
    elif wants == "&>":
        stage.target = word
    elif wants == "<":
        stage.source = word
    else:
        assert wants in _ERRORS_TO_FILE
    return None


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _closing(text: str, at: int) -> int:
    """Where the parenthesis that opens at `at` closes."""
    depth = 0
    for index in range(at, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if not depth:
            return index
    raise ShellError("( without )")
