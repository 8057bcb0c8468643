"""gpu/results/README.md: tables and figures of what was measured, written from the results files and nothing else.

    python -m gpu report

A section is a function that computes values from results files, and a template of the same name that writes them in
Markdown. No number of the page is typed by hand, and all its sentences are in the templates.
"""

import functools
import itertools
import re
from pathlib import Path

import jinja2
from matplotlib import rc_context
from matplotlib.figure import Figure

from refimpl.bench.drawing import PAGE, WIDTH, name_lines
from refimpl.files import save_figure, write_atomically

from ..bench.figures import processes_figure
from ..bench.rows import label
from ..bench.section import format_bytes
from ..training.study import with_spread
from . import figures
from .costs import decoding, kernels, ladder, processes, training
from .evidence import (
    context,
    context_figure,
    recall,
    recall_figure,
    recipe,
    recipe_figure,
    scaling,
    scaling_figure,
)
from .figures import COLOURS
from .paper import paper
from .parts import ablations_once, ablations_once_figure, corpus, passages
from .results import is_there, read
from .studies import ablations, comparison, learning_rates

FOLDER = Path(__file__).parent.parent / "results"
TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = (
    scaling,
    context,
    recall,
    ablations_once,
    passages,
    recipe,
    corpus,
    comparison,
    ablations,
    learning_rates,
    training,
    decoding,
    kernels,
    ladder,
    paper,
    processes,
)


def report(folder=FOLDER):
    """Write README.md and the figures into a folder of results; returns the paths. FileNotFoundError names what is missing."""
    folder = Path(folder)
    text, drawn = page(folder), []  # first, because to draw takes seconds, and what is missing is found at once
    for name, figure in FIGURES.items():
        if is_there(folder, f"{name}.json"):
            drawn.append(folder / f"{name}.png")
            save_figure(drawn[-1], figure(read(folder, f"{name}.json")))
    drawn += figures.draw(folder)
    write_atomically(folder / "README.md", text)
    return [folder / "README.md", *drawn]


def page(folder=FOLDER):
    """The text of README.md; sections without values are left out."""
    values = {section.__name__: section(folder) for section in SECTIONS}
    texts = [render(name, found) for name, found in values.items() if found is not None]
    titles = re.findall(r"^## (.+)$", "\n".join(texts), re.MULTILINE)
    return render("page", {"titles": titles, "sections": texts, **values})


def render(name, values):
    """A template filled with values; UndefinedError if one is missing."""
    text = environment().get_template(f"{name}.md").render(values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@functools.cache
def environment():
    """What renders templates, with the filters that turn numbers into text."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "anchor": anchor, "bytes": format_bytes, "fmt": format, "label": label, "span": span, "with_spread": with_spread,
    }  # fmt: skip
    found.globals["macros"] = found.get_template("macros.md").module
    return found


def anchor(title):
    """Where a link to a heading goes.

    >>> anchor("The paper's cost tables")
    'the-papers-cost-tables'
    """
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def span(values, form):
    """The least and the greatest value as text.

    >>> span([1.5, 1.234], ".2f"), span([0.5, 0.5], ".0%")
    ('1.23 to 1.50', '50%')
    """
    values = list(values)
    low, high = (format(function(values), form) for function in (min, max))
    return low if low == high else f"{low} to {high}"


@rc_context(PAGE)
def curves(study):
    """Held-out loss against steps, a line a seed, a dash a variant."""
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    axes, named = figure.subplots(), []
    for row, dashes in zip(study["rows"], itertools.cycle(("-", "--", "-.", ":"))):
        look = {"color": COLOURS.get(row["variant"]), "linestyle": dashes, "linewidth": 1.3}
        lines = [axes.plot(*zip(*evaluations, strict=True), **look)[0] for evaluations in row["evaluations"]]
        middle = sorted(lines, key=lambda line: line.get_ydata()[-1])[len(lines) // 2]
        named.append((row["variant"].replace("$", r"\$"), middle))
    axes.set(xlabel="step", ylabel="bits per byte, held-out text")
    axes.grid()
    name_lines(axes, named)
    return figure


FIGURES = {
    "scaling": scaling_figure,
    "context": context_figure,
    "long": curves,
    "recall": recall_figure,
    "ablations_once": ablations_once_figure,
    "recipe": recipe_figure,
    "compare": curves,
    "processes": processes_figure,
}
