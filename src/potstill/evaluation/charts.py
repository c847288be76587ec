"""Small charts as inline SVG, drawn by hand: numbers in, markup out.

Knows scales, marks and the CSS classes ``c-<system>`` that colour them, no result and no page.
Every text goes through ``node``, which escapes it. Two habits keep the charts readable at any
width: a mark in a line of a table is placed in per cent of its cell, and a panel is drawn at the
size at which it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from potstill.evaluation.compare import Interval
from potstill.evaluation.number_words import MINUS, from_to, score, signed
from potstill.evaluation.run_details import Bin, Points

MAX_POINTS = 150
"""Points of one curve: more than the pixels of a panel say nothing new and cost bytes."""


def node(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """One element; its texts and attributes are escaped unless they are markup already.

    An underscore in an attribute's name stands for a hyphen (``class_`` for ``class``); an
    attribute that is None is left out.

    Examples:
        >>> str(node("text", "a < b", text_anchor="end", x=1.50))
        '<text text-anchor="end" x="1.5">a &lt; b</text>'
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(
            name.rstrip("_").replace("_", "-"), value if isinstance(value, str) else _plain(value)
        )
        for name, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, written, Markup("").join(children))


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear scale from ``low`` and ``high`` to the positions ``start`` and ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where ``value`` lies."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, least: int = 3) -> list[float]:
        """At least ``least`` round values within the scale, and not many more."""
        power = 10.0 ** math.ceil(math.log10(self.high - self.low))
        for step in (power * each for each in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)):
            first = math.ceil(self.low / step - 1e-6)
            last = math.floor(self.high / step + 1e-6)
            if last - first + 1 >= least:
                break
        return [index * step for index in range(first, last + 1)]


def axis_around(
    values: Sequence[float], start: float, end: float, *, margin: float = 0.06, least: float = 1e-6
) -> Axis:
    """A scale that holds all values with a margin on both sides, and is never empty."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    spread = max(high - low, least, 1e-6 * max(abs(low), abs(high)))
    middle = (low + high) / 2
    half = spread * (0.5 + margin)
    return Axis(middle - half, middle + half, start, end)


def tick_texts(ticks: Sequence[float], *, sign: bool = False) -> list[str]:
    """Ticks with the digits that tell them apart, or with k, M, e-5 where they are far from 1."""
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else abs(ticks[0]) if ticks else 1.0
    top = max((abs(tick) for tick in ticks), default=1.0)
    power = math.floor(math.log10(top)) if 0 < top < 1e-3 else 0
    unit, letter = (1e6, "M") if top >= 2e6 else (1e3, "k") if top >= 1e4 else (1.0, "")
    if power:
        unit, letter = 10.0**power, f"e{power}"
    step /= unit
    digits = max(0, -math.floor(math.log10(step) + 1e-6)) if step > 0 else 0
    texts = []
    for tick in ticks:
        zero = abs(tick / unit) < step / 1e3
        text = "0" if zero else f"{tick / unit:{'+' if sign else ''}.{digits}f}{letter}"
        texts.append(text.replace("-", MINUS))
    return texts


# Marks in the lines of a table: x in per cent of the cell, so that cells share one scale.


def forest_axis(intervals: Sequence[Interval]) -> Axis:
    """One scale in per cent for all intervals, zero included."""
    ends = [0.0, *(end for each in intervals for end in (each.low, each.high, each.delta))]
    return axis_around(ends, 0, 100, least=0.01)


def forest_mark(
    interval: Interval, axis: Axis, what: str, *, mean: bool = False, few: bool = False
) -> Markup:
    """A difference with its interval and the zero line, as wide as its cell.

    The class says whether the interval lies above zero, below it, or holds it; of ``few`` rows,
    whose interval shows no difference, neither.
    """
    sure = "unsure"
    if not few:
        sure = "up" if interval.low > 0 else "down" if interval.high < 0 else "unsure"
    words = f"{what}: {signed(interval.delta)}, 95 % interval {from_to(interval)}"
    low, high, middle = (
        f"{axis.at(end):.2f}%" for end in (interval.low, interval.high, interval.delta)
    )
    if mean:
        # A diamond; a nested svg moves with the per cent while its shape keeps its size.
        point = node(
            "svg", node("path", d="M-6 0L0-6L6 0L0 6Z", class_="dot"),
            x=middle, y=13, overflow="visible",
        )  # fmt: skip
    else:
        point = node("circle", cx=middle, cy=13, r=4, class_="dot")
    return node(
        "svg",
        node("title", words),
        _zero_line(axis),
        node("line", x1=low, x2=high, y1=13, y2=13, class_="whisker"),
        point,
        class_=f"forest {sure}", width="100%", height=26, role="img", aria_label=words,
    )  # fmt: skip


def forest_gap(axis: Axis) -> Markup:
    """A cell without a mark, in which only the zero line goes on."""
    return node(
        "svg", _zero_line(axis), class_="forest", width="100%", height=26, aria_hidden="true"
    )


def forest_ticks(axis: Axis) -> Markup:
    """The scale under a column of marks."""
    ticks = axis.ticks()
    if len(ticks) > 4:
        step = ticks[1] - ticks[0]
        ticks = [tick for tick in ticks if round(tick / step) % 2 == 0]
    marks = []
    for tick, text in zip(ticks, tick_texts(ticks, sign=True), strict=True):
        x = f"{axis.at(tick):.2f}%"
        marks.append(node("line", x1=x, x2=x, y1=0, y2=4, class_="axis"))
        marks.append(node("text", text, x=x, y=16, text_anchor="middle"))
    return node("svg", *marks, class_="forest", width="100%", height=20, aria_hidden="true")


def bar(share: float, system: str) -> Markup:
    """A bar over ``share`` of its cell's width; what is not nothing is at least a line."""
    width = f"{100 * min(max(share, 0.004 if share > 0 else 0.0), 1.0):.2f}%"
    return node(
        "svg",
        node("rect", x=0, y=1, width=width, height=10, class_=f"fill c-{system}"),
        class_="bar", width="100%", height=12, aria_hidden="true",
    )  # fmt: skip


