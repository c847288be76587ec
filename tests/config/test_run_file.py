from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from potstill.config import (
    TASK_KINDS,
    ClassificationTask,
    GivenModels,
    GivenScores,
    RankingTask,
    RegressionTask,
    RunFile,
    Training,
    load_run_file,
    parse_run,
    show,
)
from potstill.core.errors import RunFileError
from potstill.core.files import digest_json
from potstill.kinds import KINDS
from potstill.training.settings import TrainSettings

Load = Callable[..., RunFile]

TASK = "tasks: {rte: {kind: classification, train: t.csv, text: [a, b]}}\n"

WHOLE = """\
    name: glue-small
    output: ../runs
    seed: [0, 1, 2]
    base: org/encoder
    precision: bf16
    device: cuda:1
    tasks:
      rte:
        kind: classification
        train: data/rte/train.parquet
        dev: data/rte/dev.parquet
        test: /elsewhere/test.parquet
        text: [sentence1, sentence2]
        label: gold
        metric: f1
        positive: yes
        classes: [no, yes]
        rows: 800
        pool: [rest, others, more.csv]
        soft_weight: 0.7
        temperature: 2
        dropout: 0.05
        weight: 2.0
      stsb: {kind: regression, train: a.csv, text: s, range: [0, 5], metric: spearman,
             teachers: {scores: scores.jsonl, key: idx}}
      squad: {kind: ranking, train: a.csv, query: q, text: t, metric: ndcg}
      sst2: {kind: classification, train: a.csv, text: s,
             teachers: {models: [./mine, org/theirs], labels: [no, yes]}}
      cola: {kind: classification, train: a.csv, text: s, teachers: null}
    training: {epochs: 2, mixing: {temperature: 5}, dropout: 0.2, patience: 2}
    teachers:
      members: 2
      recipe: finetuned
      cross_fit: true
      each: [{base: ./a, dropout: 0.3}, {layers: 3, seed: 7}]
      pooling: cls
      layers: 6
      training: {epochs: 5, dropout: null}
    student: {layers: 3, task_token: true, finetune: true, generations: 2,
              training: {learning_rate: 2e-4}}
    distill: {objective: average, pool: others, pool_weight: 0.5, stop_when_ahead: 0.01}
    evaluate: {baselines: [single], match_steps: false, training: {batch: 16}}
    export: {max_drop: 0.01}
"""


def test_defaults(load: Load, tmp_path: Path) -> None:
    run = load(TASK, name="my glue.yaml")
    assert run.name == "my-glue"
    assert run.output == tmp_path / "runs"
    assert (run.seed, run.seeds, run.base) == (0, (0,), "minilm")
    assert (run.precision, run.device) == ("auto", "auto")
    task = run.tasks["rte"]
    assert isinstance(task, ClassificationTask)
    assert (task.kind, task.text, task.inputs, task.label) == (
        "classification",
        ("a", "b"),
        ("a", "b"),
        "label",
    )
    assert (task.metric, task.dev, task.test, task.pool, task.weight) == (
        "accuracy", None, None, None, 1.0,
    )  # fmt: skip
    assert task.teachers is True
    assert task.space_options == {"classes": None, "positive": None}
    assert run.training == Training()
    assert run.trained_tasks == run.taught_tasks == ("rte",)
    teachers = run.teachers
    assert (teachers.members, teachers.recipe, teachers.n_nets) == (3, "multitask", 3)
    assert (teachers.base, run.student.base) == ("minilm", "minilm")
    assert (run.student.trunk, run.student.pooling, run.student.generations) == ("shared", None, 1)
    assert (run.distill.objective, run.distill.soft_weight, run.distill.temperature) == (
        "average", 0.5, 1.0,
    )  # fmt: skip
    assert run.evaluate.baselines == ("single", "multitask")
    assert (run.evaluate.match_steps, run.evaluate.resamples) == (True, 2000)
    assert run.export.max_drop == 0.005
    assert run.pool_of("rte") == ()
    assert run.soft_weight_of("rte") == 0.5
    assert [net.base for net in run.teacher_nets()] == ["minilm"] * 3


