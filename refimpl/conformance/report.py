"""What a run of the suite found: rows that print as a table and go into JSON."""

import json
import re
from dataclasses import asdict, dataclass

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"


@dataclass(frozen=True)
class Row:
    """One check in one dtype. detail: what was wrong, or which option left the check out. mistake, hint: the likely one."""

    check: str
    dtype: str
    verdict: str
    seconds: float = 0.0
    detail: str = ""
    mistake: str = ""
    hint: str = ""

    @property
    def cause(self):
        """What failures of one cause share: the mistake and, if the kernel raised, what it raised, whatever its numbers."""
        return self.mistake, re.sub(r"\d+", "", self.detail.partition(": raised ")[2])

    def __str__(self):
        text = f"{self.verdict:7s} {self.check} ({self.dtype})"
        if self.verdict != FAILED:
            return f"{text:58s} {self.detail or f'{self.seconds:.2f} s'}"
        return f"{text}: {self.detail}\n        likely mistake: {self.mistake}: {self.hint}"


@dataclass(frozen=True)
class Report:
    """The rows of a run. str() is a table of them, to_json() a text for programs."""

    name: str
    library: str
    rows: tuple[Row, ...]

    @property
    def failures(self) -> list[Row]:
        """The rows of failed checks."""
        return [row for row in self.rows if row.verdict == FAILED]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def mistake(self) -> str:
        """The name of the mistake that the failures most likely come from; "" if there is none."""
        for row in self.failures:
            if row.mistake not in ("unknown", "raises"):
                return row.mistake
        return self.failures[0].mistake if self.failures else ""

    @property
    def seconds(self):
        """What the checks took, together."""
        return sum(row.seconds for row in self.rows)

    def __str__(self):
        return "\n".join([self.summary(), *map(str, self.rows)])

    def summary(self):
        """One line: how many checks passed, and the likely mistake if some did not."""
        ran = [row for row in self.rows if row.verdict != SKIPPED]
        text = f"{self.name} on {self.library}: {len(ran) - len(self.failures)} of {len(ran)} checks passed, {self.seconds:.1f} s"
        return text if self.passed else f"{text}; likely mistake: {self.mistake}"

    def by_mistake(self):
        """The first failure of each cause, and the names of the others."""
        rows = {}
        for row in self.failures:
            rows.setdefault(row.cause, []).append(row)
        for first, *others in rows.values():
            also = ", ".join(f"{row.check} ({row.dtype})" for row in others)
            yield f"{first}\n        also in: {also}" if others else f"{first}"

    def to_json(self) -> str:
        """The report as JSON."""
        rows = [asdict(row) for row in self.rows]
        return json.dumps(
            {
                "retention": self.name,
                "library": self.library,
                "passed": self.passed,
                "mistake": self.mistake,
                "rows": rows,
            },
            indent=1,
        )


class ConformanceError(AssertionError):
    """A retention breaks the contract; `report` says where, the message is its failures and their likely mistake."""

    def __init__(self, report):
        super().__init__("\n".join([report.summary(), *report.by_mistake()]))
        self.report = report
