"""What `check` found, and how it is shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from potstill.pipeline.estimate import Estimate, Trial
from potstill.tasks.findings import Finding

_MARKS = {"error": "red", "warning": "yellow", "note": "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What `check` found.

    Attributes:
        findings: Task name to its findings.
        cost: What the run will take; None where errors stand in the way.
        trial: What a few real steps showed; None likewise.
        free_bytes: Free disk under the output folder.
    """

    findings: dict[str, list[Finding]]
    cost: Estimate | None
    trial: Trial | None
    free_bytes: int

    @property
    def n_errors(self) -> int:
        """Findings that stop a run."""
        return sum(f.severity == "error" for fs in self.findings.values() for f in fs)

    @property
    def seconds(self) -> float | None:
        """How long the training will take."""
        if self.cost is None or self.trial is None:
            return None
        return self.trial.seconds(self.cost)

    def to_json(self) -> dict[str, Any]:
        """As the command prints it with ``--json``."""
        return {
            "errors": self.n_errors,
            "findings": {name: [asdict(f) for f in fs] for name, fs in self.findings.items()},
            "cost": None if self.cost is None else asdict(self.cost),
            "trial": None if self.trial is None else asdict(self.trial),
            "train_seconds": self.seconds,
            "free_bytes": self.free_bytes,
        }

    def table(self) -> Group:
        """As the command prints it for people."""
        table = Table(box=None, pad_edge=False, show_header=False)
        for _ in range(3):
            table.add_column(overflow="fold")  # a path that is cut short names no file
        for task, findings in self.findings.items():
            for finding in sorted(findings, key=lambda f: list(_MARKS).index(f.severity)):
                text = Text(finding.what)
                if finding.where:
                    text.append(f"\n{finding.where}", style="dim")
                if finding.todo:
                    text.append(f"\n→ {finding.todo}", style="dim")
                mark = Text(finding.severity, style=_MARKS[finding.severity])
                table.add_row(Text(task), mark, text)
        lines: list[Any] = [table, Text("")]
        if self.cost is not None and self.trial is not None and self.seconds is not None:
            rate = self.cost.rows / max(self.seconds, 1e-3)
            lines.append(
                Text(
                    f"{_counted(self.cost.n_networks, 'network')} to train, "
                    f"{self.cost.rows:,} rows in all, at {rate:.0f} rows/s "
                    f"about {_time(self.seconds)} of "
                    f"training; memory {self.trial.memory_bytes / 2**30:.1f} GiB; disk up to "
                    f"{self.cost.disk_bytes / 2**30:.2f} GiB of {self.free_bytes / 2**30:.1f} free"
                )
            )
        verdict = _counted(self.n_errors, "error") if self.n_errors else "no errors"
        lines.append(Text(verdict, style="bold red" if self.n_errors else "bold green"))
        return Group(*lines)


def _counted(n: int, thing: str) -> str:
    return f"{n} {thing}{'s' * (n != 1)}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
