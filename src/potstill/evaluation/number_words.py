"""Numbers as a reader wants them: scores, differences, counts, bytes and seconds.

Knows no result and no page. Minus is the sign U+2212, which is as wide as plus, so that columns
of digits stand under each other; ``plain=True`` gives the hyphen that terminals can search for.
"""

from __future__ import annotations

from potstill.evaluation.compare import Interval

ABSENT = "\N{EM DASH}"
MINUS = "\N{MINUS SIGN}"


def score(value: float | None, *, plain: bool = False) -> str:
    """A score with three decimals, the absent one as a dash.

    Examples:
        >>> score(0.83149), score(None)
        ('0.831', '—')
    """
    if value is None:
        return ABSENT
    text = f"{value:.3f}"
    return _minus("0.000" if text == "-0.000" else text, plain)


def signed(value: float | None, *, plain: bool = False) -> str:
    """A difference of scores with its sign; what rounds to zero has none.

    Examples:
        >>> signed(0.0214), signed(-0.0001)
        ('+0.021', '0.000')
    """
    if value is None:
        return ABSENT
    text = f"{value:+.3f}"
    return _minus("0.000" if text in {"-0.000", "+0.000"} else text, plain)


def bracket(interval: Interval, *, plain: bool = False) -> str:
    """The two ends of an interval in brackets, without a space at which a line could break."""
    return f"[{signed(interval.low, plain=plain)},{signed(interval.high, plain=plain)}]"


def from_to(interval: Interval) -> str:
    """The two ends of an interval in words: ``+0.003 to +0.040``."""
    return f"{signed(interval.low)} to {signed(interval.high)}"


def count(value: float) -> str:
    """A whole number with groups of three."""
    return f"{value:,.0f}"


def short_count(value: float) -> str:
    """A large number with three digits and a letter.

    Examples:
        >>> short_count(22_713_216), short_count(850)
        ('22.7 M', '850')
    """
    return _scaled(value, ("", "k", "M", "B", "T")).strip()


def size(n_bytes: float) -> str:
    """Bytes with three digits, in decimal units."""
    return _scaled(n_bytes, ("bytes", "kB", "MB", "GB", "TB"))


def duration(seconds: float | None) -> str:
    """Wall time, to the second where it is longer than a minute.

    Examples:
        >>> duration(4.21), duration(63.1), duration(7322)
        ('4.2 s', '1 min 03 s', '2 h 02 min')
    """
    if seconds is None:
        return ABSENT
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def percent(share: float) -> str:
    """A share of 1 in per cent; only all is 100 %, only nothing is 0 %."""
    text = f"{100 * share:.0f}"
    if (text == "100" and share < 1) or (text == "0" and share > 0):
        text = f"{100 * share:.1f}"
    if (text == "100.0" and share < 1) or (text == "0.0" and share > 0):
        text = "over 99.9" if share > 0.5 else "under 0.1"
    return f"{text} %"


def ratio(value: float) -> str:
    """How many times, with two digits that mean something."""
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    unit = 0
    while abs(value) >= 999.5 and unit < len(units) - 1:
        value /= 1000
        unit += 1
    digits = 0 if unit == 0 or abs(value) >= 99.95 else 1
    return f"{value:.{digits}f} {units[unit]}"


def _minus(text: str, plain: bool) -> str:
    return text if plain else text.replace("-", MINUS)
