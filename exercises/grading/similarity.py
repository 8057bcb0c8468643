"""Ranks pairs of submissions by how alike they are, and shows them side by side: evidence to read, no verdict.

The measure is RapidFuzz's Indel similarity, https://rapidfuzz.github.io/RapidFuzz/Usage/distance/Indel.html: the share of
tokens that need not be deleted or inserted to make one text the other, 0 to 1. It is taken twice, as written and with names
and comments aside, because a copy is often renamed. Lines of the notebook that students were given, hints too, are left out
first. Nothing that a student wrote is run or parsed as Python.
"""

import builtins
import json
import keyword
import re
from dataclasses import dataclass
from html import escape
from itertools import combinations

import numpy as np

from ..checking.catalog import load
from ..handout.release import notebooks_of
from ..harness.cells import UnusableError, read_cells
from .feedback import PAGE

MOST_CHARACTERS = 200_000  # of a submission: far more than anybody writes, and compared in less than a second
FEWEST_TOKENS = 30  # shorter texts are alike by chance
FEWEST_OTHERS = 3  # in a smaller class nothing is usual
SAME, RENAMED = "same", "renamed"  # kinds of lines in the page

_FUNCTION = re.compile(r"(?m)^(?=(?:@|def\s|class\s|async\s))")
_NAMED = re.compile(r"(?:async\s+)?(?:def|class)\s+(\w+)")
_TOKEN = re.compile(r"(?P<comment>#[^\n]*)|(?P<name>\.?[^\W\d]\w*)|\d[\w.]*|\S")
_KNOWN = {*keyword.kwlist, *dir(builtins), "np", "numpy"}


@dataclass(frozen=True)
class Text:
    """What a student wrote for an exercise: who, the lines, and the tokens as written and with names and comments aside."""

    student: str
    lines: tuple[str, ...]
    written: tuple[str, ...]
    form: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """Two texts: their similarities, those usual for these two (zeros in a small class), and how far beyond they are.

    beyond: the larger of (similarity - usual) / (1 - usual), so 0 is usual and 1 is the same text.
    """

    exercise: str
    first: Text
    second: Text
    written: float
    form: float
    usual: tuple[float, float]
    beyond: float


def given_lines(exercise):
    """Return the lines of an exercise's notebook, its hints too, as `normal` gives them."""
    notebooks = [json.loads(path.read_text(encoding="utf-8")) for path in notebooks_of(exercise)]
    cells = [cell for notebook in notebooks for cell in notebook["cells"]]
    return {normal(line) for cell in cells for line in "".join(cell["source"]).splitlines()}


def normal(line):
    """Return a line without what is changed first when it is copied: spaces, and that it is a comment.

    >>> normal("   # a  =  b")
    'a = b'
    """
    return " ".join(line.split()).lstrip("# ")


def text_of(student, name, data, given, functions):
    """Return the `Text` of a submission (bytes of a file called `name`) without the `given` lines; UnusableError if unreadable.

    functions: of the exercise; they come first and in this order, so that moving them hides nothing.
    """
    source = "\n".join(source for _, source, _ in read_cells(name, data))[:MOST_CHARACTERS]
    order = {function: n for n, function in enumerate(functions)}
    parts = _FUNCTION.split("\n".join(source.splitlines()))
    named = [_NAMED.match(part) for part in parts]
    places = [order.get(match[1], len(order)) if match else len(order) for match in named]
    lines = "\n".join(parts[n] for n in np.argsort(places, kind="stable")).splitlines()
    lines = [line.rstrip() for line in lines if line.strip() and normal(line) not in given]
    written = [token for line in lines for token in re.findall(r"\w+|[^\w\s]", line)]
    form = [token for line in lines for token in form_of(line)]
    return Text(student, tuple(lines), tuple(written), tuple(form))


def form_of(line):
    """Return the tokens of a line with comments left out and one token for all names but Python's, NumPy's and attributes.

    >>> form_of("out = q @ np.exp(s)  # read"), form_of("# read")
    (('_', '=', '_', '@', 'np', '.exp', '(', '_', ')'), ())
    """
    tokens = []
    for match in _TOKEN.finditer(line):
        token = match[0]
        if match["name"] and token[0] != "." and token not in _KNOWN:
            token = "_"
        tokens += [] if match["comment"] else [token]
    return tuple(tokens)


