"""Pages that show a program, with a number for each line to link to, or list the files of a folder."""

from html import escape

from address import shown as link_to
from links import ROOT
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound

PAGE = """---
orphan: true
---
# `{path}`

{lead}
```{{raw}} html
{body}
```
"""


def program(path, address=None):
    """The page of a file of the repository; address: of the repository on the web."""
    text = (ROOT / path).read_text(encoding="utf-8")
    try:
        lexer = get_lexer_for_filename(path)
    except ClassNotFound:
        lexer = TextLexer()
    shown = highlight(text, lexer, HtmlFormatter(lineanchors="line", linenos="inline", anchorlinenos=False))
    shown = shown.replace("<pre>", f'<pre tabindex="0" aria-label="{escape(path)}">', 1)
    lead = f"[In the repository]({link_to(address, path)})\n" if address else ""
    return PAGE.format(path=path, lead=lead, body=shown.replace("```", "&#96;&#96;&#96;"))


def folder(path):
    """The page of a folder, and the paths of the programs that it lists."""
    files = sorted(file.name for file in (ROOT / path).iterdir() if file.is_file())
    items = "\n".join(f"- [{name}]({name}{'' if name.endswith('.json') else '.md'})" for name in files)
    text = f"---\norphan: true\n---\n# `{path}`\n\n{items}\n"
    return text, [f"{path}/{name}" for name in files if not name.endswith(".json")]
