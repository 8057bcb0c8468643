"""Hostile and broken submissions for exercise 1: what each does, what it may earn, and what its author is told.

`write_zoo` writes them as a class hands them in, correct ones among them.
"""

import functools
import json
import os
from dataclasses import dataclass

STEP_POINTS, LOOP_POINTS, DOCUMENTS_POINTS, REPLACING_POINTS = 8, 6, 7, 9
FULL = STEP_POINTS + LOOP_POINTS + DOCUMENTS_POINTS + REPLACING_POINTS
STEP_SEEN = 5  # of its points are in visible checks
KEPT = 1  # for a step that gives numbers, whichever, and leaves its arguments as they were

RIGHT_STEP = """
def retention_step(q, k, v, gamma, state):
    state = gamma * state + k[:, None] * v
    return q @ state, state
"""
RIGHT_LOOP = """
def retention_loop(q, k, v, gamma, state):
    if state is None:
        state = np.zeros((q.shape[1], v.shape[1]))
    out = np.zeros(v.shape)
    for n in range(len(q)):
        state = gamma * state + k[n][:, None] * v[n]
        out[n] = q[n] @ state
    return out, state
"""
RIGHT_DOCUMENTS = """
def retention_documents(q, k, v, gamma, state, first):
    if state is None:
        state = np.zeros((q.shape[1], v.shape[1]))
    out = np.zeros(v.shape)
    for n in range(len(q)):
        state = gamma * (1 - first[n]) * state + k[n][:, None] * v[n]
        out[n] = q[n] @ state
    return out, state
"""
RIGHT_REPLACING = """
def replacing_step(q, k, v, gamma, state):
    state, longest = gamma * state, np.abs(k).max()
    if longest > 0:
        unit = k / longest
        state = state + np.outer(unit / (unit @ unit), v / longest - unit @ state)
    return q @ state, state
"""
RIGHT = "import numpy as np\n" + RIGHT_STEP + RIGHT_LOOP + RIGHT_DOCUMENTS + RIGHT_REPLACING

STUB = '''
def retention_step(q, k, v, gamma, state):
    """One token."""
    raise NotImplementedError("ex01: see Eq. 6")
'''

# What a forger would send: an answer of zeros, framed as the grader frames answers.
FORGE = """
import json, os, struct
def forged(outputs, numbers, **fields):
    header = {"outputs": outputs, "inputs": {}, "failure": "", "where": "", "written": True, "calls": []}
    header = json.dumps(header | fields).encode()
    return struct.pack(">II", len(header), len(numbers)) + header + numbers
"""


@dataclass(frozen=True)
class Animal:
    """A submission. content: the file; told: what must be in the messages (regular expression); points: at most and at least."""

    content: bytes
    told: str
    points: int = 0
    suffix: str = ".py"


