"""Texts of drawn words, and packages as Debian makes them."""

import io
import tarfile

import numpy as np

WORDS = [f"{first}{second}{third}" for first in "bdfgkl" for second in "aeiou" for third in "mnrst"]


def prose(seed, words=400):
    """Text of drawn words, no two seeds alike."""
    rng = np.random.default_rng(seed)
    return "".join(
        f"{word}{'.' if i % 9 == 8 else ''}{chr(10) if i % 12 == 11 else ' '}"
        for i, word in enumerate(rng.choice(WORDS, words))
    )


def package(path, files, ending=".xz"):
    """Write a Debian package that holds files, {path: bytes}."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{ending[1:]}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar{ending}": data.getvalue()}
    with open(path, "wb") as file:
        file.write(b"!<arch>\n")
        for name, content in members.items():
            file.write(
                f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
                + content
                + b"\n" * (len(content) % 2)
            )
