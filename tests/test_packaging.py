"""The wheel and the sdist are complete, and each works in an environment that holds little else."""

import importlib.metadata
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from paths import ROOT

PACKAGES = ("refimpl", "gpu", "exercises")
NOT_SOURCES = (".git", ".venv", "runs", "data", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")


def run(*command, cwd):
    """Run a command that sees nothing of this checkout; return what it printed, all of it in the message of a failure."""
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory):
    """The paths of the sdist and of the wheel that is built from it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*NOT_SOURCES), dirs_exist_ok=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def tracked():
    """The files of the repository, relative to its root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def required(names):
    """The names of distributions and of all they require, without extras."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            needs = map(Requirement, importlib.metadata.requires(name) or ())
            waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def environment(folder, packages):
    """A virtual environment with `packages`, and what they require, of the running one; returns its Python and site."""
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    for name in required(packages):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            (site / top).symlink_to(distribution.locate_file(top))
    return folder / "bin" / "python", site


def install(python, wheel):
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    # Without bytecode, which programs make of the few files that they import.
    run(*pip, "install", "--quiet", "--no-compile", "--no-index", "--no-deps", wheel, cwd=wheel.parent)


@pytest.fixture(scope="session")
def installed_wheel(distributions, tmp_path_factory):
    """The Python of an environment that holds the wheel and what it declares to require."""
    requirements = map(Requirement, importlib.metadata.requires("retnet-reference"))
    needed = [need.name for need in requirements if need.marker is None]
    python, _ = environment(tmp_path_factory.mktemp("wheel") / "venv", needed)
    install(python, distributions[1])
    return python


def test_sdist_holds_every_file_of_the_repository(distributions, tracked):
    with tarfile.open(distributions[0]) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert tracked <= names, f"MANIFEST.in leaves out {sorted(tracked - names)}"


def test_wheel_holds_the_packages_and_no_tests(distributions, tracked):
    names = set(zipfile.ZipFile(distributions[1]).namelist())
    assert {name for name in names if ".dist-info/" not in name} == {
        name for name in tracked if name.partition("/")[0] in PACKAGES
    }
    assert {"refimpl/py.typed", "refimpl/pretrained/retnet.safetensors", "gpu/kernels/triton_tiles.json"} <= names
    assert not [name for name in names if re.search(r"(^|/)(conftest|test_\w+)\.py$", name)]


def links(markdown):
    return re.findall(r"\]\(([^)]+)\)", markdown)


def test_long_description_has_no_link_that_leads_nowhere(distributions):
    (name,) = (name for name in zipfile.ZipFile(distributions[1]).namelist() if name.endswith(".dist-info/METADATA"))
    text = zipfile.ZipFile(distributions[1]).read(name).decode()
    assert links(text)
    assert all(link.startswith("https://") for link in links(text))
    readme = (ROOT / "README.md").read_text()
    text = runpy.run_path(str(ROOT / "setup.py"))["long_description"](readme, "https://github.com/o/n")
    assert len(links(text)) == len(links(readme))
    assert "(https://github.com/o/n/blob/main/gpu/results/README.md)" in text
    assert "(https://github.com/o/n/raw/main/notebooks/images/three_forms.png)" in text
    assert all(link.startswith("https://") for link in links(text))


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("-m", "refimpl", "compare", "--time", "40"), "chunkwise"),
        (("-m", "refimpl", "--help"), "Usage"),
        (("-c", "import refimpl, sys; print('torch' in sys.modules, refimpl.__file__)"), "False"),
    ],
    ids=["compare", "help", "import"],
)
def test_wheel_works_with_what_it_requires_alone(installed_wheel, tmp_path, arguments, wanted):
    printed = run(installed_wheel, *arguments, cwd=tmp_path)
    assert wanted in printed
    assert f"{ROOT}" not in printed


def test_wheel_has_a_command_that_no_folder_shadows(installed_wheel, tmp_path):
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "__init__.py").write_text("raise SystemExit('a folder of the user')")
    command = installed_wheel.with_name("retnet")
    assert importlib.metadata.version("retnet-reference") in run(command, "--version", cwd=tmp_path)
    for program in PACKAGES:
        assert "Usage" in run(command, program, "--help", cwd=tmp_path)


def test_sdist_passes_its_own_tests_of_refimpl(distributions, tmp_path):
    """On the installed package; the tests come from the sdist, what they import besides from the running environment."""
    python, site = environment(tmp_path / "venv", [])
    install(python, distributions[1])  # the wheel that was built from it
    # A path entry makes nothing of that environment's own .pth files, so an editable install there stays unseen.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    with tarfile.open(distributions[0]) as file:
        file.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("retnet_reference-*")
    place = run(python, "-P", "-c", "import refimpl; print(refimpl.__file__)", cwd=folder)
    assert place.startswith(str(site))
    # The quick ones, and who reads the package's own data: where the package lies makes no difference to the others.
    names = (
        "test_oracle.py",
        "test_paper_facts.py",
        "test_validation.py",
        "test_defaults.py",
        "training/test_bpe.py::test_losses_are_in_bits_a_byte",
        "training/test_text.py::test_bible_is_whole",
        "training/test_text.py::test_split_is_by_whole_books",
        "training/test_text.py::test_random_batches_are_windows_and_their_successors",
    )
    tests = [f"tests/refimpl/{name}" for name in names]
    assert " passed" in run(python, "-P", "-m", "pytest", "-q", "-o", "pythonpath=tests notebooks", *tests, cwd=folder)