def test_a_task_without_the_pool_of_all(load: Load) -> None:
    tasks = "tasks: {one: {kind: classification, train: a, text: a}, two: {kind: classification, "
    run = load(tasks + "train: b, text: a, pool: false}}\n", "distill.pool=others")
    assert run.pool_of("one") == ("others",)
    assert run.pool_of("two") == ()
    assert parse_run(run.dump()).pool_of("two") == ()


def test_a_link_to_a_file_without_an_ending_keeps_its_own(load: Load, tmp_path: Path) -> None:
    """As stores that name files by their content have them."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "9f86d081").touch()
    (tmp_path / "blobs" / "rows.csv").touch()
    (tmp_path / "t.csv").symlink_to("blobs/9f86d081")
    (tmp_path / "u.csv").symlink_to("blobs/rows.csv")
    task = "tasks: {a: {kind: classification, train: t.csv, test: u.csv, text: x, label: y}}"
    (section,) = load(task).tasks.values()
    assert section.train == tmp_path / "t.csv"
    assert section.test == tmp_path / "blobs" / "rows.csv"


def test_everything_given(load: Load, tmp_path: Path) -> None:
    run = load(WHOLE)
    assert run.name == "glue-small"
    assert run.output == tmp_path.parent / "runs"
    assert run.seeds == (0, 1, 2)
    rte, stsb, squad, sst2, cola = run.tasks.values()
    assert isinstance(rte, ClassificationTask)
    assert rte.train == tmp_path / "data/rte/train.parquet"
    assert rte.test == Path("/elsewhere/test.parquet")
    assert rte.pool == ("rest", "others", tmp_path / "more.csv")
    assert rte.space_options == {"classes": ("no", "yes"), "positive": "yes"}
    assert isinstance(stsb, RegressionTask)
    assert stsb.space_options == {"range": (0.0, 5.0)}
    assert stsb.inputs == ("s",)
    assert isinstance(stsb.teachers, GivenScores)
    assert (stsb.teachers.scores, stsb.teachers.key) == (tmp_path / "scores.jsonl", "idx")
    assert isinstance(squad, RankingTask)
    assert squad.inputs == ("q", "t")
    assert isinstance(sst2.teachers, GivenModels)
    assert sst2.teachers.models == (str(tmp_path / "mine"), "org/theirs")
    assert sst2.teachers.labels == ("no", "yes")
    assert cola.teachers is False
    assert run.trained_tasks == ("rte", "squad")
    assert run.taught_tasks == ("rte", "stsb", "squad", "sst2")
    assert run.soft_weight_of("rte") == 0.7
    assert run.temperature_of("rte") == 2.0
    assert run.temperature_of("stsb") == 1.0
    assert run.pool_of("squad") == ("others",)
    assert run.pool_of("cola") == ()
    first, second = run.teacher_nets()
    assert (first.base, first.layers, first.dropout, first.seed) == (
        str(tmp_path / "a"), None, 0.3, None,
    )  # fmt: skip
    assert (second.base, second.layers, second.dropout, second.seed) == ("org/encoder", 3, None, 7)


def test_sections_change_single_training_keys(load: Load) -> None:
    run = load(WHOLE)
    base = run.training
    assert (base.epochs, base.mixing, base.dropout, base.batch) == (2, 5.0, 0.2, 32)
    teachers, student = run.training_for("teachers"), run.training_for("student")
    single = run.training_for("single")
    assert (teachers.epochs, teachers.dropout, teachers.mixing) == (5, None, 5.0)
    assert (student.epochs, student.dropout, student.learning_rate) == (2, 0.2, 2e-4)
    assert (single.batch, single.learning_rate, single.patience) == (16, 1e-4, 2)
    assert run.teachers.training == teachers


def test_the_papers_recipe(load: Load) -> None:
    run = load(TASK + "teachers: {recipe: mt-dnn-kd}\n")
    teachers = run.teachers
    assert (teachers.nets, teachers.keep, teachers.members) == (6, 3, 3)
    assert teachers.select_on == ("rte",)
    assert [net.dropout for net in run.teacher_nets()] == [0.1, 0.2, 0.3, 0.1, 0.2, 0.3]
    training = run.training_for("teachers")
    assert (training.optimizer, training.learning_rate, training.epochs, training.max_tokens) == (
        "adamax", 5e-5, 5, 512,
    )  # fmt: skip
    assert run.training_for("student") == Training()
    assert (training.balance, Training().balance) == ("none", "gradients")


def test_the_papers_recipe_yields_to_what_is_given(load: Load) -> None:
    run = load(
        TASK + "training: {epochs: 3}\nteachers: {recipe: mt-dnn-kd, nets: 4, keep: 2, "
        "training: {max_tokens: 64, dropout: 0.1}}\n"
    )
    training = run.training_for("teachers")
    assert (training.epochs, training.max_tokens, training.optimizer) == (3, 64, "adamax")
    assert [net.dropout for net in run.teacher_nets()] == [None] * 4
    assert run.teachers.members == 2


def test_members_means_kept_nets_in_the_papers_recipe(load: Load) -> None:
    teachers = load(TASK + "teachers: {recipe: mt-dnn-kd, members: 8}\n").teachers
    assert (teachers.nets, teachers.keep, teachers.members) == (8, 8, 8)


def test_teachers_for_some_tasks(load: Load) -> None:
    text = """\
    tasks:
      a: &a {kind: classification, train: t.csv, text: s}
      b: *a
    teachers: {tasks: [b]}
    distill: {pool: others}
    """
    run = load(text)
    assert run.trained_tasks == run.taught_tasks == ("b",)
    assert run.tasks["a"].teachers is False
    assert (run.pool_of("a"), run.pool_of("b")) == ((), ("others",))
    assert load(text, "teachers.tasks=[]", "distill.pool=null").taught_tasks == ()


def test_empty_sections_are_defaults(load: Load) -> None:
    empty = "student:\ntraining:\nteachers: {training: , each: []}\ndistill: {}\n"
    assert load(TASK + empty) == load(TASK)


def test_bases(load: Load, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "minilm").mkdir()
    for written, meant in {
        "minilm": "minilm",
        "org/name": "org/name",
        "name": "name",
        "folder": str(tmp_path / "folder"),
        "./x": str(tmp_path / "x"),
        "../x": str(tmp_path.parent / "x"),
        "/abs/x": "/abs/x",
        "~/x": str(Path.home() / "x"),
        "x" * 400: "x" * 400,
    }.items():
        run = load(TASK, f"base={written}", f"student.base={written}")
        assert run.base == run.student.base == run.teachers.base == meant


def test_a_base_of_the_working_directory_is_none_of_the_run_file(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same run file means the same wherever it is started."""
    (tmp_path / "work" / "d" / "bert").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(RunFileError, match="working directory") as refused:
        load(TASK, "base=d/bert")
    assert str(tmp_path / "work" / "d" / "bert") in str(refused.value)
    assert str(tmp_path) in refused.value.got


