"""A run file on disk from text, and the message of the error that it earns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from potstill.config import RunFile, load_run_file
from potstill.core.errors import RunFileError

Load = Callable[..., RunFile]
Refuse = Callable[..., str]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, *overrides: str, name: str = "run.yaml") -> RunFile:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return load_run_file(path, overrides=overrides)

    return load


@pytest.fixture
def refuse(load: Load, tmp_path: Path) -> Refuse:
    """The message, with the file's folder cut away."""

    def refuse(text: str, *overrides: str) -> str:
        with pytest.raises(RunFileError) as caught:
            load(text, *overrides)
        assert caught.value.exit_code == 2
        assert all((caught.value.thing, caught.value.got, caught.value.wanted, caught.value.todo))
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refuse
