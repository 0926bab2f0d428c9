"""The shell commands of scripts, as configuration of ustack instead of a shell's work.

Known are those of language §13.1 and of the FreeBSD scripts. Any other is refused, unless the
user allowed a real shell. Files that scripts make with dd are sizes in a table, nothing on disk.
"""

import ast
import operator
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ustack.config import SECOND
from ustack.drill.failure import ScriptFailure
from ustack.drill.lexer import Position
from ustack.drill.pipelines import (
    Machine,
    UnknownPipeline,
    is_pipeline,
    run_pipeline,
    split_words,
)
from ustack.drill.sysctls import Environment, UnknownSetting, apply_defaults, write_setting

_SEPARATOR = re.compile(r"\s*(?:;|&&|\n)\s*")
_REDIRECTION = re.compile(r"\s*(?:[0-9]?>{1,2}\s*/dev/null|2>&1|&>\s*/dev/null|\|\|\s*true)\s*")
_ECHO_TO_PROC = re.compile(r"""echo\s+["']?([^"'>]*?)["']?\s*>\s*(/(?:proc/sys|sys/module)/\S+)""")
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+")
_ARITHMETIC = re.compile(r"\$\(\(([-+*/() 0-9]{1,100})\)\)")
_OPERATORS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.floordiv,
}
_SIZE_LETTERS = {"": 1, "c": 1, "k": 1024, "K": 1024, "M": 1024**2, "G": 1024**3}
# They load what is always there, say something to a person, or tidy up.
_WITHOUT_EFFECT = "kldload kldunload kldstat modprobe true : sync echo date uname set".split()
IPV4_TCP_HEADERS = 40  # bytes; what an MSS is smaller than an MTU