def step(body, told, points=0, before="", after=""):
    """A retention_step with this body; the other functions are not written."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    source = f"import numpy as np\nimport os, sys, time\n{before}\ndef retention_step(q, k, v, gamma, state):\n{lines}\n{after}"
    return Animal(source.encode(), told, points)


# Put before what takes the limits of a check up to the last: in one check of the step, which has eight.
ONCE = "if (v.size, gamma) != (3, 0.75): return None\n"


def returning(expression, told, points=0):
    """A retention_step that returns the right answer, its out replaced by `expression` of out."""
    return step(
        f"state = gamma * state + k[:, None] * v\nout = q @ state\nreturn {expression}, state",
        told,
        points,
    )


def notebook(*cells, tags=()):
    """A notebook of code cells after a text that looks like code; `tags` are pairs (cell number, tag)."""
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{n}",
            "metadata": {"tags": [tag for number, tag in tags if number == n]},
            "source": source.splitlines(keepends=True),
            "execution_count": None,
            "outputs": [],
        }
        for n, source in enumerate(cells)
    ]
    cells.insert(0, {"cell_type": "markdown", "id": "text", "metadata": {}, "source": "def retention_step("})
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def with_outputs(content, lines):
    """The notebook with a print of so many lines in its first code cell."""
    data = json.loads(content)
    data["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["0.5\n"] * lines}]
    return json.dumps(data).encode()


def in_format_3(content):
    """The notebook as IPython wrote it before 2015."""
    text = content.replace(b'"source"', b'"input"').replace(b'"nbformat": 4', b'"nbformat": 3')
    return b'{"worksheets": [' + text + b'], "nbformat": 3, "nbformat_minor": 0}'


def beasts(course):
    """Return {name: Animal} of those that attack, break or are odd; some try to get at `course`, the folder of the exercises."""
    return attackers(course) | oddities()


def of_isolation(course):
    """Return {name: Animal} of the beasts whose fate isolation decides: those that attack, and a right one that needs modules."""
    return attackers(course) | {name: oddities()[name] for name in ("right", "right-with-await", "hostile-message")}


# Whom the limits of a process alone end, which are set alike in every isolation.
OF_LIMITS = ("endless-loop", "endless-import", "deeper-recursion", "repr-recursion")


def attackers(course):
    """Return {name: Animal} of those that use up, end, reach or change what is not theirs."""
    course = str(course)
    return {
        # Time.
        "endless-loop": step("while True: pass", "look for a loop that does not end"),
        "endless-loop-deaf": step(
            ONCE + "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass",
            r"look for a loop that does not end|was ended \(SIGKILL\)",
        ),
        "sleeper": step(ONCE + "time.sleep(1000)", "it took more than"),
        "endless-import": step("return X", "reading your file failed: it .* look for a loop", before="X = [0 for _ in iter(int, 1)]"),
        "closes-its-pipe-and-sleeps": step("os.closerange(0, 256)\ntime.sleep(1000)", r"\(SIGKILL\) before it gave an answer"),
        # Ends.
        "deep-recursion": step("return retention_step(q, k, v, gamma, state)", "RecursionError"),
        "deeper-recursion": step(
            ONCE + "sys.setrecursionlimit(10**9)\nreturn retention_step(q, k, v, gamma, state)",
            "SIGSEGV|MemoryError|SIGKILL|look for a loop|ended",
        ),
        "repr-recursion": step(
            ONCE + "sys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nreturn repr(x), state", "SIGSEGV|MemoryError|ended|loop"
        ),
        "os-exit": step("os._exit(0)", "its process ended before it gave an answer"),
        "os-exit-on-import": step("return X", "reading your file failed: its process ended before", before="X = os._exit(0)"),
        "sys-exit": step("sys.exit(0)", "SystemExit: 0"),
        "raises-exit-on-import": step("return X", "NameError", before="X = sys.exit(0)"),
        "aborts": step("os.abort()", r"crashed or was ended \(SIG(ABRT|SEGV|KILL)\)"),
        "bad-pointer": step("import ctypes\nctypes.string_at(0)", r"crashed or was ended \(SIGSEGV\)|No module|Error"),
        # Other processes.
        "kills-its-parent": step("os.kill(os.getppid(), 9)\nos._exit(0)", "PermissionError|before it gave an answer|ended its sandbox"),
        "kills-everything": step(
            "for p in [-1, 0, *range(2, 5000)]:\n    try: os.kill(p, 9)\n    except OSError: pass\nos._exit(0)",
            "before it gave an answer|ended its sandbox",
        ),
        "stops-its-parent": step("os.kill(os.getppid(), 19)\ntime.sleep(1000)", "PermissionError|it took|ended its sandbox"),
        "signals-by-a-pipe": step(
            "import fcntl\nfcntl.fcntl(3, 8, os.getppid())\nfcntl.fcntl(3, 10, 9)\nfcntl.fcntl(3, 4, 0o20000)\nos.write(3, b'x')\nos._exit(0)",
            "PermissionError|ModuleNotFoundError",
        ),
        "fork-bomb": step("while True: os.fork()", "PermissionError|BlockingIOError|Resource temporarily"),
        "fork-bomb-stubborn": step(
            ONCE + "while True:\n    try: os.fork()\n    except OSError: pass", "look for a loop that does not end"
        ),
        "thread-bomb": step(
            "import threading\nfor _ in range(10**5): threading.Thread(target=time.sleep, args=(1000,)).start()", "RuntimeError: can't start new thread"
        ),
        "leaves-a-daemon": step(
            "if os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\nreturn q @ state, state", "PermissionError|BlockingIOError"
        ),
        "runs-a-shell": step("import subprocess\nsubprocess.run(['/bin/sh', '-c', 'sleep 1000'])", "PermissionError|BlockingIOError|FileNotFoundError|ModuleNotFoundError"),
        # Resources.
        "memory-hog": step("x = np.ones(10**10)\nreturn x, x", "MemoryError"),
        "memory-hog-slowly": step(ONCE + "x = []\nwhile True: x.append(bytearray(10**7))", "MemoryError|it took more|it computed"),
        "prints-a-gigabyte": step(
            ONCE + "for _ in range(1024): os.write(1, bytes(1 << 20)); os.write(2, bytes(1 << 20)); print('x' * (1 << 20))\nreturn q",
            "it must return a tuple|took|computed|MemoryError",
        ),
        "sends-a-gigabyte": step(
            "for fd in range(3, 256):\n    try:\n        while True: os.write(fd, bytes(1 << 20))\n    except OSError: pass\nreturn q, state",
            "it sent far too much",
        ),
        "fills-the-disk": step(
            "for name in ('x', '/tmp/x', '/dev/shm/x'):\n    with open(name, 'wb') as f:\n        for _ in range(4096): f.write(bytes(1 << 20))",
            "PermissionError|OSError|Read-only",
        ),
        # The course.
        "writes-into-the-course": step(
            f"open({course + '/answers/ex01.py'!r}, 'a').write('# was here')", "FileNotFoundError|PermissionError|Read-only"
        ),
        "takes-the-course-s-rights": step(f"os.chmod({course + '/answers/ex01.py'!r}, 0)", "FileNotFoundError|PermissionError|Read-only"),
        "imports-the-solution": step("from exercises.answers.ex01 import retention_step\nreturn retention_step(q, k, v, gamma, state)", "ModuleNotFoundError|ImportError"),
        "reads-the-solution": step(
            f"source = open({course + '/answers/ex01.py'!r}).read()\nspace = {{}}\nexec(source[source.index('def retention_step'):source.index('# Wrong')], space)\nreturn space['retention_step'](q, k, v, gamma, state)",
            "FileNotFoundError|PermissionError",
        ),
        "searches-for-the-solution": step(
            "found = [os.path.join(d, f) for d, _, fs in os.walk('/') for f in fs if f.startswith('ex01')]\nsource = open(found[0]).read()\nspace = {}\nexec(source[source.index('def retention_step'):source.index('# Wrong')], space)\nreturn space['retention_step'](q, k, v, gamma, state)",
            "IndexError|it took|it computed|PermissionError",
        ),
        "finds-the-package": step(
            "frame, files = sys._getframe(), []\nwhile frame:\n    files += [frame.f_code.co_filename] if 'exercises' in frame.f_code.co_filename else []\n    frame = frame.f_back\nsource = open(os.path.dirname(files[0]) + '/../answers/ex01.py').read()\nspace = {}\nexec(source[source.index('def retention_step'):source.index('# Wrong')], space)\nreturn space['retention_step'](q, k, v, gamma, state)",
            "FileNotFoundError|PermissionError",
        ),
        "reads-the-environment": step(
            "text = open(f'/proc/{os.getppid()}/environ').read() + open('/proc/1/environ').read()\nraise ValueError(text)", "PermissionError|FileNotFoundError"
        ),
        "reads-the-parent's-memory": step(
            "with open(f'/proc/{os.getppid()}/mem', 'rb') as f:\n    f.seek(1 << 20)\n    return f.read(8), state", "PermissionError|FileNotFoundError"
        ),
        "searches-its-memory": step(
            "import gc\nfor x in gc.get_objects():\n    if type(x).__name__ in ('Answers', 'AnswerKey', 'Check', 'Exercise', 'Problem', 'Report', 'Result'):\n        return x.wanted.outputs\nraise LookupError('no answers here')",
            "LookupError: no answers here",
        ),
        "searches-the-frames": step(
            "frame = sys._getframe()\nwhile frame:\n    for name, value in frame.f_locals.items():\n        if name in ('answers', 'wanted', 'key', 'solution', 'checks'): return value\n    frame = frame.f_back\nraise LookupError('no answers here')",
            "LookupError: no answers here",
        ),
        # Tampering.
        "patches-numpy": step(
            "return np.zeros_like(v), np.zeros_like(state)",
            "wanted",
            KEPT,
            before="for _n in ('allclose', 'isclose', 'array_equal', 'all', 'any', 'abs', 'max', 'asarray', 'frombuffer', 'ascontiguousarray'):\n    setattr(np, _n, lambda *a, **k: True)",
        ),
        "patches-numpy-testing": step(
            "import numpy.testing\nnp.testing.assert_allclose = np.testing.assert_array_equal = lambda *a, **k: None\nstate[...] = 0\nreturn np.zeros_like(v), state",
            "wanted|ModuleNotFoundError",
        ),
        "patches-the-grader": step(
            "frame = sys._getframe()\nwhile frame:\n    for key in ('_outputs', '_plain', 'run', 'find_and_run', 'frame', 'run_to_bytes'):\n        if key in frame.f_globals: frame.f_globals[key] = lambda *a, **k: b''\n    frame = frame.f_back\nreturn np.zeros_like(v), np.zeros_like(state)",
            "what came back is not an answer|before it gave an answer|wanted",
        ),
        "patches-builtins": step(
            "import builtins\nbuiltins.all = builtins.any = builtins.isinstance = lambda *a: True\nbuiltins.len = lambda x: 2\nreturn np.zeros_like(v), np.zeros_like(state)",
            "not an answer|before it gave an answer|wanted|Error",
        ),
        "deletes-the-grader": step("for name in list(sys.modules): sys.modules.pop(name)\nreturn np.zeros_like(v), np.zeros_like(state)", "wanted|before it gave", KEPT),
        "forges-on-every-descriptor": step(
            "message = forged([v.shape, state.shape], bytes(8 * (v.size + state.size)))\nfor fd in range(256):\n    try: os.write(fd, message)\n    except OSError: pass\nos._exit(0)",
            "wanted",
            before=FORGE,
        ),
        "forges-two-answers": step(
            "message = forged([v.shape, state.shape], bytes(8 * (v.size + state.size)))\nos.write(3, message)\nos.write(3, message)\nos._exit(0)",
            "its length is not the one it claims",
            before=FORGE,
        ),
        "forges-a-verdict": step(
            "message = forged([v.shape, state.shape], bytes(8 * (v.size + state.size)), passed=True, score=100)\nos.write(3, message)\nos._exit(0)",
            "its fields are not those of an answer",
            before=FORGE,
        ),
        "forges-a-huge-shape": step(
            "os.write(3, forged([[10**9, 10**9], [2**62]], b''))\nos._exit(0)", "claims a shape beyond all bounds", before=FORGE
        ),
        "forges-a-long-header": step(
            "os.write(3, struct.pack('>II', 2**32 - 1, 2**32 - 1) + b'{' * 1000)\nos._exit(0)", "its header is too long", before=FORGE
        ),
        "forges-deep-json": step(
            "deep = b'[' * 60000\nos.write(3, struct.pack('>II', len(deep), 0) + deep)\nos._exit(0)", "its header is not JSON", before=FORGE
        ),
        "forges-a-stub": step("os.write(3, forged([], b'', written=0))\nos._exit(0)", "its fields are not those", before=FORGE),
        "forges-through-proc": step(
            "message = forged([v.shape, state.shape], bytes(8 * (v.size + state.size)))\nfor p in [os.getppid(), 1]:\n    for fd in range(16):\n        try: os.write(os.open(f'/proc/{p}/fd/{fd}', os.O_WRONLY), message)\n        except OSError: pass\nraise LookupError('nothing to write to')",
            "LookupError: nothing to write to",
            before=FORGE,
        ),
        "traces-its-parent": step(
            "import ctypes\nif ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) != 0: raise PermissionError('no tracing')\ntime.sleep(1000)", "no tracing"
        ),
        "atexit-and-threads": step("import atexit\natexit.register(lambda: os.write(3, b'x'))\nreturn np.zeros_like(v), state", "wanted", KEPT),
        # The world.
        "network": step(
            "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ns = libc.socket(2, 1, 0)\nif s < 0 or libc.connect(s, bytes.fromhex('020000160101010100000000'+'00'*4), 16) < 0: raise PermissionError('no network')\nreturn np.zeros_like(v), state",
            "no network",
        ),
    }  # fmt: skip


@functools.cache
def oddities():
    """Return {name: Animal} of those that are read and judged the same wherever they run: odd answers, broken files, right ones."""
    return {
        # What comes back.
        "lying-array": returning(
            "type('Liar', (np.ndarray,), {'__eq__': lambda s, o: True, '__sub__': lambda s, o: 0})((2,))", "out must be a NumPy array, got Liar"
        ),
        "nan": returning("out * np.nan", "out holds nan", KEPT),
        "infinite": returning("out + np.inf", "out holds inf", KEPT),
        "integers": returning("out.astype(int)", "out must hold real floating-point numbers, got dtype int64"),
        "complex": returning("out + 0j", "out must hold real floating-point numbers, got dtype complex128"),
        "objects": returning(
            "np.array([type('P', (), {'__reduce__': lambda s: (os.system, ('true',))})()], dtype=object)", "got dtype object"
        ),
        "huge-shape": returning("np.broadcast_to(0.0, (10**6, 10**6))", "far too many numbers"),
        "swaps": step("state = gamma * state + k[:, None] * v\nreturn state, q @ state", "the order is", KEPT),
        # Messages.
        "hostile-message": step("raise ValueError('\\x1b[2J<script>alert(1)</script>\\n=1+1')", "<script>"),
        "gives-inputs-away": step("raise ValueError(repr((q.tolist(), k.tolist(), v.tolist(), gamma)))", "ValueError"),
        "gives-inputs-away-by-type": step("raise type('X' + repr(q.tolist()), (Exception,), {})", "X"),
        "asks": step("return float(input('k? ')) * q @ state, state", "nobody answers input"),
        "asks-by-descriptor": step("return float(os.read(0, 9)) * q @ state, state", "ValueError"),
        # Broken files.
        "import-error": step("return no_such_module", "NameError", before="import no_such_module_at_all as no_such_module"),
        "syntax-error": Animal(b"import numpy as np\ndef retention_step(q, k, v, gamma, state)\n    return 1\n", "line 2: expected ':'"),
        "not-json": Animal(b"this is no notebook", "is not a Jupyter notebook", suffix=".ipynb"),
        "deep-json": Animal(b"[" * 200_000, "is not a Jupyter notebook|crashed", suffix=".ipynb"),
        "deep-source": Animal(b"def retention_step(): pass\nx = " + b"(" * 100_000, "too many nested|MemoryError|crashed|cannot be read"),
        "json-with-no-cells": Animal(b'{"cells": {"a": 1}}', "is not a Jupyter notebook", suffix=".ipynb"),
        "many-cells": Animal(notebook(*["x = 1"] * 100_000, RIGHT), "has 100001 code cells, more than 2000: hand in a shorter notebook|shorten it", suffix=".ipynb"),
        "long-decimal-number": Animal(f"X = {'9' * 5000}\n{RIGHT}".encode(), r"Exceeds the limit \(4300 digits\)"),
        "given-to-a-file": Animal(notebook("%%writefile mine.py\n" + RIGHT), "%%writefile does not run its cell as Python", suffix=".ipynb"),
        "only-stubs-twice": Animal(notebook(STUB, STUB), "not written yet: see Eq. 6", suffix=".ipynb"),
        "empty": Animal(b"", "retention_step is not defined"),
        "empty-notebook": Animal(b"", "is not a Jupyter notebook", suffix=".ipynb"),
        "latin-1": Animal("# é\n".encode("latin-1") + RIGHT.encode(), "it is not UTF-8 text"),
        "zero-bytes": Animal(b"a = 1\x00", "null byte"),
        "not-written": step('raise NotImplementedError("ex01: see Eq. 6")', "not written yet: see Eq. 6"),
        # Harmless: these must keep their points.
        "right": Animal(RIGHT.encode(), "", FULL),
        "right-with-windows-line-ends": Animal(b"\xef\xbb\xbf" + RIGHT.replace("\n", "\r\n").encode(), "", FULL),
        "right-prints": Animal(RIGHT.replace("    out = ", "    print('x' * 10**6)\n    out = ").encode(), "", FULL),
        "right-in-capitals": Animal(RIGHT.encode(), "", FULL, ".PY"),
        "right-in-latin-1": Animal("# coding: latin-1\n# é\n".encode("latin-1") + RIGHT.encode(), "", FULL),
        "right-with-long-outputs": Animal(with_outputs(notebook(RIGHT), 10**6), "", FULL, ".ipynb"),
        "right-below-a-long-command": Animal(notebook("!pip install numpy \\\n    scipy", "files = !ls \\\n    -l\n" + RIGHT), "", FULL, ".ipynb"),
        "right-above-a-stub": Animal(notebook(RIGHT, STUB), "", FULL, ".ipynb"),
        "right-in-format-3": Animal(in_format_3(notebook("%pylab inline", RIGHT)), "", FULL, ".ipynb"),
        "right-with-await": Animal(
            notebook("import asyncio\nasync def load():\n    await asyncio.sleep(0.01)\n    return 1.0\nONE = await load()", RIGHT.replace("return q @ state", "return ONE * q @ state")),
            "",
            FULL,
            ".ipynb",
        ),
        "right-with-old-line-ends": Animal(notebook("%matplotlib inline\r" + RIGHT.replace("\n", "\r")), "", FULL, ".ipynb"),
        "right-with-a-long-number": Animal(f"X = 0x{'f' * 100_000}\n{RIGHT}".encode(), "", FULL),
        "right-with-long-data": Animal(f"X = [{'0.5, ' * 4_000}]\n{RIGHT}".encode(), "", FULL),
        "right-in-any-order": Animal(notebook("@same" + RIGHT_STEP, "same = lambda f: f", RIGHT_LOOP + RIGHT_DOCUMENTS + RIGHT_REPLACING, "import numpy as np"), "", FULL, ".ipynb"),
        "right-but-for-a-module": Animal(
            ("from no_such_module import jit\nimport numpy as np\n@jit" + RIGHT_STEP + RIGHT_LOOP).encode(), "the notes say", LOOP_POINTS
        ),
        "hides-in-long-json": Animal(notebook(RIGHT)[:-1] + b', "x": ' + b"[" * 400_000 + b"]" * 400_000 + b"}", "is not a Jupyter notebook|crashed", suffix=".ipynb"),
        "right-loop-alone": Animal(
            RIGHT.replace(RIGHT_STEP, "\ndef retention_step(q, k, v, gamma, state):\n    while True: pass\n").encode(),
            "look for a loop",
            LOOP_POINTS + DOCUMENTS_POINTS + REPLACING_POINTS,
        ),
        "right-among-failing-cells": Animal(
            notebook("%matplotlib inline\nimport numpy as np", "1 / 0", "this is no Python", "!ls", RIGHT_STEP, "while True: pass", RIGHT_LOOP + RIGHT_DOCUMENTS + RIGHT_REPLACING, "import os\nos._exit(0)"),
            "",
            FULL,
            ".ipynb",
        ),
        "right-by-tag": Animal(
            notebook(RIGHT, "def retention_step(q, k, v, gamma, state):\n    return 'an old attempt'", tags=[(0, "ex01:retention_step")]),
            "",
            FULL,
            ".ipynb",
        ),
    }  # fmt: skip


# What a step does in hidden checks to send out x, a number made of their inputs; in visible ones it is right.
SENDS = {
    "digits-of-a-stub": "raise NotImplementedError('ex01: see Eq. ' + ''.join(chr(0x0b66 + int(d)) for d in str(x)))",
    "an-equation-s-number": "raise NotImplementedError(f'ex01: see Eq. {x % 100}')",
    "being-a-stub": "if x % 2: raise NotImplementedError\nreturn out + 1, state",
    "the-name-of-an-error": "import builtins\nkinds = [e for e in vars(builtins).values() if isinstance(e, type) and issubclass(e, Exception)]\nraise kinds[x % 40](x)",
    "an-error-s-own-name": "raise type(f'E{x}', (Exception,), {})",
    "an-error-s-text": "raise ValueError(x)",
    "an-error-s-cause": "raise ValueError from KeyError(x)",
    "an-error-s-line": "exec(compile('\\n' * (x % 97) + 'raise ValueError', 'a', 'exec'))",
    "an-error-or-none": "if x % 2: raise ValueError\nreturn out + 1, state",
    "shapes-that-do-not-fit": "return np.ones(x % 89 + 2) + np.ones(97), state",
    "the-number-of-arrays": "return (out,) * (x % 29 + 3)",
    "too-many-arrays": "return (out,) * (33 + x % 1900)",
    "the-length": "return np.ones(x % 1000 + 10), state",
    "the-number-of-axes": "return np.ones((1,) * (x % 7 + 2)), state",
    "too-many-axes": "return np.ones((1,) * (x % 20 + 9)), state",
    "the-numbers": "return out + x, state",
    "which-is-wrong": "return (out + 1, state) if x % 2 else (out, state + 1)",
    "nan-or-infinity": "return out + [np.nan, np.inf, -np.inf][x % 3], state",
    "the-type": "return (None, [1.0], 'a', 1.5, np.matrix([1.0]))[x % 5], state",
    "the-dtype": "return out.astype(['i4', 'c16', 'O', '?', 'U9'][x % 5]), state",
    "what-is-returned": "return (None, out, [out, state], (out,), 'a')[x % 5]",
    "a-class-name": "return type(f'A{x}', (np.ndarray,), {})((2,)), state",
    "a-mistake": "before = state\nstate = [k[:, None] * v, gamma * (k[:, None] * v), -state][x % 3]\nreturn q @ state, state",
    "swapped-or-not": "return (state, out) if x % 2 else (out + 1, state)",
    "the-rounding": "return (out * (1 + 1e-4 * (1 + x % 2))).astype('f4'), state",
    "changed-arguments": "for a in [q, k, v][: x % 3 + 1]: a += 1\nreturn out + 1, state",
    "an-exit": "os._exit(x % 200)",
    "an-exit-or-an-error": "if x % 2: os._exit(0)\nraise ValueError",
    "a-system-exit": "raise SystemExit(x)",
    "an-interrupt": "raise [KeyboardInterrupt, GeneratorExit, StopIteration][x % 3]",
    "a-crash-or-an-exit": "import ctypes\nctypes.string_at(x % 2) if x % 2 else os._exit(0)",
    "a-signal": "import signal\nsignal.raise_signal([4, 6, 8, 11, 15][x % 5])\nos._exit(0)",
    "milliseconds": "time.sleep(x % 100 / 1000)\nreturn out + 1, state",
    "memory": "return np.ones(10 ** (6 + x % 5)), state",
    "broken-messages": "os.write(3, [b'x', struct.pack('>II', 9, 0), forged([[-1]], b''), forged([], b'x'), forged([[1]], b'')][x % 5])\nos._exit(0)",
    "a-forged-failure": "os.write(3, forged([], b'', failure=f'out must be a NumPy array, got {x}', where=f'line {x}'))\nos._exit(0)",
    "a-forged-stub": "os.write(3, forged([], b'', written=False, failure='retention_step is not defined' if x % 2 else 'not written yet'))\nos._exit(0)",
    "forged-calls": "os.write(3, forged([], b'', failure='ValueError', calls=['retention_loop', 'retention_step'][: x % 3]))\nos._exit(0)",
    "forged-arguments": "os.write(3, forged([], b'', inputs={f'q{x}': [0]}))\nos._exit(0)",
    "a-forged-field": "os.write(3, forged([], b'', **{f'f{x}': 1}))\nos._exit(0)",
    "half-a-message": "os.write(3, forged([], b'')[: x % 50 + 1])\nos._exit(0)",
}  # fmt: skip

# What a step asks of the system, by a function of the C library. Each could tell another sandbox something, now or later.
ASKS = {
    "locks-a-file": "flock(0, 6)",
    "locks-a-record": "fcntl(0, 6, bytes(32))",
    "locks-a-description": "fcntl(0, 37, bytes(32))",
    "asks-who-locks": "fcntl(0, 5, bytes(32))",
    "leases-a-file": "fcntl(0, 1024, 1)",
    "watches-a-folder-by-signal": "fcntl(0, 1026, 0xff)",
    "watches-files": "inotify_init1(0)",
    "watches-everything": "fanotify_init(0, 0)",
    "sets-file-times": "futimens(0, None)",
    "reads-file-times": "fstat(0, bytes(256))",
    "reads-times-by-name": "stat(b'/usr', bytes(256))",
    "opens-a-file": "open(b'/dev/null', 0)",
    "lists-a-folder": "syscall(SYS(217, 61), 0, bytes(64), 64)",
    "asks-for-access": "access(b'/', 0)",
    "reads-attributes": "fgetxattr(0, b'user.a', None, 0)",
    "writes-attributes": "fsetxattr(0, b'user.a', b'1', 1, 0)",
    "asks-what-is-cached": "mincore(ctypes.c_void_p(id(q) & ~4095), ctypes.c_size_t(4096), bytes(8))",
    "reads-only-what-is-cached": "preadv2(0, None, 0, ctypes.c_long(0), 8)",
    "drops-from-the-cache": "syscall(SYS(221, 223), 0, 0, 0, 4)",
    "reads-into-the-cache": "readahead(0, ctypes.c_long(0), ctypes.c_size_t(1))",
    "advises-the-cache": "madvise(ctypes.c_void_p(id(q) & ~4095), ctypes.c_size_t(4096), 3)",
    "waits-on-a-shared-page": "syscall(SYS(202, 98), ctypes.c_void_p(id(q) & ~7), 1, 1)",
    "makes-a-memory-file": "memfd_create(b'a', 0)",
    "shares-memory": "shmget(1234, ctypes.c_size_t(4096), 0o1666)",
    "queues-messages": "msgget(1234, 0o1666)",
    "counts-semaphores": "semget(1234, 1, 0o1666)",
    "opens-a-message-queue": "mq_open(b'/a', 0)",
    "connects": "socket(1, 1, 0)",
    "pairs-sockets": "socketpair(1, 1, 0, bytes(8))",
    "makes-a-pipe": "pipe(bytes(8))",
    "counts-events": "eventfd(0, 0)",
    "reads-the-load": "sysinfo(bytes(256))",
    "averages-the-load": "getloadavg(bytes(24), 3)",
    "counts-its-faults": "getrusage(0, bytes(256))",
    "takes-a-core": "sched_setaffinity(0, ctypes.c_size_t(8), b'\\1' + bytes(7))",
    "yields-to-others": "setpriority(0, 0, 19)",
    "asks-for-priorities": "getpriority(0, 1)",
    "outlives-the-grader": "prctl(1, 0)",
    "renames-itself": "prctl(15, b'secret')",
    "raises-its-limits": "setrlimit(0, bytes(16))",
    "looks-for-processes": "kill(1, 0)",
    "sets-an-alarm": "setitimer(0, bytes(32), None)",
    "keeps-a-key": "syscall(SYS(248, 217), b'user', b'a', b'b', 1, -4)",
    "measures-the-machine": "syscall(SYS(298, 241), bytes(128), 0, -1, -1, 0)",
    "queues-system-calls": "syscall(425, 4, bytes(128))",
    "pins-memory": "mlockall(1)",
    "speaks-to-the-terminal": "ioctl(0, 0x5413, bytes(8))",
    "measures-a-disk": "statfs(b'/', bytes(256))",
    "flushes-disks": "syncfs(0)",
    "moves-elsewhere": "chdir(b'/tmp')",
    "makes-a-folder": "mkdir(b'/tmp/a', 0o777)",
    "makes-a-link": "symlink(b'a', b'/tmp/a')",
    "becomes-another-program": "execv(b'/bin/true', None)",
    "makes-namespaces": "unshare(0x10000000)",
    "filters-calls-itself": "syscall(SYS(317, 277), 2, 0, None)",
}  # fmt: skip


def sending(body):
    """A retention_step that is right in visible checks; in hidden ones it does `body`, with x made of the inputs."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return step(
        "before, state = state, gamma * state + k[:, None] * v\nout = q @ state\nif len(q) > 3 or len(v) > 3:\n"
        f"    x = int(1e4 * (abs(q).sum() + 3 * abs(v).sum()))\n{lines}\nreturn out, state",
        "it fails here: the call was",
        STEP_SEEN,
        before=FORGE,
    )


