"""The public API is what `ustack.__all__` names."""

import ast
from pathlib import Path

import ustack


def test_every_public_name_exists_and_is_sorted() -> None:
    assert ustack.__all__ == sorted(ustack.__all__)
    for name in ustack.__all__:
        assert getattr(ustack, name).__module__.startswith("ustack.")


def test_every_error_of_the_library_is_public() -> None:
    tree = ast.parse(Path("ustack/errors.py").read_text())
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {name for name in classes if not name.startswith("_")} <= set(ustack.__all__)
