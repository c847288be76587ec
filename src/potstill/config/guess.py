"""What data files seem to hold: which columns matter, which kind.

Guesses only, from names and from the first rows; the caller says in comments what was guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from potstill.core.characters import number_in
from potstill.kinds import KINDS
from potstill.tasks.nested import is_nest
from potstill.tasks.records import separator_hint

Head = Mapping[str, Sequence[object]]
"""The first rows of a file, by column."""

_PAIRS = (
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("question", "answer"),
    ("query", "text"),
)
_SINGLES = ("text", "sentence", "utterance", "review", "content", "tweet", "comment", "message")
_QUERIES = ("query", "question", "q")
_CANDIDATES = ("text", "passage", "document", "doc", "candidate", "sentence", "answer")
_LABELS = (
    "label",
    "labels",
    "target",
    "class",
    "category",
    "intent",
    "sentiment",
    "relevance",
    "score",
    "similarity",
    "rating",
    "stars",
    "y",
)
_CLASS_NAMES = {"label", "labels", "class", "category", "intent"}
_LATER = {"images": {"image", "label"}}
_WORDS = ("tokens", "words")
_TAGS = ("tags", "ner_tags", "pos_tags")
NO_INPUT = re.compile(
    r"(idx|id|index|guid|uid|uuid|.*_idx|.*_id|[a-z]?id\d*|unnamed.*|)", re.IGNORECASE
)

_MOST_CLASSES = 50  # of whole numbers: above, they are an amount
_VARIED = 0.3  # distinct values a row, below which a column of words is no text
_REPEATS = 0.7  # distinct queries a row, below which rows are lists of candidates


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """What a task's files seem to hold.

    Attributes:
        kind: Name of the task kind.
        keys: The keys of the run file that follow from it, besides the files.
        notes: Why, in words.
    """

    kind: str
    keys: dict[str, object]
    notes: tuple[str, ...]


def guess_task(heads: Mapping[str, Head]) -> Guess | str:
    """Kind and keys of a task, from the heads of its splits; or why it is none.

    Args:
        heads: The first rows of each split; ``train`` among them.
    """
    train = heads["train"]
    if not any(len(values) for values in train.values()):
        return "no rows"
    special = _later(train) or _guess_of_lists(train)
    if special is not None:
        return special
    texts = {name: _texts_of(values) for name, values in train.items()}
    inputs = [name for name, values in texts.items() if values and not NO_INPUT.fullmatch(name)]
    label = _label_column(train, inputs)
    if label is None:
        hint = separator_hint(list(train))
        return f"no column with labels among: {', '.join(train)}" + (f"; {hint}" if hint else "")
    inputs = [name for name in inputs if name != label]
    labelled = [head for head in heads.values() if not is_unlabelled(head, train, label)]
    labels = [v for head in labelled for v in head.get(label, ()) if not _is_missing(v)]
    if _are_lists_as_text(labels):
        return _written_as_text(label)
    numbers = _numbers(labels)
    query = _first(_QUERIES, inputs)
    candidate = _first([c for c in _CANDIDATES if c != query], inputs)
    if query and candidate and numbers is not None and min(numbers) >= 0:
        queries = texts[query]
        if len(set(queries)) <= _REPEATS * len(queries) or query in ("query", "q"):
            return Guess(
                kind="ranking",
                keys={"query": query, "text": candidate, "label": label},
                notes=(f"rows with one '{query}' are the candidates of one list",),
            )
    text, why = _input_columns(texts, inputs)
    if not text:
        return f"no column with text among: {', '.join(train)}"
    keys: dict[str, object] = {"text": text[0] if len(text) == 1 else list(text), "label": label}
    more = _also_labelled(train, text, label)
    return _guess_of_labels(label, labels, keys, ((why,) if why else ()) + more)


def _guess_of_labels(
    label: str, labels: Sequence[object], keys: dict[str, object], notes: tuple[str, ...]
) -> Guess | str:
    """Classes or amounts, by the labels of the first rows."""
    numbers, distinct = _numbers(labels), sorted({str(value) for value in labels})
    if label in distinct or (numbers is not None and _numbers([label]) is not None):
        doubt = f"'{label}' is named like a label: does the file begin with the columns' names?"
        notes = (*notes, doubt)
    many = len(distinct) > _MOST_CLASSES
    ids = False
    if numbers is not None:
        whole = all(n.is_integer() for n in numbers)
        in_floats = any(isinstance(v, float) for v in labels)
        ids = many and whole and not in_floats and label.lower() in _CLASS_NAMES
        fractions = not whole or (in_floats and not set(numbers) <= {0.0, 1.0})
        if not ids and (many or fractions):
            low, high = round_outward(min(numbers), max(numbers))
            seen = f"labels from {min(numbers):g} to {max(numbers):g} seen: check `range`"
            return Guess(
                kind="regression", keys={**keys, "range": [low, high]}, notes=(*notes, seen)
            )
    if len(distinct) > max(_MOST_CLASSES, len(labels) // 2):
        return f"column '{label}' has {len(distinct)} different values in {len(labels)} rows"
    shown = ", ".join(distinct[:8]) + (", ..." if len(distinct) > 8 else "")
    seen = f"{len(distinct)} classes seen: {shown}"
    if ids:
        seen = f"{len(distinct)} whole numbers seen, taken for classes; amounts are a regression"
    return Guess(kind="classification", keys=keys, notes=(*notes, seen))


def _are_words(values: Sequence[object]) -> bool:
    """Lists, or texts of which most hold more than one word."""
    present = [value for value in values if value is not None]
    texts = [value for value in present if isinstance(value, str)]
    several = sum(len(text.split()) > 1 for text in texts)
    return len(texts) < len(present) or 2 * several > len(texts) > 0


def _also_labelled(train: Head, text: Sequence[str], label: str = "") -> tuple[str, ...]:
    """A note on a column beside ``label`` whose few values look like classes."""
    known = {name for pair in _PAIRS for name in pair} | {*_SINGLES, *_CANDIDATES}
    free = [name for name in train if name not in {label, *text} and name.lower() not in known]
    others = [name for name in free if _has_classes(train, name)]
    if not others:
        return ()
    read = text[0] if len(text) == 1 else f"[{', '.join(text)}]"
    second = f"{{kind: classification, text: {read}, label: {others[0]}}}"
    names = " and ".join(f"'{name}'" for name in others[:2])
    verb = "is" if len(others) == 1 else "are"
    return (f"{names} {verb} not used: a second task of the same files could be {second}",)


def _has_classes(train: Head, name: str) -> bool:
    """Whether a column holds few values, each many times."""
    values = [str(v) for v in train[name] if not _is_missing(v)]
    few = 2 <= len(set(values)) <= max(2, min(_MOST_CLASSES, len(values) // 3))
    return few and _is_scalar(train[name]) and not NO_INPUT.fullmatch(name)


def _later(train: Head) -> str | None:
    for kind, columns in _LATER.items():
        if columns <= {name.lower() for name in train}:
            return f"looks like {kind}, which is not in this version"
    return None


def _guess_of_lists(train: Head) -> Guess | str | None:
    """Kinds whose rows hold lists: tags of words, answers in a passage, several labels."""
    lower = {name.lower(): name for name in train}
    words, tags = _first(_WORDS, list(train)), _first(_TAGS, list(train))
    answers = lower.get("answers") if {"question", "context"} <= set(lower) else None
    for column in (words, tags) if words and tags else (answers,):
        if column and _are_lists_as_text(train[column]):
            return _written_as_text(column)
    if words and tags and _are_words(train[words]) and _are_words(train[tags]):
        if any(isinstance(v, list) and v and isinstance(v[0], int) for v in train[tags]):
            return f"column '{tags}' holds numbers: write the tags as words (O, B-..., I-...)"
        return Guess(
            kind="tagging",
            keys={"tokens": words, "tags": tags},
            notes=("a tag for every word, in IOB2", *_also_labelled(train, [words])),
        )
    if answers:
        starts = lower.get("answer_starts")
        keys: dict[str, object] = {key: lower[key] for key in ("question", "context", "answers")}
        if starts is not None:
            return Guess(kind="span", keys={**keys, "answer_starts": starts}, notes=())
        if is_nest(train[lower["answers"]], KINDS["span"].nested):
            note = f"'{lower['answers']}' holds the answers and their places, as in SQuAD"
            return Guess(kind="span", keys=keys, notes=(note,))
        return "no column 'answer_starts': the place of each answer in its passage"
    label = _first(_LABELS, list(train))
    labels = [] if label is None else [v for v in train[label] if v is not None]
    if label is not None and labels and all(isinstance(v, list) for v in labels):
        texts = {name: _texts_of(values) for name, values in train.items()}
        inputs = [name for name, values in texts.items() if values and not NO_INPUT.fullmatch(name)]
        text, why = _input_columns(texts, inputs)
        if text:
            return Guess(
                kind="multilabel",
                keys={"text": text[0] if len(text) == 1 else list(text), "label": label},
                notes=((why,) if why else ()) + ("lists of labels",),
            )
    return None


def is_unlabelled(head: Head, train: Head, label: str) -> bool:
    """Whether all labels of a split are -1, which those of train never are: a hidden test."""
    own, known = (
        _numbers([value for value in part.get(label, ()) if not _is_missing(value)])
        for part in (head, train)
    )
    return own is not None and set(own) == {-1.0} and -1.0 not in (known or ())


def _are_lists_as_text(values: Sequence[object]) -> bool:
    """Whether most are lists or mappings that were written as text, as tables in csv have them."""
    there = [v for v in values if not _is_missing(v)]
    ends = {"[": "]", "{": "}"}
    return 2 * sum(isinstance(v, str) and ends.get(v[:1]) == v[-1:] for v in there) > len(there)


def _written_as_text(column: str) -> str:
    return f"column '{column}' holds lists written as text: write jsonl or parquet with lists"


def lacks(head: Head, columns: Sequence[str]) -> list[str]:
    """The columns that a file does not have, or has without any value."""
    return [c for c in columns if not any(not _is_missing(v) for v in head.get(c, ()))]


def round_outward(low: float, high: float) -> tuple[float, float]:
    """A round range that holds ``low`` to ``high``; whole numbers where both are integral."""
    span = high - low
    step = 1.0 if span <= 10 else 10.0 ** math.floor(math.log10(span))
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    if bottom == top:
        top += step
    return bottom, top


def _label_column(train: Head, inputs: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in train}
    for name in _LABELS:
        column = lower.get(name)
        if column is not None and _is_scalar(train[column]):
            return column
    known = {name for pair in _PAIRS for name in pair} | {*_SINGLES, *_CANDIDATES}
    for name in reversed(list(train)):
        if _has_classes(train, name) and name.lower() not in known and set(inputs) - {name}:
            return name
    return None


def _input_columns(
    texts: Mapping[str, list[str]], inputs: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    lower = {name.lower(): name for name in inputs}
    for first, second in _PAIRS:
        if first in lower and second in lower:
            return (lower[first], lower[second]), ""
    for name in _SINGLES:
        if name in lower:
            others = [o for o in inputs if o != lower[name] and _varied(texts[o])]
            unused = f"not used: {', '.join(others)}; a pair is text: [first, second]"
            return (lower[name],), unused if others else ""
    inputs = [name for name in inputs if _varied(texts[name])]
    if not inputs:
        return (), ""
    mean = {name: sum(map(len, texts[name])) / len(texts[name]) for name in inputs}
    longest = max(inputs, key=lambda name: mean[name])
    pair = tuple(name for name in inputs if mean[name] >= mean[longest] / 2)
    chosen = pair if len(pair) == 2 else (longest,)
    return chosen, f"longest text of: {', '.join(inputs)}"


def _varied(values: Sequence[str]) -> bool:
    return len(set(values)) >= _VARIED * len(values)


def _texts_of(values: Sequence[object]) -> list[str]:
    """The values of a text column; none where it holds anything else, or numbers as text."""
    present = [value for value in values if not _is_missing(value)]
    if not all(isinstance(value, str) for value in present) or _numbers(present) is not None:
        return []
    return [str(value) for value in present]


def _numbers(values: Sequence[object]) -> list[float] | None:
    """The values as numbers, where all of them are."""
    found: list[float] = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return None
        try:
            number = number_in(value)
        except (ValueError, OverflowError):
            return None
        if not math.isfinite(number):
            return None
        found.append(number)
    return found or None


def _is_missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _is_scalar(values: Sequence[object]) -> bool:
    present = [value for value in values if not _is_missing(value)]
    return bool(present) and all(isinstance(v, str | bool | int | float) for v in present)


def _first(names: Sequence[str], columns: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in columns}
    return next((lower[name] for name in names if name in lower), None)
