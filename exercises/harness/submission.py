"""Collects the functions of a submitted notebook or script, and executes only what they need."""

import __future__

import ast
import dis
import inspect
import json
import re
import sys
import types
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .cells import NotPythonError, UnusableError, parsed, read_cells
from .runner import contained, describe_error

TOO_LONG = "it takes too much memory to be read: shorten it, above all long lists"
MODULE = "submission"  # the name under which a submission's classes look for their module
# Annotations are not evaluated, so a type from a missing package does not break a function; Jupyter allows await anywhere.
FLAGS = __future__.annotations.compiler_flag | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
READS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_GLOBALS"}  # instructions on a global name


@dataclass(frozen=True)
class Submission:
    """What was collected: the namespace the functions live in, and a line for everything that failed."""

    namespace: dict
    notes: list[str]


def collect(path, functions):
    """Return the `Submission` in `path`, a .py or .ipynb file that defines `functions` (names).

    Only the imports, definitions and assignments that these functions need, directly or through each
    other, are executed, in the order of the file; no calls, no prints, no unrelated cells. A statement that
    fails becomes a note and does not affect the others. Functions are found by name, never by the position
    of their cell. Of several definitions the last that is not a stub counts; if a cell is tagged "ex01:name", only that
    cell's. UnusableError: no such file, not a notebook, or syntax errors that leave none of the functions.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnusableError(f"{path.name} cannot be read: {error.strerror}") from None
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as `python file.py` does, so that it can import the files beside it
    try:
        return collect_bytes(path.name, data, functions)
    finally:
        sys.path.remove(folder)


def collect_bytes(name, data, functions):
    """Return the `Submission` in `data`, the content of a file called `name`, as `collect` does."""
    statements, notes = _read(read_cells(name, data), functions, script=name.endswith(".py"))
    return Submission(_execute(name, statements, notes), notes)


def only_needed(name, data, functions):
    """Return the file with nothing in it but what `collect_bytes` executes, at the same lines, or `data` if it is unusable."""
    try:
        cells = read_cells(name, data)
        statements, _ = _read(cells, functions, script=name.endswith(".py"))
    except UnusableError:
        return data
    kept = {}
    for one in statements:
        first = min([one.tree, *getattr(one.tree, "decorator_list", [])], key=lambda tree: tree.lineno).lineno
        kept.setdefault(one.label, set()).update(range(first, one.tree.end_lineno + 1))
    short = []
    for label, source, tags in cells:
        lines = enumerate(source.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1)
        source = "\n".join(line if n in kept.get(label, ()) else "" for n, line in lines)
        short.append({"cell_type": "code", "source": source, "metadata": {"tags": tags}})
    return (short[0]["source"] if name.endswith(".py") else json.dumps({"cells": short})).encode()


def _read(cells, functions, script):
    """Return (the statements that the functions need, notes on cells that cannot be read and on repeated definitions)."""
    statements, notes, homes, broken = [], [], {}, []
    for label, source, tags in cells:
        for function in functions:
            if any(re.fullmatch(rf"ex\d\d:{function}", tag) for tag in tags):
                homes.setdefault(function, set()).add(label)
        try:
            statements += _parse(label, source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            reason = (
                TOO_LONG if isinstance(error, MemoryError) else getattr(error, "msg", None) or describe_error(error)
            )
            problem = f"{label}{_line(error)}: {reason}"
            defines = any(re.search(rf"\bdef\s+{one}\b", source) for one in functions)
            if script or defines:
                broken.append(f"{problem} (the function cannot be read)")
            if defines or not isinstance(error, NotPythonError):
                notes.append(f"skipped {problem}")
    if broken and not any(one.binds & set(functions) for one in statements):
        raise UnusableError(broken[0])
    for function in functions:
        statements = _that_count(statements, function, homes.get(function, set()), notes)
    return _needed(statements, functions), notes


@dataclass(frozen=True, eq=False)
class Statement:
    """One statement of the file: the label of its cell, its tree, its code, and the names it binds (see `_binds`)."""

    label: str
    tree: ast.stmt
    code: types.CodeType
    binds: frozenset[str]


def _that_count(statements, function, homes, notes):
    """Return the statements without those that bind `function` and do not count; of several definitions a note says which does.

    homes: the labels of the cells tagged for it. A stub below a definition, as a copied cell leaves it, does not undo it.
    """
    if any(one.label in homes and function in one.binds for one in statements):
        return [one for one in statements if one.label in homes or function not in one.binds]
    binding = [one for one in statements if function in one.binds]
    stubs = [one for one in binding if _is_stub(one.tree)]
    written = [one for one in binding if one not in stubs and not _only_wraps(one, function)]
    if not written or len(written) + len(stubs) == 1:
        return statements
    last, times = written[-1], len(written) + len(stubs)
    notes.append(f"{function} is defined {times} times: the definition in {last.label}, line {last.tree.lineno} counts")
    return [one for one in statements if one not in stubs]


def _only_wraps(statement, function):
    """Return whether the statement makes `function` of itself, as f = jit(f) does, which is no definition."""
    return not isinstance(statement.tree, ast.FunctionDef) and function in _uses(statement.code, {function})


def _is_stub(tree):
    """Return whether it is a function not written yet: nothing but text, pass and ..., or NotImplementedError at its start."""
    if not isinstance(tree, ast.FunctionDef):
        return False
    body = [one for one in tree.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
    if body and isinstance(body[0], ast.Raise):
        return "NotImplementedError" in {node.id for node in ast.walk(body[0]) if isinstance(node, ast.Name)}
    return all(isinstance(one, ast.Pass) for one in body)


def _parse(label, source):
    """Return the statements of a cell. To compile them finds what parsing lets through, such as a return outside a function."""
    singles = [single for statement in parsed(source).body for single in _singles(statement)]
    codes = (compile(ast.Module([single], []), label, "exec", FLAGS) for single in singles)
    return [Statement(label, one, code, frozenset(_binds(one))) for one, code in zip(singles, codes, strict=True)]


def _singles(statement):
    """Return `import a, b` as two statements, so that a failing one does not affect the other."""
    if isinstance(statement, ast.Import):
        return [ast.copy_location(ast.Import([alias]), statement) for alias in statement.names]
    return [statement]


def _needed(statements, functions):
    """Keep the statements that bind a name the functions need, directly or through each other."""
    binding = {}
    for one in statements:
        for name in one.binds:
            binding.setdefault(name, []).append(one)
    needed, names, found = set(), {"*", *functions}, ["*", *functions]
    for name in found:  # the list grows in the loop
        for one in binding.get(name, ()):
            if one not in needed:
                needed.add(one)
                new = _uses(one.code, binding.keys() - names)
                names |= new
                found += new
    return [one for one in statements if one in needed]


def _binds(statement):
    """Return the names a statement binds or stores into ("*" for a star import or a __future__ import)."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.Subscript, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            names |= _root(node)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            names.add("*")
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
    return names


