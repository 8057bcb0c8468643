"""The list of exercises in this release. Each has a file: the answer key of its visible checks."""

from pathlib import Path

from .key import choose, from_json

FOLDER = Path(__file__).parent.parent


def exercise_names():
    """Return the names of all exercises, in order."""
    return sorted(path.stem for path in FOLDER.glob("ex*.json"))


def load(name):
    """Return the `AnswerKey` of the exercise called `name`; ValueError for any other name."""
    choose("exercise", name, exercise_names())
    return from_json((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
