"""docs/conformance.md cannot rot: what it names exists, and it is what the generator writes."""

import ast
import importlib
from functools import cache
from pathlib import Path

import pytest

from tools.conformance_table import (
    DOCUMENT,
    MET,
    ROOT,
    load_requirements,
    load_verdicts,
    main,
    render,
    rows,
)
from ustack.errors import MalformedFile

REQUIREMENTS = load_requirements()
VERDICTS = load_verdicts()
TESTS = ROOT / "tests"
HARNESSES = {"tests.stack.host", "ustack.stack.stack"}  # what feeds frames to a stack


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def functions(path: Path) -> set[str]:
    """What pytest collects from a module without classes."""
    return {
        node.name
        for node in parsed(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def imports(path: Path) -> set[str]:
    return {node.module or "" for node in parsed(path).body if isinstance(node, ast.ImportFrom)}


def exists(test: str) -> bool:
    name, _, function = test.partition("::")
    path = TESTS / name
    if path.suffix == ".pkt":
        return path.is_file() and not function
    return path.is_file() and path.name.startswith("test_") and function in functions(path)


def is_on_the_wire(test: str) -> bool:
    """It is a script, or its module gives frames to a stack or to the kernel."""
    path = TESTS / test.partition("::")[0]
    return (
        path.suffix == ".pkt"
        or path.parent.name in ("interop", "netsim")
        or bool(imports(path) & HARNESSES)
    )


def resolve(symbol: str) -> object:
    """The object that a dotted name names: module, then attributes."""
    parts = symbol.split(".")
    for size in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:size]))
        except ModuleNotFoundError:
            continue
        for name in parts[size:]:
            fields = getattr(found, "__dataclass_fields__", {})
            found = fields[name] if name in fields else getattr(found, name)
        return found
    raise ModuleNotFoundError(symbol)


def test_every_requirement_has_one_verdict_and_no_verdict_is_about_nothing() -> None:
    ids = [requirement.id for requirement in REQUIREMENTS]
    assert len(ids) == len(set(ids))
    assert set(ids) == set(VERDICTS)


def test_all_119_requirements_of_rfc_9293_are_there() -> None:
    ids = {requirement.id for requirement in REQUIREMENTS}
    wanted = {f"MUST-{number}" for number in range(1, 70)}
    wanted |= {f"SHLD-{number}" for number in range(1, 32)}
    wanted |= {f"MAY-{number}" for number in range(1, 19)} | {"REC-1"}
    assert wanted <= ids and len(wanted) == 119


@pytest.mark.parametrize(
    "symbol", sorted({symbol for verdict in VERDICTS.values() for symbol in verdict.symbols})
)
def test_a_symbol_named_exists(symbol: str) -> None:
    assert symbol.startswith("ustack.")
    resolve(symbol)


@pytest.mark.parametrize(
    "test", sorted({test for verdict in VERDICTS.values() for test in verdict.tests})
)
def test_a_test_named_exists(test: str) -> None:
    assert exists(test)


def test_what_is_called_met_has_a_symbol_and_a_test_on_the_wire() -> None:
    for verdict in VERDICTS.values():
        if verdict.verdict == MET:
            assert verdict.symbols, verdict.id
            assert any(is_on_the_wire(test) for test in verdict.tests), verdict.id


def test_what_is_not_met_has_a_reason() -> None:
    for verdict in VERDICTS.values():
        assert verdict.verdict == MET or verdict.reason, verdict.id


def test_every_must_of_rfc_9293_is_met_but_for_source_routes() -> None:
    source_routes = {"MUST-51", "MUST-52", "MUST-53"}
    for number in range(1, 70):
        verdict = VERDICTS[f"MUST-{number}"]
        assert verdict.verdict == MET or verdict.id in source_routes, verdict.id


def test_the_document_is_what_the_generator_writes() -> None:
    assert DOCUMENT.read_text() == render(REQUIREMENTS, VERDICTS), "run tools/conformance"


def test_a_row_with_too_few_columns_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.tsv"
    path.write_text("#id\tverdict\nMUST-1\tmet\n")
    with pytest.raises(MalformedFile, match=r"verdicts\.tsv:2: 2 columns, not 5"):
        list(rows(path, 5))


def test_the_generator_checks_its_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0
    assert capsys.readouterr().err == ""
