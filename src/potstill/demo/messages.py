"""The single-text tasks: verdict, fault, request (classes) and stars (a degree).

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
    REQUESTS,
    SOURCES,
)

VERDICTS = ("pleased", "displeased", "undecided")
FAULTS = ("shop", "courier", "distillery", "customer")
REQUEST_NAMES = ("refund", "exchange", "cancel", "track", "invoice")


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
    "I took {i} home as {s} had called it {e}; in the end it was {a}.",
    "{i} turned out to be {a}. I had been told it would be {e}.",
    "We had thought {i} would be {e}. What we got was {a}.",
    "{a} is my word for {i}, while {s} promised it would be {e}.",
    "Going by {s}, {i} ought to be {e}. Mine is {a}.",
    "I find {i} {a}; I had warned my guests that it might be {e}.",
    "On Monday I would have called {i} {e}. Now that I know it, it is {a}.",
    "Whoever calls {i} {e} has not tried it: it is {a}.",
    "At first {i} seemed {e}, in the end it was {a}.",
    "{i}, {e} according to {s}, struck me as {a}.",
    "I used to think {i} was {a}. {s} thought it {e}. I have not changed my mind.",
    "The old batch of {i} was {e}. The one I have now is {a}.",
)
_DOUBTS = (
    "{s} calls {i} {e}, others say {a}; mine is still in its wrapping.",
    "Is {i} really {e}, as {s} says? I shall know on Friday.",
    "Before I open {i}: should I expect it to be {e}, or {a}?",
    "I cannot say if {i} is {e}; a cold has robbed me of all taste.",
    "{s} found {i} {e}. My own mind is not made up.",
    "One day {i} seems {e} to me, the next {a}.",
    "They say {i} is {e}. Mine arrives next week.",
    "If {i} is {e}, as {s} says, you will hear from me again.",
    "I gave {i} away unopened, so whether it is {e} or {a} I cannot tell.",
    "Someone described {i} as {e}, someone else as {a}. Whom to believe?",
    "My wife thinks {i} is {e} and my son says {a}. I abstain.",
    "It may be {e}, it may be {a}: {i} has to wait for my birthday.",
    "{i} could be {e} for all I know. I only know it from {s}.",
    "Ask me again in a month whether {i} is {e}. So far {s} alone thinks so.",
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
    "{y} says that {x} {m}, and the photos prove it.",
    "{x} says that {y} {m}, and that is simply untrue: the culprit is the one who complains.",
    "{x} blamed {y} at first and then owned up: nobody else {m}.",
    "{y} took the blame, though in truth {x} {m}.",
    "{y} had warned {x}, who {m} all the same.",
    "Please tell {y} that {x} {m}.",
    "{x} never told {y} the truth, namely who {m}: the one who kept silent.",
    "Between {y} and {x}, it was the latter that {m}.",
    "Between {x} and {y}, it was the former that {m}.",
    "While {y} was watching, {x} {m}.",
    "{x} {m} before {y} could step in.",
    "Do not scold {y}. We have since learned that {x} {m}.",
    "{y} was wrongly accused by {x}, who had in fact {m}.",
    "We suspected {y}, wrongly, as {x} {m}.",
    "I heard from {y} that {x} {m}.",
)


def fault(draw: Draw, label: str) -> str:
    """A complaint that names two parties; the class is the one that did it."""
    other = draw.pick([name for name in FAULTS if name != label])
    text = draw.pick(_BLAMES).format(
        x=draw.pick(PARTIES[label]), y=draw.pick(PARTIES[other]), m=draw.pick(MISHAPS)
    )
    return _letter(draw, text)


# {w} is wanted, {n} is not: infinitives; {wg}, {ng}: the same as gerunds.
_WISHES = (
    "I do not want to {n}; I would like to {w}.",
    "I was going to {n}, but I would now rather {w}.",
    "Last week I asked to {n}. That is settled; now I wish to {w}.",
    "Instead of {ng}, could I {w}?",
    "Could I {w} instead of {ng}?",
    "My neighbour hoped to {n}; all I need is to {w}.",
    "I would like to {w}, as {ng} no longer makes sense to me.",
    "You offered that I could {n}. Kind of you, and yet I prefer {wg}.",
    "There is no need for me to {n} once I manage to {w}.",
    "{wg} is what I am after, {ng} would not help me.",
    "{ng} can wait. The urgent point is {wg}.",
    "Is it possible to {w}? I have given up on {ng}.",
    "I told your colleague that I must {w}; he heard that I hoped to {n}.",
    "I would {n} if I could not {w}, so let us try the second first.",
    "Thank you for letting me {n}. One more wish: to {w}.",
    "First I hoped to {w}, then to {n}. On reflection my first thought stands.",
    "First I hoped to {n}, then to {w}. I am staying with the second.",
    "I would rather {w} than {n}.",
    "Rather than {n}, I would {w}.",
    "Unlike my sister, who means to {n}, I hope to {w}.",
    "Unlike me, my sister means to {n}. I had in mind to {w}.",
    "If I cannot {w}, then I would at least like to {n}, but only then.",
    "Whoever wrote that I want to {n} misread me: to {w} was my plea.",
    "It is not that I refuse to {w}; what I refuse is {ng}.",
    "You keep asking if I want to {n}. How often must I ask to {w}?",
    "I never said no to {wg}. I said no to {ng}.",
    "Only if {wg} turns out to be impossible would I want to {n}.",
    "Yes to {wg}, no to {ng}.",
    "No to {wg}? That was a slip of the pen, I meant no to {ng}.",
    "Your form has one box to {n} and one to {w}. I ticked the first by mistake.",
    "Your form has one box to {w} and one to {n}. I ticked the second by mistake.",
    "My husband would {n}. I have the last word and would {w}.",
)


def request(draw: Draw, label: str) -> str:
    """A message with two wishes; the class is the one that holds."""
    other = draw.pick([name for name in REQUEST_NAMES if name != label])
    wanted, wanting = _forms(draw.pick(REQUESTS[label]))
    refused, refusing = _forms(draw.pick(REQUESTS[other]))
    text = draw.pick(_WISHES).format(w=wanted, wg=wanting, n=refused, ng=refusing)
    return _letter(draw, text)


_STRENGTHS = (
    (2, ("superb", "magnificent", "outstanding", "perfect", "exquisite", "glorious", "brilliant",
         "wonderful", "marvellous", "fantastic", "a dream", "a triumph")),
    (1, ("decent", "nice", "pleasant", "good", "solid", "likeable", "agreeable", "fine",
         "all right", "pleasing", "respectable", "not bad")),
    (-1, ("weak", "dull", "plain", "flat", "so-so", "thin", "stale", "below par", "a bit much",
          "forgettable", "not great", "nothing special")),
    (-2, ("awful", "dreadful", "horrid", "appalling", "disgusting", "wretched", "atrocious",
          "terrible", "a disgrace", "a disaster", "unbearable", "beyond words bad")),
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
    "With {i}, {p} matters most to me and was {q}; {u}, a detail, was {v}.",
    "{i}: {p} {q}. Far less important, {u} {v}.",
    "Even if {u} of {i} was {v}, I judge by {p}, which was {q}.",
    "I care little for {u}, which was {v}. {p} of {i} was {q}.",
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


def _forms(entry: str) -> tuple[str, str]:
    verbs, rest = entry.split(" ", 1) if " " in entry else (entry, "")
    infinitive, gerund = verbs.split("|")
    return f"{infinitive} {rest}".strip(), f"{gerund} {rest}".strip()


def _letter(draw: Draw, text: str) -> str:
    if draw.chance(0.15):
        text = f"{draw.pick(OPENERS)} {text}"
    elif draw.chance(0.15):
        text = f"{text} {draw.pick(CLOSERS)}"
    return sentences(text)
