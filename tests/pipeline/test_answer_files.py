"""Files of answers: what a table can hold, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from potstill.core.errors import UsageError
from potstill.kinds import Classification, Kind, Regression
from potstill.pipeline.answer_files import answer_sink
from potstill.tasks.sources import read_rows

MOOD = Classification(classes=("bad", "good"))
STARS = Regression(low=0.0, high=5.0, mean=0.6, spread=0.25)


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
@pytest.mark.parametrize(
    ("kinds", "got"),
    [
        (
            {"mood": MOOD, "mood_score": STARS},
            "two columns 'mood_score': the score of task 'mood', and task 'mood_score'",
        ),
        (
            {"mood_score": STARS, "mood": MOOD},
            "two columns 'mood_score': task 'mood_score', and the score of task 'mood'",
        ),
        ({"row": STARS}, "two columns 'row': the number of a row, and task 'row'"),
    ],
)
def test_tasks_that_would_share_a_column_are_refused(
    tmp_path: Path, name: str, kinds: dict[str, Kind], got: str
) -> None:
    with pytest.raises(UsageError) as caught, answer_sink(tmp_path / name, kinds):
        pass
    assert caught.value.got == got
    assert list(tmp_path.iterdir()) == []


def test_json_lines_take_tasks_of_any_name(tmp_path: Path) -> None:
    with answer_sink(tmp_path / "out.jsonl", {"mood": MOOD, "mood_score": STARS, "row": STARS}):
        pass
    assert (tmp_path / "out.jsonl").exists()


def test_a_cell_of_csv_may_hold_any_sign(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    words = ["a\rb", "a\nb", "a\r\nb", "\r", 'a "b", c', "ü"]
    kind = Classification(classes=tuple(words))
    rows = [
        {"row": i, "tasks": {"word": {"prediction": word, "scores": {word: 0.5}}}}
        for i, word in enumerate(words)
    ]
    with answer_sink(out, {"word": kind}) as sink:
        sink.write(rows[:2])
        sink.write(rows[2:])
    with out.open(encoding="utf-8", newline="") as text:
        assert list(csv.reader(text)) == [
            ["row", "word", "word_score"],
            *([str(i), word, "0.5"] for i, word in enumerate(words)),
        ]
    assert read_rows(out, columns=["word"], what="").columns == {"word": words}
    assert out.read_bytes().startswith(b'row,word,word_score\n0,"a\rb",0.5\n1,"a\nb",0.5\n')
