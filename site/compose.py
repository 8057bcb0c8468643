"""The course as a website: stage copies of the repository's pages, then let Sphinx make HTML of them.

    python site/compose.py [OUT] [--lite [SOURCE]]     # OUT: build/site; with JupyterLite, see lite.py

Nothing is executed: notebooks are shown with their stored outputs. Warnings are errors.
"""

import argparse
import functools
import gc
import inspect
import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "notebooks"), str(Path(__file__).resolve().parent)]

import address
import listing
import lite
import reference
from cells import Pictures, notebook
from course import Course
from explorables import EXPLORABLES
from explorables.explorable import HERE as EXPLORABLES_FOLDER
from explorables.page import title_of
from links import ROOMS, rewritten
from sphinx.application import Sphinx
from symbols import glossary_symbols, plain
from vendored import NEEDED, NotFetchedError, vendored
from writer import writer

from refimpl import __version__
from refimpl.conformance.contract import CHECKS

OWN = Path(__file__).resolve().parent
NOT_PAGES = {"templates", "student"}  # folders whose Markdown is no page of its own


def read(path):
    """The text of a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def markdown_pages():
    """The Markdown files of the repository that are pages, as paths in it; the front page is the site's own."""
    found = [*ROOT.glob("*.md"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.md"))]
    paths = (path.relative_to(ROOT) for path in found)
    return sorted(path.as_posix() for path in paths if path != Path("README.md") and not {*path.parts} & NOT_PAGES)


def stage(folder, packages, in_browser=()):
    """Write everything that Sphinx reads into an empty folder; returns the folder of static files.

    packages: see `compose`. in_browser: the pages of the lessons that JupyterLite runs.
    """
    folder, shown, repository = Path(folder), set(), address.address()
    shutil.rmtree(folder, ignore_errors=True)
    pictures, course = Pictures(folder / "_static"), Course(repository, in_browser)

    def write(page, text):
        path = folder / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    for page in markdown_pages():
        write(page, rewritten(read(page), page, shown))
    for each in [*course.lessons, *course.beside, *course.exercises]:
        write(each.page, notebook(each.page, shown, pictures, course.lead(each), course.more(each)))
    for page, text in own_pages(course, pictures, packages):
        write(page, text)
    for module, found in course.modules.items():
        write(f"api/{module}.md", reference.module_page(module, found, course.known))
    shown |= {entry.path for entry in course.entries} | {path for entry in course.entries for path in entry.tests}
    for path in sorted(shown):
        if (ROOT / path).is_dir():
            text, more = listing.folder(path)
            write(f"{path}/index.md", text)
            shown |= set(more)
    for path in sorted(path for path in shown if (ROOT / path).is_file()):
        write(f"{path}.md", listing.program(path, repository))
    copy_data(folder)
    return folder / "_static"


def copy_data(folder):
    """Results and figures that pages link to or show, beside them as in the repository."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.suffix in (".json", ".png") and "student" not in path.parts:
                to = folder / path.relative_to(ROOT)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to)


def own_pages(course, pictures, packages):
    """(path, text) of the pages that are written for the site: templates in pages/, filled like the results page."""
    from gpu.report.page import FOLDER, SECTIONS, environment

    values = {section.__name__: section(FOLDER) for section in SECTIONS} | {
        "course": course,
        "groups": reference.GROUPS,
        "explorables": EXPLORABLES,
        "title_of": title_of,
        "formula": course.formula,
        "checks": [(check.__name__, inspect.getdoc(check).partition("\n")[0]) for check in CHECKS],
        "conformance": re.findall(r"```python\n(.*?)```", read("refimpl/README.md"), re.DOTALL)[-1],
        "grading": json.loads(read("exercises/results/class_of_300.json")),
        "writer": writer(packages["onnxruntime-web"], pictures.write),
    }
    for path in sorted((OWN / "pages").glob("*.md")):
        page = path.name
        here = {
            "equation": functools.partial(course.of_equation, page=page),
            "picture": functools.partial(moving_picture, page=page, pictures=pictures),
        }
        yield page, environment().from_string(path.read_text(encoding="utf-8")).render(values | here)


def moving_picture(name, page, pictures):
    """An explorable, by the name of its module, as raw HTML for a page of ours."""
    (cls,) = (cls for cls in EXPLORABLES if cls.module == name)
    data = pictures.stored.get(cls) or cls.course_data()  # to compute it can take seconds
    html = pictures.explorable(cls, {"values": {}, "data": data}, page)
    return f"```{{raw}} html\n{html}\n```"


def with_lite(work, source):
    """Build JupyterLite in the folder `work`; returns the pages that it runs. Where it can't be had it says why: none."""
    shutil.rmtree(work, ignore_errors=True)
    try:
        lite.build(work / "site", work / "in", __version__, source)
    except NotFetchedError as error:
        print(f"The site is built without JupyterLite: {error}", flush=True)
        return ()
    return lite.lessons()


def compose(out, packages, source=None):
    """Build the site into the folder `out`, which is replaced; returns Sphinx's exit code.

    packages: {name: folder} of the packages of npm that every site needs, see `vendored`. source: where JupyterLite's packages
    are, "" for where Pyodide publishes them, None for a site without it.
    """
    out = Path(out).resolve()
    work = out.with_name(f"{out.name}-work")
    in_browser = () if source is None else with_lite(work / "lite", source)
    static, katex = stage(work / "pages", packages, in_browser), packages["katex"]
    shutil.copytree(OWN / "static", static, dirs_exist_ok=True)
    shutil.copyfile(EXPLORABLES_FOLDER / "shared.css", static / "explorables.css")
    shutil.copytree(katex / "dist", static / "katex", ignore=shutil.ignore_patterns("*.js"))
    symbols = glossary_symbols(read("notebooks/GLOSSARY.md"))
    lines = [f"{plain(symbol)}: {words}" for symbol, words in symbols]
    (static / "symbols.js").write_text(f"const SYMBOLS = {json.dumps(lines)};\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    more = {"katex": str(katex), "symbols": symbols, "html_static_path": [str(static)], "version": __version__}
    app = Sphinx(
        work / "pages", OWN, out, work / "doctrees", "html", freshenv=True, warningiserror=True, confoverrides=more
    )
    app.build()
    if in_browser:
        shutil.move(work / "lite" / "site", out / "lite")
    return app.statuscode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", default=ROOT / "build" / "site", type=Path)
    parser.add_argument("--lite", nargs="?", const="", metavar="SOURCE", help="with JupyterLite: see lite.py")
    given = parser.parse_args()
    gc.set_threshold(100_000, 50)  # Sphinx keeps every page to the end: the collector would go through them in vain
    try:
        packages = {name: vendored(name, ROOT / "build" / "vendor") for name in NEEDED}
    except NotFetchedError as error:
        sys.exit(f"error: {error}")
    sys.exit(compose(given.out, packages, given.lite))
