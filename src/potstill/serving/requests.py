"""A request's body to token rows, and outputs to its answer. Knows no HTTP and no queue.

Rows of one request may have different columns: each is answered for the tasks that it can be
answered for, and all of them go through the engine together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic_core import from_json

from potstill.core.errors import DataError, UsageError
from potstill.models.token_rows import TokenRows, join_rows
from potstill.serving.predictor import BundlePredictor
from potstill.tasks.inputs import Columns, Reader
from potstill.tasks.predictor import decoded, leader, lost_ends, passes, shared_by

_MOST_WINDOWS = 64  # of a row: others wait for it
_LETTERS_A_TOKEN = 8  # more than any language needs on the mean


class PredictBody(BaseModel):
    """What ``POST /predict`` takes."""

    model_config = ConfigDict(extra="forbid")

    rows: list[dict[str, JsonValue]] = Field(
        min_length=1, description="Rows: column to text. Columns that no task reads are ignored."
    )
    tasks: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Tasks to answer; without it all whose columns a row has.",
    )


class BadBody(Exception):
    """A body that is no request.

    Args:
        status: 400 where it is not JSON, 422 where it is JSON of another form.
        got: What is wrong with it, and where.
    """

    def __init__(self, status: int, got: str) -> None:
        self.status = status
        self.got = got
        super().__init__(got)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """Rows that are read in one way.

    Attributes:
        rows: Their indices in the request.
        tasks: For each of them, the tasks to answer.
        bounds: Row i of them is the texts ``bounds[i]`` to ``bounds[i + 1]`` of the request.
        inputs: Their columns, for tasks whose answers speak of them.
    """

    rows: list[int]
    tasks: list[tuple[str, ...]]
    bounds: np.ndarray
    inputs: Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request, ready for the engine.

    Attributes:
        tokens: Token rows of all its passes, one after the other.
        passes: Which of them are whose.
        n_rows: Rows of the request.
    """

    tokens: TokenRows
    passes: list[_Pass]
    n_rows: int


def parse_body(body: bytes) -> PredictBody:
    """Read a body.

    Raises:
        BadBody: It is not JSON, or not of the form of :class:`PredictBody`.
    """
    try:
        found = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadBody(400, f"no valid JSON: {error}") from None
    try:
        return PredictBody.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        raise BadBody(422, f"{place}: {first['msg']}") from None


def prepare(
    predictor: BundlePredictor, body: PredictBody, *, most_rows: int, truncate: bool
) -> Prepared:
    """Check and tokenise a request.

    Args:
        predictor: Whose tasks and tokenizer.
        body: The request.
        most_rows: Most rows of a request.
        truncate: Texts that are too long lose their end; otherwise they are refused.

    Raises:
        UsageError: Too many rows; a task is unknown; a row cannot be answered.
        DataError: A value is missing or not text; a text is too long.
    """
    if len(body.rows) > most_rows:
        raise UsageError(
            "rows",
            got=f"{len(body.rows)} rows",
            wanted=f"at most {most_rows} in one request",
            todo="send them in several requests",
        )
    wanted: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    groups: dict[tuple[str, ...], tuple[list[int], list[tuple[str, ...]]]] = {}
    asked = None if body.tasks is None else list(dict.fromkeys(body.tasks))
    for i, row in enumerate(body.rows):
        columns = tuple(row)
        if columns not in wanted:
            names = predictor.answerable(columns, asked, where=f"row {i}: ")
            wanted[columns] = passes(predictor.heads, names, task_token=predictor.task_token)
        for group in wanted[columns]:
            key = group if predictor.task_token else shared_by(predictor.heads[group[0]])
            rows, tasks = groups.setdefault(key, ([], []))
            rows.append(i)
            tasks.append(group)
    parts, made, start = [], [], 0
    for rows, tasks in groups.values():
        every = list(dict.fromkeys(task for group in tasks for task in group))
        tokens, inputs = _tokenise(predictor, every, body.rows, rows, truncate)
        parts.append((tokens, np.arange(len(tokens))))
        made.append(_Pass(rows=rows, tasks=tasks, bounds=tokens.bounds + start, inputs=inputs))
        start += len(tokens)
    return Prepared(tokens=join_rows(parts), passes=made, n_rows=len(body.rows))


