"""The glossary names every argument of the package, keeps its columns, and its links lead somewhere."""

import inspect
import re

import pytest
from paths import NOTEBOOKS

import refimpl
import refimpl.backward
from refimpl.layers import rms_norm

TEXT = (NOTEBOOKS / "GLOSSARY.md").read_text(encoding="utf-8")
DEFINED = dict(re.findall(r"^\[(\w+)\]: (\S+)$", TEXT, re.MULTILINE))
PUBLIC = [getattr(refimpl, name) for name in refimpl.__all__] + [
    rms_norm,
    *(getattr(refimpl.backward, f"retention_{form}_backward") for form in ("parallel", "recurrent", "chunkwise")),
]


def tables():
    """The rows of each table, as lists of cells."""
    for block in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE):
        yield [[cell.strip() for cell in row.strip("|").split("|")] for row in block.splitlines()]


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.__name__)
def test_every_argument_is_there(function):
    first_columns = {code for table in tables() for row in table for code in re.findall(r"`(\w+)`", " ".join(row[:2]))}
    assert set(inspect.signature(function).parameters) <= first_columns


def test_every_row_has_the_columns_of_its_table():
    for header, _, *rows in tables():
        assert rows
        for row in rows:
            assert len(row) == len(header), row


def test_links_lead_to_files():
    inline = re.findall(r"\]\((?!https:)([^)#]+)", TEXT)
    for link in [*inline, *DEFINED.values()]:
        assert (NOTEBOOKS / link).is_file(), link


def test_every_lesson_is_referred_to_by_its_number():
    lessons = {path.name for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")}
    assert lessons <= set(DEFINED.values())
    for name, file in DEFINED.items():
        assert file.startswith(f"{int(name):02d}_" if name.isdigit() else "00_start_here")
    used = set(re.findall(r"\[(\w+)\](?![:(])", TEXT)) - {"0"}  # `k[0]`
    assert used == set(DEFINED)


def test_words_are_in_order():
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", TEXT, re.MULTILINE)
    assert len(words) > 20
    assert words == sorted(words, key=str.casefold)
