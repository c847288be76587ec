"""The whole run file: its top keys, the checks across sections, and the derived defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, ValidationInfo, model_validator

from potstill.config.checks import check_across, check_members
from potstill.config.family import check_family
from potstill.config.fields import (
    BUNDLED_BASE,
    IN_MEMORY,
    POOL_WORDS,
    SEQUENCE_BASE,
    Base,
    Context,
    Folder,
    Form,
    Section,
    Slug,
    as_dict,
    refusal,
    refusals,
)
from potstill.config.sections import (
    PAPER_DROPOUTS,
    PAPER_RECIPE,
    PAPER_TRAINING,
    SEQUENCE_MARGIN,
    SEQUENCE_TRAINING,
    Distill,
    Evaluate,
    Export,
    Member,
    Student,
    Teachers,
)
from potstill.config.task_kinds import TaskOfAnyKind
from potstill.config.tasks import Task
from potstill.config.training import Architecture, Decoding, Training
from potstill.core.places import resolved
from potstill.kinds import KINDS

Side = Literal["teachers", "student", "single"]


def _seed(value: object) -> object:
    seeds = value if isinstance(value, list | tuple) else [value]
    if not seeds:
        raise refusal(f"a whole number from 0 to {2**32 - 1}, or a list of at least one")
    for i, seed in enumerate(seeds):
        at = (i,) if seeds is value else ()
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise refusal(f"a whole number from 0 to {2**32 - 1}", at=at)
        if seed in seeds[:i]:
            raise refusal("every seed once", got=f"{seed} twice", todo="remove one of them", at=at)
    return tuple(seeds) if seeds is value else value


def _device(value: object) -> object:
    words = ("auto", "cpu", "cuda", "mps")
    if isinstance(value, str):
        name, colon, number = value.partition(":")
        if value in words or (name == "cuda" and colon and number.isdecimal()):
            return value
    raise refusal("auto, cpu, cuda, cuda:<number> or mps")


class RunFile(Section):
    """A run file with every default filled in.

    Build one with `load_run_file` or `parse_run`: they resolve paths and name the place of a
    fault. The training of each section is complete: no key has to be looked up elsewhere.
    """

    name: Slug = Field(
        default="", description="Name of the run and of its folder; default: the file's."
    )
    output: Folder = Field(default=Path("runs"), description="Folder of all runs.")
    seed: Annotated[
        int | tuple[int, ...], PlainValidator(_seed), Form("whole number, or list of them")
    ] = Field(default=0, description="Seed, 0 or more; with a list the run is repeated for each.")
    base: Base = Field(
        default=BUNDLED_BASE,
        description="What to start from: a pre-trained encoder, or for generation and translation "
        "`marian`, an encoder-decoder that starts from nothing (there the default).",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Number format of products; auto: bf16 where the hardware has it.",
    )
    device: Annotated[str, PlainValidator(_device), Form("auto, cpu, cuda, cuda:n, mps")] = Field(
        default="auto", description="Where to compute; auto: a GPU if there is one."
    )
    tasks: Annotated[dict[Slug, TaskOfAnyKind], BeforeValidator(as_dict)] = Field(
        min_length=1, description="The tasks by name, at least one."
    )
    training: Training = Field(default_factory=Training, description="How networks are trained.")
    architecture: Architecture = Field(
        default_factory=Architecture,
        description="Size of the encoder-decoders that start from nothing.",
    )
    decoding: Decoding = Field(
        default_factory=Decoding, description="How generated texts are looked for."
    )
    teachers: Teachers = Field(
        default_factory=Teachers, description="The ensembles that this run trains."
    )
    student: Student = Field(
        default_factory=Student, description="The network that learns from all teachers."
    )
    distill: Distill = Field(
        default_factory=Distill, description="How the student learns from soft targets."
    )
    evaluate: Evaluate = Field(
        default_factory=Evaluate, description="What the student is held against."
    )
    export: Export = Field(default_factory=Export, description="What an export may lose.")

    @model_validator(mode="after")
    def _derive(self, info: ValidationInfo) -> RunFile:
        errors = check_across(self.tasks, self.teachers, self.student, self.distill, self.evaluate)
        errors += check_family(
            self.tasks,
            self.teachers,
            self.student,
            self.distill,
            base=self.base,
            architecture=self.architecture,
            trainings={
                "training": self.training,
                "teachers.training": self.teachers.training,
                "student.training": self.student.training,
                "evaluate.training": self.evaluate.training,
            },
            given=self.model_fields_set,
        )
        if errors:
            raise refusals("run file", errors)
        context = info.context if isinstance(info.context, Context) else None
        if self.generates:
            self._derive_sequences()
        if errors := check_members(self.teachers):
            raise refusals("run file", errors)
        taught = self._trained()
        changes: dict[str, Any] = {
            "tasks": taught,
            "base": self.teachers.base or self.base,
            "training": self._training_of(self.teachers),
            "architecture": self._architecture_of(self.teachers),
        }
        if self.teachers.recipe == PAPER_RECIPE and self.teachers.select_on is None:
            changes["select_on"] = taught or None
        self.complete(
            name=self.name or (context.name if context else "run"),
            output=self.output
            if context is None or self.output.is_absolute()
            else resolved(context.folder / self.output),
            tasks={name: self._settled(name, task, taught) for name, task in self.tasks.items()},
            teachers=self.teachers.changed(**changes),
            student=self.student.changed(
                base=self.student.base or self.base,
                training=self._training_of(self.student),
                architecture=self._architecture_of(self.student),
            ),
            evaluate=self.evaluate.changed(training=self._training_of(self.evaluate)),
        )
        return self

    def _derive_sequences(self) -> None:
        """The defaults of runs whose tasks say texts."""
        teachers, given = self.teachers, self.teachers.model_fields_set
        changes = {"recipe": "single", "members": 1}
        own = {key: value for key, value in changes.items() if key not in given}
        distill = self.distill
        by_texts = distill.objective == "sequence"  # there nothing can be switched off
        if "stop_when_ahead" not in distill.model_fields_set and not by_texts:
            distill = distill.changed(stop_when_ahead=SEQUENCE_MARGIN)
        self.complete(
            base=self.base if "base" in self.model_fields_set else SEQUENCE_BASE,
            teachers=teachers.changed(**own),
            distill=distill,
            training=self.training.changed_by(SEQUENCE_TRAINING, self.training.given()),
        )

    @property
    def generates(self) -> bool:
        """Its tasks say texts, so its networks are encoder-decoders."""
        return any(KINDS[task.kind].generates for task in self.tasks.values())

    def _trained(self) -> tuple[str, ...]:
        if self.teachers.tasks is not None:
            return self.teachers.tasks
        return tuple(name for name, task in self.tasks.items() if task.teachers is True)

    @staticmethod
    def _settled(name: str, task: Task, taught: tuple[str, ...]) -> Task:
        """`teachers: true` by default means: unless `teachers.tasks` leaves the task out."""
        left_out = task.teachers is True and name not in taught
        return task.changed(teachers=False) if left_out else task

    def _training_of(self, section: Teachers | Student | Evaluate) -> Training:
        paper = isinstance(section, Teachers) and section.recipe == PAPER_RECIPE
        recipe = PAPER_TRAINING if paper else {}
        return self.training.changed_by(recipe, self.training.given(), section.training.given())

    def _architecture_of(self, section: Teachers | Student) -> Architecture:
        return self.architecture.changed_by(section.architecture.given())

    # -- what the stages ask --------------------------------------------------------------------

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, one for each repetition."""
        return (self.seed,) if isinstance(self.seed, int) else self.seed

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """Tasks for which this run trains teachers."""
        return self.teachers.tasks or ()

    @property
    def bases(self) -> tuple[str, ...]:
        """What its networks start from, each once."""
        nets = self.teacher_nets() if self.trained_tasks else ()
        named = [self.student.base, *(net.base for net in nets)]
        return tuple(dict.fromkeys(base or self.base for base in named))

    @property
    def taught_tasks(self) -> tuple[str, ...]:
        """Tasks with teachers of any origin."""
        return tuple(name for name, task in self.tasks.items() if task.teachers is not False)

    def training_for(self, side: Side) -> Training:
        """The training of the teachers, the student (and multitask baseline) or the single models.

        Keys of the section win over `training:`, which wins over a recipe's settings.
        """
        section: Teachers | Student | Evaluate = self.evaluate
        if side != "single":
            section = self.teachers if side == "teachers" else self.student
        return section.training

    def teacher_nets(self) -> tuple[Member, ...]:
        """Each network's own base, layers and dropout; a dropout or seed of None is derived."""
        teachers = self.teachers
        paper = teachers.recipe == PAPER_RECIPE
        nets = []
        for i, own in enumerate(teachers.each or (Member(),) * teachers.n_nets):
            dropout = own.dropout
            if dropout is None and paper and teachers.training.dropout is None:
                dropout = PAPER_DROPOUTS[i % len(PAPER_DROPOUTS)]
            layers = own.layers
            if layers is None and own.base in (None, teachers.base):
                layers = teachers.layers
            base = own.base or teachers.base
            nets.append(Member(base=base, layers=layers, dropout=dropout, seed=own.seed))
        return tuple(nets)

    def soft_weight_of(self, task: str) -> float:
        """Weight of the task's soft loss, in [0, 1]."""
        own = self.tasks[task].soft_weight
        return self.distill.soft_weight if own is None else own

    def temperature_of(self, task: str) -> float:
        """Temperature of the task's soft targets."""
        own = self.tasks[task].temperature
        return self.distill.temperature if own is None else own

    def pool_of(self, task: str) -> tuple[object, ...]:
        """The task's pools: 'rest', 'others', paths, rows in memory; none without a teacher."""
        one = self.tasks[task]
        if one.teachers is False:
            return ()
        return (self.distill.pool if one.pool is None else one.pool) or ()

    # -- out ------------------------------------------------------------------------------------

    def plain(self) -> dict[str, Any]:
        values = super().plain()
        for key in ("teachers", "student"):
            own = values[key].pop("architecture")
            if self.generates:
                common = values["architecture"]
                own = {k: v for k, v in own.items() if v != common[k]}
                values[key]["architecture"] = own
        if not self.generates:  # sections that say nothing of encoders
            del values["architecture"], values["decoding"]
        for key in ("teachers", "student", "evaluate"):
            own = values[key]["training"]
            # Only what differs: a key changed under `training:` then still reaches the sections.
            values[key]["training"] = {k: v for k, v in own.items() if v != values["training"][k]}
            if values[key].get("base") == self.base:
                values[key]["base"] = None
        return values

    def dump(self) -> dict[str, Any]:
        """Plain values with every default; `parse_run` makes the same run of them.

        Rows that were given in Python stay the objects that they are; see `record`.
        """
        return self.plain()

    def record(self) -> dict[str, Any]:
        """What `dump` gives, with a note in place of rows that were given in Python: JSON-able."""
        values = self.dump()
        for task in values["tasks"].values():
            _note_rows(task, ("train", "dev", "test", "pool"))
            if isinstance(task["teachers"], dict):
                _note_rows(task["teachers"], ("scores",))
        _note_rows(values["distill"], ("pool",))
        return values

    def settings(self, bases: Mapping[str, str]) -> dict[str, Any]:
        """What `record` gives, without its name and the places of files: who moves changes nothing.

        Args:
            bases: What to put in place of each base.
        """
        values = self.record()
        for task in values["tasks"].values():
            _leave_places_out(task, ("train", "dev", "test", "pool"))
            if isinstance(task["teachers"], dict):
                _leave_places_out(task["teachers"], ("scores", "models"))
        _leave_places_out(values["distill"], ("pool",))
        _replace_bases(values, bases)
        del values["output"], values["name"]
        return values


def _leave_places_out(values: dict[str, Any], keys: tuple[str, ...]) -> None:
    kept = (*POOL_WORDS, IN_MEMORY)
    for key in keys:
        value = values.get(key)
        if isinstance(value, list | tuple):
            values[key] = [item if item in kept else "<a place>" for item in value]
        elif isinstance(value, str) and value not in kept:
            values[key] = "<a place>"


def _replace_bases(values: object, bases: Mapping[str, str]) -> None:
    if isinstance(values, dict):
        if isinstance(values.get("base"), str):
            values["base"] = bases.get(values["base"], values["base"])
        for value in values.values():
            _replace_bases(value, bases)
    elif isinstance(values, list | tuple):
        for value in values:
            _replace_bases(value, bases)


def _note_rows(values: dict[str, Any], keys: tuple[str, ...]) -> None:
    for key in keys:
        value = values.get(key)
        if key == "pool" and isinstance(value, list | tuple):
            values[key] = [item if isinstance(item, str) else IN_MEMORY for item in value]
        elif value is not None and value is not False and not isinstance(value, str):
            values[key] = IN_MEMORY
