"""What becomes of a file: HTML without its navigation, or the reason why it is no text; and the files of archives."""

import gzip
import io
import tarfile

import pytest
from drawn_texts import package, prose

from refimpl.corpus.clean import clean, html_to_text, tidy
from refimpl.corpus.unpack import files

PAGE = """<!DOCTYPE html><html class="sidebar-visible"><head><title>T</title><style>p {}</style></head><body>
<div class="navheader"><table><tr><td>Prev<td>Next</table></div>
<nav><ul><li>Home<li>Up</nav>
<h1><a class="header" href="#c">Coroutines</a><a class="headerlink" href="#x">¶</a></h1>
<p>They   are <b>old</b> &amp;
new.<br>Here:</p>
<pre>def f():
    return  1
</pre>
<ul><li>one<li>two</ul>
<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>
<script>if (a < b) { x(); }</script><div role="navigation">links</div><p>End</p></body></html>"""


def test_html_loses_its_navigation_and_keeps_its_text():
    assert tidy(html_to_text(PAGE)) == (
        "Coroutines\n\nThey are old & new.\nHere:\n\ndef f():\n    return  1\n\none\ntwo\n\na b\nc\n\nEnd"
    )


def test_text_is_tidied():
    assert clean("a.txt", b"\xef\xbb\xbfone \r\n\r\n\r\n\r\ntwo\t\n\n", 1) == ("one\n\ntwo", None)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"", "empty"),
        ("a.png", b"\x89PNG\0", "binary"),
        ("a.txt", b"caf\xe9 " * 99, "not UTF-8"),
        ("a.txt", b"few words", "tiny"),
        ("a.c", b"/* Automatically generated, do not edit */\n" + prose(1).encode(), "generated"),
        ("a.h", b"0x1234, 0xabcd, 0x0042,\n" * 40, "numbers"),
        ("a.txt", b"the same line again and again\n" * 400, "repetitive"),
        ("a.html", b"<head><title>nothing</title></head><script>" + prose(1).encode() + b"</script>", "tiny"),
    ],
)
def test_what_is_dropped_says_why(name, data, reason):
    assert clean(name, data, 100) == (None, reason)


def test_another_encoding_is_read_where_it_is_named():
    assert clean("a.txt", b"fa\xe7ade", 1, "cp1252") == ("façade", None)


def test_archives_in_archives_are_opened_and_no_deeper(tmp_path):
    def tar(names):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, data in names.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return file.getvalue()

    inner = tar({"source/a.c": b"code", "source/tests/odd.tar.gz": b"damaged on purpose"})
    package(
        tmp_path / "a.deb",
        {"usr/src/source.tar.gz": inner, "usr/doc/b.txt.gz": gzip.compress(b"doc"), "usr/c.bin": b"c"},
    )
    found = dict(files(tmp_path, lambda name: not name.endswith(".bin")))
    assert found == {"source/a.c": b"code", "usr/doc/b.txt.gz": b"doc"}


@pytest.mark.parametrize("cut", [4, 70, 300])
def test_a_damaged_archive_is_named(tmp_path, cut):
    package(tmp_path / "a.deb", {"b.txt": prose(1).encode()})
    data = (tmp_path / "a.deb").read_bytes()
    (tmp_path / "a.deb").write_bytes(data[:cut])
    with pytest.raises(ValueError, match=r"sources: the archive '.*a\.deb' cannot be read"):
        list(files(tmp_path / "a.deb", lambda name: True))
