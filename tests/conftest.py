"""What every test stands on: no network, one thread per worker, no chatter from libraries.

The variables are set before any library is imported, hence at the top of the file.
"""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Workers run side by side; a pool of threads in each would only wait for the others.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
# Widths and colours of messages must not depend on the terminal that runs the tests.
os.environ["COLUMNS"] = "100"
os.environ["NO_COLOR"] = "1"
os.environ.pop("FORCE_COLOR", None)

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tests.toys import make_base

# A red build must mean a change: CI draws the same examples each time, people draw new ones.
settings.register_profile("potstill", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("potstill")


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny base model: two layers, width 16; never write into it."""
    return make_base(tmp_path_factory.mktemp("base") / "tiny")
