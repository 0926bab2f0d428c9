"""The architecture as a test: imports only go down, and the core does no IO.

Each rule is a function from source text to what breaks it, shown to find a counterexample.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "ustack"

# Per layer (a folder or file of ustack/): the layers that it may import besides itself.
BASE = {"errors", "config"}
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "config": set(),
    "wire": BASE,
    "tcp": BASE | {"wire"},
    "stack": BASE | {"wire", "tcp"},
    "pcapng": {"errors"},
    "device": BASE | {"wire", "pcapng"},
    "runtime": BASE | {"wire", "tcp", "stack", "device", "pcapng"},
    "drill": BASE | {"wire", "tcp", "stack", "device", "pcapng"},
    "ladder": BASE | {"wire", "tcp", "pcapng"},
    "cli": BASE | {"wire", "tcp", "stack", "device", "pcapng", "runtime", "drill", "ladder"},
    "__init__": BASE | {"tcp", "stack", "device", "pcapng", "runtime"},
    "__main__": {"cli"},
}
# Inside tcp, from the bottom: a module imports from lower rows only.
TCP_ROWS: list[set[str]] = [
    {"seq", "state", "delivery_rate"},
    {"segment", "rate_limit", "memory", "rtt", "congestion", "rack"}
    | {"sent_range", "chronograph", "pacing", "send_buffer", "send_marks"}
    | {"receive_buffer", "receive_tuning", "mtu_search"},
    {"scoreboard", "syn_cookies", "siphash", "prr", "undo", "window_usage"},
    {"recovery", "fast_open"},
    {"tcb"},
    {"ack_policy", "memory_pressure", "emit"},
    {"ecn", "tail_loss", "buffer_sizes", "rates", "md5_signature"} | {"sack_compression"},
    {"accurate_ecn", "pieces"},
    {"ecn_handshake"},
    {"handshake"},
    {"mtu_probing", "timestamp_echo", "outgoing"},
    {"dubious_ack", "establish", "probes", "text_arrives"},
    {"user_calls", "segment_arrives", "timeouts", "transmit"},
]
PURE_LAYERS = ("wire", "tcp", "stack")
IMPURE = {"asyncio", "os", "socket", "select", "selectors", "threading", "time", "random"}
IMPURE |= {"secrets", "signal", "subprocess", "logging", "multiprocessing", "concurrent"}


def sources(*layers: str) -> Iterator[tuple[str, str]]:
    """Yields (dotted module name, source) of every module in these layers, or in all."""
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if not layers or parts[1] in layers:
            yield ".".join(parts), path.read_text()


def imports(source: str) -> Iterator[str]:
    """Yields what is imported, as "module" and "module.name", except for type checkers only."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            skipped.update(child for statement in node.body for child in ast.walk(statement))
        elif node in skipped:
            continue
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they go"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module: str) -> str:
    """The layer of a dotted name: "ustack.wire.tcp" is in wire, "ustack" itself in __init__."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def upward_imports(module: str, source: str) -> list[str]:
    own = layer_of(module)
    allowed = LAYERS[own] | {own}
    targets = {name for name in imports(source) if name.startswith(f"{PACKAGE}.")}
    return [f"{module} imports {name}" for name in targets if layer_of(name) not in allowed]


def upward_imports_in_tcp(module: str, source: str) -> list[str]:
    rows = {name: row for row, names in enumerate(TCP_ROWS) for name in names}
    own = module.split(".")[2]
    if own == "__init__":
        return []
    found = []
    for name in imports(source):
        parts = name.split(".")
        if parts[:2] == [PACKAGE, "tcp"] and len(parts) > 2 and parts[2] != own:
            if rows[parts[2]] >= rows[own]:
                found.append(f"{module} imports {name}")
    return found


def impure_imports(module: str, source: str) -> list[str]:
    names = {name.split(".")[0] for name in imports(source)}
    return [f"{module} imports {name}" for name in names & IMPURE]


def state_writers(module: str, source: str) -> list[str]:
    """Every assignment to an attribute `state`, but the first one in a constructor."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            targets: list[ast.expr] = []
            if isinstance(node, ast.Assign):
                targets = [part for target in node.targets for part in flatten(target)]
            elif isinstance(node, ast.AnnAssign | ast.AugAssign):
                targets = [node.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and target.attr == "state":
                    if not (function.name == "__init__" and ast.unparse(target.value) == "self"):
                        found.append(f"{module}.{function.name}")
    return found


def flatten(target: ast.expr) -> Iterator[ast.expr]:
    """The single targets of `a, (b, c) = ...`."""
    if isinstance(target, ast.Tuple | ast.List):
        for element in target.elts:
            yield from flatten(element)
    else:
        yield target


def device_writers(module: str, source: str) -> list[str]:
    """Every use of the attribute `write` of something called `device`."""
    return [
        module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr == "write"
        and ast.unparse(node.value).split(".")[-1].strip("_") == "device"
    ]


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """The modules that reach themselves by imports."""

    def reaches(start: str) -> bool:
        seen: set[str] = set()
        ahead = list(graph[start])
        while ahead:
            module = ahead.pop()
            if module == start:
                return True
            if module not in seen:
                seen.add(module)
                ahead += graph[module]
        return False

    return [module for module in graph if reaches(module)]


def import_graph(modules: dict[str, str]) -> dict[str, set[str]]:
    """Who imports whom among `modules`; a package stands for its own __init__ only."""
    named = {module.removesuffix(".__init__"): source for module, source in modules.items()}
    return {
        module: {name for name in imports(source) if name in named and name != module}
        for module, source in named.items()
    }


def test_every_layer_has_its_place() -> None:
    assert {layer_of(module) for module, _ in sources()} <= set(LAYERS)


def test_imports_between_layers_only_go_down() -> None:
    assert [bad for module, source in sources() for bad in upward_imports(module, source)] == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("ustack.wire.tcp", "from ustack.tcp.tcb import Tcb"),
        ("ustack.wire.tcp", "def f():\n    import ustack.stack.stack"),
        ("ustack.tcp.transmit", "from ustack.device.base import Device"),
        ("ustack.errors", "from ustack import config"),
        ("ustack.stack.stack", "from ustack import runtime"),
    ],
)
def test_an_upward_import_is_found(module: str, source: str) -> None:
    assert len(upward_imports(module, source)) > 0


