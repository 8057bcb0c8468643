"""The functions of a submitted notebook or script, with as little of the rest executed as they need."""

import ast
import json
import re
import symtable
import sys
from dataclasses import dataclass
from pathlib import Path

from .runner import contained, describe_error


class UnusableError(Exception):
    """The submission cannot be checked at all; the message says why, in one line."""


@dataclass(frozen=True)
class Submission:
    """What was collected: the namespace the functions live in, and a line for everything that failed."""

    namespace: dict
    notes: list[str]


def collect(path, functions):
    """Return the `Submission` in `path`, a .py or .ipynb file that defines `functions` (names).

    Only the imports, definitions and assignments that these functions need, directly or through each
    other, are executed, in the order of the file; no calls, no prints, no unrelated cells. What fails
    on the way becomes a note, and the functions are there all the same if they can be. Cells are never
    looked up by position: a function counts by its name, and where a cell is tagged "ex01:name", the
    definition of that name in that cell alone.
    UnusableError: no such file, not a notebook, or a syntax error where a function should be.
    """
    path = Path(path)
    _check_kind(path.name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnusableError(f"{path.name} cannot be read: {error.strerror}") from None
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # as `python file.py` does: one's own work may import its neighbours
    try:
        return collect_bytes(path.name, data, functions)
    finally:
        sys.path.remove(folder)


def collect_bytes(name, data, functions):
    """Return the `Submission` in `data`, the content of a file called `name`, as `collect` does."""
    statements, notes, homes = [], [], {}
    for label, source, tags in _cells(name, data):
        for function in functions:
            if any(re.fullmatch(rf"ex\d\d:{function}", tag) for tag in tags):
                homes.setdefault(function, set()).add(label)
        try:
            statements += [(label, statement) for statement in _parse(source)]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problem = f"{label}{_line(error)}: {getattr(error, 'msg', None) or describe_error(error)}"
            if name.endswith(".py") or any(re.search(rf"\bdef\s+{one}\b", source) for one in functions):
                raise UnusableError(f"{problem} (the function cannot be read)") from None
            notes.append(f"skipped {problem}")
    for function, labels in homes.items():
        statements = [(label, one) for label, one in statements if label in labels or function not in _binds(one)]
    return Submission(_execute(name, _needed(statements, functions), notes), notes)


def _check_kind(name):
    if not name.endswith((".py", ".ipynb")):
        raise UnusableError(f"{name}: a .py or .ipynb file is wanted")


def _cells(name, data):
    """Return (label, source, tags) of each code cell, or of the one script."""
    _check_kind(name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableError(f"{name} cannot be read: it is not UTF-8 text") from None
    if name.endswith(".py"):
        return [(name, text, [])]
    try:
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        return [
            (f"code cell {number}", "".join(cell["source"]), [*map(str, cell.get("metadata", {}).get("tags", []))])
            for number, cell in enumerate(cells, start=1)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnusableError(f"{name} is not a Jupyter notebook (JSON with a list of cells)") from None


def _parse(source):
    """Return the statements of a cell; magics are dropped only where Python cannot read the cell with them."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        tree = ast.parse(re.sub(r"(?m)^([ \t]*)[%!?].*$", r"\1pass", source))
    compile(tree, "cell", "exec")  # finds what parsing lets through, such as a return outside a function
    return tree.body


def _needed(statements, functions):
    """Keep the statements that bind a name the functions need, directly or through each other."""
    names, before = set(functions), None
    while names != before:
        before = set(names)
        for _, statement in statements:
            if _binds(statement) & names:
                names |= _uses(statement)
    return [(label, statement) for label, statement in statements if _binds(statement) & (names | {"*"})]


def _binds(statement):
    """Return the names a statement binds ("*" for a star import or a __future__ import)."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            names.add("*")
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.partition(".")[0])
    return names


def _uses(statement):
    """Return the global names a statement reads, those in the functions it defines included."""
    names, tables = set(), [symtable.symtable(ast.unparse(statement), "cell", "exec")]
    for table in tables:  # grows
        whole = table is tables[0]
        names |= {one.get_name() for one in table.get_symbols() if one.is_referenced() and (whole or one.is_global())}
        tables += table.get_children()
    return names


def _execute(name, statements, notes):
    """Execute statement by statement, so that one that fails takes no other with it."""
    namespace = {"__name__": "submission", "__file__": name}
    future = [s for _, s in statements if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
    for label, statement in statements:
        try:
            with contained():
                exec(compile(ast.Module([*future, statement], []), label, "exec"), namespace)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            notes.append(f"{label}, line {statement.lineno}: {describe_error(error)}")
    return namespace


def _line(error):
    return f", line {error.lineno}" if getattr(error, "lineno", None) else ""
