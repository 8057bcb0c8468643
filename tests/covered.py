"""How much of refimpl its tests run: `python tests/covered.py build/coverage`, or `make coverage`.

Programs and processes that tests start count too. Lines and branches are counted apart, for coverage.py's own total adds them
up. The folder gets `report.json`, and what was missed is printed by file. It fails where a test does, or below a share of
WANTED. What is left out, and why, stands in pyproject.toml.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from coverage import Coverage

ROOT = Path(__file__).resolve().parent.parent
WANTED = {"lines": 95, "branches": 90}  # percent
TESTS = ("tests/refimpl", "refimpl", "tests/test_commands.py", "tests/test_programs.py")
CHANGED_COPIES = (
    "tests/refimpl/test_mutants.py",
    "tests/refimpl/test_mutation.py",
)  # of refimpl: they run none of its own


def shares(totals):
    """The percent of lines and of branches that were run; totals: of coverage.py's report in JSON."""
    return {
        "lines": 100 * totals["covered_lines"] / totals["num_statements"],
        "branches": 100 * totals["covered_branches"] / totals["num_branches"],
    }


def too_few(found):
    """The names of the shares that are below what is wanted."""
    return [name for name, percent in WANTED.items() if found[name] < percent]


def pytest_sessionfinish():
    """Write what was measured, as a plugin of each of pytest's processes: pytest-xdist kills those that end too slowly."""
    if measuring := Coverage.current():
        measuring.save()


def coverage(*words):
    """Call coverage.py, as pyproject.toml sets it, and give its exit code."""
    return subprocess.run([sys.executable, "-m", "coverage", *words], cwd=ROOT, check=False).returncode


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "COVERAGE_FILE": str(folder / "data"),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    }
    coverage("erase")
    failed = coverage(
        "run", "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "--hypothesis-profile=few", "-p", "no:cacheprovider",
        "-p", "covered", *(f"--ignore={path}" for path in CHANGED_COPIES), *TESTS,
    )  # fmt: skip
    coverage("combine", "--quiet")
    coverage("report", "--skip-covered", "--sort=miss")
    coverage("json", "--quiet", "-o", str(folder / "report.json"))
    found = shares(json.loads((folder / "report.json").read_text())["totals"])
    for name, percent in found.items():
        print(f"{percent:.2f} % of {name} were run, {WANTED[name]} % are wanted")
    return bool(failed or too_few(found))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
