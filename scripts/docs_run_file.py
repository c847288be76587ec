"""Write docs/run-file.md from the run file's own fields; ``--check`` only tells of a drift."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from potstill.config.describe import SectionNote, section_notes

PAGE = Path(__file__).parents[1] / "docs" / "run-file.md"
_HEAD = """\
# The run file

<!-- Written by scripts/docs_run_file.py from the fields of potstill.config: do not edit. -->

One YAML 1.2 file says what a run does. Paths are relative to the file. Unknown keys are errors,
with line, column and the nearest known key. `potstill check run.yaml --show` prints a file with
every default; `--set teachers.members=5` overrides one key.

```yaml
tasks:
  rte:
    kind: classification
    train: data/rte/train.parquet
    dev: data/rte/dev.parquet
    text: [sentence1, sentence2]
```

A key under `teachers: {training: ...}`, `student: {training: ...}` or `evaluate: {training: ...}`
wins over the same key of `training:`. The recipe `mt-dnn-kd` brings the settings of its paper for
the teachers (5 epochs, Adamax, learning rate 5e-5, 512 tokens, one task a step, losses as they
are, no weight decay, nets with dropout 0.1, 0.2, 0.3 in turn); a key that the file sets wins
over the recipe. Runs whose tasks say texts (generation, translation) have some defaults of their
own: the tables name them behind `texts:`.
"""


def page() -> str:
    """The whole page as Markdown."""
    return _HEAD + "".join(_section(note) for note in section_notes())


def _section(note: SectionNote) -> str:
    lines = [
        "",
        f"## `{note.path}`" if note.path else "## The top of the file",
        "",
        note.meaning,
        "",
        "| key | value | default | meaning |",
        "|---|---|---|---|",
    ]
    for key in note.keys:
        default = "required" if key.default is None else f"`{key.default}`" if key.default else ""
        if key.of_texts is not None:
            default += f"; texts: `{key.of_texts}`"
        cells = [f"`{key.name}`", key.form, default, key.meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 where the page has drifted")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE} has drifted: run `python scripts/docs_run_file.py`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
