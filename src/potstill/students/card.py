"""The student's model card: a README that says what it answers, how well, and how to use it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from potstill.training.network import AnyNetwork

_SHOWN = 20  # classes of a task
_SIGNS = re.compile(r"[\\`*_#<>\[\]|]")  # that mean something in Markdown


def model_card(
    network: AnyNetwork,
    results: Mapping[str, Any],
    *,
    name: str,
    base: str,
    version: str,
    taught: bool = True,
) -> str:
    """A model card in Markdown.

    Args:
        network: The student.
        results: The run's results.
        name: Name of the run.
        base: What the student started from; of a folder its name is said, not its place.
        version: Version of potstill.
        taught: Whether it had teachers.
    """
    rows, seed = [], results.get("student_seed")
    for task, entry in results["tasks"].items():
        of_seed = {each["seed"]: each["scores"] for each in entry.get("per_seed", ())}
        scores = of_seed.get(seed, entry["scores"])
        shown = [scores.get(s) for s in ("single", "multitask", "ensemble", "student")]
        cells = " | ".join("–" if s is None else f"{s:.4f}" for s in shown)
        rows.append(f"| {task} | {entry['metric']} | {entry['split']}, {entry['n']} | {cells} |")
    tasks = "\n".join(
        f"- **{task}** ({head.kind.name}): reads {', '.join(f'`{c}`' for c in head.inputs.columns)}"
        + _classes(head.kind.class_names)
        for task, head in network.tasks.items()
    )
    start = PurePath(base).name if PurePath(base).is_absolute() else base
    origin = "distilled from teachers" if taught else "trained on labels alone"
    taught_by = "teachers and labels" if taught else "labels"
    example = dict.fromkeys(next(iter(network.tasks.values())).inputs.columns, "…")
    return "\n".join(
        [
            f"# {name}",
            "",
            f"One student for {len(network.tasks)} task(s), {origin} with potstill {version}, "
            f"started from `{start}`. {network.n_parameters:,} parameters.",
            "",
            "## Tasks",
            "",
            tasks,
            "",
            "## Scores",
            "",
            *([f"Of seed {seed}, whose student this is.", ""] if seed is not None else []),
            "| task | metric | rows | single | multi-task | ensemble | student |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            "## Use",
            "",
            "```python",
            "import potstill",
            'student = potstill.load("path/to/this/folder")',
            f"student.predict({json.dumps(example, ensure_ascii=False)})",
            "```",
            "",
            "## Limits",
            "",
            f"{long_texts(network)} The student repeats what its "
            f"{taught_by} taught it, mistakes and biases included; scores hold for rows "
            "like those above.",
            "",
        ]
    )


def _classes(names: Sequence[str]) -> str:
    """The first classes, as text that is no Markdown, and how many there are more."""
    if not names:
        return ""
    plain = [" ".join(name.split()) for name in names[:_SHOWN]]
    shown = ", ".join(_SIGNS.sub(r"\\\g<0>", name) for name in plain)
    return f"; answers {shown}" + (f", … ({len(names)} in all)" if len(names) > _SHOWN else "")


def long_texts(network: AnyNetwork) -> str:
    """What becomes of texts that are longer than the student reads at once."""
    if any(head.kind.generates for head in network.tasks.values()):
        return f"Sources and targets over {network.max_tokens} pieces lose their end."
    windows = [f"`{name}`" for name, head in network.tasks.items() if head.kind.slotted]
    cut = f"Texts over {network.max_tokens} tokens lose their end"
    if not windows:
        return f"{cut}."
    read_on = f"{', '.join(windows)} read them in windows"
    if len(windows) == len(network.tasks):
        return f"Texts over {network.max_tokens} tokens are read in windows."
    return f"{cut}, but {read_on}."
