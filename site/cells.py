"""A notebook for the site: stored outputs, folds, pictures that move without a kernel, figures as files of their own."""

import hashlib
import json
import posixpath
import re
from base64 import b64decode
from html import escape

import nbformat
from explorables import EXPLORABLES
from explorables.explorable import bundle
from links import ROOT, rewritten

WIDGET = "application/vnd.jupyter.widget-view+json"
STATES = "application/vnd.jupyter.widget-state+json"
CLASSES = {f"{cls.__module__}.{cls.__name__}": cls for cls in EXPLORABLES}
FOLDS = {"source_hidden": "hide-input", "outputs_hidden": "hide-output"}
# A summary with a formula or code must be a paragraph of its own to be read as Markdown.
SUMMARY = re.compile(r"<summary>([^<\n]*[$`*][^<\n]*)</summary>")
EMBEDDED = re.compile(r'<img (?P<rest>[^>]*?)src="data:image/(?P<kind>png|svg\+xml);base64,(?P<data>[^"]+)"')
# Runs each time that a picture comes near, see course.js: it draws where no picture is drawn yet.
SCRIPT = """"use strict";
(() => {{
{code}
for (const here of document.querySelectorAll('.picture-here[data-module="{module}"]:not([data-alive])')) {{
  const given = explorablesData[here.dataset.state];
  if (!given) continue; // of a picture whose data are still to come
  here.dataset.alive = "";
  pictureHere.render({{ model: standalone(given.values, given.data), el: here }});
}}
}})();
"""
STILL = '<img class="still" alt="{words}" src="{static}/stills/{module}.svg" loading="lazy">'
HERE = """<div class="picture-here" data-module="{module}" data-state="{state}" data-from="{static}/explorables/">{still}</div>"""
ASLEEP = '<p class="asleep">It moves where the notebook runs.</p>'


class Pictures:
    """The files that pictures of pages need, below the folder `static`; each is written once.

    stored: {class: data} of the explorables that a lesson holds as they start in the course.
    """

    def __init__(self, static):
        self.static, self.stored = static, {}

    def write(self, name, data):
        """Write a file; returns nothing."""
        path = self.static / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    def explorable(self, cls, state, page):
        """HTML for a picture of an explorable on `page`. state: its values and data."""
        code = bundle(cls.module).replace("export default ", "const pictureHere = ")
        self.write(f"explorables/{cls.module}.js", SCRIPT.format(code=code, module=cls.module))
        given = json.dumps({name: state[name] for name in ("values", "data")}, allow_nan=False)
        name = f"{cls.module}-{_hash(given)}"
        self.write(f"explorables/{name}.js", f'(globalThis.explorablesData ??= {{}})["{name}"] = {given};\n')
        svg, words = cls.still()
        self.write(f"stills/{cls.module}.svg", svg)
        static = static_from(page)
        still = STILL.format(words=escape(words), module=cls.module, static=static)
        return HERE.format(module=cls.module, state=name, still=still, static=static)

    def figures(self, html, page):
        """HTML whose pictures are files, loaded when they come near."""

        def replaced(match):
            end = {"png": "png", "svg+xml": "svg"}[match["kind"]]
            name = f"figures/{_hash(match['data'])}.{end}"
            self.write(name, b64decode(match["data"]))
            return f'<img loading="lazy" {match["rest"]}src="{static_from(page)}/{name}"'

        return EMBEDDED.sub(replaced, html)


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def static_from(page):
    """The path from a page to the site's own files."""
    return posixpath.relpath("_static", posixpath.dirname(page) or ".")


def notebook(page, shown, pictures, lead="", more=""):
    """The notebook at `page` of the repository as Sphinx shall read it. lead: Markdown after its first cell; more: at its end."""
    found = nbformat.read(ROOT / page, as_version=4)
    states = found.metadata.pop("widgets", {}).get(STATES, {}).get("state", {})
    for cell in found.cells:
        if cell.cell_type == "markdown":
            cell.source = SUMMARY.sub(r"<summary>\n\n\1\n\n</summary>", rewritten(cell.source, page, shown))
            continue
        folds = cell.metadata.get("jupyter", {})
        cell.metadata["tags"] = [tag for fold, tag in FOLDS.items() if folds.get(fold)]
        if page.startswith("exercises/"):
            cell.outputs = []  # of checks of what is not written yet
        for output in cell.outputs:
            if "data" in output:
                _show(output.data, states, page, pictures)
    found.cells.insert(1, nbformat.v4.new_markdown_cell(lead))
    found.cells.append(nbformat.v4.new_markdown_cell(more))
    return nbformat.writes(found)


def _show(data, states, page, pictures):
    """Leave of an output what a page without a kernel can show."""
    view = data.pop(WIDGET, None)
    if view:
        state = states[view["model_id"]]["state"]
        cls = CLASSES.get(state.get("_anywidget_id"))
        data["text/html"] = pictures.explorable(cls, state, page) if cls else data.get("text/html", "") + ASLEEP
        if cls and not state["values"]:
            pictures.stored[cls] = state["data"]
    if "text/html" in data:
        data["text/html"] = pictures.figures(data["text/html"], page)
