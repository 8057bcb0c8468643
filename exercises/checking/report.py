"""A `Report` as text, for a terminal, and as an HTML table, for a notebook: the same rows."""

import textwrap
from html import escape

# The sign of each mark in a notebook and its colour, readable on light and dark pages.
SIGNS = {"ok": ("✓", "#2a9d4a"), "FAIL": ("✗", "#d9434e"), "todo": ("○", "#888888")}


def rows(results):
    """Return (mark, names, lines) for one problem: one row per passed check, one row for all checks that fail for the same reason.

    mark: "ok", "FAIL", or "todo" for a function that is not written yet. names: of the checks. lines: the
    reason, and the hint of the first check unless the reason already names the mistake.

    >>> from .core import Check
    >>> from .judge import Result
    >>> one, two = Check("one", {}, "think"), Check("two", {}, "look", hidden=True)
    >>> rows([Result(one), Result(two, "out is wrong")])
    [('ok', ['one'], []), ('FAIL', ['two (hidden)'], ['out is wrong', 'Hint: look'])]
    >>> rows([Result(one, "you forgot", "forgets"), Result(two, "you forgot", "forgets")])
    [('FAIL', ['one', 'two (hidden)'], ['you forgot'])]
    >>> rows([Result(one, "not written yet", written=False)])
    [('todo', ['not written yet'], [])]
    """
    if not any(result.written for result in results):
        return [("todo", [results[0].reason], [])]
    table, failed = [], {}
    for result in results:
        name = result.check.name + (" (hidden)" if result.check.hidden else "")
        if result.passed:
            table.append(("ok", [name], []))
        elif result.reason in failed:
            failed[result.reason].append(name)
        else:
            failed[result.reason] = [name]
            hint = [] if result.mistake else [f"Hint: {result.check.hint}"]
            table.append(("FAIL", failed[result.reason], [result.reason, *hint]))
    return table


def headline(name, results):
    """Return "name: 2 of 4 points"."""
    points, most = sum(result.points for result in results), sum(result.check.points for result in results)
    return f"{name}: {points} of {most} points"


def summary(report):
    """Return the last line: all points, and what was not run."""
    points, name = f"{report.points} of {report.most} points", report.name
    if not report.points_not_run:
        return f"{points} in {name}."
    return f"{points} in the visible checks of {name}. There are {report.points_not_run} points more in hidden checks."


def styled_lines(report, width=100):
    """Return (line, style) pairs, style a mark, "bold" or "plain"; lines fit `width`."""
    lines = []
    for name, results in report.results.items():
        lines.append((headline(name, results), "bold"))
        for mark, names, details in rows(results):
            lines += [(f"  {mark:<4}  {check}", mark) for check in names]
            for detail in details:
                lines += [(8 * " " + part, "plain") for part in textwrap.wrap(detail, max(width - 8, 30))]
        lines.append(("", "plain"))
    return [*lines, (summary(report), "bold")]


def plain_text(report):
    """Return the report as plain text."""
    return "\n".join(line for line, _ in styled_lines(report))


def to_html(report):
    """Return the report as an HTML table; all text from outside is escaped."""
    left = "text-align:left;vertical-align:top"
    parts = ["<table>"]
    for name, results in report.results.items():
        parts.append(f'<tr><th colspan="3" style="{left}">{escape(headline(name, results))}</th></tr>')
        for mark, names, details in rows(results):
            sign, colour = SIGNS[mark]
            parts.append(
                f'<tr><td style="{left};color:{colour}"><b>{sign}</b></td><td style="{left}">{"<br>".join(map(escape, names))}</td>'
                f'<td style="{left}">{"<br>".join(map(escape, details))}</td></tr>'
            )
    return "\n".join([*parts, "</table>", f"<p>{escape(summary(report))}</p>"])
