"""The harness inside the sandbox: it takes one question at a time and forks a process for each.

The harness itself never runs student code, and holds no answer. The forked process keeps one
descriptor, the pipe for its answer, confines itself, and then reads the submission and calls the
function. The harness passes on what comes out of the pipe and does not trust it: the grader compares
it with answers that never enter the sandbox.
"""

import contextlib
import gc
import importlib
import os
import re
import select
import signal
import sys
import time

from .cells import UnusableError
from .confine import Confinement
from .runner import describe_error, find_and_run
from .submission import collect_bytes, only_needed
from .wire import MOST_PAYLOAD, PATIENCE, call_from_bytes, frame, read_frame, run_to_bytes

# Imported once, before student code runs: afterwards their folders may be out of reach.
LIKELY = """
abc array asyncio bisect cmath collections contextlib copy dataclasses decimal enum fractions functools heapq inspect
itertools json logging math numbers operator pathlib pprint random re statistics string textwrap time timeit
traceback typing warnings
encodings.cp1252 encodings.iso8859_15 encodings.latin_1 encodings.utf_8_sig
numpy.fft numpy.lib.stride_tricks numpy.linalg numpy.ma numpy.polynomial numpy.random
"""
# Imports that a submission names are made before it runs too. These have effects of their own.
NOT_IMPORTED = {"antigravity", "idlelib", "turtledemo"}
NAMES_MODULES = re.compile(rb"\bfrom[ \t]+([\w.]+)[ \t]+import[ \t(]+([\w, \t]+)|\bimport[ \t]+([\w., \t]+)")
NAMES_LAZY = re.compile(rb"\.(testing|ctypeslib|char|rec|strings|typing|core|exceptions|dtypes)\b")  # of NumPy
MOST_IMPORTS = 100
READY = b"confined"