def test_a_downward_import_is_no_fault() -> None:
    assert upward_imports("ustack.tcp.tcb", "from ustack.wire import Buffer") == []


def test_an_import_for_type_checkers_is_no_fault() -> None:
    source = "if TYPE_CHECKING:\n    from ustack.tcp.tcb import Tcb"
    assert upward_imports("ustack.wire.tcp", source) == []


def test_every_module_of_tcp_has_its_row() -> None:
    names = {module.split(".")[2] for module, _ in sources("tcp")} - {"__init__"}
    assert names == set.union(*TCP_ROWS)


def test_imports_inside_tcp_only_go_down() -> None:
    found = [bad for name, source in sources("tcp") for bad in upward_imports_in_tcp(name, source)]
    assert found == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("ustack.tcp.segment_arrives", "from ustack.tcp.transmit import transmit"),
        ("ustack.tcp.scoreboard", "from ustack.tcp import tcb"),
        ("ustack.tcp.congestion.cubic", "from ustack.tcp.tcb import Tcb"),
    ],
)
def test_event_modules_do_not_import_each_other_nor_collaborators_the_tcb(
    module: str, source: str
) -> None:
    assert len(upward_imports_in_tcp(module, source)) > 0


def test_the_core_imports_no_io_no_clock_no_randomness_and_no_thread() -> None:
    found = [bad for name, source in sources(*PURE_LAYERS) for bad in impure_imports(name, source)]
    assert found == []


@pytest.mark.parametrize("source", ["import time", "from os import path", "import asyncio.queues"])
def test_an_impure_import_is_found(source: str) -> None:
    assert len(impure_imports("ustack.tcp.tcb", source)) == 1


def test_set_state_alone_writes_the_state_of_a_tcb() -> None:
    layers = ("tcp", "stack", "runtime", "drill")
    found = [bad for name, source in sources(*layers) for bad in state_writers(name, source)]
    assert found == ["ustack.tcp.state.set_state"]


@pytest.mark.parametrize(
    "source",
    [
        "def f(tcb):\n    tcb.state = CLOSED",
        "def f(tcb):\n    old, tcb.state = tcb.state, CLOSED",
        "def __init__(self, tcb):\n    tcb.state: State = CLOSED",
    ],
)
def test_a_second_writer_of_the_state_is_found(source: str) -> None:
    assert len(state_writers("ustack.stack.stack", source)) == 1


def test_the_driver_alone_writes_to_the_device() -> None:
    found = [
        bad
        for name, source in sources("tcp", "stack", "runtime")
        for bad in device_writers(name, source)
    ]
    assert found == ["ustack.runtime.driver"]


def test_a_second_writer_to_the_device_is_found() -> None:
    assert device_writers("ustack.stack.stack", "self._device.write(parts, now)") != []


def test_no_module_imports_itself_by_a_detour() -> None:
    assert cycles(import_graph(dict(sources()))) == []


def test_a_detour_is_found() -> None:
    modules = {
        "ustack.stack.a": "from ustack.stack.b import B",
        "ustack.stack.b": "from ustack.stack import c",
        "ustack.stack.c": "import ustack.stack.a",
        "ustack.stack.__init__": "",
    }
    assert cycles(import_graph(modules)) == ["ustack.stack.a", "ustack.stack.b", "ustack.stack.c"]
