"""The browser and the JupyterLab that pictures are tried in: headless Chromium by Playwright, a Lab with its own settings."""

import json
import os
import re
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
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
    "apputils-extension/themes": {"adaptive-theme": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, not only those in sight
}
SECONDS = 1000  # Playwright counts in milliseconds


def chromium():
    """The path of a browser: that of the variable CHROMIUM, or one in PATH; None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def launched():
    """A headless browser; its windows are its contexts."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    if path is None:
        raise FileNotFoundError(f"there is no browser: none of {', '.join(BROWSERS)} in PATH, no CHROMIUM")
    with sync_playwright() as driver, driver.chromium.launch(executable_path=path, args=FLAGS) as browser:
        yield browser


@contextmanager
def jupyter_lab(folder, paths=()):
    """JupyterLab on `folder` as a subprocess, with settings of its own; gives its address and ends it and its kernels.

    paths: folders that its kernels import from, before `folder`. The address has a place for the path of a notebook.
    """
    import psutil

    folder, home = Path(folder), Path(folder) / ".jupyter"
    for name, values in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
    names = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    places = {f"JUPYTER_{name}": str(home / name.lower()) for name in names} | {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": os.pathsep.join(map(str, (*paths, folder))),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}"]
    with (home / "log").open("w") as log:
        server = psutil.Popen(command, cwd=folder, env=os.environ | places, stdout=log, stderr=log)
        try:
            yield _address(server, home)
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


def _address(server, home):
    """Wait until the server has written its address, at a port that was free."""
    for _ in range(600):
        for path in home.glob("runtime_dir/jpserver-*.json"):
            with suppress(json.JSONDecodeError):  # it is being written
                info = json.loads(path.read_text())
                return f"{info['url']}lab/tree/{{}}?reset&token={info['token']}"
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{(home / 'log').read_text()}")


def run_all(page, url):
    """Open the notebook at `url` and run it through the menu, when its kernel is ready, until nothing runs."""
    from playwright.sync_api import expect

    page.goto(url)
    idle = page.get_by_text(re.compile(r"^Python 3.*\| Idle$"))
    expect(idle).to_be_visible(timeout=90 * SECONDS)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts.first).not_to_have_text("[ ]:", timeout=30 * SECONDS)
    expect(prompts.filter(has_text="*")).to_have_count(0, timeout=60 * SECONDS)
    errors = page.locator("[data-mime-type='application/vnd.jupyter.stderr']")  # tracebacks too
    assert errors.all_inner_texts() == []
    assert "[ ]:" not in prompts.all_text_contents()  # a folded cell shows no number
    expect(idle).to_be_visible(timeout=30 * SECONDS)


def keys_move(page, picture):
    """Arrow keys move each slider of a picture, and one of them at least what is drawn."""
    moved = 0
    for slider in picture.locator("input[type=range]").all():
        value, before = slider.input_value(), picture.locator("svg").inner_html()
        slider.focus()
        slider.press("ArrowLeft" if value == slider.get_attribute("max") else "ArrowRight")
        slider.press("Shift")  # a frame passes
        page.wait_for_function("([slider, value]) => slider.value !== value", arg=[slider.element_handle(), value])
        page.evaluate("() => new Promise(requestAnimationFrame)")
        moved += picture.locator("svg").inner_html() != before
    assert moved or picture.locator("select, input[type=text]").count()


def notebook_of(explorables, path):
    """Write a notebook with a cell for each of these classes."""
    import nbformat

    names = ", ".join(cls.__name__ for cls in explorables)
    cells = [f"from explorables import {names}", *(f"{cls.__name__}()" for cls in explorables)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(notebook, path)
