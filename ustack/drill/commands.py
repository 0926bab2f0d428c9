"""The shell commands of scripts, as configuration of ustack instead of a shell's work.

Known are those of language §13.1 and of the FreeBSD scripts. Any other is refused, unless the
user allowed a real shell. Files that scripts make are sizes and lines in a table, nothing on disk.
"""

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ustack.config import SECOND
from ustack.drill.failure import ScriptFailure
from ustack.drill.pipelines import FILTERS, SOURCES, Machine, filtered, shown
from ustack.drill.positions import Position
from ustack.drill.proc_files import proc_net
from ustack.drill.shell import Outcome, Shell, ShellError, Unknown
from ustack.drill.sysctls import (
    Environment,
    UnknownSetting,
    apply_defaults,
    read_setting,
    write_setting,
)

_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+")
_SLEEP_IN_PYTHON = re.compile(r"import time; ?time\.sleep\(([0-9.]+)\)")
_SIZE_LETTERS = {"": 1, "c": 1, "k": 1024, "K": 1024, "M": 1024**2, "G": 1024**3}
# They load what is always there, look at what no script asks for, or tidy up.
_WITHOUT_EFFECT = frozenset(
    """kldload kldunload kldstat modprobe rmmod lsmod true : sync date set export ulimit umask
    cd mkdir rmdir touch chmod dmesg logger killall pkill kill wait""".split()
)
# They would change what segments meet on their way, which is nothing here: said in a note.
_NOTED = frozenset("iptables ip6tables iptables-restore nft ipfw pfctl arp ndp".split())
_TESTS: Mapping[str, Callable[[int, int], bool]] = {
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}
_PREFIXES = ("sudo", "exec", "command", "env", "nice")
_IP_ASIDE = "rule ru neigh neighbour n netns netconf addrlabel maddr mroute monitor".split()
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
        self._texts: dict[str, list[str]] = {}  # what was written into some of them
        self._position = Position("", 0)  # of what is being run
        self._shell = Shell(self._stage, self.read, self.write, self._otherwise)

    def run(self, text: str, position: Position) -> None:
        """Does what the text means. Raises ScriptFailure for what is unknown or fails."""
        before, self._position = self._position, position
        try:
            outcome = self._shell.execute(text)
        except Unknown as unknown:
            raise ScriptFailure(
                position, f"refused to run {unknown}: unknown here, and --allow-shell is not given"
            ) from None
        except ShellError as error:
            raise ScriptFailure(position, f"command: {error}") from None
        finally:
            self._position = before
        if not outcome.yes:
            raise ScriptFailure(position, outcome.reason)

    def _otherwise(self, text: str) -> Outcome | None:
        """What is not known goes to a real shell, in the folder of the script, if it may."""
        if not self._allow_shell:
            return None
        folder = Path(self._position.file).parent
        done = subprocess.run(
            ["/bin/sh", "-c", text],
            cwd=folder if folder.is_dir() else None,
            env=os.environ | {"PACKETDRILL_PID": str(os.getpid())},
            check=False,
        )
        reason = f"'{text}' ended with exit status {done.returncode}"
        return Outcome(yes=not done.returncode, reason=reason)

    # One command of a pipeline

    def _stage(self, words: Sequence[str], lines: Sequence[str] | None) -> Outcome:
        while words[0] in _PREFIXES and len(words) > 1:
            words = words[1:]
        name, arguments = Path(words[0]).name, words[1:]
        if name in SOURCES:
            return Outcome(shown(words, self._machine))
        if name in FILTERS and (lines is not None or arguments):
            return filtered(words, lines, self.read)
        match name:
            case "defaults.sh":
                self._defaults(words[0])
            case "set_sysctls.py":
                return self._write_all(arguments)
            case "sysctl":
                return self._sysctl(arguments)
            case "ip" | "ethtool" | "tc" | "ifconfig":
                return self._device(name, arguments)
            case "dd" | "truncate" | "fallocate":
                if not self._make_file(arguments):
                    raise Unknown(f"'{' '.join(words)}'")
            case _ if words[0].endswith(".sh") and Path(self._path(words[0])).is_file():
                return self._shell.execute(Path(self._path(words[0])).read_text(errors="replace"))
            case "rm":
                for argument in arguments:  # nothing on disk is touched
                    self.files.pop(self._path(argument), None)
                    self._texts.pop(self._path(argument), None)
            case "tee":
                for path in arguments:
                    if not path.startswith("-"):
                        self.write(path, lines or (), append="-a" in arguments)
                return Outcome(list(lines or ()))
            case _:
                return self._small(name, words)
        return Outcome()

    def _small(self, name: str, words: Sequence[str]) -> Outcome:
        """Commands of the shell itself, those that let time pass, and those without effect."""
        arguments = words[1:]
        match name:
            case "false" | "exit":
                return Outcome(yes=name == "exit" and arguments[:1] in ([], ["0"]))
            case "test" | "[" | "[[":
                return Outcome(yes=self._test(arguments if name == "test" else arguments[:-1]))
            case "echo" | "printf":
                text = " ".join(each for each in arguments if each not in ("-n", "-e"))
                return Outcome(text.split("\n"))
            case "sh" | "bash" if arguments[:1] == ["-c"] and len(arguments) > 1:
                return self._shell.execute(arguments[1])
            case "uname":
                return Outcome(["Linux"])
            case "sleep" | "usleep":
                self._sleep(arguments, 1 if name == "usleep" else SECOND)
            case "python" | "python3" if arguments[:1] == ["-c"]:
                slept = _SLEEP_IN_PYTHON.fullmatch(" ".join(arguments[1:]).strip())
                if slept is None:
                    raise Unknown(f"'{' '.join(words)}'")
                self._sleep([slept[1]], SECOND)
            case _ if name in _NOTED:
                self._environment.note(f"'{' '.join(words)}' has no meaning here")
            case _ if name in _WITHOUT_EFFECT or name.startswith("sysctl_restore_"):
                pass  # the next script gets a stack of its own
            case _:
                raise Unknown(f"'{' '.join(words)}'")
        return Outcome()

    def _test(self, arguments: Sequence[str]) -> bool:
        """test(1) with one operator."""
        match list(arguments):
            case ["!", *rest]:
                return not self._test(rest)
            case ["-z" | "-n" as which, text]:
                return bool(text) == (which == "-n")
            case ["-e" | "-f" | "-r" | "-w" | "-s" | "-d" | "-x", path]:
                return self._path(path) in self.files or path.startswith(("/proc", "/sys", "/dev"))
            case [text]:
                return bool(text)
            case [one, "=" | "==", other]:
                return one == other
            case [one, "!=", other]:
                return one != other
            case [one, how, other] if how in _TESTS:
                try:
                    return _TESTS[how](int(one), int(other))
                except ValueError:
                    return False
        raise Unknown(f"'test {' '.join(arguments)}'")

    def _sleep(self, arguments: Sequence[str], unit_us: int) -> None:
        if len(arguments) != 1 or not _SECONDS.fullmatch(arguments[0]):
            raise ShellError("sleep takes a number of seconds")
        self._wait(int(float(arguments[0]) * unit_us))

    def _defaults(self, path: str) -> None:
        """The file of the suite if it is there and holds nothing unknown, else what we know of it.

        Its remarks are not worth a note.
        """
        environment = self._environment
        notes, tcp, stack = list(environment.notes), environment.tcp, environment.stack
        apply_defaults(environment)
        try:
            self.run(Path(self._path(path)).read_text(), self._position)
        except (OSError, UnicodeDecodeError):
            pass
        except ScriptFailure:
            environment.tcp, environment.stack = tcp, stack
            apply_defaults(environment)
        environment.notes = notes

    # Files

    def _path(self, path: str) -> str:
        return str(Path(self._position.file).parent / path)

    def read(self, path: str) -> Sequence[str]:
        """The lines of a file below /proc, or of one that was written. Raises ShellError."""
        found = proc_net(path, self._machine)
        if found is None and path.startswith("/proc/sys/"):
            found = [read_setting(self._environment, path)]
        if found is None:
            found = self._texts.get(self._path(path))
        if found is None:
            raise ShellError(f"there is no file {path} here")
        return found

    def write(self, path: str, lines: Sequence[str], *, append: bool) -> Outcome:
        """`> path`, or with `append` `>> path`."""
        if path.startswith("/proc/sys/"):
            return self._write_all([f"{path}={' '.join(lines)}"])
        if path.startswith(("/sys/", "/proc/")):
            self._environment.note(f"{path} has no knob in ustack")
        elif not path.startswith("/dev/"):
            path = self._path(path)
            text = [*self._texts.get(path, []), *lines] if append else list(lines)
            self._texts[path] = text
            self.files[path] = sum(len(line) + 1 for line in text)
        return Outcome()

    def _make_file(self, arguments: Sequence[str]) -> bool:
        """`dd if=/dev/zero of=FILE bs=N count=N`, `truncate -s N FILE`: all payloads are zeros."""
        size: int | None
        count: int | None
        if arguments[:1] in (["-s"], ["-l"]) and len(arguments) == 3:
            size, count, target = _size(arguments[1]), 1, arguments[2]
        else:
            given = dict(argument.partition("=")[::2] for argument in arguments)
            target = given.get("of", "")
            size, count = _size(given.get("bs", "512")), _size(given.get("count", ""))
        if not target or size is None or count is None:
            return False
        self.files[self._path(target)] = size * count
        return True

    # Settings

    def _sysctl(self, arguments: Sequence[str]) -> Outcome:
        """Sets what has a "=", prints the others; with -e an unknown one is no error."""
        printed: list[str] = []
        values_only = any(word in ("-n", "-nq", "-qn", "-bn") for word in arguments)
        for argument in arguments:
            setting, equals, value = argument.partition("=")
            if equals:
                outcome = self._write_all([argument])
                if not outcome.yes and "-e" not in arguments:
                    return outcome
                if not outcome.yes:
                    self._environment.note(f"{outcome.reason} (not an error with -e)")
                printed.append(f"{setting} = {value}")
            elif not argument.startswith("-"):
                current = read_setting(self._environment, setting)
                printed.append(current if values_only else f"{setting} = {current}")
        return Outcome([] if "-q" in arguments else printed)

    def _write_all(self, assignments: Sequence[str]) -> Outcome:
        for assignment in assignments:
            name, _, value = assignment.partition("=")
            try:
                write_setting(self._environment, name, value)
            except UnknownSetting as error:
                return Outcome(yes=False, reason=str(error))
        return Outcome()

    # Routes and devices

    def _device(self, name: str, arguments: Sequence[str]) -> Outcome:
        match name:
            case "ip":
                known = self._ip(arguments)
            case "tc":
                known = self._queue(arguments)
            case "ifconfig":
                known = self._interface(arguments)
            case _:
                known = self._offload(arguments)
        if not known:
            raise Unknown(f"'{name} {' '.join(arguments)}'")
        return Outcome()

    def _ip(self, arguments: Sequence[str]) -> bool:
        """`ip tcp_metrics flush all`, the attributes of `ip route change` and the MTU of a link."""
        words = [word for word in arguments if not word.startswith("-")]
        if not words:
            return False
        shows = {"show", "list", "ls", "flush", "get"} & set(words[1:2]) or len(words) == 1
        if words[:1] in (["tcp_metrics"], ["tcpmetrics"]) or shows:
            return True
        environment = self._environment
        if words[:1] in (["link"], ["l"]) and "mtu" in words[:-1]:
            return self._interface(words[1:])
        if words[:1] in (["address"], ["addr"], ["a"], ["link"], ["l"]) or words[0] in _IP_ASIDE:
            environment.note(f"'ip {' '.join(arguments)}' has no meaning here")
            return True
        if words[:1] not in (["route"], ["ro"], ["r"]):
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

    def _interface(self, arguments: Sequence[str]) -> bool:
        """`ifconfig tun0 mtu N`; all else about an interface is as it is."""
        for key, value in pairwise(arguments):
            if key == "mtu" and value.isdigit():
                self._environment.stack = replace(self._environment.stack, mtu=int(value))
        return True

    def _offload(self, arguments: Sequence[str]) -> bool:
        pairs = dict(zip(arguments[2::2], arguments[3::2], strict=False))
        if "off" in (pairs.get("tso"), pairs.get("gso")):
            self._environment.stack = replace(self._environment.stack, gso_max=0)
        return True

    def _queue(self, arguments: Sequence[str]) -> bool:
        words = [word for word in arguments if not word.startswith("-")]
        if words[1:2] in (["show"], ["list"], ["ls"]) or words[:1] in (["filter"], ["class"]):
            return True
        if words[:1] not in (["qdisc"], ["q"]) or "netem" in words:
            return False
        if "fq" in words:
            self._environment.tcp = replace(self._environment.tcp, pacing=True)  # as fq does it
        limited = "pfifo" in words and words[-2:] == ["limit", "0"]
        self._drop_output(limited and "del" not in words)
        return True


def _size(text: str) -> int | None:
    """`512`, `1k`, `4M` in bytes."""
    digits = text.rstrip("ckKMG")
    letter = text[len(digits) :]
    if not digits.isdigit() or letter not in _SIZE_LETTERS:
        return None
    return int(digits) * _SIZE_LETTERS[letter]
