"""The site builds without a warning, its links lead somewhere, it gives no solution away, and its pages work in a browser.

`python site/walk.py` looks at all pages in a browser; here it is one of each kind.
"""

import ast
import contextlib
import io
import re
import subprocess
import sys

import numpy as np
import pytest
import vendored
import walk
from explorables.browser import chromium, launched
from paths import ROOT
from safetensors import safe_open
from safetensors.numpy import save_file

from refimpl import forward, head_decays
from refimpl.weights import load_pretrained

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
        for name in vendored.NEEDED:
            vendored.vendored(name, ROOT / "build" / "vendor")
    except vendored.NotFetchedError as error:
        pytest.skip(f"{error}")
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
    assert 'href="api/refimpl.decay.html"' in texts["CHANGELOG.html"]  # two levels down in the sidebar of every page


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


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright", reason="no Playwright: pip install playwright")
    with launched() as browser:
        yield browser


@in_browser
def test_a_page_of_each_kind_works_in_a_browser(site, browser):
    pytest.importorskip("axe_playwright_python", reason="no axe: pip install axe-playwright-python")
    assert walk.walk(browser, site, PAGES, tell=lambda *_, **__: None) == {}


BAD_PAGE = """<!DOCTYPE html><html lang="en"><head><title>Bad</title><meta name="color-scheme" content="light dark">
<style>body { background: white; color: black } @media (prefers-color-scheme: dark) { i { color: #eee } }
div { width: 400px }</style></head><body><main><h1>Bad</h1><article>
<p>What <i>one</i> says is $\\frac{1}{2}$.</p><p>So does <i>another</i>.</p><div>wide</div><img src="none.png" alt="none"><img src="big.svg">
</article></main></body></html>"""


