"""Where the repository lies on the web, and every link that follows from that.

    python site/address.py https://github.com/OWNER/NAME     # tell the repository its address, or that of a fork

The address stands in pyproject.toml, as `Repository` of [project.urls]. The command writes it there and into the files that
readers see as they are: the badges of README.md, CITATION.cff and the set-up cell of each notebook. Without one, no file
has a link that needs it.
"""

import argparse
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BRANCH = "main"
START = "notebooks/00_start_here.ipynb"
# Where a file says it: (what stands there, what does without an address, what does with one).
PYPROJECT = (
    re.compile(r"^(?:# The repository has no address yet|Repository = ).*$", re.MULTILINE),
    "# The repository has no address yet: site/address.py tells it.",
    'Repository = "{address}"',
)
CITATION = (
    re.compile(r"^(?:# The repository has no address yet|repository-code: ).*$", re.MULTILINE),
    PYPROJECT[1],
    "repository-code: {address}",
)
CELL = (re.compile(r'(?<=REPOSITORY = )\\"[^"\\]*\\"'), r"\"\"", r"\"{address}\"")
README = (
    re.compile(r"(?<=license-MIT-00704f\))(?:\n\[!.*)*"),
    "",
    "\n[![Tests]({tests}/badge.svg)]({tests}) [![Website](https://img.shields.io/badge/course-website-00704f)]({site})"
    "\n[![Binder](https://mybinder.org/badge_logo.svg)]({binder}) "
    "[![Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})",
)


def checked(address):
    """The address; ValueError unless it is that of a repository on GitHub, where workflows, Pages, Binder and Colab find it."""
    if not re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]*(?<!\.git)", address):
        raise ValueError(f"address must be https://github.com/OWNER/NAME, got {address!r}")
    return address


def address(root=ROOT):
    """The address of the repository below the folder `root`, from its pyproject.toml, or None."""
    project = tomllib.loads((Path(root) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project.get("urls", {}).get("Repository")


def owner_and_name(address):
    """OWNER/NAME of an address."""
    return checked(address).removeprefix("https://github.com/")


def shown(address, path):
    """The link to a file or a folder of the repository."""
    return f"{checked(address)}/blob/{BRANCH}/{path}"


def raw(address, path):
    """The link to the bytes of a file, as a picture needs it."""
    return f"{checked(address)}/raw/{BRANCH}/{path}"


def binder(address, path):
    """The link that opens a notebook on Binder."""
    return f"https://mybinder.org/v2/gh/{owner_and_name(address)}/{BRANCH}?urlpath=lab/tree/{path}"


def colab(address, path):
    """The link that opens a notebook on Colab."""
    return f"https://colab.research.google.com/github/{owner_and_name(address)}/blob/{BRANCH}/{path}"


def pages(address):
    """The address of the course as a website, where the workflow `site` puts it."""
    owner, name = owner_and_name(address).split("/")
    return f"https://{owner.lower()}.github.io/{name}/"


def files(root, address):
    """{path: text} of every file below `root` that says the address, as it must be. address: or None."""
    root, links = Path(root), {}
    if address:
        links = {"address": checked(address), "tests": f"{address}/actions/workflows/test.yml", "site": pages(address)}
        links |= {"binder": binder(address, START), "colab": colab(address, START)}
    places = {"pyproject.toml": PYPROJECT, "CITATION.cff": CITATION, "README.md": README}
    texts = {}
    for path in [root / name for name in places] + sorted(root.glob("notebooks/*.ipynb")):
        pattern, without, line = places.get(path.name, CELL)
        text = path.read_text(encoding="utf-8")
        new = line.format(**links) if address else without
        texts[path], count = pattern.subn(lambda _, new=new: new, text, count=1)
        if not count:
            raise ValueError(f"{path} must have a place for the address: {without or 'badges'}")
    return texts


def main():
    """Tell the repository its address, from the command line."""
    from refimpl.files import write_atomically

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", nargs="?", help="https://github.com/OWNER/NAME; the one it has by default")
    given = parser.parse_args().address or address()
    try:
        texts = files(ROOT, given)
    except ValueError as error:
        parser.error(f"{error}")
    changed = {path: text for path, text in texts.items() if path.read_text(encoding="utf-8") != text}
    for path, text in changed.items():
        write_atomically(path, text)
    print(f"{given or 'no address'}: {len(changed)} files changed")


if __name__ == "__main__":
    main()
