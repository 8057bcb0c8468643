"""Mathematics typeset when the site is built: KaTeX in Node, so that a page loads no script for it.

A formula that KaTeX does not know is a warning, and warnings are errors. Symbols of the glossary inside a formula carry
the number of their line, see `symbols.py`.
"""

import functools
import json
import re
import subprocess
from pathlib import Path

from docutils.nodes import SkipNode
from explorables.node import node as path_of_node
from sphinx.util import logging
from symbols import marked

PROGRAM = """
const katex = require(process.argv[1]);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const { texts, display } = JSON.parse(line);
  let answer;
  for (const text of texts) {
    try {
      answer = { html: katex.renderToString(text, { displayMode: display, strict: false, trust: ({ command }) => command === "\\\\htmlData" }) };
      break;
    } catch (error) {
      answer = { error: error.message };
    }
  }
  process.stdout.write(JSON.stringify(answer) + "\\n");
});
"""

# A second copy of the TeX in each formula, which makes pages larger and results of the search harder to read.
ANNOTATION = re.compile(r"<annotation .*?</annotation>", re.DOTALL)


class Typesetter:
    """KaTeX in a process of Node that answers line by line."""

    def __init__(self, katex):
        command = [path_of_node(), "--eval", PROGRAM, str(Path(katex) / "dist" / "katex.js")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.html = functools.cache(self._html)

    def _html(self, text, display, symbols=()):
        """The HTML of a formula; ValueError says what KaTeX does not understand. symbols: patterns that are marked."""
        texts = [marked(text, symbols), text] if symbols else [text]
        self.process.stdin.write(json.dumps({"texts": texts, "display": display}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return ANNOTATION.sub("", answer["html"])

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def setup(app):
    """Make KaTeX the renderer of formulas in Sphinx."""
    app.add_config_value("katex", "", "html")
    app.add_config_value("symbols", (), "html")
    app.add_html_math_renderer("katex", inline_renderers=(_inline, None), block_renderers=(_display, None))
    app.connect("builder-inited", _begin)
    app.connect("build-finished", lambda app, _: app.typesetter.close())
    return {"parallel_read_safe": True, "parallel_write_safe": False}


def _begin(app):
    app.typesetter = Typesetter(app.config.katex)


def _typeset(visitor, node, display):
    app = visitor.builder.app
    try:
        return app.typesetter.html(node.astext(), display, tuple(app.config.symbols))
    except ValueError as error:
        logging.getLogger(__name__).warning("%s in $%s$", error, node.astext(), location=node)
        return ""


def _inline(visitor, node):
    visitor.body.append(f'<span class="math">{_typeset(visitor, node, False)}</span>')
    raise SkipNode


def _display(visitor, node):
    visitor.body.append(f'<div class="math" tabindex="0">{_typeset(visitor, node, True)}</div>')
    raise SkipNode
