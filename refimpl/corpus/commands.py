"""The commands `python -m refimpl corpus`: fetch, build, show, pack and unpack."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..cli import path, program, say, with_options
from .build import CorpusConfig
from .build import build as build_corpus
from .describe import lines_of_parts, passages_of, table_of_sources
from .pack import pack as pack_corpus
from .pack import unpack as unpack_parts
from .recode import as_bytes, mixed
from .shards import damaged, load_shards, read_index
from .sources import DOMAIN, SHIPPED, located, read_sources
from .sources import fetch as fetch_packages
from .sources import local as local_source

List = Annotated[
    Path | None, typer.Option(help="list of Debian packages as TOML, by default ours", show_default=False, parser=path)
]
Packages = Annotated[Path, typer.Option(help="folder of the packages, .deb files", parser=path)]
Folder = Annotated[Path, typer.Argument(help="folder of the corpus", parser=path)]
Processes = Annotated[int, typer.Option(min=1, help="processes, each on one core")]
PACKAGES, CORPUS = Path("data/packages"), Path("data/corpus")


def _report():
    console = Console()
    return lambda line: say(line, console)


def fetch(*, sources: List = None, packages: Packages = PACKAGES):
    """Fetch the packages of a list by apt-get download, and check their sums; goes on where it was stopped."""
    found = fetch_packages(read_sources(sources or SHIPPED), packages, report=_report())
    _report()(f"{len(found)} packages, {sum(Path(each.path).stat().st_size for each in found):,} bytes: {packages}")


@with_options(CorpusConfig)
def build(
    *,
    folder: Annotated[
        list[Path] | None,
        typer.Option(help="folder or archive of text; may be given again; by default the packages", parser=path),
    ] = None,
    domain: Annotated[
        list[Path] | None,
        typer.Option(
            help="the same, of another domain, all held out; by default none", show_default=False, parser=path
        ),
    ] = None,
    sources: List = None,
    packages: Packages = PACKAGES,
    out: Annotated[Path, typer.Option(help="folder of the corpus", parser=path)] = CORPUS,
    processes: Processes = 2,
    settings,
):
    """Clean the texts, remove duplicates, split by file, learn byte pairs, write shards; goes on where it was stopped."""
    if folder or domain:
        if sources:
            raise ValueError("sources must not be given together with folder or domain")
        chosen = [*map(local_source, folder or []), *(local_source(each, DOMAIN) for each in domain or [])]
    else:
        chosen = located(read_sources(sources or SHIPPED), packages)
    words = ["python", "-m", "refimpl", "corpus", "build", *(["--sources", sources.name] if sources else [])]
    for each in chosen if folder or domain else ():
        words += ["--domain" if each.part == DOMAIN else "--folder", each.name]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", f"{value}"]
    build_corpus(
        chosen, out, CorpusConfig(**settings), processes=processes, command=shlex.join(words), report=_report()
    )
    show(out)


def show(
    folder: Folder = CORPUS,
    *,
    check: Annotated[bool, typer.Option("--check", help="read every shard and compare its checksum")] = False,
    passages: Annotated[int, typer.Option(min=0, help="passages to print from each part")] = 0,
):
    """What a corpus holds, and where it comes from."""
    index, console = read_index(folder), Console()
    console.print(table_of_sources(index))
    for line in lines_of_parts(index):
        say(line, console)
    if check:
        if bad := [shard["file"] for shard in damaged(folder, index)]:
            raise ValueError(f"folder: of {str(folder)!r} are damaged or missing: {', '.join(bad)}")
        say("every shard has its checksum", console)
    for passage in passages_of(load_shards(folder), passages) if passages else ():
        say(passage, console)


def pack(
    folder: Folder = CORPUS,
    *,
    out: Annotated[Path, typer.Option(help="folder of the parts", parser=path)] = Path("data/packed"),
    part_mib: Annotated[int, typer.Option(min=1, help="size of a part at most, in MiB")] = 60,
    tokens: Annotated[
        int | None,
        typer.Option(help="pack the first shards with so many training tokens; by default all", show_default=False),
    ] = None,
    processes: Processes = 2,
):
    """Compress the shards into parts, each a folder below a size, for a machine without network."""
    parts = pack_corpus(folder, out, part_mib=part_mib, tokens=tokens, processes=processes, report=_report())
    size = sum(file.stat().st_size for part in parts for file in part.iterdir())
    _report()(f"{len(parts)} parts, {size:,} bytes: {out}")


def unpack(
    parts: Annotated[list[Path], typer.Argument(help="folders of parts, or a folder of them", parser=path)],
    *,
    out: Annotated[Path, typer.Option(help="folder of the corpus", parser=path)] = CORPUS,
    processes: Processes = 2,
):
    """Unpack parts, all at once or one after another; says which shards are still missing."""
    missing = unpack_parts(parts, out, processes=processes, report=_report())
    _report()(
        f"{out}: " + (f"{len(missing)} shards are still missing, the first is {missing[0]}" if missing else "complete")
    )


def recode(
    folder: Folder = CORPUS,
    *,
    out: Annotated[Path, typer.Option(help="folder of the byte shards", parser=path)] = Path("data/corpus-bytes"),
    processes: Processes = 2,
):
    """Write the shards as bytes, for models that read bytes: the same texts in the same order."""
    command = f"python -m refimpl corpus recode {shlex.quote(folder.name)}"
    as_bytes(folder, out, processes=processes, command=command, report=_report())
    _report()(f"bytes: {out}")


def mix(
    corpus: Annotated[str, typer.Argument(help="kjv, a text file or folder, or several joined by ' + '")],
    folder: Annotated[Path, typer.Argument(help="folder of byte shards", parser=path)] = Path("data/corpus-bytes"),
    *,
    out: Annotated[Path, typer.Option(help="folder of the mixed shards", parser=path)] = Path("data/mixed"),
    times: Annotated[int, typer.Option(help="how often the corpus stands there", min=1)] = 1,
    shards: Annotated[int | None, typer.Option(help="training shards of FOLDER to take; by default all", min=1)] = None,
):
    """Write byte shards that hold another corpus beside FOLDER's, to be read together."""
    command = f"python -m refimpl corpus mix {shlex.quote(corpus)} {shlex.quote(folder.name)} --times {times}"
    command += f" --shards {shards}" if shards else ""
    mixed(folder, corpus, out, times=times, shards=shards, command=command, report=_report())
    _report()(f"bytes: {out}")


corpus = program("Build a large corpus of token shards, and carry it.", (fetch, build, show, pack, unpack, recode, mix))
