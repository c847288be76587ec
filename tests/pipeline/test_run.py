"""The whole path: what a run leaves, from every way in, for every choice of systems."""

from __future__ import annotations

import copy
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import potstill
from potstill.config import load_run_file, parse_run
from potstill.core.errors import BaseModelError, DataError, RunFileError, UsageError
from potstill.core.files import read_manifest, write_manifest
from potstill.core.progress import Progress
from potstill.evaluation.report_words import headline
from potstill.pipeline.run import Run
from tests.pipeline.contract import SYSTEMS, check_results
from tests.pipeline.toy_runs import (
    SPLITS,
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
from tests.toys import toy_rows, write_rows

Rows = list[dict[str, Any]]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# -- ways in ------------------------------------------------------------------------------------


def as_arrow(rows: Rows) -> object:
    return pa.Table.from_pylist(rows)


def as_frame(rows: Rows) -> object:
    return pd.DataFrame(rows)


@pytest.mark.parametrize("convert", [as_arrow, as_frame])
def test_tables_find_the_stages_of_plain_rows(
    finished: tuple[Keys, Path], convert: Callable[[Rows], object]
) -> None:
    run, folder = finished
    before = stage_names(folder.parent)
    tasks = {
        name: {key: convert(value) if key in SPLITS else value for key, value in task.items()}
        for name, task in run["tasks"].items()
    }
    result = potstill.run({**run, "tasks": tasks})
    assert result.folder == folder
    assert stage_names(folder.parent) == before
    check_results(result.results)


def to_parquet(path: Path, rows: Rows) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def to_csv(path: Path, rows: Rows) -> Path:
    pd.DataFrame(rows).to_csv(path.with_suffix(".csv.gz"), index=False)
    return path.with_suffix(".csv.gz")


def to_tsv(path: Path, rows: Rows) -> Path:
    pd.DataFrame(rows).to_csv(path.with_suffix(".tsv"), index=False, sep="\t")
    return path.with_suffix(".tsv")


@pytest.mark.parametrize("write", [None, to_parquet, to_csv, to_tsv])
def test_files_find_the_stages_of_plain_rows(
    finished: tuple[Keys, Path], tmp_path: Path, write: Callable[[Path, Rows], Path] | None
) -> None:
    run, folder = finished
    before = stage_names(folder.parent)
    result = potstill.run(write_run(tmp_path, run, write))
    assert stage_names(folder.parent) == before
    assert result.results["mean"] == read(folder / "results.json")["mean"]


def test_a_folder_that_moves_keeps_its_run(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base, {"mood": toy_task()}) | {"output": "runs"}
    run["teachers"]["members"], run["evaluate"]["baselines"] = 1, []
    (tmp_path / "a").mkdir()
    before = potstill.run(write_run(tmp_path / "a", run)).folder
    stages = stage_names(before.parent)
    (tmp_path / "a").rename(tmp_path / "b")
    after = potstill.run(tmp_path / "b" / "run.yaml").folder
    assert after.relative_to(tmp_path / "b") == before.relative_to(tmp_path / "a")
    assert stage_names(after.parent) == stages


def test_a_name_that_is_not_utf8(base: Path, tmp_path: Path) -> None:
    """Old archives hold them: Linux takes any bytes for a name."""
    run = toy_run(tmp_path / "runs", base, {"mood": toy_task()})
    for split in ("train", "dev", "test"):
        name = os.fsdecode(b"caf\xe9-") + f"{split}.jsonl"
        run["tasks"]["mood"][split] = str(write_rows(tmp_path / name, run["tasks"]["mood"][split]))
    train = run["tasks"]["mood"]["train"]
    run["teachers"]["members"], run["evaluate"]["baselines"] = 1, []
    found = potstill.run(run).folder
    assert read_manifest(found)["asked"]["tasks"]["mood"]["train"] == train
    again = load_run_file(found / "run.yaml")
    assert str(again.tasks["mood"].train) == train
    assert potstill.run(found / "run.yaml").folder == found
    run["output"] = str(tmp_path / os.fsdecode(b"\xe9"))
    with pytest.raises(RunFileError, match="a path in UTF-8"):
        potstill.run(run)


def test_a_run_file_with_an_override(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path / "runs", base, {"mood": toy_task()})
    file = write_run(tmp_path, run)
    result = potstill.run(file, overrides=["teachers.members=1", "evaluate.baselines=[]"])
    assert [w for w in made_stages(result.folder) if w.startswith("teacher")] == [
        "teacher 1/1, all tasks"
    ]
    assert result.folder.name.startswith("toy-")


def test_overrides_are_of_run_files(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path / "runs", base, {"mood": toy_task()})
    with pytest.raises(UsageError, match="teachers.members=1"):
        potstill.run(run, overrides=["teachers.members=1"])


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"time_limit": "45m"}, "'45m'"),
        ({"time_limit": 0}, "seconds"),
        ({"jobs": "2"}, "trainings at once"),
        ({"jobs": None}, "trainings at once"),
        ({"skip_bad_rows": -1}, "0 or more rows"),
        ({"overrides": "seed=1"}, "a list"),
    ],
)
def test_arguments_of_another_form_are_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        potstill.run("run.yaml", **keys)
    assert caught.value.thing in keys
    with pytest.raises(UsageError, match="a path or a mapping"):
        potstill.run(None)  # type: ignore[arg-type]


