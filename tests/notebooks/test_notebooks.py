"""The lesson contract, on every lesson, and the part of it that holds for the start page: what nbval cannot see.

nbval runs each notebook and compares its outputs. It accepts a cell that was never run, a lesson without a single
assert and any picture. So each rule of the contract is a generator here that takes a notebook and the root of the
repository and yields the faults, and each rule is shown a notebook that breaks it.

A lesson is stored with
    jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/NN_name.ipynb
"""

import ast
import copy
import itertools
import json
import re
from statistics import median

import nbformat
import pytest
from paths import ROOT

START = ROOT / "notebooks" / "00_start_here.ipynb"
LESSONS = sorted(set((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")) - {START})
BESIDE = sorted((ROOT / "notebooks").glob("[a-z]*.ipynb"))  # pages beside the lessons, without a number
EXERCISES = sorted((ROOT / "exercises").glob("ex[0-9][0-9]_*.ipynb"))
SECTIONS = ("Do, learn, need", "Exercise", "What was not shown", "Reading")
GUESS = "**Your guess:**"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
(SET_UP,) = (cell["source"] for cell in nbformat.read(START, as_version=4)["cells"] if cell["id"] == "set-up")
WIDGET = "application/vnd.jupyter.widget-view+json"


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and cell["source"].strip()]


def prose(notebook):
    return "\n\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown")


def trees(notebook):
    return [ast.parse(cell["source"]) for cell in code_cells(notebook)]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def output_data(notebook, mime):
    """The outputs of that MIME type, each as (data, metadata)."""
    found = [output for output in outputs(notebook) if mime in output.get("data", {})]
    return [(output["data"][mime], output["metadata"].get(mime, {})) for output in found]


def printed(notebook):
    """All text in the outputs."""
    return "\n".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs(notebook))


def executed(notebook, root):
    """Every code cell was run, in order, from a fresh kernel, without an error."""
    counts = [cell["execution_count"] for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}, not 1, 2, 3 ..."
    for cell in code_cells(notebook):
        yield from (f"{cell['id']} ended in {o['ename']}" for o in cell["outputs"] if o["output_type"] == "error")
        yield from (f"{cell['id']} wrote to stderr" for o in cell["outputs"] if o.get("name") == "stderr")


def folded(cell, what="source"):
    """Whether a cell's source or outputs are folded when the notebook is opened."""
    return cell["metadata"].get("jupyter", {}).get(f"{what}_hidden", False)


def sized(notebook, root, least=35, most=50, longest=20):
    """35 to 50 cells; a median code cell of at most 8 lines, none above 20; a folded one may have 30."""
    cells, lines = len(notebook["cells"]), [len(cell["source"].splitlines()) for cell in code_cells(notebook)]
    cells -= code_cells(notebook)[0]["id"] == "set-up"
    if not least <= cells <= most:
        yield f"{cells} cells, not {least} to {most}"
    if median(lines) > 8:
        yield f"the median code cell has {median(lines)} lines, more than 8"
    for cell, size in zip(code_cells(notebook), lines, strict=True):
        if size > (30 if folded(cell) else longest):
            yield f"{cell['id']} has {size} lines: the longest are {longest}, folded 30"


def brief(notebook, root):
    """A start page: 12 to 25 cells, a median code cell of at most 8 lines, none above 12."""
    yield from sized(notebook, root, 12, 25, 12)


def sectioned(notebook, root):
    """The sections of the contract are there, in order."""
    headings = re.findall(r"^##? (.+)$", prose(notebook), re.MULTILINE)
    found = [heading for heading in headings if heading in SECTIONS]
    if found != list(SECTIONS):
        yield f"sections are {found}, not {list(SECTIONS)}"


