"""What pyproject.toml cannot say: the long description is README.md with links that work outside the repository.

The address of the repository stands in one place, `Repository` of [project.urls]. Relative links of README.md become
links to it. While there is no such entry, a link becomes its text and an image is left out.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup


def long_description(readme, address):
    """README.md for an index of packages; address: of the folder on the web that holds it, or None."""

    def replaced(match):
        mark, text, target = match.groups()
        if address:
            return f"{mark}[{text}]({address}/{target})"
        return "" if mark else text

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)", replaced, readme)


if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    setup(
        long_description=long_description(
            Path("README.md").read_text(encoding="utf-8"), project.get("urls", {}).get("Repository")
        ),
        long_description_content_type="text/markdown",
    )
