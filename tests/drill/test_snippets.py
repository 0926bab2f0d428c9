"""Snippets compute, and can do nothing else."""

import pytest

from ustack.drill.failure import ScriptFailure
from ustack.drill.positions import Position
from ustack.drill.snippets import Snippets

HERE = Position("t.pkt", 7)


def run(*texts: str, **values: int) -> None:
    snippets = Snippets()
    for text in texts:
        snippets.add(HERE, text, values)
    snippets.run()


def test_names_live_on_in_later_snippets() -> None:
    with pytest.raises(ScriptFailure, match="assertion failed: 59"):
        run("cwnd = tcpi_snd_cwnd", "assert cwnd == 5, cwnd + 1", tcpi_snd_cwnd=58)


def test_constants_and_pure_builtins_are_there() -> None:
    with pytest.raises(ScriptFailure, match="assertion failed: 3"):
        run("assert 0, max(TCP_ESTABLISHED, TCP_CA_Recovery)")


def test_what_only_computes_may_be_imported() -> None:
    run("import math\nfrom itertools import chain", "assert math.floor(1.5) == len([*chain([0])])")


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "import math, os",
        "import math\nmath.__loader__",
        "from .math import floor",
        "from os import path",
        "open('/etc/passwd')",
        "().__class__",
        "__builtins__",
        "eval('1')",
        "'{0.__class__}'.format(1)",
        "x = (",
        "1 / 0",
    ],
)
def test_there_is_no_way_out_and_every_error_has_its_line(text: str) -> None:
    with pytest.raises(ScriptFailure, match=r"t\.pkt:7: "):
        run(text)
