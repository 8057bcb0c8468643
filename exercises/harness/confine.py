"""Limits a process that is about to run a submission: its resources, and on Linux its access to the system.

`Confinement` is made in the harness, before any student code, and lists what it can enforce. `enter` is called in
the process that is about to run student code, and raises if any of that fails.
"""

import contextlib
import ctypes
import os
import resource
import struct
import sys

# prctl
PDEATHSIG, DUMPABLE, SECCOMP, NO_NEW_PRIVS, SUBREAPER = 1, 4, 22, 38, 36
SIGKILL = 9

# Landlock: system calls (the same on every architecture) and rights.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
READ_FILE, READ_DIR, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 14
ALL_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}  # by version; from version 5:
ALL_RIGHTS_NOW = 0xFFFF
TCP, ABSTRACT_SOCKETS_AND_SIGNALS = 0b11, 0b11

# seccomp, by architecture: its number, the number of fcntl, and the refused calls, which student code does not need.
REFUSED = {
    "x86_64": (
        0xC000003E,
        72,
        {
            "new processes and threads": (56, 57, 58, 435, 59, 322),
            "signals and sessions": (62, 200, 234, 129, 297, 434, 424, 438, 112, 109),
            "other processes": (101, 310, 311, 302, 203, 144, 314, 141, 251, 440, 448, 312, 256, 279),
            "network": (41, 53, 425),
            "memory that no limit counts": (319, 447, 29, 68, 64, 240, 250, 248, 249),
            "what Landlock leaves open on files": (
                *(90, 91, 268, 452, 92, 93, 94, 260, 132, 235, 261, 280, 76),
                *(188, 189, 190, 197, 198, 199, 463, 466),
            ),
            "namespaces and mounts": (272, 308, 165, 430, 428, 429, 432, 442, 155, 161, 304, 303, 135),
            "the kernel": (321, 298, 323),
        },
    ),
    "aarch64": (
        0xC00000B7,
        25,
        {
            "new processes and threads": (220, 435, 221, 281),
            "signals and sessions": (129, 130, 131, 138, 240, 434, 424, 438, 157, 154),
            "other processes": (117, 270, 271, 261, 122, 119, 274, 140, 30, 440, 448, 272, 238, 239),
            "network": (198, 199, 425),
            "memory that no limit counts": (279, 447, 194, 186, 190, 180, 219, 217, 218),
            "what Landlock leaves open on files": (*(52, 53, 452, 54, 55, 88, 45), *(5, 6, 7, 14, 15, 16, 463, 466)),
            "namespaces and mounts": (97, 268, 40, 430, 428, 429, 432, 442, 41, 51, 265, 264, 92),
            "the kernel": (280, 241, 282),
        },
    ),
}
FCNTL_SIGNALS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: they send signals to other processes through a pipe


