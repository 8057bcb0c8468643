"""Every number in the text of a lesson is computed in that lesson: a cell prints it, or its code holds it.

Equal means to the digits that the text prints, in any spelling: 4,096 is 2^12, 3 % is 0.03, 155 GB is 155,000,000,000 bytes.
A paragraph that links to the results page may also take its numbers from there: that page is written from the records.
"""

import ast
import contextlib
import math
import re

import nbformat
import numpy as np
import pytest
from paths import ROOT
from test_notebooks import BESIDE, LESSONS, START, code_cells, printed, prose

PAGE = ROOT / "gpu" / "results" / "README.md"
NUMBER = re.compile(
    r"(?P<about>\b[Aa]bout \$?)?(?<![\w.^\\])(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?P<part>\.\d+)?"
    r"(?:\s*(?:\\cdot|[\u00d7\u00b7])\s*10\^\{?(?P<ten>[-\u2212]?\d+)\}?|e(?P<e>[-+\u2212]?\d+))?"
    r"(?!\w|[.,]\d|\^)(?:\s*(?P<unit>[%°]|[a-zA-Zµ]+))?"
    r"|(?<![\w.^\\])10\^(?:\{(?P<order>[-\u2212]?\d+)\}|(?P<digit>\d))"
)
UNITS = {
    "%": 100,
    "°": 180 / math.pi,
    "ms": 1e3,
    "µs": 1e6,
    "ns": 1e9,
    "thousand": 1e-3,
    "million": 1e-6,
    "billion": 1e-9,
}
UNITS |= {"kB": 1e-3, "MB": 1e-6, "GB": 1e-9, "TB": 1e-12, "KiB": 2**-10, "MiB": 2**-20, "GiB": 2**-30}

# What is no number of ours, and why.
NO_TEXT = {
    r"^## Reading.*": "titles of other people's work",
    r"```.*?```": "code is code",
    r"^\| \[\d+\. [^\n]*": "the start page's table of lessons, whose minutes the last test compares",
}
NO_CLAIM = {
    r"†|\]\(https?:|\bpaper\b": "the sentence names its source",
    r"\?[*_)\s]*$": "a question: what it offers to choose from may be wrong",
}
NO_NUMBER = {
    r"`[^`]*`": "code, which counts where it runs",
    r"\]\([^)\s]*\)|<[^>]*>": "addresses and HTML",
    r"arXiv:[\w.]+|[Ss]ections? [\d.]+": "names of papers and of their sections",
    r"(?<!10)\^(?:\{[^}]*\}|.)|_\{[^}]*\}": "exponents and indices; a power of ten is a number",
    r"about \d+ minutes": "the time of a reading, which test_notebooks.py computes",
    r"\b(?:1[6-9]|20)\d\d\b": "years; other numbers of four digits have a comma",
}
SMALL = 20  # whole numbers below it, without a unit, count what the reader sees
EXPRESSION = re.compile(
    r"(?:np\.(?:sqrt|log|exp|pi)|(?<![\d.])\d[\d.]*(?:e[-+]?\d+)?|[-+*/() ])+"
)  # of literal numbers alone


def _integer(text):
    return int(text.replace("\u2212", "-"))


def numbers(text):
    """What is written in the text, each as (as written, value, half a unit of its last digit, unit or None); no signs.

    The last digit of "about 3,300" is the second 3, that of "3,300" the last 0.
    """
    for found in NUMBER.finditer(text):
        scale = 10.0 ** _integer(found["order"] or found["digit"] or found["ten"] or found["e"] or "0")
        digits, part = (found["whole"] or "1").replace(",", ""), found["part"] or "."
        rounded = len(digits) - len(digits.rstrip("0")) if found["about"] and part == "." else 1 - len(part)
        yield found[0].strip(), float(digits + part) * scale, 0.5 * 10.0**rounded * scale, found["unit"]


def constants(source):
    """The numbers that stand in the code, also as 2**12, 1 / 32 or np.log(2), and in its strings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (value for _, value, _, _ in numbers(node.value))
        text = ast.unparse(node) if isinstance(node, ast.expr) else ""
        if EXPRESSION.fullmatch(text):
            with contextlib.suppress(ArithmeticError, SyntaxError, TypeError):
                value = eval(text, {"np": np})  # of nothing but numbers, as EXPRESSION says
                if isinstance(value, (int, float)):
                    yield abs(float(value))


def computed(notebook):
    """The numbers that cells print, describe in pictures or hold in their code, without signs."""
    held = {value for cell in code_cells(notebook) for value in constants(cell["source"])}
    return held | {value for _, value, _, _ in numbers(printed(notebook))}


def claims(markdown):
    """The numbers that a text claims, each with its sentence and its paragraph, which is a line of Markdown."""
    text = markdown.replace("{,}", ",").replace(r"\,", "").replace(r"\%", "%")
    text = re.sub("|".join(NO_TEXT), "", text, flags=re.MULTILINE | re.DOTALL)
    for paragraph in text.split("\n"):
        for sentence in re.split(r"(?<=[.!?:])\s+(?=[A-Z(*$`\[])", paragraph):
            if re.search("|".join(NO_CLAIM), sentence):
                continue
            for written, value, half, unit in numbers(re.sub("|".join(NO_NUMBER), " ", sentence)):
                if value >= SMALL or unit in ("%", "°") or "." in written or "^" in written:
                    yield (written, value, half, unit), sentence, paragraph


def known(number, values):
    """Whether a value is that number, to the digits that are printed, as it is or in the number's unit."""
    _, value, half, unit = number
    scales = {1, UNITS.get(unit, 1)}
    return any(abs(other * scale - value) <= half * (1 + 1e-9) for other in values for scale in scales)