def test_labels_are_text(load: Load) -> None:
    task = load(TASK, "tasks.rte.classes=[0, 1.0, true, no, ' a ', 2.5x]").tasks["rte"]
    assert isinstance(task, ClassificationTask)
    assert task.classes == ("0", "1", "true", "no", "a", "2.5x")


@pytest.mark.parametrize("written", ["[s]", "s", "[s, t]"])
def test_one_text_or_a_pair(load: Load, written: str) -> None:
    task = load(TASK, f"tasks.rte.text={written}").tasks["rte"]
    assert task.inputs == (("s", "t") if "t" in written else ("s",))


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:3", "mps"])
def test_devices(load: Load, device: str) -> None:
    assert load(TASK, f"device={device}").device == device


@pytest.mark.parametrize("mixing", ["proportional", "equal", "sqrt", "annealed"])
def test_mixings(load: Load, mixing: str) -> None:
    assert load(TASK, f"training.mixing={mixing}").training.mixing == mixing


@pytest.mark.parametrize("extra", ["", "teachers: {recipe: mt-dnn-kd}\n", "WHOLE"])
def test_dump_and_show_make_the_same_run(load: Load, tmp_path: Path, extra: str) -> None:
    run = load(WHOLE if extra == "WHOLE" else TASK + extra)
    assert parse_run(run.dump()) == run
    assert parse_run(json.loads(json.dumps(run.record()))) == run
    for comments in (True, False):
        shown = show(run, comments=comments)
        assert max(map(len, shown.splitlines())) <= 120
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(exist_ok=True)
        (elsewhere / "other.yaml").write_text(shown)
        again = load_run_file(elsewhere / "other.yaml")
        assert again == run
        assert again.dump() == run.dump()
    assert digest_json(run.dump()) == digest_json(again.dump())


