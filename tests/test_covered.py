"""What `make coverage` demands, which `make test` does not run, and what it leaves out."""

import re
import tomllib

import covered
import pytest
from paths import ROOT


@pytest.mark.parametrize(
    ("lines", "branches", "short"),
    [(950, 450, []), (949, 450, ["lines"]), (950, 449, ["branches"]), (1000, 0, ["branches"]), (0, 0, ["lines", "branches"])],
)  # fmt: skip
def test_lines_and_branches_are_demanded_apart(lines, branches, short):
    totals = {"covered_lines": lines, "num_statements": 1000, "covered_branches": branches, "num_branches": 500}
    assert covered.too_few(covered.shares(totals)) == short


def test_all_that_is_run_is_there():
    assert all((ROOT / path).exists() for path in (*covered.TESTS, *covered.CHANGED_COPIES))


def test_only_what_numba_compiles_is_left_out():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["coverage"]["report"]["exclude_also"]
    for pattern in patterns:
        found = {
            path.relative_to(ROOT).as_posix()
            for path in ROOT.glob("refimpl/**/*.py")
            if re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
        }
        assert found == {"refimpl/compiled/heads.py"}, pattern