def links(text):
    """The relative links in Markdown, without what follows a #."""
    return [link.partition("#")[0] for link in re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", text)]


def linked(notebook, root):
    """Every relative link leads to a file."""
    yield from (f"{link} is not there" for link in links(prose(notebook)) if not (root / "notebooks" / link).is_file())


def exercised(notebook, root):
    """The lesson links an exercise notebook, and that notebook exists."""
    found = [link for link in links(prose(notebook)) if re.fullmatch(r"\.\./exercises/ex\d\d_\w+\.ipynb", link)]
    if not found:
        yield "no link to ../exercises/exNN_name.ipynb"
    yield from (f"{link[3:]} is not there" for link in found if not (root / "notebooks" / link).is_file())


def asserted(notebook, root):
    """At least one assert for every five code cells."""
    asserts = sum(isinstance(node, ast.Assert) for tree in trees(notebook) for node in ast.walk(tree))
    cells = len(code_cells(notebook))
    if 5 * asserts < cells:
        yield f"{asserts} asserts for {cells} code cells, fewer than one in five"


def guessed(notebook, root):
    """The reader is asked for guesses, each followed by a cell that prints the answer, and until the next text all is folded.

    Not so what a proof prints that begins with "proved".
    """
    cells, asked = notebook["cells"], 0
    for place, cell in enumerate(cells):
        if cell["cell_type"] != "markdown" or GUESS not in cell["source"]:
            continue
        asked += 1
        following = list(itertools.takewhile(lambda each: each["cell_type"] == "code", cells[place + 1 :]))
        if not following:
            yield f"no code cell answers the guess of {cell['id']}"
            continue
        answer, *others = following
        if not (folded(answer, "outputs") and answer["outputs"]):
            yield f"{answer['id']} answers a guess and shows it at once, or shows nothing"
        elif re.search(r"^\s*assert\b", answer["source"], re.MULTILINE) and not folded(answer):
            yield f"{answer['id']} answers a guess and its asserts give it away"
        for other in others:
            tells = other["outputs"] and not other["outputs"][0].get("text", "").startswith("proved")
            if tells and not folded(other, "outputs"):
                yield f"{other['id']} stands before the answer to the guess of {cell['id']} and shows something"
    if not asked:
        yield f"no question asks for {GUESS}"


def proved(notebook, root):
    """Asserts stand at the end of a cell, or in a cell that is folded."""
    for cell in code_cells(notebook):
        kinds = [isinstance(node, ast.Assert) for node in ast.parse(cell["source"]).body]
        if kinds != sorted(kinds) and not folded(cell):
            yield f"{cell['id']} goes on after an assert"


def printing(notebook, root):
    """Nine in ten of the code cells that are not folded show something."""
    shown = [cell for cell in code_cells(notebook) if not folded(cell)]
    silent = [cell["id"] for cell in shown[1:] if not cell["outputs"]]
    if 10 * len(silent) > len(shown):
        yield f"{', '.join(silent)} show nothing"


def minutes(notebook):
    """How long a reading takes: 200 words or 10 lines of code a minute, 1 a guess, 3 to move a picture; folded cells not."""
    code = [cell for cell in code_cells(notebook) if not folded(cell)]
    words = len(re.findall(r"\w+", prose(notebook)))
    pictures = sum(WIDGET in output.get("data", {}) for output in outputs(notebook))
    lines = sum(len(cell["source"].splitlines()) for cell in code)
    return words / 200 + lines / 10 + prose(notebook).count(GUESS) + 3 * pictures


def timed(notebook, root):
    """The minutes that it promises are those of a reading, and at most an hour."""
    promised = re.search(r"about (\d+) minutes", prose(notebook))
    if not promised:
        yield "no 'about NN minutes'"
    elif not abs(int(promised[1]) - minutes(notebook)) <= 7.5 or int(promised[1]) > 60:
        yield f"about {promised[1]} minutes are promised, a reading takes {minutes(notebook):.0f}, at most 60 are allowed"


def explored(notebook, root):
    """A picture that is moved stands before the first equation."""
    for cell in notebook["cells"]:
        if any(WIDGET in output.get("data", {}) for output in cell.get("outputs", [])):
            return
        if cell["cell_type"] == "markdown" and "$$" in cell["source"]:
            yield f"{cell['id']} has an equation, and no picture to move stands before it"
            return


def cited(notebook, root):
    """Equations carry their number and the paper's."""
    if not re.search(r"Eq\. \(\d\)(\u2013\(?\d\)?)?, arXiv:2307\.08621v4", prose(notebook)):
        yield "no equation is cited as Eq. (n), arXiv:2307.08621v4"


def moving(notebook, root):
    """There is a widget to move, and nbval skips nothing but widgets."""
    if not output_data(notebook, WIDGET):
        yield "no widget"
    for cell in code_cells(notebook):
        tags = set(cell["metadata"].get("tags", []))
        is_widget = any(WIDGET in output.get("data", {}) for output in cell["outputs"])
        if "nbval-skip" in tags or ("nbval-ignore-output" in tags and not is_widget):
            yield f"{cell['id']} hides its result from nbval"


def drawn(notebook, root):
    """There is a picture, every picture is described in words, and the package figures drew it."""
    pictures = re.findall(r"<img .*?>", "".join(html for html, _ in output_data(notebook, "text/html")), re.DOTALL)
    if not pictures:
        yield "no picture"
    yield from ("a picture has no alternative text" for tag in pictures if not re.search(r'alt="[^"]*\w', tag))
    if output_data(notebook, "image/png"):
        yield "a picture is not HTML, so JupyterLab drops its alternative text"
    if "matplotlib" in json.dumps(notebook["cells"]):
        yield "matplotlib is used outside figures"


def repeatable(notebook, root):
    """Seeds are fixed; nothing printed or stored depends on the machine; cell ids are names."""
    for node in (node for tree in trees(notebook) for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng") and not node.args:
            yield "default_rng() without a seed"
        if isinstance(node, ast.Attribute) and re.fullmatch(r"np\.random\.(seed|rand\w*|normal)", ast.unparse(node)):
            yield f"{ast.unparse(node)} instead of a seeded default_rng"
    if re.search(r"0x[0-9a-f]{6,}|<Figure", printed(notebook)):
        yield "an address or the name of a figure object is printed"
    folder = r"(?<![\w.:/])/(home|root|work|tmp|Users|usr|var|opt|mnt|private)/|\b[A-Z]:\\"
    if re.search(folder, "\n".join([prose(notebook), printed(notebook), *(c["source"] for c in code_cells(notebook))])):
        yield "an absolute path"
    unknown = set(notebook["metadata"]) - {"kernelspec", "language_info", "widgets"}
    unknown |= {key for cell in notebook["cells"] for key in cell["metadata"]} - {"tags", "jupyter"}
    if unknown:
        yield f"metadata {sorted(unknown)}"
    ids = [cell["id"] for cell in notebook["cells"]]
    yield from (f"cell id {i} is not a name" for i in ids if not re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", i))
    if len(set(ids)) != len(ids):
        yield "a cell id occurs twice"


def clean(notebook, root):
    """Its kernel is named as JupyterLab writes it, so that opening the file changes nothing."""
    if notebook["metadata"]["kernelspec"] != KERNEL:
        yield f"the kernel is {notebook['metadata']['kernelspec']}, not {KERNEL}"


def set_up(notebook, root):
    """Its first code cell is the one that finds or fetches the course, the same everywhere, and folded."""
    cell = code_cells(notebook)[0]
    if cell["source"] != SET_UP:
        yield f"the first code cell, {cell['id']}, is not that of the start page"
    if cell["metadata"].get("jupyter") != {"source_hidden": True}:
        yield f"{cell['id']} is not folded"


RULES = (
    executed, sized, sectioned, linked, exercised, asserted, proved, printing, guessed, timed, cited, explored, moving, drawn,
    repeatable, clean, set_up,
)  # fmt: skip
START_RULES = (executed, brief, linked, asserted, guessed, drawn, repeatable, clean, set_up)
BESIDE_RULES = (executed, linked, asserted, proved, printing, cited, repeatable, clean, set_up)
STORED = [(path, rule) for path in LESSONS for rule in RULES] + [(START, rule) for rule in START_RULES]
STORED += [(path, rule) for path in BESIDE for rule in BESIDE_RULES]


@pytest.mark.parametrize(
    ("path", "rule"), STORED, ids=[f"{path.stem.partition('_')[0]}-{rule.__name__}" for path, rule in STORED]
)
def test_a_notebook_keeps_its_rules(path, rule):
    assert list(rule(nbformat.read(path, as_version=4), ROOT)) == []


def test_the_start_page_maps_every_lesson_and_exercise():
    found = set(links(prose(nbformat.read(START, as_version=4))))
    assert {path.name for path in [*LESSONS, *BESIDE]} | {f"../exercises/{path.name}" for path in EXERCISES} <= found


def test_there_are_lessons_numbered_from_one():
    assert LESSONS
    assert [int(path.name[:2]) for path in LESSONS] == list(range(1, len(LESSONS) + 1))


def test_nbval_compares_results_as_they_are():
    """sanitize.cfg replaces nothing that looks like a result."""
    text = (ROOT / "notebooks" / "sanitize.cfg").read_text(encoding="utf-8")
    patterns = re.findall(r"^regex: (.*)$", text, re.MULTILINE)
    results = (
        "0.9375",
        "[[2.65 0.125]",
        " [0.   0.75 ]]",
        "(2, 3, 0, 5)",
        "8.9e-16",
        "gammas [0.9688 0.9844]",
        "1,048,576",
    )
    assert not [(pattern, result) for pattern in patterns for result in results if re.search(pattern, result)]


# Each rule can fail: a notebook that keeps them all, and what breaks each of them.


def _cell(kind, name, source, folds=(), **more):
    metadata = {"jupyter": {f"{what}_hidden": True for what in folds}} if folds else {}
    return {"cell_type": kind, "id": name, "metadata": metadata, "source": source, **more}


def _text(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def _result(mime, data, **metadata):
    return {"output_type": "display_data", "data": {mime: data}, "metadata": {mime: metadata} if metadata else {}}


PICTURE = '<img class="figure" alt="a line" src="data:image/png;base64,cGl4ZWxz">'


def _good():
    outputs = [[_result(WIDGET, {"model_id": "m"})], [_result("text/html", PICTURE)]]
    opening = "# Lesson 1. A title\n\nSee Eq. (6), arXiv:2307.08621v4. It takes about 10 minutes."
    cells = [
        _cell("markdown", "title", opening),
        _cell("markdown", "head", "## Do, learn, need\n\nSomething."),
        _cell("code", "set-up", SET_UP, execution_count=1, outputs=[], folds=("source",)),
        _cell("code", "widget", "slider", execution_count=2, outputs=outputs[0]),
        _cell("code", "picture", "draw()", execution_count=3, outputs=outputs[1]),
        _cell("markdown", "guess", f"{GUESS} what comes?"),
        _cell("code", "answer", "print(2)", execution_count=40, outputs=[_text("2")], folds=("outputs",)),
        _cell("markdown", "exercise", "## Exercise\n\n[ex01](../exercises/ex01_a_step.ipynb)"),
        _cell("markdown", "hidden", "## What was not shown\n\nMuch."),
        _cell("markdown", "reading", "## Reading\n\nA paper."),
    ]
    claim = "rng = np.random.default_rng(0)\nassert 1 + 1 == 2"
    words = ("a", "b", "c")
    names = [f"{x}-{y}{z}" for x in words for y in words for z in range(4)]
    cells[5:5] = [
        _cell("code", name, claim, execution_count=n, outputs=[_text("1")]) for n, name in enumerate(names, 4)
    ]
    return {"metadata": {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}, "cells": cells}


def _good_start():
    notebook = _good()
    del notebook["cells"][15:-5]
    for count, cell in enumerate(code_cells(notebook), 1):
        cell["execution_count"] = count
    return notebook


@pytest.fixture
def root(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "exercises").mkdir()
    (tmp_path / "exercises" / "ex01_a_step.ipynb").write_text("{}", encoding="utf-8")
    return tmp_path


GOOD = [(_good, rule) for rule in RULES] + [(_good_start, rule) for rule in START_RULES]


@pytest.mark.parametrize(("make", "rule"), GOOD)
def test_a_good_notebook_passes(make, rule, root):
    assert list(rule(make(), root)) == []


def _in_cell(index, **changes):
    return lambda notebook: notebook["cells"][index].update(changes)


def _replace(index, old, new):
    def change(notebook):
        assert old in notebook["cells"][index]["source"]
        notebook["cells"][index]["source"] = notebook["cells"][index]["source"].replace(old, new)

    return change


def _print(text, name="stdout"):
    return _in_cell(6, outputs=[_text(text, name)])


def _shorten(notebook):
    del notebook["cells"][6:31]


def _lengthen(notebook):
    notebook["cells"] += [_cell("markdown", f"more-{n}", "More.") for n in range(40)]


def _drop_asserts(notebook):
    for cell in notebook["cells"][5:-3]:
        cell["source"] = cell["source"].replace("assert ", "")


def _swap_sections(notebook):
    notebook["cells"][-1], notebook["cells"][-2] = notebook["cells"][-2], notebook["cells"][-1]


def _pad_all(notebook):
    for cell in code_cells(notebook):
        cell["source"] += "\nx = 1" * 8


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
BROKEN = [
    (executed, _in_cell(6, execution_count=None), "not 1, 2, 3"),
    (executed, _in_cell(6, execution_count=40), "not 1, 2, 3"),
    (executed, _in_cell(6, outputs=[ERROR]), "ValueError"),
    (executed, _print("Warning", name="stderr"), "stderr"),
    (sized, _shorten, "cells, not 35"),
    (sized, _lengthen, "cells, not 35"),
    (sized, _in_cell(6, source="x = 1\n" * 21), "longest"),
    (sized, _in_cell(6, source="x = 1\n" * 31, metadata={"jupyter": {"source_hidden": True}}), "longest"),
    (sized, _pad_all, "median"),
    (brief, _lengthen, "cells, not 12"),
    (brief, _in_cell(6, source="x = 1\n" * 13), "longest"),
    (linked, _replace(-1, "A paper.", "[A](paper.ipynb#top), [our house](../README.md)"), "paper.ipynb is not there"),
    (linked, _replace(-3, "ex01_a_step", "ex01_another"), "not there"),
    (sectioned, _replace(-2, "What was not shown", "The rest"), "sections"),
    (sectioned, _swap_sections, "sections"),
    (exercised, _replace(-3, "../exercises/", "exercises/"), "no link"),
    (exercised, _replace(-3, "ex01_a_step", "ex01_another"), "not there"),
    (asserted, _drop_asserts, "fewer than one in five"),
    (guessed, _replace(-5, GUESS, "So"), "no question"),
    (guessed, lambda notebook: notebook["cells"].pop(-4), "no code cell answers"),
    (guessed, _in_cell(-4, metadata={}), "shows it at once"),
    (guessed, _in_cell(-4, outputs=[]), "shows nothing"),
    (guessed, _in_cell(-4, source="assert 1 + 1 == 2"), "give it away"),
    (
        guessed,
        lambda notebook: notebook["cells"].insert(-3, _cell("code", "more", "print(3)", outputs=[_text("3")])),
        "and shows",
    ),
    (proved, _in_cell(6, source="assert 1 + 1 == 2\nx = 1"), "after an assert"),
    (printing, lambda notebook: [cell.update(outputs=[]) for cell in notebook["cells"][5:13]], "show nothing"),
    (timed, _replace(0, "about 10 minutes", "an hour"), "no 'about"),
    (timed, _replace(0, "about 10 minutes", "about 45 minutes"), "a reading takes"),
    (timed, _in_cell(1, source="word " * 12000), "at most 60"),
    (explored, _replace(1, "Something.", "$$o = q S$$"), "no picture to move"),
    (cited, _replace(0, "Eq. (6), arXiv:2307.08621v4", "equation 6"), "no equation"),
    (moving, _in_cell(3, outputs=[]), "no widget"),
    (moving, _in_cell(6, metadata={"tags": ["nbval-ignore-output"]}), "hides"),
    (moving, _in_cell(3, metadata={"tags": ["nbval-skip"]}), "hides"),
    (drawn, _in_cell(4, outputs=[]), "no picture"),
    (drawn, _in_cell(4, outputs=[_result("text/html", PICTURE.replace("a line", ""))]), "alternative text"),
    (drawn, _in_cell(4, outputs=[_result("image/png", "cGl4ZWxz", alt="a line")]), "not HTML"),
    (drawn, _in_cell(4, source="import matplotlib.pyplot as plt"), "outside figures"),
    (repeatable, _replace(6, "default_rng(0)", "default_rng()"), "without a seed"),
    (repeatable, _replace(6, "rng = np.random.default_rng(0)", "np.random.randn(3)"), "seeded"),
    (repeatable, _print("<object at 0x7f12ab34cd56>"), "address"),
    (repeatable, _print("<Figure size 640x480 with 1 Axes>"), "figure object"),
    (repeatable, _in_cell(6, source="open('/home/me/x.txt')"), "absolute path"),
    (repeatable, _print("saved to C:\\data"), "absolute path"),
    (repeatable, _in_cell(6, metadata={"execution": {"iopub.status.busy": "2026-01-01"}}), "metadata"),
    (clean, lambda notebook: notebook["metadata"]["kernelspec"].update(display_name="Python 3"), "the kernel is"),
    (set_up, _replace(2, "-q", "-v"), "start page"),
    (set_up, _in_cell(2, metadata={}), "not folded"),
    (repeatable, _in_cell(6, id="3f2a91bc"), "not a name"),
    (repeatable, _in_cell(6, id="title"), "twice"),
]


@pytest.mark.parametrize(("rule", "damage", "fault"), BROKEN)
def test_a_broken_notebook_is_refused(rule, damage, fault, root):
    notebook = _good()
    before = copy.deepcopy(notebook)
    damage(notebook)
    assert notebook != before
    faults = list(rule(notebook, root))
    assert any(fault in found for found in faults), faults


def test_every_rule_is_shown_a_notebook_that_breaks_it():
    assert {rule for rule, _, _ in BROKEN} == {*RULES, *START_RULES}
