"""JupyterLab in headless Chromium: a lesson runs and its widget answers keyboard and mouse; every explorable is drawn and moved.

nbval runs the cells but moves nothing. Here a lesson runs in the JupyterLab that readers see, on a copy
without stored outputs. Without Playwright or Chromium these tests are skipped and say so; the
variable CHROMIUM names a browser that is not in PATH, and BROWSER_SCREENSHOTS a folder that keeps
the pictures of the lessons.
"""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from explorables import EXPLORABLES
from explorables.browser import SECONDS, chromium, jupyter_lab, keys_move, launched, notebook_of, run_all
from paths import ROOT
from test_explorables_browser import THEMES, keep, violations

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
expect = playwright.expect
if chromium() is None:
    pytest.skip("no browser: no Chromium in PATH, no CHROMIUM", allow_module_level=True)

# A lesson, and the label of the slider in its widget that is moved.
LESSONS = {
    "01_memory_as_a_recurrence": "token n",
}


def copy_without_outputs(folder):
    """Copy the rooms of lessons, outputs and widget states removed: what is seen was made by the run, and nothing here changes."""
    for room in ("notebooks", "refimpl"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for lesson in LESSONS:
        path = folder / "notebooks" / f"{lesson}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    copy_without_outputs(folder)
    notebook_of(EXPLORABLES, folder / "notebooks" / "pictures.ipynb")
    with jupyter_lab(folder) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    """One window for all notebooks, so that JupyterLab is loaded from its cache after the first."""
    with launched() as chromium, chromium.new_context(viewport={"width": 1280, "height": 900}) as window:
        yield window


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_default_timeout(30 * SECONDS)
    yield page
    page.close()


def pixels(image):
    """The bytes of the picture that an <img> shows."""
    return bytes(image.evaluate("async image => [...new Uint8Array(await (await fetch(image.src)).arrayBuffer())]"))


@contextmanager
def redrawn(image, words):
    """What happens inside changes the picture, and the sentence that describes it."""
    source, said, shown = image.get_attribute("src"), words.inner_text(), pixels(image)
    yield
    expect(words).not_to_have_text(said, timeout=10 * SECONDS)
    expect(image).not_to_have_attribute("src", source, timeout=10 * SECONDS)
    assert pixels(image) != shown
    assert words.inner_text().strip()


@pytest.mark.parametrize(("lesson", "label"), LESSONS.items(), ids=[name[:2] for name in LESSONS])
def test_a_widget_answers_keyboard_and_mouse(page, lab, tmp_path, lesson, label):
    run_all(page, lab.format(f"notebooks/{lesson}.ipynb"))
    widget = page.locator(".jp-OutputArea-output .widget-vbox").first
    labels = widget.locator(".widget-slider .widget-label").all_inner_texts()
    assert len(labels) == widget.locator(".noUi-handle").count()
    assert all(text.strip() for text in labels)

    slider = widget.locator(".widget-slider", has=page.get_by_text(label, exact=True))
    handle, readout = slider.get_by_role("slider"), slider.locator(".widget-readout")
    image, words = widget.locator("img"), widget.get_by_role("status")
    widget.scroll_into_view_if_needed()

    number = readout.inner_text()
    last = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
    with redrawn(image, words):
        handle.focus()
        page.keyboard.press("ArrowLeft" if last else "ArrowRight")
    assert int(readout.inner_text()) == int(number) + (-1 if last else 1)

    track = slider.locator(".noUi-base").bounding_box()
    middle = track["y"] + track["height"] / 2
    with redrawn(image, words):  # click on the track
        page.mouse.click(track["x"] + 0.3 * track["width"], middle)
    with redrawn(image, words):  # drag the handle to the other end
        handle.hover()
        page.mouse.down()
        page.mouse.move(track["x"] + 0.8 * track["width"], middle)
        page.mouse.up()

    folder = Path(os.environ.get("BROWSER_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{lesson}.png")


def test_explorables_are_drawn_and_moved_in_both_themes(page, lab):
    run_all(page, lab.format("notebooks/pictures.ipynb"))
    pictures = [page.locator(".explorable").nth(number) for number in range(len(EXPLORABLES))]
    for theme in THEMES:
        if theme == "dark":
            page.get_by_role("menuitem", name="Settings", exact=True).click()
            page.locator(".lm-Menu-item").get_by_text("Theme", exact=True).hover()
            page.get_by_role("menuitem", name="JupyterLab Dark", exact=True).click()
        for cls, picture in zip(EXPLORABLES, pictures, strict=True):
            picture.scroll_into_view_if_needed()
            expect(picture).to_have_attribute("data-theme", theme, timeout=30 * SECONDS)
            assert picture.evaluate("each => each.scrollWidth - each.clientWidth") <= 0, cls.module
            keep(picture, f"{cls.module}-lab-{theme}")
        assert violations(page, theme) == []
    for picture in pictures:
        keys_move(page, picture)
