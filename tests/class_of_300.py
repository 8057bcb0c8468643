"""Grade a class of 300, a tenth of it hostile, and write what it took: python tests/class_of_300.py [FILE].

The numbers that exercises/README.md quotes are in exercises/results/class_of_300.json. The slowest animals
of the zoo are all in it.
"""

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from zoo import FULL, RIGHT, zoo

import exercises
from exercises.grading.batch import Batch
from exercises.grading.intake import find_entries
from exercises.grading.isolation import Limits
from exercises.grading.sandbox import choose_isolation
from refimpl.files import write_atomically

COURSE = Path(exercises.__file__).parent
SLOWEST = ("endless-loop", "endless-loop-deaf", "sleeper", "endless-import", "memory-hog-slowly", "fork-bomb-stubborn")
SLOWEST += ("prints-a-gigabyte", "sends-a-gigabyte", "deeper-recursion", "repr-recursion")


def write_class(folder, students, hostile):
    """Write the submissions of so many students, so many of them hostile, evenly spread."""
    animals = {name: animal for name, animal in zoo(COURSE).items() if animal.points == 0}
    chosen = [*SLOWEST, *(name for name in animals if name not in SLOWEST)][:hostile]
    every = students // hostile if hostile else students + 1
    for n in range(students):
        name = chosen[n // every] if n % every == 0 and n // every < hostile else ""
        suffix, content = (animals[name].suffix, animals[name].content) if name else (".py", RIGHT.encode())
        target = folder / f"student{n:03}{'-' + name if name else ''}" / f"ex01{suffix}"
        target.parent.mkdir()
        target.write_bytes(content if name else content + f"\n# {n}\n".encode())


def grade(students, hostile, isolation, workers):
    """Grade such a class, check every grade, and return (seconds, rows)."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "in")
        place.mkdir()
        write_class(place, students, hostile)
        began = time.perf_counter()
        rows = [
            row for _, row in Batch(find_entries(place)[0], Path(folder, "out"), isolation, Limits(), workers).run()
        ]
        seconds = time.perf_counter() - began
    assert len(rows) == students
    for row in rows:
        assert row["points"] == (0 if "-" in row["student"] else FULL), row
    return seconds, rows


def main(file=COURSE / "results" / "class_of_300.json"):
    """Grade and write the numbers."""
    isolation = choose_isolation()
    seconds, _ = grade(300, 30, isolation, workers=2)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    alone, rows = grade(20, 0, isolation, workers=1)
    result = {
        "submissions": 300,
        "hostile": 30,
        "workers": 2,
        "cores": os.cpu_count(),
        "isolation": isolation.name,
        "seconds": round(seconds, 1),
        "seconds_of_a_normal_submission_on_one_core": round(alone / len(rows), 2),
        "python": platform.python_version(),
    }
    write_atomically(file, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
