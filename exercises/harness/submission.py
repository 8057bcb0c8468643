"""Collects the functions of a submitted notebook or script, and executes only what they need."""

import __future__

import ast
import io
import json
import re
import symtable
import sys
import tokenize
import types
from dataclasses import dataclass
from pathlib import Path

from .runner import contained, describe_error

# What IPython adds to Python, line by line: %magic, !shell, ?help, help?, x = !shell, x = %magic.
NOT_PYTHON = re.compile(
    r"(?m)^([ \t]*)(?:%%?[A-Za-z].*|[!?].*|[\w.]+\?\??[ \t\r]*|[\w.,* \t]+=[ \t]*(?:!|%[A-Za-z]).*)$"
)
MODULE = "submission"  # the name under which a submission's classes look for their module


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
    other, are executed, in the order of the file; no calls, no prints, no unrelated cells. A statement that
    fails becomes a note and does not affect the others. Functions are found by name, never by the position
    of their cell; if a cell is tagged "ex01:name", only the definition of that name in that cell counts.
    UnusableError: no such file, not a notebook, or syntax errors that leave none of the functions.
    """
    path = Path(path)
    _check_kind(path.name)
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
    statements, notes, homes, broken = [], [], {}, []
    for label, source, tags in _cells(name, data):
        for function in functions:
            if any(re.fullmatch(rf"ex\d\d:{function}", tag) for tag in tags):
                homes.setdefault(function, set()).add(label)
        try:
            statements += [(label, statement) for statement in _parse(source)]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problem = f"{label}{_line(error)}: {getattr(error, 'msg', None) or describe_error(error)}"
            if name.endswith(".py") or any(re.search(rf"\bdef\s+{one}\b", source) for one in functions):
                broken.append(f"{problem} (the function cannot be read)")
            notes.append(f"skipped {problem}")
    if broken and not any(_binds(one) & set(functions) for _, one in statements):
        raise UnusableError(broken[0])
    for function, labels in homes.items():
        if any(label in labels and function in _binds(one) for label, one in statements):
            statements = [(label, one) for label, one in statements if label in labels or function not in _binds(one)]
    return Submission(_execute(name, _needed(statements, functions), notes), notes)


def _check_kind(name):
    if not name.endswith((".py", ".ipynb")):
        raise UnusableError(f"{name}: a .py or .ipynb file is wanted")


def _cells(name, data):
    """Return (label, source, tags) of each code cell, or of the one script."""
    _check_kind(name)
    try:
        # As in Python, a comment may name the encoding of a script.
        script = name.endswith(".py")
        text = data.decode(tokenize.detect_encoding(io.BytesIO(data).readline)[0] if script else "utf-8-sig")
    except (UnicodeDecodeError, SyntaxError, LookupError):
        raise UnusableError(f"{name} cannot be read: it is not UTF-8 text; save it as UTF-8") from None
    if name.endswith(".py"):
        return [(name, text, [])]
    try:
        content = json.loads(text)
        if "worksheets" in content:
            raise UnusableError(f"{name} is a notebook of an old format (3): open it in Jupyter and save it again")
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        return [
            (f"code cell {number}", "".join(cell["source"]), _tags(cell)) for number, cell in enumerate(cells, start=1)
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnusableError(f"{name} is not a Jupyter notebook (JSON with a list of cells)") from None


def without_outputs(data):
    """Return the notebook with only what `collect_bytes` reads of it, or `data` unchanged if it is not a notebook."""
    try:
        cells = _cells("a.ipynb", data)
    except UnusableError:
        return data
    cells = [{"cell_type": "code", "source": source, "metadata": {"tags": tags}} for _, source, tags in cells]
    return json.dumps({"cells": cells}).encode()


def _tags(cell):
    return [str(tag) for tag in (cell.get("metadata") or {}).get("tags") or []]


def _parse(source):
    """Return the statements of a cell; IPython's magics are dropped only if Python cannot parse the cell with them."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        tree = ast.parse(NOT_PYTHON.sub(r"\1pass", source))
    compile(tree, "cell", "exec")  # finds what parsing lets through, such as a return outside a function
    return [single for statement in tree.body for single in _singles(statement)]


def _singles(statement):
    """Return `import a, b` as two statements, so that a failing one does not affect the other."""
    if isinstance(statement, ast.Import):
        return [ast.copy_location(ast.Import([alias]), statement) for alias in statement.names]
    return [statement]


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


def _uses(statement):
    """Return the global names a statement reads, including those in the functions it defines."""
    names, tables = set(), [symtable.symtable(ast.unparse(statement), "cell", "exec")]
    for table in tables:  # the list grows in the loop
        whole = table is tables[0]
        names |= {one.get_name() for one in table.get_symbols() if one.is_referenced() and (whole or one.is_global())}
        tables += table.get_children()
    return names


def _execute(name, statements, notes):
    """Execute statement by statement, so that a failing one does not affect the others."""
    module = sys.modules[MODULE] = types.ModuleType(MODULE)  # dataclasses, for example, look for it there
    namespace = vars(module)
    namespace["__file__"] = name
    # Annotations are not evaluated, so a type from a missing package does not break a function.
    flags = __future__.annotations.compiler_flag
    future = [s for _, s in statements if isinstance(s, ast.ImportFrom) and s.module == "__future__"]
    for label, statement in statements:
        try:
            with contained():
                exec(compile(ast.Module([*future, statement], []), label, "exec", flags), namespace)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            notes.append(f"{label}, line {statement.lineno}: {describe_error(error)}")
    return namespace


def _line(error):
    return f", line {error.lineno}" if getattr(error, "lineno", None) else ""
