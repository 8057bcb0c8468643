"""A `Report` as text, for a terminal, and as HTML tables, for a notebook: the same rows, a check each."""

import textwrap
from html import escape
from itertools import zip_longest

from ..harness.runner import several

# Each mark's sign in a notebook and the colour behind it. The sign is white, so its contrast is the same on any page.
SIGNS = {"ok": ("✓ ok", "#1a7f37"), "FAIL": ("✗ FAIL", "#b42318"), "todo": ("○ todo", "#57606a")}
HEADS = ("result", "check", "what to change")
LONGEST_NAME = 44  # of a check in a terminal, before it is wrapped
MOST_LINES = 12  # shown of what a function printed in one check


def rows(results):
    """Return (mark, name, lines) for each check of one problem, or one row if the function is not written yet.

    mark: "ok", "FAIL", or "todo". lines: the reason, the check's hint and what the function printed; a mistake that was named
    above is not repeated, nor are prints.

    >>> from .core import Check
    >>> from .judge import Result
    >>> one, two = Check("one", {}, "think"), Check("two", {}, "look", hidden=True)
    >>> rows([Result(one), Result(two, "out is wrong", "look")])
    [('ok', 'one', []), ('FAIL', 'two (hidden)', ['out is wrong', 'Hint: look'])]
    >>> rows([Result(one, "you forgot", mistake="forgets"), Result(two, "you forgot", mistake="forgets")])
    [('FAIL', 'one', ['you forgot']), ('FAIL', 'two (hidden)', ['the same mistake'])]
    >>> rows([Result(one, "not written yet", written=False)])
    [('todo', 'all checks', ['not written yet'])]
    >>> rows([Result(one, printed="[1. 2.]"), Result(two, printed="[1. 2.]")])
    [('ok', 'one', ['It printed:', '[1. 2.]']), ('ok', 'two (hidden)', ['It printed the same.'])]
    """
    if not any(result.written for result in results):
        return [("todo", "all checks", [results[0].reason])]
    table, named, printed = [], set(), set()
    for result in results:
        lines = ["the same mistake"] if result.mistake in named else [result.reason] * bool(result.reason)
        named |= {result.mistake} - {""}
        if result.hint:
            lines.append(f"Hint: {result.hint}")
        if result.printed:
            lines += ["It printed the same."] if result.printed in printed else ["It printed:", *_some(result.printed)]
        printed.add(result.printed)
        name = result.check.name + (" (hidden)" if result.check.hidden else "")
        table.append(("ok" if result.passed else "FAIL", name, lines))
    return table


def _some(text):
    """Return the first lines of a text."""
    lines = text.splitlines()
    return (
        lines
        if len(lines) <= MOST_LINES
        else [*lines[:MOST_LINES], f"… ({several(len(lines) - MOST_LINES, 'line')} more)"]
    )


def headline(name, results):
    """Return "name: 2 of 4 points"."""
    points, most = sum(result.points for result in results), sum(result.check.points for result in results)
    return f"{name}: {points} of {several(most, 'point')}"


def summary(report):
    """Return the last line: all points, and how to get at what was not run."""
    points, name = f"{report.points} of {several(report.most, 'point')}", report.name
    if not report.points_not_run:
        return f"{points} in {name}."
    return (
        f"{points} in the visible checks of {name}. {more_hidden(report.points_not_run)}: "
        "in the whole course, python -m exercises check FILE runs them too."
    )


def more_hidden(points):
    """Return how many points are not shown.

    >>> more_hidden(1), more_hidden(8)
    ('1 point more is in hidden checks', '8 points more are in hidden checks')
    """
    return f"{several(points, 'point')} more {'is' if points == 1 else 'are'} in hidden checks"


def styled_lines(report, width=100):
    """Return lines as lists of (text, style), style a mark, "bold" or "plain"; the tables fit `width`."""
    lines = []
    for name, results in report.results.items():
        table = rows(results)
        wide = min(max(len(HEADS[1]), *(len(check) for _, check, _ in table)), LONGEST_NAME)
        rest = max(width - wide - 12, 30)
        lines += [[(headline(name, results), "bold")], [(f"  {HEADS[0]:<6}  {HEADS[1]:<{wide}}  {HEADS[2]}", "plain")]]
        for mark, check, details in table:
            cells = textwrap.wrap(check, wide), [part for line in details for part in textwrap.wrap(line, rest)]
            for n, (left, right) in enumerate(zip_longest(*cells, fillvalue="")):
                text = f"  {left:<{wide}}  {right}".rstrip()
                lines.append(
                    [("  ", "plain"), (f"{mark:<6}", mark), (text, "plain")] if n == 0 else [(8 * " " + text, "plain")]
                )
        lines.append([])
    return [*lines, [(summary(report), "bold")]]


def plain_text(report):
    """Return the report as plain text."""
    return "\n".join("".join(text for text, _ in line) for line in styled_lines(report))


def to_html(report):
    """Return the report as HTML, a table for each function; all text from outside is escaped."""
    left = "text-align:left;vertical-align:top"
    heads = "".join(f'<th scope="col" style="{left}">{head}</th>' for head in HEADS)
    parts = []
    for name, results in report.results.items():
        caption = f'<caption style="{left};caption-side:top"><b>{escape(headline(name, results))}</b></caption>'
        parts += ["<table>", caption, f"<thead><tr>{heads}</tr></thead>", "<tbody>"]
        for mark, check, details in rows(results):
            sign, colour = SIGNS[mark]
            sign = f'<b style="background:{colour};color:#fff;padding:0 .4em;white-space:nowrap">{sign}</b>'
            cells = sign, escape(check), "<br>".join(map(escape, details))
            parts.append("<tr>" + "".join(f'<td style="{left}">{cell}</td>' for cell in cells) + "</tr>")
        parts += ["</tbody>", "</table>"]
    return "\n".join([*parts, f"<p>{escape(summary(report))}</p>"])
