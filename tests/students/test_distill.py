"""Hard against soft: which row learns from what, and when a student is made anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, softmax

from potstill.core.arrays import parts_of
from potstill.core.device import Device
from potstill.core.errors import DataError
from potstill.core.stages import Stage, StageFolder
from potstill.students import distill as distill_module
from potstill.students.distill import distill, prepare_lesson
from potstill.students.lesson import Lesson, Objective, TaskDistillation
from potstill.students.student import Student
from potstill.targets.store import SoftTargets
from potstill.tasks.load import label_array
from potstill.tasks.task import Task, groups_of, slots_of, truth_of
from potstill.training.prepare import best_dev, training_record
from tests.tiny import CPU, stage_folder, tiny_plan, tiny_settings, toy_task
from tests.toys import LIST_ROWS, oracle, toy_rows

TASK = toy_task(train=16, dev=8, pool=[toy_rows("classification", 6, seed=9)])
PLAIN = toy_task(train=16, dev=8)


def lesson_of(
    task: Task, covered: np.ndarray | None = None, n_members: int = 2, **facts: Any
) -> Lesson:
    """Opinions of random members on the rows of train and pool; ``covered`` is (M, N)."""
    ids = np.concatenate([task.train.ids] + ([] if task.pool is None else [task.pool.ids]))
    cover = np.ones((n_members, len(ids)), bool) if covered is None else covered
    members = np.random.default_rng(0).normal(0, 2, (n_members, len(ids), task.kind.n_outputs))
    members = np.where(cover[..., None], members, 0).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(ids))  # a store has an order of its own
    targets = SoftTargets(ids=ids[order], members=members[:, order], cover=cover[:, order])
    return Lesson(targets=targets, digests=["x"], **facts)


def need(targets: SoftTargets | None) -> SoftTargets:
    assert targets is not None
    return targets


def cover_but(n: int, *missing: int) -> np.ndarray:
    cover = np.ones((2, n), bool)
    cover[:, list(missing)] = False
    return cover


@pytest.mark.parametrize(
    ("objective", "soft_share"),
    [("average", 0.3), ("annealed", 0.3), ("logit_mse", 0.3), ("soft_only", 1.0)],
)
def test_weights_of_covered_uncovered_and_pool_rows(
    objective: Objective, soft_share: float
) -> None:
    how = TaskDistillation(objective=objective, soft_weight=0.3, pool_weight=0.7)
    # rows 2 and 5 of train and the second of the pool have no target
    extra, facts = prepare_lesson(TASK, lesson_of(TASK, cover_but(22, 2, 5, 17)), how)
    assert extra.pool is not None
    assert extra.soft is not None
    assert extra.hard_weights is not None
    missing = np.isin(np.arange(16), [2, 5])
    np.testing.assert_allclose(extra.hard_weights, np.where(missing, 1.0, 1.0 - soft_share))
    wanted = [*np.where(missing, 0.0, soft_share), *[0.7] * 5]
    np.testing.assert_allclose(extra.soft.weights, wanted, rtol=1e-6)
    assert extra.soft.targets.shape == (21, 2)
    assert not extra.soft.targets[[2, 5]].any()
    assert len(extra.pool) == 5
    assert extra.soft.space == ("logits" if objective == "logit_mse" else "probabilities")
    assert extra.soft.annealed == (objective == "annealed")
    assert facts == {"train_rows": 16, "train_covered": 14, "pool_rows": 6, "pool_covered": 5}


def test_targets_stand_beside_their_rows() -> None:
    lesson = lesson_of(TASK)
    assert TASK.pool is not None
    for objective, temperature in (("average", 2.0), ("annealed", 1.0), ("logit_mse", 2.0)):
        how = TaskDistillation(objective=objective, temperature=2.0)  # type: ignore[arg-type]
        extra, _ = prepare_lesson(TASK, lesson, how)
        assert extra.soft is not None
        members, _ = need(lesson.targets).find(np.concatenate([TASK.train.ids, TASK.pool.ids]))
        wanted = softmax(members / temperature, -1).mean(0)
        if objective == "logit_mse":
            wanted = members.mean(0)
        else:
            assert extra.soft.temperature == temperature  # annealing mixes labels in: only T = 1
        np.testing.assert_allclose(extra.soft.targets, wanted, rtol=1e-5)


def test_a_row_that_one_member_knows_is_covered() -> None:
    cover = np.ones((2, 16), bool)
    cover[0, :8] = False
    lesson = lesson_of(PLAIN, cover)
    extra, facts = prepare_lesson(PLAIN, lesson, TaskDistillation())
    assert facts["train_covered"] == 16
    assert extra.soft is not None
    members, _ = need(lesson.targets).find(PLAIN.train.ids)
    np.testing.assert_allclose(extra.soft.targets[:8], softmax(members[1, :8], -1), rtol=1e-5)


def test_nobody_knows_the_pool() -> None:
    extra, facts = prepare_lesson(
        TASK, lesson_of(TASK, cover_but(22, *range(16, 22))), TaskDistillation()
    )
    assert extra.pool is None
    assert facts["pool_covered"] == 0
    assert extra.soft is not None
    assert len(extra.soft.weights) == 16


def test_lists_need_all_their_rows() -> None:
    task = toy_task("ranking", train=12, dev=8, pool=[toy_rows("ranking", 8, seed=9)])
    cover = cover_but(20, 5, 17)  # a row of the second list, a row of the pool's second
    extra, facts = prepare_lesson(task, lesson_of(task, cover), TaskDistillation(soft_weight=0.4))
    assert extra.pool is not None
    assert extra.soft is not None
    assert extra.hard_weights is not None
    np.testing.assert_allclose(extra.hard_weights, [0.6, 1.0, 0.6])
    np.testing.assert_allclose(extra.soft.weights, [0.4, 0.0, 0.4, 1.0], rtol=1e-6)
    assert len(extra.pool) == LIST_ROWS
    assert facts["pool_covered"] == LIST_ROWS
    lists = extra.soft.targets[:, 0].reshape(-1, LIST_ROWS)
    np.testing.assert_allclose(lists[[0, 2, 3]].sum(1), 1.0, rtol=1e-5)


def test_stop_margin_and_teacher_dev_travel() -> None:
    lesson = lesson_of(PLAIN, teacher_dev=0.8)
    extra, _ = prepare_lesson(PLAIN, lesson, TaskDistillation(stop_when_ahead=0.02))
    assert extra.soft is not None
    assert (extra.soft.teacher_dev, extra.soft.stop_margin) == (0.8, 0.02)


# -- several answers a row ----------------------------------------------------------------------

SLOTTED = ("tagging", "span", "unanswerable")


def by_slot(task: Task, covered: np.ndarray | None = None, n_members: int = 2) -> Lesson:
    """The same for tasks that answer at several slots of a row; ``covered`` is (M, rows)."""
    splits = [task.train] + ([] if task.pool is None else [task.pool])
    ids = np.concatenate([split.ids for split in splits])
    counts = [slots for split in splits if (slots := slots_of(task, split)) is not None]
    slots = np.concatenate(counts)
    cover = np.ones((n_members, len(ids)), bool) if covered is None else covered
    draw = np.random.default_rng(0).normal(0, 2, (n_members, int(slots.sum()), task.kind.n_outputs))
    members = np.where(np.repeat(cover, slots, axis=1)[..., None], draw, 0).astype(np.float32)
    order = np.random.default_rng(1).permutation(len(ids))
    targets = SoftTargets(
        ids=ids[order],
        members=members[:, parts_of(slots, order)],
        cover=cover[:, order],
        slots=slots[order],
    )
    return Lesson(targets=targets, digests=["x"])


@pytest.mark.parametrize("kind", SLOTTED)
@pytest.mark.parametrize("objective", ["average", "logit_mse"])
def test_weights_are_of_rows_and_targets_of_their_slots(kind: str, objective: Objective) -> None:
    task = toy_task(kind, train=16, dev=8, pool=[toy_rows(kind, 6, seed=9)])
    assert task.pool is not None
    assert len(task.pool) == 6
    cover = cover_but(22, 2, 5, 17)
    cover[0, 3] = cover[1, 21] = False  # one member alone
    lesson = by_slot(task, cover)
    how = TaskDistillation(objective=objective, soft_weight=0.3, pool_weight=0.7, temperature=2.0)
    extra, facts = prepare_lesson(task, lesson, how)
    assert facts == {"train_rows": 16, "train_covered": 14, "pool_rows": 6, "pool_covered": 5}
    assert extra.pool is not None
    assert extra.soft is not None
    assert extra.hard_weights is not None
    missing = np.isin(np.arange(16), [2, 5])
    np.testing.assert_allclose(extra.hard_weights, np.where(missing, 1.0, 0.7))
    wanted = [*np.where(missing, 0.0, 0.3), *[0.7] * 5]
    np.testing.assert_allclose(extra.soft.weights, wanted, rtol=1e-6)
    assert extra.soft.temperature == 2.0
    start = 0
    for split in (task.train, extra.pool):
        for row in range(len(split)):
            one = split.take(np.array([row]))
            slots = slots_of(task, one)
            assert slots is not None
            end = start + int(slots[0])
            members, known = need(lesson.targets).find(one.ids, slots)
            own = [k for k in range(2) if known[k, 0]]
            got = extra.soft.targets[start:end]
            if own:
                combined = task.kind.combine(
                    members[own],
                    np.ones((len(own), end - start), bool),
                    np.zeros(end - start, np.int64),
                    temperature=2.0,
                    space=extra.soft.space,
                )
                np.testing.assert_allclose(got, combined, rtol=1e-5, atol=1e-6)
            else:
                assert not got.any()
            start = end
    assert start == len(extra.soft.targets)


def test_several_labels_are_distilled_row_by_row() -> None:
    task = toy_task("multilabel", train=16, dev=8, pool=[toy_rows("multilabel", 6, seed=9)])
    lesson = lesson_of(task, cover_but(22, 4, 18))
    extra, facts = prepare_lesson(task, lesson, TaskDistillation(temperature=2.0))
    assert facts == {"train_rows": 16, "train_covered": 15, "pool_rows": 6, "pool_covered": 5}
    assert extra.soft is not None
    assert extra.pool is not None
    ids = np.concatenate([task.train.ids, extra.pool.ids])
    members, _ = need(lesson.targets).find(ids)
    wanted = expit(members / 2.0).mean(0)
    wanted[4] = 0
    np.testing.assert_allclose(extra.soft.targets, wanted, rtol=1e-5, atol=1e-6)


def knowing(task: Task) -> Lesson:
    """A teacher that knows the rule, of train and pool."""
    assert task.pool is not None
    splits = [task.train, task.pool]
    slots, outputs = [], []
    for split in splits:
        rows = zip(*split.inputs.values(), strict=True)
        found = [
            task.kind.encode(oracle(task.name, dict(zip(split.inputs, row, strict=True))), row)
            for row in rows
        ]
        counts = slots_of(task, split)
        slots += [] if counts is None else [counts]
        marks = task.kind.flat(label_array(found), counts)
        if marks.ndim == 1:
            marks = np.eye(task.kind.n_outputs)[marks.astype(np.int64)]
        outputs.append((8 * marks - 4).astype(np.float32))
    members = np.concatenate(outputs)[None]
    ids = np.concatenate([split.ids for split in splits])
    targets = SoftTargets(
        ids=ids,
        members=members,
        cover=np.ones((1, len(ids)), bool),
        slots=np.concatenate(slots) if slots else None,
    )
    return Lesson(targets=targets, digests=["knowing"])


@pytest.mark.parametrize(
    ("kind", "pool", "epochs", "wanted"),
    [("multilabel", 150, 6, 0.75), ("tagging", 150, 6, 0.55), ("span", 300, 12, 0.6)],
)
def test_a_student_learns_the_rule_from_its_pool(
    base: Path, tmp_path: Path, kind: str, pool: int, epochs: int, wanted: float
) -> None:
    task = toy_task(kind, train=6, dev=40, pool=[toy_rows(kind, pool, seed=9)])
    lesson = knowing(task)
    scores = {}
    for name, rows in (("pool", task), ("labels", replace(task, pool=None))):
        stage = distill(
            stage_folder(tmp_path / name),
            [rows],
            tiny_plan(base),
            tiny_settings(epochs=epochs, dropout=0.0),
            lessons={kind: lesson},
            how={kind: TaskDistillation()},
            seed=0,
            device=CPU,
            what="student",
        )
        scores[name] = best_dev(stage.folder, kind)
    assert scores["pool"] > max(wanted, scores["labels"] + 0.1), scores


def test_thresholds_of_the_dev_rows_go_with_the_student(base: Path, tmp_path: Path) -> None:
    tasks = [
        toy_task(kind, train=20, dev=16, pool=[toy_rows(kind, 6, seed=9)])
        for kind in ("multilabel", "tagging", "unanswerable")
    ]
    lessons = {task.name: knowing(task) for task in tasks}
    stage = made(stage_folder(tmp_path), base, tasks, lessons, epochs=1)
    facts = json.loads((stage.folder / "student.json").read_text(encoding="utf-8"))["tasks"]
    assert len(facts["multilabel"]["space"]["thresholds"]) == 3
    assert "margin" in facts["unanswerable"]["space"]
    assert set(facts["tagging"]["space"]) == {"kind", "tags"}
    record = training_record(stage.folder)
    assert {name: found["pool_covered"] for name, found in record["cover"].items()} == {
        "multilabel": 6,
        "tagging": 6,
        "unanswerable": 6,
    }
    student = Student.load(stage.folder, device="cpu", precision="fp32")
    for task in tasks:
        rows = toy_rows(task.name, 16, seed=1)  # those of dev
        answers = [one["tasks"][task.name] for one in student.predict(rows, tasks=[task.name])]
        head = student.heads[task.name]
        outputs, _ = student.outputs([task.name], task.dev.inputs)
        groups = groups_of(task, task.dev)
        predictions = head.kind.predict(outputs[task.name], groups)
        inputs = task.inputs.in_order(task.dev.inputs)
        assert answers == head.kind.decode(predictions, inputs, groups)
        score = task.metric.score(
            truth_of(task, task.dev), predictions, task.kind.score_groups(groups)
        )
        assert score == pytest.approx(best_dev(stage.folder, task.name))


# -- the stage ----------------------------------------------------------------------------------


def made(
    stages: StageFolder,
    base: Path,
    tasks: list[Task],
    lessons: Mapping[str, Lesson],
    how: TaskDistillation | None = None,
    seed: int = 0,
    device: Device = CPU,
    epochs: int = 2,
) -> Stage:
    return distill(
        stages,
        tasks,
        tiny_plan(base),
        tiny_settings(epochs=epochs),
        lessons=lessons,
        how={name: how or TaskDistillation() for name in lessons},
        seed=seed,
        device=device,
        what="student",
    )


def test_a_student_learns_and_says_what_was_covered(base: Path, tmp_path: Path) -> None:
    other = toy_task("regression", train=16, dev=8)
    stage = made(stage_folder(tmp_path), base, [TASK, other], {TASK.name: lesson_of(TASK)})
    record = training_record(stage.folder)
    assert record["cover"] == {
        TASK.name: {"train_rows": 16, "train_covered": 16, "pool_rows": 6, "pool_covered": 6}
    }
    assert set(record["dev"]) == {"classification", "regression"}
    assert record["n_rows"] == 2 * (16 + 6 + 16)


def test_a_pool_without_a_teacher_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unlabelled rows, but no teacher") as refused:
        made(stage_folder(tmp_path), base, [TASK], {})
    assert "teachers: {tasks:" in refused.value.todo


def test_when_a_student_is_made_anew(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def instead(folder: Path, *args: object, **kwargs: object) -> None:
        (folder / "made").write_text("", encoding="utf-8")

    monkeypatch.setattr(distill_module, "train_network", instead)
    stages = stage_folder(tmp_path)
    lesson = lesson_of(TASK, teacher_dev=0.5)
    name = TASK.name
    wanted = made(stages, base, [TASK], {name: lesson})
    assert made(stages, base, [TASK], {name: lesson}) is wanted
    assert made(stages, base, [TASK], {name: lesson}, TaskDistillation()) is wanted
    assert TASK.pool is not None
    short_pool = replace(TASK, pool=TASK.pool.take(np.arange(3)))
    other_train = replace(TASK, train=TASK.train.take(np.arange(15)))
    gate = TaskDistillation(stop_when_ahead=0.0)
    unread = replace(lesson, teacher_dev=0.6)  # without the gate nothing looks at it
    assert made(stages, base, [TASK], {name: unread}) is wanted
    changed = [
        made(stages, base, [TASK], {name: replace(lesson, digests=["y"])}),
        made(stages, base, [short_pool], {name: lesson}),
        made(stages, base, [other_train], {name: lesson}),
        made(stages, base, [PLAIN], {}),
        made(stages, base, [TASK, toy_task("regression")], {name: lesson}),
        made(stages, base, [TASK], {name: lesson}, seed=1),
        made(stages, base, [TASK], {name: lesson}, device=Device(name="cpu", precision="bf16")),
        made(stages, base, [TASK], {name: lesson}, epochs=3),
        made(stages, base, [TASK], {name: lesson}, TaskDistillation(soft_weight=0.4)),
        made(stages, base, [TASK], {name: lesson}, TaskDistillation(temperature=2.0)),
        made(stages, base, [TASK], {name: lesson}, TaskDistillation(objective="annealed")),
        made(stages, base, [TASK], {name: lesson}, TaskDistillation(pool_weight=0.5)),
        made(stages, base, [TASK], {name: lesson}, gate),
        made(stages, base, [TASK], {name: replace(lesson, teacher_dev=0.6)}, gate),
    ]
    assert len({wanted.digest, *(stage.digest for stage in changed)}) == len(changed) + 1


def test_what_does_not_matter_for_the_digest() -> None:
    settings = tiny_settings()
    assert replace(settings, checkpoint_seconds=1.0).facts({}) == settings.facts({})
    plan = tiny_plan(Path("anywhere"))
    moved = replace(plan, base="elsewhere", head_dropout={"not a task here": 0.5})
    assert moved.facts([TASK]) == plan.facts([TASK])
    here = replace(plan, head_dropout={TASK.name: 0.5})
    weighed = replace(plan, task_weights={TASK.name: 0.5})
    assert len({str(p.facts([TASK])) for p in (plan, here, weighed)}) == 3