def ranked(exercise, texts):
    """Return every `Pair` of the texts that are long enough, the most conspicuous first."""
    texts = [text for text in texts if len(text.written) >= FEWEST_TOKENS]
    if len(texts) < 2:
        return []
    alike = np.stack([_similarities([getattr(text, kind) for text in texts]) for kind in ("written", "form")])
    usual = np.zeros((2, len(texts)))
    if len(texts) > FEWEST_OTHERS:
        usual = np.nanmedian(np.where(np.eye(len(texts), dtype=bool), np.nan, alike), axis=2)
    pairs = []
    for a, b in combinations(range(len(texts)), 2):
        one, most = alike[:, a, b], np.maximum(usual[:, a], usual[:, b])
        beyond = np.where(most < 1, (one - most) / np.maximum(1 - most, 1e-9), 0.0).max()
        pairs.append(Pair(exercise, texts[a], texts[b], *map(float, one), tuple(map(float, most)), float(beyond)))
    return sorted(pairs, key=lambda pair: (-pair.beyond, -pair.written, pair.first.student, pair.second.student))


def _similarities(sequences):
    """Return the (N, N) similarities of sequences of tokens, float32 in 0 to 1."""
    from rapidfuzz.distance import Indel  # the extra `similarity`
    from rapidfuzz.process import cdist

    numbers = {}
    coded = [[numbers.setdefault(token, len(numbers)) for token in tokens] for tokens in sequences]
    return cdist(coded, coded, scorer=Indel.normalized_similarity, dtype=np.float32)


def page(pairs, notes):
    """Return the page for the lecturer: a table of the pairs, each side by side, and notes on what was not compared."""
    body = [
        "<style>table.side { width: 100%; table-layout: fixed } table.side td { vertical-align: top; width: 50% } "
        "pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.8rem } body { max-width: 80rem !important } "
        ".same { background: #ffe08a } .renamed { border-bottom: 2px dotted #805500 }</style>",
        "<p>This page ranks pairs by how alike they are. It does not say that anybody copied: a short function has few "
        "natural forms, and two who learn together write alike. Read both, and hear both. The page names students: it is "
        "for you alone.</p>",
        '<p>Lines on a <span class="same">coloured ground</span> stand in both texts; '
        '<span class="renamed">underlined</span> ones do if names and comments are left aside. Lines that students were given are left out.</p>',
        "<table><thead><tr><th>exercise<th>students<th>as written<th>names aside<th>usual for these two<th>beyond usual"
        "</tr></thead><tbody>",
    ]
    for n, pair in enumerate(pairs):
        usual = " / ".join(f"{one:.0%}" for one in pair.usual)
        cells = pair.exercise, "", f"{pair.written:.0%}", f"{pair.form:.0%}", usual, f"{pair.beyond:.0%}"
        rows = [f"<td>{cell}</td>" for cell in cells]
        rows[1] = f'<td><a href="#pair{n}">{escape(pair.first.student)}, {escape(pair.second.student)}</a></td>'
        body.append(f"<tr>{''.join(rows)}</tr>")
    body.append("</tbody></table>")
    body += [f"<p>Not compared: {escape(note)}</p>" for note in notes]
    for n, pair in enumerate(pairs):
        body.append(
            f'<h2 id="pair{n}">{pair.exercise}: {escape(pair.first.student)}, {escape(pair.second.student)}</h2>'
        )
        sides = _marked(pair.first, pair.second), _marked(pair.second, pair.first)
        body.append(f'<table class="side"><tr>{"".join(f"<td><pre>{side}</pre></td>" for side in sides)}</tr></table>')
    return PAGE.format(title="Similar submissions", body="\n".join(body))


def _marked(text, other):
    """Return the lines of a text as HTML, with a mark on those that the other has too."""
    same, renamed = {normal(line) for line in other.lines}, {form_of(line) for line in other.lines} - {()}
    html = []
    for line in text.lines:
        kind = SAME if normal(line) in same else RENAMED if form_of(line) in renamed else ""
        html.append(f'<span class="{kind}">{escape(line)}</span>' if kind else escape(line))
    return "\n".join(html)


def compare(entries, exercises, top):
    """Return (the `top` pairs of each exercise, the most conspicuous first; notes on entries that are not compared)."""
    texts, notes = {name: [] for name in exercises}, []
    given = {name: given_lines(name) for name in exercises}
    functions = {name: [problem.function for problem in load(name).problems] for name in exercises}
    for entry in entries:
        data, reason = (b"", entry.reason) if entry.reason else entry.read()
        name = entry.exercise
        try:
            if reason:
                raise UnusableError(reason)
            text = text_of(entry.shown, f"submission{entry.suffix}", data, given[name], functions[name])
        except UnusableError as error:
            notes.append(f"{entry.shown}, {name}: {error}")
            continue
        if len(text.written) < FEWEST_TOKENS:
            notes.append(f"{entry.shown}, {name}: too little of it is the student's own")
        texts[name].append(text)
    pairs = [pair for name, group in texts.items() for pair in ranked(name, group)[:top]]
    return sorted(pairs, key=lambda pair: -pair.beyond), notes