@in_browser
def test_faults_of_a_page_are_found(tmp_path, browser):
    pytest.importorskip("axe_playwright_python", reason="no axe: pip install axe-playwright-python")
    (tmp_path / "bad.html").write_text(BAD_PAGE)
    (tmp_path / "big.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><!--{"x" * walk.FIRST_SCREEN}--></svg>')
    faults = walk.walk(browser, tmp_path, ["bad.html"], tell=lambda *_, **__: None)["bad.html"]
    wanted = (
        r"404: .*none\.png", "console: .*404", r"the first screen takes 1,\d+,\d+ bytes", r"a formula is left as text: .*\\frac",
        "axe image-alt: .*big.svg", "dark: axe color-contrast: .*<i .*one</i>", r"on a phone it is \d+ px too wide",
    )  # fmt: skip
    for pattern in wanted:
        assert [fault for fault in faults if re.match(pattern, fault)], f"{pattern} is not among {faults}"
    assert len(faults) == len(wanted)  # <i>another</i> has the look of the first, which stands for both


@in_browser
def test_the_first_screen_is_all_that_a_first_visit_brings(tmp_path, browser):
    (tmp_path / "page.html").write_text('<!DOCTYPE html><title>Page</title><p>Words</p><script src="a.js"></script>')
    (tmp_path / "a.js").write_text(f"const text = '{'x' * 300_000}'; document.body.append('More words');")
    with walk.served(tmp_path) as address:
        for _ in range(2):  # the second visit finds nothing kept from the first
            size, time = walk.first_screen(browser, address, "page.html")
            assert 300_000 < size < 302_000
            assert time > 240  # what 300 kB take at 10 Mbit/s


@in_browser
def test_a_symbol_shows_its_line_and_pictures_follow_the_theme(site, browser):
    with walk.served(site) as address, browser.new_context(color_scheme="light") as window:
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


# ---------------------------------------------------------------- the model that writes in the page

PROMPT = "And the LORD said unto Mosé"
ENOUGH = 20  # bytes of a continuation that are compared


def load_model(page):
    page.get_by_role("button", name="Load the model").click()
    page.get_by_label("Your prompt").wait_for(timeout=60_000)


def text_of(page):
    return "".join(page.locator("#writer-text span").all_text_contents())


def write(page, button, at_least):
    """Press a button, let the model write some bytes while they come one by one, and stop it; returns the text."""
    page.get_by_role("button", name=button, exact=True).click()
    lengths = "document.querySelectorAll('#writer-text span').length"
    seen = {page.wait_for_function(f"(n) => {lengths} > n && {lengths}", arg=n).json_value() for n in (0, 9, at_least)}
    assert len(seen) > 1  # it streams
    page.get_by_role("button", name="Stop").click()
    page.wait_for_function("document.getElementById('writer-stop').disabled")
    return text_of(page)


def saved(page, path):
    """Save the state; returns (logits, state, position) of the file."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the state").click()
    download.value.save_as(path)
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor("logits"), file.get_tensor("state"), int(file.metadata()["position"])


def bring_back(page, path, words):
    """Choose a file of a state, and wait until the page says these words of it."""
    page.get_by_label("Bring a state back").set_input_files(path)
    page.get_by_role("status").filter(has_text=words).wait_for()


def close(got, want):
    return np.abs(got - want).max() < 1e-3 * np.abs(want).max()


@in_browser
def test_the_model_writes_in_the_page_as_numpy_does_and_its_state_comes_back(site, tmp_path, monkeypatch, browser):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe: pip install axe-playwright-python"
    )
    params, config = load_pretrained()
    with walk.served(site) as address:
        desk = walk.Watched(browser, address, walk.DESK)
        page = desk.page
        page.on("request", lambda request: asked.append(request.url))
        asked = []
        desk.open("browser.html")
        assert [url for url in asked if "/writer/" in url] == []
        size = sum(path.stat().st_size for path in (site / "_static" / "writer").iterdir())
        assert page.get_by_role("button", name="Load the model").inner_text() == f"Load the model, {size / 1e6:.1f} MB"
        load_model(page)
        desk.window.set_offline(True)
        del asked[:]

        page.get_by_label("temperature").fill("0")
        page.get_by_label("Your prompt").fill(PROMPT)
        begun = write(page, "Read it and write", len(PROMPT) + 9)
        assert begun.startswith(PROMPT)
        logits, state, position = saved(page, tmp_path / "retnet-state.safetensors")
        tokens = np.frombuffer(begun.encode(), np.uint8).astype(np.int64)
        want, after = forward(params, tokens[None], config)
        assert position == len(tokens)
        assert close(logits, want[:, -1])
        assert close(state, np.stack(after.layers))
        surprise = (
            page.locator("#writer-text span").nth(9).evaluate("each => Number(each.style.getPropertyValue('--bits'))")
        )
        p = np.exp(want[0, 8] - want[0, 8].max())
        assert surprise == pytest.approx(-np.log2(p[tokens[9]] / p.sum()), abs=1e-2)

        windows = np.round(1 / (1 - head_decays(config.num_heads, config.gamma_schedule)))
        assert page.locator("#writer-text [data-heads]").count() == sum(windows <= position)
        page.emulate_media(color_scheme="dark")
        faults = walk.violations(page, axe.Axe(), contrast_alone=True)
        page.emulate_media(color_scheme="light")
        faults += walk.violations(page, axe.Axe())
        page.set_viewport_size(walk.PHONE)
        assert page.evaluate(walk.TOO_WIDE) <= 0

        page.get_by_label("temperature").fill("0.8")
        on = write(page, "Write on", len(begun) + ENOUGH)[len(begun) :]
        assert not close(saved(page, tmp_path / "later")[1], state)
        bring_back(page, tmp_path / "retnet-state.safetensors", f"after {position} bytes is back")
        again = write(page, "Write on", ENOUGH)
        assert again[:ENOUGH] == on[:ENOUGH]

        other = {"position": "9", "weights": "of another model"}
        save_file({"logits": logits, "state": state}, tmp_path / "other", other)
        (tmp_path / "text").write_text("no state")
        for name, words in (("text", "this one is not"), ("other", "of another model"), ("later", "is back")):
            bring_back(page, tmp_path / name, words)

        assert faults + desk.faults == []
        assert [url for url in asked if not url.startswith("blob:")] == []  # nothing is asked for once it is loaded

        page.get_by_label("temperature").fill("0")
        bring_back(page, tmp_path / "retnet-state.safetensors", "is back")
        greedy = write(page, "Write on", ENOUGH)
        desk.window.close()
    (program,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "site/pages/browser.md").read_text(encoding="utf-8"), re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as told:
        exec(program, {})
    assert told.getvalue()[:ENOUGH] == greedy[:ENOUGH]


@in_browser
def test_the_model_writes_on_a_page_from_a_disk(site, browser):
    with browser.new_context(offline=True) as window:
        page = window.new_page()
        page.goto((site / "browser.html").as_uri())
        load_model(page)
        assert len(write(page, "Read it and write", 30)) > 30
