"""Small changes of the mathematics, each of which some test must see: `python tests/mutation.py build/mutation`.

One operator, comparison, condition, number or sign is changed at a time. Tests are collected once; each mutant runs in a fork
of that process, against the tests that reach its statement until one fails: the quickest case of each first, then their second cases. The folder keeps what was found,
so that a run that is stopped goes on later; remove it after a change of sources or tests. Survivors that change no result are
explained in `survivors.toml`; they take longest, so they are tried last. Any other makes the run fail. Tests that take longer
than SLOWEST seconds are left out. Time is counted as the processor's own, for the machine may be busy.
"""

import ast
import collections
import gc
import inspect
import json
import os
import random
import resource
import signal
import sys
import time
import tomllib
import types
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import settings

HERE = Path(__file__).parent
SOURCES = [HERE.parent / f"refimpl/{name}.py" for name in ("retention", "decay", "rotation", "layers", "backward")]
TESTS = (
    "backward", "contract", "defaults", "lengths", "libraries", "model", "model_lengths", "oracle", "paper_facts", "replay_decoding",
    "validation",
)  # fmt: skip
WORKERS, SLOWEST, MEMORY = 2, 5, 8 << 30  # processes; seconds of a test; bytes
LIMIT, TIMES = 120, 3  # a mutant may take so many seconds, and so many times as long as its tests take
PAIRS = (
    (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.FloorDiv, ast.Mult), (ast.Pow, ast.Mult), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn), (ast.And, ast.Or),
)  # fmt: skip
SWAPS = {new: old for old, new in PAIRS} | dict(PAIRS)

EXPLAINED = {
    (file, "" if function == "module" else function, line)
    for file, functions in tomllib.loads((HERE / "survivors.toml").read_text()).items()
    for function, lines in functions.items()
    for line in lines
}


def changes(node):
    """(node, text to put in its place) for each change of this node alone."""
    match node:
        case ast.BinOp(left, op, right) if type(op) in SWAPS:
            yield node, ast.BinOp(left, SWAPS[type(op)](), right)
        case ast.BoolOp(op, values):
            yield node, ast.BoolOp(SWAPS[type(op)](), values)
        case ast.Compare(left, ops, rights):
            for i, op in enumerate(ops):
                yield node, ast.Compare(left, [*ops[:i], SWAPS[type(op)](), *ops[i + 1 :]], rights)
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield node, operand
        case ast.If(test) | ast.IfExp(test) if not isinstance(test, ast.UnaryOp | ast.Compare):
            yield test, ast.UnaryOp(ast.Not(), test)
        case ast.Constant(bool(value)):
            yield node, ast.Constant(not value)
        case ast.Constant(int(value) | float(value)):
            yield from ((node, ast.Constant(value + step)) for step in (1, -1))


def mutants_of(path):
    """{(file, function, changed line): (whole changed source, first and last line of the statement)}."""
    source, found = path.read_bytes(), {}
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def visit(node, function, span):
        if isinstance(node, ast.Raise | ast.JoinedStr):  # a message is no result
            return
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if function and isinstance(node, ast.stmt):  # lines of a whole function, or those before the body of another
            inner = isinstance(node, ast.FunctionDef) or not getattr(node, "body", None)
            span = node.lineno, node.end_lineno if inner else max(node.lineno, node.body[0].lineno - 1)
        for place, new in changes(node):
            at, end = (
                starts[line - 1] + column
                for line, column in ((place.lineno, place.col_offset), (place.end_lineno, place.end_col_offset))
            )
            text = source[:at] + b"(" + ast.unparse(ast.fix_missing_locations(new)).encode() + b")" + source[end:]
            line = text.splitlines()[place.lineno - 1].decode().strip()
            while (path.name, function, line) in found:
                line += " (again)"
            found[path.name, function, line] = text.decode(), span
        for child in ast.iter_child_nodes(node):
            visit(child, function, span)

    visit(ast.parse(source), "", (1, len(starts)))
    return found


def put(path, source):
    """Make the loaded module compute what `source` says, also for those that hold its functions already."""
    module = sys.modules[f"refimpl.{path.stem}"]
    changed = types.ModuleType(module.__name__)
    changed.__package__ = module.__package__
    exec(compile(source, path, "exec"), vars(changed))
    for name, new in vars(changed).items():
        old = vars(module).get(name)
        if inspect.isfunction(new) and new.__module__ == module.__name__:
            old, new = inspect.unwrap(old), inspect.unwrap(new)
            old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
        elif isinstance(new, dict | str | int | float) and not name.startswith("__") and new != old:
            setattr(module, name, new)


