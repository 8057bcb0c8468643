"""Walk over the built site as readers do: every link, and every page in a browser.

    python site/walk.py [FOLDER] [--only PART]     # FOLDER: build/site; PART of the path of a page

A page must load nothing from elsewhere, ask for nothing that is not there, report no error, typeset its formulas, let its
pictures be moved by keys, fit a phone of 375 px, be usable by all as far as axe-core can tell, in light and dark, and need
less than a megabyte for its first screen. The slowest first screens on a slow machine are printed.
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

FIRST_SCREEN = 1_000_000  # bytes
PHONE, DESK = {"width": 375, "height": 720}, {"width": 1280, "height": 800}
# A machine four times as slow, behind 10 Mbit/s with 40 ms: what Lighthouse takes for a desk.
SLOW = {"offline": False, "latency": 40, "downloadThroughput": 10e6 / 8, "uploadThroughput": 10e6 / 8}
# Formulas that were left as text, outside of code.
UNTYPESET = """() => [...document.querySelectorAll("article p, article li, article td, article summary")]
  .map((each) => { const copy = each.cloneNode(true);
    copy.querySelectorAll("code, pre, .math, script").forEach((part) => part.remove()); return copy.textContent; })
  .filter((text) => /\\$[^$]*[\\\\^_][^$]*\\$|\\\\(frac|gamma|mathbf|top|begin)/.test(text))"""
TOO_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
PAINTED = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


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


def violations(page, axe, rules=None):
    """What axe-core finds in a page that is serious or worse; rules: the names of its rules, all by default."""
    found = axe.run(page, options={"runOnly": rules} if rules else None).response["violations"]
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
    desk.faults += [f"dark: {fault}" for fault in violations(page, axe, ["color-contrast"])]
    phone.open(path)
    if (excess := phone.page.evaluate(TOO_WIDE)) > 0:
        phone.faults.append(f"on a phone it is {excess} px too wide")
    return sorted({*desk.faults, *phone.faults})


def first_paint(browser, address, path):
    """Milliseconds to the first content of a page, on a slow machine behind a slow line."""
    with browser.new_context(viewport=DESK) as window:
        page = window.new_page()
        session = window.new_cdp_session(page)
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", SLOW)
        session.send("Emulation.setCPUThrottlingRate", {"rate": 4})
        page.goto(address + path)
        return page.evaluate(PAINTED)


def walk(folder, paths, tell=print):
    """Look at pages of a built site; returns {path: faults} of those with faults. tell: called with each sentence."""
    from axe_playwright_python.sync_playwright import Axe

    found, axe = {}, Axe()
    with served(folder) as address, launched() as browser:
        desk, phone = Watched(browser, address, DESK), Watched(browser, address, PHONE)
        for path in paths:
            if faults := faults_of_page(desk, phone, axe, path):
                found[path] = faults
            tell(f"{path}: {desk.bytes / 1e3:.0f} kB, {len(faults)} faults", *faults, sep="\n    ")
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
    found = walk(given.folder, paths, functools.partial(print, flush=True))
    with served(given.folder) as address, launched() as browser:
        lessons = [path for path in paths if re.fullmatch(r"notebooks/\d.*", path)]
        times = sorted(((first_paint(browser, address, path), path) for path in lessons), reverse=True)
    print("first content on a slow machine:", *(f"    {time:.0f} ms {path}" for time, path in times[:3]), sep="\n")
    print(f"{len(paths)} pages, {len(found)} with faults")
    return int(bool(found or faults))


if __name__ == "__main__":
    sys.exit(main())
