"""The tasks on two texts: reply (does it agree with the first?) and answer (ranking).

The second texts share the first one's words, so overlap alone does not give the class away.
"""

from __future__ import annotations

from collections.abc import Callable

from potstill.demo.draw import Draw, sentences
from potstill.demo.messages import quality
from potstill.demo.words import AGREED, BOTTLES, DENIED, ITEMS, PEOPLE, TRAITS, TURNED_AWAY

REPLIES = ("agrees", "disagrees", "other")

# ({a} did it to {b}, the same told from the side of {b})
_DEALS = (
    ("{a} lent {b} {i}", "{b} borrowed {i} from {a}"),
    ("{a} sold {i} to {b}", "{b} bought {i} from {a}"),
    ("{a} handed {b} {i}", "{b} was handed {i} by {a}"),
    ("{a} sent {i} to {b}", "{b} received {i} from {a}"),
    ("{a} gave {b} {i}", "{b} was given {i} by {a}"),
    ("{a} thanked {b} for {i}", "{b} was thanked for {i} by {a}"),
    ("{a} recommended {i} to {b}", "{b} heard of {i} from {a}"),
)
_EARLY = (
    "came {n} days before the promised date", "arrived {n} days ahead of schedule",
    "was delivered sooner than agreed", "was here long before we needed it", "came early",
    "reached us {n} hours before the party began", "did not keep us waiting",
)  # fmt: skip
_LATE = (
    "came {n} days after the promised date", "arrived {n} days behind schedule",
    "was delivered later than agreed", "was still missing when we needed it", "came late",
    "reached us {n} hours after the party had ended", "kept us waiting",
)  # fmt: skip
_WHOLE = (
    "arrived in one piece", "was unharmed", "had no scratch on it", "was as good as new",
    "came without any damage", "was intact",
)  # fmt: skip
_BROKEN = (
    "arrived in pieces", "was damaged", "had a long scratch on it", "came with a crack",
    "was anything but intact", "was far from unharmed",
)  # fmt: skip
_DEAR = (
    "is far from cheap", "costs a fortune", "is expensive", "is beyond my budget",
    "costs more than it should", "is overpriced",
)  # fmt: skip
_CHEAP = (
    "is anything but dear", "costs next to nothing", "is inexpensive", "is within my budget",
    "costs less than I feared", "is a bargain",
)  # fmt: skip
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_SAYS = (
    "{p} says that {c}.", "{c}.", "As {p} wrote, {c}.", "{c}, says {p}.", "We noted that {c}.",
    "It is true that {c}.", "{p} found that {c}.",
)  # fmt: skip
_DENIES = (
    "It is not true that {c}.", "{p} was wrong to say that {c}.", "Nobody can say that {c}.",
    "The claim that {c} is false.",
)  # fmt: skip


Claim = Callable[[bool], str]
"""A fact as a clause, or its opposite: ``claim(True)`` and ``claim(False)`` exclude each other."""


def _deal(draw: Draw, item: str) -> Claim:
    one, two = draw.sample(PEOPLE, 2)
    deal = draw.pick(_DEALS)

    def claim(value: bool) -> str:
        giver, taker = (one, two) if value else (two, one)
        return draw.pick(deal).format(a=giver, b=taker, i=item)

    return claim


def _state(true: tuple[str, ...], false: tuple[str, ...]) -> Callable[[Draw, str], Claim]:
    def topic(draw: Draw, item: str) -> Claim:
        number = draw.pick(_NUMBERS)
        return lambda value: f"{item} {draw.pick(true if value else false).format(n=number)}"

    return topic


def _liking(draw: Draw, item: str) -> Claim:
    return lambda value: f"{item} was {quality(draw, value)}"


_DEAL_SHARE = 0.15
_STATES = (_state(_EARLY, _LATE), _state(_WHOLE, _BROKEN), _state(_CHEAP, _DEAR), _liking)


_MARKS = {"agrees": AGREED, "disagrees": DENIED, "other": TURNED_AWAY}
_MARKED, _MARK_ALONE = 0.85, 0.5


