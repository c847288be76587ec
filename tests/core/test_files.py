"""Files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

from potstill.core import files


def test_the_longest_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".txt")
    files.write_text(path, "a")
    assert path.read_text(encoding="utf-8") == "a"
    assert list(tmp_path.iterdir()) == [path]