def score_dots(
    rows: Sequence[tuple[str, str, float]], seeds: Mapping[str, Sequence[float]]
) -> Markup:
    """Scores as dots on one scale, one line for each system.

    Args:
        rows: Key of the system, its name, its score.
        seeds: By system, the scores of single seeds, drawn as ticks.
    """
    values = [value for _, _, value in rows] + [each for group in seeds.values() for each in group]
    width, left, right, step = 420, 118, 62, 24
    axis = axis_around(values, left, width - right, least=0.02)
    bottom = step * len(rows) + 4
    ticks = [tick for tick in axis.ticks() if axis.low <= tick <= axis.high]
    marks = []
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        x = axis.at(tick)
        marks.append(node("line", x1=x, x2=x, y1=2, y2=bottom, class_="grid"))
        marks.append(node("text", text, x=x, y=bottom + 15, text_anchor="middle"))
    for index, (system, name, value) in enumerate(rows):
        y = step * index + 14
        strong = "strong" if system == "student" else None
        marks.append(node("text", name, x=left - 12, y=y + 4, text_anchor="end", class_=strong))
        marks.extend(
            node(
                "line",
                x1=axis.at(each),
                x2=axis.at(each),
                y1=y - 7,
                y2=y + 7,
                class_=f"tick c-{system}",
            )
            for each in seeds.get(system, ())
        )
        marks.append(node("circle", cx=axis.at(value), cy=y, r=5, class_=f"fill c-{system}"))
        marks.append(node("text", score(value), x=width - right + 14, y=y + 4, class_=strong))
    words = ", ".join(f"{name} {score(value)}" for _, name, value in rows)
    return _panel(width, bottom + 20, f"Scores: {words}", marks)


