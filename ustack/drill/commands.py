"""The shell commands of scripts, as configuration of ustack instead of a shell's work.

Known are those of language §13.1 and of the FreeBSD scripts. Any other is refused, unless the
user allowed a real shell.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ustack.config import SECOND
from ustack.drill.failure import ScriptFailure
from ustack.drill.lexer import Position
from ustack.drill.sysctls import Environment, UnknownSetting, apply_defaults, write_setting

_SEPARATOR = re.compile(r"\s*(?:;|&&|\n)\s*")
_REDIRECTION = re.compile(r"\s*(?:[0-9]?>{1,2}\s*/dev/null|2>&1|&>\s*/dev/null|\|\|\s*true)\s*")
_ECHO_TO_PROC = re.compile(r"""echo\s+["']?([^"'>]*?)["']?\s*>\s*(/(?:proc/sys|sys/module)/\S+)""")
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]*)?|\.[0-9]+")
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
    ) -> None:
        self._environment = environment
        self._allow_shell = allow_shell
        self._wait = wait
        self._drop_output = drop_output

    def run(self, text: str, position: Position) -> None:
        """Does what the text means. Raises ScriptFailure for what is unknown or fails."""
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
            words = shlex.split(text)
        except ValueError as error:
            raise ScriptFailure(position, f"command: {error}") from None
        if words and self._known(words, position):
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
                apply_defaults(self._environment)
            case "set_sysctls.py":
                for argument in arguments:
                    path, _, value = argument.partition("=")
                    self._set(path, value, position)
            case "sysctl":
                for argument in arguments:
                    setting, equals, value = argument.partition("=")
                    if equals:
                        self._set(setting, value, position)
                    elif not argument.startswith("-"):
                        return False
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
            case "kldload" | "true" | ":" | "sync":
                pass
            case _ if name.startswith("sysctl_restore_"):
                pass  # the next script gets a stack of its own
            case _:
                return False
        return True

    def _set(self, name: str, value: str, position: Position) -> None:
        try:
            write_setting(self._environment, name, value)
        except UnknownSetting as error:
            raise ScriptFailure(position, str(error)) from None

    def _ip(self, arguments: Sequence[str]) -> bool:
        """`ip tcp_metrics flush all` and the attributes of `ip route change`."""
        if arguments[:1] == ["tcp_metrics"]:
            return True
        words = [word for word in arguments if word not in ("-4", "-6")]
        if words[:1] not in (["route"], ["ro"]):
            return False
        environment = self._environment
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
            self._environment.note("pacing by a queueing discipline (fq) has no knob in ustack")
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
