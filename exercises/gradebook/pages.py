"""The pages: what each student is told, and which checks and mistakes the class had most, with a figure."""

import io
import re
import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from html import escape

from ..checking.catalog import load
from ..checking.report import SIGNS
from ..grading.feedback import PAGE
from ..harness.runner import several
from .book import read_results
from .exports import packed, tidy, told

SHOWN = 15  # checks in the figure
COLOUR = SIGNS["FAIL"][1]


@dataclass
class Tally:
    """What became of one check in the class: who had it graded, who failed, and their reasons."""

    exercise: str
    name: str
    hidden: bool
    graded: int = 0
    failed: int = 0
    unwritten: int = 0
    reasons: Counter = field(default_factory=Counter)


def student_pages(book):
    """Return {file name: HTML} of the page of every student on the roster."""
    return {line.student.page: _student_page(book, line) for line in book.listed}


def uploads(book, pages):
    """Return {file name: bytes}: all pages in one zip, and for each exercise that came from Moodle its feedback files."""
    zips = {"feedback.zip": packed(pages)}
    for name in book.exercises:
        folders = {line.cells[name].moodle: pages[line.student.page] for line in book.listed}
        folders.pop("", None)
        if folders:
            files = {f"{folder}/feedback.html": text for folder, text in folders.items()}
            zips[f"moodle_feedback_{name}.zip"] = packed(files)
    return zips


def _student_page(book, line):
    one = line.student
    parts = [f"<p>Total: {tidy(line.total)} %</p>" if line.total is not None else "<p>Nothing counts yet.</p>"]
    rows = [
        (name, cell.status if cell.points is None else f"{tidy(cell.points)} of {tidy(cell.most)}", told(cell))
        for name, cell in line.cells.items()
    ]
    parts += [_table(("exercise", "points", "remarks"), rows), f"<p>{escape(line.note)}</p>"]
    for name, cell in line.cells.items():
        results = read_results(cell)
        if results is None:
            continue
        tests = [one for one in results["tests"] if book.course.hidden_checks or one.get("visibility") == "visible"]
        rows = [
            (_sign(test), test["name"], f"{tidy(test['score'])} of {tidy(test['max_score'])}", test["output"])
            for test in tests
        ]
        parts += [f"<h2>{escape(name)}</h2>", _table(("result", "check", "points", "what to change"), rows)]
    return PAGE.format(title=escape(one.name or one.id), body="\n".join(parts))


def _sign(test):
    return SIGNS["ok" if test["status"] == "passed" else "FAIL"][0].replace(" ", "\xa0")


def _table(heads, rows):
    head = "".join(f'<th scope="col" style="text-align:left">{escape(one)}</th>' for one in heads)
    lines = []
    for row in rows:
        cells = (escape(f"{cell}").replace("\n", "<br>") for cell in row)
        lines.append("<tr>" + "".join(f'<td style="vertical-align:top">{cell}</td>' for cell in cells) + "</tr>")
    return "\n".join(["<table>", f"<thead><tr>{head}</tr></thead>", "<tbody>", *lines, "</tbody>", "</table>"])


def count(book):
    """Return (tallies, mistakes): a `Tally` of each check, most failed first, and {(exercise, function, name): students}.

    A check that fails because the function is not written is counted apart, not as failed; a file that could not be read
    counts nowhere.
    """
    tallies, mistakes = {}, defaultdict(set)
    for line in book.listed:
        for name, cell in line.cells.items():
            known = _known(name)
            results = read_results(cell)
            for test in results["tests"] if results and results["extra_data"].get("status") == "graded" else ():
                hidden = test.get("visibility") != "visible"
                tally = tallies.setdefault((name, test["name"]), Tally(name, test["name"], hidden))
                tally.graded += 1
                if test["status"] == "passed":
                    continue
                reason = test["output"].partition("\n")[0]
                if re.match("not written yet|.* is not defined: write it", reason):
                    tally.unwritten += 1
                    continue
                function = test["name"].partition(":")[0]
                mistake = known.get((function, reason))
                tally.failed += 1
                tally.reasons[mistake or _without_numbers(reason)] += 1
                if mistake:
                    mistakes[name, function, mistake].add(line.student.id)
    ranked = sorted(tallies.values(), key=lambda one: (-one.failed, one.exercise, one.name))
    return ranked, Counter({key: len(students) for key, students in mistakes.items()})


