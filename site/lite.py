"""The lessons in JupyterLite: Python in the reader's browser, served whole by the site, asking no other host.

`make site LITE=1` builds it, with the packages of the extra `lite`, Pyodide's core from npm, pure Python packages as they are
installed here, and packages that were compiled for Pyodide. These its lock file names with checksums; they lie where Pyodide
publishes them, or in a folder: `make site LITE=FOLDER`.
Lessons that need torch or Numba are left out, for there are none for a browser; so are exercises, whose checks start processes.
"""

import ast
import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tomllib
import urllib.request
import zipfile
from pathlib import Path

from course import LESSONS, MAGIC, notebooks
from links import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from vendored import NotFetchedError, vendored

NOT_THERE = {"torch", "triton", "numba"}
OURS = "retnet-reference"
ROOMS = ("refimpl", "gpu", "notebooks/figures", "notebooks/explorables")
# Beside what refimpl requires: what the kernel and the pictures of lessons import.
MORE = ("anywidget", "comm", "ipython", "jedi", "matplotlib", "micropip", "pillow")
IN_THE_PAGE = {"jupyterlab-widgets", "widgetsnbextension"}  # the site has them as JavaScript
BROWSER = {"sys_platform": "emscripten", "platform_system": "Emscripten", "extra": ""}
KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"


def lessons():
    """The pages of the lessons that need nothing of which there is none for a browser."""
    return [lesson.page for lesson in notebooks(LESSONS) if not imported(lesson) & NOT_THERE]


def imported(lesson):
    """The top-level packages that the code of a lesson imports."""
    names = set()
    for source in (MAGIC.sub("", source) for kind, source in lesson.cells if kind == "code"):
        for node in ast.walk(ast.parse(source)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            names |= {module.partition(".")[0] for module in modules}
    return names


def needed(lock):
    """(names in Pyodide's lock file, names of pure packages) of all that lessons import, and of what that requires.

    NotFetchedError names a package that is nowhere.
    """
    known = {canonicalize_name(name): name for name in lock["packages"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [*map(Requirement, project["dependencies"]), *map(Requirement, MORE)]
    compiled, pure = set(), set()
    while waiting:
        need = waiting.pop()
        name = canonicalize_name(need.name)
        if (
            (need.marker and not need.marker.evaluate(BROWSER))
            or name in {*IN_THE_PAGE, *pure}
            or known.get(name) in compiled
        ):
            continue
        if name in known:
            compiled.add(known[name])
            waiting += map(Requirement, lock["packages"][known[name]]["depends"])
        else:
            pure.add(name)
            try:
                waiting += map(Requirement, importlib.metadata.requires(name) or ())
            except importlib.metadata.PackageNotFoundError:
                raise NotFetchedError(f"{name} is neither in Pyodide nor installed here") from None
    return sorted(compiled), sorted(pure)


def fetch(name, checksum, source, folder):
    """Copy a file of Pyodide from `source`, a folder or an address, into `folder`; NotFetchedError where it can't be had."""
    path = Path(folder) / name
    try:
        if "://" in f"{source}":
            with urllib.request.urlopen(f"{source}/{name}", timeout=60) as answer:
                data = answer.read()
        else:
            data = (Path(source) / name).read_bytes()
    except OSError as error:
        raise NotFetchedError(f"{name} could not be had from {source}: {error}") from None
    if (got := hashlib.sha256(data).hexdigest()) != checksum:
        raise NotFetchedError(f"{name} of {source} must have the checksum {checksum}, got {got}")
    path.write_bytes(data)


def pack(name, version, files, folder):
    """Write a pure wheel into `folder`; returns what a lock file of Pyodide says of it. files: {path in the wheel: path here}."""
    stem = f"{name.replace('-', '_')}-{version}"
    path = Path(folder) / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for inside, file in sorted(files.items()):
            wheel.write(file, inside)
        wheel.writestr(f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    return {
        "name": name, "version": version, "file_name": path.name, "install_dir": "site", "package_type": "package",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "unvendored_tests": False, "depends": [],
        "imports": sorted({inside.partition("/")[0].removesuffix(".py") for inside in files}),
    }  # fmt: skip


def installed(name):
    """(version, files) of an installed package for `pack`: its Python and its data. What is compiled for this machine is left out."""
    distribution = importlib.metadata.distribution(name)
    paths = [path for path in distribution.files if not {"..", "__pycache__"} & {*path.parts}]
    kept = [path for path in paths if path.suffix != ".so" and not path.parts[0].endswith(".dist-info")]
    return distribution.version, {path.as_posix(): distribution.locate_file(path) for path in kept}


def course():
    """The files of the course for `pack`, with the notebooks' own packages where their set-up cell looks for them."""
    found = (path for room in ROOMS for path in (ROOT / room).rglob("*") if "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix(): path for path in found if path.is_file()}


def distribution(folder, core, source, version):
    """Fill `folder` with a Pyodide of what lessons need; returns the names of its packages.

    core: the folder of npm's Pyodide. source: a folder, or an address, with the files that its lock names. version: ours.
    """
    folder = Path(folder)
    shutil.copytree(core, folder)
    lock = json.loads((core / "pyodide-lock.json").read_text(encoding="utf-8"))
    compiled, pure = needed(lock)
    packages = {name: lock["packages"][name] for name in compiled}
    for package in packages.values():
        fetch(package["file_name"], package["sha256"], source, folder)
    for name, (its_version, files) in {**{each: installed(each) for each in pure}, OURS: (version, course())}.items():
        packages[name] = pack(name, its_version, files, folder)
    text = json.dumps(lock | {"packages": packages})
    (folder / "pyodide-lock.json").write_text(text, encoding="utf-8")
    return sorted(packages)


def build(out, work, version, source=""):
    """Build JupyterLite with the lessons into the folder `out`. work: an empty folder for what goes into it.

    source: a folder, or an address, of the packages of Pyodide; by default where Pyodide publishes them. NotFetchedError says
    what cannot be had.
    """
    try:
        from jupyterlite_pyodide_kernel.constants import PYODIDE_CDN_URL, PYODIDE_VERSION
    except ImportError as error:
        raise NotFetchedError(f"there is no {error.name}: pip install '.[lite]'") from None
    core = vendored("pyodide", ROOT / "build" / "vendor")
    if core.name != f"pyodide-{PYODIDE_VERSION}":
        raise NotFetchedError(f"the kernel needs Pyodide {PYODIDE_VERSION}; vendored.py names {core.name}")
    packages = distribution(work / "static" / "pyodide", core, source or PYODIDE_CDN_URL, version)
    contents = work / "files" / "notebooks"
    contents.mkdir(parents=True)
    for page in [*lessons(), "notebooks/GLOSSARY.md"]:
        shutil.copyfile(ROOT / page, work / "files" / page)
    shutil.copytree(ROOT / "notebooks" / "images", contents / "images")
    settings = {KERNEL: {"disablePyPIFallback": True, "loadPyodideOptions": {"packages": packages}}}
    config = {"jupyter-lite-schema-version": 0, "jupyter-config-data": {"litePluginSettings": settings}}
    (work / "jupyter-lite.json").write_text(json.dumps(config), encoding="utf-8")
    options = ["--apps=lab", "--no-sourcemaps", "--lite-dir=.", f"--contents={work / 'files'}", f"--output-dir={out}"]
    command = [sys.executable, "-m", "jupyter", "lite", "build", *options]
    done = subprocess.run(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"jupyter lite build failed:\n{done.stdout}")
