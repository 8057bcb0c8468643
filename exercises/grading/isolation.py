"""The two ways to start the harness: in a bubblewrap sandbox, or under limits alone.

Either way the process has an empty environment, a time and a memory limit, and no descriptor but its
pipes; child.py and confine.py take away the rest. Bubblewrap adds a file system without the course, its
own process table and no network.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EXERCISES = Path(__file__).parent.parent
HARNESS = EXERCISES / "harness"
CHILD_MODULES = ("cells", "child", "confine", "runner", "submission", "wire")  # all that a sandbox sees of the course
# The packages are made without running their __init__, so that nothing else of the course is imported.
START = """
import json, sys, types
settings = json.loads(sys.argv[1])
for name, path in ("exercises", []), ("exercises.harness", [settings["modules"]]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path
sys.path.append(settings["packages"])
from exercises.harness.child import main
main(settings)
"""
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
USERS = range(65300, 65500)  # who runs student code if the grader is root; systems do not assign these numbers


class IsolationError(Exception):
    """The isolation asked for does not work here; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use: per check, and seconds in all."""

    cpu_seconds: int = 2
    seconds: float = 4.0
    total_seconds: float = 20.0
    memory: int = 1 << 30
    file: int = 1 << 20
    descriptors: int = 16


@dataclass(frozen=True)
class Isolation:
    """One way to start the harness.

    name: "bubblewrap" or "limits only". own_user: run student code under a user of its own, which
    needs root. namespaces: let bubblewrap make a user namespace, which needs no root.
    """

    name: str
    own_user: bool
    namespaces: bool = False

    def command(self, limits, user=None):
        """Return the command line of the harness, which switches to `user` (a number) if that is not None."""
        inside = "/grader/exercises/harness" if self.name == "bubblewrap" else str(HARNESS)
        settings = {
            "modules": inside,
            "packages": str(_numpy().parent),
            "readable": [str(path) for path in _numpy_folders()],
            "unseen": [str(EXERCISES)] if self.name == "bubblewrap" else [],
            "user": user,
            "limits": {
                "cpu": limits.cpu_seconds,
                "memory": limits.memory,
                "file": limits.file,
                "descriptors": limits.descriptors,
            },
        }
        python = [_python(), "-I", "-S", "-B", "-c", START, json.dumps(settings)]
        return python if self.name != "bubblewrap" else [*_bubblewrap(self.namespaces), *python]

    def start(self, limits, user):
        """Return the harness as a `Popen` with pipes, in a session of its own."""
        return subprocess.Popen(
            self.command(limits, user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",  # a folder of its own would stay behind if the grader was killed
            env=ENVIRONMENT | {"PATH": "/usr/sbin:/usr/bin:/bin:/usr/local/bin"},
            bufsize=0,
            start_new_session=True,
        )


@contextlib.contextmanager
def reserved_user(isolation):
    """Yield a user number that no other grader on this machine is using, or None if none is needed.

    The lock is the name of a socket, which the system frees when the process ends.
    """
    if not isolation.own_user:
        yield None
        return
    for user in USERS:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
            try:
                lock.bind(f"\0exercises-grader-{user}")
            except OSError:
                continue
            yield user
            return
    raise IsolationError("every user for student code is taken by other graders on this machine")


def _python():
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _numpy():
    return Path(np.__file__).resolve().parent


def _numpy_folders():
    libraries = _numpy().parent / "numpy.libs"
    return [_numpy(), *([libraries] if libraries.is_dir() else [])]


def _bubblewrap(namespaces):
    """Return bwrap and its options: base Python, NumPy and the harness's modules, read-only, and nothing else."""
    options = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if namespaces:
        options += ["--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
        help_text = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, check=False).stdout
        options += ["--disable-userns"] if "--disable-userns" in help_text else []
    else:  # root: the harness becomes another user, and then has no capability either
        options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    options += ["--die-with-parent", "--new-session", "--as-pid-1", "--hostname", "sandbox", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        options += ["--setenv", name, value]
    options += ["--proc", "/proc", "--dev", "/dev", "--size", "65536", "--tmpfs", "/dev/shm"]
    options += [
        "--perms",
        "1777",
        "--size",
        str(4 << 20),
        "--tmpfs",
        "/tmp",
    ]  # first, because later mounts may lie below it
    mounts, shared = [], []
    standard = Path(sysconfig.get_path("stdlib"))
    libraries = [Path(path) for path in ("/usr/lib", "/usr/lib32", "/usr/lib64", "/lib", "/lib32", "/lib64")]
    for path in (*libraries, Path(sys.base_prefix, "lib"), standard):
        if path.is_symlink():
            mounts += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir() and not any(path.is_relative_to(one) for one in shared):
            mounts += ["--ro-bind", str(path), str(path)]
            shared.append(path)
    # Other packages stay out, also the course if it is installed.
    others = {standard / "site-packages", standard / "dist-packages", Path("/usr/lib/python3/dist-packages")}
    others |= {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    for path in sorted(others):
        if path.is_dir() and any(path.is_relative_to(one) for one in shared):
            mounts += ["--tmpfs", str(path)]
    alone = [Path(_python()), *_numpy_folders()]
    for path in alone:
        mounts += ["--ro-bind", str(path), str(path)]
    for name in CHILD_MODULES:
        mounts += ["--ro-bind", str(HARNESS / f"{name}.py"), f"/grader/exercises/harness/{name}.py"]
    # bubblewrap would make the folders above a mount accessible to root only.
    for path in sorted(
        {above for mount in (*shared, *alone, Path("/grader/exercises/harness/x")) for above in mount.parents}
    ):
        if path not in (Path("/"), Path("/tmp")) and not any(path.is_relative_to(one) for one in shared):
            options += ["--perms", "0755", "--dir", str(path)]
    return ["bwrap", *options, *mounts, "--chdir", "/tmp", "--remount-ro", "/dev", "--remount-ro", "/", "--"]
