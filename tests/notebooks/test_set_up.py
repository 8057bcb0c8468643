"""The set-up cell of every notebook, and how notebooks open: clean, and from any folder."""

import os
import re
import subprocess
import sys
import tomllib

import nbformat
import pytest
from paths import ROOT
from test_notebooks import EXERCISES, SET_UP, clean


@pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem[:4])
def test_an_exercise_opens_clean(path):
    assert list(clean(nbformat.read(path, as_version=4), ROOT)) == []


def run_set_up(folder, program, *, path=""):
    """Run the set-up cell and then `program` in a folder, by a Python that finds no package but those in `path`."""
    return subprocess.run(
        [sys.executable, "-S", "-c", program.replace("{cell}", SET_UP)],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


FIND = "from importlib.util import find_spec\nprint(find_spec('figures').origin, find_spec('explorables').origin)"


def test_a_notebook_copied_elsewhere_finds_figures_and_explorables(tmp_path):
    result = run_set_up(tmp_path, "{cell}\n" + FIND, path=ROOT)
    assert result.stdout.split() == [
        str(ROOT / "notebooks" / name / "__init__.py") for name in ("figures", "explorables")
    ]


def test_without_the_course_the_cell_says_what_to_set(tmp_path):
    assert "set REPOSITORY to the address of its repository" in run_set_up(tmp_path, "{cell}").stderr


def test_on_colab_the_cell_clones_and_installs(tmp_path):
    """The clone is a link to this folder, and what would be run is kept."""
    fake = f"import os, subprocess\nsubprocess.run = lambda *a, **k: (print(*a), os.symlink({str(ROOT)!r}, 'retnet'))\n"
    result = run_set_up(tmp_path, fake + SET_UP.replace('""', '"https://example.org/retnet"', 1) + "\n" + FIND)
    command, found = result.stdout.splitlines()
    assert command.startswith("git clone -q https://example.org/retnet retnet && ")
    assert command.endswith(" -m pip install -q -e retnet[cpu,course,gpu]")
    assert found.split()[0].endswith("retnet/notebooks/figures/__init__.py")


def test_the_cell_holds_the_address_that_the_package_names():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f'REPOSITORY = "{project["urls"].get("Repository", "")}"' in SET_UP
    extras = re.search(r"retnet\[(.+?)\]", SET_UP)[1].split(",")
    assert set(extras) <= set(project["optional-dependencies"])


def test_nbval_ignores_pixels_and_compares_descriptions():
    text = (ROOT / "notebooks" / "sanitize.cfg").read_text(encoding="utf-8")
    (pattern, replacement), *_ = re.findall(r"^regex: (.*)\nreplace: (.*)$", text, re.MULTILINE)
    shown = [
        re.sub(pattern, replacement, f'<img alt="{alt}" src="data:image/png;base64,{data}">') for alt, data in ALIKE
    ]
    assert shown[0] == shown[1] != shown[2]


ALIKE = (("one line", "iVBO+/x=="), ("one line", "iVBOabc"), ("two lines", "iVBOabc"))
