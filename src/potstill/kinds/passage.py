"""Words of a passage: where an answer may begin and end, whatever the tokenizer."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import numpy as np

from potstill.core.characters import is_unseen

_WORD = re.compile(r"\w+|[^\w\s]")
_NO_BLANKS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that put no blanks between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


def word_bounds(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Where each word of a text starts and ends (behind its last character), (W,) int64 each.

    A word is a run of letters and digits, or a single sign; in scripts without blanks each letter
    is one. Marks (vowel signs, accents) go with what they stand on. The rule knows no tokenizer, so
    that soft targets of teachers with different ones speak of the same words.

    Examples:
        >>> starts, ends = word_bounds("It cost $9m.")
        >>> starts.tolist(), ends.tolist()
        ([0, 3, 8, 9, 11], [2, 7, 9, 11, 12])
    """
    if is_unseen(text):  # its zero-width characters would be signs, and so answers
        return np.empty(0, np.int64), np.empty(0, np.int64)
    pattern = _WORD if text.isascii() else _word_of_any_script()
    bounds = np.array([m.span() for m in pattern.finditer(text)], np.int64).reshape(-1, 2)
    return bounds[:, 0], bounds[:, 1]


@cache
def _word_of_any_script() -> re.Pattern[str]:
    """The same with marks, which are no letters to ``re``, and with letters that are words."""
    marks = "".join(c for c in map(chr, range(0x300, 0x1E000)) if unicodedata.category(c)[0] == "M")
    return re.compile(
        f"[{_NO_BLANKS}][{marks}]*|(?:(?![{_NO_BLANKS}])\\w[{marks}]*)+|[^\\w\\s][{marks}]*"
    )
