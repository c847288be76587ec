"""Whether a data file holds texts for texts: languages side by side, or a source and a target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from potstill.config.guess import NO_INPUT, Guess, Head

LANGUAGE = re.compile(
    "(ar|bg|bn|ca|cs|da|de|el|en|es|et|fa|fi|fr|ga|he|hi|hr|hu|id|is|it|ja|ka|ko|lt|lv|mk|mr|ms|mt"
    "|nl|no|pl|pt|ro|ru|sk|sl|sq|sr|sv|sw|ta|te|th|tr|uk|ur|vi|zh)([-_][a-z]{2,4})?",
    re.IGNORECASE,
)
_PAIRS = (
    ("source", "target"),
    ("src", "tgt"),
    ("document", "summary"),
    ("article", "summary"),
    ("article", "highlights"),
    ("dialogue", "summary"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("input", "output"),
    ("prompt", "completion"),
)


def guess_texts(heads: Mapping[str, Head], name: str) -> dict[str, Guess]:
    """Tasks that say texts, by name; none where the file holds no such thing.

    Args:
        heads: The first rows of each split; ``train`` among them.
        name: Name of a single task.
    """
    train = heads["train"]
    lower = {column.lower(): column for column in train}
    languages = [c for c in train if LANGUAGE.fullmatch(c) and _sentences(train[c])]
    others = [
        c for c in train if c not in languages and not NO_INPUT.fullmatch(c) and _texts(train[c])
    ]
    if len(languages) >= 2 and not others:
        source = next((c for c in languages if c.lower().startswith("en")), languages[0])
        why = (f"columns named as languages: {', '.join(languages)}; every pair may be a task",)
        return {
            f"{source}-{target}": Guess(
                kind="translation", keys={"source": source, "target": target}, notes=why
            )
            for target in languages
            if target != source
        }
    for first, second in _PAIRS:
        if first in lower and second in lower:
            source, target = lower[first], lower[second]
            if _mostly_there(train[source]) and _varied(train[target]):
                keys: dict[str, object] = {"source": source, "target": target}
                why = (f"'{target}' is a text for '{source}'; translation is a kind of its own",)
                unread = ", ".join(c for c in others if c not in (source, target))
                notes = (*why, f"not used: {unread}") if unread else why
                return {name: Guess(kind="generation", keys=keys, notes=notes)}
    return {}


def _texts(values: Sequence[object]) -> bool:
    present = [value for value in values if value is not None]
    return bool(present) and all(isinstance(value, str) for value in present)


def _mostly_there(values: Sequence[object]) -> bool:
    """Texts of which most are not empty."""
    filled = sum(bool(str(value).strip()) for value in values if value is not None)
    return _texts(values) and filled > len(values) / 2


def _sentences(values: Sequence[object]) -> bool:
    """Texts of several words: a column named `id` may hold keys, or Indonesian."""
    several = sum(" " in str(value).strip() for value in values if value is not None)
    return _texts(values) and several > len(values) / 2


def _varied(values: Sequence[object]) -> bool:
    """Texts of which few repeat: labels would."""
    return _texts(values) and len(set(map(str, values))) > len(values) / 2
