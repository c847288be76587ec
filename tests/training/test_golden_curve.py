"""Twenty steps of training, number by number: a refactor must not move them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from potstill.training import loop
from potstill.training.prepare import Extra
from tests.tiny import tiny_settings, toy_task
from tests.training.test_loop import soft_extra
from tests.training.trainings import Training

CURVES = {
    "none": [
        1.389927, 0.727673, 0.630213, 0.668575, 1.054095, 1.378645, 1.400384, 0.561733, 1.500767,
        1.386503, 1.400432, 0.625832, 0.890471, 0.604030, 0.627082, 1.077932, 0.952803, 1.400755,
        1.384846, 0.446795,
    ],
    "gradients": [
        1.389927, 0.727673, 0.630328, 0.669170, 1.054231, 1.378790, 1.399433, 0.560908, 1.497878,
        1.389066, 1.401994, 0.628102, 0.889277, 0.606010, 0.625603, 1.085847, 0.950611, 1.399298,
        1.383092, 0.446721,
    ],
}  # fmt: skip


@pytest.mark.parametrize("balance", ["gradients", "none"])
def test_loss_curve(
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    balance: Literal["gradients", "none"],
) -> None:
    monkeypatch.setattr(loop, "_LOSS_EVERY", 1)
    tasks = [
        toy_task(train=16, dev=8),
        toy_task("regression", train=16, dev=8),
        toy_task("ranking", train=16, dev=8),
    ]
    training = Training(
        base=base,
        tasks=tasks,
        extras={"classification": soft_extra(), "regression": Extra()},
        settings=replace(tiny_settings(epochs=3, batch=8), balance=balance),
    )
    curve = [loss for _, loss in training.run(tmp_path).result.state.loss][:20]
    assert len(curve) == 20
    np.testing.assert_allclose(curve, CURVES[balance], rtol=1e-4, atol=1e-4)
