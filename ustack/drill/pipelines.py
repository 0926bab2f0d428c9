"""Tools that show the state of a machine, and what filters make of their text: `nstat | grep ...`.

Scripts ask such pipelines yes or no: their exit status is that of the last part. Known are those
of scripts for Linux (nstat, ss, /proc/net) and FreeBSD (sockstat, netstat); all state comes from
ustack.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ustack.drill.shell import Outcome, ShellError

SOURCES = ("nstat", "ss", "sockstat", "netstat")
FILTERS = "grep egrep fgrep wc head tail awk cat sort uniq cut tr".split()
_PRINT_COLUMN = re.compile(r"(?:/((?:[^/\\]|\\.)*)/\s*)?\{\s*print\s+\$(NF|[0-9]+)\s*;?\s*\}")
_SS_STATES = {
    "ESTABLISHED": "ESTAB",
    "SYN_RECEIVED": "SYN-RECV",
    "CLOSED": "UNCONN",
}
_NOT_SHOWN = ("LISTEN", "CLOSED", "TIME_WAIT", "SYN_RECEIVED")  # by ss without -a or -l
_FREEBSD_STATES = {"SYN_RECEIVED": "SYN_RCVD"}
_LINUX_STATES = {"SYN_RECEIVED": "SYN_RECV", "FIN_WAIT_1": "FIN_WAIT1", "FIN_WAIT_2": "FIN_WAIT2"}
GREP_FLAGS = set("qcviEFwsohnaPx")


@dataclass(slots=True, frozen=True)
class ListedSocket:
    """A TCP connection or listener. `state` is the RFC's name with underscores."""

    state: str
    local: str  # address and port
    remote: str
    info: str = ""  # what `ss -i` adds


@dataclass(slots=True)
class Machine:
    """What there is to be shown. Counters have Linux's names."""

    counters: Callable[[], Mapping[str, int]]
    sockets: Callable[[], Sequence[ListedSocket]]
    counted: dict[str, int] = field(default_factory=dict)  # what nstat showed before


def shown(words: Sequence[str], machine: Machine) -> list[str]:
    """What one of SOURCES prints."""
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
            raise ShellError(f"ustack has no counter '{pattern}'")
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
    flags = {letter for word in arguments if re.fullmatch("-[a-zA-Z0-9]+", word) for letter in word}
    wanted = None
    if "state" in arguments[:-1]:
        wanted = arguments[arguments.index("state") + 1].upper().replace("-", "_")
        wanted = {"SYN_RECV": "SYN_RECEIVED", "LISTENING": "LISTEN"}.get(wanted, wanted)
    lines = [] if "H" in flags else ["State Recv-Q Send-Q Local Address:Port Peer Address:Port"]
    for each in listed:
        if wanted in ("ALL", "CONNECTED"):
            shown = wanted == "ALL" or each.state != "LISTEN"
        elif wanted is not None:
            shown = wanted == each.state
        elif "a" in flags or "l" in flags:
            shown = "a" in flags or each.state == "LISTEN"
        else:
            shown = each.state not in _NOT_SHOWN
        if not shown:
            continue
        state = _SS_STATES.get(each.state, each.state.replace("_", "-"))
        lines.append(f"{state} 0 0 {each.local} {each.remote}")
        if "i" in flags and each.info:
            lines.append(f"\t {each.info}")
    return lines


def filtered(
    words: Sequence[str],
    lines: Sequence[str] | None,
    read: Callable[[str], Sequence[str]],
) -> Outcome:
    """What one of FILTERS makes of `lines`, or of the files that it names, which `read` reads."""
    name, arguments = words[0].rpartition("/")[2], list(words[1:])
    if name in ("grep", "egrep", "fgrep"):
        return _grep(name, arguments, lines, read)
    if name == "awk" and arguments[:1]:
        return Outcome(_awk(arguments[0], _text(arguments[1:], lines, read)))
    if name == "cut":
        return Outcome(_cut(arguments, lines, read))
    if name == "tr":
        if arguments != ["-s", " "] or lines is None:
            raise ShellError(f"no filter '{' '.join(words)}' here")
        return Outcome([re.sub(" +", " ", line) for line in lines])
    options = [word for word in arguments if re.fullmatch("-[a-z0-9]+|[0-9]+", word)]
    content = _text([word for word in arguments if word not in options], lines, read)
    if name == "wc" and options == ["-l"]:
        return Outcome([str(len(content))])
    if name in ("head", "tail"):
        count = int("".join(filter(str.isdigit, "".join(options))) or "10")
        return Outcome(content[:count] if name == "head" else content[-count:])
    if name == "cat" and not options:
        return Outcome(content)
    if name == "sort" and set(options) <= {"-u", "-n", "-r"}:
        content = sorted(set(content) if "-u" in options else content)
        return Outcome(content[::-1] if "-r" in options else content)
    if name == "uniq" and not options:
        return Outcome([a for a, b in zip(content, [None, *content], strict=False) if a != b])
    raise ShellError(f"no filter '{' '.join(words)}' here")