# -- what it leaves -----------------------------------------------------------------------------


def test_results_are_those_of_the_contract(finished: tuple[Keys, Path]) -> None:
    _, folder = finished
    results = read(folder / "results.json")
    check_results(results)
    assert list(results["tasks"]) == ["mood", "stars"]
    assert list(results["tasks"]["mood"]["scores"]) == [s for s in SYSTEMS if s[-5:] != "tuned"]
    assert {task["split"] for task in results["tasks"].values()} == {"test"}
    assert {task["n"] for task in results["tasks"].values()} == {8}


def test_the_folder_is_whole(finished: tuple[Keys, Path]) -> None:
    _, folder = finished
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    student = {"student.json", "heads.safetensors", "training.json", "README.md", "manifest.json"}
    student |= {"encoder/config.json", "encoder/model.safetensors", "encoder/tokenizer.json"}
    top = {"run.yaml", "manifest.json", "results.json", "details.json", "report.html", "log.jsonl"}
    assert files == top | {f"student/{name}" for name in student}


def test_the_report_is_offline(finished: tuple[Keys, Path]) -> None:
    _, folder = finished
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)\s*=\s*[\"'](?!#|data:)", page) == []
    assert "@import" not in page
    assert "url(http" not in page
    assert "mood" in page
    assert "stars" in page


def test_details_name_curves_members_and_differences(finished: tuple[Keys, Path]) -> None:
    _, folder = finished
    details = read(folder / "details.json")
    assert {"student", "multitask"} <= {curve["name"] for curve in details["curves"]}
    assert [m["member"] for m in details["members"] if m["task"] == "mood"] == [
        "teacher 1",
        "teacher 2",
    ]
    assert details["tasks"]["mood"]["labels"] == ["bad", "good"]
    assert details["tasks"]["mood"]["n_train"] == 16
    assert details["tasks"]["mood"]["covered"] == 1.0
    assert set(details["tasks"]["stars"]["scatter"]) >= {"truth", "student", "ensemble"}
    assert details["tasks"]["mood"]["differences"][0]["inputs"].keys() == {"text"}


def test_the_manifest_names_data_version_and_stages(finished: tuple[Keys, Path]) -> None:
    run, folder = finished
    manifest = read(folder / "manifest.json")
    assert manifest["id"] == folder.name.removeprefix("toy-")
    assert manifest["potstill"] == potstill.__version__
    assert manifest["hardware"]["precision"] == "fp32"
    assert set(manifest["stages"]) == stage_names(folder.parent)
    assert set(manifest["data"]) == {"0/mood", "0/stars"}
    assert len({digest for task in manifest["data"].values() for digest in task.values()}) == 7
    assert set(manifest["files"]) == {"results.json", "details.json", "run.yaml"}
    assert manifest["asked"]["teachers"]["members"] == run["teachers"]["members"]


