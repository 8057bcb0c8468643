"""Walk over the built site as readers do: every link, and every page in a browser.

    python site/walk.py [FOLDER] [--only PART]     # FOLDER: build/site; PART of the path of a page

A page must load nothing from elsewhere, ask for nothing that is not there, report no error, typeset its formulas, let its
pictures be moved by keys, fit a phone of 375 px, be usable by all as far as axe-core can tell, in light and dark, and need
less than a megabyte for its first screen, in plain bytes: a server that compresses sends fewer. The first screen of a lesson
must also be there after 2 s, for a reader who comes for the first time, on a slow machine: at best of three visits, for this
machine may be busy.
"""

import argparse
import functools
import http.server
import posixpath
import re
import sys
import threading
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "notebooks")]

from explorables.browser import keys_move, launched

FIRST_SCREEN, PATIENCE, VISITS = 1_000_000, 2000, 3  # bytes; milliseconds, and how often a page may try to keep them
PHONE, DESK = {"width": 375, "height": 720}, {"width": 1280, "height": 800}
# A machine four times as slow, behind 10 Mbit/s with 40 ms: what Lighthouse takes for a desk.
SLOW = {"offline": False, "latency": 40, "downloadThroughput": 10e6 / 8, "uploadThroughput": 10e6 / 8}
# Formulas that were left as text, outside of code.
UNTYPESET = """() => [...document.querySelectorAll("article p, article li, article td, article summary")]
  .map((each) => { const copy = each.cloneNode(true);
    copy.querySelectorAll("code, pre, .math, script").forEach((part) => part.remove()); return copy.textContent; })
  .filter((text) => /\\$[^$]*[\\\\^_][^$]*\\$|\\\\(frac|gamma|mathbf|top|begin)/.test(text))"""
TOO_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
# One element with text of each look: contrast is the same in all others, of which a formula or a listing has thousands.
MARK_LOOKS = """(part) => {
  const inherited = new Map();  // what a text in an element stands on
  const ground = (element) => {
    if (!element) return "";
    if (!inherited.has(element)) {
      const { backgroundColor, backgroundImage, opacity, filter } = getComputedStyle(element);
      const own = [backgroundColor, backgroundImage, opacity, filter].join();
      inherited.set(element, ground(element.parentElement) + (own === "rgba(0, 0, 0, 0),none,1,none" ? "" : own + ";"));
    }
    return inherited.get(element);
  };
  const seen = new Set();
  for (const element of document.querySelectorAll(`${part} *`)) {
    if (![...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
    if (!element.checkVisibility({ visibilityProperty: true })) continue;
    const { color, fontSize, fontWeight, textShadow } = getComputedStyle(element);
    const look = [color, fontSize, fontWeight, textShadow, ground(element)].join();
    if (!seen.has(look)) element.setAttribute("data-look", seen.add(look).size);
  }
}"""
UNMARK = """() => document.querySelectorAll("[data-look]").forEach((element) => element.removeAttribute("data-look"))"""
LARGEST_PAINT = """() => new Promise((tell) => new PerformanceObserver((list) => tell(list.getEntries().at(-1).startTime))
  .observe({ type: "largest-contentful-paint", buffered: true }))"""


# ---------------------------------------------------------------- links, without a browser


def pages(folder):
    """The HTML pages of a built site, as paths in it; JupyterLite's own are not ours."""
    found = (path.relative_to(folder) for path in Path(folder).rglob("*.html"))
    return sorted(path.as_posix() for path in found if path.parts[0] != "lite")


def faults_of_links(folder):
    """Every link, picture and script that leads to no file, or to no anchor of one, as sentences."""
    folder = Path(folder)
    texts = {page: (folder / page).read_text(encoding="utf-8") for page in pages(folder)}
    anchors = {page: set(map(unescape, re.findall(r'\s(?:id|name)="([^"]+)"', text))) for page, text in texts.items()}
    faults = []
    for page, text in texts.items():
        for attribute, target in set(re.findall(r'<[a-z][^<>]*?\s(href|src)="([^"]*)"', text)):
            if fault := _fault(folder, page, attribute, unescape(target), anchors):
                faults.append(f"{page}: {attribute} {target}: {fault}")
    return sorted(faults)


def _fault(folder, page, attribute, target, anchors):
    """What is wrong with a target; None if nothing is."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        is_link = attribute == "href" and parts.scheme in ("https", "http")
        return None if is_link or parts.scheme == "data" else "a page of ours asks another host"
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(parts.path))) if parts.path else page
    if (folder / path).is_dir():
        path = posixpath.join(path, "index.html")
    if path.startswith("..") or not (folder / path).is_file():
        return "no such file"
    anchor = unquote(parts.fragment)
    return "no such anchor" if anchor and path in anchors and anchor not in anchors[path] else None


# ---------------------------------------------------------------- pages, in a browser


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server that tells nothing."""

    def log_message(self, *_):
        """Say nothing."""


