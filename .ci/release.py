"""What a release says: its part of CHANGELOG.md, and the checksums of its distributions.

    python .ci/release.py dist [--tag v0.2.0]     # writes dist/RELEASE.md and dist/SHA256SUMS

A tag must be that of the version, and its part of CHANGELOG.md must have a date.
"""

import argparse
import hashlib
import re
from pathlib import Path

from refimpl import __version__
from refimpl.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
NOTES = """# retnet-reference {heading}

{changes}

## Checksums

`sha256sum --check SHA256SUMS` compares the files that you have with these.

```
{sums}```
"""


def part(changelog, version):
    """(heading, text) of a version's part of the changelog; ValueError if there is none."""
    found = re.search(rf"^## ({re.escape(version)}\b[^\n]*)\n+(.*?)\s*(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"changelog must have a part '## {version} (date)', got none")
    return found.groups()


def checksums(folder, version):
    """The lines of SHA256SUMS of the sdist and the wheel of `version` in a folder; ValueError unless both are there, alone."""
    files = sorted([*Path(folder).glob("*.tar.gz"), *Path(folder).glob("*.whl")])
    if [re.sub(rf"-{re.escape(version)}(-[\w.-]+\.whl|\.tar\.gz)$", "", path.name) for path in files] != [
        "retnet_reference"
    ] * 2:
        names = [path.name for path in files]
        raise ValueError(f"folder must hold the sdist and the wheel of {version} and no other, got {names}")
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def notes(folder, changelog, version, tag=""):
    """(RELEASE.md, SHA256SUMS) of the distributions in a folder. tag: that of the release, '' for none yet."""
    heading, changes = part(changelog, version)
    if tag and (tag != f"v{version}" or not re.search(r"\(\d{4}-\d\d-\d\d\)$", heading)):
        raise ValueError(f"tag must be v{version}, and CHANGELOG.md date its part; got {tag} and '## {heading}'")
    sums = checksums(folder, version)
    return NOTES.format(heading=heading, changes=changes, sums=sums), sums


def main():
    """Write both files from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the sdist and the wheel")
    parser.add_argument("--tag", default="", help="of the release")
    given = parser.parse_args()
    try:
        texts = notes(given.folder, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), __version__, given.tag)
    except ValueError as error:
        parser.error(f"{error}")
    for name, text in zip(("RELEASE.md", "SHA256SUMS"), texts, strict=True):
        write_atomically(given.folder / name, text)
        print(given.folder / name)


if __name__ == "__main__":
    main()
