"""The click group `ustack`. Owns the list of subcommands and the way every error is shown.

Each subcommand is a module of this package that exports a click command of the same name. It is
imported only when it is asked for: `ustack ladder` does not load asyncio or aiohttp.
"""

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence

import click

from ustack.errors import UStackError

SUBCOMMANDS = {
    "serve": "serve echo, discard, daytime, source and HTTP on a TUN device",
    "nc": "connect to a port, or listen on one, with stdin and stdout",
    "ss": "show the connections, timers and TIME_WAITs of a running `serve`",
    "ladder": "draw the TCP connections of a capture file",
    "drill": "run packetdrill scripts against the stack",
}

EXIT_FAILURE = 1
EXIT_SIGINT = 128 + signal.SIGINT  # what a shell reports for a command ended by Ctrl-C


class SubcommandGroup(click.Group):
    """A group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in SUBCOMMANDS if _is_present(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = vars(importlib.import_module(f"ustack.cli.{cmd_name}"))[cmd_name]
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the subcommands from the table above: `--help` imports none of them."""
        rows = [(name, SUBCOMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _is_present(name: str) -> bool:
    return importlib.util.find_spec(f"ustack.cli.{name}") is not None


@click.group(cls=SubcommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ustack")
def group() -> None:
    """A TCP/IP stack in user space."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `ustack` and exits: 0 done, 1 failed (one line on stderr), 2 wrong usage, 130 Ctrl-C."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs `ustack` with `arguments` (default: the process's own) and returns the exit code."""
    try:
        result = group.main(arguments, prog_name="ustack", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_SIGINT
    except UStackError as error:
        return _fail(error)
    except BrokenPipeError:
        # The reader of our output (a pager, `head`) has gone. Python would complain again when
        # it flushes stdout at exit, unless the descriptor leads somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except OSError as error:
        return _fail(error)
    return result if isinstance(result, int) else 0


def _fail(error: UStackError | OSError) -> int:
    click.echo(f"ustack: {describe(error)}", err=True)
    return EXIT_FAILURE


def describe(error: UStackError | OSError) -> str:
    """One line for an error, without the errno that `str(OSError)` puts in front."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return where + error.strerror
    return " ".join(str(error).split()) or type(error).__name__