def _root(node):
    """Return {"x"} of x[0], x.a or x.a[0], or the empty set if there is no name at the root."""
    while isinstance(node, (ast.Subscript, ast.Attribute)):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _uses(code, among):
    """Return which of the global names `among` the code of a statement reads, including the functions it defines."""
    names, codes = set(), [code]
    for code in codes:  # the list grows in the loop
        if not (among - names).isdisjoint((*code.co_names, *code.co_freevars)):  # to take it apart is slow
            # Without its constants, of which the text of one may be too long to be made.
            bare = code.replace(co_consts=(None,) * len(code.co_consts))
            names |= {one.argval for one in dis.get_instructions(bare) if one.opname in READS and one.argval in among}
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return names


def _execute(name, statements, notes):
    """Execute statement by statement, so that a failing one does not affect the others.

    One that lacks a name which a statement below it binds runs once more in the end: Jupyter runs cells in any order.
    """
    module = sys.modules[MODULE] = types.ModuleType(MODULE)  # dataclasses, for example, look for it there
    namespace = vars(module)
    namespace["__file__"] = name
    namespace["display"] = lambda *objects, **_: print(*objects)  # which every notebook has
    left, last, bound = list(statements), None, Counter(name for one in statements for name in one.binds)
    while left != last:
        last, left, late = left, [], []
        for one in last:
            try:
                with contained():
                    _run(one.code, namespace)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                note = f"{one.label}, line {one.tree.lineno}: {describe_error(error)}"
                below = type(error) is NameError and error.name in bound and error.name not in namespace
                if below and all(bound[name] == 1 for name in one.binds):  # else it would undo a later definition
                    left.append(one)
                    late.append(note)
                else:
                    notes.append(note)
    notes += late
    return namespace


def _run(code, namespace):
    """Execute the code; where it awaits something, until that is done."""
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, namespace)
        return
    import asyncio  # slow to import, and seldom needed
    import selectors

    class Loop(asyncio.SelectorEventLoop):
        """An event loop that does not wake itself through a pair of sockets, which a sandbox refuses."""

        def _make_self_pipe(self):
            pass

        def _close_self_pipe(self):
            pass

    loop = Loop(selectors.SelectSelector())  # which needs no descriptor of its own
    try:
        loop.run_until_complete(eval(code, namespace))
    finally:
        loop.close()


def _line(error):
    return f", line {error.lineno}" if getattr(error, "lineno", None) else ""
