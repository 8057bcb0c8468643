"""The site builds without a warning, its links lead somewhere, it gives no solution away, and its pages work in a browser.

`python site/walk.py` looks at all pages in a browser; here it is one of each kind.
"""

import ast
import re
import subprocess
import sys

import pytest
import vendored
import walk
from explorables.browser import chromium, launched
from paths import ROOT

GAMMA = "\N{GREEK SMALL LETTER GAMMA}"
PAGES = (
    "index.html",
    "notebooks/05_the_decay_mask.html",
    "exercises/ex03_rotation.html",
    "api/refimpl.retention.html",
    "equations.html",
    "refimpl/retention.py.html",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    try:
        vendored.vendored("katex", ROOT / "build" / "vendor")
    except vendored.NotFetchedError as error:
        pytest.skip(f"no KaTeX: {error}")
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, ROOT / "site" / "compose.py", out]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    return out


@pytest.fixture(scope="module")
def texts(site):
    return {page: (site / page).read_text(encoding="utf-8") for page in walk.pages(site)}


def test_every_link_leads_somewhere_and_nothing_is_fetched_from_elsewhere(site):
    assert walk.faults_of_links(site) == []


def test_a_fault_of_a_link_is_found(tmp_path):
    (tmp_path / "b.html").write_text('<p id="here">')
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">1</a><a href="b.html#there">2</a><img src="c.png"><script src="https://x.org/y.js"></script>'
    )
    faults = walk.faults_of_links(tmp_path)
    assert [re.search(r"(no such \w+|another host)$", fault)[0] for fault in faults] == [
        "no such anchor",
        "no such file",
        "another host",
    ]


def test_every_lesson_exercise_and_room_is_there(texts):
    for path in [
        *ROOT.glob("notebooks/[0-9]*.ipynb"),
        *ROOT.glob("exercises/ex*.ipynb"),
        *ROOT.glob("gpu/*/README.md"),
    ]:
        assert path.relative_to(ROOT).with_suffix(".html").as_posix() in texts
    assert {"genindex.html", "search.html", "notebooks/GLOSSARY.html", "equations.html"} <= set(texts)


def test_formulas_are_typeset_and_say_what_they_are(texts):
    text = texts["notebooks/06_chunkwise.html"]
    assert 'class="katex-display"' in text
    assert "katex-error" not in "".join(texts.values())
    assert re.search(r'data-s="\d+"', text)
    assert "htmlData" not in text


def test_lessons_functions_and_equations_link_one_another(texts):
    assert "equations.html#eq-6" in texts["api/refimpl.retention.html"]
    assert "notebooks/01_memory_as_a_recurrence.html" in texts["api/refimpl.retention.html"]
    assert "tests/refimpl/" in texts["api/refimpl.retention.html"]
    assert (
        "api/refimpl.retention.html#refimpl.retention.retention_step"
        in texts["notebooks/01_memory_as_a_recurrence.html"]
    )
    assert "api/refimpl.retention.html#refimpl.retention.retention_chunkwise" in texts["equations.html"]


def test_no_solution_is_shown(texts):
    """Neither a page of the answers, nor the body of a solution on the page of its exercise."""
    assert [page for page in texts if re.match(r"exercises/answers/(?!README|WRITING)", page)] == []
    for path in sorted(ROOT.glob("exercises/answers/ex*.py")):
        (page,) = (text for name, text in texts.items() if re.match(rf"exercises/{path.stem}_\w+\.html", name))
        shown = "".join(re.sub(r"<[^>]+>", "", page).split())
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in tree.body if isinstance(node, ast.FunctionDef) and len(node.body) > 2):
            body = "".join("".join(ast.unparse(statement).split()) for statement in function.body[1:])
            assert body not in shown, f"{path.name}: {function.name}"


in_browser = pytest.mark.skipif(chromium() is None, reason="no browser: no Chromium in PATH, no CHROMIUM")


@in_browser
def test_a_page_of_each_kind_works_in_a_browser(site):
    pytest.importorskip("axe_playwright_python", reason="no axe: pip install axe-playwright-python")
    assert walk.walk(site, PAGES, tell=lambda *_, **__: None) == {}


@in_browser
def test_a_symbol_shows_its_line_and_pictures_follow_the_theme(site):
    pytest.importorskip("playwright", reason="no Playwright: pip install playwright")
    with walk.served(site) as address, launched() as browser, browser.new_context(color_scheme="light") as window:
        page = window.new_page()
        page.goto(address + "five_minutes.html")
        page.locator(".math [data-s]", has_text=GAMMA).last.hover()
        assert page.locator("#symbol-line").inner_text().startswith(f"{GAMMA}: decay")
        page.keyboard.press("Escape")
        assert page.locator("#symbol-line").is_hidden()
        page.locator(".explorable").first.wait_for()
        themes = []
        for _ in range(3):  # automatic, light and dark, in an order of the theme's
            page.get_by_role("button", name="Toggle Light / Dark / Auto color theme").first.click()
            page.wait_for_timeout(100)
            chosen = page.evaluate("document.body.dataset.theme")
            themes.append((chosen, page.locator(".explorable").first.get_attribute("data-theme")))
        assert sorted(themes) == [("auto", "light"), ("dark", "dark"), ("light", "light")]
