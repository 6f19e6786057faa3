"""The rooms (top-level modules and folders) import only from rooms before them; tasks are short.

Also: the files that the mutation run names exist.
"""

import ast
import tomllib

import pytest

from tests.builders import ROOT

PACKAGE = ROOT / "lfbm_jax"
# A room may import from the rooms in earlier sets, and from itself.
ORDER = (
    {"errors", "keys"},
    {"files", "devices"},
    {"layers"},
    {"model"},
    {"images"},
    {"priors", "generators", "inference", "objectives"},
    {"data"},
    {"learning"},
    {"metrics"},
    {"trained", "reports", "costs"},
    {"tasks"},
    {"runs"},
    {"main", "compare", "anomaly", "sweep", "tables", "convert", "benchmark", "__init__"}
    | {"gpu_check"},
)
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}


def room_of(path):
    inner = path.relative_to(PACKAGE)
    return inner.parts[0] if len(inner.parts) > 1 else inner.stem


def imported_rooms(path):
    """Yields (room, line) for every import at run time."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = [
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    ]
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "lfbm_jax":
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lfbm_jax."):
            yield node.module.split(".")[1], node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("lfbm_jax."):
                    yield alias.name.split(".")[1], node.lineno


def test_every_module_is_in_a_room():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")}
    assert rooms == RANK.keys()


@pytest.mark.parametrize("room", sorted(RANK))
def test_a_room_imports_from_those_before_it(room):
    paths = [path for path in PACKAGE.rglob("*.py") if room_of(path) == room]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {other}"
        for path in paths
        for other, line in imported_rooms(path)
        if other != room and RANK[other] >= RANK[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_a_task_reads_at_one_glance():
    """Every function of a task has fewer than 40 lines, `run` included."""
    lengths = {
        f"{path.stem}.{node.name}": node.end_lineno - node.lineno + 1
        for path in (PACKAGE / "tasks").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }
    assert "reconstruct.run" in lengths
    assert {name: length for name, length in lengths.items() if length >= 40} == {}


def test_the_mutation_run_names_files_that_exist():
    text = (ROOT / "tests" / "mutation" / "modules.toml").read_text(encoding="utf-8")
    tests_of = tomllib.loads(text)["tests"]
    named = {*tests_of, *(path for tests in tests_of.values() for path in tests)}
    assert sorted(path for path in named if not (ROOT / path).is_file()) == []
