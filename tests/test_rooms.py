"""The house keeps its plan: rooms, one-way imports without circles, old import paths, a README in each room."""

import ast
import graphlib
import importlib
import re

import pytest
from paths import ROOT

PACKAGES = ("refimpl", "gpu", "exercises")
# Every module that once stood at the top of its package; other programs may import it from there.
ONCE_AT_THE_TOP = {
    "exercises": """ex01 ex02 ex03 ex04 ex05 ex06 ex07 ex08 inputs
        core judge key report prompt catalog batch feedback isolation
        sandbox release nbgrader runner submission child confine wire""",
    "gpu": """turns benchmark benchmark_config benchmark_training benchmark_decoding benchmark_kernels benchmark_accuracy benchmark_targets benchmark_paper
        compile_ahead check_processes compare_fla retentions triton_retention triton_states triton_step triton_common triton_tiles
        models module baseline transformer linear_attention gru parallelism distributed sequence_parallel
        report report_paper benchmark_figures generate prompt_cache train trainer config checkpoint
        stopping study sweep export""",
    "refimpl": """benchmark benchmark_steps numba_kernels threads text bpe loop train""",
}


def modules():
    """{dotted name: path} of every module of the packages."""
    found = {}
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "student" not in parts:  # files of a release, which has folders of its own
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name, path, known):
    """The known modules that a module imports anywhere, lazily too; a package stands for its __init__ alone."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                target = f"{base}.{alias.name}"
                yield from (each for each in [target if target in known else base] if each in known)


def test_no_circle_among_files():
    known = modules()
    assert len(known) > 100
    graph = {name: set(imported(name, path, known)) - {name} for name, path in known.items()}
    assert graph["refimpl.model"] >= {"refimpl.layers", "refimpl.retention"}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_the_top_of_gpu_is_bare():
    found = {path.name for path in (ROOT / "gpu").glob("*.py")}
    reexports = {"triton_retention.py", "check_processes.py", "compare_fla.py"}
    assert reexports < found <= {"__init__.py", "__main__.py", "numerics.py", "conftest.py"} | reexports


@pytest.mark.parametrize("package", PACKAGES)
def test_old_import_paths_work(package):
    known = modules()
    for name in ONCE_AT_THE_TOP[package].split():
        found = importlib.import_module(f"{package}.{name}")
        assert found.__name__ in known
        assert found is importlib.import_module(found.__name__), "a copy, not the module"


def test_each_room_says_what_happens_in_it():
    rooms = {path.parent for path in modules().values()} | {
        ROOT / "tests",
        ROOT / "notebooks" / "figures",
        ROOT / "notebooks" / "explorables",
        ROOT / "site",
    }
    for room in rooms - {ROOT / package for package in ("exercises", "refimpl", "gpu")}:  # whose README is for users
        text = (room / "README.md").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 15, room
        assert re.search(r"\b(new|[Aa]dd)\b", text), f"{room} does not say how to add one"
