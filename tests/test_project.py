"""The project agrees with itself: dependencies, one-way imports, documented functions, README and results."""

import ast
import importlib
import importlib.metadata
import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from paths import ROOT

import refimpl
from refimpl import backward, numba_kernels

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"python-build": "build", "pytorch": "torch"}  # conda's name: PyPI's


def requirements(lines):
    """{canonical name: specifiers} of the requirement lines that this platform has to meet."""
    parsed = [each for each in map(Requirement, lines) if each.marker is None or each.marker.evaluate()]
    return {canonicalize_name(CONDA_NAMES.get(r.name, r.name)): r.specifier for r in parsed}


def declared():
    """What the set-up installs; nbgrader and JupyterLite are for those who want them."""
    extras = (lines for extra, lines in PROJECT["optional-dependencies"].items() if extra not in ("nbgrader", "lite"))
    return requirements([*PROJECT["dependencies"], *(line for lines in extras for line in lines)])


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return requirements(line for line in lines if line and not line.startswith("#"))


def test_extras_never_contradict_each_other():
    ranges = {}
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        for name, specifier in requirements(lines).items():
            assert ranges.setdefault(name, specifier) == specifier, f"{name} has two ranges"


def test_environment_agrees_with_pyproject():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in lines if isinstance(entry, dict))
    conda = requirements(line for line in lines if isinstance(line, str))
    assert f"{conda.pop('python')}" == PROJECT["requires-python"]
    del conda["pip"]
    listed = conda | requirements(line for line in pip if not line.startswith("-"))
    assert listed == declared()
    assert "--editable ." in pip


def test_constraints_pin_what_is_declared():
    pins = pinned()
    assert {name: str(pins[name]) for name in ("torch",)} == {"torch": "==2.13.0"}
    for name, specifier in declared().items():
        assert name in pins, f"constraints.txt does not pin {name}"
        (pin,) = pins[name]
        assert pin.operator == "=="
        assert specifier.contains(pin.version), f"{name} {pin.version} is outside {specifier}"


def test_constraints_are_what_is_installed():
    for name, specifier in pinned().items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            assert name not in declared(), f"{name} is not installed"
            continue  # another package's dependency, which this platform does not need
        assert specifier.contains(Version(installed).public), f"{name} {installed} is installed, not {specifier}"


def test_versions_agree():
    """refimpl/__init__.py states it; the build, the citation and the changelog follow."""
    assert "version" in PROJECT["dynamic"]
    assert refimpl.__version__ == importlib.metadata.version("retnet-reference")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == refimpl.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert newest == refimpl.__version__