def test_a_shown_file_can_still_be_overridden(load: Load) -> None:
    shown = show(load(WHOLE, "training.epochs=4"))
    run = load(shown, "training.epochs=9", "base=minilm")
    assert run.training_for("student").epochs == 9
    assert run.training_for("teachers").epochs == 5
    assert run.student.base == run.teachers.base == "minilm"


def test_dump_has_every_key(load: Load) -> None:
    run = load(WHOLE)
    dump = run.dump()
    assert set(dump) == set(type(run).model_fields) - {"architecture", "decoding"}
    assert list(dump["tasks"]["rte"])[:6] == ["kind", "train", "dev", "test", "text", "label"]
    for name, task in run.tasks.items():
        assert set(dump["tasks"][name]) == set(type(task).model_fields)
    assert set(dump["training"]) == set(Training.model_fields)
    assert dump["training"]["mixing"] == {"temperature": 5.0}
    assert dump["teachers"]["training"] == {"epochs": 5, "dropout": None}


def test_sections_are_frozen(load: Load) -> None:
    run = load(TASK)
    with pytest.raises(ValidationError):
        run.name = "other"
    with pytest.raises(ValidationError):
        run.training.epochs = 4


def test_kinds_and_metrics_are_those_of_the_kinds() -> None:
    assert list(TASK_KINDS) == list(KINDS)
    for name, task in TASK_KINDS.items():
        field = task.model_fields["metric"]
        assert get_args(field.annotation) == KINDS[name].metric_names
        assert field.default == KINDS[name].metric_names[0]


def test_training_keys_and_defaults_are_those_of_the_training_loop(load: Load) -> None:
    assert Training().keywords() == asdict(TrainSettings())
    mixed = load(TASK, "training.mixing={temperature: 2}").training
    assert TrainSettings(**mixed.keywords()).mixing == 2.0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=4, unique=True))
@example(["x\x85/", "\u2028y", "\ufeffz", "?0"])
@example(["null", "1", "true", "~", "1e3", "2020-01-01", "a: b", "#", "- x", "<<", "é\n\tx", "'\""])
def test_any_text_survives_being_shown(labels: list[str]) -> None:
    columns = {"text": ["null", "yes: no"], "label": "[x]\ty", "classes": labels}
    task = {"kind": "classification", "train": "/t.csv", **columns}
    assume(len({label.strip() for label in labels} - {""}) == len(labels))
    run = parse_run({"tasks": {"1": task, "null": task}})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(show(run), encoding="utf-8", newline="")
        assert load_run_file(path) == run


def test_an_arrow_stream_is_read_once() -> None:
    """Sources are read several times, and by several processes."""
    rows = pa.table({"text": ["good", "bad"], "label": ["yes", "no"]})
    task = {"kind": "classification", "train": rows.to_reader(), "text": "text"}
    train = parse_run({"tasks": {"mood": task}}).tasks["mood"].train
    assert isinstance(train, pa.Table)
    assert train.equals(rows)


def test_a_frame_is_no_name_of_a_column() -> None:
    frame = pd.DataFrame({"t": ["good", "bad"]})
    task = {"kind": "classification", "train": frame, "text": "t", "label": "t"}
    with pytest.raises(RunFileError, match="'t', which is an input too"):
        parse_run({"tasks": {"mood": task}})
