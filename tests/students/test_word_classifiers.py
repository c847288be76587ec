"""Tasks that answer at words, and of several labels, as transformers models without our code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from potstill.cli.students import _tuned
from potstill.core.errors import UsageError
from potstill.models.token_rows import pick_slots
from potstill.students.classifier import save_classifier
from potstill.training.network import Network
from tests.tiny import CPU, tiny_network, toy_task


@pytest.fixture
def network(base: Path) -> Network:
    made = tiny_network(
        base, [toy_task(k, train=16, dev=8) for k in ("multilabel", "tagging", "span")]
    )
    made.model.eval()
    return made


@pytest.mark.parametrize("task", ["tagging", "span"])
def test_words_get_the_same_logits(network: Network, tmp_path: Path, task: str) -> None:
    folder = save_classifier(network, task, tmp_path / "x")
    auto = AutoModelForTokenClassification if task == "tagging" else AutoModelForQuestionAnswering
    model, report = auto.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    kind = network.tasks[task].kind
    tokens = network.tokenise(task, toy_task(task, train=16, dev=8).dev.inputs)
    ids, mask, types = (torch.from_numpy(a) for a in tokens.pad(np.arange(len(tokens)), 0))
    with torch.inference_mode():
        found = model.eval()(input_ids=ids, attention_mask=mask.long(), token_type_ids=types)
    if task == "span":
        logits = torch.stack([found.start_logits, found.end_logits], -1)
    else:
        logits = found.logits
        assert tuple(model.config.id2label.values()) == kind.class_names
    assert tokens.slots is not None
    places, texts = tokens.slots.of(np.arange(len(tokens)))
    theirs = pick_slots(logits.numpy(), texts, tokens.slots, places, kind.at_last)
    ours = network.outputs(tokens, (task,), CPU)[task]
    np.testing.assert_allclose(theirs, ours, atol=1e-5)
    assert np.abs(ours).max() > 0.1


@pytest.mark.parametrize(
    ("task", "tuned", "written"),
    [
        ("multilabel", {"thresholds": (0.25, 0.5, 0.75)}, "thresholds"),
        ("span", {"margin": 0.5, "unanswerable": True}, "no_answer_margin"),
    ],
)
def test_what_dev_chose_is_written_beside_the_weights(
    network: Network, tmp_path: Path, task: str, tuned: dict[str, Any], written: str
) -> None:
    head = network.tasks[task]
    n = len(head.kind.class_names)
    tuned = {k: v[:n] if isinstance(v, tuple) else v for k, v in tuned.items()}
    network.tasks[task] = replace(head, kind=replace(head.kind, **tuned))  # type: ignore[type-var]
    folder = save_classifier(network, task, tmp_path / "x")
    found = json.loads((folder / "config.json").read_text())[written]
    first = next(iter(tuned.values()))
    assert found == (dict(zip(head.kind.class_names, first, strict=True)) if n else first)
    assert _tuned(folder).startswith(f"\nconfig.json has the {written}")


def test_outputs_that_transformers_does_not_know_are_refused(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(network.tasks["multilabel"].kind), "problem_type", None)
    with pytest.raises(UsageError, match="kind 'multilabel', which names no `problem_type`"):
        save_classifier(network, "multilabel", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_several_labels_get_the_same_logits(network: Network, tmp_path: Path) -> None:
    folder = save_classifier(network, "multilabel", tmp_path / "x")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert json.loads((folder / "config.json").read_text())["problem_type"] == (
        "multi_label_classification"
    )
    kind = network.tasks["multilabel"].kind
    assert tuple(model.config.id2label.values()) == kind.class_names
    tokens = network.tokenise("multilabel", toy_task("multilabel", train=16, dev=8).dev.inputs)
    ids, mask, types = (torch.from_numpy(a) for a in tokens.pad(np.arange(len(tokens)), 0))
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask.long(), token_type_ids=types).logits
    ours = network.outputs(tokens, ("multilabel",), CPU)["multilabel"]
    np.testing.assert_allclose(logits.numpy(), ours, atol=1e-3)