def test_run_yaml_loads_again_and_finds_the_run(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path / "runs", base, {"mood": toy_task()})
    first = potstill.run(write_run(tmp_path, run))
    before = weight_digests(first.folder)
    again = potstill.run(first.folder / "run.yaml")
    assert again.folder == first.folder
    assert weight_digests(again.folder) == before


def test_run_yaml_of_rows_in_python_loads_too(finished: tuple[Keys, Path]) -> None:
    run, folder = finished
    loaded, asked = load_run_file(folder / "run.yaml").record(), parse_run(run).record()
    for record in (loaded, asked):
        for task in record["tasks"].values():
            assert task.pop("train").endswith("<rows given in Python>")
            del task["dev"], task["test"]
    assert loaded == asked


def test_the_card_names_tasks_columns_and_use(finished: tuple[Keys, Path]) -> None:
    _, folder = finished
    card = (folder / "student" / "README.md").read_text(encoding="utf-8")
    assert "**mood** (classification): reads `text`; answers bad, good" in card
    assert "**stars** (regression): reads `text`" in card
    assert "potstill.load" in card
    score = read(folder / "results.json")["tasks"]["mood"]["scores"]["student"]
    assert f"{score:.4f}" in card


def test_the_student_answers_as_it_was_scored(finished: tuple[Keys, Path]) -> None:
    run, folder = finished
    student = potstill.load(folder, device="cpu", precision="fp32")
    assert student.tasks == ("mood", "stars")
    rows = run["tasks"]["mood"]["test"]
    answers = student.predict(rows, ["mood"])
    right = sum(
        answer["tasks"]["mood"]["prediction"] == row["label"]
        for answer, row in zip(answers, rows, strict=True)
    )
    scores = read(folder / "results.json")["tasks"]["mood"]["scores"]
    assert right / len(rows) == pytest.approx(scores["student"], abs=1e-6)


# -- choices ------------------------------------------------------------------------------------


def test_without_the_multitask_baseline_there_is_no_verdict(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base, {"mood": toy_task()})
    results = potstill.run(with_key(run, "evaluate.baselines", ["single"])).results
    check_results(results)
    assert set(results["mean"]) >= {"single", "ensemble", "student"}
    assert "multitask" not in results["tasks"]["mood"]["scores"]
    assert "multitask" not in results["mean"]
    assert results["tasks"]["mood"]["verdict"] is None
    assert results["mean"]["gain_kept"] is None


