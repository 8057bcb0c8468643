"""What pyproject.toml cannot say: the long description is README.md with links that work outside the repository.

Relative links of README.md become links to the repository. While it has no address, a link becomes its text and an image
is left out.
"""

import re
import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent / "site"))

import address


def long_description(readme, repository):
    """README.md for an index of packages; repository: its address on the web, or None."""

    def replaced(match):
        mark, text, target = match.groups()
        if repository:
            return f"{mark}[{text}]({(address.raw if mark else address.shown)(repository, target)})"
        return "" if mark else text

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)", replaced, readme)


if __name__ == "__main__":
    setup(
        long_description=long_description(Path("README.md").read_text(encoding="utf-8"), address.address()),
        long_description_content_type="text/markdown",
    )