def unknown(notebook):
    """A line for each number that nothing in the lesson computes."""
    values = computed(notebook)
    on_page = {value for _, value, _, _ in numbers(PAGE.read_text(encoding="utf-8"))}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            for number, sentence, paragraph in claims(cell["source"]):
                if not known(number, values | on_page if "gpu/results/README.md" in paragraph else values):
                    yield f"{cell['id']}: {number[0]!r} in {sentence.strip()!r}"


@pytest.mark.parametrize("path", [START, *LESSONS, *BESIDE], ids=lambda path: path.stem)
def test_every_number_in_the_text_is_computed_in_the_lesson(path):
    faults = list(unknown(nbformat.read(path, as_version=4)))
    assert not faults, "\n" + "\n".join(faults)


def test_the_start_page_tells_the_minutes_of_each_lesson():
    rows = re.findall(r"^\| \[(\d+)\. .*?\| (\d+) \| [^|]*\|$", prose(nbformat.read(START, as_version=4)), re.MULTILINE)
    promised = (re.search(r"about (\d+) minutes", prose(nbformat.read(path, as_version=4)))[1] for path in LESSONS)
    assert rows == [(str(number), minutes) for number, minutes in enumerate(promised, 1)]


# The test itself.


def _lesson(text):
    printed_text = {
        "output_type": "stream",
        "name": "stdout",
        "text": "loss 1.2345, share 0.031, 155,020,000,000 bytes, 8.4e-45\n",
    }
    code = {"cell_type": "code", "id": "code", "source": "x = 2**12, np.log(2)", "outputs": [printed_text]}
    return {"cells": [code, {"cell_type": "markdown", "id": "text", "source": text}]}


@pytest.mark.parametrize(
    "text",
    [
        "There are 4,096 of them, or $4{,}096$, and $\\ln 2 = 0.69$.",
        "The loss is 1.23, and the share about 3 % or $3.1\\,\\%$.",
        "It takes 155 GB, or 155.02 billion bytes.",
        "The smallest is $8.4 \\cdot 10^{-45}$. About 4,100 of them are about $4{,}000$.",
        "The other paper has 37 of them ([a paper](https://example.org)).",
        "They report 37 †. The paper's model has 37. Of section 37.5 we say nothing. It is from 1951.",
        "Are there 37? No: `x = 37`, $2^{-37}$ and 7 tokens.\n```python\nx = 37\n```",
        "Without the gate it loses 0.118 ± 0.005 ([results page](../gpu/results/README.md)).",
        "Good.\n\n## Reading\n\n- Journal 37.",
    ],
)
def test_a_number_that_is_computed_or_makes_no_claim_passes(text):
    assert list(unknown(_lesson(text))) == []


@pytest.mark.parametrize(
    ("text", "planted"),
    [
        ("There are 4,097 of them.", "4,097"),
        ("There are 37 of them, as `x` says.", "37"),
        ("There are about 4,200 of them.", "about 4,200"),
        ("There are some 4,100 of them.", "4,100"),
        ("Good.\n\n- The loss is 1.24, and 4,096 tokens.", "1.24"),
        ("The share is 4 %.", "4 %"),
        ("It takes $157$ GB.", "157"),
        ("It is below $10^{-12}$.", "10^{-12}"),
        ("The smallest is $8.5 \\cdot 10^{-45}$.", "8.5"),
        ("Without the gate it loses 0.118.", "0.118"),
        ("Is it so? There are 37. The paper says nothing.", "37"),
    ],
)
def test_a_planted_number_is_found(text, planted):
    (fault,) = unknown(_lesson(text))
    assert fault.startswith(f"text: '{planted}")


def test_most_numbers_of_the_lessons_would_be_missed_if_their_last_digit_were_another():
    changed = missed = 0
    for path in (START, *LESSONS):
        notebook = nbformat.read(path, as_version=4)
        values = computed(notebook)
        for text in (cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"):
            for (written, value, half, unit), _, _ in claims(text):
                changed += 1
                missed += not known((written, value + 6 * half, half, unit), values)
    assert missed > 0.7 * changed
