"""Gradescope's autograder: a zip of what grades one exercise there, in the layout that Gradescope documents.

Layout and format: https://gradescope-autograders.readthedocs.io/en/latest/specs/. What runs there is
`grading/gradescope.py`, in the environment that `setup.sh` makes.
"""

import importlib.metadata
import io
import json
import re
import sys
import zipfile
from pathlib import Path

import refimpl
from refimpl.files import write_atomically

from ..checking.key import choose
from ..checking.secret import given
from ..grading.gradescope import SETTINGS, WHEN

PROJECT = "retnet-reference"
COURSE = Path(__file__).parents[1], Path(refimpl.__file__).parent
SETUP = """#!/usr/bin/env bash
# Gradescope runs this once, as root, when it builds the image.
set -euo pipefail
cd "$(dirname "$0")/.."
apt-get update
apt-get install -y bubblewrap python3-venv
python3 -m venv uv
uv/bin/python -m pip install uv
export UV_PYTHON_INSTALL_DIR="$PWD/python"  # not below /root, where the user that runs submissions cannot read it
uv/bin/python -m uv venv --python {python} venv
uv/bin/python -m uv pip install --python venv/bin/python -r source/requirements.txt
chmod -R go= source  # the answers are for root alone
"""
RUN = """#!/usr/bin/env bash
# Gradescope copies this to /autograder and runs it for each submission.
cd "$(dirname "$0")"
PYTHONPATH=source exec venv/bin/python -m exercises.grading.gradescope
"""


def write_autograder(out, exercise, hidden="after_published"):
    """Write the zip `out` that grades `exercise` at Gradescope; return {name in it: bytes}.

    hidden: when students see hidden checks, a key of `WHEN`. It holds the answers and, if there is
    one, the secret. The same course gives the same bytes. ValueError: `hidden` is none of `WHEN`, or `out` is no .zip.
    """
    choose("hidden", hidden, list(WHEN))
    if Path(out).suffix != ".zip":
        raise ValueError(f"OUT must be the name of a .zip file, got {str(out)!r}")
    settings = {"exercise": exercise, "hidden": hidden, "secret": given()}
    texts = {
        "setup.sh": SETUP.format(python=f"{sys.version_info.major}.{sys.version_info.minor}"),
        "run_autograder": RUN,
        "requirements.txt": "".join(f"{line}\n" for line in requirements()),
        SETTINGS: json.dumps(settings, indent=1) + "\n",
        # By this Python knows the version of a course that is not installed there.
        f"{PROJECT.replace('-', '_')}.dist-info/METADATA": f"Name: {PROJECT}\nVersion: {refimpl.__version__}\n",
    }
    files = {name: text.encode() for name, text in texts.items()}
    for package in COURSE:
        for path in sorted(package.rglob("*.py")):
            files[path.relative_to(package.parent).as_posix()] = path.read_bytes()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo(name)  # dated 1980, whenever it is made
            member.external_attr = (0o755 if name in ("setup.sh", "run_autograder") else 0o644) << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED)
    write_atomically(out, packed.getvalue())
    return files


def requirements():
    """Return lines `name==version` of what the course needs without extras, in the versions that are installed here."""
    needed = [line for line in importlib.metadata.requires(PROJECT) if "extra ==" not in line]
    names = [re.match(r"[\w.-]+", line)[0] for line in needed]
    return sorted(f"{name}=={importlib.metadata.version(name)}" for name in names)
