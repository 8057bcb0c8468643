"""What tests of the grader share: its kinds of isolation, the tables that it writes, the processes that it starts."""

import csv
import functools
import json
import re
import subprocess
from pathlib import Path

import exercises
from exercises.grading import sandbox
from exercises.grading.sandbox import candidates

COURSE = Path(exercises.__file__).parent
WAYS = {"bubblewrap": next(candidates("bubblewrap")), "limits only": next(candidates("limits"))}
# Wrong answers that do in the visible checks what those on the right do, and are told their mistake.
AGREE = {"keeps the state transposed": "transposes the outer product"}
why_not = functools.cache(sandbox.why_not)


def rows_of(out):
    with open(out / "grades.csv", newline="", encoding="utf-8-sig") as file:
        return {row["student"].removeprefix("'"): row for row in csv.DictReader(file)}


def results_of(out, row):
    return json.loads((out / row["feedback"]).with_name("results.json").read_text(encoding="utf-8"))


def processes():
    """{process: (its parent, its command line)}, without those that have ended and wait to be collected."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    table = re.findall(r"^ *(\d+) +(\d+) +(.*)$", listed, re.MULTILINE)
    return {int(pid): (int(parent), command) for pid, parent, command in table if "<defunct>" not in command}


def descendants(process):
    """The processes below `process`."""
    table, found = processes(), {process}
    for _ in range(6):
        found |= {pid for pid, (parent, _) in table.items() if parent in found}
    return found - {process}