class Confinement:
    """Limits, and on Linux Landlock and seccomp as far as the kernel supports them.

    limits: {"cpu": seconds, "memory": bytes, "file": bytes, "descriptors": number}. readable: the files and
    folders that stay readable; only /dev/null stays writeable. in_force: phrases for what is enforced.
    """

    def __init__(self, limits, readable):
        self.limits = limits
        self.in_force = ["CPU time", "file size", "descriptors", "processes"]
        if sys.platform == "linux":
            self.in_force.append("memory")
        self._ruleset = self._program = None
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._prepare_landlock(readable)
            self._prepare_seccomp()

    def die_with_parent(self):
        """Have the kernel end this process with its parent, and keep others out of its memory and descriptors."""
        if sys.platform == "linux":
            self._prctl(PDEATHSIG, SIGKILL)
            self._prctl(SUBREAPER, 1)
            self._prctl(DUMPABLE, 0)

    def enter(self):
        """Confine this process for good."""
        cpu = self.limits["cpu"]
        self._limit("RLIMIT_CORE", 0)
        self._limit("RLIMIT_CPU", cpu, cpu + 1)  # the first is a signal that can be caught, the second is not
        self._limit("RLIMIT_FSIZE", self.limits["file"])
        self._limit("RLIMIT_NPROC", 0)
        if sys.platform == "linux":
            self._limit("RLIMIT_AS", self.limits["memory"])
            self._prctl(PDEATHSIG, SIGKILL)
            self._prctl(NO_NEW_PRIVS, 1)
            if self._ruleset is not None:
                self._check(self._libc.syscall(RESTRICT_SELF, self._ruleset, 0))
                os.close(self._ruleset)
        self._limit("RLIMIT_NOFILE", self.limits["descriptors"])
        if self._program is not None:
            self._prctl(SECCOMP, 2, ctypes.byref(self._program))

    def _limit(self, name, soft, hard=None):
        kind = getattr(resource, name)
        most = resource.getrlimit(kind)[1]
        hard = soft if hard is None else hard
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))

    def _prctl(self, what, value, pointer=0):
        self._check(self._libc.prctl(what, ctypes.c_ulong(value), pointer or ctypes.c_ulong(0), 0, 0))

    def _check(self, result):
        if result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def _prepare_landlock(self, readable):
        version = self._libc.syscall(CREATE_RULESET, None, 0, 1)
        if version < 1:
            return
        rights = ALL_RIGHTS.get(version, ALL_RIGHTS_NOW)
        handled = [rights, *([TCP] if version >= 4 else []), *([ABSTRACT_SOCKETS_AND_SIGNALS] if version >= 6 else [])]
        attributes = struct.pack(f"={len(handled)}Q", *handled)
        self._ruleset = self._check(self._libc.syscall(CREATE_RULESET, attributes, len(attributes), 0))
        for path in readable:
            self._allow(path, READ_FILE | (READ_DIR if os.path.isdir(path) else 0))
        standard = os.path.dirname(os.__file__)
        self._allow(standard, READ_DIR)  # imports list this folder; the contents of other packages stay unreadable
        for entry in os.listdir(standard):
            if entry not in ("site-packages", "dist-packages"):
                path = os.path.join(standard, entry)
                self._allow(path, READ_FILE | (READ_DIR if os.path.isdir(path) else 0))
        self._allow("/dev/null", READ_FILE | WRITE_FILE | (TRUNCATE & rights))
        self._allow("/dev/urandom", READ_FILE)
        self.in_force.append("no view of other files (Landlock)")
        if version >= 4:
            self.in_force.append("no TCP (Landlock)")

    def _allow(self, path, rights):
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", rights, descriptor)
                self._check(self._libc.syscall(ADD_RULE, self._ruleset, 1, rule, 0))
            finally:
                os.close(descriptor)

    def _prepare_seccomp(self):
        if os.uname().machine not in REFUSED or sys.byteorder != "little":
            return
        architecture, fcntl, groups = REFUSED[os.uname().machine]
        load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
        steps = [
            (load, "next", "next", 4),  # the architecture
            (equal, "next", "kill", architecture),
            (load, "next", "next", 0),  # the number of the call
            (at_least, "refuse", "next", 0x40000000),  # x32's other numbers for the same calls
            *((equal, "refuse", "next", number) for group in groups.values() for number in group),
            (equal, "next", "allow", fcntl),
            (load, "next", "next", 24),  # what fcntl is asked for
            *((equal, "refuse", "next", command) for command in FCNTL_SIGNALS),
        ]
        ends = {"allow": 0x7FFF0000, "refuse": 0x00050000 | 1, "kill": 0x80000000}
        places = {name: len(steps) + n for n, name in enumerate(ends)}
        code = b""
        for at, (kind, yes, no, value) in enumerate(steps):
            jumps = (0 if name == "next" else places[name] - at - 1 for name in (yes, no))
            code += struct.pack("=HBBI", kind, *jumps, value)
        code += b"".join(struct.pack("=HBBI", give, 0, 0, value) for value in ends.values())

        class Program(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

        self._program = Program(len(code) // 8, code)
        self.in_force.append("no network, new processes, signals or tracing (seccomp)")
