"""A student of four tasks, sealed in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from potstill.core.files import seal
from potstill.models.encoder import Pooling
from potstill.training.network import Network, save_network
from tests.tiny import tiny_network, toy_task
from tests.toys import TOYS


def make_student(base: Path, folder: Path, pooling: Pooling = "mean") -> Network:
    """An untrained student whose heads answer differently for every row."""
    tasks = [toy_task(kind, train=16, dev=8) for kind in TOYS]
    network = tiny_network(base, tasks, seed=3, pooling=pooling)
    torch.manual_seed(4)
    for task in network.tasks:
        for parameter in network.model.head(task).parameters():
            torch.nn.init.normal_(parameter)
    save_network(network, folder)
    seal(folder, {"stage": "student"})
    network.model.eval()
    return network


@pytest.fixture(scope="session")
def student_folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's folder; never write into it."""
    folder = tmp_path_factory.mktemp("student") / "student"
    make_student(base, folder)
    return folder
