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
        0.695276, 0.449170, 0.470696, 0.448964, 0.258924, 0.703162, 1.415987, 0.506593, 1.617609,
        1.395478, 0.677875, 0.413097, 0.134950, 0.406145, 0.419046, 0.473255, 1.682945, 0.679329,
        0.677812, 0.125444,
    ],
    "gradients": [
        0.695276, 0.449170, 0.471208, 0.448593, 0.257380, 0.702397, 1.416407, 0.505247, 1.622776,
        1.390359, 0.675507, 0.412499, 0.135852, 0.410590, 0.416647, 0.472007, 1.662780, 0.676897,
        0.674376, 0.129486,
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
