"""Codes of genotypes in the settings: `A:0` or `A=0`, a text and its number of copies. No array library here."""

from __future__ import annotations

from collections.abc import Sequence

_LARGEST_PLOIDY = 16


def parse_codes(texts: Sequence[str]) -> dict[str, float]:
    """The number of copies of the alternative allele that each text stands for; a ValueError says what is wrong."""
    codes: dict[str, float] = {}
    for text in texts:
        code, _, copies = text.rpartition("=" if "=" in text else ":")
        code = code.strip()
        try:
            value = float(copies)
        except ValueError:
            value = -1
        if not code or not 0 <= value <= _LARGEST_PLOIDY:
            raise ValueError(f"holds `{text}`, which is not CODE:COPIES with 0 to {_LARGEST_PLOIDY} copies")
        if code in codes:
            raise ValueError(f"holds `{code}` twice")
        codes[code] = value
    if not codes:
        raise ValueError("is empty")
    return codes
