"""What a change of the run file trains anew, and what it must not; nothing stale is ever used."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import potstill
from potstill.config import RunFile, parse_run
from potstill.core import files
from potstill.core import stages as core_stages
from potstill.core.device import resolve_device
from potstill.core.errors import ArtefactError
from potstill.core.progress import Progress
from potstill.core.stages import Stage
from potstill.pipeline import run_folder
from potstill.pipeline.run import Run
from potstill.teachers import recipes
from tests.pipeline.toy_runs import (
    Keys,
    kinds_of,
    made_stages,
    stage_names,
    toy_run,
    toy_task,
    weight_digests,
    with_key,
    write_run,
)
from tests.toys import make_base, toy_rows

TEACH = {"teach", "label", "student"}
STUDENT = {"student"}
BOTH = {"student", "multi-task"}  # the baseline is the student without soft targets
ALL = TEACH | {"multi-task", "single"}
SHARED = ALL - {"single"}  # what lies between tasks is nothing to a network of one
NONE: set[str] = set()


def copy_of(run: Keys, folder: Path, place: Path) -> Keys:
    """The same run in another place where all its stages stand already."""
    shutil.copytree(folder.parent / "stages", place / "stages")
    return copy.deepcopy({**run, "output": str(place)})


def made_by(run: Keys) -> set[str]:
    """Which kinds of stages a run makes, those aside that only scoring reads."""
    opened = Run(parse_run(run), Progress())
    opened.distill()
    for seed in opened.seeds:
        if "multitask" in opened.run.evaluate.baselines:
            _ = seed.multitask
        for task in seed.all_tasks:
            if "single" in opened.run.evaluate.baselines:
                seed.single(task)
            if opened.run.student.finetune:
                seed.finetuned(task)
    return kinds_of(made_stages(opened.folder))


CHANGES: list[tuple[str, object, set[str]]] = [
    ("name", "other", NONE),
    ("seed", 1, ALL),
    ("precision", "bf16", ALL),
    ("device", "auto", NONE),
    ("training.epochs", 2, ALL),
    ("training.learning_rate", 1e-3, ALL),
    ("training.head_learning_rate", 1e-2, ALL),
    ("training.batch", 4, ALL),
    ("training.max_tokens", 16, ALL),
    ("training.optimizer", "adamax", ALL),
    ("training.warmup", 0.5, ALL),
    ("training.decay", "cosine", ALL),
    ("training.weight_decay", 0.1, ALL),
    ("training.clip", 0.1, ALL),
    ("training.accumulate", 2, ALL),
    ("training.tasks_per_step", 1, SHARED),
    ("training.dropout", 0.2, ALL),
    ("training.head_dropout", 0.3, ALL),
    ("training.mixing", "sqrt", SHARED),
    ("training.balance", "none", SHARED),
    ("training.patience", 1, ALL),
    ("training.checkpoint_seconds", 1.0, NONE),
    ("teachers.training.epochs", 2, TEACH),
    ("teachers.members", 3, TEACH),
    ("teachers.recipe", "single", TEACH),
    ("teachers.cross_fit", True, TEACH),
    ("teachers.tasks", ["mood"], STUDENT),  # the network is the same; its other labels lie idle
    ("teachers.each", [{"dropout": 0.2}, {"seed": 9}], TEACH),
    ("teachers.pooling", "cls", TEACH),
    ("teachers.layers", 1, TEACH),
    ("student.training.epochs", 2, BOTH),
    ("student.task_token", True, BOTH),
    ("student.layers", 1, BOTH | {"single"}),
    ("student.pooling", "mean", {"student", "single"}),  # the baseline is teacher 1 now
    ("student.generations", 2, {"label", "student,"}),
    ("student.finetune", True, STUDENT),
    ("distill.soft_weight", 0.25, STUDENT),
    ("distill.temperature", 2.0, STUDENT),
    ("distill.objective", "soft_only", STUDENT),
    ("distill.pool_weight", 2.0, STUDENT),
    ("distill.stop_when_ahead", 0.0, STUDENT),
    ("distill.pool", "others", {"label", "student"}),
    ("distill.pool", False, NONE),
    ("tasks.mood.pool", False, NONE),
    ("evaluate.baselines", [], NONE),
    ("evaluate.resamples", 210, NONE),
    ("evaluate.training.epochs", 2, {"single"}),
    ("export.max_drop", 0.1, NONE),
    ("tasks.mood.soft_weight", 0.25, STUDENT),
    ("tasks.mood.temperature", 2.0, STUDENT),
    ("tasks.mood.dropout", 0.4, ALL),
    ("tasks.mood.weight", 2.0, ALL),
    ("tasks.mood.metric", "f1", ALL),  # it chooses the epoch
    ("tasks.mood.rows", 12, ALL),
    ("tasks.mood.classes", ["good", "bad"], ALL),
    ("tasks.mood.teachers", False, STUDENT),
    ("tasks.mood.test", toy_rows("classification", 16, 9), NONE),
    ("tasks.mood.dev", toy_rows("classification", 8, 9), ALL),
    ("tasks.mood.train", toy_rows("classification", 16, 9), ALL),
    ("tasks.mood.pool", [toy_rows("classification", 16, 9)], {"label", "student"}),
]


@pytest.mark.parametrize(("key", "value", "anew"), CHANGES, ids=[key for key, _, _ in CHANGES])
def test_a_change_makes_what_depends_on_it(
    finished: tuple[Keys, Path], tmp_path: Path, key: str, value: object, anew: set[str]
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    before = weight_digests(tmp_path)
    assert made_by(with_key(again, key, value)) == anew
    after = weight_digests(tmp_path)
    assert {name: after[name] for name in before} == before


def test_every_section_has_its_change() -> None:
    """``output`` and ``base`` are the tests below; sections of texts are in test_translation.py."""
    changed = {key.split(".")[0] for key, _, _ in CHANGES}
    of_texts = {"architecture", "decoding"}
    assert changed | {"output", "base"} | of_texts == set(RunFile.model_fields)


ELSEWHERE = {
    "teachers": {"architecture", "base", "nets", "keep", "select_on"},
    "student": {"architecture", "base", "trunk"},  # of trunks there is one as yet
    "evaluate": {"match_steps"},
}
"""Keys whose changes are the tests below, or in test_translation.py."""


@pytest.mark.parametrize(
    "section", ["training", "teachers", "student", "distill", "evaluate", "export"]
)
def test_every_key_of_a_section_has_its_change(section: str) -> None:
    changed = {key.split(".")[1] for key, _, _ in CHANGES if key.startswith(f"{section}.")}
    keys = set(RunFile.model_fields[section].annotation.model_fields)  # type: ignore[union-attr]
    assert changed | ELSEWHERE.get(section, set()) == keys


@pytest.mark.parametrize(
    ("key", "anew"), [("teachers.base", TEACH), ("student.base", BOTH | {"single"})]
)
def test_another_base_of_one_side(
    finished: tuple[Keys, Path], base: Path, tmp_path: Path, key: str, anew: set[str]
) -> None:
    run, folder = finished
    other = tmp_path / "other"
    shutil.copytree(base, other)
    change_weights(other)
    again = copy_of(run, folder, tmp_path / "runs")
    assert made_by(with_key(again, key, str(other))) == anew


@pytest.mark.parametrize(("key", "value"), [("nets", 3), ("keep", 2), ("select_on", ["stars"])])
def test_which_networks_are_kept_decides_what_the_student_learns(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object
) -> None:
    run = toy_run(tmp_path, base)
    run["evaluate"]["baselines"] = []
    run["teachers"] = {"recipe": "mt-dnn-kd", "nets": 2, "keep": 1, "select_on": ["mood"]}

    def taught_by(asked: Keys) -> tuple[list[str], str]:
        opened = Run(parse_run(asked), Progress())
        opened.distill()
        seed = opened.seeds[0]
        return [m.digest for ms in seed.members.values() for m in ms], seed.student.digest

    # The second network is the better one on mood, the first on stars; a third is better still.
    scores = {0: {"mood": 0.1, "stars": 0.9}, 1: {"mood": 0.9, "stars": 0.1}, 2: {"mood": 1.0}}
    order: dict[Path, int] = {}

    def scored(stage: Stage, tasks: Sequence[str]) -> float:
        return scores[order.setdefault(stage.folder, len(order))].get(tasks[0], 0.0)

    monkeypatch.setattr(recipes, "_mean_dev", scored)
    members, student = taught_by(run)
    order.clear()
    others, another = taught_by(with_key(run, f"teachers.{key}", value))
    assert members != others
    assert student != another
    assert len(others) == len(members) * (2 if key == "keep" else 1)


def test_steps_are_matched_by_a_longer_baseline(
    finished: tuple[Keys, Path], tmp_path: Path
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    again["tasks"]["mood"]["pool"] = [toy_rows("classification", 24, 9)]
    potstill.run(again)
    made = made_stages(potstill.run(with_key(again, "evaluate.match_steps", True)).folder)
    assert kinds_of(made) == {"longer", "score"}


def test_the_same_run_makes_nothing_wherever_it_stands(
    finished: tuple[Keys, Path], tmp_path: Path
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path / "elsewhere")
    result = potstill.run(again)
    assert made_stages(result.folder) == []
    assert result.folder.name == folder.name


@pytest.mark.parametrize(
    ("key", "value"),
    [("evaluate.resamples", 210), ("evaluate.baselines", []), ("export.max_drop", 0.1)],
)
def test_scores_are_not_made_again(
    finished: tuple[Keys, Path], tmp_path: Path, key: str, value: object
) -> None:
    run, folder = finished
    result = potstill.run(with_key(copy_of(run, folder, tmp_path), key, value))
    assert made_stages(result.folder) == []


def test_a_changed_test_file_is_scored_anew(finished: tuple[Keys, Path], tmp_path: Path) -> None:
    run, folder = finished
    rows = toy_rows("classification", 12, 9)
    result = potstill.run(with_key(copy_of(run, folder, tmp_path), "tasks.mood.test", rows))
    assert result.results["tasks"]["mood"]["n"] == 12
    assert set(made_stages(result.folder)) == {
        "single on mood, 1/1",
        "multitask on mood, 1/1",
        "student on mood, 1/1",
        "ensemble on mood, 1/2",
        "ensemble on mood, 2/2",
    }


def test_resolved_precision_counts_not_its_name(
    finished: tuple[Keys, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = finished
    monkeypatch.setattr("potstill.core.device._has_fast_bf16", lambda kind: False)
    assert resolve_device("cpu", "auto").precision == "fp32"
    assert made_by(with_key(copy_of(run, folder, tmp_path), "precision", "auto")) == NONE


def change_label(rows: list[Keys]) -> None:
    rows[3]["label"] = "bad" if rows[3]["label"] == "good" else "good"


def change_text(rows: list[Keys]) -> None:
    rows[3]["text"] += " stone"


def swap_rows(rows: list[Keys]) -> None:
    rows[0], rows[1] = rows[1], rows[0]


@pytest.mark.parametrize("split", ["train", "dev"])
@pytest.mark.parametrize("change", [change_label, change_text, swap_rows])
def test_one_changed_row_changes_all(
    finished: tuple[Keys, Path],
    tmp_path: Path,
    split: str,
    change: Callable[[list[Keys]], None],
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    change(again["tasks"]["mood"][split])
    assert made_by(again) == ALL


def test_a_changed_row_touches_only_networks_that_saw_it(
    finished: tuple[Keys, Path], tmp_path: Path
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    change_label(again["tasks"]["mood"]["train"])
    made = made_stages(potstill.run(again).folder)
    assert [what for what in made if what.startswith("single model")] == ["single model of mood"]


def test_other_weights_of_the_base_change_all(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    run = toy_run(tmp_path / "runs", base)
    assert made_by(run) == ALL
    before = stage_names(tmp_path / "runs")
    change_weights(base)
    run["output"] = str(tmp_path / "again")
    shutil.copytree(tmp_path / "runs" / "stages", tmp_path / "again" / "stages")
    assert made_by(run) == ALL
    assert len(stage_names(tmp_path / "again")) == 2 * len(before)


def test_another_base_under_the_same_name_is_another_run(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    run = toy_run(tmp_path / "runs", base)
    first = potstill.run(run)
    scores = (first.folder / "results.json").read_bytes()
    change_weights(base)
    second = potstill.run(run)
    assert second.folder != first.folder
    assert (first.folder / "results.json").read_bytes() == scores


def change_weights(base: Path) -> None:
    """Another number among the weights of a base."""
    weights = base / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    tensors["embeddings.word_embeddings.weight"][7, 0] += 0.5
    safetensors.torch.save_file(tensors, weights, {"format": "pt"})


def test_a_base_that_moved_changes_nothing(
    finished: tuple[Keys, Path], base: Path, tmp_path: Path
) -> None:
    run, folder = finished
    shutil.copytree(base, tmp_path / "base")
    again = copy_of(run, folder, tmp_path / "runs")
    assert made_by({**again, "base": str(tmp_path / "base")}) == NONE


def test_a_raised_method_version_makes_all_anew(
    finished: tuple[Keys, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = finished
    monkeypatch.setattr(core_stages, "METHOD_VERSION", core_stages.METHOD_VERSION + 1)
    assert made_by(copy_of(run, folder, tmp_path)) == ALL


def test_two_runs_share_teachers(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base, {"mood": toy_task()})
    first = potstill.run({**run, "name": "first"})
    second = potstill.run({**run, "name": "second", "distill": {"soft_weight": 0.9}})
    assert "teach" in kinds_of(made_stages(first.folder))
    assert kinds_of(made_stages(second.folder)) == {"student", "score"}
    manifests = [json.loads((r.folder / "manifest.json").read_text()) for r in (first, second)]
    shared = set(manifests[0]["stages"]) & set(manifests[1]["stages"])
    assert {name.split("-")[0] for name in shared} == {"network", "targets"}


@pytest.mark.parametrize("kind", ["network", "targets", "student"])
def test_a_deleted_stage_is_made_again_with_equal_weights(
    finished: tuple[Keys, Path], tmp_path: Path, kind: str
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    before = weight_digests(tmp_path)
    for stage in (tmp_path / "stages").glob(f"{kind}-*"):
        shutil.rmtree(stage)
    potstill.run(again)
    after = weight_digests(tmp_path / "stages")
    assert after == {name.removeprefix("stages/"): digest for name, digest in before.items()}


# -- damage -------------------------------------------------------------------------------------


def flip(file: Path, place: float) -> None:
    data = bytearray(file.read_bytes())
    data[min(int(place * len(data)), len(data) - 1)] ^= 1
    file.write_bytes(data)


def files_in(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("kind", ["network", "targets", "student"])
def test_a_flipped_byte_in_any_file_of_a_stage_is_named_and_refused(
    finished: tuple[Keys, Path], tmp_path: Path, kind: str
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    used = json.loads((folder / "manifest.json").read_text())["stages"]
    stage = tmp_path / "stages" / next(name for name in used if name.startswith(kind))
    there = files_in(stage)
    assert len(there) >= 4
    for number, file in enumerate(there):
        good = file.read_bytes()
        flip(file, (number + 0.5) / len(there))
        with pytest.raises(ArtefactError) as caught:
            potstill.run(again)
        assert str(file) in caught.value.thing
        file.write_bytes(good)
    potstill.run(again)


@pytest.mark.parametrize("name", ["manifest.json", "training.json", "heads.safetensors"])
def test_a_missing_file_of_a_stage_is_named_and_refused(
    finished: tuple[Keys, Path], tmp_path: Path, name: str
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    stage = next((tmp_path / "stages").glob("student-*"))
    (stage / name).unlink()
    with pytest.raises(ArtefactError, match=name) as caught:
        potstill.run(again)
    assert "made anew" in caught.value.todo
    assert stage.is_dir()


def test_every_bit_of_a_manifest_counts(finished: tuple[Keys, Path], tmp_path: Path) -> None:
    run, folder = finished
    again = parse_run(copy_of(run, folder, tmp_path))
    manifest = next((tmp_path / "stages").glob("student-*")) / "manifest.json"
    good = manifest.read_bytes()
    for place in range(0, len(good), 7):
        changed = bytearray(good)
        changed[place] ^= 2
        manifest.write_bytes(changed)
        with pytest.raises(ArtefactError, match="manifest.json"):
            files.verify(manifest.parent)
    manifest.write_bytes(good)
    Run(again, Progress()).distill()


def test_a_flipped_byte_in_any_file_of_the_run_folder_is_named_and_refused(
    finished: tuple[Keys, Path], tmp_path: Path
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    shutil.copytree(folder, tmp_path / folder.name)
    place = tmp_path / folder.name
    never_read = {"log.jsonl", "report.html"}
    for file in files_in(place):
        if file.name in never_read:
            continue
        good = file.read_bytes()
        flip(file, 0.4)
        of_student = file.is_relative_to(place / "student")
        with pytest.raises(ArtefactError) as caught:
            potstill.load(place) if of_student else Run(parse_run(again), Progress()).report()
        assert str(file) in caught.value.thing
        file.write_bytes(good)
    Run(parse_run(again), Progress()).report()
    potstill.load(place)


def test_results_that_were_changed_by_hand_are_mended_by_the_run(
    finished: tuple[Keys, Path], tmp_path: Path
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    shutil.copytree(folder, tmp_path / folder.name)
    results = tmp_path / folder.name / "results.json"
    good = json.loads(results.read_text())
    flip(results, 0.4)
    with pytest.raises(ArtefactError, match="keep the folder") as refused:
        Run(parse_run(again), Progress()).report()
    assert str(results) in refused.value.thing
    assert potstill.run(again).results["tasks"] == good["tasks"]


def test_results_that_were_broken_off_are_unfinished_not_damaged(
    finished: tuple[Keys, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = finished
    again = copy_of(run, folder, tmp_path)
    shutil.copytree(folder, tmp_path / folder.name)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            potstill.run(again)
    with pytest.raises(ArtefactError, match="no results yet"):
        Run(parse_run(again), Progress()).report()
    assert potstill.run(again).folder.name == folder.name


def test_a_report_of_a_run_that_was_not_evaluated_says_so(base: Path, tmp_path: Path) -> None:
    run = parse_run(toy_run(tmp_path, base, {"mood": toy_task()}))
    with pytest.raises(ArtefactError, match="no results yet"):
        Run(run, Progress()).report()


def test_pickled_weights_of_a_base_are_never_opened(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    weights = tmp_path / "base" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    run: dict[str, Any] = toy_run(tmp_path / "runs", tmp_path / "base", {"mood": toy_task()})
    with pytest.raises(potstill.PotstillError, match="pickled files can run code"):
        potstill.run(write_run(tmp_path, run))
    assert torch.get_num_threads() == 1