class Mutation:
    """A plugin of pytest that runs mutants in place of the collected tests."""

    def __init__(self, folder):
        self.reach, self.done = folder / "reach.jsonl", folder / "mutants.jsonl"

    @staticmethod
    def passes(item):
        return all(report.passed for report in runtestprotocol(item, nextitem=None, log=False))

    def measure(self, items):
        """Write the seconds of each test and the lines of SOURCES that it reaches."""
        names = {str(path): path.name for path in SOURCES}
        for item in items:
            lines = set()

            def trace(frame, event, _, lines=lines):
                name = names.get(frame.f_code.co_filename)
                if name and event == "line":
                    lines.add((name, frame.f_lineno))
                return trace if name else None

            begin = time.process_time()
            sys.settrace(trace)
            passed = self.passes(item)
            sys.settrace(None)
            seconds = time.process_time() - begin
            append(self.reach, [item.nodeid, seconds, sorted(lines) if passed and seconds < SLOWEST else []])

    def judge(self, key, path, source, span):
        """Write the first test that fails for this mutant, or None."""
        statement = {(path.name, n) for n in range(span[0], span[1] + 1)}
        reaching = [(seconds, item) for seconds, item, lines in self.reached if lines & statement]
        limit = LIMIT + TIMES * round(sum(seconds for seconds, _ in reaching))
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        signal.alarm(20 * limit)  # for one that waits and computes nothing
        put(path, source)
        append(self.done, [*key, next((item.nodeid for _, item in reaching if not self.passes(item)), None)])

    def pytest_collection(self):
        settings.load_profile("few")  # of conftest.py: fewer examples, and none is made smaller

    def pytest_runtestloop(self, session):
        if session.testsfailed:
            raise session.Failed("the tests could not be collected")
        items = {item.nodeid: item for item in session.items}
        os.waitpid(
            in_fork(self.measure, [items[name] for name in items.keys() - {test[0] for test in read(self.reach)}]), 0
        )
        turns, tests = collections.Counter(), []
        for name, seconds, lines in sorted(read(self.reach), key=lambda test: test[1]):
            turns[function := name.partition("[")[0]] += 1
            tests.append((turns[function], seconds, items[name], {tuple(line) for line in lines}))
        self.reached = [test[1:] for test in sorted(tests, key=lambda test: test[:2])]
        mutants = [(key, path, *mutant) for path in SOURCES for key, mutant in mutants_of(path).items()]
        random.Random(0).shuffle(mutants)
        mutants.sort(key=lambda mutant: mutant[0] in EXPLAINED)
        gc.freeze()  # or each fork would copy the memory that it looks through
        running, done = {}, {tuple(key) for *key, _ in read(self.done)}
        for key, *mutant in [*mutants, *[(None,)] * WORKERS]:  # the last ones wait for those that still run
            if len(running) >= WORKERS or (running and key is None):
                pid, status = os.wait()
                ended = running.pop(pid)
                if status:  # an import that fails, a time or a memory that is used up
                    append(self.done, [*ended, f"ended with {status}"])
            if key is not None and key not in done:
                running[in_fork(self.judge, key, *mutant)] = key
        return True


def in_fork(function, *args):
    """The id of a new process that computes function(*args)."""
    if pid := os.fork():
        return pid
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        function(*args)
        os._exit(0)
    finally:
        os._exit(1)


def append(path, entry):
    with open(path, "a") as file:
        file.write(json.dumps(entry) + "\n")


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main(folder):
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # threads would not survive a fork
    folder.mkdir(parents=True, exist_ok=True)
    tests = [f"{HERE}/refimpl/test_{name}.py" for name in TESTS]
    pytest.main(
        ["-q", "--tb=native", "--assert=plain", "-p", "no:cacheprovider", *tests, *map(str, SOURCES)],
        plugins=[plugin := Mutation(folder)],
    )
    found = read(plugin.done)
    survivors = [tuple(key) for *key, killer in found if killer is None]
    unexplained = [key for key in survivors if key not in EXPLAINED]
    for key in unexplained:
        print("SURVIVED", *key)
    print(
        f"{len(found)} of {sum(len(mutants_of(path)) for path in SOURCES)} mutants were run: {len(found) - len(survivors)} died,"
        f" {len(survivors) - len(unexplained)} survivors are explained, {len(unexplained)} are not"
    )
    return bool(unexplained)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
