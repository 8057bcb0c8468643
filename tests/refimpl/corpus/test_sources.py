"""Lists of packages, their fetching and their checksums."""

import hashlib
import subprocess

import pytest

from refimpl.corpus import sources
from refimpl.corpus.sources import DOMAIN, Source, fetch, local, located, read_sources


@pytest.fixture
def source():
    return Source(name="a-doc", version="1:2.0-3", licence="MIT", sha256=hashlib.sha256(b"package").hexdigest())


def downloads(data):
    def download(source, folder):
        (folder / f"{source.name}_1%3a2.0-3_all.deb").write_bytes(data)

    return download


def test_the_shipped_list_names_version_licence_and_checksum():
    found = read_sources()
    assert [each.name for each in found if each.part == DOMAIN] == ["dict-gcide"]
    assert all(len(each.sha256) == 64 and each.version and each.licence and not each.path for each in found)
    linux = found[0]
    assert linux.wants("linux-source-6.1/mm/slab.c")
    assert not linux.wants("linux-source-6.1/drivers/gpu/drm/amd/include/asic_reg/a.h")


def test_fetch_checks_and_fetches_nothing_twice(tmp_path, source):
    (found,) = fetch([source], tmp_path, download=downloads(b"package"))
    assert found.path == str(tmp_path / "a-doc_1%3a2.0-3_all.deb")
    assert [path.name for path in tmp_path.iterdir()] == ["a-doc_1%3a2.0-3_all.deb"]
    assert fetch([source], tmp_path, download=None) == [found] == located([source], tmp_path)


def test_a_wrong_checksum_is_refused(tmp_path, source):
    with pytest.raises(ValueError, match="a-doc must have the sha256"):
        fetch([source], tmp_path, download=downloads(b"another"))
    assert not list(tmp_path.glob("*.deb"))
    (tmp_path / "a-doc_1%3a2.0-3_all.deb").write_bytes(b"another")
    with pytest.raises(ValueError, match=r"the file '.*a-doc_1%3a2.0-3_all.deb' has .* remove it"):
        located([source], tmp_path)


def test_missing_packages_are_named(tmp_path, source):
    with pytest.raises(FileNotFoundError, match=r"packages: .* lacks a-doc; python -m refimpl corpus fetch"):
        located([source], tmp_path)


def test_apt_get_s_failure_is_told(tmp_path, source, monkeypatch):
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="apt-get, which is not here"):
        fetch([source], tmp_path)
    monkeypatch.setattr(sources.shutil, "which", lambda name: name)
    done = subprocess.CompletedProcess([], 100, "", "E: Version '1:2.0-3' for 'a-doc' was not found\n")
    asked = []
    monkeypatch.setattr(sources.subprocess, "run", lambda command, **options: asked.append(command) or done)
    with pytest.raises(OSError, match=r"was not found; .* list of your own \(--sources\)"):
        fetch([source], tmp_path)
    assert asked[0][-2:] == ["download", "a-doc=1:2.0-3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold tables"),
        ("[[source]]\nname = 'a'", "version must stand in"),
        ("[[source]]\nname = 'a'\nlicense = 'MIT'", "did you mean 'licence'"),
        ("[[source]]\nname = 'a'\nversion = '1'\nlicence = 'MIT'\nsha256 = 'x'\npart = 'test'", "part must be one of"),
        (
            "[[source]]\nname = 'a'\nversion = '1'\nlicence = 'MIT'\nsha256 = 'x'\nencoding = 'utf-99'",
            "encoding must be",
        ),
    ],
)
def test_a_wrong_list_is_refused(tmp_path, text, message):
    (tmp_path / "list.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_sources(tmp_path / "list.toml")


def test_a_local_path_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder: there is no"):
        local(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="domain: there is no"):
        local(tmp_path / "none", DOMAIN)