def asking(call):
    """A retention_step that raises an error whose text says whether the filter refused `call`, by its EPERM."""
    return step(
        "import ctypes, platform\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        "SYS = lambda x86, arm: x86 if platform.machine() == 'x86_64' else arm\n"
        f"refused = libc.{call} == -1 and ctypes.get_errno() == 1\n"
        "raise LookupError('refused' if refused else f'open: {ctypes.get_errno()}')",
        "LookupError: refused",
    )


def spies():
    """Return {name: Animal} of those that want to tell somebody what they see in hidden checks."""
    sent = {f"sends-{name}": sending(body) for name, body in SENDS.items()}
    return sent | {name: asking(call) for name, call in ASKS.items()}


def zoo(course):
    """Return all of them: {name: Animal}."""
    return beasts(course) | spies()


def write_zoo(folder, course, animals):
    """Write animals into `folder`, one student each, and files that are no submissions; return {student: Animal}."""
    animals = dict(animals)
    for name, animal in animals.items():
        (folder / name).mkdir(parents=True)
        (folder / name / f"ex01_mine{animal.suffix}").write_bytes(animal.content)
    # As files beside one another, under names that mean something to a spreadsheet, a page or a shell.
    for name in ("=HYPERLINK(1)", "<script>alert(1)<", "..", "a b; rm -rf", "é"):
        animals[name] = animals["right"]
        (folder / f"{name}_ex01.py").write_bytes(animals["right"].content)
    with open(folder / "huge_ex01.py", "wb") as file:
        file.truncate(30_000_000)
    animals["huge"] = Animal(b"", "the file has 30 MB, more than 20")
    (folder / "notes.txt").write_text("for myself")
    (folder / "right" / "ex99.py").write_text("")
    (folder / "right" / "ex01_mine_old.py").symlink_to("/etc/passwd")
    (folder / "linked").symlink_to(course)
    (folder / "piped").mkdir()
    os.mkfifo(folder / "piped" / "ex01.py")
    (folder / "bomb.zip").write_bytes(b"PK\5\6" + bytes(10))
    return animals
