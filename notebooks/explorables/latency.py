"""How long a picture takes from a key press to the paint that shows it, on a page and in JupyterLab, on a busy machine."""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .browser import jupyter_lab, launched, notebook_of, run_all
from .page import page as page_of

# From the event's own time to the first task after the frame that it caused, which begins when that frame is painted.
LISTEN = """() => {
  window.waited = [];
  window.addEventListener("keydown", (event) => requestAnimationFrame(() => {
    const after = new MessageChannel();
    after.port1.onmessage = () => window.waited.push(performance.now() - event.timeStamp);
    after.port2.postMessage(0);
  }), true);
}"""
BUSY = "while True: pass"
PACE = 37  # milliseconds between presses: a held key repeats about 30 times a second; no multiple of a frame's 16.7


@contextmanager
def busy(processes):
    """So many processes that do nothing but compute, meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(explorables, presses=40, load=None, places=("page", "lab")):
    """A dict of what was measured: rows with module, place, control and milliseconds: median, p95, largest.

    presses: keys pressed on each slider. load: processes that compute meanwhile, by default one a core.
    """
    load = os.cpu_count() if load is None else load
    others, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        folder = Path(folder)
        version = browser.version
        if "page" in places:
            (folder / "page.html").write_text(page_of(explorables), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1366, "height": 768})
            page.goto((folder / "page.html").as_uri())
            with busy(load):
                rows += _rows(page, explorables, "page", presses)
        if "lab" in places:
            notebook_of(explorables, folder / "pictures.ipynb")
            root = Path(__file__).resolve().parents[2]
            with jupyter_lab(folder, paths=(root / "notebooks", root)) as url:
                page = browser.new_page(viewport={"width": 1366, "height": 768})
                run_all(page, url.format("pictures.ipynb"))
                page.locator(".explorable").nth(len(explorables) - 1).wait_for()
                with busy(load):
                    rows += _rows(page, explorables, "lab", presses)
    return {
        "what": "milliseconds from a key press to the paint after it, for each slider of each picture",
        "load": f"{load} busy processes on {os.cpu_count()} cores, beside {others:.1f} of others (load average of a minute)",
        "viewport": [1366, 768],
        "versions": {"chromium": version, "python": platform.python_version()},
        "presses": presses,
        "milliseconds between presses": PACE,
        "rows": rows,
    }


def _rows(page, explorables, place, presses):
    page.evaluate(LISTEN)
    for number, cls in enumerate(explorables):
        picture = page.locator(".explorable").nth(number)
        picture.scroll_into_view_if_needed()
        for slider in picture.locator("input[type=range]").all():
            slider.focus()
            page.evaluate("() => { window.waited = [] }")
            values = set()
            for press in range(presses):
                page.keyboard.press("ArrowRight" if press % 8 < 4 else "ArrowLeft")
                page.wait_for_timeout(PACE)
                values.add(slider.input_value())
            page.wait_for_function("presses => window.waited.length >= presses", arg=presses)
            waited = sorted(page.evaluate("() => window.waited"))
            name = slider.evaluate("slider => slider.labels[0].textContent")
            if len(values) < 2:
                raise RuntimeError(f"{cls.module}, {place}: the keys did not move the slider {name!r}")
            yield {
                "module": cls.module,
                "place": place,
                "control": name,
                "median": round(statistics.median(waited), 1),
                "p95": round(waited[min(int(0.95 * len(waited)), len(waited) - 1)], 1),
                "largest": round(waited[-1], 1),
            }


def table(results):
    """A line for each picture and place: the slowest of its sliders."""
    lines = [
        f"{'picture':12} {'place':6} {'median':>8} {'95 %':>8} {'largest':>8}   ms, the slowest slider of each; {results['load']}"
    ]
    for key in dict.fromkeys((row["module"], row["place"]) for row in results["rows"]):
        rows = [row for row in results["rows"] if (row["module"], row["place"]) == key]
        worst = [max(row[name] for row in rows) for name in ("median", "p95", "largest")]
        lines.append(f"{key[0]:12} {key[1]:6} " + " ".join(f"{x:8.1f}" for x in worst))
    return "\n".join(lines)