def test_without_teachers_there_is_no_ensemble(base: Path, tmp_path: Path) -> None:
    result = potstill.run(with_key(toy_run(tmp_path, base), "teachers.tasks", []))
    check_results(result.results)
    assert set(result.results["tasks"]["mood"]["scores"]) == {"single", "multitask", "student"}
    assert "ensemble_params" not in result.results["cost"]
    card = (result.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert "trained on labels alone" in card
    assert "teachers" not in card
    # A student that learns from labels alone is the multi-task baseline: trained once.
    assert kinds_of(made_stages(result.folder)) == {"single", "multi-task", "score"}


def test_teachers_without_test_rows_have_dev_scores_alone(base: Path, tmp_path: Path) -> None:
    task = toy_task()
    del task["test"]
    scores = [{"text": row["text"], "bad": 0.4, "good": 0.6} for row in task["train"] + task["dev"]]
    given = copy.deepcopy(task) | {"teachers": {"scores": scores}}
    run = toy_run(tmp_path, base, {"mood": task, "given": given})
    run["evaluate"]["baselines"] = []
    result = potstill.run(run)
    details = read(result.folder / "details.json")
    assert {m["task"] for m in details["members"]} == {"mood", "given"}
    for member in details["members"]:
        assert member["test"] is None
        assert 0 <= member["dev"] <= 1
    # Of somebody's scores nobody knows how many parameters made them.
    assert "ensemble_params" not in result.results["cost"]
    assert details["cost"]["ensemble"].keys() == {"ms_per_text"}


def test_means_cover_the_tasks_with_teachers(base: Path, tmp_path: Path) -> None:
    run = with_key(toy_run(tmp_path, base), "teachers.tasks", ["stars"])
    results = potstill.run(run).results
    check_results(results)
    assert results["mean"]["tasks"] == ["stars"]
    assert "ensemble" not in results["tasks"]["mood"]["scores"]
    assert results["mean"]["student"] == results["tasks"]["stars"]["scores"]["student"]
    assert "on the mean of 1 of 2 tasks (without mood)" in headline(results)


def test_rows_that_test_shares_with_train_are_said(base: Path, tmp_path: Path) -> None:
    task = toy_task()
    task["test"] = task["train"][:4] + task["test"]
    result = potstill.run(toy_run(tmp_path, base, {"mood": task}))
    said = "4 rows of test (33.3%) stand in train too"
    assert said in (result.folder / "log.jsonl").read_text()
    assert said in read(result.folder / "details.json")["tasks"]["mood"]["warnings"][0]
    assert said in result.report.read_text()


def test_a_ranking_counts_its_queries(base: Path, tmp_path: Path) -> None:
    task = toy_task("ranking")
    result = potstill.run(toy_run(tmp_path, base, {"rank": task}))
    found = result.results["tasks"]["rank"]
    assert found["n"] == len({row["query"] for row in task["test"]}) < 8
    differ = read(result.folder / "details.json")["tasks"]["rank"]["differences"]
    assert len(differ) == min(10, len(task["test"]))
    apart = [abs(each["student"]["prediction"] - each["ensemble"]["prediction"]) for each in differ]
    assert apart == sorted(apart, reverse=True)
    assert all(
        0 <= each[side]["prediction"] <= 1 for each in differ for side in ("student", "ensemble")
    )


def test_the_texts_of_all_are_no_pool_of_a_ranking(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {"mood": toy_task(), "rank": toy_task("ranking"), "tone": toy_task()}
    run = toy_run(tmp_path, base, tasks) | {"distill": {"pool": "others"}}
    opened = Run(parse_run(run), Progress(quiet=False)).tasks[0]
    assert opened["mood"].pool is not None
    assert opened["rank"].pool is None
    assert "task 'rank' has no pool of others: a ranking task" in capsys.readouterr().err
    with pytest.raises(DataError, match="a ranking task"):
        Run(parse_run(with_key(run, "tasks.rank.pool", "others")), Progress())


def test_a_pool_that_train_holds_whole_is_said(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = toy_task()
    run = toy_run(tmp_path, base, {"mood": task | {"pool": task["train"]}, "tone": toy_task()})
    assert Run(parse_run(run), Progress()).tasks[0]["mood"].pool is None
    said = capsys.readouterr().err
    assert "task 'mood' has no pool" in said
    assert "tone" not in said
    # Texts of the other task, of which its own dev and test hold all.
    held: Any = {"train": [*task["dev"], *task["test"]]}
    run = toy_run(tmp_path, base, {"mood": task | {"pool": "others"}, "tone": toy_task() | held})
    assert Run(parse_run(run), Progress()).tasks[0]["mood"].pool is None
    assert capsys.readouterr().err.count("task 'mood' has no pool") == 1


def test_other_scores_are_another_run(base: Path, tmp_path: Path) -> None:
    def folder(good: float) -> Path:
        scores = [
            {"text": row["text"], "bad": 1 - good, "good": good} for row in toy_task()["train"]
        ]
        run = with_key(toy_run(tmp_path, base), "tasks.mood.teachers", {"scores": scores})
        return Run(parse_run(run), Progress()).folder

    assert folder(0.75) == folder(0.75)
    assert folder(0.75) != folder(0.5)


def test_a_ranking_with_nothing_to_rank_is_refused(base: Path, tmp_path: Path) -> None:
    task = toy_task("ranking")
    task["test"] = [dict(row, query=f"{row['query']} {i}") for i, row in enumerate(task["test"])]
    with pytest.raises(DataError, match="test: none of its 8 queries"):
        potstill.run(toy_run(tmp_path, base, {"rank": task}))


def test_a_pool_for_all_tasks_is_one_for_those_that_read_its_columns(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {"mood": toy_task(), "pair": toy_task("pair")}
    pool = [{"text": "a good day"}, {"text": "a cold night"}]
    run = toy_run(tmp_path, base, tasks) | {"distill": {"pool": pool}}
    (seed,) = Run(parse_run(run), Progress(quiet=False)).seeds
    assert len(seed.tasks["mood"].pool or ()) == 2
    assert seed.tasks["pair"].pool is None
    said = " ".join(capsys.readouterr().err.split())
    assert "task 'pair' takes no rows of `distill: pool`: no column 'first'" in said
    assert "hold all its rows" not in said
    for own in (
        with_key(run, "tasks.pair.pool", pool),  # asked of this task by name
        with_key(run, "distill.pool", [{"txt": "a good day"}]),  # one that no task can read
    ):
        with pytest.raises(DataError, match="no column"):
            Run(parse_run(own), Progress())


def test_given_teachers_are_tried_before_others_are_trained(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base)
    scores = [{"text": row["text"], "bad": 0.2, "good": 0.8} for row in toy_task()["train"]]
    with_scores = with_key(run, "tasks.mood.teachers", {"scores": [dict(scores[0], good="x")]})
    with pytest.raises(DataError, match="a number"):
        potstill.run(with_scores)
    clash = [*scores, dict(scores[3], bad=0.9, good=0.1)]
    with pytest.raises(DataError, match="other scores than"):
        potstill.run(with_key(run, "tasks.mood.teachers", {"scores": clash}))
    for model, thing in ((str(base), "teacher "), ("./nowhere", "teacher '")):
        with pytest.raises(BaseModelError, match=thing):
            potstill.run(with_key(run, "tasks.mood.teachers", {"models": [model]}))
    assert not list(tmp_path.glob("stages/*"))
    result = potstill.run(with_key(run, "tasks.mood.teachers", {"scores": scores[:9]}))
    log = (result.folder / "log.jsonl").read_text()
    assert "its scores cover 9 of 16 rows of train" in log
    assert log.count("the ensemble has no score") == 1


@pytest.mark.parametrize("known", [0, 29, 30])
def test_thresholds_are_chosen_by_what_scores_cover_of_dev(
    base: Path, tmp_path: Path, known: int
) -> None:
    task = toy_task("multilabel", train=30, held=30)
    rows = [*task["train"], *task["test"], *task["dev"][:known]]
    names = ("praise", "blame", "animal")
    scores = [  # in perfect order, and all of them below a half
        {"remark": row["remark"], **{n: 0.3 if n in row["labels"] else 0.05 for n in names}}
        for row in rows
    ]
    asked = {**task, "classes": list(names), "teachers": {"scores": scores}}
    found = potstill.run(toy_run(tmp_path, base, {"remarks": asked}))
    said = found.results["tasks"]["remarks"]["scores"]
    assert said.get("ensemble") == (1.0 if known else None)
    assert said.get("teacher_best") == (1.0 if known else None)
    log = (found.folder / "log.jsonl").read_text()
    assert ("of dev: the ensemble has no score" in log) == (known == 0)
    assert ("of dev: members and thresholds are chosen by these" in log) == (known == 29)


def test_the_longer_baseline_counts_pool_rows_that_teach(base: Path, tmp_path: Path) -> None:
    """Those that no teacher knows are read by no student either."""
    pool = toy_rows("classification", 64, 3)
    task = {**toy_task(), "pool": pool}
    scores = [{"text": row["text"], "bad": 0.2, "good": 0.8} for row in [*task["train"], *pool]]
    for covered, epochs in ((0, {1}), (32, {1, 3}), (64, {1, 5})):
        own = {**task, "teachers": {"scores": scores[: 16 + covered]}}
        run = with_key(
            toy_run(tmp_path / str(covered), base, {"mood": own}), "evaluate.match_steps", True
        )
        potstill.run(run)
        made = (tmp_path / str(covered) / "stages").glob("*/training.json")
        found = [json.loads(path.read_text()) for path in made]
        assert {f["settings"]["epochs"] for f in found if f["name"] != "student"} == epochs


def test_a_finished_run_keeps_its_date(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base, {"mood": toy_task()})
    folder = potstill.run(run).folder
    manifest = read_manifest(folder)
    write_manifest(folder, manifest | {"created": "2001-01-01T00:00:00+00:00"})
    potstill.run(run)
    assert read_manifest(folder)["created"].startswith("2001")
    assert read(folder / "details.json")["created"].startswith("2001")


def test_gain_kept_is_null_where_the_ensemble_does_not_gain(base: Path, tmp_path: Path) -> None:
    # An ensemble of one that is trained just like the baseline is the baseline.
    run = toy_run(tmp_path, base, {"mood": toy_task()})
    results = potstill.run(with_key(run, "teachers", {"members": 1})).results
    check_results(results)
    scores = results["tasks"]["mood"]["scores"]
    assert scores["ensemble"] == scores["multitask"] == scores["teacher_best"]
    assert results["mean"]["gain_kept"] is None


def test_several_seeds(base: Path, tmp_path: Path) -> None:
    run = with_key(toy_run(tmp_path, base, {"mood": toy_task()}), "seed", [3, 1])
    result = potstill.run(run)
    check_results(result.results)
    task = result.results["tasks"]["mood"]
    assert [each["seed"] for each in task["per_seed"]] == [3, 1]
    alone = {seed: potstill.run(with_key(run, "seed", seed)).results for seed in (3, 1)}
    for each in task["per_seed"]:
        assert each["scores"] == alone[each["seed"]]["tasks"]["mood"]["scores"]
    chosen = read(result.folder / "student" / "manifest.json")["seed"]
    assert result.results["student_seed"] == chosen
    card = (result.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert f"Of seed {chosen}" in card
    own = next(each for each in task["per_seed"] if each["seed"] == chosen)
    assert f"{own['scores']['student']:.4f} |" in card


def test_seeds_share_no_network_and_find_those_of_single_runs(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base, {"mood": toy_task()})
    potstill.run(with_key(run, "seed", 0))
    potstill.run(with_key(run, "seed", 1))
    before = stage_names(tmp_path)
    potstill.run(with_key(run, "seed", [0, 1]))
    assert stage_names(tmp_path) == before


def test_fine_tuned_students_stand_apart(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base)
    plain = potstill.run(run).results
    tuned = potstill.run(with_key(run, "student.finetune", True)).results
    check_results(tuned)
    for name, task in tuned["tasks"].items():
        assert task["scores"]["student"] == plain["tasks"][name]["scores"]["student"]
        assert "student_finetuned" in task["scores"]
    assert tuned["cost"]["student_finetuned_params"] > tuned["cost"]["student_params"]


@pytest.mark.parametrize(
    ("key", "value", "made"),
    [
        ("teachers", {"members": 2, "recipe": "single"}, 4),
        ("teachers", {"members": 2, "recipe": "finetuned"}, 2 + 4),
        ("teachers", {"nets": 3, "keep": 1, "recipe": "mt-dnn-kd"}, 3 + 2),
        ("teachers", {"members": 2, "cross_fit": True}, 2 + 2),
        ("student.generations", 2, 2),
        ("student.task_token", True, 2),
        ("distill.objective", "logit_mse", 2),
        ("distill.objective", "annealed", 2),
        ("distill.objective", "soft_only", 2),
        ("distill.pool", "others", 2),
    ],
)
def test_every_choice_ends_in_results(
    base: Path, tmp_path: Path, key: str, value: object, made: int
) -> None:
    run = with_key(toy_run(tmp_path, base), key, value)
    run["training"]["max_tokens"] = 32
    run["teachers"]["training"] = {"epochs": 1}
    run["evaluate"]["baselines"] = []
    result = potstill.run(run)
    check_results(result.results)
    assert sum(what.startswith("teacher") for what in made_stages(result.folder)) == made
    assert len(result.student.predict({"text": "a good day"})) == 2
    spent = result.results["cost"]["train_seconds"]
    stages = result.folder.parent / "stages"
    if not run["teachers"].get("cross_fit"):  # else plain teachers, the student's rivals, stand too
        assert spent["teach"] == pytest.approx(seconds_of(stages, "network-*"), abs=0.06)
    assert spent["distill"] == pytest.approx(seconds_of(stages, "student-*"), abs=0.06)


def test_a_student_passes_those_that_saw_all_rows(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base, {"stars": toy_task("regression")})
    run["teachers"] = {"members": 2, "cross_fit": True}
    run["distill"] = {"stop_when_ahead": 0.0}
    (seed,) = Run(parse_run(run), Progress()).seeds
    task, members, rivals = seed.tasks["stars"], seed.members["stars"], seed.rivals["stars"]
    assert {m.digest for m in members} & {m.digest for m in rivals} == set()
    scores = [seed.lesson(task, members, judges).teacher_dev for judges in (members, rivals)]
    assert scores[0] != scores[1]
    lesson = seed.first_lesson("stars")
    assert lesson.teacher_dev == seed.lessons["stars"].teacher_dev == scores[1]
    assert lesson.digests == seed.lesson(task, members, members).digests


def test_a_gate_without_scores_of_dev_is_said_to_be_idle(base: Path, tmp_path: Path) -> None:
    run = toy_run(tmp_path, base, {"stars": toy_task("regression")})
    rows = run["tasks"]["stars"]["train"]
    scores = [{"text": row["text"], "value": row["score"]} for row in rows]
    run["tasks"]["stars"]["teachers"] = {"scores": scores}
    del run["teachers"]
    run["evaluate"]["baselines"] = []
    said = {}
    for gate in (None, 0.0):
        folder = potstill.run(with_key(run, "distill.stop_when_ahead", gate)).folder
        events = map(json.loads, (folder / "log.jsonl").read_text("utf-8").splitlines())
        said[gate] = [e["text"] for e in events if "stop_when_ahead" in e.get("text", "")]
    assert said[None] == []
    assert len(said[0.0]) == 1
    assert said[0.0][0].startswith("task 'stars': its teachers do not cover dev")


def seconds_of(stages: Path, pattern: str) -> float:
    return sum(float(read(f)["seconds"]) for f in stages.glob(f"{pattern}/training.json"))


def test_equal_runs_give_equal_weights(finished: tuple[Keys, Path], tmp_path: Path) -> None:
    run, folder = finished
    again = potstill.run({**run, "output": str(tmp_path)})
    assert again.folder.name == folder.name
    assert weight_digests(tmp_path / "stages") == weight_digests(folder.parent / "stages")


# -- does it learn ------------------------------------------------------------------------------


def test_the_student_beats_chance_and_its_baseline_on_a_rule(base: Path, tmp_path: Path) -> None:
    """The quick start in small: the teachers know more than the few labels of the student."""
    start = time.monotonic()
    mood = toy_task(train=300, held=60) | {"rows": 40, "pool": "rest"}
    # Teachers that know the rule, as someone else's scores over the whole train set.
    scores = [
        {"text": row["text"], "good": float(row["label"] == "good")}
        for row in toy_rows("classification", 300, 0) + mood["dev"] + mood["test"]
    ]
    for row in scores:
        row["bad"] = 1.0 - float(str(row["good"]))
    mood["teachers"] = {"scores": scores}
    run = toy_run(tmp_path, base, {"mood": mood})
    run["training"] |= {"epochs": 6, "learning_rate": 1e-2}
    run["evaluate"] = {"baselines": ["single", "multitask"], "resamples": 200}
    results = potstill.run(run).results
    check_results(results)
    task = results["tasks"]["mood"]["scores"]
    assert task["ensemble"] == 1.0
    assert task["student"] >= max(task["single"], task["multitask"], 0.8)
    assert results["mean"]["gain_kept"] is not None
    assert time.monotonic() - start < 60
