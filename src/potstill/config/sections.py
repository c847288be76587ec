"""The sections of the run file besides ``tasks:`` and ``training:``, and the papers' recipes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from potstill.config.faults import KeyPath
from potstill.config.fields import Base, Form, Names, Pool, Section, one_of, refusal, refusals
from potstill.config.training import Architecture, Training

Pooling = Literal["mean", "cls"]
Recipe = Literal["single", "multitask", "finetuned", "mt-dnn-kd"]

PAPER_RECIPE = "mt-dnn-kd"
PAPER_NETS, PAPER_KEEP = 6, 3
PAPER_DROPOUTS = (0.1, 0.2, 0.3)
PAPER_TRAINING: dict[str, Any] = {
    "epochs": 5,
    "learning_rate": 5e-5,
    "batch": 32,
    "max_tokens": 512,
    "optimizer": "adamax",
    "warmup": 0.1,
    "decay": "linear",
    "clip": 1.0,
    "head_dropout": 0.1,
    "balance": "none",
    "tasks_per_step": 1,
    "weight_decay": 0.0,
}
"""Liu et al. 2019, arXiv 1904.09482, section 4.1, which says nothing of weight decay, and the one
task a step of Algorithm 1. Keys that the run file sets are stronger."""

SEQUENCE_TRAINING: dict[str, Any] = {
    "epochs": 8,
    "learning_rate": 1e-3,
    "batch": 64,
    "mixing": "equal",
    "balance": "none",
    "warmup": 0.1,
}
"""Of encoder-decoders, which start from nothing; keys that the run file sets are stronger."""

SEQUENCE_MARGIN = 0.01
"""One BLEU: a task is distilled while the student is not so far ahead (arXiv 1902.10461)."""


class Member(Section):
    """What one network of the ensembles has of its own."""

    base: Base | None = Field(default=None, description="Its base; null: that of teachers.")
    layers: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Layers kept of its base, evenly spaced; null: as teachers say, where the base is "
            "theirs."
        ),
    )
    dropout: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Its encoder dropout, 0 to below 1; null: as training says.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**32,
        description=(
            "Its seed, 0 to 4294967295, the same in every repetition; null: from the run's seed "
            "and its position."
        ),
    )


class Teachers(Section):
    """The ensembles that this run trains."""

    tasks: Names | None = Field(
        default=None,
        description="Tasks that get trained teachers; null: all that do not say otherwise.",
    )
    members: int = Field(default=3, ge=1, description="Networks of an ensemble, 1 or more.")
    recipe: Recipe = Field(
        default="multitask",
        description=(
            "single: each member is trained on one task; multitask: on all tasks together; "
            "finetuned: on all, then on each task; mt-dnn-kd: the paper's, best nets fine-tuned."
        ),
    )
    nets: int | None = Field(
        default=None,
        ge=1,
        description="mt-dnn-kd: multi-task nets that are trained; default there 6.",
    )
    keep: int | None = Field(
        default=None, ge=1, description="mt-dnn-kd: best nets that become members; default there 3."
    )
    select_on: Annotated[Names | None, Field(min_length=1)] = Field(
        default=None,
        description="mt-dnn-kd: tasks whose mean dev score chooses nets; null: teachers.tasks.",
    )
    cross_fit: bool = Field(
        default=False,
        description=(
            "Train each member on a part of the rows; a row asks the members that did not see it."
        ),
    )
    each: Annotated[tuple[Member, ...], Strict(False), Form("list of sections")] = Field(
        default=(), description="What each network has of its own: one entry a network, or empty."
    )
    pooling: Pooling | None = Field(
        default=None,
        description="How token features become the text's; null: the base's own (mean for a base "
        "of another way).",
    )
    base: Base | None = Field(
        default=None, description="Base of the teachers; null: that of the run."
    )
    layers: int | None = Field(
        default=None,
        ge=1,
        description="Layers kept of the base, evenly spaced (marian: made of so many); null: all.",
    )
    architecture: Architecture = Field(
        default_factory=Architecture,
        description="Keys of `architecture:` that differ for teachers.",
    )
    training: Training = Field(
        default_factory=Training, description="Keys of `training:` that differ for teachers."
    )

    @property
    def n_nets(self) -> int:
        """Networks that are trained."""
        if self.recipe != PAPER_RECIPE or self.nets is None:
            return self.members
        return self.nets

    @model_validator(mode="after")
    def _numbers_agree(self) -> Teachers:
        errors: list[tuple[KeyPath, PydanticCustomError]] = []
        given = self.model_fields_set
        if self.recipe == PAPER_RECIPE:
            keep = self.keep
            if keep is None:
                keep = self.members if "members" in given else PAPER_KEEP
            elif "members" in given and self.members != keep:
                error = refusal(
                    f"the same number as `keep`, {keep}: the nets kept are the members",
                    got=f"members {self.members}",
                    todo="remove one of the two keys",
                )
                errors.append((("members",), error))
            nets = max(PAPER_NETS, keep) if self.nets is None else self.nets
            if keep > nets:
                error = refusal(f"at most `nets`, {nets}", got=f"{keep} nets to keep")
                errors.append((("keep",) if "keep" in given else ("nets",), error))
            if self.cross_fit:
                error = refusal(
                    "false with the recipe mt-dnn-kd: the nets that it drops would leave rows "
                    "without an opinion",
                    todo="choose another recipe, or remove cross_fit",
                )
                errors.append((("cross_fit",), error))
            self.complete(nets=nets, keep=keep, members=keep)
        else:
            for key in ("nets", "keep", "select_on"):
                if getattr(self, key) is not None:
                    error = refusal(
                        f"no such key with the recipe {self.recipe}",
                        todo="remove it, or set `recipe: mt-dnn-kd`; the size of an ensemble is "
                        "`members`",
                    )
                    errors.append(((key,), error))
        if errors:
            raise refusals("teachers", errors)
        return self


class Student(Section):
    """The one network that learns from all teachers."""

    base: Base | None = Field(
        default=None,
        description="Base of the student (a student folder will do); null: that of the run.",
    )
    layers: int | None = Field(
        default=None,
        ge=1,
        description="Layers kept of the base, evenly spaced (marian: made of so many); null: all.",
    )
    trunk: Annotated[Literal["shared"], one_of(("shared",), later=("omoe", "mmoe", "cgc"))] = Field(
        default="shared", description="What lies between encoder and heads."
    )
    pooling: Pooling | None = Field(
        default=None,
        description="How token features become the text's; null: the base's own (mean for a base "
        "of another way).",
    )
    task_token: bool = Field(
        default=False,
        description=(
            "Put a token that names the task before the text (one encoder pass a task); before a "
            "source of generation and translation one stands always."
        ),
    )
    architecture: Architecture = Field(
        default_factory=Architecture,
        description="Keys of `architecture:` that differ for the student.",
    )
    training: Training = Field(
        default_factory=Training, description="Keys of `training:` that differ for the student."
    )
    finetune: bool = Field(
        default=False,
        description="Afterwards fine-tune a copy on each task; scored as `student_finetuned`.",
    )
    generations: int = Field(
        default=1, ge=1, description="Students in a row, each the next one's teacher, 1 or more."
    )


class Distill(Section):
    """How the student learns from soft targets."""

    objective: Literal["average", "annealed", "logit_mse", "soft_only", "sequence"] = Field(
        default="average",
        description=(
            "average: hard and soft loss, weighted; annealed: from the teacher to the label; "
            "logit_mse: squared error of logits as soft loss; soft_only: no hard loss; sequence: "
            "the teachers' texts as targets of a share of `soft_weight` of the rows (generation)."
        ),
    )
    soft_weight: float = Field(
        default=0.5, ge=0, le=1, description="Weight of the soft loss, 0 to 1."
    )
    temperature: float = Field(
        default=1.0, gt=0, description="Temperature of the soft targets, above 0."
    )
    pool: Pool = Field(
        default=None,
        description=(
            "Unlabelled rows of every task with teachers that names none itself and can have them."
        ),
    )
    pool_weight: float = Field(
        default=1.0, gt=0, description="Weight of a pool row beside a labelled row, above 0."
    )
    stop_when_ahead: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description=(
            "Stop a task's soft loss once the student's dev score passes the ensemble's by this "
            "margin, 0 to 1; null: never. Looked at after each epoch; tasks that say texts are "
            "distilled again when they fall behind."
        ),
    )


Baseline = Literal["single", "multitask"]


class Evaluate(Section):
    """What the student is held against."""

    baselines: Annotated[tuple[Baseline, ...], Strict(False), Form("list of single, multitask")] = (
        Field(
            default=("single", "multitask"),
            description="single: a model per task; multitask: the student without soft targets.",
        )
    )
    match_steps: bool = Field(
        default=True,
        description=(
            "Also train the multitask baseline for at least as many steps as the student, in whole "
            "epochs; the better counts."
        ),
    )
    resamples: int = Field(
        default=2000, ge=200, description="Bootstrap resamples of an interval, 200 or more."
    )
    training: Training = Field(
        default_factory=Training,
        description="Keys of `training:` that differ for the single baseline.",
    )

    @model_validator(mode="after")
    def _once(self) -> Evaluate:
        if len(set(self.baselines)) != len(self.baselines):
            error = refusal("every baseline once", todo="remove one of them")
            raise refusals("evaluate", [(("baselines",), error)])
        return self


class Export(Section):
    """What an exported bundle may lose."""

    max_drop: float = Field(
        default=0.005,
        ge=0,
        le=1,
        description="Largest loss of a task's dev score by the export, 0 to 1.",
    )
