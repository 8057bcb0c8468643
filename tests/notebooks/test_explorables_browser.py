"""The pictures in a real browser: one page from a disk, offline, in both themes. In JupyterLab: test_browser.py.

Without Playwright or Chromium these tests are skipped and say so. BROWSER_SCREENSHOTS names a folder that keeps pictures
of all of them.
"""

import os
from pathlib import Path

import pytest
import walk
from explorables import EXPLORABLES
from explorables.browser import chromium, keys_move, launched
from explorables.page import page as page_of

pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install axe-playwright-python")
if chromium() is None:
    pytest.skip("no browser: no Chromium in PATH, no CHROMIUM", allow_module_level=True)

THEMES = ("light", "dark")
every = pytest.mark.parametrize("cls", EXPLORABLES, ids=lambda cls: cls.module)


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "explorables.html"
    path.write_text(page_of(EXPLORABLES), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def offline(browser, address):
    """{theme: the page, opened from the disk without a network}; nothing was asked for, and nothing went wrong."""
    pages, asked, wrong = {}, [], []
    for theme in THEMES:
        window = browser.new_context(
            viewport={"width": 1366, "height": 768}, color_scheme=theme, offline=True, reduced_motion="reduce"
        )
        page = pages[theme] = window.new_page()
        page.on(
            "request",
            lambda request: request.url in (address,) or request.url.startswith("data:") or asked.append(request.url),
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
    yield pages
    assert asked == []
    assert wrong == []


def picture_of(page, cls):
    picture = page.locator(f"#{cls.module}-here .explorable")
    picture.scroll_into_view_if_needed()
    return picture


def violations(page, theme):
    """What axe-core finds in the pictures that is serious or worse; the second theme changes nothing but colours."""
    return walk.violations(page, axe.Axe(), contrast_alone=theme != THEMES[0], part=".explorable")


def keep(part, name):
    if folder := os.environ.get("BROWSER_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        part.screenshot(path=Path(folder) / f"{name}.png")


@pytest.mark.parametrize("theme", THEMES)
def test_nobody_is_shut_out(offline, theme):
    """Every control has a name and its value in words, and axe-core finds nothing serious; the theme is followed."""
    page = offline[theme]
    for cls in EXPLORABLES:
        picture = picture_of(page, cls)
        assert picture.get_attribute("data-theme") == theme, cls.module
        for slider in picture.locator("input[type=range]").all():
            assert slider.evaluate("slider => slider.labels[0].textContent").strip(), cls.module
            assert slider.get_attribute("aria-valuetext").strip(), cls.module
        keep(picture, f"{cls.module}-page-{theme}")
    assert violations(page, theme) == []


# The texts of a picture that reach beyond its edges, by more than a pixel.
CUT_OFF = """(root) => {
  const frame = root.querySelector("svg").getBoundingClientRect();
  return [...root.querySelectorAll("svg text")].filter((text) => {
    const { left, right } = text.getBoundingClientRect();
    return left < frame.left - 1 || right > frame.right + 1;
  }).map((text) => text.textContent);
}"""


@pytest.mark.parametrize("width", [320, 375, 768])
def test_it_fits(browser, address, width):
    with browser.new_context(viewport={"width": width, "height": 800}, offline=True) as window:
        page = window.new_page()
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        for cls in EXPLORABLES:
            picture = picture_of(page, cls)
            inner = picture.evaluate("each => each.scrollWidth - each.clientWidth")
            assert inner <= 0, cls.module
            assert picture.evaluate(CUT_OFF) == [], cls.module
            keep(picture, f"{cls.module}-page-{width}")


@every
def test_keys_move_it_and_reset_brings_it_back(offline, cls):
    picture = picture_of(offline["light"], cls)
    said = picture.get_by_role("status")
    first_words, first = said.inner_text(), picture.locator("svg").inner_html()
    keys_move(offline["light"], picture)
    picture.get_by_role("button", name="Reset").click()
    offline["light"].evaluate("() => new Promise(requestAnimationFrame)")
    assert said.inner_text() == first_words
    assert picture.locator("svg").inner_html() == first


@every
def test_every_move_of_a_drag_is_drawn(offline, cls):
    """Twenty moves give twenty pictures, a frame apart, at the first slider that has as many values."""
    picture = picture_of(offline["light"], cls)
    drawn = picture.evaluate("""async (root) => {
      const slider = [...root.querySelectorAll("input[type=range]")].find((s) => (s.max - s.min) / s.step >= 5);
      if (!slider) return null;
      let pictures = 0, last = root.querySelector("svg").innerHTML;
      const low = Number(slider.min), step = Number(slider.step), values = Math.min((slider.max - low) / step, 20);
      slider.value = slider.max;
      slider.dispatchEvent(new Event("input"));
      await new Promise(requestAnimationFrame);
      for (let n = 0; n < values; n++) {
        slider.value = low + n * step;
        slider.dispatchEvent(new Event("input"));
        await new Promise(requestAnimationFrame);
        await new Promise((done) => setTimeout(done));
        const now = root.querySelector("svg").innerHTML + root.querySelector(".explorable-value").textContent;
        pictures += now !== last;
        last = now;
      }
      return [pictures, values];
    }""")
    if drawn is not None:
        assert drawn[0] == int(drawn[1])
    picture.get_by_role("button", name="Reset").click()
