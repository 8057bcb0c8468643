"""Lessons in a real browser: JupyterLab in headless Chromium runs all cells, and the widget answers keyboard and mouse.

nbval runs the cells but moves nothing. Here lessons run in the JupyterLab that readers see, on a copy
without stored outputs. Without Playwright or Chromium these tests are skipped and say so; the
variable CHROMIUM names a browser that is not in PATH, and BROWSER_SCREENSHOTS a folder that keeps
the pictures of the lessons.
"""

import json
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import psutil
import pytest
from paths import ROOT

playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
expect = playwright.expect

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
if CHROMIUM is None:
    pytest.skip(f"no browser: none of {', '.join(BROWSERS)} in PATH, no CHROMIUM", allow_module_level=True)
FLAGS = (
    "--no-sandbox",  # Chromium refuses to start as root with its own sandbox
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, not only those in sight
}
# A lesson, and the label of the slider in its widget that is moved.
LESSONS = {
    "01_memory_as_a_recurrence": "token n",
    "04_the_parallel_form": "token n",
    "06_chunkwise": "chunk size C",
}
SECONDS = 1000  # Playwright counts in milliseconds


def copy_without_outputs(folder):
    """Copy the course, outputs and widget states removed: what is seen then was made by the run, and nothing here changes."""
    for room in ("notebooks", "exercises", "refimpl", "gpu"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for path in folder.glob("notebooks/*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.pop("widgets", None)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, path)


@contextmanager
def jupyter_lab(folder):
    """JupyterLab on `folder` as a subprocess, with settings of its own; gives its address and ends it and its kernels."""
    home = folder / ".jupyter"
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    places = {f"JUPYTER_{name}": str(home / name.lower()) for name in names} | {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(folder),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}"]
    with (home / "log").open("w") as log:
        server = psutil.Popen(command, cwd=folder, env=os.environ | places, stdout=log, stderr=log)
        try:
            yield address(server, home)
        finally:
            family = [server]
            with suppress(psutil.NoSuchProcess):
                family += server.children(recursive=True)  # the kernels
                server.terminate()
            _, left = psutil.wait_procs(family, timeout=20)
            for process in left:
                process.kill()
            psutil.wait_procs(left)
    assert not left, f"JupyterLab left {left} running"


def address(server, home):
    """Wait until the server has written its address, at a port that was free."""
    for _ in range(300):
        for path in home.glob("runtime_dir/jpserver-*.json"):
            with suppress(json.JSONDecodeError):  # it is being written
                info = json.loads(path.read_text())
                return f"{info['url']}lab/tree/{{}}?reset&token={info['token']}"
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{(home / 'log').read_text()}")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    copy_without_outputs(folder)
    with jupyter_lab(folder) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    """One window for all lessons, so that JupyterLab is loaded from its cache after the first."""
    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as chromium,
        chromium.new_context(viewport={"width": 1280, "height": 900}) as window,
    ):
        yield window


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_default_timeout(30 * SECONDS)
    yield page
    page.close()


def run_all(page, url):
    """Open the notebook at `url` and run it through the menu, when its kernel is ready, until nothing runs."""
    page.goto(url)
    idle = page.get_by_text(re.compile(r"^Python 3.*\| Idle$"))
    expect(idle).to_be_visible(timeout=60 * SECONDS)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts.first).not_to_have_text("[ ]:", timeout=30 * SECONDS)
    expect(prompts.filter(has_text="*")).to_have_count(0, timeout=60 * SECONDS)
    errors = page.locator("[data-mime-type='application/vnd.jupyter.stderr']")  # tracebacks too
    assert errors.all_inner_texts() == []
    numbers = enumerate(prompts.all_inner_texts(), 1)
    assert all(text in ("", f"[{n}]:") for n, text in numbers)  # a folded cell shows no number
    expect(idle).to_be_visible(timeout=30 * SECONDS)


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
