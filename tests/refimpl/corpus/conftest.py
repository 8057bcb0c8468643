"""A small folder of texts, and another of another domain."""

import pytest
from drawn_texts import prose

from refimpl.corpus.sources import DOMAIN, local


@pytest.fixture
def texts(tmp_path):
    """Two folders: texts, with a duplicate, a near duplicate, and files that are no text; and another domain."""
    folder, domain = tmp_path / "texts", tmp_path / "dictionary"
    (folder / "deep").mkdir(parents=True)
    domain.mkdir()
    for i in range(30):
        (folder / f"text{i:02d}.txt").write_text(prose(i))
    (folder / "deep" / "page.html").write_text(f"<title>no</title><nav>no way</nav><h1>Head</h1><p>{prose(100)}</p>")
    (folder / "deep" / "copy.txt").write_text(prose(3))
    (folder / "deep" / "near.txt").write_text(prose(4).replace(prose(4).split()[200], "changed", 1))
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0")
    (folder / ".hidden.txt").write_text(prose(101))
    (folder / "short.txt").write_text("too short")
    for i in range(3):
        (domain / f"entry{i}.txt").write_text(prose(200 + i))
    (domain / "shared.txt").write_text(prose(5))  # so text05.txt goes
    return [local(folder), local(domain, DOMAIN)]
