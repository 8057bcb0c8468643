"""The files of a folder, or of an archive: a Debian package, a tar file, or one within another; nothing is written to disk."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from pathlib import Path

# Not tarfile's own decompression, which reads the first of several xz streams and no more.
ARCHIVES = {
    ".tar": lambda file: file,
    ".tar.xz": lzma.open,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
}
ZIPPED = (".gz", ".dz")  # dictzip is gzip with an index
AR = b"!<arch>\n"
LARGEST = 256_000_000  # bytes of a file; a larger one is no text that a model should read


def files(path, wants):
    """Yield (path, bytes) of each file for whose path within the folder or archive `wants` is true, in a fixed order.

    Hidden files of a folder are left out. A gzip file is opened; the path keeps its ending.

    Raises:
        ValueError: an archive is damaged, or packed in a way that Python 3.11 cannot read; the message names it.
    """
    path = Path(path)
    names = [each.relative_to(path) for each in sorted(path.rglob("*")) if each.is_file()] if path.is_dir() else [None]
    for name in names:
        if name is None or not any(part.startswith(".") for part in name.parts):
            inner = path.name if name is None else name.as_posix()
            file = path / name if name else path
            try:
                with open(file, "rb") as stream:
                    yield from _opened(inner, stream, file.stat().st_size, wants)
            except (tarfile.TarError, lzma.LZMAError, EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"sources: the archive {str(file)!r} cannot be read: {error}") from None


def _opened(name, stream, size, wants, depth=0):
    """The files of what stands at `name`: itself, or what an archive holds; an archive in one in one is data of a test."""
    if name.endswith(".deb"):
        name, stream = _data_of_package(stream, name)
    opens = next((opens for ending, opens in ARCHIVES.items() if name.endswith(ending)), None)
    if opens and depth < 2:
        with tarfile.open(fileobj=opens(stream), mode="r|") as archive:
            for member in archive:
                if member.isreg():
                    path = member.name.removeprefix("./")
                    yield from _opened(path, archive.extractfile(member), member.size, wants, depth + 1)
    elif wants(name) and size <= LARGEST:
        data = stream.read()
        if name.endswith(ZIPPED):
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error):
                return  # of that name, but no gzip file
        yield name, data


def _data_of_package(stream, name):
    """Name and stream of data.tar.* within a Debian package, which is an `ar` archive of three files."""
    if stream.read(len(AR)) != AR:
        raise tarfile.ReadError(f"{name} is no Debian package")
    while header := stream.read(60):
        member, size = header[:16].decode("ascii", "replace").strip(), header[48:58].decode("ascii", "replace").strip()
        if len(header) < 60 or not size.isdigit():
            break
        if member.rstrip("/") in ("data.tar", *(f"data{ending}" for ending in ARCHIVES)):
            return member.rstrip("/"), io.BufferedReader(_Until(stream, int(size)))
        stream.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise tarfile.ReadError(f"{name} holds no data.tar that Python can open")


class _Until(io.RawIOBase):
    """The next `size` bytes of a stream, as a stream."""

    def __init__(self, stream, size):
        self.stream, self.left = stream, size

    def readable(self):
        return True

    def readinto(self, buffer):
        data = self.stream.read(min(len(buffer), self.left))
        self.left -= len(data)
        buffer[: len(data)] = data
        return len(data)