def _known(exercise):
    """Return {(function, message): name} of the mistakes that have a message of their own."""
    problems = load(exercise).problems
    return {(one.function, wrong.message): wrong.name for one in problems for wrong in one.wrong_answers}


def _without_numbers(reason):
    """Return a reason so that those of two students are equal where only values differ.

    >>> _without_numbers("out[2, 0] is -1.5e-05, wanted 3")
    'out[…] is …, wanted …'
    """
    return re.sub(r"\[[\d, ]+\]", "[…]", re.sub(r"-?\b\d[\d.]*(e[+-]?\d+)?\b", "…", reason)).replace("[…, …]", "[…]")


def class_page(book, figure=True):
    """Return the HTML page on the class: how many handed in, which checks failed most, and the commonest mistakes."""
    ranked, mistakes = count(book)
    failed = [one for one in ranked if one.failed]
    totals = [line.total for line in book.listed if line.total is not None]
    rows = [
        (name, sum(line.cells[name].earned is not None for line in book.listed), _median(book, name), tidy(most))
        for name, most in book.exercises.items()
    ]
    parts = [
        f"<p>{several(len(book.listed), 'student')}"
        + (f"; median total {tidy(statistics.median(totals))} %" if totals else "")
        + "</p>",
        _table(("exercise", "handed in", "median points", "of"), rows),
        "<h2>Which checks failed most</h2>",
        "<p>Of those who wrote the function; the commonest reason is the name of the mistake where we know it.</p>",
        figure_of(failed[:SHOWN]) if failed and figure else "",
        _table(("check", "failed", "of", "not written", "commonest reason"), map(_row, failed)),
        "<h2>The commonest mistakes</h2>",
        _table(
            ("students", "exercise", "function", "mistake"),
            [(number, *key) for key, number in sorted(mistakes.items(), key=lambda pair: (-pair[1], pair[0]))],
        ),
    ]
    return PAGE.format(title="The class", body="\n".join(filter(None, parts)))


def _row(tally):
    reason, times = min(tally.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    name = f"{tally.exercise}, {tally.name}" + " (hidden)" * tally.hidden
    return name, tally.failed, tally.graded - tally.unwritten, tally.unwritten, f"{reason} ({times})"


def _median(book, name):
    points = [line.cells[name].earned for line in book.listed if line.cells[name].earned is not None]
    return tidy(statistics.median(points)) if points else ""


def figure_of(tallies):
    """Return a bar for each of the `Tally`s as SVG, the longest on top; Matplotlib draws it."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [f"{one.exercise} {one.name}" for one in tallies]
    figure = Figure(figsize=(9, 0.6 + 0.32 * len(tallies)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(tallies)), [one.failed for one in tallies], color=COLOUR)
    for at, one in enumerate(tallies):
        axes.annotate(f" {one.failed} of {one.graded - one.unwritten}", (one.failed, at), va="center")
    axes.set_yticks(
        range(len(tallies)), [name if len(name) < 60 else name[:59] + "…" for name in names], parse_math=False
    )
    axes.set(xlim=(0, 1.12 * tallies[0].failed), xlabel="students who failed the check")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "gradebook"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    words = escape("; ".join(f"{name}: {one.failed}" for name, one in zip(names, tallies, strict=True)))
    label = f'<svg role="img" aria-label="Students who failed a check. {words}" style="max-width:100%;height:auto;background:#fff" '
    return label + svg[svg.index("<svg ") + 5 :]
