"""What an index of token shards says, as a table and lines."""

from rich.table import Table
from rich.text import Text

from .shards import PARTS, digest_of_index


def table_of_sources(index):
    """A rich table, a row a source: where it comes from, how many of its texts were duplicates, what each part has of it."""
    table = Table("source", "version", "licence", "texts", "duplicates", *(f"{part} MB" for part in PARTS))
    for each in index["sources"]:
        counts = f"{each['files']:,}", f"{sum(each['duplicates'].values()):,}"
        kept = (f"{each['kept_bytes'][part] / 1e6:.1f}" for part in PARTS)
        # As Text: a folder of the user's may hold brackets, which rich would read as markup.
        table.add_row(*map(Text, (each["name"], each["version"], each["licence"], *counts, *kept)))
    return table


def lines_of_parts(index):
    """A line a part: how many tokens, bytes and shards it has; and the digest of all of them."""
    for name, part in index["parts"].items():
        rate = f", {part['bytes'] / part['tokens']:.2f} bytes a token" if part["tokens"] else ""
        yield f"{name}: {part['tokens']:,} tokens of {part['bytes']:,} bytes in {len(part['shards'])} shards{rate}"
    yield f"digest: {digest_of_index(index)}"


def passages_of(shards, count, length=256):
    """Yield a line and a passage of `length` tokens, `count` times from each part of `Shards`, evenly spread."""
    for name in PARTS:
        tokens = getattr(shards, name)
        for i in range(count if tokens is not None else 0):
            start = len(tokens) * (2 * i + 1) // (2 * count)
            yield f"--- {name}, from token {start:,}\n{shards.tokenizer.decode(tokens[start : start + length])}"
