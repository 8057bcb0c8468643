"""CSV files that people open in spreadsheets: written so that no cell is a formula, read as people save them."""

import csv
import io
import re
import unicodedata
from pathlib import Path

from ..harness.runner import several

MARK = "\ufeff"  # the byte-order mark: without it Excel reads UTF-8 as the system's own encoding
LONGEST_CELL = 2000  # characters: Excel takes 32,767, Python's reader 131,072, a person fewer
# What begins a formula, and the forms of it that some systems turn into it; a test finds all with unicodedata.
SIGNS = "=+-@\u207a\u207b\u207c\u208a\u208b\u208c\u2a75\u2a76\ufb29\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20"
# A cell begins at the start and, where a spreadsheet splits at another character than we do, after that character.
_FORMULA = re.compile(rf"(^|[,;|])([\s\"\u200b-\u200f\u2060{MARK}]*)(?=[{re.escape(SIGNS)}].)")
_CONTROLS = re.compile(r"[\0-\x1f\x7f\x85\u2028\u2029]+")  # tabs and ends of lines too: those would end a cell


def harmless(value):
    """Return the value of a cell, a text as one line of which no part is a formula, whatever is taken for a separator.

    >>> harmless("=1+1"), harmless("Ada"), harmless(-1), harmless("a;@b")
    ("'=1+1", 'Ada', -1, "a;'@b")
    """
    if not isinstance(value, str):
        return value
    value = value if len(value) <= LONGEST_CELL else value[: LONGEST_CELL - 1] + "…"
    return _FORMULA.sub(r"\1'\2", _CONTROLS.sub(" ", value))


def csv_text(columns, rows, *, mark=True, separator=","):
    """Return the CSV of `rows`, dicts by column; mark: begin with the byte-order mark that Excel needs.

    With the separator ";" a number has a decimal comma: the spreadsheets that want one want the other.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow([harmless(column) for column in columns])
    for row in rows:
        cells = [harmless(row.get(column, "")) for column in columns]
        if separator == ";":
            cells = [f"{cell}".replace(".", ",") if isinstance(cell, float) else cell for cell in cells]
        writer.writerow(cells)
    return MARK * mark + text.getvalue()


def read_csv(path, columns):
    """Return the rows of a CSV file as dicts of stripped texts, with its line under "line"; blank rows are left out.

    columns: those it must have; their case is ignored. The separator is a comma, a semicolon or a tab, as its first line
    has. ValueError names the file and what is wrong in it.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} must be UTF-8, and is not: save it as CSV UTF-8") from None
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # for what others wrote
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count))
    names = [name.strip().lower() for name in next(reader, [])]
    missing = [column for column in columns if column not in names]
    if missing:
        raise ValueError(f"{path} must have the columns {', '.join(columns)}; it lacks {', '.join(missing)}")
    rows = []
    for cells in reader:
        if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
            raise ValueError(
                f"{path}, line {reader.line_num}: {several(len(cells), 'cell')}, but {several(len(names), 'column')}"
            )
        if any(cell.strip() for cell in cells):
            named = dict.fromkeys(names, "") | dict(zip(names, map(str.strip, cells), strict=False))
            rows.append(named | {"line": reader.line_num})
    return rows


def same_name(text):
    """Return what is equal for two spellings of a name: of case, Unicode form, spaces and apostrophes (ours too).

    >>> same_name("O'Brien  Zoe\u0308") == same_name("o'brien zo\xeb")
    True
    """
    return " ".join(unicodedata.normalize("NFC", re.sub("['\u2019]", "", text)).casefold().split())
