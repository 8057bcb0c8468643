"""The symbols of the glossary: the line that a reader sees over each of them, and where they stand in a formula."""

import re

# What of a formula is no symbol: names of environments, text, words set upright.
FIXED = r"\\(?:begin|end|text|mathrm|mathbf|mathcal|operatorname)\s*\{[^{}]*\}"
TOKEN = r"\\[A-Za-z]+|\\."


def glossary_symbols(glossary):
    """((TeX, sentence), ...) of the glossary's tables: each symbol, what it is and its shape, longest symbol first."""
    found = {}
    for table in re.findall(r"(?:^\|.*\n)+", glossary, re.MULTILINE):
        header, _, *rows = ([cell.strip() for cell in row[1:-1].split("|")] for row in table.splitlines())
        if header[0] != "symbol":
            continue
        for row in rows:
            cells = dict(zip(header, row, strict=True))
            words = cells.get("what it is") or cells["what it counts"]
            shape = plain(cells.get("shape", ""))
            for symbol in re.findall(r"\$([^$]+)\$", cells["symbol"]):
                for each in symbol.split(", "):
                    found.setdefault(each, plain(words) + (f"; {shape}" if shape.startswith("(") else ""))
    return tuple(sorted(found.items(), key=lambda item: -len(item[0])))


def plain(text):
    """A cell of the glossary without markup, its formulas in letters.

    >>> plain(r"decay of head $h$: $1 - 2^{-5-h}$")
    'decay of head h: 1 - 2^(-5-h)'
    """
    text = re.sub(r"\^\\top", "ᵀ", text)
    for tex, letter in LETTERS.items():
        text = re.sub(re.escape(tex) + r"(?![A-Za-z])", letter, text)
    text = re.sub(r"\\(?:mathrm|mathbf|mathcal|text)\s*\{?(\w+)\}?|\\mathcal\s*(\w)", r"\1\2", text)
    text = re.sub(r"\{([^{}]*)\}", lambda match: match[1] if len(match[1]) == 1 else f"({match[1]})", text)
    return re.sub(r"[$`*]|\\[,;]", "", text).replace("\\", "").strip()


LETTERS = {
    r"\gamma": "γ", r"\theta": "θ", r"\Lambda": "Λ", r"\xi": "ξ", r"\zeta": "ζ", r"\rho": "ρ", r"\delta": "δ",
    r"\mu": "μ", r"\varepsilon": "ε", r"\odot": "⊙", r"\le": "≤", r"\ge": "≥", r"\times": "×", r"\dots": "…",
    r"\tau": "τ", r"\sqrt": "√", r"\cdot": "·", r"\infty": "∞", r"\dagger": "†", r"\ln": "ln", r"\log": "log",
}  # fmt: skip


def marked(formula, symbols):
    r"""A formula in which each symbol is wrapped in \htmlData{s=NUMBER}, its place in `symbols`.

    A symbol with an index, such as S_n, is meant with any other too.

    >>> marked(r"\gamma S_{n-1}", ((r"S_n", "the memory"), (r"\gamma", "decay")))
    '\\htmlData{s=1}{\\gamma} \\htmlData{s=0}{S_{n-1}}'
    """
    pattern = re.compile("|".join([*(f"(?P<s{i}>{_form(tex)})" for i, (tex, _) in enumerate(symbols)), FIXED, TOKEN]))

    def wrapped(match):
        number = (match.lastgroup or "").removeprefix("s")
        return f"\\htmlData{{s={number}}}{{{match[0]}}}" if number else match[0]

    return pattern.sub(wrapped, formula)


def _form(symbol):
    """The pattern of a symbol: a command ends where its letters do, and a small letter stands alone, unlike that of dx."""
    base, _, index = symbol.rpartition("_")
    if re.fullmatch("[a-z]", index):
        return re.escape(base) + r"_(?:[a-zA-Z0-9]|\{[^{}]*\})"
    if re.fullmatch("[a-z]", symbol):
        return rf"(?<![A-Za-z]){symbol}(?![A-Za-z\\])"
    return re.escape(symbol) + (r"(?![A-Za-z])" if re.search(r"\\[A-Za-z]+$", symbol) else "")