def main(settings):
    """Answer questions from standard input on standard output until it ends."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):  # nothing printed reaches the grader
        os.dup2(nothing, standard)
    for name in LIKELY.split():
        importlib.import_module(name)
    sys.path = [path for path in sys.path if path != settings["packages"]]
    # Under limits alone the course's files may be readable. With no package to look in, none of them can be imported.
    for name in [name for name in sys.modules if name.partition(".")[0] == __package__.partition(".")[0]]:
        del sys.modules[name]
    confinement = Confinement(settings["limits"], settings["readable"])
    switched = _switch_to(settings["user"])
    confinement.keep_others_out()
    gc.freeze()  # what is loaded by now stays shared with the processes forked from here
    alone = os.getpid() == 1 or switched
    seen = [path for path in settings["unseen"] if os.path.lexists(path)]
    in_force = [*confinement.in_force, *(["a user of its own"] if switched else [])]
    _write(sink, frame({"in_force": in_force, "seen": seen}))
    while True:
        try:
            header, payload = read_frame(lambda n: _read(source, n))
        except EOFError:
            return
        with contextlib.suppress(BrokenPipeError):
            _write(sink, frame(*_ask(header, payload, confinement, alone, source)))


def _switch_to(user):
    """Become `user` (a number, or None for no change) if the system permits it; return whether it did."""
    if user is None:
        return False
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError:
        return False
    return True


def _ask(header, payload, confinement, alone, source):
    """Return (how it ended, the bytes that came) of one question, answered by a new process.

    source: where questions come from. It stays silent until there is an answer, unless the grader ends.
    """
    asker, waited = os.getpid(), _waited("self")
    reader, writer = os.pipe()
    ready, set_up = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _answer(header, payload, confinement, asker, writer, set_up)
        finally:
            os._exit(1)
    os.close(writer)
    os.close(set_up)
    ready_or_error = os.read(ready, 1000)  # Trusted: written before student code runs.
    os.close(ready)
    data, end = (
        _collect(reader, source, child, header["seconds"])
        if ready_or_error in (READY, b"")  # b"": it ended before, and ran nothing of the submission
        else (ready_or_error, "unconfined")
    )
    waited = _waited(child) + _waited("self") - waited
    os.close(reader)
    os.kill(child, signal.SIGKILL)  # safe: until it is reaped, the number stays this child's
    _, status = os.waitpid(child, 0)
    if alone:  # any other process here was started by the submission
        with contextlib.suppress(OSError):
            os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return {"end": end, "signal": max(-os.waitstatus_to_exitcode(status), 0), "waited": waited}, data


def _waited(process):
    """Seconds that a process (a number, or "self") was ready to run while others had the cores; 0 if the system does not tell."""
    try:
        with open(f"/proc/{process}/schedstat", "rb") as file:  # bytes: no codec can be loaded any more
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def _collect(reader, source, child, seconds):
    """Read to the end of the pipe; return the bytes, and "closed", "late", "flood" or, if nobody waits any more, "gone".

    What the child waits for a core is not its fault, and counts only beyond PATIENCE times the seconds.
    """
    data = bytearray()
    began, before = time.monotonic(), _waited(child)
    while True:
        late = began + min(seconds + _waited(child) - before, PATIENCE * seconds)
        left = late - time.monotonic()
        if left <= 0:
            return b"", "late"
        found = select.select([reader, source], [], [], left)[0]
        if not found:
            continue
        if source in found:
            return b"", "gone"
        part = os.read(reader, 1 << 16)
        if not part:
            return bytes(data), "closed"
        data += part
        if len(data) > MOST_PAYLOAD:
            return b"", "flood"


def _answer(header, payload, confinement, asker, writer, set_up):
    """Confine this process, answer, and end it."""
    source, call = payload[: header["source"]], payload[header["source"] :]
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard)
        confinement.enter(asker)
        sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in enumerate("rww"))  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.dup2(writer, 3)  # 3 and 4 are the harness's own pipes, which end here
        os.dup2(set_up, 4)
        set_up = 4
        os.closerange(5, 1 << 10)
        if header["ask"] != "shorten":
            _import_what_is_named(source)
        confinement.compute_only()
        os.write(set_up, READY)
        os.close(set_up)
    except BaseException as error:
        os.write(set_up, describe_error(error).encode())
        os._exit(1)
    if header["ask"] == "shorten":  # no student code runs for this
        _write(3, only_needed(header["name"], payload, header["functions"]))
        os._exit(0)
    try:
        submission = collect_bytes(header["name"], source, header["functions"])
        notes, names = submission.notes, [name for name in header["functions"] if name in submission.namespace]
        unusable = ""
    except UnusableError as error:
        unusable, notes, names, submission = str(error), [], [], None
    except Exception as error:  # the file is odd in a way that nobody thought of; its author is told in which
        unusable, notes, names, submission = f"it cannot be read: {describe_error(error)}", [], [], None
    if header["ask"] == "look":
        message = frame({"unusable": unusable, "notes": notes[:20], "names": names})
    else:
        arguments = call_from_bytes(header["arguments"], call)
        namespace = submission.namespace if submission else {}
        message = run_to_bytes(
            find_and_run(namespace, header["function"], arguments, header["returns"], header["functions"])
        )
    _write(3, message)
    os._exit(0)


def _import_what_is_named(source):
    """Import the modules of Python and NumPy that `source` (bytes) names, because no file can be opened afterwards."""
    names = {b"numpy." + name for name in NAMES_LAZY.findall(source)}
    for module, members, modules in NAMES_MODULES.findall(source):
        names |= {module, *(module + b"." + one for one in re.findall(rb"\w+", members))} if module else set()
        names |= set(re.findall(rb"[\w.]+", modules))
    for name in sorted(names)[:MOST_IMPORTS]:
        parts = name.decode("ascii", "replace").split(".")
        ours = parts[0] in sys.stdlib_module_names - NOT_IMPORTED or parts[0] == "numpy"
        if ours and all(part.isidentifier() and not part.startswith("_") for part in parts):
            with contextlib.suppress(Exception, SystemExit):
                importlib.import_module(".".join(parts))


def _read(descriptor, n):
    parts = bytearray()
    while len(parts) < n:
        part = os.read(descriptor, min(n - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _write(descriptor, data):
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
