"""Where a relative link of a page of the repository leads on the site, whose folders are those of the repository.

A page is a Markdown file or a notebook, a link to it stays; so does one to data or a picture, which is copied. A folder is its
README.md or the list of its files, and a program is a page that shows it.
"""

import posixpath
import re
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("notebooks", "exercises", "refimpl", "gpu", "tests")
COPIED = (".json", ".png", ".svg", ".md", ".ipynb")  # what Sphinx takes as it is
SOLUTIONS = re.compile(r"exercises/answers/(ex\d+|inputs|recurring)\.py")
CODE = re.compile(r"(^ *```.*?^ *```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r'(\]\(|^\[[\w-]+\]: |(?:href|src)=")(?![a-z]+:|/|\{)([^)\s"#]*)(#[^)\s"]*)?', re.MULTILINE)


def rewritten(text, page, shown):
    """The text of `page`, its path in the repository, with its links as the site has them.

    Paths of programs and folders that it links are added to the set `shown`. FileNotFoundError names a link that leads nowhere.
    """

    def place(match):
        return match[1] + (destination(match[2], page, shown) if match[2] else "") + anchor(match[3] or "")

    parts = CODE.split(text)
    parts[::2] = [LINK.sub(place, part) for part in parts[::2]]
    return "".join(parts)


def anchor(text):
    """The anchor of a heading here, for one of JupyterLab, whose letters and signs are those of the heading.

    >>> anchor("#Who-bites-whom?")
    '#who-bites-whom'
    """
    return re.sub(r"[^#\w-]", "", unquote(text).lower())


def destination(target, page, shown):
    """The link of a page to the file or folder `target`, relative to the page."""
    folder = posixpath.dirname(page)
    path = posixpath.normpath(posixpath.join(folder, target))
    if path == "README.md":
        path = "index.md"  # the front page of the site
    elif (ROOT / path).is_dir():
        path = f"{path}/README.md" if (ROOT / path / "README.md").is_file() else _shown(path, shown)
    elif not (ROOT / path).is_file() or path.startswith("..") or SOLUTIONS.fullmatch(path):
        raise FileNotFoundError(f"{page} links to {target}: the site has no {path}")
    elif not path.endswith(COPIED):
        path = _shown(path, shown)
    return posixpath.relpath(path, folder or ".")


def _shown(path, shown):
    shown.add(path)
    return f"{path}.md" if (ROOT / path).is_file() else f"{path}/index.md"