# Panels: x and y in pixels.


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve of a panel; ``system`` colours it, ``faint`` puts it into the background."""

    name: str
    system: str
    points: Points
    faint: bool = False


def line_panel(lines: Sequence[Line], *, x_name: str, what: str) -> Markup:
    """Curves over steps or epochs.

    Args:
        lines: At least one, each with at least one point; later ones lie on top.
        x_name: What the horizontal scale counts.
        what: What the panel shows, for those who do not see it.
    """
    width, height, left, top, bottom = 270, 150, 42, 8, 32
    shown = [(line, thin_out(line.points)) for line in lines]
    xs = [x for _, points in shown for x, _ in points]
    ys = [y for _, points in shown for _, y in points]
    across = Axis(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, left, width - 10)
    up = axis_around(ys, height - bottom, top, least=1e-9 + abs(max(ys)) * 1e-3)
    marks = _grid(across, up, left=left, right=width - 8, bottom=height - bottom)
    marks.append(node("text", x_name, x=width - 10, y=height - 3, text_anchor="end", class_="name"))
    for line, points in shown:
        kind = f"line c-{line.system}{' faint' if line.faint else ''}"
        places = [(across.at(x), up.at(y)) for x, y in points]
        if len(places) > 1:
            path = "M" + "L".join(f"{_plain(x)} {_plain(y)}" for x, y in places)
            marks.append(node("path", node("title", line.name), d=path, class_=kind))
        if len(places) <= 8:
            marks.extend(
                node(
                    "circle", cx=x, cy=y, r=2 if line.faint else 2.6, class_=f"fill c-{line.system}"
                )
                for x, y in places
            )
    return _panel(width, height, what, marks)


def reliability_panel(bins: Mapping[str, Sequence[Bin]], what: str) -> Markup:
    """Accuracy over confidence; on the diagonal a model is as right as it is sure.

    Args:
        bins: By system; the area of a point is its share of the rows.
        what: What the panel shows, for those who do not see it.
    """
    width, height, left, bottom = 250, 250, 40, 36
    across, up = Axis(0, 1, left, width - 10), Axis(0, 1, height - bottom, 8)
    marks = _grid(across, up, left=left, right=width - 10, bottom=height - bottom)
    marks.append(
        node("line", x1=across.at(0), y1=up.at(0), x2=across.at(1), y2=up.at(1), class_="ideal")
    )
    marks.append(
        node("text", "confidence", x=width - 10, y=height - 3, text_anchor="end", class_="name")
    )
    marks.append(node("text", "accuracy", x=left + 6, y=18, class_="name"))
    for system, group in bins.items():
        places = [(across.at(each.confidence), up.at(each.accuracy), each) for each in group]
        most = max(each.n for each in group) or 1
        path = "M" + "L".join(f"{_plain(x)} {_plain(y)}" for x, y, _ in places)
        marks.append(node("path", d=path, class_=f"line c-{system}"))
        for x, y, each in places:
            words = f"confidence {each.confidence:.2f}, accuracy {each.accuracy:.2f}, {each.n} rows"
            radius = 1.5 + 5 * math.sqrt(each.n / most)
            kind = f"fill soft c-{system}"
            marks.append(node("circle", node("title", words), cx=x, cy=y, r=radius, class_=kind))
    return _panel(width, height, what, marks)


def scatter_panel(
    truth: Sequence[float], predicted: Sequence[float], axis: tuple[float, float], system: str,
    what: str,
) -> Markup:  # fmt: skip
    """Predictions over true values, with the line on which they are equal.

    Args:
        truth: (N,) true values.
        predicted: (N,) what ``system`` said.
        axis: Least and largest value of both scales, the same for panels side by side.
        system: Colours the points.
        what: What the panel shows, for those who do not see it.
    """
    width, height, left, bottom = 250, 250, 40, 36
    low, high = axis
    if low == high:  # by a share of it, for beside a large number 0.5 is nothing
        low, high = low - max(0.5, 1e-6 * abs(low)), low + max(0.5, 1e-6 * abs(low))
    across, up = Axis(low, high, left, width - 10), Axis(low, high, height - bottom, 8)
    marks = _grid(across, up, left=left, right=width - 10, bottom=height - bottom)
    marks.append(
        node(
            "line",
            x1=across.at(low),
            y1=up.at(low),
            x2=across.at(high),
            y2=up.at(high),
            class_="ideal",
        )
    )
    marks.append(
        node("text", "truth", x=width - 10, y=height - 3, text_anchor="end", class_="name")
    )
    marks.append(node("text", "prediction", x=left + 6, y=18, class_="name"))
    marks.extend(
        node("circle", cx=across.at(x), cy=up.at(y), r=2.4, class_=f"fill dust c-{system}")
        for x, y in zip(truth, predicted, strict=True)
    )
    return _panel(width, height, what, marks)


def thin_out(points: Points, most: int = MAX_POINTS) -> Points:
    """At most ``most`` points: the means of runs of equal length; x ascending.

    Examples:
        >>> thin_out(((0, 1.0), (1, 3.0), (2, 5.0), (3, 7.0)), most=2)
        ((0.5, 2.0), (2.5, 6.0))
    """
    points = tuple(sorted(points))
    if len(points) <= most:
        return points
    edges = [len(points) * index // most for index in range(most + 1)]
    groups = [points[a:b] for a, b in pairwise(edges)]
    return tuple(
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for group in groups
    )


def _grid(across: Axis, up: Axis, *, left: float, right: float, bottom: float) -> list[Markup]:
    marks = []
    ticks = [tick for tick in up.ticks() if up.low <= tick <= up.high]
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        y = up.at(tick)
        marks.append(node("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        marks.append(node("text", text, x=left - 6, y=y + 4, text_anchor="end"))
    ticks = across.ticks()
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        x = across.at(tick)
        marks.append(node("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        marks.append(node("text", text, x=x, y=bottom + 16, text_anchor="middle"))
    marks.append(node("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="axis"))
    return marks


def _zero_line(axis: Axis) -> Markup:
    x = f"{axis.at(0):.2f}%"
    return node("line", x1=x, x2=x, y1=0, y2=26, class_="zero")


def _panel(width: int, height: int, what: str, marks: Sequence[Markup]) -> Markup:
    return node(
        "svg", node("title", what), *marks,
        class_="panel", viewBox=f"0 0 {width} {height}", width=width, height=height,
        role="img", aria_label=what,
    )  # fmt: skip


def _plain(value: float | None) -> str:
    text = f"{value:.2f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
