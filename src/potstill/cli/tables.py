"""Tables of the command line that are more than a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from potstill.export.choose import Candidate
    from potstill.export.write import Exported


def engine_table(done: Exported) -> Table:
    """The engines that an export measured."""
    shapes = list(done.candidates[0].ms)
    table = Table(
        title=f"milliseconds {done.timed}, {done.threads} threads",
        title_justify="left",
    )
    table.add_column("engine", no_wrap=True)
    for shape in shapes:
        table.add_column(shape, justify="right", no_wrap=True)
    table.add_column("MB", justify="right")
    table.add_column("dev scores")
    for c in done.candidates:
        chosen = "[bold]chosen[/bold]: " if c.engine == done.engine else ""
        table.add_row(
            c.engine,
            *[f"{c.ms[shape]:.1f}" for shape in shapes],
            f"{c.size_bytes / 1e6:.0f}",
            chosen + (f"refused: {c.refused}" if c.refused else _largest_drop(c)),
        )
    return table


def _largest_drop(candidate: Candidate) -> str:
    if not candidate.drops:
        return "exact"
    task = max(candidate.drops, key=lambda name: candidate.drops[name])
    drop = candidate.drops[task]
    return f"'{task}' drops by {drop:.4f}" if drop > 0 else "no task drops"