def _tokenise(
    predictor: BundlePredictor,
    tasks: Sequence[str],
    rows: Sequence[Mapping[str, object]],
    chosen: Sequence[int],
    truncate: bool,
) -> tuple[TokenRows, Columns]:
    task = leader(predictor.heads, tasks)
    inputs = predictor.heads[task].inputs
    table = {column: [rows[i][column] for i in chosen] for column in inputs.columns}
    texts = inputs.checked(table, lambda j: f"row {chosen[j]}")
    if predictor.heads[task].kind.slotted:
        _refuse_endless(predictor, inputs, texts, chosen)
    tokens = predictor.tokenise(task, texts)
    lost = lost_ends(predictor.heads, tasks, tokens)
    if not truncate and lost.any():
        i = chosen[int(np.argmax(lost))]
        raise DataError(
            f"row {i}, {', '.join(inputs.columns)}",
            got=f"a text of more than {predictor.max_tokens} tokens",
            wanted=f"at most {predictor.max_tokens} tokens, which is what the student reads",
            todo="shorten it, or let its end be cut off: POST /predict?truncate=true",
        )
    if tokens.windows is not None:
        n_windows = np.diff(tokens.windows)
        if n_windows.max(initial=0) > _MOST_WINDOWS:
            i = chosen[int(n_windows.argmax())]
            raise _too_many_windows(predictor, inputs, i, f"{n_windows.max()}")
    return tokens, texts


def _refuse_endless(
    predictor: BundlePredictor, inputs: Reader, texts: Columns, chosen: Sequence[int]
) -> None:
    """Refuse texts whose beginning alone has too many windows: to make them all takes seconds.

    Raises:
        DataError: One has.
    """
    most = _MOST_WINDOWS * predictor.max_tokens
    for j, parts in enumerate(inputs.texts(texts)):
        if len(parts[-1]) > most:  # a token has a character at least
            start = parts[-1][: _LETTERS_A_TOKEN * most]
            if predictor.n_tokens(start) > most:
                raise _too_many_windows(predictor, inputs, chosen[j], f"more than {_MOST_WINDOWS}")


def _too_many_windows(predictor: BundlePredictor, inputs: Reader, i: int, n: str) -> DataError:
    return DataError(
        f"row {i}, {', '.join(inputs.columns)}",
        got=f"a text that is read in {n} windows",
        wanted=f"at most {_MOST_WINDOWS} windows of {predictor.max_tokens} tokens",
        todo="part the text, or ask `potstill predict`, which has no such limit",
    )


def decode(
    predictor: BundlePredictor, prepared: Prepared, outputs: Sequence[np.ndarray]
) -> dict[str, Any]:
    """The answer to a request, from every task's outputs for its token rows."""
    answers: list[dict[str, Any]] = [{} for _ in range(prepared.n_rows)]
    place = {task: i for i, task in enumerate(predictor.heads)}
    for one in prepared.passes:
        for task in dict.fromkeys(t for tasks in one.tasks for t in tasks):
            asked = [j for j, tasks in enumerate(one.tasks) if task in tasks]
            own = outputs[place[task]]
            windows = [(one.bounds[j], one.bounds[j + 1]) for j in asked]
            if own.dtype == object:
                found = np.concatenate([part for a, b in windows for part in own[a:b]])
            else:
                found = own[[a for a, _ in windows]]
            inputs = {c: [values[j] for j in asked] for c, values in one.inputs.items()}
            for j, answer in zip(asked, decoded(predictor.heads[task], found, inputs), strict=True):
                answers[one.rows[j]][task] = answer
    return {
        "rows": [
            {
                "row": i,
                "tasks": {task: tasks[task] for task in sorted(tasks, key=place.__getitem__)},
            }
            for i, tasks in enumerate(answers)
        ]
    }
