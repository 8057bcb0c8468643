"""How pages of the repository become pages of the site: links, symbols, cells, docstrings, packages of npm."""

import ast
import hashlib
import json
import re
import tarfile

import cells
import links
import listing
import nbformat
import pytest
import reference
import vendored
from course import Course
from paths import ROOT
from symbols import glossary_symbols, marked

import refimpl

GLOSSARY = (ROOT / "notebooks" / "GLOSSARY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "text", "wanted"),
    [
        ("notebooks/01.ipynb", "[glossary](GLOSSARY.md#sizes)", "[glossary](GLOSSARY.md#sizes)"),
        ("gpu/README.md", "[results](results/README.md)", "[results](results/README.md)"),
        ("notebooks/x.md", "[x](03_rotation.ipynb#Who-bites-whom?)", "[x](03_rotation.ipynb#who-bites-whom)"),
        ("gpu/README.md", "[`x`](kernels/triton_step.py)", "[`x`](kernels/triton_step.py.md)"),
        ("gpu/README.md", "[ladder](kernel_ladder)", "[ladder](kernel_ladder/README.md)"),
        ("gpu/README.md", "[studies](studies)", "[studies](studies/index.md)"),
        ("refimpl/README.md", "[file](results/cpu.json)", "[file](results/cpu.json)"),
        ("CONTRIBUTING.md", "[front](README.md)", "[front](index.md)"),
        ("notebooks/GLOSSARY.md", "[1]: 01_memory_as_a_recurrence.ipynb", "[1]: 01_memory_as_a_recurrence.ipynb"),
        ("gpu/README.md", "[out](https://arxiv.org/x.py) [here](#top)", "[out](https://arxiv.org/x.py) [here](#top)"),
        ("gpu/README.md", "`a[0](studies)`\n```\nx[0](nowhere.py)\n```", "`a[0](studies)`\n```\nx[0](nowhere.py)\n```"),
    ],
)
def test_a_link_leads_where_the_site_has_the_file(page, text, wanted):
    shown = set()
    assert links.rewritten(text, page, shown) == wanted
    assert shown <= {"gpu/kernels/triton_step.py", "gpu/studies"}


@pytest.mark.parametrize("target", ["nowhere.md", "../../x.py", "../exercises/answers/ex01.py"])
def test_a_link_to_nowhere_or_to_a_solution_is_refused(target):
    with pytest.raises(FileNotFoundError, match=re.escape(f"notebooks/page.md links to {target}")):
        links.rewritten(f"[x]({target})", "notebooks/page.md", set())


def test_symbols_are_those_of_the_glossary_and_found_in_formulas():
    symbols = glossary_symbols(GLOSSARY)
    words = dict(symbols)
    assert words[r"\gamma"].startswith("decay: the share of the state that a token leaves")
    assert words["S_n"].endswith("(B, H, K, V)")
    number = {symbol: n for n, (symbol, _) in enumerate(symbols)}

    def found(formula):
        return [symbols[int(n)][0] for n in re.findall(r"htmlData\{s=(\d+)\}", marked(formula, symbols))]

    assert found(r"S_n = \gamma\, S_{n-1} + k_n^\top v_n") == ["S_n", r"\gamma", "S_n", "k_n", "v_n"]
    assert found(r"\gammax \text{and } dx + \mathbf{Q}\mathbf{K}^\top \odot D") == [
        r"\mathbf{Q}",
        r"\mathbf{K}",
        r"\odot",
        "D",
    ]
    assert marked(r"\frac{T}{2}", symbols) == rf"\frac{{\htmlData{{s={number['T']}}}{{T}}}}{{2}}"


