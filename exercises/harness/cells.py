"""The code cells of a notebook, or the one of a script, as Python: what Jupyter accepts beyond Python is taken out.

IPython itself is not to be had beside student code, which finds NumPy alone, so its syntax is read here; the tests compare
with IPython. Line numbers stay as they are.
"""

import ast
import io
import json
import re
import textwrap
import tokenize

MOST_CELLS = 2000  # of code: far more than anybody writes, and few enough to be read once for each check

# Commands that Jupyter takes without a percent sign where they are all of a cell.
_AUTOMAGIC = re.compile(r"(?:pip|conda|mamba|uv|cd|ls|cat|mkdir|time|timeit|run|env|matplotlib|load_ext|autoreload) .*")
# Magics that run what follows them as Python; of any other, Jupyter gives the text to another program.
PYTHON_MAGICS = ("time", "capture", "prun")
_CELL_MAGIC = re.compile(r"\s*%%(\w+)[^\n]*")
_RUN_MAGIC = re.compile(r"((?:[^=\n#'\"]|'[^'\n]*'|\"[^\"\n]*\")*=[ \t]*|[ \t]*)%(?:time|prun)[ \t]+(?![-=])")
_PYLAB = re.compile(r"([ \t]*)%pylab\b")
PYLAB = "import numpy; import numpy as np; from numpy import *"
# At the start of a line: %magic, !shell, ?help and the calls without parentheses; x = !shell and x = %magic.
_ESCAPE = re.compile(
    r"([ \t]*)(?:[%!?,;/]|(?:[^=\n#'\"]|'[^'\n]*'|\"[^\"\n]*\")*(?<![-+*/%&|^@<>!:])=[ \t]*(?:!|%[A-Za-z]))"
)
_CONTINUED = re.compile(r"(?:[^\n]*\\\n)*[^\n]*")  # a line, with those after it while each ends in a backslash
_PROMPT = re.compile(r"(?m)^[ \t]*(?:>>>|(?<!\A)\.\.\.+:?|In \[\d+\]:)(?:[ \t]|$)")
_PIECE = re.compile(
    r"(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<end>\n)|\#[^\n]*|\\\n"
    r'|"""(?:\\.|[^\\])*?(?:"""|\Z)|\'\'\'(?:\\.|[^\\])*?(?:\'\'\'|\Z)'
    r'|"(?:\\.|[^"\\\n])*"?|\'(?:\\.|[^\'\\\n])*\'?|(?P<other>.)',
    re.DOTALL,
)


class UnusableError(Exception):
    """The submission cannot be checked at all; the message says why, in one line."""


class NotPythonError(SyntaxError):
    """Jupyter does not run the cell as Python; the message names the magic."""


def read_cells(name, data):
    """Return (label, source, tags) of each code cell of a notebook, or of the one script; UnusableError if it is neither.

    name: of the file, which ends in .py or .ipynb. data: its bytes. Notebooks of all formats, 1 to 4, are read.
    """
    if not name.endswith((".py", ".ipynb")):
        raise UnusableError(f"{name}: a .py or .ipynb file is wanted")
    script = name.endswith(".py")
    try:
        # As in Python, a comment may name the encoding of a script.
        text = data.decode(tokenize.detect_encoding(io.BytesIO(data).readline)[0] if script else "utf-8-sig")
    except (UnicodeDecodeError, SyntaxError, LookupError):
        raise UnusableError(f"{name} cannot be read: it is not UTF-8 text; save it as UTF-8") from None
    if script:
        return [(name, text, [])]
    try:
        content = json.loads(text)
        sheets = content.get("worksheets", [content])  # formats 2 and 3 have worksheets
        listed = [cell for sheet in sheets for cell in sheet["cells"] if cell["cell_type"] == "code"]
        cells = [(f"code cell {n}", _source(cell), _tags(cell)) for n, cell in enumerate(listed, start=1)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnusableError(f"{name} is not a Jupyter notebook (JSON with a list of cells)") from None
    if len(cells) > MOST_CELLS:
        raise UnusableError(f"{name} has {len(cells)} code cells, more than {MOST_CELLS}: hand in a shorter notebook")
    return cells


def _source(cell):
    """Return the text of a code cell, which formats before 4 call its input or its code."""
    name = next((name for name in ("source", "input") if name in cell), "code")
    return "".join(cell[name])


def _tags(cell):
    return [str(tag) for tag in (cell.get("metadata") or {}).get("tags") or []]


def parsed(source):
    """Return the tree of a cell; NotPythonError if Jupyter does not run it as Python, SyntaxError if there are other errors."""
    try:
        return ast.parse(source)
    except SyntaxError:  # what is Python is left alone: a string in it may hold a line that looks like a magic
        return ast.parse(to_python(source))


def to_python(source):
    """Return a cell without what is IPython's own.

    >>> to_python("%matplotlib inline\\nx = !ls \\\\\\n  -l\\nn = 3")
    'pass\\npass\\n\\nn = 3'
    """
    source = textwrap.dedent(source.replace("\r\n", "\n").replace("\r", "\n"))
    if _PROMPT.match(source.lstrip()):
        source = textwrap.dedent(_PROMPT.sub("", source))
    if _AUTOMAGIC.fullmatch(source.strip()):
        return "pass"
    magic = _CELL_MAGIC.match(source)
    if magic is None:
        return _without_escapes(source)
    if magic[1] not in PYTHON_MAGICS:
        raise NotPythonError(f"%%{magic[1]} does not run its cell as Python here")
    return "\n" * magic[0].count("\n") + to_python(source[magic.end() :])


def _without_escapes(source):
    """Return the source with `pass` for each line that is IPython's own, one logical line after the other."""
    source, done, at = source + "\n", [], 0
    while at < len(source):
        if run := _RUN_MAGIC.match(source, at):
            done.append(run[1])
            at = run.end()
        pylab, escape = _PYLAB.match(source, at), _ESCAPE.match(source, at)
        if pylab or escape:
            end = _CONTINUED.match(source, at).end() + 1
            does = f"{pylab[1]}{PYLAB}" if pylab else f"{escape[1]}pass"
            done.append(does + "\n" * source.count("\n", at, end))
        else:
            end, bare = _logical_line(source, at)
            line = source[at:end]
            indent = line[: len(line) - len(line.lstrip())]
            done.append(f"{indent}pass" + "\n" * line.count("\n") if bare.rstrip().endswith("?") else line)
        at = end
    return "".join(done)[:-1]


def _logical_line(source, at):
    """Return where the logical line at `at` ends, and its text without strings, brackets and comments."""
    depth, bare = 0, []
    for piece in _PIECE.finditer(source, at):
        depth = max(depth + (piece.lastgroup == "open") - (piece.lastgroup == "close"), 0)
        if piece.lastgroup == "end" and not depth:
            return piece.end(), "".join(bare)
        bare.append(piece[0] if piece.lastgroup == "other" else "")
    return len(source), "".join(bare)
