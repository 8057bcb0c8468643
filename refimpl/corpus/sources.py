"""Where the text of a corpus comes from: Debian packages of a TOML list, fetched by apt-get and checked, or any local path."""

import dataclasses
import hashlib
import os
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

from ..checks import check_choice
from ..training.settings import check_fields, check_keys, read_toml

SHIPPED = Path(__file__).with_name("debian.toml")
TEXT, DOMAIN = "text", "domain"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A package or a local path, and which of its files are text; TypeError or ValueError for an impossible one.

    name, version, licence: as the index of the corpus names them. sha256: of the package's file; "" for a local path.
    part: "text", which is split into training and held-out, or "domain", all of it held out as another domain.
    include, exclude: patterns of `fnmatch` over the whole path of a file; `*` also matches `/`.
    encoding: of the texts that are not Unicode; by default those are dropped.
    path: where the file or folder is; "" for a package that is yet to be found.
    """

    name: str
    version: str = ""
    licence: str = ""
    sha256: str = ""
    part: str = TEXT
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    encoding: str = ""
    path: str = ""

    def __post_init__(self):
        check_fields(self)
        check_choice("part", self.part, (TEXT, DOMAIN))
        try:
            "".encode(self.encoding or "utf-8")
        except LookupError:
            raise ValueError(f"encoding must be one that Python knows, got {self.encoding!r}") from None

    def wants(self, name):
        """True for the path of a file that is text of this source."""
        fits = (any(fnmatchcase(name, pattern) for pattern in patterns) for patterns in (self.include, self.exclude))
        return next(fits) and not next(fits)


def local(path, part=TEXT):
    """The `Source` of a folder, or of one file, which may be an archive; FileNotFoundError if there is none."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{'folder' if part == TEXT else part}: there is no file or folder {str(path)!r}")
    return Source(name=path.resolve().name, part=part, path=str(path))


def read_sources(path=SHIPPED):
    """The packages of a TOML list, as `Source`s in its order.

    Raises FileNotFoundError, or ValueError or TypeError if the list is none or a package lacks version or checksum.
    """
    tables = read_toml(path).get("source")
    if not isinstance(tables, list) or not tables:
        raise ValueError(f"sources: {str(path)!r} must hold tables [[source]], it holds none")
    found = []
    for table in tables:
        check_keys(Source, table, path)
        for key in ("name", "version", "licence", "sha256"):
            if not table.get(key):
                raise ValueError(f"sources: {key} must stand in each [[source]] of {str(path)!r}, got {table!r}")
        found.append(Source(**table))
    return found


def fetch(sources, folder, *, download=None, report=lambda line: None):
    """Fetch the packages that are not yet in `folder`, and check every one; returns the sources, each with its path.

    A fetch that was stopped goes on where it was. download: (source, folder) downloads into it; by default apt-get does.

    Raises:
        ValueError: a file has another checksum than the list says.
        OSError: apt-get is not here, or does not have that version.
    """
    folder, found = Path(folder), []
    for source in sources:
        path = _package(source, folder)
        if path is None:
            waiting = folder / f".{source.name}"  # a half-fetched file never has the place of a whole one
            waiting.mkdir(parents=True, exist_ok=True)
            (download or _apt_get)(source, waiting)
            path = _package(source, waiting)
            if path is None:
                raise FileNotFoundError(f"sources: the download of {source.name} {source.version} left no file")
            _check(source, path)
            path = path.replace(folder / path.name)
            shutil.rmtree(waiting)
            report(f"{source.name} {source.version}: fetched")
        else:
            _check(source, path)
        found.append(dataclasses.replace(source, path=str(path)))
    return found


def located(sources, folder):
    """The sources with the paths of their checked packages in `folder`; FileNotFoundError names those that are missing."""
    missing = [source.name for source in sources if _package(source, Path(folder)) is None]
    if missing:
        raise FileNotFoundError(
            f"packages: {str(folder)!r} lacks {', '.join(missing)}; python -m refimpl corpus fetch --packages {folder} "
            "fetches them, or copy the .deb files there"
        )
    return fetch(sources, folder)


def _package(source, folder):
    """The path of the package in the folder, None without; a colon in a version is %3a in the name of its file."""
    version = source.version.replace(":", "%3a")
    return next(iter(sorted(folder.glob(f"{source.name}_{version}_*.deb"))), None)


def _check(source, path):
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise ValueError(
            f"sources: {source.name} must have the sha256 {source.sha256}, the file {str(path)!r} has {found}; remove "
            "it to fetch it again"
        )


def _apt_get(source, folder):
    if shutil.which("apt-get") is None:
        raise FileNotFoundError(
            f"sources: {source.name} is fetched by apt-get, which is not here; put its .deb file into the folder of packages"
        )
    # As root, apt would become a user who may not write here.
    options = ["-o", "APT::Sandbox::User=root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = ["apt-get", *options, "download", f"{source.name}={source.version}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["no reason given"]
        raise OSError(
            f"sources: apt-get download {source.name}={source.version} failed: {reason[0]}; if that version is gone, "
            f"write another one and the checksum that `apt-cache show {source.name}` prints into a list of your own (--sources)"
        )
