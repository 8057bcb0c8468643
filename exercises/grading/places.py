"""Folders and zip archives as one kind of place, read without trust: nothing is unpacked to disk and no link is followed."""

import contextlib
import io
import itertools
import os
import stat
import struct
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

MOST_BYTES = 20_000_000  # of a submission, and of an archive in an archive: enough for a notebook with pictures
MOST_DIRECTORY = 16_000_000  # bytes of an archive's list of files: about 150,000 names
MOST_NESTED = 3  # archives in archives


@dataclass(frozen=True)
class File:
    """A file: its name, where it is, and why it cannot be a submission, or "".

    path: of the file on disk; inside: the names of members, each in the archive that the one before it is.
    """

    name: str
    path: Path
    inside: tuple[str, ...] = ()
    reason: str = ""

    @property
    def is_archive(self):
        """Return whether it is to be looked into."""
        return not self.reason and self.name.lower().endswith(".zip")

    def read(self):
        """Return (bytes, reason): the content of a plain file, or why not."""
        if self.reason:
            return b"", self.reason
        file, reason = _open(self.path, MOST_BYTES if not self.inside else None)
        if reason:
            return b"", reason
        with file:
            return _member(file, self.inside) if self.inside else (file.read(MOST_BYTES), "")


@dataclass(frozen=True)
class Folder:
    """A folder, on disk or in an archive. tree: for one in an archive what is in it, by name, a `File` or another dict."""

    name: str
    path: Path
    tree: dict | None = field(default=None, repr=False, compare=False)

    def items(self):
        """Return the `File`s and `Folder`s in it in the order of their names; OSError if it cannot be listed."""
        if self.tree is not None:
            return [
                Folder(name, self.path, one) if isinstance(one, dict) else one
                for name, one in sorted(self.tree.items())
            ]
        with os.scandir(self.path) as found:
            return [_on_disk(one) for one in sorted(found, key=lambda one: one.name)]


def _on_disk(found):
    path = Path(found.path)
    try:
        if found.is_symlink():
            return File(found.name, path, reason="it is a link")
        if found.is_dir(follow_symlinks=False):
            return Folder(found.name, path)
        plain = found.is_file(follow_symlinks=False)
    except OSError as error:
        return File(found.name, path, reason=f"it cannot be read: {error.strerror}")
    return File(found.name, path, reason="" if plain else "it is not a plain file")


def opened(archive):
    """Return the `Folder` that an archive is, or the `File` with the reason why it cannot be looked into."""
    try:
        if len(archive.inside) >= MOST_NESTED:
            return _refused(archive, "it is an archive in an archive in an archive")
        if archive.inside:
            data, reason = archive.read()
            file = io.BytesIO(data)
        else:
            file, reason = _open(archive.path, None)
        if reason:
            return _refused(archive, reason)
        with file:
            if _directory_bytes(file) > MOST_DIRECTORY:
                return _refused(archive, "the archive holds too many files")
            with zipfile.ZipFile(file) as unpacked:
                return Folder(archive.name, archive.path, _tree(archive, unpacked.infolist()))
    except Exception as error:  # an archive may be broken in any way
        return _refused(archive, f"the archive cannot be read: {error or type(error).__name__}")


def _refused(file, reason):
    return File(file.name, file.path, file.inside, reason)


def _open(path, most):
    """Return (an open file, "") or (None, reason); most: bytes, or None."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return None, f"the file cannot be read: {error.strerror}"
    file = open(descriptor, "rb")  # noqa: SIM115
    state = os.fstat(descriptor)
    reason = "" if stat.S_ISREG(state.st_mode) else "it is not a plain file"
    if not reason and most is not None and state.st_size > most:
        reason = f"the file has {state.st_size / 1e6:.0f} MB, more than {most / 1e6:.0f}: clear its outputs"
    if reason:
        file.close()
    return (None if reason else file), reason


def _directory_bytes(file):
    """Return how long the list of files says it is, because zipfile reads it all."""
    file.seek(0, os.SEEK_END)
    file.seek(max(file.tell() - 65_557, 0))
    end = file.read()
    at = end.rfind(b"PK\5\6")
    return struct.unpack_from("<I", end, at + 12)[0] if 0 <= at <= len(end) - 22 else 0


def _tree(archive, members):
    """Return what is in an archive as nested dicts; of two members with one name the last counts, as for unpackers."""
    tree = {}
    for member in members:
        name = member.filename
        if not member.flag_bits & 0x800:  # the name was read as if by DOS, but most systems write UTF-8 there
            with contextlib.suppress(UnicodeError):
                name = name.encode("cp437").decode("utf-8")
        *folders, last = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")] or [""]
        place = tree
        for part in itertools.chain(folders, [last] if member.is_dir() else []):
            inner = place.get(part)
            place = inner if isinstance(inner, dict) else place.setdefault(f"{part}/" if inner else part, {})
        if last and not member.is_dir():
            link = stat.S_ISLNK(member.external_attr >> 16)
            reason = "it is a link" if link else "the archive has a password" if member.flag_bits & 1 else ""
            file = File(last, archive.path, (*archive.inside, member.filename), reason)
            place[f"{last}/" if isinstance(place.get(last), dict) else last] = file
    return tree


def _member(file, inside):
    """Return (bytes, reason) of a member, through archives in archives."""
    try:
        for name in inside:
            with zipfile.ZipFile(file) as archive, archive.open(name) as member:
                data = member.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                return b"", f"the file unpacks to more than {MOST_BYTES / 1e6:.0f} MB: clear its outputs"
            file = io.BytesIO(data)
    except Exception as error:  # an archive may be broken in any way
        return b"", f"the archive cannot be read: {error or type(error).__name__}"
    return data, ""
