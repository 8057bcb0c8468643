"""The symbols of the glossary: the line that a reader sees over each of them, and where they stand in a formula."""

import re

# What of a formula is no symbol: names of environments, text, words set upright.
FIXED = r"\\(?:begin|end|text|mathrm|mathbf|mathcal|operatorname|htmlData)\s*\{[^{}]*\}"
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

    >>> marked(r"\gamma S_n", ((r"S_n", "the memory"), (r"\gamma", "decay")))
    '\\htmlData{s=1}{\\gamma} \\htmlData{s=0}{S_n}'
    """
    numbers = {symbol: number for number, (symbol, _) in enumerate(symbols)}
    # A symbol of a letter must not be found inside a command, nor one with a shorter index in one with a longer.
    ends = (re.escape(symbol) + (r"(?![A-Za-z])" if symbol[-1].isalpha() and "\\" in symbol else "") for symbol in numbers)
    pattern = re.compile(f"{FIXED}|({'|'.join(ends)})(?!')|{TOKEN}")

    def wrapped(match):
        return f"\\htmlData{{s={numbers[match[1]]}}}{{{match[1]}}}" if match[1] else match[0]

    return pattern.sub(wrapped, formula)
