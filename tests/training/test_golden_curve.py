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
        0.694963, 0.363837, 0.472660, 0.501431, 0.527048, 0.689323, 1.400384, 0.421300, 1.125575,
        1.386503, 0.700216, 0.312916, 0.445235, 0.453023, 0.470312, 0.808449, 0.714602, 0.700378,
        0.692423, 0.223397,
    ],
    "gradients": [
        0.694963, 0.363837, 0.472746, 0.501877, 0.527116, 0.689395, 1.399433, 0.420681, 1.123409,
        1.389066, 0.700997, 0.314051, 0.444639, 0.454507, 0.469202, 0.814385, 0.712959, 0.699649,
        0.691546, 0.223360,
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
