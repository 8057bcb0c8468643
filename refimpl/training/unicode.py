"""Bytes of a file as text: the Unicode encodings, and why bytes are no text."""

import codecs
import re

UTF_8 = "utf-8-sig"  # with a byte-order mark or without
MARKS = {  # UTF-32's mark of little-endian order begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # characters that no text has, in any encoding over ASCII


def decode_text(data, what):
    """Bytes as text: UTF-8, or UTF-16 or UTF-32 with a byte-order mark; a ValueError begins with `what`.

    >>> decode_text(b"\\xff\\xfeH\\x00i\\x00", "file")
    'Hi'
    """
    if reason := no_text(data):
        raise ValueError(f"{what} is {reason}")
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{what} is not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start}); convert it first"
        ) from None


def no_text(data):
    """Why bytes are no text in any encoding: they are empty or binary; None for what may be text."""
    encoding = _encoding(data)
    if b"\0" in data and encoding == UTF_8:
        hint = "; UTF-16 needs a byte-order mark" if b"\0" in data[:2] else ""
        return f"binary (NUL byte at offset {data.index(0)}), not text{hint}"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        return (
            f"binary (byte 0x{data[error.start]:02x} at offset {error.start}), not text"
            if CONTROL.search(data)
            else None
        )
    if "\0" in text:
        return f"binary (NUL at character {text.index(chr(0))}), not text"
    return None if text.strip() else "empty"


def _encoding(data):
    return next((name for mark, name in MARKS.items() if data.startswith(mark)), UTF_8)
