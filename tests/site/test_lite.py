"""JupyterLite: which lessons run in a browser, what they need there, and what is said where that can't be had."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import compose
import lite
import pytest
from course import LESSONS, notebooks
from paths import ROOT
from vendored import NotFetchedError

COMPILED = {"numpy": [], "rich": ["pygments"], "pygments": [], "safetensors": ["numpy"], "scipy": ["numpy"]}
COMPILED |= {name: [] for name in ("ipython", "jedi", "matplotlib", "micropip", "pillow", "pydantic", "traitlets")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, packages) of a distribution made from a small one, whose compiled packages are lines of text."""
    core, source = tmp_path_factory.mktemp("core"), tmp_path_factory.mktemp("source")
    lock = {"info": {"python": "3.14"}, "packages": {}}
    for name, depends in COMPILED.items():
        (source / f"{name}.whl").write_text(name)
        checksum = hashlib.sha256(name.encode()).hexdigest()
        lock["packages"][name] = {"name": name, "file_name": f"{name}.whl", "sha256": checksum, "depends": depends}
    (core / "pyodide-lock.json").write_text(json.dumps(lock))
    (core / "pyodide.mjs").write_text("")
    folder = tmp_path_factory.mktemp("made") / "pyodide"
    return folder, lite.distribution(folder, core, f"{source}", "1.2.3")


def test_lessons_without_torch_and_numba_run_in_a_browser():
    pages = lite.lessons()
    assert "notebooks/00_start_here.ipynb" in pages
    assert "notebooks/12_to_the_gpu.ipynb" not in pages
    for page in pages:
        assert "import torch" not in (ROOT / page).read_text(encoding="utf-8")


def test_what_lessons_need_is_there_and_nothing_else(made):
    folder, packages = made
    lock = json.loads((folder / "pyodide-lock.json").read_text())
    assert sorted(lock["packages"]) == packages
    assert {"numpy", "pygments", "anywidget", "typer", "retnet-reference"} <= {*packages}
    assert not {"scipy", "numba", "torch", "jupyterlab", "widgetsnbextension"} & {*packages}
    for package in lock["packages"].values():
        data = (folder / package["file_name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == package["sha256"]
    assert lock["packages"]["retnet-reference"]["imports"] == ["gpu", "notebooks", "refimpl"]


def test_the_set_up_cell_finds_the_course_where_its_wheel_is_unpacked(made, tmp_path):
    with zipfile.ZipFile(made[0] / "retnet_reference-1.2.3-py3-none-any.whl") as wheel:
        assert not [name for name in wheel.namelist() if name.startswith("exercises") or name.endswith(".pyc")]
        wheel.extractall(tmp_path / "site")
    find = "\nprint(find_spec('figures').origin, find_spec('explorables').origin, find_spec('gpu').origin)"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'site'}"}
    set_up = next(source for kind, source in notebooks(LESSONS)[0].cells if kind == "code")
    command = [sys.executable, "-S", "-c", set_up + find]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert {Path(each).is_relative_to(tmp_path / "site") for each in found.split()} == {True}


def test_a_file_that_is_not_there_or_another_is_named(tmp_path):
    (tmp_path / "a.whl").write_text("a")
    (tmp_path / "out").mkdir()
    with pytest.raises(NotFetchedError, match=r"^a\.whl of .* must have the checksum 00, got ca978112"):
        lite.fetch("a.whl", "00", tmp_path, tmp_path / "out")
    with pytest.raises(NotFetchedError, match=r"^b\.whl could not be had from "):
        lite.fetch("b.whl", "00", tmp_path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_package_that_is_nowhere_is_named():
    with pytest.raises(NotFetchedError, match=r"^micropip is neither in Pyodide nor installed here$"):
        lite.needed({"packages": {name: {"depends": []} for name in COMPILED if name != "micropip"}})


def test_a_site_is_built_without_what_cannot_be_had(tmp_path, monkeypatch, capsys):
    def cannot(*_):
        raise NotFetchedError("numpy.whl could not be had")

    monkeypatch.setattr(lite, "build", cannot)
    assert compose.with_lite(tmp_path / "lite", "") == ()
    assert capsys.readouterr().out == "The site is built without JupyterLite: numpy.whl could not be had\n"


def test_a_lesson_says_where_else_it_runs():
    course = compose.Course("https://github.com/o/n", ["notebooks/03_rotation.ipynb"])
    third, twelfth = course.numbered([3, 12])
    assert '<a href="../lite/lab/index.html?path=notebooks/03_rotation.ipynb">in this browser</a>' in course.lead(third)
    for lesson in (third, twelfth):
        assert f"/o/n/main?urlpath=lab/tree/{lesson.page}" in course.lead(lesson)
        assert f"github/o/n/blob/main/{lesson.page}" in course.lead(lesson)
    assert "in this browser" not in course.lead(twelfth)
    course.repository, course.in_browser = None, ()
    assert "<a" not in course.lead(third)