class Commands:
    """Runs the commands of one script on `environment`.

    `wait` lets time pass (µs); `drop_output` makes the device lose everything that is sent.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        allow_shell: bool,
        wait: Callable[[int], None],
        drop_output: Callable[[bool], None],
        machine: Machine,
    ) -> None:
        self._environment = environment
        self._allow_shell = allow_shell
        self._wait = wait
        self._drop_output = drop_output
        self._machine = machine
        self.files: dict[str, int] = {}  # path: size in bytes

    def run(self, text: str, position: Position) -> None:
        """Does what the text means. Raises ScriptFailure for what is unknown or fails."""
        try:
            text = _ARITHMETIC.sub(lambda found: str(_computed(found[1])), text)
        except (SyntaxError, ZeroDivisionError, KeyError):
            raise ScriptFailure(position, "the arithmetic of the command is wrong") from None
        for part in _SEPARATOR.split(text.replace("\\\n", " ")):
            part = _REDIRECTION.sub(" ", part).strip()
            if part and not part.startswith("#"):
                self._run_one(part, position)

    def _run_one(self, text: str, position: Position) -> None:
        written = _ECHO_TO_PROC.fullmatch(text)
        if written and written[2].startswith("/sys/module/"):
            self._environment.note(f"{written[2]} has no knob in ustack")
            return
        if written:
            self._set(written[2], written[1], position)
            return
        try:
            words = split_words(text)
        except ValueError as error:
            raise ScriptFailure(position, f"command: {error}") from None
        if is_pipeline(words):
            self._ask(words, text, position)
            return
        if words and "|" not in words and self._known(words, position):
            return
        if not self._allow_shell:
            raise ScriptFailure(
                position, f"refused to run '{text}': unknown here, and --allow-shell is not given"
            )
        self._shell(text, position)

    def _known(self, words: Sequence[str], position: Position) -> bool:
        name, arguments = Path(words[0]).name, words[1:]
        match name:
            case "defaults.sh":
                self._defaults(words[0], position)
            case "set_sysctls.py":
                for argument in arguments:
                    path, _, value = argument.partition("=")
                    self._set(path, value, position)
            case "sysctl":
                self._sysctl(arguments, position)
            case "ip":
                return self._ip(arguments)
            case "ethtool":
                self._offload(arguments)
            case "tc":
                return self._queue(arguments)
            case "sleep":
                if len(arguments) != 1 or not _SECONDS.fullmatch(arguments[0]):
                    raise ScriptFailure(position, "sleep takes a number of seconds")
                self._wait(int(float(arguments[0]) * SECOND))
            case "dd":
                return self._make_file(arguments, position)
            case "rm":
                for argument in arguments:  # nothing on disk is touched
                    self.files.pop(str(Path(position.file).parent / argument), None)
            case _ if name in _WITHOUT_EFFECT:
                pass
            case _ if name.startswith("sysctl_restore_"):
                pass  # the next script gets a stack of its own
            case _:
                return False
        return True

    def _ask(self, words: Sequence[str], text: str, position: Position) -> None:
        """A pipeline is a question: no is a failure."""
        try:
            if not run_pipeline(words, self._machine):
                raise ScriptFailure(position, f"'{text}' says no")
        except UnknownPipeline as error:
            raise ScriptFailure(position, f"'{text}': {error}") from None

    def _defaults(self, path: str, position: Position) -> None:
        """The file of the suite if it is there and holds nothing unknown, else what we know of it.

        Its remarks are not worth a note.
        """
        environment = self._environment
        notes, tcp, stack = list(environment.notes), environment.tcp, environment.stack
        apply_defaults(environment)
        try:
            text = (Path(position.file).parent / path).read_text()
            self.run(_without_comments(text), position)
        except (OSError, UnicodeDecodeError):
            pass
        except ScriptFailure:
            environment.tcp, environment.stack = tcp, stack
            apply_defaults(environment)
        environment.notes = notes

    def _sysctl(self, arguments: Sequence[str], position: Position) -> None:
        """Reading a setting has no effect; with -e an unknown one is no error."""
        for argument in arguments:
            setting, equals, value = argument.partition("=")
            if not equals:
                continue
            try:
                self._set(setting, value, position)
            except ScriptFailure as failure:
                if "-e" not in arguments:
                    raise
                self._environment.note(f"{failure} (not an error with -e)")

    def _make_file(self, arguments: Sequence[str], position: Position) -> bool:
        """`dd if=/dev/zero of=FILE bs=N count=N`: all payloads are zeros."""
        given = dict(argument.partition("=")[::2] for argument in arguments)
        target, size = given.get("of"), _size(given.get("bs", "512"))
        count = _size(given.get("count", ""))
        if target is None or size is None or count is None:
            return False
        self.files[str(Path(position.file).parent / target)] = size * count
        return True

    def _set(self, name: str, value: str, position: Position) -> None:
        try:
            write_setting(self._environment, name, value)
        except UnknownSetting as error:
            raise ScriptFailure(position, str(error)) from None

    def _ip(self, arguments: Sequence[str]) -> bool:
        """`ip tcp_metrics flush all`, the attributes of `ip route change` and the MTU of a link."""
        words = [word for word in arguments if not word.startswith("-")]
        shows = {"show", "list", "ls", "flush"} & set(words[1:2]) or len(words) == 1
        if words[:1] == ["tcp_metrics"] or shows:
            return True
        environment = self._environment
        if words[:1] == ["link"] and "mtu" in words[:-1] and words[-1].isdigit():
            environment.stack = replace(environment.stack, mtu=int(words[-1]))
            return True
        if words[:1] not in (["route"], ["ro"]):
            return False
        for key, value in pairwise(words):
            if key == "advmss" and value.isdigit():
                environment.tcp = replace(environment.tcp, mss=int(value))
            elif key == "initcwnd" and value.isdigit():
                environment.tcp = replace(environment.tcp, initial_window_segments=int(value))
            elif key == "rto_min":
                milliseconds = int("".join(filter(str.isdigit, value)) or "0")
                environment.tcp = replace(environment.tcp, min_rto_us=milliseconds * 1000)
            elif key in ("mtu", "lock") and value.isdigit():
                environment.tcp = replace(environment.tcp, mss=int(value) - IPV4_TCP_HEADERS)
            elif key in ("initrwnd", "quickack", "features", "congctl", "fastopen_no_cookie"):
                environment.note(f"route attribute {key} {value} has no knob in ustack")
        return True

    def _offload(self, arguments: Sequence[str]) -> None:
        pairs = dict(zip(arguments[2::2], arguments[3::2], strict=False))
        if "off" in (pairs.get("tso"), pairs.get("gso")):
            self._environment.stack = replace(self._environment.stack, gso_max=0)

    def _queue(self, arguments: Sequence[str]) -> bool:
        if arguments[:1] != ["qdisc"]:
            return False
        if "fq" in arguments:
            self._environment.tcp = replace(self._environment.tcp, pacing=True)  # as fq does it
        self._drop_output(
            "pfifo" in arguments and arguments[-2:] == ["limit", "0"] and "del" not in arguments
        )
        return True

    def _shell(self, text: str, position: Position) -> None:
        """The text, to a real shell, in the folder of the script."""
        folder = Path(position.file).parent
        done = subprocess.run(
            ["/bin/sh", "-c", text],
            cwd=folder if folder.is_dir() else None,
            env=os.environ | {"PACKETDRILL_PID": str(os.getpid())},
            check=False,
        )
        if done.returncode:
            raise ScriptFailure(position, f"'{text}' ended with exit status {done.returncode}")


def _computed(text: str) -> int:
    """`$((text))` of whole numbers. Raises SyntaxError, ZeroDivisionError, KeyError."""

    def value(node: ast.expr) -> int:
        match node:
            case ast.Constant(int() as number):
                return number
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand)
            case ast.BinOp(left, how, right):
                return _OPERATORS[type(how)](value(left), value(right))
        raise SyntaxError(text)

    return value(ast.parse(text.strip(), mode="eval").body)


def _without_comments(text: str) -> str:
    return "\n".join(line.partition("#")[0] for line in text.splitlines())


def _size(text: str) -> int | None:
    """`512`, `1k`, `4M` in bytes."""
    digits = text.rstrip("ckKMG")
    letter = text[len(digits) :]
    if not digits.isdigit() or letter not in _SIZE_LETTERS:
        return None
    return int(digits) * _SIZE_LETTERS[letter]
