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

# seccomp, by architecture: its number, and the calls that student code is left with, which it needs to compute and to answer.
# None of them names a file, makes a descriptor, or reaches another process. Everything else is refused.
ALLOWED = {
    "x86_64": (
        0xC000003E,
        {
            "descriptors it has": (0, 1, 20, 3, 436, 7, 23, 270, 271),  # read, write, writev, close, poll, select
            "memory": (9, 10, 11, 12, 25),  # mmap, mprotect, munmap, brk, mremap
            "its own signals": (13, 14, 15, 131),  # rt_sig*, sigaltstack
            "time": (24, 35, 230, 228, 229, 96, 201, 100, 219),  # sched_yield, sleep, clocks, times, restart_syscall
            "who it is": (39, 110, 102, 107, 104, 108, 186, 63, 204, 79),  # get*id, uname, sched_getaffinity, getcwd
            "chance and ends": (318, 60, 231),  # getrandom, exit, exit_group
        },
        {"futex": 202, "madvise": 28},
    ),
    "aarch64": (
        0xC00000B7,
        {
            "descriptors it has": (63, 64, 66, 57, 436, 72, 73),
            "memory": (222, 226, 215, 214, 216),
            "its own signals": (134, 135, 139, 132),
            "time": (124, 101, 115, 113, 114, 169, 153, 128),
            "who it is": (172, 173, 174, 175, 176, 177, 178, 160, 123, 17),
            "chance and ends": (278, 93, 94),
        },
        {"futex": 98, "madvise": 233},
    ),
}
FUTEX_PRIVATE = 128  # the others wait on a page of a file, where another process may wake them
MADVISE = (4, 8, 14, 15)  # on free memory and large pages; other advice moves files into or out of the machine's cache

COMPUTES_ONLY = "no files, locks, watches, network, new processes, signals or tracing (seccomp)"
NO_OTHER_FILES = "no view of other files (Landlock)"


class Confinement:
    """Limits, and on Linux Landlock and seccomp as far as the kernel supports them.

    `enter` leaves what imports need, `compute_only` takes that away too. Student code runs after both.

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

    def keep_others_out(self):
        """Keep other processes out of this one's memory and descriptors, and have it collect what its children leave."""
        if sys.platform == "linux":
            self._prctl(SUBREAPER, 1)
            self._prctl(DUMPABLE, 0)

    def enter(self, parent):
        """Confine this process for good, and end it with the process `parent` (a number) that made it."""
        cpu = self.limits["cpu"]
        self._limit("RLIMIT_CORE", 0)
        self._limit("RLIMIT_CPU", cpu, cpu + 1)  # the first is a signal that can be caught, the second is not
        self._limit("RLIMIT_FSIZE", self.limits["file"])
        self._limit("RLIMIT_NPROC", 0)
        if sys.platform == "linux":
            self._limit("RLIMIT_AS", self.limits["memory"])
            self._prctl(PDEATHSIG, SIGKILL)  # for good: `compute_only` refuses prctl
            if os.getppid() != parent:
                raise OSError("the process that asked is gone")
            self._prctl(NO_NEW_PRIVS, 1)
            if self._ruleset is not None:
                self._check(self._libc.syscall(RESTRICT_SELF, self._ruleset, 0))
                os.close(self._ruleset)
        self._limit("RLIMIT_NOFILE", self.limits["descriptors"])

    def compute_only(self):
        """Refuse every system call but the `ALLOWED`, from here on."""
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
        self.in_force.append(NO_OTHER_FILES)
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
        if os.uname().machine not in ALLOWED or sys.byteorder != "little":
            return
        architecture, groups, special = ALLOWED[os.uname().machine]
        load, equal, has_bits, give = 0x20, 0x15, 0x45, 0x06
        first_32_bits_of_argument = {0: 16, 1: 24, 2: 32}
        steps = [
            (load, "next", "next", 4),  # the architecture
            (equal, "next", "kill", architecture),
            (load, "next", "next", 0),  # the number of the call; x32's other numbers for the same calls are not allowed
            *((equal, "allow", "next", number) for group in groups.values() for number in group),
            (equal, "next", "two on", special["futex"]),
            (load, "next", "next", first_32_bits_of_argument[1]),
            (has_bits, "allow", "refuse", FUTEX_PRIVATE),
            (equal, "next", "refuse", special["madvise"]),
            (load, "next", "next", first_32_bits_of_argument[2]),
            *((equal, "allow", "next", advice) for advice in MADVISE),
        ]
        ends = {"refuse": 0x00050000 | 1, "allow": 0x7FFF0000, "kill": 0x80000000}  # the first is also where steps end
        places = {name: len(steps) + n for n, name in enumerate(ends)}
        code = b""
        for at, (kind, yes, no, value) in enumerate(steps):
            jumps = ({"next": 0, "two on": 2}.get(name, places.get(name, 0) - at - 1) for name in (yes, no))
            code += struct.pack("=HBBI", kind, *jumps, value)
        code += b"".join(struct.pack("=HBBI", give, 0, 0, value) for value in ends.values())

        class Program(ctypes.Structure):
            _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

        self._program = Program(len(code) // 8, code)
        self.in_force.append(COMPUTES_ONLY)