@contextmanager
def served(folder):
    """The address of a folder, served on this machine."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Watched:
    """A window whose requests and errors are kept."""

    def __init__(self, browser, address, size):
        self.address, self.faults, self.bytes = address, [], 0
        self.window = browser.new_context(viewport=size, color_scheme="light", reduced_motion="reduce")
        self.page = self.window.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        self.page.on("response", self._came)

    def _said(self, message):
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text}")

    def _came(self, response):
        if not response.url.startswith((self.address, "data:", "blob:")):
            self.faults.append(f"another host is asked: {response.url}")
        elif response.status >= 400:
            self.faults.append(f"{response.status}: {response.url}")
        self.bytes += int(response.headers.get("content-length", 0))

    def open(self, path):
        """Open a page of the site until it is at rest."""
        self.faults, self.bytes = [], 0
        self.page.goto(self.address + path, wait_until="networkidle")


def violations(page, axe, contrast_alone=False, part="body"):
    """What axe-core finds in a part of a page that is serious or worse; of contrast one case of each look."""
    page.evaluate(MARK_LOOKS, part)
    wanted = {"resultTypes": ["violations"]}  # it would describe every node that is as it should be
    found = axe.run(page, "[data-look]", wanted | {"runOnly": ["color-contrast"]}).response["violations"]
    page.evaluate(UNMARK)
    if not contrast_alone:
        others = wanted | {"rules": {"color-contrast": {"enabled": False}}}
        found += axe.run(page, None if part == "body" else part, others).response["violations"]
    return [
        f"axe {each['id']}: {node['html'][:160]}"
        for each in found if each["impact"] in ("serious", "critical") for node in each["nodes"]
    ]  # fmt: skip


def faults_of_page(desk, phone, axe, path):
    """What is wrong with a page, as sentences. desk, phone: Watched windows."""
    page = desk.page
    page.emulate_media(color_scheme="light")
    desk.open(path)
    if desk.bytes >= FIRST_SCREEN:
        desk.faults.append(f"the first screen takes {desk.bytes:,} bytes, not fewer than {FIRST_SCREEN:,}")
    desk.faults += [f"a formula is left as text: {text[:100]}" for text in page.evaluate(UNTYPESET)]
    if page.locator(".katex").count() and not page.evaluate("() => document.fonts.check('16px KaTeX_Math')"):
        desk.faults.append("KaTeX's fonts are not there")
    if page.locator(".katex-error, .math:not(:has(.katex))").count():
        desk.faults.append("a formula is not typeset")
    for here in page.locator(".picture-here").all():
        here.scroll_into_view_if_needed()
        try:
            here.locator(".explorable").wait_for()  # it is loaded when it comes near
            keys_move(page, here.locator(".explorable"))
        except Exception as error:  # a picture that is not there, or does not move, is a fault like any other
            desk.faults.append(f"a picture does not move: {type(error).__name__} {error}")
    desk.faults += violations(page, axe)
    page.emulate_media(color_scheme="dark")
    desk.faults += [f"dark: {fault}" for fault in violations(page, axe, contrast_alone=True)]
    phone.open(path)
    if (excess := phone.page.evaluate(TOO_WIDE)) > 0:
        phone.faults.append(f"on a phone it is {excess} px too wide")
    return sorted({*desk.faults, *phone.faults})


def first_screen(browser, address, path):
    """(bytes, milliseconds) until the first screen of a page is there, on a slow machine behind a slow line.

    Its end is the largest paint of what is in sight. Nothing of the site was seen before.
    """
    with browser.new_context(viewport=DESK) as window:
        page, sizes = window.new_page(), []
        session = window.new_cdp_session(page)
        session.on("Network.loadingFinished", lambda each: sizes.append(each["encodedDataLength"]))
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", SLOW)
        session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        page.goto(address + path, wait_until="networkidle")
        return sum(sizes), page.evaluate(LARGEST_PAINT)


def best_first_screen(browser, address, path):
    """`first_screen` of the visit that was quickest; the first that is quick enough is the last."""
    best = None
    for _ in range(VISITS):
        size, time = first_screen(browser, address, path)
        best = (size, time) if best is None else (max(size, best[0]), min(time, best[1]))
        if best[1] < PATIENCE:
            break
    return best


def walk(browser, folder, paths, tell=print):
    """Look at pages of a built site; returns {path: faults} of those with faults. tell: called with each sentence."""
    from axe_playwright_python.sync_playwright import Axe

    found, axe = {}, Axe()
    with served(folder) as address:
        desk, phone = Watched(browser, address, DESK), Watched(browser, address, PHONE)
        for path in paths:
            if faults := faults_of_page(desk, phone, axe, path):
                found[path] = faults
            tell(f"{path}: {desk.bytes / 1e3:.0f} kB, {len(faults)} faults", *faults, sep="\n    ")
        for window in (desk.window, phone.window):
            window.close()
    return found


def main():
    """Walk from the command line; the exit code is 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=ROOT / "build" / "site", type=Path)
    parser.add_argument("--only", default="", help="look at pages with this in their paths")
    given = parser.parse_args()
    faults = faults_of_links(given.folder)
    print(f"links: {len(faults)} faults", *faults, sep="\n    ")
    paths = [path for path in pages(given.folder) if given.only in path]
    with served(given.folder) as address, launched() as browser:
        found = walk(browser, given.folder, paths, functools.partial(print, flush=True))
        for path in (path for path in paths if re.fullmatch(r"notebooks/\d.*", path)):
            size, time = best_first_screen(browser, address, path)
            late = size >= FIRST_SCREEN or time >= PATIENCE
            print(f"first screen of {path}: {size / 1e3:.0f} kB, {time:.0f} ms{', over its budget' * late}", flush=True)
            if late:
                found.setdefault(path, []).append("its first screen")
    print(f"{len(paths)} pages, {len(found)} with faults")
    return int(bool(found or faults))


if __name__ == "__main__":
    sys.exit(main())
