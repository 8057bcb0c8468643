"""The folder of a run: one process at a time works in it, nothing in it is lost in silence, and a run goes on from it."""

import dataclasses
import os
import socket
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ..files import write_atomically
from .bpe import Tokenizer
from .checkpoint import load_checkpoint
from .loop import Progression, Text, load_text, open_log, read_log
from .settings import to_toml
from .start import load_start

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
MAY_DIFFER = (
    "corpus",
    "steps",
    "parallelism",
)  # from the checkpoint's; the text itself is compared, wherever it is now


@contextmanager
def locked(out):
    """Within, this process alone works in the folder of a run, which is made; a ValueError names the process that does.

    The kernel holds the lock for as long as the process lives, so none is left behind. Windows, and file systems that
    lock nothing, have none.
    """
    out = Path(out)
    with _usable(out):
        made = [folder for folder in (out, *out.parents) if not folder.exists()]
        if not made and not out.is_dir():
            raise ValueError(f"out must be a folder, {str(out)!r} is none")
        out.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(out / LOCK):
            yield
    finally:
        with suppress(OSError):  # it holds a run
            for folder in made:
                folder.rmdir()


@contextmanager
def _usable(out):
    """Within, an OSError becomes one that names out."""
    try:
        yield
    except OSError as error:
        raise OSError(f"out must be a folder that can be written to, {str(out)!r} is none: {error.strerror}") from None


@contextmanager
def _lock(path):
    while True:
        with _usable(path.parent):
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 it is closed below
        with file:
            _take(file, path)
            if not _is_there(file, path):
                continue  # its owner has just removed it
            file.truncate(0)
            file.write(f"process {os.getpid()} of {socket.gethostname()}")
            file.flush()
            try:
                yield
                return
            finally:
                with suppress(OSError):  # Windows removes no open file
                    path.unlink()


def _take(file, path):
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise ValueError(
            f"out must be a folder that no other run works in; {file.read() or 'another process'} works in "
            f"{str(path.parent)!r}: wait for it, stop it, or give another --out (out)"
        ) from None
    except OSError:  # the file system has no locks
        pass


def _is_there(file, path):
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


class Begun(NamedTuple):
    """What a run starts with.

    text: its `Text`, or the `Questions` of its task; fingerprint: of that text. progression: the `Progression` to go on from, None at the start.
    params: the parameters of config.from_weights, None without or if the run goes on.
    """

    text: Text
    fingerprint: str
    progression: Progression | None
    params: dict | None


def begin(out, config, files, *, resume=False, fresh=False):
    """Prepare the folder of a run, which `locked` holds; returns a `Begun`.

    Args:
        out: the folder.
        config: a `TrainConfig`, or a class made of it.
        files: the names of the files of a run; the last one is written at the end, so it marks a finished run.
        resume: go on from the checkpoint, if there is one; a larger config.steps goes on after its end.
        fresh: replace a run that is there.

    Raises:
        ValueError, OSError: there is a run and neither resume nor fresh is given; config or text are not those of the
            checkpoint; the corpus or the weights to start from cannot be read or do not fit config.
    """
    out = Path(out)
    kept, finished = None if fresh else load_checkpoint(out, type(config)), (out / files[-1]).exists()
    if not (resume or fresh):
        _refuse_a_run(out, kept, finished)
    if resume and finished and kept is None:
        raise ValueError(
            f"resume: the finished run in {str(out)!r} has no checkpoint; --fresh (fresh=True) replaces it"
        )
    start = tokenizer = None
    if kept is not None:
        _check_settings(kept, config)
        tokenizer = Tokenizer.load(out / "tokenizer.json") if (out / "tokenizer.json").exists() else None
    elif config.from_weights is not None:
        start = load_start(config.from_weights)
        start.check(config)
        _spare(start.path, out, files)
        tokenizer = start.tokenizer
    text = load_text(config, tokenizer)
    fingerprint = text.fingerprint
    progression = None
    if kept is not None:
        if kept.text != fingerprint:
            raise ValueError(
                f"corpus must be the text that the checkpoint was trained on, {config.corpus!r} has changed"
            )
        progression = kept.progression
        open_log(out, progression.log_bytes).close()  # a log that is too short raises here, and a damaged one below
        read_log(out)
        if config.steps > kept.config.steps:
            progression.extended.append([progression.step, kept.config.steps])
            (out / files[-1]).unlink(missing_ok=True)  # it is no finished run any more
    for name in files:  # half-written files of a killed run, and of another run all
        for path in [*out.glob(f".{name}.*"), *([out / name] if kept is None else [])]:
            path.unlink(missing_ok=True)
    write_atomically(out / "run.toml", to_toml(config))
    if text.tokenizer is not None:
        text.tokenizer.save(out / "tokenizer.json")
    return Begun(text, fingerprint, progression, start and start.params)


def _refuse_a_run(out, kept, finished):
    if finished:
        raise ValueError(
            f"out must be a folder without a run; {str(out)!r} holds a finished one: --fresh (fresh=True) replaces it, "
            "--resume (resume=True) with a larger --steps (steps) goes on after its end, another --out (out) keeps both"
        )
    if kept is not None:
        raise ValueError(
            f"out must be a folder without an unfinished run; {str(out)!r} holds one, at step {kept.progression.step}: "
            "--resume (resume=True) goes on with it, --fresh (fresh=True) replaces it"
        )


def _spare(weights, out, files):
    """Refuse to replace the weights that a run starts from, or what lies beside them, by that run."""
    theirs, ours = [weights, *([weights.parent] if weights.is_file() else [])], [out, *(out / name for name in files)]
    if any(path.exists() and path.samefile(each) for path in ours for each in theirs):
        raise ValueError(
            f"out must be another folder than that of from_weights, which the run would replace; {str(weights)!r} is in "
            f"{str(out)!r}"
        )


def _check_settings(kept, config):
    for name, value in dataclasses.asdict(config).items():
        if getattr(kept.config, name) != value and name not in MAY_DIFFER:
            raise ValueError(f"{name} must be {getattr(kept.config, name)!r} as in the checkpoint, got {value!r}")
    if config.steps < kept.config.steps:
        raise ValueError(
            f"steps must be at least {kept.config.steps} as in the checkpoint (more go on after its end), got {config.steps}"
        )