def sources(room):
    """(path, source) of every Python file of a room; of a notebook its code. Lessons may import more than their figures."""
    for path in (ROOT / room).rglob("*.py"):
        yield path, path.read_text(encoding="utf-8")
    for path in (ROOT / room).rglob("*.ipynb") if room != "notebooks" else ():
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path, "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def imports(path, source):
    """The top-level packages a file imports, relative imports as its own package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield path.parent.name if node.level else node.module.partition(".")[0]


FORBIDDEN = {
    "refimpl": {"torch", "gpu", "exercises", "notebooks", "figures", "tests"},
    "gpu": {"exercises", "notebooks", "figures", "tests"},
    "exercises": {"torch", "gpu", "notebooks", "figures", "tests"},
    "notebooks": {"gpu", "exercises", "tests"},
    "site": {"torch", "exercises", "figures", "tests"},
}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_go_one_way(room):
    files = list(sources(room))
    assert files
    for path, source in files:
        assert not set(imports(path, source)) & FORBIDDEN[room], f"{path.relative_to(ROOT)} imports what it must not"


ASKS_FOR_TORCH = re.compile(
    r"\b(?:import|from) torch\b"  # also in a text of code
    r"|\b(?:import_module|find_spec|__import__)\(\s*[rf]?[\"']torch\b"
    r"|\b(?:has|get)attr\(\s*xp\b"  # of an array library: the array API tells what it has
)


def torch_code(source):
    """What of a Python source is there for torch alone: its imports, and questions whether torch is there or at work."""
    modules = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules.append(f"{node.module}")
    return [*(name for name in modules if "torch" in name.split(".")), *ASKS_FOR_TORCH.findall(source)]


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "import torch.nn.functional as F",
        "def f():\n    from torch import nn",
        "import array_api_compat.torch as xp",
        "torch = importlib.import_module('torch')",
        'if find_spec("torch"):\n    pass',
        'nn = __import__("torch.nn")',
        'hasattr(xp, "nn")',
        "erf = getattr(xp, 'erf', None)",
        'subprocess.run([sys.executable, "-c", "import torch"])',
    ],
)
def test_torch_code_is_found(source):
    assert torch_code(source)


def test_refimpl_has_no_torch_code():
    """It is mathematics on arrays of any library; words about torch are no code.

    One file may ask a library what it offers beyond the standard, so that plain calls can be traced.
    """
    assert not torch_code('"""Arrays of NumPy or torch."""\nimport torchscale_stub\nhasattr(os, "fork")')
    for path, source in sources("refimpl"):
        found = torch_code(source)
        if path == ROOT / "refimpl" / "libraries.py":
            found = [code for code in found if "attr(" not in code]
        assert found == [], f"{path.relative_to(ROOT)} has code for torch"


def test_the_core_goes_from_decay_to_model():
    order = [
        "arrays",
        "libraries",
        "checks",
        "decay",
        "rotation",
        "sequences",
        "lengths",
        "retention",
        "score_norm",
        "config",
        "layers",
        "tree",
        "model",
    ]
    for i, name in enumerate(order):
        tree = ast.parse((ROOT / "refimpl" / f"{name}.py").read_text())
        used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
        assert used <= set(order[:i]), f"{name}.py imports {used - set(order[:i])}"


def test_importing_refimpl_brings_no_torch():
    code = "import refimpl, sys; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


RETENTIONS = [
    *(value for name, value in sorted(vars(refimpl).items()) if name.startswith("retention_") and callable(value)),
    *(getattr(backward, f"retention_{form}_backward") for form in ("parallel", "recurrent", "chunkwise")),
    *(getattr(numba_kernels, name) for name in numba_kernels.__all__),
]


@pytest.mark.parametrize("retention", RETENTIONS, ids=lambda retention: retention.__name__)
def test_a_retention_says_its_equation_and_where_its_contract_stands(retention):
    doc = inspect.getdoc(retention)
    assert re.search(r"Eq\. [567]", doc)
    (module,) = re.findall(r"Shapes, dtypes and errors: the contract in `(refimpl\.\w+)`", doc)
    contract = importlib.import_module(module).__doc__
    wanted = {"refimpl.retention": ("gamma", "(B, H, T, K)", "(B, H, T, V)", "(B, H, K, V)", "(H,)", "float32")}
    for each in (*wanted.get(module, ("grad_out", "grad_state")), "TypeError or ValueError"):
        assert each in contract, f"{module} does not say {each}"


@pytest.mark.parametrize("retention", [r for r in RETENTIONS if "backward" not in r.__name__], ids=lambda r: r.__name__)
def test_a_retention_has_an_example(retention):
    assert ">>>" in inspect.getdoc(retention)


@pytest.mark.parametrize("name", refimpl.__all__)
def test_every_public_name_is_documented(name):
    assert inspect.getdoc(getattr(refimpl, name))


def test_readme_is_short_and_lists_every_lesson():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    seen = re.sub(r"\]\([^)]*\)|`{3}|[|*#>-]", " ", readme)
    assert len(seen.split()) <= 500
    listed = re.findall(r"^\| (\d+) \| \[[^]]+\]\(notebooks/(\d\d)_\w+\.ipynb\)", readme, re.MULTILINE)
    lessons = sorted(path.name[:2] for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert [number for _, number in listed] == lessons[1:]
    assert [int(number) for number, _ in listed] == [int(number) for number in lessons[1:]]


def test_readme_quotes_what_the_model_writes_and_what_was_measured():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").replace("\n>", "\n").split())
    ((command, prompt),) = re.findall(r'`python (-m refimpl generate) "(.*?)" --temperature 0`', readme)
    quoted = re.search(r"^> .*(?:\n> .*)*", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)[0]
    written = quoted.replace("\n>", "").removeprefix("> ")
    more = [*command.split(), prompt, "--temperature", "0", "--tokens", str(len(written) - len(prompt))]
    text = subprocess.run([sys.executable, *more], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert " ".join(text.split()) == " ".join(written.split())
    page = " ".join((ROOT / "gpu" / "results" / "README.md").read_text(encoding="utf-8").split())
    summary = page[page.index("## Summary") : page.index("## RetNet and the Transformer")]
    gap, low, high = re.search(
        r"every token read once \| (\S+) bits a byte behind \((\S+) to (\S+)\) \|", readme
    ).groups()
    assert f"RetNet is {gap} bits per byte behind the Transformer (+{low} to +{high})" in summary
    compiled, replayed = re.search(r"training speed, compiled / a CUDA graph \| (.*?) / (.*?) times", readme).groups()
    assert f"{compiled} times as fast as the Transformer with torch.compile" in summary
    assert f"{replayed} times as fast as the Transformer with both passes as one CUDA graph" in summary
    one, most = re.findall(r"65,536 tokens back \| ([\d.]+) times", readme)
    assert f"and {one} times at 65,536" in summary
    assert int(most) in [round(float(times)) for times in re.findall(r"and ([\d.]+) times at 65,536", summary)]


def test_readme_commands_exist():
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make (\w+)", readme, re.MULTILINE))
    assert {"demo", "test", "lab"} <= named <= targets
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (ROOT / link).exists(), f"README links {link}"


def test_make_lab_opens_the_start_page():
    (page,) = re.findall(r"jupyter lab .* (\S+\.ipynb)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert page == "notebooks/00_start_here.ipynb"
    assert (ROOT / page).is_file()


def test_what_make_lab_starts_finds_the_python_of_the_course(tmp_path):
    (tmp_path / "bin").mkdir()
    jupyter = tmp_path / "bin" / "jupyter"
    jupyter.write_text("#!/bin/sh\necho $PATH\n")
    jupyter.chmod(0o755)
    make = ["make", "--silent", "-o", f"{tmp_path}/.ready", "lab", f"VENV={tmp_path}"]
    path = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert path.split(":")[0] == f"{tmp_path}/bin"


def test_readme_says_how_its_python_commands_find_the_course():
    """What is told to be sourced is what make sets up, and it is told before the first command that needs it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (venv,) = re.findall(r"^VENV := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert 0 < readme.index(f"`source {venv}/bin/activate`") < readme.index("`python -m")


def test_what_the_demo_leaves_behind_does_not_stop_the_linter(tmp_path):
    """To ruff a folder at the root is first-party, so runs/ would make tests/runs.py that too."""
    left = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if re.fullmatch(r"/?\w+/", line)}
    assert "runs" in left
    for name in left:
        (tmp_path / name).mkdir()
    for path in ROOT.iterdir():
        if path.is_dir() and path.name not in left | {"tests"}:
            (tmp_path / path.name).symlink_to(path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "I", "tests"]
    done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_readme_examples_run(monkeypatch, capsys):
    """The second is about a package of the reader's, which is given here."""
    contract, conformance = re.findall(r"```python\n(.*?)```", (ROOT / "refimpl/README.md").read_text(), re.DOTALL)
    assert "assert" in contract
    exec(compile(contract, "README.md", "exec"), {})
    assert conformance.count("\n") == 5
    monkeypatch.setitem(sys.modules, "mypackage", SimpleNamespace(my_retention=refimpl.retention_recurrent))
    exec(compile(conformance, "README.md", "exec"), {})
    assert re.search(r"on torch: (\d+) of \1 checks passed", capsys.readouterr().out)


def test_readme_quotes_its_results_file():
    results = json.loads((ROOT / "refimpl" / "results" / "cpu.json").read_text())
    rows = results["rows"]
    shares = {
        row["name"]: 100 * row["share_of_peak"] for row in rows if row["time"] == 8192 and row["form"] == "chunkwise"
    }
    torch, torchscale = (
        [share for name, share in shares.items() if name.startswith(prefix)] for prefix in ("torch,", "torchscale")
    )
    readme = " ".join((ROOT / "refimpl" / "README.md").read_text().split())
    assert f"reached {max(shares.values()):.0f} % of that peak" in readme
    assert f"the same form on torch {min(torch):.0f} to {max(torch):.0f} %" in readme
    assert f"torchscale's {min(torchscale):.0f} to {max(torchscale):.0f} %" in readme
    steps = [row["of_fastest_torch"] for row in results["training"] if row["name"] == "Numba chunkwise"]
    assert f"took {min(steps):.2f} to {max(steps):.2f} times torch's" in readme
    assert max(row["mib_beyond_outputs"] for row in results["long"] if row["name"] == "Numba") < 1
