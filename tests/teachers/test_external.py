"""Teachers of others: label order, joins, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.special import softmax
from transformers import BertConfig, BertForSequenceClassification

from potstill.core.errors import BaseModelError, DataError, MismatchError
from potstill.tasks.sources import Source
from potstill.tasks.task import Task
from potstill.teachers.external import (
    classifier_member,
    classifier_outputs,
    scores_member,
    scores_outputs,
)
from potstill.teachers.member import Member
from tests.tiny import CPU, toy_task
from tests.toys import VOCABULARY, toy_rows, toy_tokenizer, write_rows

TASK = toy_task(train=16, dev=8)
PAIR = toy_task("pair", train=16, dev=8)
SCORE = toy_task("regression", train=16, dev=8)
LISTS = toy_task("ranking", train=16, dev=8)


def classifier(folder: Path, labels: tuple[str, ...]) -> BertForSequenceClassification:
    """A tiny classifier of somebody else."""
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    toy_tokenizer().save(str(folder / "tokenizer.json"))
    return cast("BertForSequenceClassification", model)


def outputs_of(member: Member, task: Task, max_tokens: int = 64) -> np.ndarray:
    done: list[int] = []
    rows = [task.train, task.dev]
    outputs = classifier_outputs(
        member, task, rows, device=CPU, max_tokens=max_tokens, done=done.append
    )
    assert sum(done) == len(outputs)
    return outputs


def reference(model: BertForSequenceClassification, task: Task) -> np.ndarray:
    """Logits row by row, without any padding."""
    tokenizer = toy_tokenizer()
    rows = []
    for split in (task.train, task.dev):
        for texts in zip(*split.inputs.values(), strict=True):
            encoded = tokenizer.encode(*texts)
            with torch.inference_mode():
                logits = model(
                    input_ids=torch.tensor([encoded.ids]),
                    token_type_ids=torch.tensor([encoded.type_ids]),
                ).logits
            rows.append(logits[0].numpy())
    return np.stack(rows)


# -- classifiers --------------------------------------------------------------------------------


def test_a_classifiers_labels_are_brought_into_the_tasks_order(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("good", "bad"))  # the task has them the other way round
    member = classifier_member(str(tmp_path), None, "given 1")
    assert member.source == "classifier"
    got = outputs_of(member, TASK)
    np.testing.assert_allclose(got, reference(model, TASK)[:, [1, 0]], rtol=1e-4, atol=1e-5)


def test_pairs_are_read_with_types(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("no", "yes"))
    got = outputs_of(classifier_member(str(tmp_path), None, "m"), PAIR)
    np.testing.assert_allclose(got, reference(model, PAIR), rtol=1e-4, atol=1e-5)


def test_labels_that_are_said_by_the_user(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("LABEL_0", "LABEL_1"))
    with pytest.raises(MismatchError) as refused:
        outputs_of(classifier_member(str(tmp_path), None, "m"), TASK)
    assert "LABEL_0" in refused.value.got
    assert "bad, good" in refused.value.wanted
    said = classifier_member(str(tmp_path), ["good", "bad"], "m")
    wanted = reference(model, TASK)
    np.testing.assert_allclose(outputs_of(said, TASK), wanted[:, [1, 0]], rtol=1e-4, atol=1e-5)
    other = classifier_member(str(tmp_path), ["bad", "good"], "m")
    np.testing.assert_allclose(outputs_of(other, TASK), wanted, rtol=1e-4, atol=1e-5)
    assert said.digest != other.digest
    for wrong in (["bad"], ["bad", "good", "x"], ["bad", "bad"]):
        with pytest.raises(MismatchError):
            outputs_of(classifier_member(str(tmp_path), wrong, "m"), TASK)


def test_a_classifier_for_values(tmp_path: Path) -> None:
    model = classifier(tmp_path / "one", ("value",))
    got = outputs_of(classifier_member(str(tmp_path / "one"), None, "m"), SCORE)
    raw = reference(model, SCORE)[:, 0]
    scale, shift = SCORE.kind.output_line()
    np.testing.assert_allclose(got[:, 0] * scale + shift, raw, rtol=1e-3, atol=1e-3)
    classifier(tmp_path / "two", ("a", "b"))
    with pytest.raises(MismatchError, match="one output"):
        outputs_of(classifier_member(str(tmp_path / "two"), None, "m"), SCORE)


def test_folders_that_are_no_classifier(tmp_path: Path, base: Path) -> None:
    """A plain encoder would get a random head from transformers."""
    with pytest.raises(BaseModelError, match="lack"):
        outputs_of(classifier_member(str(base), ["bad", "good"], "m"), TASK)
    classifier(tmp_path, ("bad", "good"))
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    del tensors["classifier.weight"]
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(BaseModelError, match="lack classifier.weight"):
        outputs_of(classifier_member(str(tmp_path), None, "m"), TASK)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="pickled"):
        classifier_member(str(tmp_path), None, "m")


def test_long_texts_end_where_the_classifier_does(tmp_path: Path) -> None:
    classifier(tmp_path, ("bad", "good"))
    rows = [{"text": "good film " * 40, "label": "good"}, {"text": "bad", "label": "bad"}]
    task = toy_task(train=rows, dev=rows)
    outputs = outputs_of(classifier_member(str(tmp_path), None, "m"), task, max_tokens=512)
    assert np.isfinite(outputs).all()


# -- scores -------------------------------------------------------------------------------------


def score_rows(task: Task, n: int = 16) -> list[dict[str, object]]:
    """Scores of the first ``n`` train rows."""
    texts = [dict(zip(task.inputs.columns, t, strict=True)) for t in zip(
        *(task.train.inputs[c] for c in task.inputs.columns), strict=True
    )]  # fmt: skip
    return [{**texts[i], "bad": 0.1 + i / 100, "good": 0.9 - i / 100} for i in range(n)]


def scores_of(scores: Source, task: Task = TASK, key: str | None = None) -> Any:
    return scores_outputs(scores_member(task, scores, key, "m"), task, [task.train, task.dev])


def test_scores_are_joined_by_inputs(tmp_path: Path) -> None:
    rows = score_rows(TASK)[::-1]
    path = write_rows(tmp_path / "scores.jsonl", rows)
    for source in (path, str(path), rows):
        outputs, cover = scores_of(source)
        assert cover.tolist() == [True] * 16 + [False] * 8
        wanted = [[0.1 + i / 100, 0.9 - i / 100] for i in range(16)]
        np.testing.assert_allclose(softmax(outputs[:16], -1), wanted, rtol=1e-4)
        assert not outputs[16:].any()


def test_scores_that_cover_a_part() -> None:
    rows = score_rows(TASK)[3:7]
    rows.append({"text": "of no row", "bad": 1.0, "good": 0.0})
    _, cover = scores_of(rows)
    assert np.flatnonzero(cover).tolist() == [3, 4, 5, 6]


def test_scores_are_joined_by_key(tmp_path: Path) -> None:
    def keyed(n: int, seed: int) -> list[dict[str, object]]:
        rows = toy_rows("classification", n, seed)
        return [{**row, "id": 100 * seed + i} for i, row in enumerate(rows)]

    task = toy_task(train=keyed(16, 1), dev=keyed(8, 2), pool=[keyed(4, 3)], key="id")
    assert task.pool is not None
    scores = [{"id": str(100 * s + i), "bad": 2.0 * s, "good": i} for s in (3, 1) for i in range(4)]
    path = write_rows(tmp_path / "scores.jsonl", scores)
    member = scores_member(task, path, "id", "m")
    outputs, cover = scores_outputs(member, task, [task.train, task.pool])
    assert np.flatnonzero(cover).tolist() == [0, 1, 2, 3, 16, 17, 18, 19]
    np.testing.assert_array_equal(outputs[2], [2.0, 2.0])
    np.testing.assert_array_equal(outputs[19], [6.0, 3.0])
    with pytest.raises(DataError, match="rows without that column"):
        scores_outputs(member, TASK, [TASK.train])


def test_scores_of_values_and_lists() -> None:
    rows = [{"text": t, "value": 4.0} for t in SCORE.train.inputs["text"]]
    outputs, cover = scores_of(rows, SCORE)
    np.testing.assert_allclose(SCORE.kind.predict(outputs[cover]), 4.0, atol=1e-5)
    pairs = zip(LISTS.train.inputs["query"], LISTS.train.inputs["candidate"], strict=True)
    ranked: Source = [{"query": q, "candidate": c, "value": -i} for i, (q, c) in enumerate(pairs)]
    outputs, cover = scores_of(ranked, LISTS)
    assert outputs[cover, 0].tolist() == [-float(i) for i in range(16)]


@pytest.mark.parametrize("value", ["high", None, float("nan"), ""])
def test_a_score_that_is_no_number_names_its_row(tmp_path: Path, value: object) -> None:
    rows = score_rows(TASK)
    rows[4]["good"] = value
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match="line 5") as refused:
        scores_of(path)
    assert "'good'" in str(refused.value)


def test_scores_that_fit_nothing(tmp_path: Path) -> None:
    strange: Source = [{"text": "of no row", "bad": 1.0, "good": 0.0}]
    with pytest.raises(DataError, match="none of the 24 rows has a score"):
        scores_of(strange)
    member = scores_member(TASK, strange, None, "m")
    _, cover = scores_outputs(member, TASK, [TASK.dev])  # nothing is learned from dev
    assert not cover.any()
    with pytest.raises(DataError, match="'good'"):
        scores_of([{"text": "a", "bad": 1.0}])
    with pytest.raises(DataError, match="nowhere.jsonl"):
        scores_member(TASK, tmp_path / "nowhere.jsonl", None, "m")


def test_other_scores_are_another_member(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "s.jsonl", score_rows(TASK))
    first = scores_member(TASK, path, None, "m").digest
    assert (
        scores_member(TASK, write_rows(tmp_path / "t.jsonl", score_rows(TASK)), None, "m").digest
        == first
    )
    write_rows(path, score_rows(TASK, 15))
    assert scores_member(TASK, path, None, "m").digest != first
    keyed = [{**row, "text": str(i), "id": i} for i, row in enumerate(score_rows(TASK))]
    assert len({scores_member(TASK, keyed, key, "m").digest for key in (None, "id", "text")}) == 3
    in_python = [scores_member(TASK, score_rows(TASK, n), None, "m").digest for n in (15, 16, 16)]
    assert in_python[1] == in_python[2]
    assert in_python[0] != in_python[1]
