"""What a bundle takes and answers, for callers: ``GET /tasks`` and the OpenAPI page."""

from __future__ import annotations

from typing import Any

from potstill.serving.predictor import BundlePredictor
from potstill.tasks.predictor import readers_of


def tasks_schema() -> dict[str, Any]:
    """The schema of what :func:`describe` gives."""
    texts = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "engine": {"type": "string"},
            "max_tokens": {"type": "integer"},
            "tasks": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "properties": {"kind": {"type": "string"}, "columns": texts, "classes": texts},
                    "required": ["kind", "columns"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["name", "engine", "max_tokens", "tasks"],
        "additionalProperties": False,
    }


def answer_schema(predictor: BundlePredictor) -> dict[str, Any]:
    """The schema of an answer of ``POST /predict``: each task's as its kind says."""
    row = {
        "type": "object",
        "properties": {
            "row": {"type": "integer", "minimum": 0, "description": "Its index in the request."},
            "tasks": {
                "type": "object",
                "properties": {n: head.kind.answer_schema() for n, head in predictor.heads.items()},
                "additionalProperties": False,
            },
        },
        "required": ["row", "tasks"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": row}},
        "required": ["rows"],
        "additionalProperties": False,
    }


def describe(predictor: BundlePredictor) -> dict[str, Any]:
    """What ``GET /tasks`` says."""
    return {
        "name": predictor.name,
        "engine": predictor.engine_name,
        "max_tokens": predictor.max_tokens,
        "tasks": {
            name: {
                "kind": head.kind.name,
                "columns": list(head.inputs.columns),
                **({"classes": list(classes)} if (classes := head.kind.class_names) else {}),
            }
            for name, head in predictor.heads.items()
        },
    }


def body_schema(predictor: BundlePredictor, most_rows: int) -> dict[str, Any]:
    """The schema of ``PredictBody`` with this bundle's columns and tasks in it."""
    heads = predictor.heads
    columns: dict[str, list[str]] = {}
    for task, head in heads.items():
        for column in head.inputs.columns:
            columns.setdefault(column, []).append(task)
    readers = readers_of(heads)
    readable = dict.fromkeys(head.inputs.columns for head in heads.values())
    row = {
        "type": "object",
        "properties": {
            column: {**readers[column].schema(), "description": f"For {', '.join(tasks)}."}
            for column, tasks in columns.items()
        },
        "anyOf": [{"required": list(group)} for group in readable],
        "description": "Column to text. Columns that no task reads are ignored.",
    }
    return {
        "type": "object",
        "properties": {
            "rows": {
                "type": "array",
                "items": row,
                "minItems": 1,
                "maxItems": most_rows,
            },
            "tasks": {
                "anyOf": [
                    {"type": "array", "items": {"enum": list(heads)}, "minItems": 1},
                    {"type": "null"},
                ],
                "description": "Tasks to answer; without it all whose columns a row has.",
            },
        },
        "required": ["rows"],
        "additionalProperties": False,
        "allOf": [
            {
                "if": {
                    "properties": {"tasks": {"type": "array", "contains": {"const": task}}},
                    "required": ["tasks"],
                },
                "then": {
                    "properties": {"rows": {"items": {"required": list(head.inputs.columns)}}}
                },
            }
            for task, head in heads.items()
        ],
    }


def example(predictor: BundlePredictor) -> dict[str, Any]:
    """A body of ``POST /predict`` that is answered."""
    first = next(iter(predictor.heads))
    columns = predictor.heads[first].inputs.columns
    return {"rows": [dict.fromkeys(columns, "A warm, funny film.")], "tasks": [first]}