def test_a_notebook_moves_without_a_kernel(tmp_path):
    pictures, shown = cells.Pictures(tmp_path), set()
    page = "notebooks/01_memory_as_a_recurrence.ipynb"
    staged = nbformat.reads(cells.notebook(page, shown, pictures, lead="the lead", more="the end"), as_version=4)
    text = json.dumps(staged)
    assert "widget" not in json.dumps([cell.get("outputs") for cell in staged.cells])
    assert "base64" not in text
    assert "widgets" not in staged.metadata
    html = "".join(o["data"].get("text/html", "") for c in staged.cells for o in c.get("outputs", ()) if "data" in o)
    assert html.count("picture-here") == 1
    assert html.count(cells.ASLEEP) == 1  # the sliders of ipywidgets
    files = set(re.findall(r'src="\.\./_static/([^"]+)"', html))
    for module, state in re.findall(r'data-module="(\w+)" data-state="([\w-]+)"', html):
        files |= {f"explorables/{module}.js", f"explorables/{state}.js"}
    assert files
    assert all((tmp_path / name).is_file() for name in files)
    assert staged.cells[-1].source == "the end"
    original = nbformat.read(ROOT / page, as_version=4)
    assert staged.cells.pop(1).source == "the lead"
    for before, after in zip(original.cells, staged.cells[:-1], strict=True):
        folds = before.metadata.get("jupyter", {})
        assert ("hide-input" in after.metadata.get("tags", ())) == folds.get("source_hidden", False)
        assert ("hide-output" in after.metadata.get("tags", ())) == folds.get("outputs_hidden", False)


def test_a_docstring_keeps_its_examples_tables_and_arguments():
    doc = """O = (Q K^T * D) V, x_n**2 (Eq. 5). See `decay_mask`.

        q    (B, H)   a table

    Args:
        gamma: (H,) of float32
            or float64.

    >>> 1 + 1
    2
    """
    doc = ast.get_docstring(ast.parse(f'"""{doc}"""'))
    known = {entry.name: entry for found in reference.entries().values() for entry in found}
    text = reference.markdown(doc, "api/x.md", known)
    assert r"O = (Q K^T \* D) V, x\_n\*\*2 ([Eq. 5](../equations.md#eq-5))" in text
    assert "{py:obj}`~refimpl.decay.decay_mask`" in text
    assert "```text\nq    (B, H)   a table\n```" in text
    assert "- `gamma`: (H,) of float32 or float64." in text
    assert "```pycon\n>>> 1 + 1\n2\n```" in text


def test_a_program_is_shown_with_a_number_for_each_line():
    text = listing.program("refimpl/tree.py", "https://github.com/o/n")
    lines = (ROOT / "refimpl" / "tree.py").read_text(encoding="utf-8").count("\n")
    assert re.findall(r'name="line-(\d+)"', text) == [str(number) for number in range(1, lines + 1)]
    assert "(https://github.com/o/n/blob/main/refimpl/tree.py)" in text
    assert "github" not in listing.program("refimpl/tree.py")


def test_every_function_lesson_and_equation_has_its_links_both_ways():
    course = Course()
    step = course.known["retention_step"]
    assert step.equations == [6]
    assert "notebooks/01_memory_as_a_recurrence.ipynb" in {lesson.page for lesson in step.lessons}
    assert all((ROOT / path).is_file() for entry in course.entries for path in entry.tests)
    assert [name for name in refimpl.__all__ if not course.known[name].tests] == []
    for number in range(1, 9):
        assert "Lessons" in course.of_equation(number, "equations.md")
    for each in [*course.lessons[1:], *course.exercises]:
        assert course.partners(each), each.page
        for partner in course.partners(each):
            assert each in course.partners(partner)


def test_what_npm_brings_is_what_is_meant(tmp_path, monkeypatch):
    source = tmp_path / "source" / "package" / "dist"
    source.mkdir(parents=True)
    (source / "katex.js").write_text("text")
    (source / "other.js").write_text("text")

    def pack(package, folder):
        with tarfile.open(folder / "katex.tgz", "w:gz") as file:
            file.add(source.parent, "package")
        return folder / "katex.tgz"

    monkeypatch.setattr(vendored, "_pack", pack)
    with pytest.raises(vendored.NotFetchedError, match=r"must have the checksum sha512-.*got sha512-"):
        vendored.vendored("katex", tmp_path / "vendor")
    assert not (tmp_path / "vendor" / "katex-1").exists()

    real = hashlib.sha512
    monkeypatch.setattr(vendored.hashlib, "sha512", lambda _: real(b""))
    empty = "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
    monkeypatch.setitem(vendored.PACKAGES, "katex", ("1", empty, ("dist/katex.js",)))
    folder = vendored.vendored("katex", tmp_path / "vendor")
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["katex.js"]
    assert [path.name for path in folder.parent.iterdir()] == ["katex-1"]
