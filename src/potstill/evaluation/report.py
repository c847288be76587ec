"""``report.html``: one offline file that proves what a run found out, or says where it does not.

Knows the page and nothing of how the numbers came about. The page loads nothing: style, script
and charts are in it, and its content policy forbids the browser to fetch anything, or to run any
script but ours. It reads well without the script. Equal inputs give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from potstill.core.files import write_text
from potstill.evaluation import number_words
from potstill.evaluation.advice import advice
from potstill.evaluation.confusion import confused_pairs, confusion_tables, mistakes
from potstill.evaluation.leaderboard import board_rows, gain_words
from potstill.evaluation.report_sections import (
    cost_lines,
    curve_set,
    forest,
    likeliest,
    score_lines,
    stage_lines,
    task_views,
)
from potstill.evaluation.report_words import VERDICT_MARKS, headline_of, remarks, task_sentence
from potstill.evaluation.run_details import read_details
from potstill.evaluation.run_results import SYSTEMS, read_results

MAX_SHOWN = 240
"""Letters of a text that are shown before the reader asks for more."""

MAX_KEPT = 20_000
"""Letters of a text that the page holds; a book in a cell would make it too heavy to open."""

MAX_OPEN_TASKS = 3
"""With more tasks than this their sections start closed."""


def write_report(results: Mapping[str, Any], details: Mapping[str, Any], path: Path) -> None:
    """Write the report of a run as one HTML file, whole or not at all.

    Args:
        results: The document of ``results.json``.
        details: The document of ``details.json``; what it lacks is left out of the page.
        path: The file, usually ``report.html`` of the run.

    Raises:
        ArtefactError: Another version of ``results.json``.
        ResourceError: The disk is full.

    Examples:
        >>> import tempfile
        >>> task = {"metric": "accuracy", "n": 277, "scores": {"student": 0.75}, "verdict": None}
        >>> results = {"version": 1, "tasks": {"rte": task}, "mean": {}, "cost": {}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = Path(folder) / "report.html"
        ...     write_report(results, {"version": 1, "name": "first"}, page)
        ...     "0.750" in page.read_text()
        True
    """
    write_text(path, render_report(results, details))


def render_report(results: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    """The text of the report.

    Args:
        results: The document of ``results.json``.
        details: The document of ``details.json``.

    Raises:
        ArtefactError: Another version of ``results.json``.
    """
    run, more = read_results(results), read_details(details)
    rows, mean = board_rows(run)
    tasks = task_views(run, more)
    anchors = {view.result.name: view.anchor for view in tasks}
    script = _part("report_script.js")
    text = _environment().from_string(_part("report_template.html.j2")).render(
        run=run,
        details=more,
        headline=_unbroken(headline_of(run)),
        remarks=[_unbroken(sentence) for sentence in remarks(run)],
        advice=[_code(_unbroken(sentence)) for sentence in advice(run, more)],
        board=rows,
        board_mean=mean,
        gain=_unbroken(gain_words(run)),
        forest=forest(run, anchors),
        costs=cost_lines(run, more),
        curves=curve_set(run, more),
        tasks=tasks,
        anchors=anchors,
        open_tasks=len(tasks) <= MAX_OPEN_TASKS,
        stages=stage_lines(more),
        n_warnings=len(more.warnings) + sum(len(task.warnings) for task in more.tasks.values()),
        style=Markup(_part("report_style.css")),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - a file of this package
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip
    # A text cut in the middle of a surrogate pair has no bytes; a question mark has.
    return _visible(text).encode("utf-8", "replace").decode("utf-8")


def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        score=number_words.score,
        signed=number_words.signed,
        from_to=number_words.from_to,
        count=number_words.count,
        percent=number_words.percent,
        duration=number_words.duration,
        excerpt=_excerpt,
        kept=_kept,
    )
    environment.globals.update(
        systems=SYSTEMS,
        marks=VERDICT_MARKS,
        absent=number_words.ABSENT,
        task_sentence=task_sentence,
        confusion_tables=confusion_tables,
        confused_pairs=confused_pairs,
        mistakes=mistakes,
        score_lines=score_lines,
        likeliest=likeliest,
    )
    return environment


def _part(name: str) -> str:
    return files("potstill.evaluation").joinpath(name).read_text(encoding="utf-8").strip()


def _excerpt(text: str) -> str | None:
    """The start of a long text, cut at a space where there is one; None for a short text."""
    if len(text) <= MAX_SHOWN:
        return None
    start = text[:MAX_SHOWN]
    return (start.rsplit(None, 1)[0] if re.search(r"\s\S{0,40}$", start) else start) + " …"


def _kept(text: str) -> str:
    rest = len(text) - MAX_KEPT
    return f"{text[:MAX_KEPT]} … ({rest:,} more letters)" if rest > 0 else text


def _unbroken(text: str) -> str:
    """The text without breaks between a number and its unit."""
    return re.sub(r"(?<=\d) (?=[%kMBT](?!\w))", "\N{NO-BREAK SPACE}", text)


def _code(text: str) -> Markup:
    """The text with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
        for i, part in enumerate(parts)
    )


def _visible(text: str) -> str:
    """The text with a sign in the place of control letters, which HTML does not allow."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)
