"""The page of questions: every link leads to a file, and to a heading of the notebook where it names one."""

import re

import nbformat
import pytest
from paths import NOTEBOOKS

TEXT = (NOTEBOOKS / "QUESTIONS.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\]\((?!https?:)([^)\s#]+)#?([^)\s]*)\)", TEXT)


def anchors(path):
    """The headings of a notebook as JupyterLab's anchors: its text, with hyphens for spaces."""
    prose = "\n\n".join(
        cell["source"] for cell in nbformat.read(path, as_version=4)["cells"] if cell["cell_type"] == "markdown"
    )
    return {heading.strip().replace(" ", "-") for heading in re.findall(r"^#{1,4} (.+)$", prose, re.MULTILINE)}


@pytest.mark.parametrize(("file", "heading"), sorted(set(LINKS)), ids="#".join)
def test_a_link_leads_to_a_file_and_a_heading(file, heading):
    path = NOTEBOOKS / file
    assert path.is_file()
    if heading and path.suffix == ".ipynb":
        assert heading in anchors(path)


def test_all_questions_are_there():
    sections = [re.findall(r"^\| (?!question|---)(.+?) \|", part, re.MULTILINE) for part in TEXT.split("\n## ")[1:]]
    assert [len(questions) for questions in sections] == [8, 10]
    for row in re.findall(r"^\| (?!question|---).+$", TEXT, re.MULTILINE):
        assert ".ipynb" in row.split(" | ")[-1], row
