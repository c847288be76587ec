"""Teachers of others: label order, joins, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from scipy.special import expit, softmax
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from potstill.core.errors import ArtefactError, BaseModelError, DataError, MismatchError, Stopped
from potstill.kinds.regression import Regression
from potstill.kinds.scores import centred
from potstill.models.token_rows import TokenRows
from potstill.targets import label as label_module
from potstill.targets.label import label, read_labels
from potstill.tasks.sources import Source
from potstill.tasks.task import Task, slots_of
from potstill.teachers import given_classifiers
from potstill.teachers.external import look_at
from potstill.teachers.given_classifiers import open_classifier
from potstill.teachers.given_models import classifier_member
from potstill.teachers.given_scores import scores_member, scores_outputs
from potstill.teachers.member import Member
from tests.tiny import CPU, stage_folder, toy_task
from tests.toys import VOCABULARY, toy_rows, toy_tokenizer, write_rows

TASK = toy_task(train=16, dev=8)
PAIR = toy_task("pair", train=16, dev=8)
SCORE = toy_task("regression", train=16, dev=8)
LISTS = toy_task("ranking", train=16, dev=8)


def classifier(
    folder: Path, labels: tuple[str, ...], model_class: type[Any] = BertForSequenceClassification
) -> Any:
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
    model = model_class(config).eval()
    model.save_pretrained(folder)
    toy_tokenizer().save(str(folder / "tokenizer.json"))
    return model


def outputs_of(member: Member, task: Task, max_tokens: int = 64) -> np.ndarray:
    done: list[int] = []
    ask = open_classifier(member, task, device=CPU, max_tokens=max_tokens, done=done.append)
    outputs = ask({c: task.train.inputs[c] + task.dev.inputs[c] for c in task.inputs.columns})
    assert sum(done) == len(task.train) + len(task.dev)
    return outputs


def reference(model: Any, task: Task) -> np.ndarray:
    """Logits row by row, without any padding; of tasks at words (S, C), as words are tokens."""
    tokenizer = toy_tokenizer()
    rows = []
    for split in (task.train, task.dev):
        for texts in task.inputs.texts(split.inputs):
            encoded = tokenizer.encode(texts[0], texts[1] if len(texts) > 1 else None)
            with torch.inference_mode():
                found = model(
                    input_ids=torch.tensor([encoded.ids]),
                    token_type_ids=torch.tensor([encoded.type_ids]),
                )
            if task.kind.reads == "passage":
                both = np.stack([found.start_logits[0].numpy(), found.end_logits[0].numpy()], 1)
                rows.append(both[[0, *range(len(both) - 1 - len(texts[1].split()), len(both) - 1)]])
            elif task.kind.reads == "words":
                rows.append(found.logits[0, 1:-1].numpy())
            else:
                rows.append(found.logits.numpy())
    return np.concatenate(rows)


# -- classifiers --------------------------------------------------------------------------------


def test_a_classifiers_labels_are_brought_into_the_tasks_order(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("good", "bad"))  # the task has them the other way round
    member = classifier_member(str(tmp_path), None, "given 1")
    assert member.source == "classifier"
    got = outputs_of(member, TASK)
    np.testing.assert_allclose(got, reference(model, TASK)[:, [1, 0]], rtol=1e-4, atol=1e-5)


def test_a_classifier_that_changes_while_a_run_goes_on_is_refused(tmp_path: Path) -> None:
    classifier(tmp_path, ("bad", "good"))
    member = classifier_member(str(tmp_path), None, "given 1")
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"good"', '"fine"').replace('"fine"', '"good" '))
    with pytest.raises(ArtefactError, match="other content than when the run began"):
        outputs_of(member, TASK)
    outputs_of(classifier_member(str(tmp_path), None, "given 1"), TASK)


def test_pairs_are_read_with_types(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("no", "yes"))
    got = outputs_of(classifier_member(str(tmp_path), None, "m"), PAIR)
    np.testing.assert_allclose(got, reference(model, PAIR), rtol=1e-4, atol=1e-5)


def test_labels_that_are_not_numbered_from_0(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("bad", "good"))
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {"1": "bad", "2": "good"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(MismatchError, match="bad as number 1, good as number 2") as refused:
        look_at(classifier_member(str(tmp_path), None, "m"), TASK)
    assert "numbered from 0" in refused.value.wanted
    said = outputs_of(classifier_member(str(tmp_path), ["bad", "good"], "m"), TASK)
    np.testing.assert_allclose(said, reference(model, TASK), rtol=1e-4, atol=1e-5)


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


def test_a_classifiers_booleans_are_those_of_the_task(tmp_path: Path) -> None:
    rows = [{**row, "label": row["label"] == "good"} for row in toy_rows("classification", 8)]
    task = toy_task(train=rows, dev=rows)
    model = classifier(tmp_path, ("True", "False"))
    got = outputs_of(classifier_member(str(tmp_path), None, "m"), task)
    assert task.kind.class_names == ("false", "true")
    np.testing.assert_allclose(got, reference(model, task)[:, [1, 0]], rtol=1e-4, atol=1e-5)


def test_a_classifier_for_values(tmp_path: Path) -> None:
    model = classifier(tmp_path / "one", ("value",))
    got = outputs_of(classifier_member(str(tmp_path / "one"), None, "m"), SCORE)
    raw = reference(model, SCORE)[:, 0]
    scale, shift = SCORE.kind.output_line()
    np.testing.assert_allclose(got[:, 0] * scale + shift, raw, rtol=1e-3, atol=1e-3)
    classifier(tmp_path / "two", ("a", "b"))
    with pytest.raises(MismatchError, match="one output"):
        outputs_of(classifier_member(str(tmp_path / "two"), None, "m"), SCORE)


def test_values_are_not_rounded_to_bf16(tmp_path: Path) -> None:
    """Years of this century are two numbers in bf16."""
    model = classifier(tmp_path, ("value",))
    with torch.no_grad():
        model.classifier.bias.fill_(2010.0)
    model.save_pretrained(tmp_path)
    member = classifier_member(str(tmp_path), None, "m")
    ask = open_classifier(
        member,
        SCORE,
        device=dataclasses.replace(CPU, precision="bf16"),
        max_tokens=64,
        done=lambda _: None,
    )
    scale, shift = SCORE.kind.output_line()
    said = ask({c: SCORE.train.inputs[c] for c in SCORE.inputs.columns})[:, 0] * scale + shift
    raw = reference(model, SCORE)[: len(said), 0]
    assert np.ptp(raw) > 0.2
    assert np.corrcoef(said, raw)[0, 1] > 0.99
    assert len(np.unique(said.round(3))) > 8


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


# -- models that answer at words, or with several labels ------------------------------------------

LABELS = toy_task("multilabel", train=16, dev=8)
TAGS = toy_task("tagging", train=16, dev=8)
SPANS = toy_task("unanswerable", train=16, dev=8)


def test_a_classifier_of_several_labels(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("praise", "animal", "blame"))
    got = outputs_of(classifier_member(str(tmp_path), None, "m"), LABELS)
    np.testing.assert_allclose(got, reference(model, LABELS)[:, [1, 2, 0]], rtol=1e-4, atol=1e-5)


def test_a_token_classifier(tmp_path: Path) -> None:
    order = ("B-good", "I-good", "O", "I-bad", "B-bad")
    model = classifier(tmp_path, order, BertForTokenClassification)
    member = classifier_member(str(tmp_path), None, "m")
    assert look_at(member, TAGS) == []
    wanted = reference(model, TAGS)[:, [order.index(tag) for tag in TAGS.kind.class_names]]
    np.testing.assert_allclose(outputs_of(member, TAGS), wanted, rtol=1e-4, atol=1e-5)
    said = classifier_member(str(tmp_path), [*TAGS.kind.class_names], "m")
    np.testing.assert_allclose(outputs_of(said, TAGS), reference(model, TAGS), rtol=1e-4, atol=1e-5)
    in_windows = outputs_of(member, TAGS, max_tokens=8)
    assert in_windows.shape == wanted.shape
    assert np.isfinite(in_windows).all()
    assert not np.allclose(in_windows, wanted, atol=1e-3)
    short = [i for i, words in enumerate(TAGS.train.inputs["tokens"]) if len(words) <= 6]
    ends = np.cumsum([len(words) for words in TAGS.train.inputs["tokens"]])
    for i in short:  # what fits into a window is read as before
        own = slice(ends[i] - len(TAGS.train.inputs["tokens"][i]), ends[i])
        np.testing.assert_allclose(in_windows[own], wanted[own], rtol=1e-4, atol=1e-5)


def test_a_question_answerer(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("LABEL_0", "LABEL_1"), BertForQuestionAnswering)
    member = classifier_member(str(tmp_path), None, "m")
    assert look_at(member, SPANS) == []
    wanted = reference(model, SPANS)
    np.testing.assert_allclose(outputs_of(member, SPANS), wanted, rtol=1e-4, atol=1e-5)
    in_windows = outputs_of(member, SPANS, max_tokens=12)
    assert in_windows.shape == wanted.shape
    assert np.isfinite(in_windows).all()


def test_models_of_another_format_or_label_space(tmp_path: Path) -> None:
    classifier(tmp_path / "words", ("O", "B-good", "I-good"), BertForTokenClassification)
    with pytest.raises(MismatchError) as refused:
        look_at(classifier_member(str(tmp_path / "words"), None, "m"), TAGS)
    assert refused.value.got == "3 outputs, called O, B-good, I-good"
    assert "B-bad" in refused.value.wanted
    classifier(tmp_path / "texts", ("praise", "blame"))
    with pytest.raises(MismatchError, match="praise, blame"):
        look_at(classifier_member(str(tmp_path / "texts"), None, "m"), LABELS)
    for folder, task, form in (
        ("texts", SPANS, "question-answering"),
        ("words", LABELS, "sequence-classification"),
        ("words", SPANS, "question-answering"),
    ):
        with pytest.raises(BaseModelError, match="cannot load it|lack") as other:
            look_at(classifier_member(str(tmp_path / folder), None, "m"), task)
        assert form in other.value.wanted


def test_a_model_of_another_number_of_outputs_is_not_asked_for_labels(tmp_path: Path) -> None:
    classifier(tmp_path, ("bad",))
    with pytest.raises(MismatchError, match="1 outputs, called bad, good") as refused:
        look_at(classifier_member(str(tmp_path), ["bad", "good"], "m"), TASK)
    assert "labels: [" not in refused.value.todo


def test_a_model_without_padding_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    config = GPT2Config(
        vocab_size=len(VOCABULARY), n_embd=16, n_layer=1, n_head=2, id2label={0: "bad", 1: "good"}
    )
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path)
    toy_tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BaseModelError, match="no padding token") as refused:
        look_at(classifier_member(str(tmp_path), None, "m"), TASK)
    assert "pad_token_id" in refused.value.todo


def test_a_model_that_reads_a_texts_neighbours_is_refused(tmp_path: Path) -> None:
    config = XLNetConfig(
        vocab_size=len(VOCABULARY),
        d_model=16,
        n_layer=1,
        n_head=2,
        d_inner=32,
        id2label={0: "bad", 1: "good"},
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    XLNetForSequenceClassification(config).save_pretrained(tmp_path)
    toy_tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BaseModelError, match="beside a longer one"):
        look_at(classifier_member(str(tmp_path), None, "m"), TASK)


def test_a_model_that_was_trained_as_something_else_is_said(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("bad", "good"))
    model.config.problem_type = "single_label_classification"
    model.save_pretrained(tmp_path)
    assert look_at(classifier_member(str(tmp_path), None, "m"), TASK) == []
    model.config.problem_type = "multi_label_classification"
    model.save_pretrained(tmp_path)
    (warning,) = look_at(classifier_member(str(tmp_path), None, "m"), TASK)
    assert "multi_label_classification" in warning


def test_a_model_whose_labels_stand_in_another_order_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier(tmp_path, ("LABEL_0", "LABEL_1"))
    rows = toy_rows("classification", 40)
    task = toy_task(train=rows, dev=rows)
    labels = dict(
        zip(task.train.inputs["text"], cast("np.ndarray", task.train.labels), strict=True)
    )

    def knows(model: Any, order: list[int], *rest: Any) -> np.ndarray:
        return np.array(np.eye(2, dtype=np.float32)[asked.pop(0)][:, order])

    tokenise = type(task.inputs).tokenise
    asked: list[np.ndarray] = []

    def spy(self: Any, inputs: Any, *args: Any, **kwargs: Any) -> TokenRows:
        asked.append(np.array([labels[text] for text in inputs["text"]], np.int64))
        return tokenise(self, inputs, *args, **kwargs)

    monkeypatch.setattr(given_classifiers, "_outputs", knows)
    monkeypatch.setattr(type(task.inputs), "tokenise", spy)
    right = classifier_member(str(tmp_path), list(task.kind.class_names), "m")
    assert look_at(right, task) == []
    wrong = classifier_member(str(tmp_path), list(task.kind.class_names)[::-1], "m")
    (warning,) = look_at(wrong, task)
    assert "right in 0 of 40 rows" in warning
    assert "order of its labels" in warning


def test_a_model_of_values_in_other_units_is_said(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("LABEL_0",))
    member = classifier_member(str(tmp_path), None, "m")
    with torch.no_grad():
        model.classifier.weight *= 100
    model.save_pretrained(tmp_path)
    (warning,) = look_at(member, SCORE)
    assert "give values in the labels' units" in warning


def test_a_kind_of_several_outputs_without_classes_takes_one_value(tmp_path: Path) -> None:
    model = classifier(tmp_path, ("LABEL_0",))
    values = reference(model, SCORE)[:, 0]
    kind = Steps(low=0.0, high=1.0, mean=0.0, spread=1.0)
    task = dataclasses.replace(SCORE, kind=kind)
    got = outputs_of(classifier_member(str(tmp_path), None, "m"), task)
    np.testing.assert_allclose(got, np.stack([values, values + 1], 1), rtol=1e-4, atol=1e-5)


def test_labelling_by_a_model_continues_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier(tmp_path / "given", ("bad", "good"))
    member = classifier_member(str(tmp_path / "given"), None, "given 1")
    rows = [TASK.train]
    whole = label(stage_folder(tmp_path / "a"), member, TASK, rows, device=CPU, what="w")
    wanted = read_labels(whole, member, TASK, rows)
    monkeypatch.setattr(label_module, "_PART_ROWS", 10)
    stages = stage_folder(tmp_path / "b")
    outputs_of, sizes = given_classifiers._outputs, []

    def counted(model: Any, order: Any, task: Task, tokens: TokenRows, *args: Any) -> Any:
        sizes.append(len(tokens))
        if len(sizes) == 2:
            stages.progress.stop.requested = "Ctrl-C"
        return outputs_of(model, order, task, tokens, *args)

    monkeypatch.setattr(given_classifiers, "_outputs", counted)
    with pytest.raises(Stopped):
        label(stages, member, TASK, rows, device=CPU, what="w")
    stages.progress.stop.requested = None
    stage = label(stages, member, TASK, rows, device=CPU, what="w")
    assert sizes == [10, 6, 6]  # the second was broken off, the first stood
    again = read_labels(stage, member, TASK, rows)
    np.testing.assert_allclose(again.members, wanted.members, rtol=1e-3, atol=1e-3)


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
    np.testing.assert_array_equal(outputs[2], [0.0, 0.0])  # 2 and 2: their mean is set to 0
    np.testing.assert_array_equal(outputs[19], [1.5, -1.5])  # 6 and 3
    with pytest.raises(DataError, match="rows without that column"):
        scores_outputs(member, TASK, [TASK.train])


def test_rows_of_one_text_are_taught_the_mean_of_their_scores(tmp_path: Path) -> None:
    """A key may tell apart what the student cannot: the store knows a row by its text."""
    rows: list[dict[str, object]] = [
        {**row, "id": i} for i, row in enumerate(toy_rows("classification", 16, 1))
    ]
    rows[7]["text"] = rows[9]["text"] = rows[2]["text"]
    rows[12]["text"] = rows[11]["text"]
    task = toy_task(train=rows, dev=[{**r, "id": -1} for r in rows[:1]], key="id")
    scores = [{"id": i, "bad": 1.0 * i, "good": 0.0} for i in range(16)]
    scores[12] |= {"bad": 11.0}  # the same as the other of its text
    del scores[9]
    member = scores_member(task, scores, "id", "m")
    outputs, cover = scores_outputs(member, task, [task.train])
    assert np.flatnonzero(~cover).tolist() == [9]
    wanted = [0.0, 1, 4.5, 3, 4, 5, 6, 4.5, 8, 0, 10, 11, 11, 13, 14, 15]
    np.testing.assert_array_equal(np.diff(outputs)[:, 0], -np.array(wanted))
    means = [w for w in look_at(member, task) if "mean of their scores" in w]
    assert len(means) == 1
    assert means[0].startswith("2 rows have the inputs of others and other scores")


def test_the_mean_of_probabilities_is_one_of_probabilities() -> None:
    rows: list[dict[str, object]] = [
        {**row, "id": i} for i, row in enumerate(toy_rows("classification", 16, 1))
    ]
    rows[7]["text"] = rows[2]["text"]
    task = toy_task(train=rows, dev=rows[:8], key="id")
    scores: list[dict[str, object]] = [{"id": i, "bad": 0.5, "good": 0.5} for i in range(16)]
    scores[2] |= {"bad": 0.9999, "good": 0.0001}
    scores[7] |= {"bad": 0.3, "good": 0.7}
    outputs, _ = scores_outputs(scores_member(task, scores, "id", "m"), task, [task.train])
    taught = task.kind.soften(outputs[None], None, 1.0)[0, :, 0]
    assert taught[2] == taught[7] == pytest.approx((0.9999 + 0.3) / 2, abs=1e-5)
    assert taught[0] == pytest.approx(0.5)


@pytest.mark.parametrize("nothing", [None, "", " ", float("nan")])
def test_rows_without_a_key_are_joined_with_nothing(nothing: object) -> None:
    rows: list[dict[str, object]] = [
        {**row, "id": nothing if i in (2, 5) else i}
        for i, row in enumerate(toy_rows("classification", 16, 1))
    ]
    task = toy_task(train=rows, dev=rows[:8], key="id")
    scores: list[dict[str, object]] = [{"id": i, "bad": 1.0, "good": i} for i in range(16)]
    scores[2]["id"] = scores[3]["id"] = scores[4]["id"] = nothing  # of different scores
    member = scores_member(task, scores, "id", "m")
    _, cover = scores_outputs(member, task, [task.train])
    assert np.flatnonzero(~cover).tolist() == [2, 3, 4, 5]
    (warning, *_) = look_at(member, task)
    assert "its scores cover 12 of 16 rows of train" in warning


def test_keys_that_became_floats_are_the_same_keys() -> None:
    """As in a DataFrame with one id missing."""
    rows: list[dict[str, object]] = [
        {**row, "id": float("nan") if i == 3 else float(i)}
        for i, row in enumerate(toy_rows("classification", 16, 1))
    ]
    task = toy_task(train=rows, dev=rows[:8], key="id")
    scores: list[dict[str, object]] = [{"id": i, "bad": 1.0, "good": i} for i in range(16)]
    _, cover = scores_outputs(scores_member(task, scores, "id", "m"), task, [task.train])
    assert np.flatnonzero(~cover).tolist() == [3]


def test_scores_of_values_and_lists() -> None:
    rows = [{"text": t, "value": 4.0} for t in SCORE.train.inputs["text"]]
    outputs, cover = scores_of(rows, SCORE)
    np.testing.assert_allclose(SCORE.kind.predict(outputs[cover]), 4.0, atol=1e-5)
    pairs = zip(LISTS.train.inputs["query"], LISTS.train.inputs["candidate"], strict=True)
    ranked: Source = [{"query": q, "candidate": c, "value": -i} for i, (q, c) in enumerate(pairs)]
    outputs, cover = scores_of(ranked, LISTS)
    assert outputs[cover, 0].tolist() == [-float(i) for i in range(16)]


@pytest.mark.parametrize(
    "value", ["high", None, float("nan"), "", pytest.param(10**400, id="401 digits")]
)
def test_a_score_that_is_no_number_names_its_row(tmp_path: Path, value: object) -> None:
    rows = score_rows(TASK)
    rows[4]["good"] = value
    path = tmp_path / "scores.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError, match="line 5") as refused:
        scores_of(path)
    assert "'good'" in str(refused.value)


def test_scores_of_a_part_of_each_list_teach_nothing() -> None:
    of_query: dict[str, list[str]] = {}
    for query, text in zip(*LISTS.train.inputs.values(), strict=True):
        of_query.setdefault(query, []).append(text)
    parts: list[dict[str, object]] = [
        {"query": q, "candidate": c, "value": 1.0} for q, own in of_query.items() for c in own[1:]
    ]
    with pytest.raises(DataError, match="no list of train or pool whose rows all have a score"):
        look_at(scores_member(LISTS, parts, None, "m"), LISTS)
    query = next(iter(of_query))
    parts.append({"query": query, "candidate": of_query[query][0], "value": 1.0})
    warnings = look_at(scores_member(LISTS, parts, None, "m"), LISTS)
    wanted = f"its scores cover 1 of {len(of_query)} whole lists of train"
    assert any(warning.startswith(wanted) for warning in warnings)


def test_scores_that_fit_nothing(tmp_path: Path) -> None:
    strange: Source = [{"text": "of no row", "bad": 1.0, "good": 0.0}]
    with pytest.raises(DataError, match="none of the 16 rows to learn from has a score"):
        scores_of(strange)
    member = scores_member(TASK, strange, None, "m")
    _, cover = scores_outputs(member, TASK, [TASK.dev])  # nothing is learned from dev
    assert not cover.any()
    of_dev: Source = [{"text": t, "bad": 1.0, "good": 0.0} for t in TASK.dev.inputs["text"]]
    with pytest.raises(DataError, match="none of the 16 rows to learn from has a score"):
        look_at(scores_member(TASK, of_dev, None, "m"), TASK)
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


def test_scores_that_change_while_a_run_goes_on_are_refused(tmp_path: Path) -> None:
    """What they say is kept under the digest of what stood there when the run began."""
    path = write_rows(tmp_path / "s.jsonl", score_rows(TASK))
    member = scores_member(TASK, path, None, "m")
    rows = score_rows(TASK)
    rows[3] = {**rows[3], **{k: v for k, v in score_rows(TASK)[4].items() if k != "text"}}
    write_rows(path, rows)
    with pytest.raises(ArtefactError, match="other content than when the run began"):
        scores_outputs(member, TASK, [TASK.train])
    with pytest.raises(ArtefactError, match=r"s\.jsonl"):
        look_at(member, TASK)


# -- scores with several numbers a row ------------------------------------------------------------


def words_with_scores(task: Task = TAGS, n: int = 16) -> list[dict[str, object]]:
    """Scores of the first ``n`` train rows: row i, word j, tag c is sure of c by i, j and c."""
    return [
        {"tokens": words, "scores": [[i + j / 10 - c for c in range(5)] for j in range(len(words))]}
        for i, words in enumerate(task.train.inputs["tokens"][:n])
    ]


def passages_with_scores(n: int = 16) -> list[dict[str, object]]:
    inputs = SPANS.train.inputs
    return [
        {
            "question": question,
            "context": context,
            "start_scores": [float(i - j) for j in range(1 + len(context.split()))],
            "end_scores": [float(j - i) for j in range(1 + len(context.split()))],
        }
        for i, (question, context) in enumerate(
            zip(inputs["question"][:n], inputs["context"][:n], strict=True)
        )
    ]


def test_scores_of_words(tmp_path: Path) -> None:
    rows = words_with_scores()
    path = write_rows(tmp_path / "scores.jsonl", rows[::-1])
    as_text = [{**row, "tokens": " ".join(cast("list[str]", row["tokens"]))} for row in rows]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "scores.parquet")
    wanted = centred(np.concatenate([np.array(row["scores"]) for row in rows]))
    for source in (path, rows, as_text, table, tmp_path / "scores.parquet"):
        outputs, cover = scores_of(source, TAGS)
        assert cover.tolist() == [True] * 16 + [False] * 8
        np.testing.assert_allclose(outputs[: len(wanted)], wanted, rtol=1e-5, atol=1e-6)
        assert len(outputs) > len(wanted)
        assert not outputs[len(wanted) :].any()


def test_scores_of_words_that_cover_a_part() -> None:
    rows = [words_with_scores()[i] for i in (11, 3, 4)]
    outputs, cover = scores_of(rows, TAGS)
    assert np.flatnonzero(cover).tolist() == [3, 4, 11]
    counts = [len(words) for words in TAGS.train.inputs["tokens"]]
    starts = np.cumsum([0, *counts])
    for i, row in zip((11, 3, 4), rows, strict=True):
        np.testing.assert_allclose(
            outputs[starts[i] : starts[i + 1]],
            centred(np.array(row["scores"])),
            rtol=1e-5,
            atol=1e-6,
        )
    known = np.isin(np.repeat(np.arange(16), counts), [3, 4, 11])
    assert not outputs[: len(known)][~known].any()


def test_scores_of_passages(tmp_path: Path) -> None:
    rows = passages_with_scores()
    path = write_rows(tmp_path / "scores.jsonl", rows)
    wanted = [np.array([row["start_scores"], row["end_scores"]], np.float64).T for row in rows]
    outputs, cover = scores_of(path, SPANS)
    assert cover.sum() == 16
    slots = slots_of(SPANS, SPANS.train)
    assert slots is not None
    np.testing.assert_allclose(outputs[: slots.sum()], np.concatenate(wanted), rtol=1e-6)
    assert look_at(scores_member(SPANS, path, None, "m"), SPANS) == [
        "its scores cover 0 of 8 rows of dev: the ensemble has no score"  # dev is reported
    ]


def notes_of(rows: list[dict[str, object]], task: Task) -> list[str]:
    notes: list[str] = []
    look_at(scores_member(task, rows, None, "m"), task, notes.append)
    return notes


def test_it_is_said_as_what_scores_are_read() -> None:
    texts = TASK.train.inputs["text"]
    read = {"probabilities": (0.25, 0.75), "logits": (-1.0, 3.5)}
    for space, (bad, good) in read.items():
        rows = [{"text": text, "bad": bad, "good": good} for text in texts]
        assert notes_of(rows, TASK) == [f"its scores are read as {space}"]
    assert notes_of(words_with_scores(), TAGS) == ["its scores are read as logits"]
    assert notes_of(passages_with_scores(), SPANS) == ["its scores are read as logits"]


@pytest.mark.parametrize(
    ("task", "scale", "said"),
    [
        (SCORE, 1.0, None),
        (SCORE, 0.2, "in the labels' units"),
        (LISTS, 1.0, None),
        (LISTS, 0.2, "from 0 to 1 only"),
    ],
)
def test_values_of_another_scale_are_said(task: Task, scale: float, said: str | None) -> None:
    """Metrics would not show it: they look at order or correlation alone."""
    columns = task.train.inputs
    labels = task.train.labels
    assert labels is not None
    values = scale * (labels if task is SCORE else np.linspace(0, 5, len(labels)))
    rows = [
        {**{name: columns[name][i] for name in columns}, "value": float(value)}
        for i, value in enumerate(values)
    ]
    warnings = look_at(scores_member(task, rows, None, "m"), task)
    odd = [warning for warning in warnings if "look odd" in warning]
    assert len(odd) == (said is not None)
    assert all(str(said) in warning for warning in odd)


def test_a_table_of_scores_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("text,bad,good\n")
    with pytest.raises(DataError, match="no rows in"):
        look_at(scores_member(TASK, path, None, "m"), TASK)


def test_one_stray_score_does_not_make_logits_of_probabilities(tmp_path: Path) -> None:
    texts = TASK.train.inputs["text"]
    rows: list[dict[str, object]] = [{"text": t, "bad": 0.25, "good": 0.75} for t in texts]
    rows[3] |= {"good": 75}
    member = scores_member(TASK, write_rows(tmp_path / "s.jsonl", rows), None, "m")
    with pytest.raises(DataError, match=r"s\.jsonl, line 4") as refused:
        look_at(member, TASK)
    assert "scores 0.25, 75, which sum to 75.25" in refused.value.got
    assert "probabilities in every row" in refused.value.wanted
    values = [i / 100 for i in range(len(LABELS.train))]
    rows = [
        {"remark": text, "animal": v, "blame": 0.0, "praise": 0.9}
        for text, v in zip(LABELS.train.inputs["remark"], values, strict=True)
    ]
    assert notes_of(rows, LABELS) == ["its scores are read as probabilities"]
    rows[-1] |= {"blame": -1e-9, "praise": 1.0000001}  # of sums in fp32
    assert notes_of(rows, LABELS) == ["its scores are read as probabilities"]
    assert np.isfinite(scores_of(rows, LABELS)[0]).all()
    rows[-1] |= {"blame": -0.5, "praise": 0.9}
    with pytest.raises(DataError, match=f"row {len(rows) - 1}") as refused:
        look_at(scores_member(LABELS, rows, None, "m"), LABELS)
    assert "a score of -0.5" in refused.value.got
    rows = [row | {"animal": 2.0 - i, "praise": i - 3.0} for i, row in enumerate(rows)]
    assert notes_of(rows, LABELS) == ["its scores are read as logits"]


def test_scores_of_several_labels() -> None:
    texts = LABELS.train.inputs["remark"]
    rows = [{"remark": t, "animal": 0.5, "blame": 0.0, "praise": 0.9} for t in texts]
    outputs, cover = scores_of(rows, LABELS)
    np.testing.assert_allclose(expit(outputs[cover]), [[0.5, 0.0, 0.9]] * 16, atol=1e-5)


def test_scores_of_words_are_joined_by_key() -> None:
    keyed = [{**row, "id": f"k{i}"} for i, row in enumerate(toy_rows("tagging", 16))]
    task = toy_task("tagging", train=keyed, dev=[{**row, "id": "d"} for row in keyed[:8]], key="id")
    rows = [
        {"id": f"k{i}", "scores": row["scores"]} for i, row in enumerate(words_with_scores(task))
    ]
    outputs, cover = scores_of(rows[::-1], task, key="id")
    assert cover.tolist() == [True] * 16 + [False] * 8
    wanted = centred(np.concatenate([np.array(row["scores"]) for row in rows]))
    np.testing.assert_allclose(outputs[: len(wanted)], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([[0.1] * 5], "1 scores"),
        ([[0.1] * 5] * 40, "40 scores"),
        ([], "'scores' holds no word"),
        (None, "'scores' is None, not a list of a list a word"),
        ("[[1, 2]]", "not a list of a list a word"),
        ([[0.1] * 4], "4 scores of a word for 5 tags"),
        ([[0.1] * 4 + ["high"]], "a score is 'high', not a number"),
    ],
)
def test_faulty_scores_of_words_name_their_row(tmp_path: Path, value: object, got: str) -> None:
    rows = words_with_scores()
    rows[4]["scores"] = value
    path = write_rows(tmp_path / "scores.jsonl", rows)
    with pytest.raises(DataError, match="line 5") as refused:
        scores_of(path, TAGS)
    assert got in refused.value.got
    assert "mend the scores" in refused.value.todo or "these words" in refused.value.todo


def test_passages_with_too_few_scores_name_their_row(tmp_path: Path) -> None:
    rows = passages_with_scores()
    for name in ("start_scores", "end_scores"):
        rows[2][name] = cast("list[float]", rows[2][name])[1:]  # without that of no answer
    with pytest.raises(DataError, match="line 3") as refused:
        scores_of(write_rows(tmp_path / "a.jsonl", rows), SPANS)
    n_words = len(SPANS.train.inputs["context"][2].split())
    assert refused.value.got == f"{n_words} scores"
    assert refused.value.wanted.startswith(f"{n_words + 1},")
    rows[2]["end_scores"] = [0.0]
    with pytest.raises(DataError, match=rf"line 3(.|\n)*{n_words} start scores and 1 end scores"):
        scores_of(write_rows(tmp_path / "b.jsonl", rows), SPANS)


def test_rows_of_one_text_have_one_score(tmp_path: Path) -> None:
    rows = words_with_scores()
    again = dict(rows[3])
    assert scores_of([*rows, again], TAGS)[1].sum() == 16
    again["scores"] = [[0.0] * 5 for _ in cast("list[object]", again["scores"])]
    with pytest.raises(DataError, match="other scores than"):
        scores_of([*rows, again], TAGS)
    shorter = dict(rows[3], scores=cast("list[object]", rows[3]["scores"])[:1])
    with pytest.raises(DataError, match="other scores than"):
        scores_of([*rows, shorter], TAGS)


def test_other_scores_of_words_are_another_member(tmp_path: Path) -> None:
    rows = words_with_scores()
    first = scores_member(TAGS, rows, None, "m").digest
    path = write_rows(tmp_path / "s.jsonl", rows)
    assert scores_member(TAGS, path, None, "m").digest == first
    cast("list[list[float]]", rows[7]["scores"])[0][2] += 1
    assert scores_member(TAGS, rows, None, "m").digest != first


class Steps(Regression):
    """A kind of one's own: two outputs, and no classes."""

    @property
    def n_outputs(self) -> int:
        return 2

    def from_scores(self, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
        values = [float(cast("float", row["value"])) for row in rows]
        return np.array([[value, value + 1] for value in values], np.float32)