def reply(draw: Draw, label: str) -> tuple[str, str]:
    """A message and the reply; the class tells whether the reply says what the message says."""
    item, person = draw.pick(ITEMS), draw.pick(PEOPLE)
    topic, other = draw.sample(_STATES, 2)
    if draw.chance(_DEAL_SHARE):
        topic, other = (_deal, other) if draw.chance(0.7) else (other, _deal)
    truth = draw.chance(0.5)
    claim = topic(draw, item)
    first = _said(draw, person, claim, truth, deniable=False)
    mark = draw.pick(_MARKS[label]) if draw.chance(_MARKED) else ""
    if label == "other":
        claim, said = other(draw, item), draw.chance(0.5)
        topic = other
    else:
        said = truth if label == "agrees" else not truth
        if mark and draw.chance(_MARK_ALONE):
            return first, sentences(f"{mark}.")
    second = _said(draw, person, claim, said, deniable=topic is not _deal)
    return first, sentences(f"{mark}. {second}" if mark else second)


def _said(draw: Draw, person: str, claim: Claim, value: bool, *, deniable: bool) -> str:
    """The claim as a sentence, at times as the denial of its opposite."""
    denied = deniable and draw.chance(0.15)
    frame = draw.pick(_DENIES if denied else _SAYS)
    return sentences(frame.format(p=person, c=claim(value != denied)))


_QUESTIONS = (
    "Is {b} {x}?", "Can you tell me whether {b} is {x}?",
    "I am looking for something {x}: is {b}?", "Would you call {b} {x}?",
    "My friend says {b} is {x}, is that so?", "Before I order {b}: is it {x}?",
    "Someone wrote that {b} is {x}. Is it?", "You would not say that {b} is {x}, would you?",
)  # fmt: skip
_ANSWERS = (
    "{d}.", "{b}: {d}.", "In a word: {d}.", "{d}, if you ask me.", "{d}, as the card says.",
    "I have it here: {d}.", "{b} has been like that for years: {d}.", "Well, {d}.",
)  # fmt: skip
_EVASIONS = (
    "Whether it is {x} I could not say.", "Many people ask us if it is {x}.",
    "Good question: {x} or not? Ask my colleague.", "I would have to look up if it is {x}.",
    "You are the third to ask whether it is {x}.", "Is it {x}? I wonder too.",
    "Some like it {x}, others do not.", "Do you often ask for something {x}?",
)  # fmt: skip


def answer(draw: Draw) -> tuple[str, list[str], int]:
    """A question about a bottle, 4 to 6 replies, and the place of the one that answers it.

    The others evade the question, or answer or evade another one.
    """
    bottle = draw.pick(BOTTLES)
    asked, *others = draw.sample(sorted(TRAITS), 4)
    question = draw.pick(_QUESTIONS).format(b=bottle, x=_wish(draw, asked))
    wrong = [
        _evasion(draw, asked),
        _evasion(draw, asked),
        _answer(draw, bottle, others[0]),
        _answer(draw, bottle, others[1]),
        _evasion(draw, others[2]),
    ]
    # Two evasions may have come out alike: each candidate stands once.
    wrong = list(dict.fromkeys(wrong))
    chosen = [_answer(draw, bottle, asked), *draw.sample(wrong, min(3 + draw.below(3), len(wrong)))]
    order = draw.shuffled(range(len(chosen)))
    return sentences(question), [chosen[place] for place in order], order.index(0)


def _wish(draw: Draw, trait: str) -> str:
    return draw.pick(draw.pick(TRAITS[trait])[0])


def _answer(draw: Draw, bottle: str, trait: str) -> str:
    description = draw.pick(draw.pick(TRAITS[trait])[1])
    return sentences(draw.pick(_ANSWERS).format(b=bottle, d=description))


def _evasion(draw: Draw, trait: str) -> str:
    return sentences(draw.pick(_EVASIONS).format(x=_wish(draw, trait)))
