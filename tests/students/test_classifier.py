"""A task as a transformers classifier gives the same logits without any of our code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from potstill.core.errors import UsageError
from potstill.core.files import seal
from potstill.models.encoder import Pooling
from potstill.students.classifier import save_classifier
from potstill.students.student import Student
from potstill.training.network import save_network
from tests.students.conftest import make_student
from tests.tiny import CPU, tiny_network, toy_task
from tests.toys import TOYS, toy_rows


@pytest.mark.parametrize("kind", ["classification", "pair", "regression", "ranking"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_parity(base: Path, tmp_path: Path, pooling: Pooling, kind: str) -> None:
    network = make_student(base, tmp_path / "student", pooling)
    network.model.eval()
    folder = save_classifier(network, kind, tmp_path / "classifier")
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = toy_rows(kind, 8)
    texts = {c: [str(row[c]) for row in rows] for c in TOYS[kind].columns}
    encoded = tokenizer(*texts.values(), padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**encoded).logits.numpy()
    outputs = network.outputs(network.tokenise(kind, texts), (kind,), CPU)[kind]
    space = network.tasks[kind].kind
    scale, shift = space.output_line()
    np.testing.assert_allclose(logits, outputs * scale + shift, atol=1e-3)
    assert np.abs(outputs).max() > 0.1
    if kind in ("classification", "pair"):
        assert list(model.config.id2label.values()) == list(space.to_json()["classes"])
        assert (logits.argmax(1) == outputs.argmax(1)).all()
    else:
        assert model.config.problem_type == "regression"
    if kind == "regression":  # in the units of the label
        inside = np.clip(logits[:, 0], 0, 5)
        np.testing.assert_allclose(inside, space.predict(outputs), atol=1e-3)


def test_what_cannot_be_said_as_one(base: Path, tmp_path: Path) -> None:
    tasks = [toy_task(train=16, dev=8)]
    network = tiny_network(base, tasks, task_token=True)
    with pytest.raises(UsageError, match="task tokens"):
        save_classifier(network, "classification", tmp_path / "x")
    save_network(tiny_network(base, tasks), tmp_path / "student")
    seal(tmp_path / "student", {})
    student = Student.load(tmp_path / "student", device="cpu")
    with pytest.raises(UsageError, match="'nobody'"):
        student.save_task("nobody", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    written = student.save_task("classification", str(tmp_path / "x"))
    assert sorted(p.name for p in written.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