def _text(
    files: Sequence[str], lines: Sequence[str] | None, read: Callable[[str], Sequence[str]]
) -> list[str]:
    """The lines of the files, without any those that are piped in."""
    if not files:
        return list(lines or ())
    return [line for file in files for line in read(file)]


def _awk(program: str, lines: Iterable[str]) -> list[str]:
    """`{print $N}`, maybe of the lines that match a pattern."""
    column = _PRINT_COLUMN.fullmatch(program.strip())
    if column is None:
        raise ShellError(f"no filter 'awk {program}' here")
    wanted = re.compile(column[1] or "")
    printed = []
    for line in filter(wanted.search, lines):
        words = line.split()
        at = len(words) - 1 if column[2] == "NF" else int(column[2]) - 1
        printed.append(line if at < 0 and column[2] == "0" else "".join(words[at : at + 1]))
    return printed


def _cut(
    arguments: Sequence[str], lines: Sequence[str] | None, read: Callable[[str], Sequence[str]]
) -> list[str]:
    """`cut -d: -f2`"""
    joined, files = "", []
    for word in arguments:
        if word.startswith("-") or joined[-2:] in ("-d", "-f"):
            joined += word
        else:
            files.append(word)
    found = re.fullmatch(r"(?:-d(.))?-f([0-9]+)(?:-d(.))?", joined)
    if found is None:
        raise ShellError(f"no filter 'cut {' '.join(arguments)}' here")
    separator, at = found[1] or found[3] or "\t", int(found[2]) - 1
    parted = (line.split(separator) for line in _text(files, lines, read))
    return ["".join(parts[at : at + 1]) for parts in parted]


def _grep(
    name: str,
    arguments: Sequence[str],
    lines: Sequence[str] | None,
    read: Callable[[str], Sequence[str]],
) -> Outcome:
    flags = {"F"} if name == "fgrep" else set()
    patterns: list[str] = []
    files: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "-e" and words:
            patterns.append(words.pop(0))
        elif word.startswith("-") and len(word) > 1:
            flags |= set(word[1:].replace("-", ""))
        elif patterns:
            files.append(word)
        else:
            patterns.append(word)
    if not patterns or flags - GREP_FLAGS:
        raise ShellError(f"no '{name} {' '.join(arguments)}' here")
    pattern = _pattern(name, patterns, flags)
    named = len(files) > 1 and "h" not in flags
    texts = [(f"{file}:" if named else "", read(file)) for file in files] or [("", lines or ())]
    found = [
        (label, line)
        for label, text in texts
        for line in text
        if bool(pattern.search(line)) != ("v" in flags)
    ]
    if "c" in flags:
        return Outcome([str(len(found))], bool(found))
    if "o" in flags:
        printed = [label + match[0] for label, line in found for match in pattern.finditer(line)]
    else:
        printed = [label + line for label, line in found]
    return Outcome([] if "q" in flags else printed, bool(found))


def _pattern(name: str, patterns: Sequence[str], flags: set[str]) -> re.Pattern[str]:
    extended = name == "egrep" or flags & {"E", "P"}
    text = "|".join(
        re.escape(each) if "F" in flags else each if extended else _basic(each) for each in patterns
    )
    if "w" in flags:
        text = rf"\b(?:{text})\b"
    if "x" in flags:
        text = rf"^(?:{text})$"
    try:
        return re.compile(text, re.IGNORECASE if "i" in flags else 0)
    except re.error as error:
        raise ShellError(f"'{text}': {error}") from None


def _basic(pattern: str) -> str:
    """A basic regular expression in Python's notation: + ? | ( ) { } are special with a backslash
    only (POSIX.1-2017 §9.3)."""
    return re.sub(
        r"\\(.)|([+?|(){}])",
        lambda m: m[1] if m[1] and m[1] in "+?|(){}" else f"\\{m[1]}" if m[1] else f"\\{m[2]}",
        pattern,
    )
