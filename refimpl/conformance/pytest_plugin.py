"""Checks as tests: `pytest --pyargs refimpl.conformance --retention mypackage.module:function`, one for each check and dtype.

pytest loads this file in every run where the package is installed, so it imports the suite only once a retention is named.
"""

from pathlib import Path

import pytest

from .options import described, keywords, retention_of


def pytest_addoption(parser):
    """Add --retention, and the options of `check` as --retention-NAME."""
    group = parser.getgroup("retention", "conformance of a retention")
    group.addoption(
        "--retention", metavar="MODULE:FUNCTION", help="the retention that --pyargs refimpl.conformance tests"
    )
    for name, kind, _, text in described():
        dashed = name.replace("_", "-")
        if kind is bool:
            group.addoption(
                f"--retention-no-{dashed}", action="store_false", dest=f"retention_{name}", help=f"not: {text}"
            )
        else:
            group.addoption(f"--retention-{dashed}", dest=f"retention_{name}", type=kind, help=text)


def pytest_collect_file(file_path, parent):
    """The contract's file holds the tests, if a retention is named."""
    if parent.config.getoption("retention") and file_path == Path(__file__).with_name("contract.py"):
        return Contract.from_parent(parent, path=file_path)
    return None


class Contract(pytest.File):
    """Every check in every dtype."""

    def collect(self):
        """Make the tests, without a call of the retention."""
        from .contract import planned
        from .suite import dtypes_of, kernel_of

        given = {name: self.config.getoption(f"retention_{name}") for name, *_ in described()}
        options = keywords({name: value for name, value in given.items() if value is not None})
        dtypes = options.pop("dtypes", None)
        try:
            kernel = kernel_of(retention_of(self.config.getoption("retention")), **options)
            dtypes = dtypes_of(kernel, dtypes)
        except (ValueError, TypeError, ImportError) as error:
            raise pytest.UsageError(f"--retention: {error}") from None
        for check, dtype in planned(dtypes):
            name = f"{check.__name__}[{dtype}]"
            yield Check.from_parent(self, name=name, check=check, kernel=kernel, dtype=dtype)


class Check(pytest.Item):
    """One check in one dtype."""

    def __init__(self, *, check, kernel, dtype, **node):
        super().__init__(**node)
        self.check, self.kernel, self.dtype = check, kernel, dtype

    def runtest(self):
        """Skip what is declared not to be; fail with the row of the report."""
        from .report import FAILED, SKIPPED, ConformanceError, Report
        from .suite import run_one

        row = run_one(self.kernel, self.check, self.dtype)
        if row.verdict == SKIPPED:
            pytest.skip(row.detail)
        if row.verdict == FAILED:
            raise ConformanceError(Report(self.config.getoption("retention"), self.kernel.library.name, (row,)))

    def repr_failure(self, excinfo, style=None):
        """The row alone: where it was wrong, by how much, and the likely mistake."""
        if hasattr(excinfo.value, "report"):
            (row,) = excinfo.value.report.rows
            return f"{row}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        """Where the test stands, for the list of tests."""
        return self.path, None, self.name
