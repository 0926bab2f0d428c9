"""Tools that show the state of a machine, and what filters make of their text: `nstat | grep ...`.

Scripts ask such pipelines yes or no: their exit status is that of the last part. Known are those
of scripts for Linux (nstat, ss) and FreeBSD (sockstat, netstat); all state comes from ustack.
"""

import fnmatch
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

SOURCES = ("nstat", "ss", "sockstat", "netstat")
_PRINT_COLUMN = re.compile(r"\{\s*print\s+\$([0-9]+)\s*;?\s*\}")
_SS_STATES = {
    "ESTABLISHED": "ESTAB",
    "SYN_RECEIVED": "SYN-RECV",
    "CLOSED": "UNCONN",
}
_FREEBSD_STATES = {"SYN_RECEIVED": "SYN_RCVD"}
_LINUX_STATES = {"SYN_RECEIVED": "SYN_RECV", "FIN_WAIT_1": "FIN_WAIT1", "FIN_WAIT_2": "FIN_WAIT2"}


class UnknownPipeline(Exception):
    """It cannot be shown here; the text says what."""


@dataclass(slots=True, frozen=True)
class ListedSocket:
    """A TCP connection or listener. `state` is the RFC's name with underscores."""

    state: str
    local: str  # address and port
    remote: str


@dataclass(slots=True)
class Machine:
    """What there is to be shown. Counters have Linux's names."""

    counters: Callable[[], Mapping[str, int]]
    sockets: Callable[[], Sequence[ListedSocket]]
    counted: dict[str, int] = field(default_factory=dict)  # what nstat showed before


def is_pipeline(words: Sequence[str]) -> bool:
    """Whether these words are for `run_pipeline`."""
    return bool(words) and words[0].rpartition("/")[2] in SOURCES


def split_words(text: str) -> list[str]:
    """The words of a command; `|` is a word of its own. Raises ValueError."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|")
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def run_pipeline(words: Sequence[str], machine: Machine) -> bool:
    """Whether the pipeline ends with status 0. Raises UnknownPipeline."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            parts.append([])
        else:
            parts[-1].append(word)
    lines, status = _shown(parts[0], machine), True
    for part in parts[1:]:
        lines, status = _filtered(part, lines)
    return status


def _shown(words: Sequence[str], machine: Machine) -> list[str]:
    name, arguments = words[0].rpartition("/")[2], words[1:]
    if name == "nstat":
        return _counters(arguments, machine)
    listed = machine.sockets()
    if name == "ss":
        return _sockets_of_linux(arguments, listed)
    names = _FREEBSD_STATES if name == "sockstat" else _LINUX_STATES
    return [
        f"root packetdrill 1 3 tcp {each.local} {each.remote} {names.get(each.state, each.state)}"
        for each in listed
    ]


def _counters(arguments: Sequence[str], machine: Machine) -> list[str]:
    """What has been counted since the last time that nstat was called."""
    flags = {letter for word in arguments if word.startswith("-") for letter in word[1:]}
    asked = [word for word in arguments if not word.startswith("-")]
    now = dict(machine.counters())
    for pattern in asked:
        if not fnmatch.filter(now, pattern):
            raise UnknownPipeline(f"ustack has no counter '{pattern}'")
    before = {} if "a" in flags else machine.counted
    if "s" not in flags:
        machine.counted = now
    if "n" in flags:
        return []
    since = {name: value - before.get(name, 0) for name, value in now.items()}
    return [
        f"{name:<32}{value:<20}0.0"
        for name, value in since.items()
        if (value or "z" in flags)
        and (not asked or any(fnmatch.fnmatchcase(name, pattern) for pattern in asked))
    ]


def _sockets_of_linux(arguments: Sequence[str], listed: Sequence[ListedSocket]) -> list[str]:
    """`ss`; of its filters only `state NAME` is heeded: one script has one connection."""
    wanted = None
    if "state" in arguments[:-1]:
        wanted = arguments[arguments.index("state") + 1].upper().replace("-", "_")
        wanted = {"SYN_RECV": "SYN_RECEIVED", "LISTENING": "LISTEN"}.get(wanted, wanted)
    return [
        f"{_SS_STATES.get(each.state, each.state.replace('_', '-'))} 0 0 {each.local} {each.remote}"
        for each in listed
        if wanted in (None, "CONNECTED", each.state)
    ]


def _filtered(words: Sequence[str], lines: list[str]) -> tuple[list[str], bool]:
    name, arguments = (words[0], words[1:]) if words else ("", [])
    if name in ("grep", "egrep", "fgrep"):
        return _grep(name, arguments, lines)
    if name == "wc" and list(arguments) == ["-l"]:
        return [str(len(lines))], True
    if name in ("head", "tail"):
        count = int("".join(filter(str.isdigit, "".join(arguments))) or "10")
        return (lines[:count] if name == "head" else lines[-count:]), True
    if name == "awk" and len(arguments) == 1:
        column = _PRINT_COLUMN.fullmatch(arguments[0].strip())
        if column:
            at = int(column[1]) - 1
            columns = [line.split() for line in lines]
            return [words[at] if at < len(words) else "" for words in columns], True
    if name == "cat" and not arguments:
        return lines, True
    if name == "sort" and not arguments:
        return sorted(lines), True
    raise UnknownPipeline(f"no filter '{' '.join(words)}' here")


def _grep(name: str, arguments: Sequence[str], lines: list[str]) -> tuple[list[str], bool]:
    flags = {"F"} if name == "fgrep" else set()
    patterns: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "-e" and words:
            patterns.append(words.pop(0))
        elif word.startswith("-") and len(word) > 1:
            flags |= set(word[1:].replace("-", ""))
        else:
            patterns.append(word)
    if not patterns or flags - set("qcviEFwso"):
        raise UnknownPipeline(f"no '{name} {' '.join(arguments)}' here")
    text = "|".join(re.escape(each) if "F" in flags else each for each in patterns)
    if "w" in flags:
        text = rf"\b(?:{text})\b"
    try:
        pattern = re.compile(text, re.IGNORECASE if "i" in flags else 0)
    except re.error as error:
        raise UnknownPipeline(f"'{text}': {error}") from None
    found = [line for line in lines if bool(pattern.search(line)) != ("v" in flags)]
    if "c" in flags:
        return [str(len(found))], bool(found)
    return ([] if "q" in flags else found), bool(found)
