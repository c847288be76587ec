"""The single-text tasks: verdict, fault (classes) and stars (a degree).

In each of them the words that point to one class occur as often in the others; what decides is
who did what, which half of a contrast holds, what is negated, and how far a modifier reaches.
"""

from __future__ import annotations

from potstill.demo.draw import Draw, sentences
from potstill.demo.words import (
    BAD,
    CLOSERS,
    GOOD,
    INTENSIFIERS,
    ITEMS,
    MISHAPS,
    NEGATIONS,
    OPENERS,
    PARTIES,
    SOURCES,
)

VERDICTS = ("pleased", "displeased", "undecided")
FAULTS = ("shop", "courier", "distillery", "customer")


def quality(draw: Draw, good: bool) -> str:
    """A phrase of the wanted valence: "superb", "truly superb" or "anything but dull"."""
    if draw.chance(0.2):
        return f"{draw.pick(NEGATIONS)} {draw.pick(BAD if good else GOOD)}"
    word = draw.pick(GOOD if good else BAD)
    return f"{draw.pick(INTENSIFIERS)} {word}" if draw.chance(0.2) else word


# {a} is the writer's own opinion of {i}, {e} somebody else's ({s}) or an earlier one.
_OPINIONS = (
    "I expected {i} to be {e}, and it was {a}.",
    "{s} had told me that {i} was {e}. I found it {a}.",
    "{i} was {a}, whereas {s} had called it {e}.",
    "In my opinion {i} is {a}. {s} says it is {e}.",
    "{i} turned out to be {a}. I had been told it would be {e}.",
    "We had thought {i} would be {e}. What we got was {a}.",
    "I find {i} {a}; I had warned my guests that it might be {e}.",
    "I used to think {i} was {a}. {s} thought it {e}. I have not changed my mind.",
)
_DOUBTS = (
    "{s} calls {i} {e}, others say {a}; mine is still in its wrapping.",
    "Is {i} really {e}, as {s} says? I shall know on Friday.",
    "Before I open {i}: should I expect it to be {e}, or {a}?",
    "{s} found {i} {e}. My own mind is not made up.",
    "They say {i} is {e}. Mine arrives next week.",
    "If {i} is {e}, as {s} says, you will hear from me again.",
    "Someone described {i} as {e}, someone else as {a}. Whom to believe?",
)


def verdict(draw: Draw, label: str) -> str:
    """A review with two opinions; the class is the writer's own, if there is one yet."""
    own = draw.chance(0.5) if label == "undecided" else label == "pleased"
    text = draw.pick(_DOUBTS if label == "undecided" else _OPINIONS).format(
        e=quality(draw, draw.chance(0.5)),
        a=quality(draw, own),
        i=draw.pick(ITEMS),
        s=draw.pick(SOURCES),
    )
    return _letter(draw, text)


# {x} is at fault, {y} is named beside it, {m} is what went wrong.
_BLAMES = (
    "{y} did nothing wrong; it was {x} that {m}.",
    "It was not {y} who {m} but {x}.",
    "It was {x}, not {y}, that {m}.",
    "{y} took the blame, though in truth {x} {m}.",
    "Please tell {y} that {x} {m}.",
    "Between {y} and {x}, it was the latter that {m}.",
    "While {y} was watching, {x} {m}.",
    "Do not scold {y}. We have since learned that {x} {m}.",
    "We suspected {y}, wrongly, as {x} {m}.",
)


def fault(draw: Draw, label: str) -> str:
    """A complaint that names two parties; the class is the one that did it."""
    other = draw.pick([name for name in FAULTS if name != label])
    text = draw.pick(_BLAMES).format(
        x=draw.pick(PARTIES[label]), y=draw.pick(PARTIES[other]), m=draw.pick(MISHAPS)
    )
    return _letter(draw, text)


_STRENGTHS = (
    (2, ("superb", "outstanding", "perfect", "glorious", "brilliant", "wonderful", "fantastic",
         "a triumph")),
    (1, ("decent", "nice", "pleasant", "good", "solid", "fine", "all right", "not bad")),
    (-1, ("weak", "dull", "flat", "so-so", "stale", "below par", "not great",
          "nothing special")),
    (-2, ("awful", "dreadful", "horrid", "appalling", "disgusting", "terrible", "a disgrace",
          "a disaster")),
)  # fmt: skip
_STRONGLY = ("very", "really", "truly", "decidedly", "thoroughly")
_WEAKLY = ("almost", "nearly", "close to", "just short of", "bordering on")
_MAIN_SHARE = 0.8
_ASPECTS = (
    "the taste", "the bottle", "the service", "the smell", "the finish", "the gift wrap",
    "the price", "the label", "the delivery", "the colour", "the cork", "the box",
)  # fmt: skip
# {p}, {q}: the main aspect and its quality; {u}, {v}: the minor one.
_RATINGS = (
    "{u} of {i} was {v}, but what counts is {p}, and that was {q}.",
    "{p} of {i} was {q}, although {u} was {v}.",
    "Never mind that {u} was {v}: {p} of {i} was {q}.",
    "Even if {u} of {i} was {v}, I judge by {p}, which was {q}.",
    "{p} of {i} was {q}, and that decides; {u} was {v}, by the way.",
)
STARS_RANGE = (0.0, 5.0)


def stars(draw: Draw) -> tuple[str, float]:
    """A review of two aspects and its stars, 0 .. 5 in tenths: the main aspect weighs 0.8."""
    (q, main), (v, minor) = _degree(draw), _degree(draw)
    p, u = draw.sample(_ASPECTS, 2)
    text = draw.pick(_RATINGS).format(p=p, q=q, u=u, v=v, i=draw.pick(ITEMS))
    value = 2.5 + 1.25 * (_MAIN_SHARE * main + (1 - _MAIN_SHARE) * minor)
    low, high = STARS_RANGE
    return sentences(text), round(min(max(value, low), high), 1)


def _degree(draw: Draw) -> tuple[str, float]:
    """A quality and its strength in -2 .. 2; "truly" and "rather" move it by half a step."""
    strength, words = draw.pick(_STRENGTHS)
    word = draw.pick(words)
    if " " in word or not draw.chance(0.35):
        return word, strength
    sign = 1 if strength > 0 else -1
    if abs(strength) == 1:
        return f"{draw.pick(_STRONGLY)} {word}", strength + 0.5 * sign
    return f"{draw.pick(_WEAKLY)} {word}", strength - 0.5 * sign


def _letter(draw: Draw, text: str) -> str:
    if draw.chance(0.15):
        text = f"{draw.pick(OPENERS)} {text}"
    elif draw.chance(0.15):
        text = f"{text} {draw.pick(CLOSERS)}"
    return sentences(text)
