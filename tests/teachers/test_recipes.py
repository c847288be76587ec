"""Which networks each recipe trains, on which rows, and who becomes a member."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from potstill.core.errors import DataError
from potstill.core.files import write_json
from potstill.core.stages import StageFolder
from potstill.models.base_folder import STUDENT_FILE
from potstill.tasks.task import Task, folds
from potstill.teachers import finetune as finetune_module
from potstill.teachers.finetune import finetune
from potstill.teachers.member import Member
from potstill.teachers.recipes import NetPlan, Recipe, train_ensembles
from potstill.training.network import load_encoder_network
from potstill.training.prepare import TRAINING_FILE, Extra, NetworkPlan, train_network
from potstill.training.settings import TrainSettings
from tests.tiny import CPU, stage_folder, tiny_plan, tiny_settings, toy_task

TASKS = [toy_task(train=30, dev=8), toy_task("regression", train=30, dev=8)]
NAMES = [task.name for task in TASKS]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One training that a recipe asked for."""

    what: str
    tasks: tuple[str, ...]
    base: str
    seed: int
    dropout: float | None
    extras: Mapping[str, Extra]


Spy = tuple[StageFolder, list[Call]]


@pytest.fixture
def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Stages whose trainings only note that they were asked for; network k scores ``k / 10``."""
    calls: list[Call] = []

    def train(
        folder: Path,
        tasks: Sequence[Task],
        plan: NetworkPlan,
        settings: TrainSettings,
        *,
        extras: Mapping[str, Extra],
        seed: int,
        name: str,
        **rest: object,
    ) -> None:
        names = tuple(task.name for task in tasks)
        calls.append(
            Call(
                what=name,
                tasks=names,
                base=plan.base,
                seed=seed,
                dropout=settings.dropout,
                extras=extras,
            )
        )
        dev = {task: [[1, 0.0], [2, seed / 10]] for task in names}
        write_json(folder / TRAINING_FILE, {"dev": dev, "best_epoch": 2})

    monkeypatch.setattr(finetune_module, "train_network", train)
    return stage_folder(tmp_path), calls


def nets(n: int) -> list[NetPlan]:
    rates = [(0.1, 0.2, 0.3)[k % 3] for k in range(n)]
    plan = tiny_plan(Path("the base"))
    return [
        NetPlan(plan=plan, settings=tiny_settings(dropout=rate), seed=k)
        for k, rate in enumerate(rates)
    ]


def ensembles(
    stages: StageFolder,
    recipe: Recipe,
    n: int = 3,
    keep: int = 3,
    *,
    teacher_tasks: Sequence[str] = NAMES,
    select_on: Sequence[str] = (),
    cross_fit: bool = False,
) -> dict[str, list[Member]]:
    return train_ensembles(
        stages,
        TASKS,
        teacher_tasks=teacher_tasks,
        recipe=recipe,
        nets=nets(n),
        keep=keep,
        select_on=select_on,
        cross_fit=cross_fit,
        device=CPU,
    )


def test_single(spy: Spy) -> None:
    stages, calls = spy
    members = ensembles(stages, "single")
    assert [call.tasks for call in calls] == [(name,) for _ in range(3) for name in NAMES]
    assert [call.seed for call in calls] == [0, 0, 1, 1, 2, 2]
    assert {name: len(own) for name, own in members.items()} == dict.fromkeys(NAMES, 3)
    folders = {member.folder for own in members.values() for member in own}
    assert len(folders) == 6
    assert [m.dev for m in members["classification"]] == [0.0, 0.1, 0.2]
    assert [m.name for m in members["regression"]] == ["teacher 1", "teacher 2", "teacher 3"]


def test_multitask(spy: Spy) -> None:
    stages, calls = spy
    members = ensembles(stages, "multitask", teacher_tasks=["regression"])
    assert [call.tasks for call in calls] == [tuple(NAMES)] * 3  # all tasks, also untaught ones
    assert [call.dropout for call in calls] == [0.1, 0.2, 0.3]
    assert list(members) == ["regression"]
    assert len({m.folder for m in members["regression"]}) == 3


def test_finetuned(spy: Spy) -> None:
    stages, calls = spy
    members = ensembles(stages, "finetuned", n=2)
    assert [call.tasks for call in calls] == [
        tuple(NAMES), tuple(NAMES), *[(name,) for _ in range(2) for name in NAMES]
    ]  # fmt: skip
    shared = [stage.folder for stage in stages.used.values()][:2]
    assert [call.base for call in calls[2:]] == [str(f) for f in shared for _ in NAMES]
    assert {call.base for call in calls[:2]} == {"the base"}
    assert [call.seed for call in calls] == [0, 1, 0, 0, 1, 1]
    assert not {m.folder for own in members.values() for m in own} & set(shared)


def test_the_papers_recipe_keeps_the_best(spy: Spy) -> None:
    stages, calls = spy
    members = ensembles(stages, "mt-dnn-kd", n=6, keep=3, select_on=["classification"])
    assert [call.tasks for call in calls[:6]] == [tuple(NAMES)] * 6
    assert [call.seed for call in calls[6:]] == [5, 5, 4, 4, 3, 3]  # best first
    assert [m.name for m in members["regression"]] == ["teacher 6", "teacher 5", "teacher 4"]
    assert len(calls) == 6 + 3 * 2


def test_nobody_is_taught(spy: Spy) -> None:
    stages, calls = spy
    assert ensembles(stages, "multitask", teacher_tasks=[]) == {}
    assert not calls


@pytest.mark.parametrize("recipe", ["single", "multitask", "finetuned"])
def test_cross_fit_leaves_out_the_fold_that_it_will_label(spy: Spy, recipe: Recipe) -> None:
    stages, calls = spy
    members = ensembles(stages, recipe, cross_fit=True)
    for name in NAMES:
        assert [(m.fold, m.n_folds) for m in members[name]] == [(0, 3), (1, 3), (2, 3)]
    for call in calls:
        assert set(call.extras) == set(call.tasks)
        for task in TASKS:
            if task.name in call.extras:
                rows = call.extras[task.name].rows
                assert rows is not None
                left_out = folds(task, 3) == call.seed  # net k has seed k here
                assert left_out.any()
                assert rows.tolist() == np.flatnonzero(~left_out).tolist()


def test_rows_that_cannot_be_parted_are_refused_by_name(spy: Spy) -> None:
    stages, _ = spy
    rows = [{"query": "one", "candidate": f"text {i}", "relevance": i % 2} for i in range(6)]
    plan = nets(1)[0]
    task = toy_task("ranking", train=rows, dev=8)
    fold = (int(folds(task, 3)[0]), 3)
    with pytest.raises(DataError, match="task 'ranking', train") as refused:
        finetune(
            stages, [task], plan.plan, plan.settings, seed=0, device=CPU, what="one", fold=fold
        )
    assert "cross_fit: false" in refused.value.todo


def test_without_cross_fit_all_rows_are_seen(spy: Spy) -> None:
    stages, calls = spy
    members = ensembles(stages, "multitask")
    assert all(not call.extras for call in calls)
    assert all(m.fold is None for m in members["regression"])


def test_plain_and_cross_fitted_networks_are_not_mixed_up(spy: Spy) -> None:
    stages, calls = spy
    plain = ensembles(stages, "multitask")
    crossed = ensembles(stages, "multitask", cross_fit=True)
    assert len(calls) == 6
    again = ensembles(stages, "multitask")
    assert len(calls) == 6
    digests = [[m.digest for m in made["regression"]] for made in (plain, crossed, again)]
    assert digests[0] == digests[2]
    assert not set(digests[0]) & set(digests[1])


# -- real networks ------------------------------------------------------------------------------


def test_fine_tuned_members_start_from_the_shared_layers_with_a_fresh_head(
    base: Path, tmp_path: Path
) -> None:
    stages = stage_folder(tmp_path)
    still = NetPlan(
        plan=tiny_plan(base), settings=tiny_settings(epochs=1, learning_rate=1e-12), seed=5
    )
    made = train_ensembles(
        stages,
        TASKS,
        teacher_tasks=["regression"],
        recipe="finetuned",
        nets=[still],
        keep=1,
        select_on=(),
        cross_fit=False,
        device=CPU,
    )
    (member,) = made["regression"]
    shared = load_encoder_network(next(iter(stages.used.values())).folder)
    own = load_encoder_network(member.folder)
    assert list(own.tasks) == ["regression"]
    before, after = (n.model.encoder.state_dict() for n in (shared, own))
    for name, tensor in after.items():
        np.testing.assert_allclose(tensor, before[name], atol=1e-9)
    heads = [n.model.head("regression").state_dict()["linear.weight"] for n in (shared, own)]
    assert not np.allclose(heads[0], heads[1], atol=1e-3)


def test_the_rows_of_a_fold_are_in_fact_left_out(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TASKS[0]
    seen: list[list[str]] = []

    def spy_on(make: Callable[..., None]) -> Callable[..., None]:
        def train(folder: Path, tasks: Sequence[Task], *args: object, **kwargs: object) -> None:
            extras = kwargs["extras"]
            assert isinstance(extras, Mapping)
            rows = extras[task.name].rows
            seen.append([task.train.inputs["text"][i] for i in rows])
            make(folder, tasks, *args, **kwargs)

        return train

    monkeypatch.setattr(finetune_module, "train_network", spy_on(train_network))
    stage = finetune(
        stage_folder(tmp_path),
        [task],
        tiny_plan(base),
        tiny_settings(epochs=1),
        seed=0,
        device=CPU,
        what="net",
        fold=(1, 3),
    )
    (rows,) = seen
    parts = folds(task, 3)
    assert len(rows) == int((parts != 1).sum())
    assert (stage.folder / STUDENT_FILE).is_file()
    record = load_encoder_network(stage.folder)
    assert list(record.tasks) == [task.name]
