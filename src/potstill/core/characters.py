"""Which characters can be seen, and shown."""

from __future__ import annotations

import ast
import re
import unicodedata
from typing import Any

_UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})
"""Categories of controls, of formats such as zero-width joiners, and of blanks."""

_UNSEEN_LETTERS = frozenset(
    {"\u034f", "\u115f", "\u1160", "\u2800", "\u3164", "\uffa0", *map(chr, range(0xFE00, 0xFE10))}
)
"""Joiners, fillers, the blank of Braille and variation selectors: letters, symbols or marks by
category, and nothing to see."""


_WHOLE = re.compile(r"^([+-]?[0-9]+)\.0*$")
_LIST_AS_TEXT = re.compile(r"""\s*\[\s*["']""")


def is_unseen(text: str) -> bool:
    r"""Whether a text is empty or holds only characters that cannot be seen.

    Examples:
        >>> is_unseen("\u200b \ufeff"), is_unseen("a\u200b")
        (True, False)
    """
    return all(
        character in _UNSEEN_LETTERS or unicodedata.category(character) in _UNSEEN
        for character in text
    )


def number_in(value: Any) -> float:
    """A value as ``float`` takes it; of texts only ASCII: Python alone would read ``1_5`` as 15.

    Raises:
        ValueError: A text that writes no number.
        TypeError: Neither text nor number.
        OverflowError: An integer that no float holds.
    """
    if isinstance(value, str) and ("_" in value or not value.strip().isascii()):
        raise ValueError(f"could not convert string to float: {value!r}")
    return float(value)


def as_integer(text: str) -> str:
    """A whole number without its ``.0``, any other text as it is.

    Examples:
        >>> as_integer("1.0"), as_integer("-3.00"), as_integer("1.50"), as_integer("v1.0")
        ('1', '-3', '1.50', 'v1.0')
    """
    return _WHOLE.sub(r"\1", text)


def folded(text: str) -> str:
    r"""The text without case, blanks, unseen characters, and ways to store accents.

    Examples:
        >>> folded("CAFE\u0301 \ufeff") == folded("caf\u00e9")
        True
    """
    seen = "".join(letter for letter in text.casefold() if not is_unseen(letter))
    return unicodedata.normalize("NFC", seen)


def made_visible(text: str) -> str:
    r"""The text with unseen characters, other than a plain blank, as escapes.

    Examples:
        >>> made_visible("a b\ufeff")
        'a b\\ufeff'
    """
    return "".join(
        ascii(letter)[1:-1] if letter != " " and is_unseen(letter) else letter for letter in text
    )


def is_list_as_text(value: object) -> bool:
    """Whether a value is a list of texts that was written as text, as tables in csv have it.

    Examples:
        >>> is_list_as_text('["in", "Paris"]'), is_list_as_text("['in']"), is_list_as_text("[x]")
        (True, True, False)
    """
    if not isinstance(value, str) or _LIST_AS_TEXT.match(value) is None:
        return False
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return isinstance(found, list) and all(isinstance(item, str) for item in found)


def printable(text: str) -> str:
    r"""The text without what a terminal would obey, such as the escape codes of a strange name.

    Examples:
        >>> printable("a\x1b[2Jb")
        'a�[2Jb'
    """
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
